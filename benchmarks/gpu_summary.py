"""What the kept rows of benchmarks/gpu_rows.py say together: `python -m benchmarks.gpu_summary`.

A table of ours beside the best peers, the geometric means of the ratios, and the rank correlation (Spearman) of
modelled and measured time over the plans that were measured: each network's source in TF32 and ours. "Tuned" is what a
user has after `convert --tune`; "own setting" and "best setting" are of the plan by the cost model.

Where ours was measured again without the peers (`--own-only`), its figures and TF32's are of that run, the peers' of
the run before, and the case is marked "*". What a peer takes to ours is then reckoned by TF32, which both runs have:
the peer's time over TF32's of its run against ours over TF32's of its own. What was measured again on another GPU is
left out.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from scipy.stats import spearmanr

from benchmarks.gpu_onnx import FOR_GRAPHS, TF32, TUNED
from benchmarks.gpu_rows import OWN_ONLY
from benchmarks.record import RESULTS, table

_HEADER = (
    "network", "TF32", "own setting", "best setting", "tuned", "ONNX peer", "torch", "of limit", "error",
    "peer's error",
)  # fmt: skip
Row = Mapping[str, Any]
Kept = Mapping[str, Any]


def least(rows: Sequence[Row], *names: str, own: bool = False) -> Row | None:
    """The fastest row of these contenders; `own`: in the session's own setting."""
    found = [row for row in rows if row["contender"].startswith(names)]
    found = [row for row in found if not own or ("default" in row["setting"] and "no tf32" not in row["setting"])]
    return min(found, key=lambda row: row["ms"], default=None)


def ms(row: Row | None) -> float | None:
    """Milliseconds of a row that may not be there."""
    return row and row["ms"]


@dataclass(frozen=True)
class Compared:
    """One network at one batch. `ours`: the run that our figures are of, which may be a later one than the peers'."""

    key: str
    whole: Kept
    ours: Kept

    @property
    def name(self) -> str:
        """The key, marked where ours is of another run."""
        return self.key if self.ours is self.whole else f"{self.key} *"

    @property
    def mine(self) -> Mapping[str, Row | None]:
        """Our rows by the column that they stand in."""
        rows = self.ours["rows"]
        own, best, tuned = least(rows, FOR_GRAPHS, own=True), least(rows, FOR_GRAPHS), least(rows, TUNED)
        return {"own setting": own, "best setting": best, "tuned": tuned}

    @property
    def theirs(self) -> Mapping[str, Row | None]:
        """The peers' and the source's rows by column."""
        rows = self.whole["rows"]
        tf32 = least(self.ours["rows"], TF32)
        return {"TF32": tf32, "ONNX peer": least(rows, "ort", "modelopt"), "torch": least(rows, "torch")}

    def ratio(self, peer: str, mine: str) -> float | None:
        """Times as long as ours that a peer takes, None where either is not there."""
        theirs, ours = ms(self.theirs[peer]), ms(self.mine[mine])
        if theirs is None or ours is None:
            return None
        return theirs / ours * (1.0 if peer == "TF32" else self._drift())

    def _drift(self) -> float:
        """What TF32 takes in the run of our figures to what it takes in the peers'."""
        here, there = ms(least(self.ours["rows"], TF32)), ms(least(self.whole["rows"], TF32))
        assert here is not None  # every run has it
        assert there is not None
        return here / there

    def line(self) -> list[Any]:
        """The line of the table; limit and error are of what is tuned, where that was measured."""
        mine, theirs, summary = self.mine, self.theirs, self.ours["summary"]
        shown, peer = mine["tuned"] or mine["own setting"], theirs["ONNX peer"]
        limit = summary["ampgraph_tuned_to_limit" if mine["tuned"] else "ampgraph_to_limit"]
        times = [theirs["TF32"], *mine.values(), peer, theirs["torch"]]
        return [self.name, *map(ms, times), limit, shown and shown["error"], peer and peer["error"]]


def compared(figures: Mapping[str, Kept]) -> Iterator[Compared]:
    """The whole cases, with what was measured of ours alone since, where that was on such a GPU."""
    for key, whole in figures.items():
        if not key.endswith(OWN_ONLY):
            again = figures.get(f"{key}{OWN_ONLY}", whole)
            yield Compared(key, whole, again if _gpu(again) == _gpu(whole) else whole)


def _gpu(kept: Kept) -> str:
    return str(kept["machine"].get("gpu", ""))


def geometric(ratios: Sequence[float]) -> float:
    """Geometric mean."""
    return math.exp(sum(map(math.log, ratios)) / len(ratios))


def correlation(found: Sequence[Compared]) -> float:
    """Rank correlation of modelled and measured milliseconds."""
    pairs = []
    for case in found:
        said = case.ours["modelled"][FOR_GRAPHS]
        pairs.append((said["source_ms"], ms(case.theirs["TF32"])))
        pairs.append((said["plan_ms"], ms(case.mine["own setting"])))
    modelled, took = zip(*pairs, strict=True)
    return float(spearmanr(modelled, took).statistic)


def together(found: Sequence[Compared], peer: str, mine: str) -> str:
    """How many times as long a peer takes, over the cases that have both."""
    ratios = [ratio for case in found if (ratio := case.ratio(peer, mine)) is not None]
    if not ratios:
        return f"{peer} over {mine}: not measured"
    ahead = sum(ratio >= 1 for ratio in ratios)
    return f"{peer} over {mine}: geometric mean {geometric(ratios):.3f}, at least 1 in {ahead} of {len(ratios)}"


def main() -> None:
    """Print it all."""
    found = list(compared(json.loads((RESULTS / "gpu_rows.json").read_text())["figures"]))
    print(table(_HEADER, [case.line() for case in found]))
    if any(case.ours is not case.whole for case in found):
        print("* ours and TF32 are of a later run than the peers; their ratios go by TF32, which both runs have")
    for mine in ("own setting", "best setting", "tuned"):
        for peer in ("ONNX peer", "torch", "TF32"):
            print(together(found, peer, mine))
    print(f"rank correlation of modelled and measured time: {correlation(found):.3f} over {2 * len(found)} plans")


if __name__ == "__main__":
    main()
