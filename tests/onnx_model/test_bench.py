"""Paired timing: statistics that are exact, inputs at a batch, and what the table, the JSON and the picture say."""

import json
from dataclasses import replace
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import onnx
import pytest

from ampgraph.errors import OptionError
from ampgraph.onnx_model import bench as timing
from ampgraph.onnx_model.bench import (
    Bench,
    Error,
    Row,
    Spread,
    Way,
    bench,
    describe,
    distinct_names,
    gains,
    interleaved,
    spread,
    worst_error,
)
from ampgraph.onnx_model.bench_text import COLUMNS, VERSION, figure, to_json, to_svg, to_table
from ampgraph.onnx_model.feeds import at_batch, batch_axes, batched, inputs_for
from ampgraph.onnx_model.memory import device_bytes, with_peak
from ampgraph.onnx_model.sources import as_loaded
from tests.small_models import classifier, parse, saved

MEBIBYTE = 2**20


def test_a_spread_is_the_median_and_the_quartiles() -> None:
    assert spread([5, 1, 2, 4, 3]) == Spread(3, 2, 4)
    assert spread([7]) == Spread(7, 7, 7)


def test_gains_are_paired_by_round() -> None:
    """A machine that is twice as slow in some rounds changes no gain."""
    assert gains([2, 4, 2], [1, 2, 1]) == Spread(2, 2, 2)
    assert gains([1, 1, 1], [2, 4, 1]).median == 0.5


def test_rounds_are_interleaved_and_begin_with_another_each() -> None:
    order: list[str] = []

    def step(name: str) -> float:
        order.append(name)
        return len(order)

    samples = interleaved([lambda: step("a"), lambda: step("b"), lambda: step("c")], 3)
    assert "".join(order) == "abcbcacab"
    assert samples == [[1, 6, 8], [2, 4, 9], [3, 5, 7]]


def test_the_worst_output_counts_and_infinities_are_a_mismatch() -> None:
    first = {"a": np.array([1.0, 1.0]), "b": np.array([10.0])}
    assert worst_error(first, first) == Error(0, 0)
    found = worst_error(first, {"a": np.array([1.0, 1.5]), "b": np.array([11.0])})
    assert found.relative == pytest.approx(0.5 / np.sqrt(2))
    assert (found.largest, found.mismatch) == (1, "")
    assert worst_error(first, {**first, "b": np.array([np.inf])}).mismatch == "b: 1 elements finite in one only"
    assert "shape (2,) instead of (1,)" in worst_error(first, {**first, "b": np.ones(2)}).mismatch


def test_the_batch_is_the_first_free_dimension_or_a_free_one_of_size_one() -> None:
    model = parse("""g (float[N, 3] x, float[2, M, 4] state, int64 rate, float[2, K] table, float[1, 5] fixed)
        => (float[N, 3] y) { y = Identity(x) }""")
    feeds = {
        "x": np.arange(6, dtype=np.float32).reshape(2, 3), "state": np.ones((2, 1, 4), np.float32),
        "rate": np.array(8), "table": np.ones((2, 7), np.float32), "fixed": np.ones((1, 5), np.float32),
    }  # fmt: skip
    axes = batch_axes(model, feeds)
    assert axes == {"x": 0, "state": 1}
    found = batched(feeds, 3, axes)
    np.testing.assert_array_equal(found["x"], [[0, 1, 2]] * 3)
    assert {name: value.shape for name, value in found.items()} == {
        "x": (3, 3), "state": (2, 3, 4), "rate": (), "table": (2, 7), "fixed": (1, 5),
    }  # fmt: skip


def test_inputs_come_from_shapes_or_a_file(tmp_path: Path) -> None:
    model = classifier()
    assert at_batch(model, inputs_for([as_loaded(model)], shapes={"image": (2, 8, 16, 16)}), 5)["image"].shape == (
        5,
        8,
        16,
        16,
    )
    given = np.ones((1, 8, 16, 16), np.float32)
    np.savez(tmp_path / "data.npz", image=given)
    read = inputs_for([as_loaded(model)], tmp_path / "data.npz")
    np.testing.assert_array_equal(at_batch(model, read, 2)["image"], np.repeat(given, 2, 0))


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ({"shapes": {"picture": (1,)}}, "--shape picture: is no input of the model; its inputs are image"),
        ({"batch": 4}, "--batch 4: no input of the model has a free batch axis"),
    ],
)
def test_inputs_that_do_not_fit(words: dict, expected: str) -> None:
    model = classifier()
    model.graph.input[0].type.tensor_type.shape.dim[0].dim_value = 1
    with pytest.raises(OptionError) as error:
        at_batch(model, inputs_for([as_loaded(model)], shapes=words.get("shapes")), words.get("batch", 0))
    assert str(error.value).startswith(expected)


def test_memory_at_the_peak_is_seen_even_when_given_back() -> None:
    made, taken = with_peak(lambda: np.ones(64 * MEBIBYTE, np.uint8).sum(), on_device=False)
    assert made == 64 * MEBIBYTE
    assert taken is None or 60 * MEBIBYTE < taken < 100 * MEBIBYTE
    _, little = with_peak(lambda: None, on_device=False)
    assert little is None or little < 20 * MEBIBYTE
    assert (device_bytes() is None) == (with_peak(lambda: None, on_device=True)[1] is None)


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> Bench:
    """A model, itself with a weight off by a thousandth, and one that does twenty times the work."""
    folder = tmp_path_factory.mktemp("bench")
    weight = np.random.default_rng(0).standard_normal((256, 256)).astype(np.float32) / 16
    once = parse("g (float[N, 256] x) => (float[N, 256] y) { y = MatMul(x, w) }", w=weight)
    off = parse("g (float[N, 256] x) => (float[N, 256] y) { y = MatMul(x, w) }", w=weight * np.float32(1.001))
    chain = " ".join(f"v{i + 1} = MatMul({'x' if i == 0 else f'v{i}'}, w)" for i in range(20))
    slow = parse(f"g (float[N, 256] x) => (float[N, 256] y) {{ {chain} y = MatMul(x, w) q = Add(v20, y) }}", w=weight)
    slow.graph.output.append(onnx.helper.make_tensor_value_info("q", onnx.TensorProto.FLOAT, ["N", 256]))
    paths = [
        saved(model, folder / name) for model, name in ((once, "once.onnx"), (off, "off.onnx"), (slow, "slow.onnx"))
    ]
    return bench(paths, (1, 32), rounds=3, way=Way(provider="cpu"))


