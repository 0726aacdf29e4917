"""Apply: a copy of a prepared graph with the plan's precisions and casts written into it. Knows no rule.

Every cast is an `aten._to_copy` whose metadata say which value it converts; nodes keep their names.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, fx
from torch.fx.node import Argument

from ampgraph.fx_module.facts import DTYPES
from ampgraph.fx_module.fakes import propagate
from ampgraph.fx_module.grad_modes import grad_modes, place_before
from ampgraph.fx_module.lift import is_number, value_id
from ampgraph.fx_module.schema import arguments, generates, tensors_in, type_table
from ampgraph.graph import PrecisionGraph
from ampgraph.plan import Plan
from ampgraph.precision import FORMATS, Precision

CAST = "ampgraph.cast"  # node metadata: (value id, precision)
TO_COPY = torch.ops.aten._to_copy.default


def apply(source: fx.Graph, graph: PrecisionGraph, plan: Plan) -> fx.Graph:
    """The graph that the plan describes, with fake values that torch itself has computed from it."""
    new = fx.Graph()
    env: dict[fx.Node, fx.Node] = {}
    result = new.graph_copy(source, env, return_output_node=True)
    assert isinstance(result, tuple)  # asked for the output node as well
    new.output(result[0])
    _retype_inputs(env, plan)
    writer = _Writer(new, graph, plan, {node.name: copy for node, copy in env.items()})
    for node in [node for node in source.nodes if node.op == "call_function"]:
        writer.retype(env[node])
        writer.feed(env[node])
    writer.feed_outputs()
    propagate(new)
    new.lint()
    return new


def _retype_inputs(env: Mapping[fx.Node, fx.Node], plan: Plan) -> None:
    """Inputs that the user asked low come low."""
    for node, copy in env.items():
        choice, val = plan.choices.get(f"input:{node.name}"), node.meta.get("val")
        if choice is not None and isinstance(val, Tensor):
            copy.meta["val"] = val.to(DTYPES[choice.precision])


def is_cast(node: fx.Node) -> bool:
    """Whether a node is a cast of ours."""
    return CAST in node.meta


@dataclass
class _Writer:
    """What writes into the copy; private to this module and gone when apply returns."""

    graph: fx.Graph
    precision: PrecisionGraph
    plan: Plan
    nodes: Mapping[str, fx.Node]  # by the name in the source

    def __post_init__(self) -> None:
        self.casts: dict[tuple[str, Precision], fx.Node] = {}
        self.values = {value_id(node): node for node in self.nodes.values()}
        self.modes = grad_modes(self.graph)

    def retype(self, node: fx.Node) -> None:
        """Where a type is an argument, or a number must fit into it, write what the plan says."""
        op = self.precision.ops.get(node.name)
        if op is None:
            return
        slots = [slot for slot in (*op.outputs, *op.inputs) if slot.decision]
        chosen = self.plan.choices[slots[0].decision].precision if slots else Precision.FLOAT32
        if not slots or chosen is self.precision.decisions[slots[0].decision].present:
            return
        if generates(node):
            node.kwargs = {**node.kwargs, "dtype": DTYPES[chosen]}
        for index, (name, given) in enumerate(list(arguments(node))):
            if name in type_table().clamped and isinstance(given, float | int) and not isinstance(given, bool):
                clamped = _clamp(given, chosen)
                if clamped != given:
                    _set_argument(node, index, name, clamped)

    def feed(self, node: fx.Node) -> None:
        """Give every operand slot its precision."""
        op = self.precision.ops.get(node.name)
        if op is None:
            return
        wanted = [self.plan.choices[slot.decision].precision if slot.decision else None for slot in op.inputs]
        tensors = [not is_number(slot.value) for slot in op.inputs]
        order = iter([want for want, is_tensor in zip(wanted, tensors, strict=True) if is_tensor])
        replacements = [(each, next(order)) for each in _operand_nodes(node)]
        new = iter([self._served(each, want, node) for each, want in replacements])
        node.args, node.kwargs = _mapped(node, lambda _: next(new))

    def feed_outputs(self) -> None:
        """Give every result of the graph its precision."""
        output = next(iter(reversed(self.graph.nodes)))

        places = itertools.count()

        def served(each: fx.Node) -> fx.Node:
            choice = self.plan.choices.get(f"output:output_{next(places)}")
            return self._served(each, choice.precision if choice else None, output)

        output.args = fx.node.map_arg(output.args, served)

    def _served(self, node: fx.Node, wanted: Precision | None, user: fx.Node) -> fx.Node:
        """The node, or the cast of it that a user takes."""
        id = value_id(node)
        value = self.precision.values.get(id)
        if wanted is None or value is None:
            return node
        made = self.plan.choices[value.producer].precision if value.producer else _present(value.dtype)
        if made is None or made is wanted:
            return node
        key = (id, wanted)
        if key not in self.casts:
            self.casts[key] = self._cast(node, wanted, user)
        return self.casts[key]

    def _cast(self, node: fx.Node, wanted: Precision, user: fx.Node) -> fx.Node:
        """A parameter's cast stands behind the placeholders; any other before its first user, but where gradients are
        as they are for the value: this user may do without, later ones want them.
        """
        is_state = node.op == "placeholder" and not self.precision.values[node.name].producer
        place = self._first() if is_state else place_before(self.modes, user, node)
        with self.graph.inserting_before(place):
            cast = self.graph.create_node(
                "call_function", TO_COPY, (node,), {"dtype": DTYPES[wanted]}, name=f"{node.name}_{wanted}"
            )
        cast.meta = {CAST: (value_id(node), wanted), "stack_trace": node.meta.get("stack_trace")}
        return cast

    def _first(self) -> fx.Node:
        nodes: Iterable[fx.Node] = self.graph.nodes
        return next(node for node in nodes if node.op != "placeholder" and not is_parameter_cast(node))


def is_parameter_cast(node: fx.Node) -> bool:
    """Whether a node is a cast of ours that stands right behind a placeholder's."""
    return is_cast(node) and isinstance(node.args[0], fx.Node) and node.args[0].op == "placeholder"


def _present(dtype: str) -> Precision | None:
    return Precision(dtype) if dtype in FORMATS else None


def _operand_nodes(node: fx.Node) -> Iterator[fx.Node]:
    """Tensor operands in the order in which lift reads them."""
    given = (each for _, found in arguments(node) for each in tensors_in(found))
    return (each for each in given if _is_tensor(each))


def _mapped(node: fx.Node, function: Callable[[fx.Node], fx.Node]) -> tuple[tuple[Argument, ...], dict[str, Argument]]:
    """Arguments with a function applied to every tensor among them, in the order of `arguments`."""

    def take(each: fx.Node) -> fx.Node:
        return function(each) if _is_tensor(each) else each

    args = tuple(fx.node.map_arg(each, take) for each in node.args)
    return args, {name: fx.node.map_arg(each, take) for name, each in node.kwargs.items()}


def _is_tensor(node: fx.Node) -> bool:
    val = node.meta.get("val")
    return isinstance(val, Tensor) or val is None


def _set_argument(node: fx.Node, index: int, name: str, value: float) -> None:
    if index < len(node.args):
        node.update_arg(index, value)
    else:
        node.update_kwarg(name, value)


def _clamp(number: float, precision: Precision) -> float:
    """The nearest number of the format; infinities mean what they mean."""
    largest = FORMATS[precision].largest
    if number in (float("inf"), float("-inf")) or number != number:
        return number
    return min(max(number, -largest), largest)
