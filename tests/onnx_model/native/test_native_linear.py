"""Products with what follows them, and the three products of rotary attention."""

import numpy as np
import pytest
from onnx import ModelProto, TensorProto, helper, numpy_helper, parser
from own import error, kept, model_of, own

from ampgraph.onnx_model.native.rewrite import rewrite

CONTRIB = "com.microsoft"


def contrib(graph: str, weights: dict[str, tuple[int, ...]]) -> ModelProto:
    """As `model_of`, with onnxruntime's own operators in it, which the full checker does not take."""
    model = parser.parse_model(f'<ir_version: 10, opset_import: ["": 20, "{CONTRIB}": 1]> {graph}')
    generator = np.random.default_rng(0)
    for name, shape in weights.items():
        values = (generator.standard_normal(shape) / np.sqrt(shape[0])).astype(np.float16)
        model.graph.initializer.append(numpy_helper.from_array(values, name))
    return model


def image(after: str, weights: dict[str, tuple[int, ...]] | None = None, inputs: str = "") -> ModelProto:
    """A product over pixels with channels last, then something."""
    given = weights or {"w": (8, 16), "b": (16,)}
    graph = (
        f"g (float16[N,6,6,8] x, float16[N,16,6,6] z{inputs}) => (float16[N,16,6,6] y) {{ p = MatMul(x, w) {after} }}"
    )
    return model_of(graph, given)


TAIL = "t = Transpose<perm=[0,3,1,2]>(a)  y = Add(t, z)"


@pytest.mark.parametrize("order", ["p, b", "b, p"])
@pytest.mark.parametrize("tail", [TAIL, TAIL.replace("t, z", "z, t")])
def test_bias_change_of_layout_and_residual_go_with_a_product(order: str, tail: str) -> None:
    model = image(f"a = Add({order})  {tail}")
    assert own(model) == {"Linear": 1}
    assert kept(model) == {"Transpose": 2}  # of the residual, and of the result


@pytest.mark.parametrize(
    ("after", "weights"),
    [
        (f"a = Add(p, b)  {TAIL}", {"w": (8, 16), "b": (1, 6, 6, 16)}),  # no row
    ],
)
def test_other_products_stay(after: str, weights: dict[str, tuple[int, ...]] | None) -> None:
    assert rewrite(image(after, weights), {}) is None


@pytest.mark.parametrize(
    ("after", "weights"),
    [
        ("t = Transpose<perm=[0,3,2,1]>(a)  y = Add(t, z)", None),  # another order
        ("t = Transpose<perm=[0,3,1,2]>(a)  y = Add(t, c)", {"w": (8, 16), "b": (16,), "c": (16, 6, 6)}),
        ("y = Transpose<perm=[0,3,1,2]>(a)", None),  # nothing is added
    ],
)
def test_other_changes_of_layout_stay(after: str, weights: dict[str, tuple[int, ...]] | None) -> None:
    model = image(f"a = Add(p, b)  {after}", weights)
    assert own(model) == {"Linear": 1}
    assert kept(model)["Transpose"] == 1


MANY = "float16[N,16384,32]"


def rows(after: str, given: str = "", made: str = "", bias: tuple[int, ...] = (32,)) -> ModelProto:
    """A product over rows, then something."""
    graph = f"g (float16[N,16384,8] x{given}) => ({MANY} y{made}) {{ p = MatMul(x, w)  {after} }}"
    return model_of(graph, {"w": (8, 32), "b": bias})


@pytest.mark.parametrize("after", ["y = Add(p, b)", "y = Add(b, p)"])
def test_a_bias_goes_with_a_product_of_rows(after: str) -> None:
    model = rows(after)
    assert own(model) == {"Linear": 1}
    assert not kept(model)


@pytest.mark.parametrize(
    "after", ["y = Relu(a)", "s = Sigmoid(a)  y = Mul(a, s)", "s = HardSigmoid<alpha=0.16666667>(a)  y = Mul(s, a)"]
)
@pytest.mark.parametrize("count", [6, 16384])
def test_an_activation_after_the_bias_goes_with_it(after: str, count: int) -> None:
    graph = f"g (float16[2,{count},8] x) => (float16[2,{count},32] y) {{ p = MatMul(x, w)  a = Add(p, b)  {after} }}"
    model = model_of(graph, {"w": (8, 32), "b": (32,)})
    assert own(model) == {"Linear": 1}
    assert not kept(model)


