"""Random problems for the cut and the laws: a PrecisionGraph, a Judgement and Costs that share no symmetry."""

from __future__ import annotations

from dataclasses import dataclass, replace
from itertools import pairwise
from random import Random

from hypothesis import strategies as st

from ampgraph.costs import Costs
from ampgraph.graph import Constant, Decision, Op, PrecisionGraph, Scope, Slot, Use, Value
from ampgraph.judgement import Category, Cause, Judgement, Verdict
from ampgraph.precision import Precision

FLOAT16, FLOAT32, BFLOAT16 = Precision.FLOAT16, Precision.FLOAT32, Precision.BFLOAT16
SCOPES = {
    "": Scope("", None, "", 1.0),
    "if": Scope("if", "", "owner", 0.5),
    "loop": Scope("loop", "", "owner", 8.0),
    "loop/if": Scope("loop/if", "loop", "owner", 4.0),
    "loop/loop": Scope("loop/loop", "loop", "owner", 64.0),
    "if/loop": Scope("if/loop", "if", "owner", 4.0),
}
FREE = Verdict(True, Category.CLEAR, Cause.RULE, "moves values", "shape")
DENIED = Verdict(False, Category.DENY, Cause.RULE, "loses precision", "reduction")
FORCED = Verdict(True, Category.ALLOW, Cause.USER, "--low asks for it", forced=True)
FIXED = Verdict(False, Category.CLEAR, Cause.PIN, "float16 in the source")


@dataclass(frozen=True)
class Problem:
    """What the stages before decide hand over."""

    graph: PrecisionGraph
    judgement: Judgement
    costs: Costs


def decision(id: str, present: Precision = FLOAT32, pin: str = "", kind: str = "op") -> Decision:
    """A decision that the schema lets be anything."""
    return Decision(id, id.split(":")[0], "T", kind, present, frozenset(Precision), pin, True)  # type: ignore[arg-type]


def random_problem(random: Random, size: int, *, nested: bool = True, largest: int = 12) -> Problem:
    """A problem of `size` op decisions, an input and up to two outputs; prices are drawn up to `largest`."""
    scopes = SCOPES if nested else {"": SCOPES[""]}
    decisions, values, ops, uses = _nodes(random, size, scopes)
    graph = PrecisionGraph(
        "onnx", {"": 21}, scopes, values, ops, decisions, tuple(uses), _pairs(random, decisions, 0.1)
    )
    judgement = _judgement(random, graph)
    return Problem(graph, judgement, _costs(random, graph, largest))


