import onnx
import pytest

from ampgraph.graph import Op, PrecisionGraph, Scope, Slot, Value
from ampgraph.onnx_model.lift import lift
from ampgraph.work import DEFAULT_ELEMENTS, Kind, work_of


def work_in(body: str, inputs: str, domain: str = "") -> list:
    imports = '"" : 23' + (f', "{domain}" : 1' if domain else "")
    model = onnx.parser.parse_model(
        f"<ir_version: 10, opset_import: [{imports}]> g ({inputs}) => (float y) {{ {body} }}"
    )
    del model.graph.output[0].type.tensor_type.shape.dim[:]
    model.graph.output[0].type.tensor_type.ClearField("shape")
    graph = lift(model)
    return [work_of(op, graph) for op in graph.ops.values()]


@pytest.mark.parametrize(
    ("body", "inputs", "kind", "operations"),
    [
        ("y = MatMul(a, b)", "float[8,3,16,32] a, float[32,64] b", Kind.MATRIX, 2 * 8 * 3 * 16 * 32 * 64),
        ("y = MatMul(a, b)", "float[32] a, float[5,32,64] b", Kind.MATRIX, 2 * 5 * 32 * 64),
        ("y = Gemm<transA=1>(a, b)", "float[32,16] a, float[32,64] b", Kind.MATRIX, 2 * 16 * 32 * 64),
        ("y = Gemm<transB=1>(a, b)", "float[16,32] a, float[64,32] b", Kind.MATRIX, 2 * 16 * 32 * 64),
        (
            "y = Conv<pads=[1,1,1,1]>(a, b)",
            "float[2,16,28,28] a, float[32,16,3,3] b",
            Kind.CONVOLUTION,
            2 * 2 * 32 * 28 * 28 * 16 * 9,
        ),
        (
            "y = Conv<strides=[2,2]>(a, b)",
            "float[2,16,9,9] a, float[32,16,3,3] b",
            Kind.CONVOLUTION,
            2 * 2 * 32 * 4 * 4 * 16 * 9,
        ),
        ("y = Conv<group=16>(a, b)", "float[1,16,8,8] a, float[16,1,3,3] b", Kind.GROUPED, 2 * 16 * 6 * 6 * 9),
        (
            "y = ConvTranspose<strides=[2,2]>(a, b)",
            "float[1,16,8,8] a, float[16,4,2,2] b",
            Kind.CONVOLUTION,
            2 * 16 * 8 * 8 * 4 * 2 * 2,
        ),
        (
            "y, h, c = LSTM<hidden_size=20>(a, w, r)",
            "float[7,3,10] a, float[1,80,10] w, float[1,80,20] r",
            Kind.RECURRENT,
            2 * 7 * 3 * 4 * 20 * (10 + 20),
        ),
        (
            'y = GRU<hidden_size=20, direction="bidirectional">(a, w, r)',
            "float[7,3,10] a, float[2,60,10] w, float[2,60,20] r",
            Kind.RECURRENT,
            2 * 7 * 3 * 2 * 3 * 20 * (10 + 20),
        ),
        (
            'y = Einsum<equation="bhqd,bhkd->bhqk">(a, b)',
            "float[2,4,16,8] a, float[2,4,32,8] b",
            Kind.MATRIX,
            2 * 2 * 4 * 16 * 32 * 8,
        ),
        (
            'y = Einsum<equation="...ij,jk->...ik">(a, b)',
            "float[2,5,16,8] a, float[8,4] b",
            Kind.MATRIX,
            2 * 10 * 16 * 8 * 4,
        ),
        (
            "y = Attention(a, b, c)",
            "float[2,4,16,8] a, float[2,4,32,8] b, float[2,4,32,24] c",
            Kind.ATTENTION,
            2 * 2 * 4 * 16 * 32 * (8 + 24),
        ),
        ("y = Relu(a)", "float[5] a", Kind.MEMORY, 0),
        ("y = Flatten(a)", "float[5,4,3] a", Kind.VIEW, 0),
    ],
)
def test_operations_by_hand(body, inputs, kind, operations):
    (work,) = work_in(body, inputs)
    assert (work.kind, work.operations) == (kind, operations)


def test_contrib_products_count_too():
    def made(kind: str, shapes: list[tuple[int, ...]], out: tuple[int, ...], **attributes: int) -> int:
        values = {f"i{n}": Value(f"i{n}", "", "", "float32", shape=shape) for n, shape in enumerate(shapes)}
        values["o"] = Value("o", "", "", "float32", shape=out)
        inputs = tuple(Slot(f"i{n}", "", "d") for n in range(len(shapes)))
        op = Op("n", "", f"com.microsoft.{kind}", 1, "", inputs, (Slot("o", "", "d"),), attributes)
        graph = PrecisionGraph("onnx", {}, {"": Scope("", None, "", 1.0)}, values, {"n": op}, {}, ())
        return work_of(op, graph).operations

    assert made("FusedMatMul", [(32, 16), (32, 64)], (16, 64), transA=1) == 2 * 16 * 32 * 64
    batch, length, width = 2, 16, 8
    projection = 2 * batch * length * width * 3 * width
    scores = 2 * 2 * batch * length * length * width
    assert made("Attention", [(2, 16, 8), (8, 24)], (2, 16, 8), num_heads=2) == projection + scores
    assert made("MultiHeadAttention", [(2, 16, 8), (2, 32, 8), (2, 32, 8)], (2, 16, 8)) == 2 * 32 * 2 * (2 * 16 * 8)
    past = [(2, 1, 8), (2, 1, 8), (2, 1, 8), (2, 2, 31, 4)]
    assert made("GroupQueryAttention", past, (2, 1, 8)) == 2 * 32 * 2 * (2 * 8)
    assert made("MatMulNBits", [(4, 64), (32, 2, 16)], (4, 32), K=64, N=32) == 2 * 4 * 64 * 32


def test_traffic_is_inputs_weights_and_outputs():
    (work,) = work_in("y = Add(a, b)", "float[4,8] a, float[8] b")
    assert (work.floats, work.other_bytes) == (32 + 8 + 32, 0)
    (work,) = work_in("y = Cast<to=1>(a)", "uint8[4,8] a")
    assert (work.floats, work.other_bytes) == (32, 32)


def test_low_elements_move_in_low_precision_and_a_cast_makes_what_it_says():
    model = onnx.parser.parse_model("""<ir_version: 10, opset_import: ["" : 23]> g (float[4,8] x) => (float[4,8] y) {
        low = Cast<to=10>(x) r = Relu(low) y = Cast<to=1>(r) }""")
    graph = lift(model)
    down, relu, up = (work_of(op, graph) for op in graph.ops.values())
    assert (down.floats, down.other_bytes) == (32, 2 * 32)
    assert (relu.floats, relu.other_bytes) == (2 * 32, 0)
    assert (up.floats, up.other_bytes) == (32, 4 * 32)


def test_a_lookup_reads_what_it_returns_and_not_the_table():
    (work,) = work_in("y = Gather(t, i)", "float[30000,64] t, int64[10] i")
    assert (work.floats, work.other_bytes) == (2 * 640, 80)


def test_an_unknown_shape_is_a_stated_size():
    values = {name: Value(name, "", "", "float32") for name in "ab"}
    op = Op("n", "", "Relu", 14, "", (Slot("a", "", "d"),), (Slot("b", "", "d"),))
    graph = PrecisionGraph("onnx", {}, {"": Scope("", None, "", 1.0)}, values, {"n": op}, {}, ())
    assert work_of(op, graph).floats == 2 * DEFAULT_ELEMENTS