@pytest.mark.parametrize("order", ["a, z", "z, a"])
def test_so_does_a_sum_with_rows_alike(order: str) -> None:
    model = rows(f"a = Add(p, b)  y = Add({order})", f", {MANY} z")
    assert own(model) == {"Linear": 1}
    assert not kept(model)


@pytest.mark.parametrize(
    ("after", "given", "made"),
    [
        ("a = Add(p, b)  y = Add(a, z)", ", float16[1,16384,32] z", ""),  # one for all, and many
        ("a = Add(p, b)  y = Add(a, b)", "", ""),  # a constant
        ("a = Add(p, b)  y = Add(a, z)", f", {MANY} z", f", {MANY} a"),  # the first sum is needed, too
    ],
)
def test_other_sums_after_a_product_with_its_bias_stay(after: str, given: str, made: str) -> None:
    model = rows(after, given, made)
    assert own(model) == {"Linear": 1}
    assert kept(model) == {"Add": 1}


@pytest.mark.parametrize(
    "model",
    [
        rows("y = Add(p, b)", "", f", {MANY} p"),  # read elsewhere too
        rows("y = Add(p, b)", bias=(1, 16384, 32)),  # no row
        rows("y = Add(p, b)", bias=(1, 1, 32)),  # a row of another rank
    ],
)  # fmt: skip
def test_other_products_with_a_bias_stay(model: ModelProto) -> None:
    assert rewrite(model, {}) is None


def test_so_it_is_where_the_number_of_rows_is_not_known() -> None:
    graph = f"""g (float16[N,64,8] x) => (float16[N,M,32] y)
        {{ g = {CONTRIB}.BiasSplitGelu(x, h)  p = MatMul(g, w)  y = Add(p, b) }}"""
    found = rewrite(contrib(graph, {"w": (8, 32), "b": (32,), "h": (16,)}), {})
    assert found is not None
    assert found.counts["Linear"] == 1


def test_a_sum_that_goes_with_a_convolution_does_not_go_with_a_product_too() -> None:
    """Both could add it; one alone does, and what the other makes is there for it."""
    size = "float16[N,128,128,8]"
    for order in ("c, a", "a, c"):
        graph = f"""g ({size} x, float16[N,8,128,128] i) => ({size.replace(",8]", ",32]")} y)
            {{ k = Conv<kernel_shape=[1,1]>(i, v)  c = Transpose<perm=[0,2,3,1]>(k)
               p = MatMul(x, w)  a = Add(p, b)  y = Add({order}) }}"""
        model = model_of(graph, {"w": (8, 32), "b": (32,), "v": (32, 8, 1, 1)})
        assert own(model) == {"Conv": 1, "Linear": 1}


def test_a_residual_image_that_a_convolution_adds_stays_with_it() -> None:
    graph = """g (float16[N,6,6,8] x, float16[N,8,6,6] i) => (float16[N,16,6,6] y)
        { k = Conv<kernel_shape=[1,1]>(i, v)  p = MatMul(x, w)  a = Add(p, b)
          t = Transpose<perm=[0,3,1,2]>(a)  y = Add(k, t) }"""
    model = model_of(graph, {"w": (8, 16), "b": (16,), "v": (16, 8, 1, 1)})
    assert own(model) == {"Conv": 1, "Linear": 1}  # the product with its bias alone


def test_bias_and_gelu_go_with_a_product_of_any_rank() -> None:
    for rows, count in (("N", 1), ("N,5", 1), ("N,5,7", 1)):
        graph = (
            f"g (float16[{rows},8] x) => (float16[{rows},16] y) {{ p = MatMul(x, w)  y = {CONTRIB}.BiasGelu(p, b) }}"
        )
        model = contrib(graph, {"w": (8, 16), "b": (16,)})
        found = rewrite(model, {})
        assert found is not None
        assert found.counts == {"Linear": count}


