"""Lift: a prepared fx graph to a PrecisionGraph. Reads schemas, types and constants; takes no decision.

Ids of ops and values are names of nodes; the parts of a node that makes several values are `<node>.<index>`. A
tensor operand and the results of an op share the type variable T unless rules/targets/torch_types.toml tells otherwise.
"""

from __future__ import annotations

import operator
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor, fx
from torch._guards import detect_fake_mode

from ampgraph.fx_module.facts import NAMES, dtype_name, measure, scalar, unknown
from ampgraph.fx_module.fakes import size_of
from ampgraph.fx_module.mutation import PIN, WRITTEN
from ampgraph.fx_module.prepare import State
from ampgraph.fx_module.probe import Prober
from ampgraph.fx_module.schema import arguments, generates, op_type, tensors_in, type_table, written
from ampgraph.graph import Attribute, Decision, Op, PrecisionGraph, Scope, Slot, Use, Value
from ampgraph.precision import Precision

ALL = frozenset(Precision)
HIGH = frozenset({Precision.FLOAT32})
NUMBERS = (int, float)
NUMBER = ".number"  # how the ids of such values end


@dataclass(frozen=True)
class Holdings:
    """What a graph's state placeholders hold: tensors by placeholder name, and which are parameters."""

    tensors: Mapping[str, Tensor]
    parameters: frozenset[str]

    @classmethod
    def of(cls, states: Sequence[State], tensors: Mapping[str, Tensor]) -> Holdings:
        """Holdings of prepared states."""
        return cls(tensors, frozenset(state.name for state in states if state.kind == "parameter"))


def lift(graph: fx.Graph, holdings: Holdings, precision: Precision) -> PrecisionGraph:
    """Lift a prepared graph whose nodes have fake values in `meta["val"]`.

    A parameter changes while it is trained, so nothing is known of its numbers; buffers and constants are measured.
    """
    vals = (node.meta.get("val") for node in graph.nodes)
    mode = detect_fake_mode([val for val in vals if isinstance(val, Tensor)])
    draft = _Draft(precision, holdings, Prober(precision, mode))
    for node in graph.nodes:
        if node.op == "placeholder":
            _placeholder(draft, node)
        elif node.op == "call_function":
            _call(draft, node)
        elif node.op == "output":
            _outputs(draft, node)
    return PrecisionGraph(
        "torch.fx", {}, {"": Scope("", None, "", 1.0)}, draft.values, draft.ops, draft.decisions, tuple(draft.uses)
    )


@dataclass
class _Draft:
    """The graph while it is being read; private to this module and gone when lift returns."""

    precision: Precision
    holdings: Holdings
    prober: Prober
    values: dict[str, Value] = field(default_factory=dict)
    ops: dict[str, Op] = field(default_factory=dict)
    decisions: dict[str, Decision] = field(default_factory=dict)
    uses: list[Use] = field(default_factory=list)

    def decide(self, decision: Decision) -> str:
        """Record a decision and return its id."""
        self.decisions[decision.id] = decision
        return decision.id


def value_id(node: fx.Node) -> str:
    """The value that a node stands for: its own, or the part of another's that it takes."""
    if node.target is operator.getitem and isinstance(node.args[0], fx.Node) and isinstance(node.args[1], int):
        return f"{node.args[0].name}.{node.args[1]}"
    return node.name


def shape_of(val: Tensor) -> tuple[int, ...]:
    """A shape with free sizes as they are in the example."""
    return tuple(size_of(each) for each in val.shape)


def _placeholder(draft: _Draft, node: fx.Node) -> None:
    val = node.meta.get("val")
    if not isinstance(val, Tensor):
        return
    dtype = dtype_name(val.dtype)
    held = draft.holdings.tensors.get(node.name)
    if held is not None:
        changes = node.name in draft.holdings.parameters or WRITTEN in node.meta
        facts = unknown(held.numel()) if changes else measure(held, draft.precision)
        draft.values[node.name] = Value(node.name, node.name, "", dtype, shape=shape_of(val), constant=facts)
        return
    key, present = "", NAMES.get(val.dtype)
    if present:
        key = draft.decide(Decision(f"input:{node.name}", node.name, "", "input", present, ALL))
    draft.values[node.name] = Value(node.name, node.name, "", dtype, shape=shape_of(val), producer=key)


def results(output: fx.Node) -> list[fx.Node]:
    """The nodes that a graph returns, one for each place in which it stands."""
    found: list[fx.Node] = []
    fx.node.map_arg(output.args, lambda each: found.append(each))
    return found


