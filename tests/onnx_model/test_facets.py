"""What ONNX files say of themselves: scopes, first elements, names of free dimensions."""

from pathlib import Path

import numpy as np
import onnx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from onnx import NodeProto, TensorProto, numpy_helper

from ampgraph.errors import ModelError
from ampgraph.inspection.facets import Place
from ampgraph.onnx_model.facets import first_elements, read_facets
from ampgraph.onnx_model.fuse.net import ORIGIN_KEY
from ampgraph.onnx_model.lift import lift
from ampgraph.onnx_model.places import SCOPES_KEY, TYPES_KEY, common_place, place_of, scopes_of_all
from tests.small_models import parse, random


def node(name: str, **metadata: str) -> NodeProto:
    made = NodeProto(op_type="MatMul", name=name)
    for key, value in metadata.items():
        made.metadata_props.add(key={"scopes": SCOPES_KEY, "types": TYPES_KEY}[key], value=value)
    return made


def test_the_dynamo_exporters_metadata_come_first() -> None:
    scopes = "['', 'encoder', 'encoder.layer.0', 'linear_3']"
    types = "['m.Model', 'm.Encoder', 'm.Layer', 'aten.linear.default']"
    assert place_of(node("/other/MatMul", scopes=scopes, types=types)) == Place(
        ("encoder", "layer.0"), ("Encoder", "Layer")
    )
    assert place_of(node("a", scopes=scopes)) == Place(("encoder", "layer.0"))
    assert place_of(node("a", scopes="['', 'linear']", types="['m.Model', 'aten.linear']")) == Place(())


def test_a_node_for_several_is_in_the_scopes_that_all_of_them_are_in() -> None:
    """Read back as the exporter's own: nodes without scopes and damaged ones are passed over."""
    first = node("a", scopes="['', 'e', 'e.0', 'e.0.q', 'add']", types="['M', 'x.E', 'x.L', 'x.Q', 'aten.add']")
    second = node("b", scopes="['', 'e', 'e.0', 'e.0.k', 'mul']", types="['M', 'x.E', 'x.L', 'x.K', 'aten.mul']")
    said = scopes_of_all([node("c"), first, second, node("d", scopes="[")], "fused", "Attention")
    assert said[SCOPES_KEY] == "['', 'e', 'e.0', 'fused']"
    made = node("fused", scopes=said[SCOPES_KEY], types=said[TYPES_KEY])
    assert place_of(made) == Place(("e", "0"), ("E", "L"))
    assert scopes_of_all([made, first], "again", "K")[SCOPES_KEY] == "['', 'e', 'e.0', 'again']"
    assert scopes_of_all([first, node("e", scopes="['', 'add']")], "top", "K")[SCOPES_KEY] == "['', 'top']"
    assert scopes_of_all([node("/a/b")], "fused", "K") == {}


def test_a_fused_node_without_scopes_stands_where_the_names_say() -> None:
    model = parse("g (float[4] x) => (float[4] y) { [z] y = Relu(x) }")
    model.graph.node[0].metadata_props.add(key=ORIGIN_KEY, value="/enc/layer.0/MatMul /enc/layer.0/out/Add")
    places = read_facets(model, lift(model, {}), Path()).places
    assert places == {"z": Place(("enc", "layer.0"))}


@pytest.mark.parametrize("scopes", ["[", "nothing", "[1, 2, 3]", "__import__('os'), 1", "[" * 5000 + ","])
def test_metadata_that_mean_nothing_leave_the_name(scopes: str) -> None:
    assert place_of(node("/encoder/MatMul", scopes=scopes)) == Place(("encoder",))


@pytest.mark.parametrize(
    ("name", "path"),
    [
        ("/encoder/layer.0/attention/MatMul", ("encoder", "layer.0", "attention")),
        ("/MatMul", ()),
        ("encoder.layer.0.MatMul_1", ("encoder", "layer", "0")),
        ("model/dense/MatMul", ("model", "dense")),
        ("MatMul.12", None),
        ("p2o.MatMul.12", None),
        ("MatMul.weight", None),
        ("MatMul_12", None),
        ("", None),
        ("...", None),
        ("/", ()),
    ],
)
def test_names_that_are_paths(name: str, path: tuple[str, ...] | None) -> None:
    assert place_of(node(name)) == (None if path is None else Place(path))


@given(st.text(max_size=30), st.text(max_size=60))
def test_no_name_and_no_metadata_break_it(name: str, scopes: str) -> None:
    found = place_of(node(name, scopes=scopes))
    assert found is None or all(isinstance(part, str) for part in found.path)


def test_what_stands_for_many_stands_where_all_of_them_did() -> None:
    places = [Place(("a", "b", "c"), ("A", "B", "C")), None, Place(("a", "b"), ("A", "B"))]
    assert common_place(places) == Place(("a", "b"), ("A", "B"))
    assert common_place([None]) is None


@pytest.mark.parametrize("dtype", [np.float32, np.float16, np.float64, np.int64, np.int32])
def test_first_elements_of_every_kind_of_number(dtype: type) -> None:
    array = np.arange(20, dtype=dtype).reshape(4, 5)
    assert first_elements(numpy_helper.from_array(array), Path()) == tuple(range(8))
    assert first_elements(numpy_helper.from_array(array[:1, :2]), Path()) == (0, 1)
    assert first_elements(numpy_helper.from_array(array[:0]), Path()) == ()


def test_first_elements_of_lists_bfloat16_and_what_has_none() -> None:
    listed = TensorProto(data_type=TensorProto.FLOAT, dims=[2], float_data=[1.5, float("inf")])
    assert first_elements(listed, Path()) == (1.5,)
    half = TensorProto(data_type=TensorProto.BFLOAT16, dims=[2], raw_data=b"\x80\x3f\x00\xc0")
    assert first_elements(half, Path()) == (1.0, -2.0)
    assert first_elements(TensorProto(data_type=TensorProto.STRING, dims=[1], string_data=[b"a"]), Path()) == ()
    assert first_elements(TensorProto(data_type=TensorProto.INT8, dims=[1], raw_data=b"a"), Path()) == ()


def test_first_elements_of_external_data_are_read_alone(tmp_path: Path) -> None:
    model = parse("g (float[4,64] x) => (float[4,64] y) { y = MatMul(x, w) }", w=random(64, 64))
    onnx.save(model, tmp_path / "m.onnx", save_as_external_data=True, size_threshold=0, location="m.data")
    tensor = onnx.load(tmp_path / "m.onnx", load_external_data=False).graph.initializer[0]
    assert first_elements(tensor, tmp_path) == tuple(random(64, 64)[0, :8].astype(float).tolist())
    (tmp_path / "m.data").unlink()
    with pytest.raises(ModelError, match="is missing"):
        first_elements(tensor, tmp_path)


def test_free_dimensions_have_the_names_that_inputs_give_them() -> None:
    model = parse("g (float[N,L,8] x) => (float[N,L,8] y) { h = Relu(x)  s = NonZero(h)  y = Relu(h) }")
    model.graph.input[0].type.tensor_type.shape.dim[1].ClearField("dim_param")
    shapes = read_facets(model, lift(model), Path()).shapes
    assert shapes["x"] == ("N", "?", 8)
    assert shapes["s"] == (3, "?")