@pytest.mark.parametrize(("rows", "taken"), [(16, False), (1 << 15, True)])
@pytest.mark.usefixtures("real_sizes")
def test_few_rows_keep_their_gelu_apart(rows: int, taken: bool) -> None:
    graph = f"g (float16[N,8] x) => (float16[N,16] y) {{ p = MatMul(x, w)  y = {CONTRIB}.BiasGelu(p, b) }}"
    model = contrib(graph, {"w": (8, 16), "b": (16,)})
    assert (rewrite(model, {"x": (rows, 8)}) is not None) is taken


def test_a_product_that_something_else_reads_too_keeps_its_gelu_apart() -> None:
    graph = f"""g (float16[N,8] x) => (float16[N,16] y, float16[N,16] p)
        {{ p = MatMul(x, w)  y = {CONTRIB}.BiasGelu(p, b) }}"""
    assert rewrite(contrib(graph, {"w": (8, 16), "b": (16,)}), {}) is None


def attention(turn: str = "interleaved=1, num_heads=2", value: str = "x", scale: str = "num_heads=2") -> ModelProto:
    graph = f"""g (float16[2,5,16] x, float16[2,5,16] o, int64[1] start) => (float16[2,5,16] y)
        {{ q = MatMul(x, wq)  k = MatMul(x, wk)  v = MatMul({value}, wv)
           a = {CONTRIB}.RotaryEmbedding<{turn}>(q, start, c, s)  b = {CONTRIB}.RotaryEmbedding<{turn}>(k, start, c, s)
           y = {CONTRIB}.MultiHeadAttention<{scale}>(a, b, v) }}"""
    return contrib(graph, {"wq": (16, 16), "wk": (16, 16), "wv": (16, 16), "c": (9, 4), "s": (9, 4)})


def test_three_products_of_rotary_attention_become_one() -> None:
    found = rewrite(attention(), {})
    assert found is not None
    assert found.counts == {"Rotary": 1}
    left = [node.op_type for node in found.model.graph.node]
    assert left == ["MatMul", "Rotary", "MultiHeadAttention"]
    rotary = found.model.graph.node[1]
    assert [len(rotary.input), len(rotary.output)] == [4, 3]
    assert {entry.name: entry.i for entry in rotary.attribute}["width"] == 16


def test_its_parts_are_those_of_three_products() -> None:
    """Up to the attention, which the CPU provider does not compute in float16."""
    model = attention()
    del model.graph.node[-1], model.graph.output[:]
    for name in ("a", "b", "v"):
        model.graph.output.append(helper.make_tensor_value_info(name, TensorProto.FLOAT16, [2, 5, 16]))
    whole = rewrite(attention(), {})
    assert whole is not None
    assert whole.model.graph.node[1].output == ["a", "b", "v"]
    cut = ModelProto.FromString(whole.model.SerializeToString())
    del cut.graph.node[-1], cut.graph.output[:]
    cut.graph.output.extend(model.graph.output)
    raised, reference = _in_float32(model), _in_float32(cut)
    assert error(raised, reference) < 1e-5


def _in_float32(model: ModelProto) -> ModelProto:
    """The same in float32, which the CPU provider has these operators in."""
    copy = ModelProto.FromString(model.SerializeToString())
    for value in (*copy.graph.input, *copy.graph.output):
        if value.type.tensor_type.elem_type == TensorProto.FLOAT16:
            value.type.tensor_type.elem_type = TensorProto.FLOAT
    arrays = {each.name: numpy_helper.to_array(each) for each in copy.graph.initializer}
    del copy.graph.initializer[:]
    for name, array in arrays.items():
        wide = array.astype(np.float32) if array.dtype == np.float16 else array
        copy.graph.initializer.append(numpy_helper.from_array(wide, name))
    return copy


@pytest.mark.parametrize(
    "model",
    [
        attention(turn="num_heads=2"),  # halves of a head are turned, not neighbours
        attention(turn="interleaved=1, num_heads=2, rotary_embedding_dim=4"),
        attention(value="o"),  # values of other rows
    ],
)
def test_other_attentions_stay(model: ModelProto) -> None:
    assert rewrite(model, {}) is None
