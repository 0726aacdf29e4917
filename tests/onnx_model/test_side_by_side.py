"""`ampgraph.compare` on models with a planted flaw, in every kind of body, and on what needs care to be matched."""

import shlex
from pathlib import Path

import ml_dtypes
import numpy as np
import onnx
import pytest
from hypothesis import given
from onnx import ModelProto, numpy_helper

import ampgraph
from ampgraph.errors import ModelError, OptionError
from ampgraph.inspection.comparison import Comparison, Difference
from ampgraph.onnx_model.check import tolerance
from ampgraph.onnx_model.compare import compare as compare_outputs
from ampgraph.onnx_model.run import CPU, best_provider
from ampgraph.onnx_model.simulate import simulate
from ampgraph.precision import Precision
from tests.models import W, casts, parse
from tests.models import convert as convert_with
from tests.onnx_model.test_properties import RELAXED, feeds_of, models

PLANTED = """
    big = Constant<value = float {300.0}>()
    small = Constant<value = float {1.1e-05}>()
    plant_first = Mul({source}, big)
    plant_second = Mul(plant_first, big)
    plant_back = Mul(plant_second, small)
"""
FLUSHED = """
    small = Constant<value = float {1e-04}>()
    big = Constant<value = float {1000.0}>()
    plant_first = Mul({source}, small)
    plant_second = Mul(plant_first, small)
    plant_third = Mul(plant_second, big)
    plant_back = Mul(plant_third, big)
"""
FEEDS = {"x": np.linspace(0.5, 4, 4, dtype=np.float32), "c": np.array(True), "n": np.array(3)}


def planted(where: str, flaw: str = PLANTED) -> ModelProto:
    """A model that scales up and down again in its main graph, a taken branch, a Loop or a Scan."""
    inner = flaw.replace("{source}", "x")
    step = flaw.replace("{source}", "a")
    graphs = {
        "main": f"{inner} y = Identity(plant_back)",
        "If": f"y = If(c)<then_branch = t () => (float[4] p) {{ {inner} p = Identity(plant_back) }},"
        "else_branch = e () => (float[4] q) { q = Neg(x) }>",
        "Loop": 'y = Loop(n, "", x)<body = b (int64 i, bool g, float[4] a) => (bool h, float[4] p)'
        f"{{ h = Identity(g) {step} p = Identity(plant_back) }}>",
        "Scan": "rows = Expand(x, size) y, all = Scan<num_scan_inputs = 1,"
        f"body = b (float[4] s, float[4] a) => (float[4] p, float[4] r) {{ {step} p = Add(s, plant_back) r = Neg(p) }}"
        ">(x, rows)",
        "Loop in If": 'y = If(c)<then_branch = t () => (float[4] p) { p = Loop(n, "", x)'
        "<body = b (int64 i, bool g, float[4] a) => (bool h, float[4] o)"
        f"{{ h = Identity(g) {step} o = Identity(plant_back) }}> }},"
        "else_branch = e () => (float[4] q) { q = Neg(x) }>",
        "If in Loop": 'y = Loop(n, "", x)<body = b (int64 i, bool g, float[4] a) => (bool h, float[4] p)'
        "{ h = Identity(g) one = Constant<value = int64 {1}>() late = Greater(i, one) p = If(late)"
        f"<then_branch = t () => (float[4] o) {{ {step} o = Identity(plant_back) }},"
        "else_branch = e () => (float[4] q) { q = Identity(a) }> }>",
    }
    more = "<int64[2] size = {2, 4}>" if where == "Scan" else ""
    model = parse(f"g (float[4] x, bool c, int64 n) => (float[4] y) {more} {{ {graphs[where]} }}")
    for number, node in enumerate(_named(model)):
        node.name = f"node {number}/{node.op_type}"
    return model


def _named(model: ModelProto) -> list[onnx.NodeProto]:
    from ampgraph.onnx_model.names import walk

    return list(walk(model.graph))


def lowered(model: ModelProto, **options: str) -> ModelProto:
    """Everything low that may be, against all rules."""
    return convert_with(model, low="Mul", **options).model


def difference(found: Comparison, id: str) -> Difference:
    return next(value for value in found.values if value.value == id)


WHERE = ("main", "If", "Loop", "Scan", "Loop in If", "If in Loop")


