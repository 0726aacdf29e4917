"""Probe: whether torch computes an op with low-precision operands, and gives back what the plan takes for granted.

Asked of torch itself: the op runs on fake tensors, which have types and sizes and no data.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from typing import Any

import torch
from torch import Tensor, fx
from torch._subclasses.fake_tensor import FakeTensorMode

from ampgraph.fx_module.facts import DTYPES
from ampgraph.fx_module.fakes import unheeded
from ampgraph.fx_module.schema import arguments
from ampgraph.precision import Precision

Key = tuple[Any, ...]


class Prober:
    """Answers of one lift, each question asked once."""

    def __init__(self, precision: Precision, mode: FakeTensorMode | None) -> None:
        self._low = DTYPES[precision]
        self._mode = mode
        self._known: dict[Key, str] = {}

    def refusal(self, node: fx.Node, formals: Collection[str], *, result_follows: bool) -> str:
        """Why `formals` cannot be low at this op, "" when they can.

        `result_follows`: whether floating-point results must then be low.
        """
        key = _key(node, formals)
        if key not in self._known:
            self._known[key] = self._ask(node, formals, result_follows)
        return self._known[key]

    def _ask(self, node: fx.Node, formals: Collection[str], result_follows: bool) -> str:
        given = {id(each) for name, found in arguments(node) if name in formals for each in _nodes(found)}
        args = fx.node.map_arg(node.args, self._fake(given))
        kwargs = fx.node.map_arg(node.kwargs, self._fake(given))
        assert callable(node.target)  # only call_function nodes are probed
        try:
            with torch.no_grad(), unheeded(self._mode), self._mode or FakeTensorMode():
                result = node.target(*args, **kwargs)
        except Exception as error:
            return f"torch refuses it ({str(error).splitlines()[0][:100]})" if str(error) else "torch refuses it"
        found = [each for each in _tensors(result) if each.dtype in (torch.float32, self._low)]
        wrong = [each.dtype for each in found if each.dtype is not self._low]
        return f"torch makes {wrong[0]} of it" if result_follows and wrong else ""

    def _fake(self, low: Collection[int]) -> Callable[[fx.Node], Any]:
        def value(node: fx.Node) -> Any:  # noqa: ANN401
            found = node.meta.get("val")
            if id(node) in low and isinstance(found, Tensor) and found.dtype is torch.float32:
                return found.to(self._low)
            return found

        return value


def _nodes(given: object) -> tuple[fx.Node, ...]:
    if isinstance(given, fx.Node):
        return (given,)
    return tuple(each for each in given if isinstance(each, fx.Node)) if isinstance(given, list | tuple) else ()


def _tensors(result: object) -> tuple[Tensor, ...]:
    if isinstance(result, Tensor):
        return (result,)
    return tuple(each for each in result if isinstance(each, Tensor)) if isinstance(result, list | tuple) else ()


def _key(node: fx.Node, formals: Collection[str]) -> Key:
    def kind(given: object) -> object:
        if isinstance(given, fx.Node):
            val = given.meta.get("val")
            return (str(val.dtype), val.dim()) if isinstance(val, Tensor) else "size"
        if isinstance(given, list | tuple):
            return tuple(kind(each) for each in given)
        return type(given) if isinstance(given, int | float) else str(given)

    return (node.target, frozenset(formals), tuple((name, kind(given)) for name, given in arguments(node)))
