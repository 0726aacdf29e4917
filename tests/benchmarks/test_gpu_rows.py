"""The GPU benchmark on what needs no GPU: a tiny network on the CPU, what is kept of it, and turns."""

import argparse
import json
import threading
import time
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

import ampgraph
from ampgraph.onnx_model.run import CPU, best_provider
from benchmarks import gpu_onnx, gpu_rows
from benchmarks.gpu_limits import Ceilings, Work, limits, work
from benchmarks.gpu_onnx import FLOAT32, FOR_GRAPHS, OURS, TF32, TUNED, Case
from benchmarks.gpu_rows import BEST, OWN_ONLY, Row, fastest, stale, summary
from benchmarks.gpu_timing import Contender, Turns, relative
from benchmarks.record import add

ROWS, INNER, OUTER = 4, 64, 32


@pytest.fixture
def case(tmp_path: Path) -> Case:
    text = f"g (float[batch, {INNER}] x) => (float[batch, {OUTER}] y) {{ y = MatMul(x, w) }}"
    graph = onnx.parser.parse_graph(text)
    weights = np.random.default_rng(0).standard_normal((INNER, OUTER)).astype(np.float32)
    graph.initializer.append(numpy_helper.from_array(weights, "w"))
    path = tmp_path / "tiny.onnx"
    onnx.save(onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 20)], ir_version=10), path)
    return Case("tiny", ROWS, path, {"x": np.ones((ROWS, INNER), np.float32)}, tmp_path)


def words(case: Case, **more: object) -> argparse.Namespace:
    """What the command line says, on the CPU."""
    given = ["--provider", "cpu", "--corpus", str(case.folder), "--result", "rows", "--result-dir", str(case.folder)]
    arguments = gpu_rows._parser().parse_args(given)
    vars(arguments).update(more)
    return arguments


