import numpy as np
import onnx
import onnxruntime as ort
import pytest

from ampgraph.errors import ModelError
from ampgraph.fusable import absorbed
from ampgraph.kernels import onnxruntime_cuda
from ampgraph.measured import class_of
from ampgraph.onnx_model.lift import lift
from ampgraph.onnx_model.names import node_ids, walk
from ampgraph.onnx_model.profile import Settings, profile
from ampgraph.onnx_model.run import CPU
from ampgraph.onnx_model.single_op import cast_model, channels_last, known_tensors, low_variables, single_op
from ampgraph.onnx_model.sources import as_loaded
from ampgraph.onnx_model.timing import Memory, Pace, measure, open_timed
from ampgraph.onnx_model.types import infer, modelled_inputs
from ampgraph.precision import Precision
from tests.small_models import classifier, parse, random, saved

FLOAT32, FLOAT16, BFLOAT16 = Precision
QUICK = Settings(CPU, pace=Pace(1, 1e-4), cast_sizes=(64, 4096))
COPIES = 5


def singles(model: onnx.ModelProto, precision: Precision, shapes=None):
    """Every op that has a shape class, as a model of its own."""
    graph = lift(model, shapes)
    nodes = dict(zip(node_ids(model.graph).values(), walk(model.graph), strict=True))
    known = known_tensors(model, infer(model, modelled_inputs(model, shapes or {})))
    for op in graph.ops.values():
        low = frozenset() if precision is FLOAT32 else low_variables(op, graph, precision, onnxruntime_cuda())
        if class_of(op, graph) and low is not None:
            yield op, single_op(op, nodes[op.id], graph, known, precision, low, COPIES)


def kept_nodes(model: onnx.ModelProto, path, level=ort.GraphOptimizationLevel.ORT_ENABLE_ALL) -> list[str]:
    """Op types of the graph that onnxruntime runs, opened as the profiler opens it."""
    options = ort.SessionOptions()
    options.graph_optimization_level = level
    options.optimized_model_filepath, options.log_severity_level = str(path), 4
    ort.InferenceSession(
        model.SerializeToString(), options, providers=[CPU], disabled_optimizers=["CommonSubexpressionElimination"]
    )
    return [node.op_type for node in onnx.load(path).graph.node]


def test_a_convolution_is_timed_channels_last_with_the_same_answers():
    model = classifier()
    op, single = next((op, each) for op, each in singles(model, FLOAT16) if op.type == "Conv")
    turned = channels_last(single, op)
    images = np.random.default_rng(0).standard_normal(single.inputs["i0"].shape).astype(np.float16)
    first, last = (ort.InferenceSession(each.model.SerializeToString(), providers=[CPU]) for each in (single, turned))
    expected = first.run(["o0"], {"i0": images})[0]
    answer = last.run(["o0"], {"i0": images.transpose(0, 2, 3, 1)})[0]
    np.testing.assert_allclose(answer.transpose(0, 3, 1, 2), expected, rtol=2e-3, atol=1e-4)
    assert turned.options["prefer_nhwc"] == "1"
    assert turned.outputs["o0"].shape == answer.shape
    relu, other = next((op, each) for op, each in singles(model, FLOAT16) if op.type == "Relu")
    assert channels_last(other, relu) is other


@pytest.mark.parametrize("precision", [FLOAT32, FLOAT16])
def test_every_single_op_opens_and_runs_all_its_copies(precision, tmp_path):
    found = list(singles(classifier(), precision))
    assert {op.type for op, _ in found} >= {"Conv", "Relu", "MatMul", "GlobalAveragePool"}
    for op, single in found:
        kinds = kept_nodes(single.model, tmp_path / f"{op.type}.onnx")
        assert kinds.count(op.type) == COPIES, (op.type, kinds)
        data = single.model.SerializeToString()
        timed = open_timed(data, single.inputs, single.outputs, Memory("cpu"), CPU)
        assert not timed.captured
        assert measure({"it": timed}, QUICK.pace)["it"] > 0


def test_low_copies_are_low_where_the_schema_lets_them():
    body = "g (float[1,2,4,4] x) => (float[1,2,8,8] y) <float[4] s = {1, 1, 2, 2}> { y = Resize(x, , s) }"
    ((_, single),) = singles(parse(body), FLOAT16)
    assert single.inputs["i0"].elem_type == onnx.TensorProto.FLOAT16
    (scales,) = single.model.graph.initializer
    assert scales.data_type == onnx.TensorProto.FLOAT
    assert list(onnx.numpy_helper.to_array(scales)) == [1, 1, 2, 2]


def test_a_value_read_twice_is_one_input_and_constants_are_initializers():
    ((_, square), (_, product)) = singles(
        parse("g (float[4,8] x) => (float[4,4] y) { s = Mul(x, x) y = MatMul(s, w) }", w=random(8, 4)), FLOAT32
    )
    assert set(square.inputs) == {"i0"}
    assert [tensor.name for tensor in product.model.graph.initializer] == ["i1_0"]


def test_a_large_weight_does_not_stay_in_the_cache():
    model = parse("g (float[4,1024] x) => (float[4,512] y) { y = MatMul(x, w) }", w=random(1024, 512))
    ((_, single),) = singles(model, FLOAT32)
    assert len(single.model.graph.initializer) == COPIES
    assert {node.input[1] for node in single.model.graph.node} == {f"i1_{turn}" for turn in range(COPIES)}


