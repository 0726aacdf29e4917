"""Time of the cut, the plan and its laws on synthetic graphs. Run: python benchmarks/solve.py [SIZE ...]"""

from __future__ import annotations

import gc
import sys
import time
from collections.abc import Callable, Iterator
from itertools import pairwise, product
from random import Random

from ampgraph.costs import Costs
from ampgraph.decide import decide
from ampgraph.graph import Constant, Decision, Op, PrecisionGraph, Scope, Slot, Use, Value
from ampgraph.judgement import Category, Cause, Judgement, Verdict
from ampgraph.laws import verify
from ampgraph.plan import make_plan
from ampgraph.precision import Precision

Inputs = list[int]  # numbers of the earlier ops that an op reads
Problem = tuple[PrecisionGraph, Judgement, Costs]

FREE = Verdict(True, Category.ALLOW, Cause.RULE, "allowed")
DENIED = Verdict(False, Category.DENY, Cause.RULE, "denied")


def chain(size: int, random: Random) -> Iterator[Inputs]:
    for number in range(size):
        yield [number - 1] if number else []


def residual(size: int, random: Random) -> Iterator[Inputs]:
    """Blocks of seven ops whose last adds the block's input."""
    for number in range(size):
        around = [number - 7] if number % 7 == 0 and number else []
        yield ([number - 1] if number else []) + around


def transformer(size: int, random: Random) -> Iterator[Inputs]:
    """Blocks of twelve: norm, three projections, attention, projection, add, norm, two layers with gelu, add."""
    shape = [[-1], [-1], [-2], [-3], [-3, -2], [-1, -3], [-1], [-1, -8], [-1], [-1], [-1], [-1, -4]]
    for number in range(size):
        yield [number + back for back in shape[number % 12] if number + back >= 0]


def tangle(size: int, random: Random) -> Iterator[Inputs]:
    """Two inputs each, from the last fifty ops."""
    for number in range(size):
        yield [random.randrange(max(0, number - 50), number) for _ in range(2)] if number else []


SHAPES: tuple[Callable[[int, Random], Iterator[Inputs]], ...] = (chain, residual, transformer, tangle)

CASTS = (("cheap", 1_000_000, True), ("dear", 8_000_000, True), ("dear, uneven", 8_000_000, False))


def build(shape: Callable[[int, Random], Iterator[Inputs]], size: int, cast: int, *, even: bool) -> Problem:
    """Op prices differ by up to 10; casts cost around `cast`; one op in fifty is denied."""
    random = Random(size)
    decisions: dict[str, Decision] = {}
    values: dict[str, Value] = {}
    ops: dict[str, Op] = {}
    uses: list[Use] = []
    for number, inputs in enumerate(shape(size, random)):
        name, id = f"n{number}", f"n{number}:T"
        decisions[id] = Decision(id, name, "T", "op", Precision.FLOAT32, frozenset(Precision))
        values[f"w{number}"] = Value(f"w{number}", f"w{number}", "", "float32", constant=Constant(1, 1.0, 1.0, 1.0))
        values[f"v{number}"] = Value(f"v{number}", f"v{number}", "", "float32", shape=(4,), producer=id, op=name)
        taken = [f"v{other}" for other in inputs] + [f"w{number}"]
        uses += (Use(value, id, name, slot, "") for slot, value in enumerate(taken))
        slots = tuple(Slot(value, "X", id) for value in taken)
        ops[name] = Op(name, name, "Op", 1, "", slots, (Slot(f"v{number}", "Y", id),))
    graph = PrecisionGraph("onnx", {"": 21}, {"": Scope("", None, "", 1.0)}, values, ops, decisions, tuple(uses))
    verdicts = {id: DENIED if random.random() < 0.02 else FREE for id in decisions}
    high = {id: random.randint(0, 10_000_000) for id in decisions}
    low = {id: random.randint(0, 10_000_000) for id in decisions}
    up = {f"v{number}": random.randint(cast // 2, 2 * cast) for number in range(size)}
    down = up if even else {f"v{number}": random.randint(cast // 2, 2 * cast) for number in range(size)}
    return graph, Judgement(Precision.FLOAT16, verdicts), Costs("picoseconds", high, low, down, up, {}, {})


def timings(problem: Problem) -> tuple[list[float], int]:
    """Seconds of decide, make_plan and verify, and how many decisions are low."""
    graph, judgement, costs = problem
    marks = [time.process_time()]
    low = decide(graph, judgement, costs)
    marks.append(time.process_time())
    plan = make_plan(graph, judgement, costs, low, "speed")
    marks.append(time.process_time())
    verify(graph, judgement, plan, costs)
    marks.append(time.process_time())
    return [after - before for before, after in pairwise(marks)], len(low)


def main() -> None:
    sizes = [int(word) for word in sys.argv[1:]] or [5_000, 50_000]
    gc.disable()  # as conversion does
    timings(build(chain, 50, 10, even=True))  # imports
    print("processor seconds")
    print(f"{'graph':12} {'casts':>18} {'ops':>7} {'low':>7} {'decide':>8} {'plan':>8} {'laws':>8} {'total':>8}")
    for shape, (name, cast, even), size in product(SHAPES, CASTS, sizes):
        seconds, low = timings(build(shape, size, cast, even=even))
        cells = " ".join(f"{each:8.3f}" for each in (*seconds, sum(seconds)))
        print(f"{shape.__name__:12} {name:>18} {size:7} {low:7} {cells}", flush=True)


if __name__ == "__main__":
    main()