def _nodes(
    random: Random, size: int, scopes: dict[str, Scope]
) -> tuple[dict[str, Decision], dict[str, Value], dict[str, Op], list[Use]]:
    decisions = {"input:x": decision("input:x", kind="input")}
    values = {"x": Value("x", "x", "", "float32", shape=(4,), producer="input:x")}
    for number in range(random.randint(0, max(1, size // 3))):
        id = f"w{number}"
        values[id] = Value(id, id, "", "float32", shape=(4,), constant=Constant(4, 0.0, 1.0, 0.5))
    ops: dict[str, Op] = {}
    uses: list[Use] = []
    for number in range(size):
        scope = random.choice([*scopes, "", ""])
        name, id = f"n{number}", f"n{number}:T"
        present = random.choices([FLOAT32, FLOAT16, BFLOAT16], [20, 1, 1])[0]
        decisions[id] = decision(id, present)
        taken = [random.choice(_visible(values, scope, scopes)) for _ in range(random.choice([1, 1, 2, 2, 3]))]
        if random.random() < 0.1:
            taken = taken[:1] * 2
        uses += (Use(value, id, name, slot, scope) for slot, value in enumerate(taken))
        ops[name] = Op(
            name, name, "Op", 1, scope, tuple(Slot(v, "X", id) for v in taken), (Slot(f"v{number}", "Y", id),)
        )
        values[f"v{number}"] = Value(f"v{number}", f"v{number}", scope, present.value, shape=(4,), producer=id)
    for number in range(random.randint(0, 2)):
        id = f"output:y{number}"
        decisions[id] = decision(id, kind="output")
        uses.append(Use(random.choice(_visible(values, "", scopes)), id, "", 0, ""))
    return decisions, values, ops, uses


def _visible(values: dict[str, Value], scope: str, scopes: dict[str, Scope]) -> list[str]:
    around: set[str | None] = {None}
    inner: str | None = scope
    while inner is not None:
        around.add(inner)
        inner = scopes[inner].parent
    return [value.id for value in values.values() if value.scope in around]


def _pairs(random: Random, decisions: dict[str, Decision], rate: float) -> tuple[tuple[str, str], ...]:
    ids = [id for id, d in decisions.items() if d.kind == "op" and d.present is FLOAT32]
    return tuple((a, b) for a in ids for b in random.choices(ids, k=1) if a != b and random.random() < rate)


def _judgement(random: Random, graph: PrecisionGraph) -> Judgement:
    """Random verdicts; nothing is forced that a link would make impossible."""
    verdicts = {}
    for id, d in graph.decisions.items():
        denied = d.kind != "op" or random.random() < 0.15
        verdicts[id] = FIXED if d.present is FLOAT16 else DENIED if denied or d.present is BFLOAT16 else FREE
    ties, implications = _pairs(random, graph.decisions, 0.1), _pairs(random, graph.decisions, 0.15)
    judgement = Judgement(FLOAT16, verdicts, ties, implications)
    for id in [id for id, verdict in verdicts.items() if verdict is FREE and random.random() < 0.1]:
        forced = replace(judgement, verdicts={**judgement.verdicts, id: FORCED})
        if _possible(graph, forced):
            judgement = forced
    return judgement


def _possible(graph: PrecisionGraph, judgement: Judgement) -> bool:
    low = {id for id, verdict in judgement.verdicts.items() if verdict.forced}
    links = [*judgement.implications]
    for a, b in (*graph.ties, *judgement.ties):
        links += (a, b), (b, a)
    while more := {b for a, b in links if a in low} - low:
        low |= more
    return all(judgement.verdicts[id].legal for id in low)


def _costs(random: Random, graph: PrecisionGraph, largest: int) -> Costs:
    def draw(ids: object) -> dict[str, int]:
        return {id: random.randint(0, largest) for id in ids}  # type: ignore[attr-defined]

    produced = [value.id for value in graph.values.values() if value.producer]
    constants = [value.id for value in graph.values.values() if not value.producer]
    prices = (draw(graph.decisions), draw(graph.decisions), draw(produced), draw(produced))
    return Costs("picoseconds", *prices, draw(constants), draw(constants))


def long_chain(size: int) -> Problem:
    """Ops in a row, each with a weight, one in fifty denied; casts cost about what an op can save."""
    random, ids = Random(size), [f"n{number}:T" for number in range(size)]
    values = {id: Value(id, id, "", "float32", shape=(4,), producer=id) for id in ids}
    values |= {f"w{id}": Value(f"w{id}", f"w{id}", "", "float32", constant=Constant(4, 0.0, 1.0, 0.5)) for id in ids}
    uses = [Use(f"w{id}", id, id, 1, "") for id in ids] + [Use(a, b, b, 0, "") for a, b in pairwise(ids)]
    graph = PrecisionGraph("onnx", {"": 21}, SCOPES, values, {}, {id: decision(id) for id in ids}, tuple(uses))
    verdicts = {id: DENIED if random.random() < 0.02 else FREE for id in ids}
    return Problem(graph, Judgement(FLOAT16, verdicts), _costs(random, graph, 1000))


@st.composite
def problems(draw: st.DrawFn, most: int = 8) -> Problem:
    """Problems of up to `most` op decisions."""
    size = draw(st.integers(1, most))
    seed, nested = draw(st.integers(0, 1 << 32)), draw(st.booleans())
    return random_problem(Random(seed), size, nested=nested, largest=draw(st.sampled_from([3, 12, 100])))


def lawful_assignments(problem: Problem) -> list[frozenset[str]]:
    """Every assignment that verdicts and links admit, by enumeration."""
    graph, judgement = problem.graph, problem.judgement
    fixed = frozenset(id for id, d in graph.decisions.items() if d.present is FLOAT16)
    free = [
        id
        for id, d in graph.decisions.items()
        if d.is_open(FLOAT16) and judgement.verdicts[id].legal and d.kind == "op"
    ]
    found = []
    for bits in range(1 << len(free)):
        low = fixed | {id for place, id in enumerate(free) if bits >> place & 1}
        if all(id in low for id in free if judgement.verdicts[id].forced) and _linked(problem, low):
            found.append(low)
    return found


def _linked(problem: Problem, low: frozenset[str]) -> bool:
    ties = (*problem.graph.ties, *problem.judgement.ties)
    agree = all((a in low) == (b in low) for a, b in ties)
    return agree and all(b in low for a, b in problem.judgement.implications if a in low)