@pytest.mark.parametrize("where", WHERE)
def test_a_planted_overflow_is_named(where: str) -> None:
    source = planted(where)
    found = ampgraph.compare(source, lowered(source), FEEDS, provider="cpu")
    assert found.ran == "evaluator"
    overflow = difference(found, found.first_overflow)
    assert overflow.name == "plant_second"
    assert overflow.type == "Mul"
    assert overflow.overflowed > 0
    assert overflow.overflowed < overflow.elements  # 0.5 * 300 * 300 fits
    assert overflow.found == np.inf
    assert 65504 < overflow.reference < 4e6
    assert found.first_beyond == found.first_overflow
    assert not found.within
    (advice,) = [each for each in found.advice if each.value == found.first_overflow]
    assert advice.keep == (overflow.node,)
    assert "float16" in advice.why


@pytest.mark.parametrize("where", WHERE)
def test_a_planted_flush_to_zero_is_named(where: str) -> None:
    source = planted(where, FLUSHED)
    found = ampgraph.compare(source, lowered(source), FEEDS, provider="cpu")
    flush = difference(found, found.first_flush)
    assert flush.name == "plant_second"
    assert flush.flushed > 0
    assert not found.first_overflow


@pytest.mark.parametrize("where", WHERE)
def test_what_is_advised_mends_it(where: str) -> None:
    source = planted(where)
    low = lowered(source)
    for _ in range(2):  # the product, then what reads it: together they are beyond float16
        found = ampgraph.compare(source, low, FEEDS, provider="cpu")
        (remedy,) = {each.remedy for each in found.advice if each.value == found.first_overflow}
        words = _words(remedy)
        low = convert_with(source, low=words["--low"], keep=words["--keep"]).model
    assert ampgraph.compare(source, low, FEEDS, provider="cpu").first_overflow == ""


def _words(command: str) -> dict[str, str]:
    """The options of `ampgraph convert MODEL ...`."""
    words = shlex.split(command)[3:]
    return dict(zip(words[::2], words[1::2], strict=True))


def test_an_index_in_a_loop_begins_with_the_step() -> None:
    source = planted("If in Loop")
    found = ampgraph.compare(source, lowered(source), {**FEEDS, "n": np.array(5)}, provider="cpu")
    overflow = difference(found, found.first_overflow)
    assert overflow.elements == 3 * 4  # the branch is taken in three of five steps
    assert overflow.at == (2, 1)


def test_values_of_a_branch_that_is_not_taken_are_said_to_be_left_out() -> None:
    source = planted("If")
    found = ampgraph.compare(source, lowered(source), {**FEEDS, "c": np.array(False)}, provider="cpu")
    assert found.within
    assert not found.first_overflow
    assert any("branches that these inputs do not take" in note for note in found.notes)


def test_a_model_agrees_with_itself_to_the_last_bit() -> None:
    for where in WHERE:
        low = lowered(planted(where))
        found = ampgraph.compare(low, low, FEEDS, provider="cpu")
        assert all(value.relative == 0 for value in (*found.values, *found.outputs))
        assert found.worst == ()
        assert found.unmatched == 0


@pytest.mark.parametrize("where", WHERE)
def test_the_low_model_may_come_first(where: str) -> None:
    source = planted(where)
    found = ampgraph.compare(lowered(source), source, FEEDS, provider="cpu")
    assert not found.first_overflow  # the second model is finite throughout
    bad = difference(found, found.first_beyond)
    assert bad.name == "plant_second"
    assert "first model only" in bad.mismatch


def test_inputs_have_the_shapes_that_a_model_was_converted_for() -> None:
    source = parse(f"g (float[N, 4] x) => (float[N, 4] y) <{W}> {{ y = MatMul(x, w) }}")
    low = convert_with(source, shapes={"x": (7, 4)}).model
    for pair in ((source, low), (low, source)):
        found = ampgraph.compare(*pair, provider="cpu")
        assert (found.inputs, found.shapes) == ("generated", {"x": (7, 4)})
    assert ampgraph.compare(source, low, shapes={"x": (3, 4)}, provider="cpu").shapes == {"x": (3, 4)}
    given = ampgraph.compare(source, low, {"x": np.ones((2, 4), np.float32)}, provider="cpu")
    assert (given.inputs, given.shapes) == ("given", {"x": (2, 4)})


def test_every_value_of_a_converted_model_has_its_counterpart() -> None:
    """Casts stand for what they cast, and what gave its name to an output's cast keeps its counterpart."""
    source = parse(f"g (float[2, 4] x) => (float[2, 4] y) <{W}> {{ h = MatMul(x, w) r = Relu(h) y = MatMul(r, w) }}")
    low = convert_with(source).model
    assert len(casts(low)) == 2
    found = ampgraph.compare(source, low, provider="cpu")
    assert found.unmatched == 0
    assert [value.name for value in found.values] == ["x_float16", "h", "r", "y_float16", "y"]
    assert found.within
    assert all(0 < value.relative < 1e-2 for value in found.values)