def test_every_model_is_timed_at_every_batch_against_the_first(found: Bench) -> None:
    assert [(row.model, row.batch, row.shapes["x"][0]) for row in found.rows] == [
        (name, batch, batch) for batch in (1, 32) for name in ("once", "off", "slow")
    ]
    assert (found.provider, found.inputs, found.rounds) == ("CPUExecutionProvider", "generated", 3)
    for row in found.rows:
        assert 0 < row.ms.low <= row.ms.median <= row.ms.high
    for once, off, slow in (found.rows[:3], found.rows[3:]):
        assert (once.gain, once.error) == (Spread(1, 1, 1), Error(0, 0))
        assert off.error.relative == pytest.approx(1e-3, rel=1e-2)
        assert slow.error.mismatch == "q: not in the reference"
    assert found.rows[-1].gain.median < 0.6


def test_the_table_fits_a_hundred_columns(found: Bench) -> None:
    long = replace(
        found.rows[0], model="a_model_with_quite_a_name_" * 4 + "coverage", notes=("without a CUDA graph: no",)
    )
    graph = replace(found.rows[1], cuda_graph=True, memory=None)
    lines = to_table(replace(found, rows=(long, graph, found.rows[2]))).splitlines()
    assert max(map(len, lines[:5])) <= COLUMNS
    assert lines[0].split()[:3] == ["model", "batch", "ms"]
    assert "coverage" in lines[2]
    assert lines[3].endswith(" -")
    assert "differs" in lines[4]
    assert lines[5].endswith("coverage: without a CUDA graph: no")
    assert lines[6].startswith("slow: other answers than a_model")
    assert lines[6].endswith("(q: not in the reference)")
    assert lines[-1] == "as CUDA graphs: off"


def test_answers_without_a_number_are_no_error_of_zero(tmp_path: Path) -> None:
    body = "g (float[N, 4] x) => (float[N, 4] y) {{ a = Abs(x) n = {}(a) y = Sqrt(n) }}"
    paths = [saved(parse(body.format(way)), tmp_path / f"{way}.onnx") for way in ("Neg", "Round")]
    seen = bench(paths[:1] * 2, (1,), rounds=1, way=Way(provider="cpu"))
    assert [row.error.blank for row in seen.rows] == ["NaN or infinity throughout"] * 2
    table = to_table(seen)
    assert "1 interleaved round;" in table
    assert f"answers are not compared: {seen.rows[0].model} answers with NaN or infinity throughout" in table
    assert "--data" in table
    assert table.splitlines()[3].split()[-3:-1] == ["-", "-"]
    other = bench(paths, (1,), rounds=1, way=Way(provider="cpu"))
    assert "finite in one only" in other.rows[1].error.mismatch


def test_the_json_holds_every_field_and_no_infinity(found: Bench) -> None:
    content = json.loads(to_json(found))
    assert content["version"] == VERSION == 1
    row = content["rows"][2]
    assert set(row) == set(Row.__dataclass_fields__)
    assert set(row["ms"]) == {"median", "low", "high"}
    assert row["error"] == {"relative": None, "largest": None, "mismatch": "q: not in the reference", "blank": ""}
    assert content["rows"][1]["ms"]["median"] == found.rows[1].ms.median
    for name in Row.__dataclass_fields__:
        assert f"`{name}`" in (to_json.__doc__ or "")


def test_the_picture_has_a_bar_for_each_row_as_long_as_its_time(found: Bench) -> None:
    root = ElementTree.fromstring(to_svg(found))
    bars = [float(rect.get("width")) for rect in root.iter("{http://www.w3.org/2000/svg}rect") if rect.get("x")]
    expected = [row.ms.median for row in found.rows]
    np.testing.assert_allclose(np.array(bars) / max(bars), np.array(expected) / max(expected), atol=1e-2)
    words = [text.text for text in root.iter("{http://www.w3.org/2000/svg}text")]
    assert {"batch 1", "batch 32", "once", "off", "slow"} <= set(words)
    assert float(root.get("height")) > 6 * 18


def test_names_tell_models_of_one_file_name_apart() -> None:
    assert distinct_names([Path("a/m.onnx"), Path("b/m.onnx"), Path("b/n.onnx")]) == ("a/m", "b/m", "n")


@pytest.mark.parametrize("wrong", [{"rounds": 0}, {"batches": (1, 0)}])
def test_senseless_numbers_are_refused(wrong: dict, tmp_path: Path) -> None:
    with pytest.raises(OptionError):
        bench([saved(classifier(), tmp_path / "m.onnx")], **wrong)


def test_figures_show_what_matters() -> None:
    assert [figure(value) for value in (0, 1.23456, 123.456, 0.00012345)] == ["0", "1.23", "123", "0.000123"]
    assert describe(np.array([1.0, 3.0], np.float16)) == ("1", "3", "2")
    assert describe(np.ones((0, 2))) == describe(np.array(["a"])) == ("-", "-", "-")
    assert timing.ROUNDS > 1
