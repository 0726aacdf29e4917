"""The first value of a graph that is not finite: which op made it, out of what, in forward or in backward.

Looks at one batch on request: runs the graph op by op, reads every result, and changes nothing of the module's.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, fx, nn
from torch.utils import _pytree as pytree

from ampgraph.errors import ModelError
from ampgraph.fx_module.body import make_body
from ampgraph.fx_module.capture import device_of
from ampgraph.fx_module.facts import dtype_name
from ampgraph.fx_module.lift import module_path
from ampgraph.fx_module.module import TracedModule
from ampgraph.fx_module.prepare import find_tensor
from ampgraph.fx_module.recipe import Call, output_of, own_loss
from ampgraph.fx_module.schema import op_type
from ampgraph.tracing import bind

_TORCH = str(Path(torch.__file__).parent)
_FLIPPING = ("aten.neg", "aten.mul", "aten.sub", "aten.rsub")
_INPUT, _PARAMETER, _STATE, _LOSS = "input", "parameter", "buffer", "loss"


@dataclass(frozen=True, slots=True)
class NonFinite:
    """What is not finite.

    - `name`: of the value, as graphs show it ("layer4.0.conv1.conv2d_12": the submodule, then the node), or of the
      parameter, buffer or input; "loss" for what the loss function made of finite outputs.
    - `op`: what made it ("aten.linear"), or "input", "parameter", "buffer", "loss".
    - `phase`: "forward" for the value itself, "backward" for the gradient that arrives at it.
    - `dtype`, `shape`, `infinities`, `nans`: of the value or gradient.
    - `largest`: the largest finite magnitude that the op read; in backward, in the gradient. 0 where there is none.
    - `line`: of the user's code, where that is known.
    """

    name: str
    op: str
    phase: str
    dtype: str
    shape: tuple[int, ...]
    infinities: int
    nans: int
    largest: float
    line: str = ""

    def __str__(self) -> str:
        """In one line."""
        what = "" if self.phase == "forward" else "the gradient of "
        found = [(self.infinities, "infinite"), (self.nans, "NaN")]
        counts = " and ".join(f"{count} {kind}" for count, kind in found if count)
        of = f"{counts} of {math.prod(self.shape)} elements, {self.dtype}{list(self.shape)}"
        read = f"; the largest it read is {self.largest:.3g}" if self.phase == "forward" and self.largest else ""
        rest = f"; the largest finite one is {self.largest:.3g}" if self.phase == "backward" and self.largest else ""
        return f"{what}{self.name} ({self.op}): {of}{read}{rest}{f'; {self.line}' if self.line else ''}"


def first_non_finite(
    module: nn.Module, call: Call, loss_fn: Callable[..., Tensor] | None = None, scale: float = 1.0
) -> NonFinite | None:
    """Run a traced module or fx.GraphModule on one batch and return where numbers stop being finite; None: nowhere.

    `call`: as `TrainStep` takes it, the module's inputs, then the loss's targets. With a loss (`loss_fn`'s, or the
    module's own) its gradients are looked at too, those of `scale` times the loss. Infinities that are meant, written
    as numbers into the code or given as masks, count only where they become NaN or reach a loss that is not finite;
    buffers that are not finite (statistics that an earlier overflow spoilt), only where they spoil something.

    Gradients, buffers and random state of the module are as they were afterwards. Waits for the device at every op.
    Raises ModelError for a module without a graph.
    """
    probe = _Probe(module)
    with _undisturbed(module):
        try:
            loss = _loss(probe, call, loss_fn)
            if loss is None:
                return probe.pending_output
            if not bool(loss.isfinite().all()):
                return probe.pending_output or _report(_LOSS, _LOSS, "forward", loss, 0.0)
            leaves = [leaf for leaf in probe.leaves if leaf.requires_grad]
            if loss.requires_grad and leaves:
                torch.autograd.grad(loss * scale, leaves, allow_unused=True)
        except _FoundError as found:
            return found.report
    return None


class _FoundError(Exception):
    """Ends the run where the first one was found."""

    def __init__(self, report: NonFinite) -> None:
        self.report = report
        super().__init__(str(report))


@dataclass(frozen=True, slots=True)
class _Pending:
    """A value whose infinities may be meant: given as a mask, or a number of the code's. `signs`: of its infinities."""

    report: NonFinite
    signs: frozenset[str]

    @property
    def is_given(self) -> bool:
        return self.report.op in (_INPUT, _STATE)


class _Probe(nn.Module):
    """A module in place of the one that is looked at: its forward runs the graph op by op."""

    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        if not isinstance(module, TracedModule | fx.GraphModule):
            remedy = "give the module that ampgraph.trace returned, or an fx.GraphModule"
            raise ModelError(type(module).__name__, "has no graph to look into", remedy)
        self.__dict__["_looked_at"] = module
        self.leaves: list[Tensor] = []
        self.pending_output: NonFinite | None = None

    def forward(self, *args: Any, **kwargs: Any) -> Any:  # noqa: ANN401
        """The module's results. Raises _FoundError at the first value that is not finite."""
        module = self.__dict__["_looked_at"]
        if isinstance(module, TracedModule):
            return self._traced(module, *args, **kwargs)
        self.leaves = list(module.parameters())
        given, rest = bind(module, args, kwargs)
        if rest:
            raise ModelError("graph module", f"takes {', '.join(rest)} by name", "give all arguments by place")
        looking = _Looking(module, {})
        results = looking.run(*given)
        self.pending_output = looking.pending_output
        return results

    def _traced(self, module: TracedModule, *args: Any, **kwargs: Any) -> Any:  # noqa: ANN401
        captured = module.captured
        flat = captured.interface.flatten(bind(module.original, args, kwargs))
        body = make_body(captured, device_of(module))
        holders = [node for node in body.graph.nodes if node.op == "placeholder"]
        states, names = [], dict[str, str]()
        for fetch, holder in zip(body.fetches, holders, strict=False):
            source = body.constants[fetch.target] if fetch.kind == "constant" else find_tensor(module, fetch.target)
            held, kind = self._held(source)
            names[holder.name] = f"{kind} {fetch.target}"
            cast = fetch.dtype is not None
            states.append(held.to(fetch.dtype) if cast else held)
            if cast and bool(held.isfinite().all()) and not bool(states[-1].isfinite().all()):
                place = f"{names[holder.name]} in {dtype_name(states[-1].dtype)}"
                raise _FoundError(_report(place, "cast", "forward", states[-1], _largest([held])))
        looking = _Looking(fx.GraphModule({}, body.graph), names)
        results = looking.run(*states, *flat)
        self.pending_output = looking.pending_output
        spec = captured.interface.out_spec
        return results[0] if spec.is_leaf() else pytree.tree_unflatten(results, spec)

    def _held(self, source: Tensor) -> tuple[Tensor, str]:
        """What stands for a parameter or buffer: gradients and writes do not reach the module's own."""
        if not isinstance(source, nn.Parameter):
            return source.detach().clone(), _STATE
        self.leaves.append(source.detach().requires_grad_(source.requires_grad))
        return self.leaves[-1], _PARAMETER


class _Looking(fx.Interpreter):
    """Runs a graph and looks at every result. `states`: what the placeholders of a module's own state are called."""

    def __init__(self, module: fx.GraphModule, states: Mapping[str, str]) -> None:
        super().__init__(module)
        self.extra_traceback = False
        self._states = states
        self._pending: dict[fx.Node, _Pending] = {}
        self.pending_output: NonFinite | None = None

    def run_node(self, n: fx.Node) -> Any:  # noqa: ANN401
        """Run one op and look at what it made."""
        sources = [self._pending[each] for each in n.all_input_nodes if each in self._pending]
        if n.op == "output":
            self.pending_output = next((each.report for each in sources if each.is_given), None)
            return super().run_node(n)
        largest = _largest(self.env[each] for each in n.all_input_nodes)  # before an op that writes in place
        result = super().run_node(n)
        for tensor in _floats(result):
            if not bool(tensor.isfinite().all()):
                self._judge(n, tensor, sources, largest)
            if tensor.requires_grad:
                tensor.register_hook(lambda grad: self._arrived(n, grad))  # type: ignore[no-untyped-call]
        return result

    def _judge(self, node: fx.Node, tensor: Tensor, sources: list[_Pending], largest: float) -> None:
        name, op = self._name(node)
        own = _report(name, op, "forward", tensor, largest, _line(node))
        signs, known = _signs(tensor), {sign for each in sources for sign in each.signs} | _written_signs(node)
        may_be_meant = op == _INPUT or signs <= known or (bool(known) and op in _FLIPPING)
        report = next((each.report for each in sources if each.is_given), own)
        if op != _STATE and (own.nans or not may_be_meant):
            raise _FoundError(report)
        self._pending[node] = _Pending(report, signs)

    def _arrived(self, node: fx.Node, grad: Tensor) -> None:
        if not bool(grad.isfinite().all()):
            name, op = self._name(node)
            raise _FoundError(_report(name, op, "backward", grad, _largest([grad]), _line(node)))

    def _name(self, node: fx.Node) -> tuple[str, str]:
        if node.name in self._states:
            return self._states[node.name], self._states[node.name].split(" ")[0]
        if node.op == "placeholder":
            return f"input {node.name}", _INPUT
        if node.op == "get_attr":
            held = self.fetch_attr(str(node.target))
            kind = _PARAMETER if isinstance(held, nn.Parameter) else _STATE
            return f"{kind} {node.target}", kind
        if node.op == "call_module":
            return str(node.target), type(self.submodules[str(node.target)]).__name__
        path = module_path(node)
        name = f"{path}.{node.name}" if path else node.name
        return name, op_type(node) if node.op == "call_function" else str(node.target)


def _loss(probe: _Probe, call: Call, loss_fn: Callable[..., Tensor] | None) -> Tensor | None:
    """The loss, or None where the module returns none and no function makes one."""
    if loss_fn is not None:
        inputs, *targets = call.args
        return loss_fn(output_of(probe, inputs, call.kwargs), *targets)
    found = own_loss(probe(*call.args, **call.kwargs))
    return found if isinstance(found, Tensor) and found.numel() == 1 and found.is_floating_point() else None


@contextmanager
def _undisturbed(module: nn.Module) -> Iterator[None]:
    """Leave random state and buffers as they are; ops run with gradients and without autocast's casts on top."""
    device = device_of(module)
    buffers = [(each, each.detach().clone()) for each in module.buffers()]
    devices = [device.index or 0] if device.type == "cuda" else []
    try:
        with torch.random.fork_rng(devices), torch.enable_grad(), torch.autocast(device.type, enabled=False):
            yield
    finally:
        with torch.no_grad():
            for buffer, before in buffers:
                if not torch.equal(buffer, before):
                    buffer.copy_(before)


def _report(name: str, op: str, phase: str, tensor: Tensor, largest: float, line: str = "") -> NonFinite:
    infinities, nans = int(tensor.isinf().sum()), int(tensor.isnan().sum())
    return NonFinite(name, op, phase, dtype_name(tensor.dtype), tuple(tensor.shape), infinities, nans, largest, line)


def _floats(result: object) -> list[Tensor]:
    return [each for each in pytree.tree_leaves(result) if isinstance(each, Tensor) and each.is_floating_point()]


def _largest(values: Any) -> float:  # noqa: ANN401  (an iterable of anything)
    found = 0.0
    for tensor in _floats(list(values)):
        finite = tensor.detach()[tensor.detach().isfinite()]
        found = max(found, float(finite.abs().max()) if finite.numel() else 0.0)
    return found


def _signs(tensor: Tensor) -> frozenset[str]:
    found = (("+", torch.isposinf), ("-", torch.isneginf))
    return frozenset(sign for sign, test in found if bool(test(tensor).any()))


def _written_signs(node: fx.Node) -> frozenset[str]:
    """Of the infinities among an op's arguments that are numbers."""
    numbers = [each for each in pytree.tree_leaves((node.args, node.kwargs)) if isinstance(each, float)]
    return frozenset("-" if each < 0 else "+" for each in numbers if math.isinf(each))


def _line(node: fx.Node) -> str:
    """The deepest line of the user's own code, or of torch's where there is none."""
    found = re.findall(r'File "([^"]+)", line (\d+)', node.meta.get("stack_trace") or "")
    users = [each for each in found if not each[0].startswith(_TORCH)]
    return ":".join((users or found)[-1]) if found else ""