def test_computed_sizes_are_known_to_the_single_op():
    body = "g (float[N,8] x) => (float[M,L] y) { s = Shape(x) t = Mul(s, two) u = Expand(x, t) y = Slice(u, zero, s) }"
    model = parse(body, two=np.array([2, 1]), zero=np.array([0, 0]))
    found = {op.type: single for op, single in singles(model, FLOAT32, {"x": (1, 8)})}
    for single in found.values():
        timed = open_timed(single.model.SerializeToString(), single.inputs, single.outputs, Memory("cpu"), CPU)
        assert timed.run(1) > 0


def test_casts_are_not_removed(tmp_path):
    for source, target in ((FLOAT32, FLOAT16), (FLOAT16, FLOAT32)):
        assert kept_nodes(cast_model(64, source, target, COPIES).model, tmp_path / "cast.onnx") == ["Cast"] * COPIES


def test_a_profile_has_every_class_and_says_where_it_was_made():
    said = []
    costs = profile(as_loaded(classifier()), {"image": (2, 8, 16, 16)}, settings=QUICK, say=said.append)
    assert (costs.provider, costs.runtime) == (CPU, f"onnxruntime {ort.__version__}")
    assert costs.device
    assert costs.cast.seconds(1e6) > 0
    types = [kind.op for kind in costs.entries]
    assert sorted(types) == ["Conv", "Div", "Exp", "GlobalAveragePool", "MatMul", "ReduceSum", "Relu"]
    assert all(times[FLOAT32] > 0 for times in costs.entries.values())
    assert all(times[BFLOAT16] is None for times in costs.entries.values())  # the CPU provider has none
    assert costs.whole.measured == costs.whole.ops == 7
    assert costs.whole.seconds > 0
    assert costs.whole.parts > 0


def test_time_that_is_up_leaves_the_light_classes_out():
    said = []
    settings = Settings(CPU, seconds=0, pace=QUICK.pace, cast_sizes=QUICK.cast_sizes)
    costs = profile(as_loaded(classifier()), settings=settings, say=said.append)
    assert not costs.entries
    assert "7 of 7 shape classes were left" in said[-1]
    assert (costs.whole.measured, costs.whole.ops) == (0, 7)


def test_bodies_are_profiled_and_weighed_by_how_often_they_run():
    text = """g (float[8,8] x) => (float[8,8] y) { y = Loop (n, , x) < body = l (int64 i, bool c, float[8,8] s) =>
        (bool d, float[8,8] t) { d = Identity(c) t = Relu(s) }> }"""
    costs = profile(as_loaded(parse(text, n=np.int64(10))), settings=QUICK)
    ((kind, times),) = costs.entries.items()
    assert kind.op == "Relu"
    assert costs.whole.parts == pytest.approx(10 * max(times[FLOAT32], costs.launch))


def test_real_inputs_set_the_shapes():
    feeds = {"image": np.zeros((3, 8, 16, 16), np.float32)}
    costs = profile(as_loaded(classifier()), feeds=feeds, settings=QUICK)
    assert any("float32[3,8,16,16]" in kind.inputs for kind in costs.entries)


def test_a_model_that_does_not_run_is_refused():
    model = parse("g (float[N,4] x, float[M,4] z) => (float[L,4] y) { y = Add(x, z) }")
    feeds = {"x": np.zeros((2, 4), np.float32), "z": np.zeros((3, 4), np.float32)}
    with pytest.raises(ModelError, match="does not run"):
        profile(as_loaded(model), feeds=feeds, settings=QUICK)


@pytest.mark.parametrize(
    "text",
    [
        "g (float[4,4] x, string[N] t) => (float[4,4] y, string[N] u) { y = Exp(x) u = Identity(t) }",
        "g (float[4,4] x, seq(float[A,4]) t) => (float[4,4] y, float[B,4] u) { y = Exp(x) "
        "u = ConcatFromSequence<axis = 0>(t) }",
        "g (float[4,4] x) => (float[4,4] y, seq(float[A,4]) u) { y = Exp(x) u = SplitToSequence(y) }",
    ],
)
def test_text_and_sequences_do_not_keep_a_model_from_its_profile(text, tmp_path):
    model = parse(text)
    for source in (model, saved(model, tmp_path / "model.onnx")):
        costs = profile(as_loaded(source), settings=QUICK)
        assert any(kind.op == "Exp" for kind in costs.entries)
        assert costs.whole.seconds > 0


def test_what_becomes_part_of_a_convolution_is_absorbed_as_onnxruntime_does(tmp_path):
    text = """g (float[1,4,8,8] x) => (float[1,4,8,8] y, float[1,4,8,8] z) {
        [conv] a = Conv<pads = [1,1,1,1]>(x, w)
        [bn] b = BatchNormalization(a, s, s, s, v)
        [bias] c = Add(b, k)
        [map] y = Add(c, full)
        [other] d = Conv<pads = [1,1,1,1]>(x, w)
        [twice] e = Mul(d, k)
        z = Sub(e, d)
    }"""
    ones = np.ones(4, np.float32)
    maps = random(1, 4, 8, 8)
    model = parse(text, w=random(4, 4, 3, 3), s=random(4), v=ones, k=random(4, 1, 1), full=maps)
    assert absorbed(lift(model)) == {"bn", "bias"}
    left = kept_nodes(model, tmp_path / "kept.onnx", ort.GraphOptimizationLevel.ORT_ENABLE_EXTENDED)
    assert sorted(left) == ["Add", "Conv", "Conv", "Mul", "Sub"]
