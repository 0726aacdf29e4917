"""The summary of GPU rows: the columns, and figures of two runs set side by side by what both have."""

import pytest

from benchmarks.gpu_onnx import FOR_GRAPHS, TF32, TUNED
from benchmarks.gpu_rows import OWN_ONLY
from benchmarks.gpu_summary import compared, together

LIMITS = {"ampgraph_to_limit": 4.0, "ampgraph_tuned_to_limit": 2.0}


def kept(gpu: str = "H100", **times: float) -> dict[str, object]:
    names = {"tf32": (TF32, "graph"), "own": (FOR_GRAPHS, "graph nhwc default"), "best": (FOR_GRAPHS, "graph native")}
    names |= {"tuned": (TUNED, "graph recorded"), "peer": ("ort float16", "graph"), "torch": ("torch eager", "plain")}
    rows = [
        {"contender": names[key][0], "setting": names[key][1], "ms": ms, "error": 1e-3 * ms}
        for key, ms in times.items()
    ]
    modelled = {FOR_GRAPHS: {"source_ms": 2.0, "plan_ms": 1.0}}
    return {"machine": {"gpu": gpu}, "rows": rows, "summary": LIMITS, "modelled": modelled}


WHOLE = kept(tf32=4.0, own=2.0, best=1.6, peer=3.0, torch=2.4)


def test_a_whole_case_has_its_own_figures_in_every_column() -> None:
    (case,) = compared({"net b1": kept(tf32=4.0, own=2.0, best=1.6, tuned=1.5, peer=3.0, torch=2.4)})
    assert case.line() == ["net b1", 4.0, 2.0, 1.6, 1.5, 3.0, 2.4, 2.0, 1.5e-3, 3e-3]
    assert case.ratio("ONNX peer", "tuned") == 2.0
    (without,) = compared({"net b1": WHOLE})
    assert without.line()[4] is None
    assert without.line()[7] == 4.0
    assert together([without], "torch", "tuned") == "torch over tuned: not measured"


def test_ours_measured_later_is_marked_and_compared_by_tf32() -> None:
    """A machine that is a tenth slower in the second run makes nobody faster."""
    later = kept(tf32=4.4, own=2.2, best=1.76, tuned=1.65)
    (case,) = compared({"net b1": WHOLE, f"net b1{OWN_ONLY}": later})
    assert case.name == "net b1 *"
    assert case.line()[1:7] == [4.4, 2.2, 1.76, 1.65, 3.0, 2.4]
    assert case.ratio("ONNX peer", "tuned") == pytest.approx(2.0)
    assert case.ratio("torch", "own setting") == pytest.approx(1.2)
    assert case.ratio("TF32", "tuned") == pytest.approx(4.4 / 1.65)
    assert together([case], "ONNX peer", "tuned").endswith("geometric mean 2.000, at least 1 in 1 of 1")


def test_another_gpu_s_figures_are_not_set_beside_these() -> None:
    (case,) = compared({"net b1": WHOLE, f"net b1{OWN_ONLY}": kept("H200", tf32=3.0, own=1.0)})
    assert case.ours is case.whole
