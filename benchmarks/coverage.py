"""Is coverage honest? `python -m benchmarks.coverage [--corpus DIR]`.

Of the ops that a rule calls worth low precision (allow) and whose schema and kernel admit it, how many are float16
under the objective coverage; and for every one that is not, the reason it was given.
"""

from __future__ import annotations

import argparse
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import onnx

from ampgraph.conversion import Planned, plan_model
from ampgraph.judgement import Category, Cause
from ampgraph.onnx_model.io import Loaded
from ampgraph.options import Options
from benchmarks.backend_suite import cases
from benchmarks.record import keep, table

ADMITTED = (Cause.KERNEL, Cause.PIN)  # what neither schema nor kernel admits does not count


def models(corpus: Path | None) -> Iterator[tuple[str, onnx.ModelProto]]:
    """Backend tests, then the corpus."""
    for case in cases():
        yield "backend tests", case.model
    for path in sorted(corpus.glob("*.onnx")) if corpus else ():
        yield path.stem, onnx.load(path)


def tally(planned: Planned) -> Iterator[tuple[bool, str]]:
    """(is low, why it is not) of every allow decision that carries its op's time and could be low."""
    for key, verdict in planned.judgement.verdicts.items():
        decision = planned.graph.decisions[key]
        worth = verdict.category is Category.ALLOW and decision.principal and verdict.cause not in ADMITTED
        if worth and decision.is_open(planned.options.precision):
            choice = planned.plan.choices[key]
            low = choice.precision is planned.options.precision
            yield low, "" if low else f"{choice.cause}: {choice.why}"


def main() -> None:
    """Print a row per group and the reasons of those that stayed float32."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--corpus", type=Path)
    arguments = parser.parse_args()
    counts: dict[str, Counter[str]] = {}
    reasons: Counter[str] = Counter()
    for group, model in models(arguments.corpus):
        planned = plan_model(Loaded(model, Path()), Options(objective="coverage"))
        for low, why in tally(planned):
            counts.setdefault(group, Counter())["low" if low else "float32"] += 1
            if why:
                reasons[why] += 1
    rows = [[group, count["low"], count["low"] + count["float32"]] for group, count in counts.items()]
    low, worth = sum(row[1] for row in rows), sum(row[2] for row in rows)
    print(table(["models", "float16", "worth it and admitted"], [*rows, ["together", low, worth]]))
    print(f"{low / worth:.2%}")
    for why, times in reasons.most_common():
        print(f"{times:4}  {why}")
    print(keep("coverage", {"rows": rows, "share": low / worth, "reasons": dict(reasons)}))


if __name__ == "__main__":
    main()
