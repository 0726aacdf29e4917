"""Laws of conversion on random graphs: any plan can be written, and the road keeps answers, interface and bytes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
import onnx
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from onnx import ModelProto

from ampgraph.costs import Costs
from ampgraph.decide import decide
from ampgraph.graph import PrecisionGraph
from ampgraph.judgement import Category, Cause, Judgement, Verdict
from ampgraph.kernels import KernelTable, kernel_law
from ampgraph.laws import verify
from ampgraph.onnx_model.apply import apply
from ampgraph.onnx_model.compare import compare
from ampgraph.onnx_model.lift import lift
from ampgraph.onnx_model.prepare import prepare
from ampgraph.onnx_model.run import CPU, random_inputs
from ampgraph.onnx_model.simulate import simulate
from ampgraph.onnx_model.verify import verify_written
from ampgraph.plan import make_plan
from ampgraph.precision import Precision
from tests.models import BAR, OBJECTIVES, TARGETS, assert_valid, convert, parse, weight

SHAPE = "float[4,4]"
UNARY = ("Relu", "Tanh", "Sigmoid", "Neg", "Abs", "Identity", "Softplus", "Erf", "Gelu", "HardSwish")
BINARY = ("Add", "Mul", "Sub", "Max", "Min", "MatMul")
LINES = {
    **{op: f"{{y}} = {op}({{a}})" for op in UNARY},
    **{op: f"{{y}} = {op}({{a}}, {{b}})" for op in BINARY},
    "scaled": "{y}k = Constant<value_float = 0.25>() {y} = Mul({a}, {y}k)",
    "product": "{y} = MatMul({a}, w)",
    "shared": "{y} = MatMul({a}, v)",
    "biased": "{y} = Gemm({a}, w, b)",
    "softmax": "{y} = Softmax({a})",
    "mean": "{y}r = ReduceMean({a}) {y} = Add({y}r, {b})",
    "norm": "{y} = LayerNormalization({a}, b)",
    "transposed": "{y} = Transpose<perm = [1, 0]>({a})",
    "split": "{y}_1, {y}_2 = Split<axis = 1, num_outputs = 2>({a}) {y} = Concat<axis = 1>({y}_2, {y}_1)",
    "chosen": "{y}g = Greater({a}, {b}) {y} = Where({y}g, {a}, {b})",
    "cast": "{y}c = Cast<to = 10>({a}) {y} = Cast<to = 1>({y}c)",
    "shape": "{y}s = Shape({a}) {y} = Expand({b}, {y}s)",
    "sequence": "{y}q = SequenceConstruct({a}, {b}) {y}i = Constant<value_int = 1>() {y} = SequenceAt({y}q, {y}i)",
    "contrib": "{y} = com.microsoft.QuickGelu({a})",
    "filled": "{y}s = Shape({a}) {y}f = ConstantOfShape<value = float[1] {{0.5}}>({y}s) {y} = Mul({y}f, {b})",
}


@dataclass
class Drawn:
    """A graph while it is drawn: lines of text, and the values that may be read."""

    lines: list[str] = field(default_factory=list)
    values: list[str] = field(default_factory=lambda: ["x0", "x1"])
    made: int = 0

    def fresh(self) -> str:
        self.made += 1
        return f"t{self.made}"


def _line(draw: st.DrawFn, drawn: Drawn, values: list[str]) -> tuple[str, str]:
    name = drawn.fresh()
    form = LINES[draw(st.sampled_from(sorted(LINES)))]
    a, b = draw(st.sampled_from(values)), draw(st.sampled_from(values))
    return name, form.format(y=name, a=a, b=b)


def _body(draw: st.DrawFn, drawn: Drawn, values: list[str]) -> tuple[str, str]:
    """Lines of a body, and the name it returns: a value of its own, never one from around it."""
    lines, inner = [], list(values)
    for _ in range(draw(st.integers(1, 3))):
        name, line = _line(draw, drawn, inner)
        lines.append(line)
        inner.append(name)
    return " ".join(lines), inner[-1]


def _branches(draw: st.DrawFn, drawn: Drawn) -> tuple[str, str]:
    name = drawn.fresh()
    bodies = [_body(draw, drawn, drawn.values) for _ in range(2)]
    then, other = (f"{part} () => ({SHAPE} {end}) {{ {text} }}" for part, (text, end) in zip("te", bodies, strict=True))
    return name, f"{name} = If (c) <then_branch = {then}, else_branch = {other}>"


def _loop(draw: st.DrawFn, drawn: Drawn) -> tuple[str, str]:
    name, state = drawn.fresh(), drawn.fresh()
    text, end = _body(draw, drawn, [*drawn.values, state])
    start, scan = draw(st.sampled_from(drawn.values)), f"{name}o"
    head = f"b (int64 {name}i, bool {name}c, {SHAPE} {state}) => (bool {name}d, {SHAPE} {end}, {SHAPE} {scan})"
    body = f"{{ {name}d = Identity({name}c) {text} {scan} = Tanh({state}) }}"
    loop = f"{name}f, {name}s = Loop (n, c, {start}) <body = {head} {body}>"
    return name, f"{loop} {name}m = ReduceMean<keepdims = 0>({name}s, zero) {name} = Add({name}f, {name}m)"


@st.composite
def models(draw: st.DrawFn) -> ModelProto:
    """A small float32 model of [4,4] values with shared values, branches and loops."""
    drawn = Drawn()
    for _ in range(draw(st.integers(1, 7))):
        kind = draw(st.sampled_from((_line, _line, _line, _line, _branches, _loop)))
        name, line = kind(draw, drawn, drawn.values) if kind is _line else kind(draw, drawn)
        drawn.lines.append(line)
        drawn.values.append(name)
    ends = draw(st.lists(st.sampled_from(drawn.values[2:]), min_size=1, max_size=3, unique=True))
    outputs = ", ".join(f"{SHAPE} {name}" for name in dict.fromkeys([drawn.values[-1], *ends]))
    weights = f"{weight('w', 4, 4, seed=1)}, {weight('v', 4, 4, seed=2)}, {weight('b', 4)}, int64[1] zero = {{0}}"
    inputs = f"{SHAPE} x0, {SHAPE} x1, bool c, int64 n"
    return parse(f"g ({inputs}) => ({outputs}) <{weights}> {{ {' '.join(drawn.lines)} }}", com_microsoft=1)


RELAXED = settings(
    max_examples=25, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
    derandomize=True,
)  # fmt: skip


def feeds_of(model: ModelProto) -> Mapping[str, np.ndarray]:
    """Inputs about N(0, 1), three turns of every loop."""
    return {**random_inputs(model), "n": np.array(3)}


@RELAXED
@given(models(), st.sampled_from(OBJECTIVES), st.sampled_from(TARGETS))
def test_a_conversion_is_valid_idempotent_deterministic_and_accurate(model: ModelProto, objective: str, target: str):
    made = convert(model, objective=objective, target=target).model
    again = convert(model, objective=objective, target=target).model
    twice = convert(made, objective=objective, target=target).model
    assert made == again == twice
    assert_valid(model, made)
    feeds = feeds_of(model)
    for candidate in (made, simulate(made)):
        assert not [error for error in compare(model, candidate, feeds, CPU) if not error.within(BAR)]


class Everything(KernelTable):
    """A runtime with every kernel: what remains is what the checker and a CPU session refuse."""

    def rows(self, op_type: str, version: int, provider: str) -> tuple[Mapping[str, tuple[str, ...]], ...]:
        return ({},)


EVERYTHING = Everything("every runtime", "0", {}, {})


def drawn_judgement(draw: st.DrawFn, graph: PrecisionGraph, share: float) -> Judgement:
    """Verdicts at random: what the schema admits and a session opens may be low, whatever the numbers."""
    random = draw(st.randoms(use_true_random=False))
    low = Precision.FLOAT16
    laws = {op: kernel_law(EVERYTHING, graph.ops[op], found, low) for op, found in graph.decisions_of.items()}
    forbidden = {key for law in laws.values() for key in law.forbidden}
    verdicts = {
        key: Verdict(
            decision.kind == "op" and decision.is_open(low) and key not in forbidden and random.random() < share,
            Category.ALLOW,
            Cause.RULE,
            "drawn",
        )
        for key, decision in graph.decisions.items()
    }
    ties = tuple(pair for law in laws.values() for pair in law.ties)
    implications = tuple(pair for law in laws.values() for pair in law.implications)
    return Judgement(low, verdicts, ties, implications)


def drawn_costs(draw: st.DrawFn, graph: PrecisionGraph) -> Costs:
    random = draw(st.randoms(use_true_random=False))

    def prices(keys: Mapping[str, object], least: int, most: int) -> dict[str, int]:
        return {key: random.randint(least, most) for key in keys}

    values, decisions = graph.values, graph.decisions
    casts = (prices(values, 0, 20), prices(values, 0, 20), prices(values, 0, 20), prices(values, 0, 20))
    return Costs("points", prices(decisions, 5, 60), prices(decisions, 0, 20), *casts)


@RELAXED
@given(st.data(), models(), st.sampled_from((0.4, 0.7, 1.0)))
def test_any_plan_can_be_written_checked_and_opened(data: st.DataObject, model: ModelProto, share: float):
    prepared = prepare(model)
    graph = lift(prepared)
    judgement = data.draw(st.composite(drawn_judgement)(graph, share))
    costs = data.draw(st.composite(drawn_costs)(graph))
    plan = make_plan(graph, judgement, costs, decide(graph, judgement, costs), "coverage")
    verify(graph, judgement, plan, costs)
    made = apply(prepared, graph, plan)
    verify_written(made, graph, plan)
    assert_valid(model, made)
    assert compare(made, made, feeds_of(model), CPU)
    onnx.checker.check_model(made, full_check=True)
