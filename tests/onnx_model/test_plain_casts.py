"""CastLike becomes Cast where the type is known, also in bodies, and answers stay."""

import numpy as np
from onnx import checker, parser

from ampgraph.onnx_model.names import walk
from ampgraph.onnx_model.plain_casts import with_plain_casts
from ampgraph.onnx_model.run import CPU, open_session, run

HEADER = '<ir_version: 10, opset_import: ["" : 20]>'


def operators(model):
    return [node.op_type for node in walk(model.graph)]


def test_ranges_of_sizes_cast_to_the_type_of_a_size():
    model = parser.parse_model(f"""{HEADER} g (float[n, 4] x) => (int64[m] y) {{
        s = Shape<start = 0, end = 1>(x) n = Squeeze(s) zero = Constant<value_float = 0.0>() low = CastLike(zero, n)
        one = Constant<value_int = 1>() y = Range(low, n, one) }}""")
    plain = with_plain_casts(model)
    checker.check_model(plain, full_check=True)
    assert "CastLike" in operators(model)
    assert "CastLike" not in operators(plain)
    answers = [run(open_session(each, provider=CPU), {"x": np.ones((3, 4), np.float32)}) for each in (model, plain)]
    np.testing.assert_array_equal(answers[0]["y"], answers[1]["y"])


def test_in_bodies_the_outer_type_counts():
    model = parser.parse_model(f"""{HEADER} g (bool b, float[2] x, int32 k) => (int32[2] y) {{
        y = If (b) <then_branch = t () => (int32[2] a) {{ a = CastLike(x, k) }},
                    else_branch = e () => (int32[2] c) {{ z = Neg(x) c = CastLike(z, k) }}> }}""")
    assert operators(with_plain_casts(model)) == ["If", "Cast", "Neg", "Cast"]


def test_a_type_nobody_knows_stays():
    model = parser.parse_model("""<ir_version: 10, opset_import: ["" : 20, "some.domain" : 1]>
        g (float[2] x) => (float[2] y) { k = some.domain.Odd(x) y = CastLike(x, k) }""")
    assert operators(with_plain_casts(model)) == ["Odd", "CastLike"]


def test_a_model_without_any_is_the_same_object():
    model = parser.parse_model(f"{HEADER} g (float[2] x) => (float[2] y) {{ y = Relu(x) }}")
    assert with_plain_casts(model) is model