def test_a_case_is_measured_and_added_to_the_file(case: Case, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("benchmarks.gpu_timing.SAMPLE", 1e-4)
    add("rows", {"other b1": {"batch": 1}}, case.folder)
    gpu_rows.run_case(case, "tiny b4", words(case, plain=True), Turns(), None)
    figures = json.loads((case.folder / "rows.json").read_text())["figures"]
    assert list(figures) == ["other b1", "tiny b4"]
    kept = figures["tiny b4"]
    assert {FLOAT32, TF32, FOR_GRAPHS, "ort float16"} <= {row["contender"] for row in kept["rows"]}
    assert kept["summary"]["best_onnx_peer"].startswith("ort float16")
    assert kept["machine"]["versions"]["onnx"]
    assert set(kept["not_there"]) == {"ort optimizer", "modelopt"}


def test_what_is_opened_more_than_once_is_one_row_of_all_its_samples(monkeypatch: pytest.MonkeyPatch):
    """Sessions that are alike differ: the middle of three is what to expect of one."""
    monkeypatch.setattr("benchmarks.gpu_timing.SAMPLE", 1e-4)
    slow = [Contender("b", "plain", lambda wait=wait: time.sleep(wait), bool, np.ones(1)) for wait in (0, 3e-3, 3e-3)]
    rows = gpu_rows.measured([Contender("a", "plain", lambda: None, bool, np.ones(1)), *slow])
    assert [(row.contender, row.setting) for row in rows] == [("a", "plain"), ("b", "plain")]
    assert rows[0].ms < 1 < rows[1].ms


def test_what_is_tuned_is_a_contender_with_the_setting_that_its_file_records(case: Case, monkeypatch):
    monkeypatch.setattr("benchmarks.gpu_timing.SAMPLE", 1e-4)
    gpu_rows.run_case(case, "tiny b4", words(case, tune_seconds=5.0), Turns(), None)
    kept = json.loads((case.folder / "rows.json").read_text())["figures"]["tiny b4"]
    (row,) = [row for row in kept["rows"] if row["contender"] == TUNED]
    assert kept["summary"]["ampgraph_tuned_ms"] == row["ms"]
    recorded = ampgraph.Session(case.path(TUNED), provider="cpu").recorded
    assert row["setting"].startswith("plain recorded" if recorded else "plain")
    assert " of " in row["note"]
    assert kept["summary"]["best_onnx_peer"].startswith("ort")


def test_tuning_waits_for_a_gpu_and_leaves_no_complaint_in_a_file(case: Case):
    if best_provider() != CPU:
        pytest.skip("there is a GPU")
    made = gpu_onnx.tuned(case, 5, "cuda", Turns())
    assert (made.path, made.failure) == (None, "there is no GPU here to tune on")
    assert not case.path(TUNED).with_suffix(".failed").exists()


def test_ours_alone_is_kept_beside_the_whole_case_until_that_is_measured_again(case: Case, monkeypatch):
    monkeypatch.setattr("benchmarks.gpu_timing.SAMPLE", 1e-4)
    whole, own = "tiny b4", f"tiny b4{OWN_ONLY}"
    assert gpu_rows._key(case, words(case, own_only=True)) == own
    add("rows", {whole: {"batch": 4}}, case.folder)
    gpu_rows.run_case(case, own, words(case, own_only=True, without_tune=True), Turns(), None)
    figures = json.loads((case.folder / "rows.json").read_text())["figures"]
    assert figures[whole] == {"batch": 4}
    assert {row["contender"] for row in figures[own]["rows"]} == {FLOAT32, TF32, FOR_GRAPHS}
    assert figures[own]["summary"]["best_peer"] is None
    add("rows", {whole: {"batch": 5}}, case.folder, stale([whole]))
    assert json.loads((case.folder / "rows.json").read_text())["figures"] == {whole: {"batch": 5}}
    add("rows", {whole: {}, own: {}}, case.folder, stale([whole, own]))  # of one file, measured in this order
    assert list(json.loads((case.folder / "rows.json").read_text())["figures"]) == [whole, own]


def test_conversions_are_made_once(case: Case, monkeypatch: pytest.MonkeyPatch):
    first = gpu_onnx.prepared(case)
    monkeypatch.setattr(gpu_onnx, "_WAYS", dict.fromkeys(gpu_onnx._WAYS))
    assert [made.path for made in gpu_onnx.prepared(case)] == [made.path for made in first]


def test_a_converter_that_fails_is_no_case_s_end(case: Case, monkeypatch: pytest.MonkeyPatch):
    def fail(_: Case) -> None:
        raise RuntimeError("cannot")

    monkeypatch.setattr(gpu_onnx, "_WAYS", {"bad": fail})
    for _ in range(2):  # the second time from the file
        assert gpu_onnx.prepared(case)[-1].failure == "RuntimeError: cannot"


def test_of_every_contender_the_faster_setting_counts():
    rows = [
        Row("peer", 3.0, 3.0, 3.0, 0.0, "graph"),
        Row("peer", 2.0, 2.0, 2.0, 0.0, "graph nhwc"),
        Row("peer", 5.0, 5.0, 5.0, 0.0, "plain"),
        Row(OURS, 2.0, 2.0, 2.0, 0.0, "graph default"),
        Row(OURS, 1.0, 1.0, 1.0, 0.0, "graph nhwc"),
    ]
    found = {(row.contender, row.setting): row.ms for row in fastest(rows)}
    assert found == {
        ("peer", "graph nhwc"): 2.0,
        ("peer", "plain"): 5.0,
        (OURS, "graph default"): 2.0,
        (BEST, "graph nhwc"): 1.0,
    }


def test_wrong_answers_make_no_peer():
    rows = [
        Row(OURS, 2.0, 2.0, 2.0, 0.0, "graph default"),
        Row("wrong", 1.0, 1.0, 1.0, 0.5, "graph"),
        Row("right", 4.0, 4.0, 4.0, 1e-3, "graph"),
        Row("torch eager", 3.0, 3.0, 3.0, 1e-3, "plain"),
    ]
    said = summary(rows, {"limit": 0.5})
    assert said["best_onnx_peer_ms"] == 4.0
    assert said["best_peer"] == "torch eager, plain"
    assert said["ampgraph_to_best_peer"] == pytest.approx(2 / 3)
    assert said["ampgraph_to_limit"] == 4.0
    assert said["ampgraph_best_ms"] is None


def test_work_and_limits(case: Case):
    planned = ampgraph.convert(case.source, shapes=case.shapes).planned
    found = work(planned, case.shapes)
    assert found.operations == 2 * ROWS * INNER * OUTER
    interface = 4 * ROWS * (INNER + OUTER)
    assert found.least_bytes == 2 * INNER * OUTER + interface
    assert found.moved_bytes == 4 * INNER * OUTER + interface  # left alone: float32
    assert limits(Work(2000, 30, 100), Ceilings(bandwidth=1e4, matrix_rate=1e6)) == {
        "compute": 2.0,
        "least_traffic": 3.0,
        "limit": 3.0,
        "plan_traffic": 10.0,
    }


def test_an_embedding_counts_the_rows_that_are_looked_up(tmp_path: Path):
    graph = onnx.parser.parse_graph("g (int64[3] x) => (float[3, 16] y) { y = Gather(w, x) }")
    graph.initializer.append(numpy_helper.from_array(np.ones((1000, 16), np.float32), "w"))
    model = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 20)])
    found = work(ampgraph.convert(model).planned, {"x": (3,)})
    assert found.least_bytes == 3 * 16 * 2 + 3 * 8 + 3 * 16 * 4


def test_an_answer_that_is_not_finite_is_infinitely_wrong():
    assert relative(np.ones(2), np.array([1.0, np.nan])) == float("inf")
    assert relative(np.ones(2), np.ones(3)) == float("inf")
    assert relative(np.ones(4), np.array([1.0, 1.0, 1.0, 0.0])) == 0.5


def test_who_measures_is_alone(tmp_path: Path):
    turns, events = Turns(tmp_path / "lock"), list[str]()
    inside, leave = threading.Event(), threading.Event()

    def open_models() -> None:
        with turns.opening():
            inside.set()
            leave.wait(10)
            events.append("opened")

    opener = threading.Thread(target=open_models)
    opener.start()
    assert inside.wait(10)
    with turns.opening():  # side by side
        pass
    measurer = threading.Thread(target=lambda: _alone(turns, events))
    measurer.start()
    leave.set()
    measurer.join(10)
    opener.join(10)
    assert events == ["opened", "measured"]


def _alone(turns: Turns, events: list[str]) -> None:
    with turns.alone():
        events.append("measured")