def _outputs(draft: _Draft, node: fx.Node) -> None:
    for index, each in enumerate(results(node)):
        val = _tensor(each)
        present = NAMES.get(val.dtype) if val is not None else None
        if present:
            name = f"output_{index}"
            key = draft.decide(Decision(f"output:{name}", name, "", "output", present, ALL))
            draft.uses.append(Use(value_id(each), key, "", index, ""))


# Ops


def _call(draft: _Draft, node: fx.Node) -> None:
    if node.target is operator.getitem and isinstance(node.args[0], fx.Node) and value_id(node) in draft.values:
        return
    made = _made(node)
    slots = list(_operands(node))
    if not made and not written(node):
        return  # a question about sizes, or arithmetic on them
    binding = _Binding.of(draft, node, slots, made)
    inputs = tuple(_input(draft, node, binding, index, *slot) for index, slot in enumerate(slots))
    outputs = tuple(_output(draft, node, binding, id, val) for id, val in made)
    kind, path = op_type(node), module_path(node)
    name = f"{path}.{node.name}" if path else node.name
    draft.ops[node.name] = Op(node.name, name, kind, 0, "", inputs, outputs, dict(_attributes(node)))


def module_path(node: fx.Node) -> str:
    """The submodule whose forward called an op, "" for the module itself."""
    stack = node.meta.get("nn_module_stack") or {}
    last = list(stack.values())[-1][0] if stack else ""
    return str(last).removeprefix("L['self'].").removeprefix("L['self']")


def _tensor(node: fx.Node) -> Tensor | None:
    val = node.meta.get("val")
    return val if isinstance(val, Tensor) else None


def _made(node: fx.Node) -> list[tuple[str, Tensor]]:
    """Ids and fake values of the tensors that a node makes."""
    val = node.meta.get("val")
    if isinstance(val, Tensor):
        return [(node.name, val)]
    if isinstance(val, list | tuple):
        return [(f"{node.name}.{index}", each) for index, each in enumerate(val) if isinstance(each, Tensor)]
    return []


def _operands(node: fx.Node) -> Iterator[tuple[str, fx.Node | float]]:
    """Tensors, and numbers that stand where a tensor could, with their formals."""
    table = type_table()
    for name, given in arguments(node):
        if isinstance(given, NUMBERS) and not isinstance(given, bool) and name in table.operands:
            yield name, float(given)
        for each in tensors_in(given):
            if _tensor(each) is not None or each.meta.get("val") is None:
                yield name, each


def _attributes(node: fx.Node) -> Iterator[tuple[str, Attribute]]:
    """Plain arguments, but for numbers that are operands."""
    operands = type_table().operands
    for name, given in arguments(node):
        if isinstance(given, str) or (isinstance(given, NUMBERS) and (name not in operands or isinstance(given, bool))):
            yield name, given
        elif isinstance(given, torch.dtype):
            yield name, dtype_name(given)
        elif isinstance(given, list | tuple) and given and all(isinstance(each, NUMBERS) for each in given):
            yield name, tuple(given)


def _input(draft: _Draft, node: fx.Node, binding: _Binding, index: int, formal: str, given: fx.Node | float) -> Slot:
    if not isinstance(given, fx.Node):
        return _number(draft, node, binding, index, formal, given)
    id, val = value_id(given), _tensor(given)
    present = NAMES.get(val.dtype) if val is not None else None
    if present is None or id not in draft.values:
        return Slot(id if id in draft.values else "", formal)
    key = draft.decide(binding.decision(node, binding.variable_of(formal, present), present))
    draft.uses.append(Use(id, key, node.name, index, ""))
    return Slot(id, formal, key)


def _number(draft: _Draft, node: fx.Node, binding: _Binding, index: int, formal: str, given: float) -> Slot:
    """A number that is an operand: judged as a constant of the op's type, though kernels round only the result."""
    id = f"{node.name}.{formal}{NUMBER}"
    draft.values[id] = Value(id, f"{given:g}", "", "float32", shape=(), constant=scalar(given, draft.precision))
    if not binding.floats:
        return Slot(id, formal)
    key = draft.decide(binding.decision(node, binding.variable_of(formal, binding.main), binding.main))
    draft.uses.append(Use(id, key, node.name, index, ""))
    return Slot(id, formal, key)


def is_number(value: str) -> bool:
    """Whether a value is a number among an op's arguments rather than a tensor."""
    return value.endswith(NUMBER)


