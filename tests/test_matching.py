"""Which rule wins for which decision: precedence, conditions, patterns; against a search of all paths."""

from collections.abc import Iterator, Mapping

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ampgraph.graph import Attribute, Constant, Decision, Op, PrecisionGraph, Scope, Slot, Value
from ampgraph.matching import winning_rules
from ampgraph.precision import Precision
from ampgraph.ranges import Interval
from ampgraph.rule import Rule
from ampgraph.rulebook import RuleBook, parse

Node = tuple[str, str, list[str], Mapping[str, Attribute]]  # result, op type, inputs, attributes


def _graph(*nodes: Node, constants: Mapping[str, float] | None = None, version: int = 13) -> PrecisionGraph:
    """Ops with one type variable each; names that no op makes are graph inputs, or the given constants."""
    numbers = constants or {}
    made = {result for result, *_ in nodes}
    sources = {name for _, _, inputs, _ in nodes for name in inputs if name} - made
    values = {name: _source(name, numbers.get(name)) for name in sorted(sources)}
    ops: dict[str, Op] = {}
    for result, op_type, inputs, attributes in nodes:
        key = f"{result}:T"
        values[result] = Value(result, result, "", "float32", producer=key, op=result)
        slots = tuple(Slot(name, "X", key) for name in inputs)
        ops[result] = Op(result, result, op_type, version, "", slots, (Slot(result, "Y", key),), attributes)
    low = frozenset(Precision)
    decisions = {f"{op}:T": Decision(f"{op}:T", op, "T", "op", Precision.FLOAT32, low, principal=True) for op in ops}
    return PrecisionGraph("onnx", {"": 13}, {"": Scope("", None, "", 1.0)}, values, ops, decisions, ())


def _source(name: str, number: float | None) -> Value:
    if number is None:
        return Value(name, name, "", "int64" if name.startswith("int") else "float32", producer=f"input:{name}")
    return Value(name, name, "", "float32", constant=Constant(1, number, number, abs(number)))


def _book(*rules: str) -> RuleBook:
    head = '[[rule]]\nname = "{}"\nwhy = "w"\nsource = "s"\n'
    named = (head.format(rule.split(":", 1)[0]) + rule.split(":", 1)[1].strip().replace("; ", "\n") for rule in rules)
    return RuleBook(parse("\n".join(named), "test.toml"))


def _names(graph: PrecisionGraph, book: RuleBook, ranges: Mapping[str, Interval] | None = None) -> dict[str, str]:
    winners = winning_rules(graph, book, ranges or {})
    return {decision.removesuffix(":T"): rule.name for decision, rule in winners.items()}


PLAIN = 'plain: category = "infer"; ops = ["Sin", "Add", "Sub", "Sqrt", "Mul", "ReduceMean", "Attention", "Pow"]'
MOVES = 'moves: category = "clear"; ops = ["Reshape", "Identity"]'


def test_an_op_that_no_rule_knows_is_absent():
    assert _names(_graph(("y", "Custom", ["x"], {})), _book(PLAIN)) == {}


@pytest.mark.parametrize(
    ("condition", "op", "applies"),
    [
        ("min_version = 13", ("y", "Sin", ["x"], {}), True),
        ("min_version = 14", ("y", "Sin", ["x"], {}), False),
        ("max_version = 12", ("y", "Sin", ["x"], {}), False),
        ('dialect = "torch.fx"', ("y", "Sin", ["x"], {}), False),
        ('variables = ["T1"]', ("y", "Sin", ["x"], {}), False),
        ("attributes = { a = 1 }", ("y", "Sin", ["x"], {"a": 1}), True),
        ("attributes = { a = [1, 2] }", ("y", "Sin", ["x"], {"a": 2}), True),
        ("attributes = { a = 1 }", ("y", "Sin", ["x"], {"a": 3}), False),
        ("attributes = { a = { present = true } }", ("y", "Sin", ["x"], {"a": 3}), True),
        ("attributes = { a = { present = true } }", ("y", "Sin", ["x"], {}), False),
        ('input_dtype = ["int64"]', ("y", "Sin", ["int_x"], {}), True),
        ('input_dtype = ["int64"]', ("y", "Sin", ["x"], {}), False),
        ("constants = { 1 = [2, 3] }", ("y", "Sin", ["x", "two"], {}), True),
        ("constants = { 1 = 3 }", ("y", "Sin", ["x", "two"], {}), False),
        ("constants = { 1 = 2 }", ("y", "Sin", ["x"], {}), False),
        ("outputs = 0", ("y", "Sin", ["x"], {}), True),
        ("outputs = [1, 2]", ("y", "Sin", ["x"], {}), False),
    ],
)
def test_a_narrowed_rule_wins_where_its_condition_holds(condition: str, op: Node, applies: bool):
    book = _book(PLAIN, f'narrow: category = "allow"; ops = ["Sin"]; {condition}')
    assert _names(_graph(op, constants={"two": 2.0}), book) == {"y": "narrow" if applies else "plain"}