def test_a_cast_that_overflows_is_named_itself() -> None:
    source = parse(f"g (float[1, 4] x) => (float[1, 4] y) <{W}> {{ y = MatMul(x, w) }}")
    low = convert_with(source).model
    found = ampgraph.compare(source, low, {"x": np.array([[1, 2, 3, 1e5]], np.float32)}, provider="cpu")
    assert found.first_overflow == "x_float16"
    assert difference(found, "x_float16").at == (0, 3)
    (advice,) = [each for each in found.advice if each.value == "x_float16"]
    assert [found.values[1].node] == list(advice.keep)  # the product that reads it


def test_low_interfaces_and_half_precision_inputs_are_fed_alike() -> None:
    source = parse(f"g (float[2, 4] x) => (float[2, 4] y) <{W}> {{ y = MatMul(x, w) }}")
    low = convert_with(source, io="low").model
    for pair in ((source, low), (low, source)):
        found = ampgraph.compare(*pair, {"x": np.ones((2, 4), np.float32)}, provider="cpu")
        assert found.within
        assert found.outputs[0].mismatch == ""
        assert 0 < found.outputs[0].relative < 1e-2


def test_bfloat16_is_compared_as_it_is() -> None:
    source = parse(f"g (float[2, 4] x) => (float[2, 4] y) <{W}> {{ h = MatMul(x, w) y = MatMul(h, w) }}")
    found = ampgraph.compare(source, convert_with(source, precision="bfloat16").model, provider="cpu")
    assert found.within
    assert found.tolerance == tolerance(Precision.BFLOAT16)
    assert found.runtime.startswith("bfloat16 evaluator on the CPU")
    plain = ampgraph.compare(source, source, provider="cpu")
    assert plain.tolerance == tolerance(Precision.FLOAT16)
    assert plain.runtime.startswith("evaluator on the CPU")
    inner = difference(found, "h")
    assert float(np.float32(inner.found).astype(ml_dtypes.bfloat16)) == inner.found


def test_mask_constants_at_the_end_of_the_range_hide_nothing() -> None:
    source = parse(
        "g (float[4] x, bool[4] m) => (float[4] y) <float low = {-3.4028235e38}>"
        "{ masked = Where(m, x, low) y = Softmax(masked) }"
    )
    low = convert_with(source, low="Where|Softmax").model
    feeds = {"x": np.arange(4, dtype=np.float32), "m": np.array([True, False, True, True])}
    found = ampgraph.compare(source, low, feeds, provider="cpu")
    masked = difference(found, "masked")
    assert masked.clamped == 1
    assert masked.relative == 0
    assert found.within


def test_sequences_are_compared_element_by_element() -> None:
    source = parse(
        "g (float[4] x) => (seq(float[N]) s, float[2] y) "
        "{ s = SplitToSequence<axis = 0>(x, two) i = Constant<value = int64 {1}>() y = SequenceAt(s, i) }"
        .replace("{ s =", "{ two = Constant<value = int64 {2}>() s =")
    )  # fmt: skip
    found = ampgraph.compare(source, source, provider="cpu")
    assert [value.name for value in found.values] == ["s", "y"]
    assert [output.name for output in found.outputs] == ["s[0]", "s[1]", "y"]
    assert found.values[0].elements == 4
    assert found.within


def test_shapes_and_outputs_that_differ_are_said() -> None:
    first = parse("g (float[4] x) => (float[4] y, float[4] z) { y = Neg(x) z = Abs(x) }")
    second = parse("g (float[4] x) => (float[2, 2] y) <int64[2] s = {2, 2}> { h = Neg(x) y = Reshape(h, s) }")
    found = ampgraph.compare(first, second, provider="cpu")
    said = {output.name: output.mismatch for output in found.outputs}
    assert said == {"y": "shape 2x2 instead of 4", "z": "missing"}
    assert found.unmatched == 1
    assert not found.within


def test_external_data_and_files(tmp_path: Path) -> None:
    source = parse(f"g (float[2, 4] x) => (float[2, 4] y) <{W}> {{ h = MatMul(x, w) y = MatMul(h, w) }}")
    for tensor in source.graph.initializer:  # only raw data can lie outside
        tensor.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(tensor), tensor.name))
    paths = tmp_path / "a.onnx", tmp_path / "b.onnx"
    onnx.save_model(source, paths[0], save_as_external_data=True, location="a.data", size_threshold=0)
    ampgraph.convert(paths[0], paths[1], objective="coverage", target="onnx")
    np.savez(tmp_path / "in.npz", x=np.ones((2, 4), np.float32))
    found = ampgraph.compare(*paths, tmp_path / "in.npz", provider="cpu")
    assert (found.reference, found.candidate) == ("a.onnx", "b.onnx")
    assert found.within
    assert len(found.values) == 4
    paths[0].with_name("a.data").unlink()
    with pytest.raises(ModelError, match="missing"):
        ampgraph.compare(*paths, provider="cpu")


