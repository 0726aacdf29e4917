"""What the kept rows of benchmarks/gpu_rows.py say together: `python -m benchmarks.gpu_summary`.

A table of ours beside the best peers, the geometric means of the ratios, and the rank correlation (Spearman) of
modelled and measured time over the plans that were measured: each network's source in TF32 and ours.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from typing import Any

from scipy.stats import spearmanr

from benchmarks.gpu_onnx import FOR_GRAPHS, TF32
from benchmarks.record import RESULTS, table

_HEADER = ("network", "TF32", "ampgraph", "best setting", "ONNX peer", "torch", "of limit", "error", "peer's error")
Row = Mapping[str, Any]


def least(rows: Sequence[Row], *names: str, own: bool = False) -> Row | None:
    """The fastest row of these contenders; `own`: in the session's own setting."""
    found = [row for row in rows if row["contender"].startswith(names)]
    found = [row for row in found if not own or ("default" in row["setting"] and "no tf32" not in row["setting"])]
    return min(found, key=lambda row: row["ms"], default=None)


def ms(row: Row | None) -> float | None:
    """Milliseconds of a row that may not be there."""
    return row and row["ms"]


def line(case: str, kept: Mapping[str, Any]) -> list[Any]:
    """One network at one batch."""
    rows = kept["rows"]
    ours, tuned = least(rows, FOR_GRAPHS, own=True), least(rows, FOR_GRAPHS)
    onnx, torch = least(rows, "ort", "modelopt"), least(rows, "torch")
    limit = kept["summary"]["ampgraph_to_limit"]
    errors = [ours and ours["error"], onnx and onnx["error"]]
    return [case, ms(least(rows, TF32)), ms(ours), ms(tuned), ms(onnx), ms(torch), limit, *errors]


def geometric(ratios: Sequence[float]) -> float:
    """Geometric mean."""
    return math.exp(sum(map(math.log, ratios)) / len(ratios))


def correlation(figures: Mapping[str, Mapping[str, Any]]) -> float:
    """Rank correlation of modelled and measured milliseconds."""
    pairs = []
    for kept in figures.values():
        said = kept["modelled"][FOR_GRAPHS]
        pairs.append((said["source_ms"], ms(least(kept["rows"], TF32))))
        pairs.append((said["plan_ms"], ms(least(kept["rows"], FOR_GRAPHS, own=True))))
    modelled, took = zip(*pairs, strict=True)
    return float(spearmanr(modelled, took).statistic)


def main() -> None:
    """Print it all."""
    figures = json.loads((RESULTS / "gpu_rows.json").read_text())["figures"]
    lines = [line(case, kept) for case, kept in figures.items()]
    print(table(_HEADER, lines))
    columns = dict(zip(_HEADER, zip(*lines, strict=True), strict=True))
    for ours in ("ampgraph", "best setting"):
        for peer in ("ONNX peer", "torch", "TF32"):
            ratios = [theirs / mine for theirs, mine in zip(columns[peer], columns[ours], strict=True)]
            ahead = sum(ratio >= 1 for ratio in ratios)
            print(f"{peer} over {ours}: geometric mean {geometric(ratios):.3f}, at least 1 in {ahead} of {len(ratios)}")
    print(f"rank correlation of modelled and measured time: {correlation(figures):.3f} over {2 * len(figures)} plans")


if __name__ == "__main__":
    main()
