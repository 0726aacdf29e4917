"""The fastest session: which settings could win, and what a machine without a GPU makes of the question."""

import numpy as np
import onnx
import pytest
from click.testing import CliRunner
from onnx import ModelProto, numpy_helper, parser

from ampgraph import Session
from ampgraph.cli import main
from ampgraph.errors import AmpgraphError
from ampgraph.onnx_model.fastest import settings_of
from ampgraph.onnx_model.run import CPU, best_provider
from ampgraph.settings import Setting

HEADER = '<ir_version: 8, opset_import: ["" : 17]>'
FEEDS = {"x": np.ones((1, 4, 8, 8), np.float32)}


def convolution(group: int = 1, dtype: type = np.float32) -> ModelProto:
    word = "float" if dtype is np.float32 else "float16"
    text = (
        f"g ({word}[1,4,8,8] x) => ({word}[1,4,8,8] y) {{ y = Conv<group = {group}, kernel_shape = [1, 1]>(x, w, b) }}"
    )
    model = parser.parse_model(f'<ir_version: 8, opset_import: ["" : 17]> {text}')
    weights = {"w": np.ones((4, 4 // group, 1, 1), dtype), "b": np.ones(4, dtype)}
    model.graph.initializer.extend(numpy_helper.from_array(values, name) for name, values in weights.items())
    return model


def test_a_float32_convolution_has_both_layouts_and_both_precisions() -> None:
    found = settings_of(convolution())
    assert found[0] == Setting()
    assert {(each.nhwc, each.tf32) for each in found[1:]} >= {
        (False, True),
        (True, True),
        (False, False),
        (True, False),
    }
    assert len(set(found)) == len(found) == 6


@pytest.mark.parametrize(("group", "inside"), [(1, False), (4, True)])
def test_biases_are_tried_where_the_session_would_not_put_them(group: int, inside: bool) -> None:
    assert Setting(True, True, inside) in settings_of(convolution(group))


def test_where_no_product_is_in_float32_there_is_no_tf32_to_choose() -> None:
    assert all(each.tf32 for each in settings_of(convolution(dtype=np.float16)))


def test_nothing_to_choose_is_one_setting() -> None:
    model = parser.parse_model(
        '<ir_version: 8, opset_import: ["" : 17]> g (float[2] x) => (float[2] y) { y = Relu(x) }'
    )
    assert settings_of(model) == (Setting(),)


def test_on_the_cpu_it_is_the_plain_session() -> None:
    session = Session.fastest(convolution(), FEEDS, provider="cpu")
    assert (session.provider, session.notes) == (CPU, ())
    np.testing.assert_array_equal(session.run(FEEDS)["y"], np.full((1, 4, 8, 8), 5, np.float32))


@pytest.mark.parametrize("feeds", [{}, {"x": np.ones((1, 4, 8), np.float32)}, {"z": FEEDS["x"]}, None])
def test_inputs_that_do_not_fit_are_refused_as_when_they_are_bound(feeds: object) -> None:
    with pytest.raises(AmpgraphError, match=r"^(feeds of )?g: ") as found:
        Session.fastest(convolution(), feeds, provider="cpu")
    with pytest.raises(type(found.value)) as expected:
        Session(convolution(), provider="cpu").bind(feeds)
    assert str(found.value) == str(expected.value)


@pytest.mark.skipif(best_provider() == CPU, reason="no GPU here")
def test_on_a_gpu_it_says_what_it_chose() -> None:
    session = Session.fastest(convolution(), FEEDS)
    assert any(note.startswith("fastest of 6 settings") for note in session.notes)
    np.testing.assert_array_equal(session.run(FEEDS)["y"], np.full((1, 4, 8, 8), 5, np.float32))


def test_the_commands_take_it(tmp_path) -> None:
    path = tmp_path / "model.onnx"
    onnx.save(convolution(), path)
    ran = CliRunner().invoke(main, ["run", str(path), "--fastest", "--repeat", "1"])
    assert ran.exit_code == 0, ran.stderr
    timed = CliRunner().invoke(main, ["bench", str(path), "--fastest", "--rounds", "1"])
    assert timed.exit_code == 0, timed.stderr
    refused = CliRunner().invoke(main, ["bench", str(path), "--fastest", "--nhwc"])
    assert (refused.exit_code, refused.stderr.count("\n")) == (2, 1)