def test_mistakes_are_one_line() -> None:
    first = parse("g (float[4] x) => (float[4] y) { y = Neg(x) }")
    other = parse("g (float[4] z) => (float[4] y) { y = Neg(z) }")
    with pytest.raises(ModelError, match="the input 'x' is of g alone; compare models that take the same inputs"):
        ampgraph.compare(first, other)
    with pytest.raises(OptionError, match=r"^provider tpu"):
        ampgraph.compare(first, first, provider="tpu")
    for each in (float("nan"), -1, "x"):
        with pytest.raises(OptionError, match=f"^tolerance {each!r}: is no error"):
            ampgraph.compare(first, first, tolerance=each)
    with pytest.raises(OptionError, match="has no array for the input 'x'"):
        ampgraph.compare(first, first, {})
    with pytest.raises(OptionError, match="--shape q"):
        ampgraph.compare(first, first, shapes={"q": (1,)})
    with pytest.raises(OptionError, match="data: has 5x5 for 'x', which is 4; give an array like it"):
        ampgraph.compare(first, first, {"x": np.ones((5, 5), np.float32)})
    if best_provider() == "CPUExecutionProvider":
        with pytest.raises(OptionError, match="CUDA does not open here"):
            ampgraph.compare(first, first, provider="cuda")


@pytest.mark.skipif(best_provider() == "CPUExecutionProvider", reason="needs a GPU")
@pytest.mark.parametrize("where", WHERE)
def test_cuda_names_the_same_value(where: str) -> None:
    source = planted(where)
    found = ampgraph.compare(source, lowered(source), FEEDS, provider="cuda")
    assert found.ran == "cuda"
    assert difference(found, found.first_overflow).name == "plant_second"


@RELAXED
@given(models())
def test_any_model_is_compared_in_full(model: ModelProto) -> None:
    """With itself it agrees to the last bit; every value of its conversion is compared, and outputs as by the check."""
    feeds = feeds_of(model)
    itself = ampgraph.compare(model, model, feeds, provider="cpu")
    assert all(value.relative == 0 and value.within for value in (*itself.values, *itself.outputs))
    assert itself.unmatched == 0
    low = convert_with(model).model
    found = ampgraph.compare(model, low, feeds, provider="cpu")
    assert found.unmatched == 0
    assert {value.name for value in itself.values} <= {value.name.removesuffix("_float16") for value in found.values}
    checked = compare_outputs(model, simulate(low), feeds, CPU)
    assert [output.relative for output in found.outputs] == pytest.approx(
        [error.relative for error in checked], rel=0.2, abs=1e-4
    )  # the check lets onnxruntime fuse


def test_batches_change_nothing() -> None:
    source = planted("If in Loop")
    low = lowered(source)
    whole = ampgraph.compare(source, low, FEEDS, provider="cpu")
    told: list[tuple[int, int]] = []
    single = ampgraph.compare(
        source, low, FEEDS, provider="cpu", most_bytes=1, progress=lambda done, total: told.append((done, total))
    )
    assert single == whole
    assert [done for done, _ in told] == list(range(len(whole.values) + 1))


def test_a_rank_that_changes_from_step_to_step_is_no_obstacle() -> None:
    """Sizes cannot be stacked then, and are gathered one by one."""
    source = parse(
        'g (float[4] x, int64 n) => (float[4] y) { y = Loop(n, "", x)'
        "<body = b (int64 i, bool g, float[4] a) => (bool h, float[4] p) { h = Identity(g) odd = Cast<to = 9>(i) "
        "s = If(odd)<then_branch = t () => (int64[A] u) { u = Constant<value = int64[2] {2, 2}>() },"
        "else_branch = e () => (int64[B] v) { v = Constant<value = int64[1] {4}>() }> "
        "shaped = Reshape(a, s) four = Constant<value = int64[1] {4}>() p = Reshape(shaped, four) }> }"
    )
    found = ampgraph.compare(source, source, {"x": FEEDS["x"], "n": np.array(3)}, provider="cpu")
    assert difference(found, next(value.value for value in found.values if value.name == "shaped")).elements == 12
    assert found.within
