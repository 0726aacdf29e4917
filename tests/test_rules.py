"""The rules themselves: their ops exist, every float operator has one, and every example says what really happens."""

from collections.abc import Iterator, Mapping

import onnx
import onnx.parser
import pytest
import torch
from onnxruntime.capi.onnxruntime_pybind11_state import get_all_operator_schema

from ampgraph.costs import Costs
from ampgraph.decide import decide
from ampgraph.graph import PrecisionGraph
from ampgraph.judge import judge
from ampgraph.kernels import onnxruntime_cuda
from ampgraph.onnx_model.lift import lift
from ampgraph.onnx_model.prepare import prepare
from ampgraph.precision import Precision
from ampgraph.ranges import propagate
from ampgraph.rule import Rule
from ampgraph.rulebook import load_builtin

BOOK = load_builtin()
HEADER = '<ir_version: 10, opset_import: ["" : 21, "com.microsoft" : 1, "ai.onnx.ml" : 3]>'
# What onnxruntime writes itself and its operator list does not give type constraints for.
RUNTIME_ONLY = {"SimplifiedLayerNormalization"}


def _qualified(domain: str, name: str) -> str:
    return f"{domain}.{name}" if domain else name


def _onnx_ops() -> Mapping[str, bool]:
    """Every operator of ONNX and of onnxruntime's contrib domain; whether it can carry a float."""
    found: dict[str, bool] = {}
    for schema in onnx.defs.get_all_schemas_with_history():
        types = {c.type_param_str: c.allowed_type_strs for c in schema.type_constraints}
        formals = [formal.type_str for formal in (*schema.inputs, *schema.outputs)]
        name = _qualified(schema.domain, schema.name)
        found[name] = found.get(name, False) or _carries_float(types, formals)
    for schema in get_all_operator_schema():
        if schema.domain == "com.microsoft":
            types = {c.type_param_str: c.allowed_type_strs for c in schema.type_constraints}
            formals = [formal.typeStr for formal in (*schema.inputs, *schema.outputs)]
            found[_qualified(schema.domain, schema.name)] = _carries_float(types, formals)
    return found


def _carries_float(types: Mapping[str, list[str]], formals: list[str]) -> bool:
    allowed = [text for texts in types.values() for text in texts] + formals
    return any(text.endswith(("(float)", "(float16)", "(double)", "float)")) for text in allowed)


def _core_aten() -> Iterator[str]:
    for qualified in torch._C._dispatch_get_all_op_names():
        namespace, _, name = qualified.partition("::")
        base, _, overload = name.partition(".")
        packet = getattr(torch.ops.aten, base, None) if namespace == "aten" else None
        op = getattr(packet, overload or "default", None)
        if op is not None and torch.Tag.core in op.tags:
            yield f"aten.{base}"


def test_every_op_named_by_a_rule_exists():
    known = {*_onnx_ops(), *RUNTIME_ONLY}
    named = {op for rule in BOOK.rules for op in rule.named_ops}
    aten = {op for op in named if op.startswith("aten.")}
    assert not sorted(op for op in named - aten if op not in known)
    assert not sorted(op for op in aten if not hasattr(torch.ops.aten, op.removeprefix("aten.")))


def test_every_float_operator_has_a_rule():
    missing = sorted(op for op, is_float in _onnx_ops().items() if is_float and op not in BOOK.by_op)
    assert not missing


def test_every_core_aten_operator_has_a_rule():
    without_float = {"_local_scalar_dense", "randperm"}
    prefixes = ("aten.bitwise_", "aten.logical_", "aten.sym_")
    core = {op for op in _core_aten() if not op.startswith(prefixes)} - {f"aten.{op}" for op in without_float}
    assert len(core) > 100
    assert not sorted(op for op in core if op not in BOOK.by_op)


def test_no_two_plain_rules_claim_an_op():
    claimed: dict[str, str] = {}
    for rule in BOOK.rules:
        for op in rule.ops if rule.name in BOOK.plain else ():
            assert op not in claimed, f"{op}: {claimed[op]} and {rule.name}"
            claimed[op] = rule.name


def test_every_rule_with_an_onnx_op_has_an_example():
    def is_onnx(rule: Rule) -> bool:
        return not all(op.startswith("aten.") for op in rule.named_ops)

    assert not [rule.name for rule in BOOK.rules if is_onnx(rule) and not rule.examples]


def _graph(text: str) -> PrecisionGraph:
    model = onnx.parser.parse_model(text if text.lstrip().startswith("<") else f"{HEADER} {text}")
    return lift(prepare(model), {})


def _decision_of(graph: PrecisionGraph, name: str) -> str:
    """The decision that makes a value; that of its op's principal operand where the value is no float."""
    value = next(value for value in graph.values.values() if value.name == name)
    if value.producer:
        return value.producer
    return next(decision.id for decision in graph.decisions_of[value.op])


def _precisions(text: str, names: list[str]) -> dict[str, str]:
    """What low precision wherever it is legal makes of these values."""
    graph = _graph(text)
    judgement = judge(graph, BOOK, propagate(graph), Precision.FLOAT16)
    low = decide(graph, judgement, Costs("points", dict.fromkeys(graph.decisions, 1), {}, {}, {}, {}, {}))
    made = {name: _decision_of(graph, name) for name in names}
    return {
        name: "float16" if decision in low else graph.decisions[decision].present for name, decision in made.items()
    }


EXAMPLES = [
    pytest.param(example.graph, example.expect, id=f"{rule.name}-{index}")
    for rule in BOOK.rules
    for index, example in enumerate(rule.examples)
]


@pytest.mark.parametrize(("graph", "expect"), EXAMPLES)
def test_example(graph: str, expect: Mapping[str, str]):
    assert _precisions(graph, list(expect)) == dict(expect)


@pytest.mark.parametrize("rule", [rule for rule in BOOK.rules if rule.examples], ids=lambda rule: rule.name)
def test_an_example_is_decided_by_its_rule(rule: Rule):
    verdicts = [
        verdict.rule
        for example in rule.examples
        for graph in [_graph(example.graph)]
        for verdict in judge(graph, BOOK, propagate(graph), Precision.FLOAT16).verdicts.values()
    ]
    assert rule.name in verdicts


def test_examples_hold_where_the_runtime_has_the_kernels():
    """A kernel table only takes lows away: what the rules keep in float32 stays there."""
    for rule in BOOK.rules:
        for example in rule.examples:
            graph = _graph(example.graph)
            judgement = judge(graph, BOOK, propagate(graph), Precision.FLOAT16, onnxruntime_cuda())
            kept = [name for name, precision in example.expect.items() if precision == "float32"]
            assert not [name for name in kept if judgement.verdicts[_decision_of(graph, name)].legal]