def _output(draft: _Draft, node: fx.Node, binding: _Binding, id: str, val: Tensor) -> Slot:
    present, key = NAMES.get(val.dtype), ""
    if present:
        key = draft.decide(binding.decision(node, binding.result_variable(present), present))
    users = (user for user in node.users if user is not node and value_id(user) == id)
    name = id if id == node.name else next((user.name for user in users), id)
    draft.values[id] = Value(id, name, "", dtype_name(val.dtype), shape=shape_of(val), producer=key, op=node.name)
    return Slot(id, "result", key)


# Which slots share a type variable, and what it admits


@dataclass(frozen=True)
class _Binding:
    """Type variables of one op. `pin`: why none of them may move."""

    pin: str
    fixed: frozenset[str]
    why_fixed: str
    result: str  # variable of the results
    result_pin: str
    main: Precision  # the type that variable T has
    floats: bool  # whether T is the type of anything

    @classmethod
    def of(
        cls,
        draft: _Draft,
        node: fx.Node,
        slots: Sequence[tuple[str, fx.Node | float]],
        made: Sequence[tuple[str, Tensor]],
    ) -> _Binding:
        """The binding of an op with these operands and results."""
        table, kind = type_table(), op_type(node)
        fixed, why = table.fixed.get(kind, (frozenset[str](), ""))
        given = dict(arguments(node))
        asks_type = isinstance(given.get("dtype"), torch.dtype)
        separate = kind in table.casts or (asks_type and not generates(node))
        result_pin = (
            f"its type is written in the source ({dtype_name(given['dtype'])})" if separate and asks_type else ""
        )
        floats = [
            (name, val) for name, each in slots if isinstance(each, fx.Node) and (val := _tensor(each)) is not None
        ]
        free = [(name, val) for name, val in floats if name not in fixed]
        pin = (
            str(node.meta.get(PIN, ""))
            or table.float32.get(kind, "")
            or _mixed(free, [] if separate else [val for _, val in made])
            or _integers(kind, free)
            or ("a cast of the author's" if kind in table.casts else "")
            or ("writes into its argument" if written(node) else "")
            or _from_nothing(node, floats)
        )
        names = {name for name, val in free if val.dtype is torch.float32}
        if not pin and names:
            pin = draft.prober.refusal(node, names, result_follows=not separate)
        typed = [val.dtype for val in (*(val for _, val in free), *(val for _, val in made)) if val.dtype in NAMES]
        main = NAMES[typed[0]] if typed else Precision.FLOAT32
        result = "R" if separate else "T"
        return cls(pin, fixed, why, result, result_pin or "a cast of the author's", main, bool(typed))

    def variable_of(self, formal: str, present: Precision) -> str:
        """The type variable of an operand."""
        if formal in self.fixed:
            return formal
        return "T" if present is self.main else f"T.{present}"

    def result_variable(self, present: Precision) -> str:
        """The type variable of the results."""
        if self.result == "R":
            return "R"
        return "T" if present is self.main else f"T.{present}"

    def decision(self, node: fx.Node, variable: str, present: Precision) -> Decision:
        """The decision of one type variable."""
        pin = self.why_fixed if variable in self.fixed else self.result_pin if variable == "R" else self.pin
        admits = frozenset({present}) if pin else ALL
        return Decision(f"{node.name}:{variable}", node.name, variable, "op", present, admits, pin, variable == "T")


def _mixed(operands: Sequence[tuple[str, Tensor]], made: Sequence[Tensor]) -> str:
    """Floats of several types meet: torch promotes them, as the author saw it."""
    types = {val.dtype for val in (*(val for _, val in operands), *made) if val.is_floating_point() or val.is_complex()}
    return "mixes types in the source: " + " and ".join(sorted(map(dtype_name, types))) if len(types) > 1 else ""


def _integers(kind: str, operands: Sequence[tuple[str, Tensor]]) -> str:
    """Integers that become floats inside the op: float16 counts exactly to 2,048 only."""
    table = type_table()
    whole = [name for name, val in operands if not val.is_floating_point() and val.dtype is not torch.bool]
    some = any(val.is_floating_point() for _, val in operands)
    if some and kind in table.promoted and any(name in table.promoted_formals for name in whole):
        return "takes integers as floats: counts or positions, which low precision does not hold exactly"
    return ""


def _from_nothing(node: fx.Node, floats: Sequence[tuple[str, Tensor]]) -> str:
    if any(val.is_floating_point() for _, val in floats) or generates(node):
        return ""
    return "makes floats of what are none, in torch's default type"
