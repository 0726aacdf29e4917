"""Layouts of a rewritten model: changed where a stretch of our operators begins and ends, nowhere else."""

from onnx import TensorProto, helper
from own import kept, model_of, own

from ampgraph.onnx_model.native.rewrite import rewrite

CONV = "Conv<pads=[1,1,1,1], kernel_shape=[3,3]>"
WEIGHTS = {"w": (8, 8, 3, 3), "v": (8, 8, 3, 3), "b": (8,)}


def test_a_stretch_has_a_change_of_layout_at_both_ends() -> None:
    graph = f"""g (float16[N,8,12,12] x) => (float16[N,8,6,6] y)
        {{ c = {CONV}(x, w, b)  r = Relu(c)  p = MaxPool<kernel_shape=[3,3], strides=[2,2], pads=[1,1,1,1]>(r)
           d = {CONV}(p, v)  y = Add(d, p) }}"""
    model = model_of(graph, WEIGHTS)
    assert own(model) == {"Conv": 2, "MaxPool": 1}
    assert kept(model) == {"Transpose": 2}


def test_a_value_that_others_read_too_is_read_as_it_lies() -> None:
    graph = f"""g (float16[N,8,6,6] x) => (float16[N,8,6,6] y, float16[N,8,6,6] z)
        {{ c = {CONV}(x, w, b)  z = Tanh(c)  d = {CONV}(c, v)  y = Add(d, z) }}"""
    model = model_of(graph, WEIGHTS)
    assert own(model) == {"Conv": 2}
    assert kept(model) == {"Transpose": 3, "Tanh": 1}


def test_changes_of_layout_that_are_there_are_undone() -> None:
    graph = f"""g (float16[N,6,6,8] x) => (float16[N,6,6,8] y)
        {{ t = Transpose<perm=[0,3,1,2]>(x)  c = {CONV}(t, w, b)  u = Transpose<perm=[0,2,3,1]>(c)  y = Relu(u) }}"""
    model = model_of(graph, WEIGHTS)
    assert own(model) == {"Conv": 1}
    assert kept(model) == {"Relu": 1, "Identity": 1}


def test_an_output_with_channels_last_is_made_by_the_operator_itself() -> None:
    graph = f"""g (float16[N,6,6,8] x) => (float16[N,6,6,8] y, float16[N,6,6,8] z)
        {{ t = Transpose<perm=[0,3,1,2]>(x)  c = {CONV}(t, w, b)
           y = Transpose<perm=[0,2,3,1]>(c)  z = Transpose<perm=[0,2,3,1]>(c) }}"""
    model = model_of(graph, WEIGHTS)
    assert own(model) == {"Conv": 1}
    assert kept(model) == {"Identity": 1}  # the second of two names


def test_means_over_pixels_however_they_are_written() -> None:
    for mean in (
        "m = GlobalAveragePool(c)",
        "m = ReduceMean<keepdims=1>(c, axes)",
        "f = Cast<to=1>(c)  g = ReduceMean(f, back)  m = Cast<to=10>(g)",
    ):
        graph = f"""g (float16[N,8,6,6] x) => (float16[N,8,1,1] m)
            <int64[2] axes = {{2, 3}}, int64[2] back = {{-1, -2}}> {{ c = {CONV}(x, w, b)  {mean} }}"""
        assert own(model_of(graph, WEIGHTS)) == {"Conv": 1, "Mean": 1}, mean


def test_other_means_and_pools_stay() -> None:
    for after, shape in (
        ("m = ReduceMean<keepdims=0>(c, row)", "N,8,6"),
        ("m = ReduceMean<keepdims=1>(c, channel)", "N,1,6,6"),
        ("m = MaxPool<kernel_shape=[2,2], dilations=[2,2]>(c)", "N,8,4,4"),
        ('m = MaxPool<kernel_shape=[2,2], auto_pad="SAME_UPPER">(c)', "N,8,6,6"),
    ):
        graph = f"""g (float16[N,8,6,6] x) => (float16[{shape}] m)
            <int64[1] row = {{2}}, int64[1] channel = {{1}}> {{ c = {CONV}(x, w, b)  {after} }}"""
        assert own(model_of(graph, WEIGHTS)) == {"Conv": 1}, after


def test_what_a_body_reads_is_there_as_it_was() -> None:
    graph = f"""g (float16[N,8,6,6] x, bool ask) => (float16[N,8,6,6] y)
        {{ c = {CONV}(x, w, b)  r = Relu(c)
           y = If (ask) <then_branch = t () => (float16[N,8,6,6] p) {{ p = Neg(r) }},
                         else_branch = e () => (float16[N,8,6,6] q) {{ q = Neg(c) }}> }}"""
    model = model_of(graph, WEIGHTS)
    assert own(model) == {"Conv": 1}
    assert kept(model) == {"Transpose": 2, "Relu": 1, "If": 1}


def test_the_interface_names_and_unused_weights() -> None:
    graph = f"g (float16[N,8,6,6] x) => (float16[N,8,6,6] y) {{ c = {CONV}(x, w, b)  y = {CONV}(c, w, b) }}"
    model = model_of(graph, WEIGHTS)
    model.graph.value_info.append(helper.make_tensor_value_info("c", TensorProto.FLOAT16, ["N", 8, 6, 6]))
    before = model.SerializeToString()
    found = rewrite(model, {})
    assert found is not None
    assert model.SerializeToString() == before
    assert found.model.graph.input == model.graph.input
    assert found.model.graph.output == model.graph.output
    assert not {"w", "v", "b"} & {tensor.name for tensor in found.model.graph.initializer}
    assert not found.model.graph.value_info
    made = [name for node in found.model.graph.node for name in node.output]
    assert len(set(made)) == len(made)
    origins = [entry.value for node in found.model.graph.node for entry in node.metadata_props]
    assert origins == [] or all(origins)


def test_a_model_of_other_things_is_none_of_ours() -> None:
    assert rewrite(model_of("g (float16[N] x) => (float16[N] y) { y = Relu(x) }", {}), {}) is None


def test_shapes_that_cannot_be_others_are_constants() -> None:
    """The runtime cannot fold them behind our operators, of which it knows no shapes."""
    graph = f"""g (float16[{{}},8,6,6] x) => (float16[M,K] y)
        {{{{ c = {CONV}(x, w, b)  r = Relu(c)  s = Shape<start=0, end=-3>(r)  l = Constant<value_ints=[-1]>()
             t = Concat<axis=0>(s, l)  y = Reshape(r, t) }}}}"""
    for batch, left in (("2", 0), ("N", 1)):
        assert kept(model_of(graph.format(batch), WEIGHTS))["Shape"] == left
    given = rewrite(model_of(graph.format("N"), WEIGHTS), {"x": (2, 8, 6, 6)})
    assert given is not None
    assert "Shape" not in [node.op_type for node in given.model.graph.node]


def test_a_shape_that_is_asked_for_is_a_node() -> None:
    graph = f"""g (float16[2,8,6,6] x) => (float16[2,8,6,6] y, int64[4] s)
        {{ c = {CONV}(x, w, b)  y = Relu(c)  s = Shape(y) }}"""
    assert kept(model_of(graph, WEIGHTS))["Shape"] == 1