@pytest.mark.parametrize(
    ("given", "silent"),
    [
        (Interval(-1, 1), True),
        (Interval(-1, 9), False),
        (Interval(-1, 1, complete=False), False),
        (None, False),
    ],
)
def test_a_rule_is_silent_where_all_values_are_proven_within(given: Interval | None, silent: bool):
    book = _book(PLAIN, 'wide: category = "deny"; ops = ["Sin"]; unless_within = [-8, 8]')
    ranges = {"x": given, "y": Interval(-1, 1)} if given else {"y": Interval(-1, 1)}
    assert _names(_graph(("y", "Sin", ["x"], {})), book, ranges) == {"y": "plain" if silent else "wide"}


@pytest.mark.parametrize(("low", "winner"), [(Precision.FLOAT16, "plain"), (Precision.BFLOAT16, "count")])
def test_exact_integers_depend_on_the_precision(low: Precision, winner: str):
    book = _book(PLAIN, 'count: category = "deny"; ops = ["Sin"]; unless_within = "exact-integers"')
    graph = _graph(("y", "Sin", ["int_x"], {}))
    ranges = {"int_x": Interval(0, 2000, integer=True), "y": Interval(0, 2000, integer=True)}
    assert winning_rules(graph, book, ranges, low)["y:T"].name == winner
    assert winning_rules(graph, book, ranges | {"y": Interval(0, 2000)}, low)["y:T"].name == "count"


MEAN = 'centre: category = "deny"; chain = [{ ops = ["ReduceMean"] }, { ops = ["Sub"], slot = 1 }]'


def test_a_pattern_marks_its_ops_through_clear_ops():
    graph = _graph(("m", "ReduceMean", ["x"], {}), ("r", "Reshape", ["m"], {}), ("y", "Sub", ["x", "r"], {}))
    assert _names(graph, _book(PLAIN, MOVES, MEAN)) == {"m": "centre", "r": "moves", "y": "centre"}


def test_a_pattern_needs_its_slot_and_its_end():
    graph = _graph(
        ("m", "ReduceMean", ["x"], {}),
        ("y", "Sub", ["m", "x"], {}),
        ("z", "Add", ["m", "x"], {}),
        ("w", "Sub", ["x", "z"], {}),
    )
    assert set(_names(graph, _book(PLAIN, MOVES, MEAN)).values()) == {"plain"}


def test_only_the_branch_that_ends_in_the_pattern_is_marked():
    graph = _graph(
        ("a", "ReduceMean", ["x"], {}),
        ("b", "ReduceMean", ["x"], {}),
        ("y", "Sub", ["x", "a"], {}),
        ("z", "Add", ["x", "b"], {}),
    )
    assert _names(graph, _book(PLAIN, MEAN)) == {"a": "centre", "b": "plain", "y": "centre", "z": "plain"}


def test_context_steps_keep_their_own_rule():
    chain = 'c: category = "deny"; chain = [{ ops = ["ReduceMean"], marks = false }, { ops = ["Sub"] }]'
    graph = _graph(("m", "ReduceMean", ["x"], {}), ("y", "Sub", ["x", "m"], {}))
    assert _names(graph, _book(PLAIN, chain)) == {"m": "plain", "y": "c"}


SQUARES = 'sq: category = "deny"; chain = [{ ops = ["Mul", "Pow", "aten.square"], squares = true }, { ops = ["Sqrt"] }]'


@pytest.mark.parametrize(
    ("op", "is_square"),
    [
        (("s", "Mul", ["x", "x"], {}), True),
        (("s", "Mul", ["x", "z"], {}), False),
        (("s", "Mul", ["x", "two"], {}), False),
        (("s", "Pow", ["x", "two"], {}), True),
        (("s", "Pow", ["x", "x"], {}), False),
        (("s", "aten.square", ["x"], {}), True),
    ],
)
def test_squares(op: Node, is_square: bool):
    graph = _graph(op, ("y", "Sqrt", ["s"], {}), constants={"two": 2.0})
    assert _names(graph, _book(PLAIN, SQUARES))["y"] == ("sq" if is_square else "plain")


