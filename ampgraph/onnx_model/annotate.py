"""Annotate: what a written node says of its precision in its metadata, for people who look at the file in a viewer.

Every node gets `ampgraph.why`, "PRECISION: REASON"; where its type variables differ, each further one under a key of
its own, `ampgraph.why.VARIABLE`; what settled it in a word, `ampgraph.cause`; and the rule's name, `ampgraph.rule`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path

from onnx import ModelProto, NodeProto

from ampgraph.graph import Op, PrecisionGraph, Use
from ampgraph.onnx_model.io import all_tensors, load
from ampgraph.onnx_model.names import CAST_KEY, CAUSE_KEY, ID_KEY, RULE_KEY, WHY_KEY, node_ids, walk
from ampgraph.onnx_model.prepare import prepare
from ampgraph.onnx_model.tensors import element_count
from ampgraph.onnx_model.types import LARGEST_CONSTANT_FOR_INFERENCE
from ampgraph.plan import BY_PRICE, Cast, Choice, Plan
from ampgraph.precision import Precision

READERS = 3  # named in a sentence


def annotate_op(node: NodeProto, graph: PrecisionGraph, plan: Plan, op: Op) -> None:
    """Id and reasons of an op, in place of what an earlier conversion wrote."""
    _forget(node)
    note(node, ID_KEY, op.id)
    chosen = {each.variable: plan.choices[each.id] for each in graph.decisions_of.get(op.id, ())}
    if not chosen:
        note(node, WHY_KEY, _without_floats(graph, op))
        return
    first = next(iter(chosen.values()))
    for variable, choice in chosen.items():
        if choice is first:
            note(node, WHY_KEY, _sentence(choice))
        elif _sentence(choice) != _sentence(first):
            note(node, f"{WHY_KEY}.{variable}", _sentence(choice))
    note(node, CAUSE_KEY, first.cause.value if first.cause else BY_PRICE)
    note(node, RULE_KEY, first.rule)


def _sentence(choice: Choice) -> str:
    return f"{choice.precision}: {choice.why}"


def _without_floats(graph: PrecisionGraph, op: Op) -> str:
    dtypes = {graph.values[slot.value].dtype for slot in (*op.inputs, *op.outputs) if slot.value}
    others = sorted(dtype for dtype in dtypes if dtype.startswith(("float", "complex")))
    return f"left in {' and '.join(others)}" if others else "reads and makes no floating-point value"


def annotate_cast(node: NodeProto, graph: PrecisionGraph, plan: Plan, cast: Cast) -> None:
    """Which value a cast of ours converts, and for whom."""
    value = graph.values[cast.value]
    uses = (use for use in graph.uses_of.get(cast.value, ()) if plan.choices[use.decision].precision is cast.to)
    made = f"made in {plan.choices[value.producer].precision} by {_maker(graph, value.op)}"
    note(node, CAST_KEY, cast.value)
    note(node, WHY_KEY, f"{cast.to}: {value.name} is {made} and read in {cast.to} by {_readers(graph, uses)}")
    note(node, CAUSE_KEY, "cast")


def annotate_constant(node: NodeProto, graph: PrecisionGraph, value: str, precision: Precision | None) -> None:
    """For whom a Constant node is held in its precision; None: its data are no floats that a plan speaks of."""
    if precision is None:
        note(node, WHY_KEY, "a constant that no floating-point operator takes")
        return
    readers = _readers(graph, graph.uses_of.get(value, ()))
    note(node, WHY_KEY, f"{precision}: a constant, held as its readers take it (of {readers})")


def _maker(graph: PrecisionGraph, op: str) -> str:
    return _name(graph, op) if op else "what is outside of this graph"


def _readers(graph: PrecisionGraph, uses: Iterable[Use]) -> str:
    names = list(dict.fromkeys(_name(graph, use.op) if use.op else "the graph's output" for use in uses))
    more = f" and {len(names) - READERS} more" if len(names) > READERS else ""
    return ", ".join(names[:READERS]) + more if names else "nobody"


def _name(graph: PrecisionGraph, op: str) -> str:
    found = graph.ops[op]
    return f"{found.type} {found.name or op}"


def _forget(node: NodeProto) -> None:
    """Drop reasons of an earlier conversion for variables that this one may not name."""
    kept = [entry for entry in node.metadata_props if not entry.key.startswith((f"{WHY_KEY}.", CAUSE_KEY, RULE_KEY))]
    if len(kept) < len(node.metadata_props):
        pairs = [(entry.key, entry.value) for entry in kept]
        del node.metadata_props[:]
        for key, value in pairs:
            node.metadata_props.add(key=key, value=value)


def note(node: NodeProto, key: str, text: str) -> None:
    """Write a metadata entry, in place of the one of that key."""
    if not text:
        return
    entry = next((entry for entry in node.metadata_props if entry.key == key), None)
    if entry is None:
        node.metadata_props.add(key=key, value=text)
    else:
        entry.value = text


def annotated_copy(path: Path, told: Mapping[str, tuple[str, str, str]]) -> ModelProto:
    """A copy of a model to look at, without large weights, whose nodes say (precision, cause, reason) by op id.

    Nodes of other ids than `told` keep what they say themselves.
    """
    model = prepare(load(path).model)
    ids = node_ids(model.graph)
    for position, node in enumerate(walk(model.graph)):
        if ids[position] in told:
            precision, cause, why = told[ids[position]]
            note(node, WHY_KEY, f"{precision}: {why}")
            note(node, CAUSE_KEY, cause)
    for tensor in all_tensors(model.graph):
        if element_count(tensor) > LARGEST_CONSTANT_FOR_INFERENCE:
            for field in ("raw_data", "float_data", "int32_data", "int64_data", "double_data", "uint64_data"):
                tensor.ClearField(field)
    return model
