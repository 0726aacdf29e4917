"""What the kept rows of the corpus say (`benchmarks/gpu_rows.py --corpus`): `python -m benchmarks.corpus_summary`.

Like with like, CUDA graphs and plain runs apart: the faster of float32 and TF32, ours in the session's own setting and
in the fastest, the fastest float16 peer whose answers are right. Errors are those of ours in its own setting and the
least of any such peer's, of all samples together and of the median sample. Then what the bars ask: nothing slower than
0.98 of the first, errors at most 1.25 times that peer's and 3e-2.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from benchmarks.gpu_onnx import FLOAT32, FOR_GRAPHS, OURS, TF32
from benchmarks.record import RESULTS, table

_HEADER = ("model", "way", "float32, TF32", "ours", "fastest", "peer", "error", "peer's", "median", "peer's")
_RIGHT = 3e-2  # relative L2: the tolerance
_SLOWER, _WORSE = 0.98, 1.25
Row = Mapping[str, Any]


@dataclass(frozen=True)
class Compared:
    """One model at one batch, as a CUDA graph or as plain runs."""

    key: str
    way: str
    source: Row
    own: Row
    fastest: Row
    peer: Row | None
    peer_error: float | None
    peer_median: float | None

    @property
    def speed(self) -> float:
        """Times as fast as the faster of float32 and TF32."""
        return float(self.source["ms"] / self.own["ms"])

    @property
    def median(self) -> float | None:
        """Our error on the median sample."""
        return self.own.get("sample_error")

    def line(self) -> list[Any]:
        """The line of the table."""
        peer = self.peer and self.peer["ms"]
        rows = (self.source, self.own, self.fastest)
        errors = (self.own["error"], self.peer_error, self.median, self.peer_median)
        return [self.key, self.way, *(row["ms"] for row in rows), peer, *errors]

    def less_exact(self) -> Iterator[str]:
        """Where errors are larger than the bar allows, in words."""
        pairs = (("all", self.own["error"], self.peer_error), ("the median", self.median, self.peer_median))
        for which, ours, theirs in pairs:
            if ours and theirs and ours > _WORSE * theirs:
                yield f"{self.key}, {self.way}, {which}: {ours:.1e} and {theirs:.1e}, {ours / theirs:.2f} times"


def compared(key: str, rows: Sequence[Row]) -> Iterator[Compared]:
    """A case in both ways, where it was measured so."""
    for way in ("graph", "plain"):
        found = [row for row in rows if row["setting"].startswith(way)]
        ours = [row for row in found if row["contender"] in (OURS, FOR_GRAPHS)]
        own = [row for row in ours if "default" in row["setting"].split() and "no tf32" not in row["setting"]]
        sources = [row for row in found if row["contender"] in (FLOAT32, TF32)]
        if not sources or not ours:
            continue
        others = [row for row in found if row not in ours and row not in sources]
        peers = [row for row in others if row["error"] <= _RIGHT]
        yield Compared(
            key,
            way,
            _least(sources),
            _least(own or ours),
            _least(ours),
            _least(peers) if peers else None,
            min((row["error"] for row in peers), default=None),
            min((each for row in peers if (each := row.get("sample_error")) is not None), default=None),
        )


def _least(rows: Sequence[Row]) -> Row:
    return min(rows, key=lambda row: row["ms"])


def main() -> None:
    """Print the table and what falls short."""
    figures = json.loads((RESULTS / "gpu_rows_corpus.json").read_text())["figures"]
    found = [each for key, kept in figures.items() for each in compared(key, kept["rows"])]
    print(table(_HEADER, [each.line() for each in found]))
    machines = sorted({kept["machine"].get("gpu", "") for kept in figures.values()})
    print(f"{len(figures)} cases on {', '.join(machines)}; {len(found)} comparisons")
    for each in found:
        if each.speed < _SLOWER:
            print(f"slower: {each.key}, {each.way}: {each.speed:.3f} times as fast")
        if each.own["error"] > _RIGHT:
            print(f"off: {each.key}, {each.way}: {each.own['error']:.1e}")
        for words in each.less_exact():
            print(f"less exact: {words}")


if __name__ == "__main__":
    main()