@pytest.mark.parametrize(
    ("number", "attributes", "is_epsilon"),
    [(1e-12, {}, True), (-1e-5, {}, True), (0.0, {}, False), (0.5, {}, False), (0.5, {"min": 1e-6}, True)],
)
def test_epsilons(number: float, attributes: Mapping[str, Attribute], is_epsilon: bool):
    book = _book(
        PLAIN, 'eps: category = "deny"; chain = [{ ops = ["Add"], constant_at_most = 1e-3 }, { ops = ["Sqrt"] }]'
    )
    graph = _graph(("s", "Add", ["x", "c"], attributes), ("y", "Sqrt", ["s"], {}), constants={"c": number})
    assert _names(graph, book)["s"] == ("eps" if is_epsilon else "plain")


def test_a_denying_pattern_beats_a_narrowed_rule_and_a_user_beats_both():
    narrow = 'narrow: category = "allow"; ops = ["Sub"]; attributes = { a = 1 }'
    graph = _graph(("m", "ReduceMean", ["x"], {}), ("y", "Sub", ["x", "m"], {"a": 1}))
    book = _book(PLAIN, narrow, MEAN)
    assert _names(graph, book)["y"] == "centre"
    mine = parse(
        '[[rule]]\nname = "mine"\nops = ["Sub"]\ncategory = "allow"\nwhy = "w"\nsource = "s"\n', "m", user=True
    )
    assert _names(graph, RuleBook(book.rules + mine)) == {"m": "centre", "y": "mine"}


def test_empty_optional_inputs_are_harmless():
    graph = _graph(("m", "Reshape", ["", "x"], {}), ("y", "Sub", ["x", ""], {}), ("z", "Sin", ["", ""], {}))
    narrow = (
        'n: category = "deny"; ops = ["Sin"]; constants = { 1 = 2 }; input_dtype = ["int64"]; unless_within = [0, 1]'
    )
    assert _names(graph, _book(PLAIN, MOVES, MEAN, narrow)) == {"m": "moves", "y": "plain", "z": "plain"}


CHAINS = _book(
    MOVES,
    'a: category = "deny"; chain = [{ ops = ["A"] }, { ops = ["B"], slot = 1 }]',
    'b: category = "deny"; chain = [{ ops = ["B"] }, { ops = ["A", "B"], marks = false }, { ops = ["C"] }]',
    'c: category = "deny"; chain = [{ ops = ["Mul"], squares = true }, { ops = ["A"] }]',
)


def _paths(graph: PrecisionGraph, rule: Rule, index: int, op: Op) -> Iterator[list[str]]:
    """Every way to take the steps of a pattern up to `index`, the last of them by this op; the ops taken."""
    step = rule.chain[index]
    if op.type not in step.ops or (step.squares and len({slot.value for slot in op.inputs}) > 1):
        return
    if index == 0:
        yield [op.id]
        return
    for position, slot in enumerate(op.inputs):
        if step.slot in (None, position):
            for source in _sources_of(graph, slot.value):
                yield from ([*path, op.id] for path in _paths(graph, rule, index - 1, source))


def _sources_of(graph: PrecisionGraph, value: str) -> Iterator[Op]:
    """Ops that make a value, looking through any number of clear ops."""
    op = graph.ops.get(graph.values[value].op)
    if op is not None:
        yield op
        if op.type in ("Reshape", "Identity"):
            for slot in op.inputs:
                yield from _sources_of(graph, slot.value)


@st.composite
def _graphs(draw: st.DrawFn) -> PrecisionGraph:
    nodes: list[Node] = []
    for index in range(draw(st.integers(1, 9))):
        known = ["x", *(node[0] for node in nodes)]
        inputs = draw(st.lists(st.sampled_from(known), min_size=1, max_size=2))
        nodes.append((f"v{index}", draw(st.sampled_from(["A", "B", "C", "Mul", "Reshape"])), inputs, {}))
    return _graph(*nodes)


@settings(max_examples=300, deadline=None)
@given(_graphs())
def test_patterns_are_those_that_a_search_of_all_paths_finds(graph: PrecisionGraph):
    expected: dict[str, set[str]] = {}
    for rule in CHAINS.chains:
        for op in graph.ops.values():
            for path in _paths(graph, rule, len(rule.chain) - 1, op):
                for step, taken in zip(rule.chain, path, strict=True):
                    if step.marks:
                        expected.setdefault(taken, set()).add(rule.name)
    winners = {op: min(names) for op, names in expected.items()}
    found = {op: name for op, name in _names(graph, CHAINS).items() if name != "moves"}
    assert found == winners
