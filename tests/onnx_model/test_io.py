"""Files: what is refused, how external data travel, and that nothing half-written is left."""

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import ModelProto, TensorProto, helper, numpy_helper, parser

import ampgraph
from ampgraph.errors import ModelError
from ampgraph.onnx_model import external, io
from tests.models import FLOAT16, parse


def model() -> ModelProto:
    made = parse("g (float[N,4] x) => (float[N,4] y) { h = Add(x, w) y = Mul(h, w) }")
    made.graph.initializer.append(numpy_helper.from_array(np.array([1, 2, 3, 70000], np.float32), "w"))
    return made


def outside(folder: Path) -> io.Loaded:
    """The model with its weight in a file, in `folder`."""
    onnx.save(model(), folder / "m.onnx", save_as_external_data=True, location="w.bin", size_threshold=0)
    return io.load(folder / "m.onnx")


def make_pending(loaded: io.Loaded) -> TensorProto:
    (tensor,) = loaded.model.graph.initializer
    tensor.data_type = FLOAT16
    external.mark_pending(tensor)
    return tensor


def test_a_file_is_read_without_its_data(tmp_path: Path) -> None:
    loaded = outside(tmp_path)
    (tmp_path / "w.bin").unlink()
    assert (loaded.folder, loaded.path) == (tmp_path.resolve(), tmp_path / "m.onnx")
    assert [tensor.name for tensor in io.external_tensors(io.load(tmp_path / "m.onnx").model)] == ["w"]


@pytest.mark.parametrize(
    ("content", "complaint"),
    [
        (None, "no such file"),
        ("folder", "is a directory"),
        (b"\xff\xff words", "is not an ONNX model, or is cut short"),
        (b"", "has no graph or no opset"),
        (ModelProto(ir_version=8).SerializeToString(), "has no graph or no opset"),
    ],
)
def test_what_is_no_model(content: bytes | str | None, complaint: str, tmp_path: Path) -> None:
    path = tmp_path / "m.onnx"
    if content == "folder":
        path.mkdir()
    elif isinstance(content, bytes):
        path.write_bytes(content)
    with pytest.raises(ModelError, match=complaint) as caught:
        io.load(path)
    assert caught.value.place == str(path)
    assert caught.value.remedy


def test_all_tensors_of_attributes_bodies_and_sparse_ones_are_found() -> None:
    text = """g (float[4] x, bool c) => (float[4] y) <float[1] w = {1}> {
        k = Constant<value = float[1] {2}>() y = If (c) <
        then_branch = t () => (float[4] a) <float[1] v = {3}> { a = Add(x, v) }, else_branch = e () => (float[4] b) {
        b = Neg(x) }> }"""
    made = parse(text)
    values, spots = (
        numpy_helper.from_array(np.array([4], kind), name) for kind, name in ((np.float32, "s"), (int, "i"))
    )
    made.graph.sparse_initializer.append(helper.make_sparse_tensor(values, spots, [9]))
    sparse = made.graph.node.add(op_type="Constant", output=["z"])
    sparse.attribute.append(helper.make_attribute("sparse_value", helper.make_sparse_tensor(values, spots, [9])))
    found = [numpy_helper.to_array(tensor).reshape(-1)[0] for tensor in io.all_tensors(made.graph)]
    assert found == [1, 4, 4, 2, 3, 4, 4]


@pytest.mark.parametrize("pending", [False, True])
def test_external_data_are_streamed_and_rounded(pending: bool, tmp_path: Path) -> None:
    source, target = tmp_path / "in", tmp_path / "out"
    source.mkdir(), target.mkdir()
    loaded = outside(source)
    if pending:
        make_pending(loaded)
    before = ModelProto.FromString(loaded.model.SerializeToString())
    path = io.write(loaded.model, loaded.folder, target, "low.onnx")
    assert sorted(each.name for each in target.iterdir()) == ["low.onnx", "low.onnx.data"]
    (data,) = (numpy_helper.to_array(tensor) for tensor in onnx.load(path).graph.initializer)
    assert data.dtype == (np.float16 if pending else np.float32)
    assert data.tolist() == [1, 2, 3, 65504 if pending else 70000]
    assert loaded.model == before
    whole = io.with_data(loaded.model, source)
    assert numpy_helper.to_array(whole.graph.initializer[0]).tolist() == data.tolist()
    assert not io.external_tensors(whole)


def test_tensors_in_a_data_file_can_be_mapped(tmp_path: Path) -> None:
    made = model()
    made.graph.initializer.append(numpy_helper.from_array(np.arange(3, dtype=np.float32), "v"))
    onnx.save(made, tmp_path / "m.onnx", save_as_external_data=True, location="w.bin", size_threshold=0)
    io.write(io.load(tmp_path / "m.onnx").model, tmp_path, tmp_path, "out.onnx")
    entries = [
        {e.key: e.value for e in t.external_data} for t in io.load(tmp_path / "out.onnx").model.graph.initializer
    ]
    assert [(entry["location"], entry["offset"], entry["length"]) for entry in entries] == [
        ("out.onnx.data", "0", "16"),
        ("out.onnx.data", str(io.ALIGNMENT), "12"),
    ]


def test_a_model_without_outside_data_is_one_file_of_the_same_bytes(tmp_path: Path) -> None:
    first, second = (io.write(model(), tmp_path, tmp_path, name).read_bytes() for name in ("a", "b"))
    assert first == second
    assert ModelProto.FromString(first) == model()
    assert len(list(tmp_path.iterdir())) == 2


def test_staging_is_gone_afterwards_and_publishing_moves_it_all(tmp_path: Path) -> None:
    destination = tmp_path / "out.onnx"
    with io.staging(destination) as folder:
        assert folder.parent == tmp_path.resolve()
        (folder / "out.onnx").write_text("model")
        (folder / "out.onnx.data").write_text("data")
        io.publish(folder, destination)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out.onnx", "out.onnx.data"]


def test_staging_is_gone_after_a_failure(tmp_path: Path) -> None:
    with pytest.raises(ModelError), io.staging(tmp_path / "out.onnx") as folder:
        _ = (folder / "half").write_text("half"), io.load(folder)
    assert not list(tmp_path.iterdir())


def test_a_place_that_cannot_be_written(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="cannot be written"), io.staging(tmp_path / "none" / "out.onnx"):
        pass


def test_the_checkers_word_is_one_line(tmp_path: Path) -> None:
    broken = parse("g (float[4] x) => (int64[4] y) { y = Relu(x) }")
    assert "elem type differs" in io.check_model(broken)
    assert "\n" not in io.check_model(broken)
    assert io.check_model(model()) == ""
    loaded = outside(tmp_path)
    assert io.check_loaded(loaded) == ""
    assert io.check_loaded(io.Loaded(loaded.model, loaded.folder)) == ""
    (tmp_path / "w.bin").unlink()
    assert "w.bin" in io.check_loaded(loaded)


def test_shape_operands_in_another_file_are_brought_in(tmp_path):
    model = parser.parse_model(
        '<ir_version: 8, opset_import: ["" : 17]> g (float[2,3] x) => (float[3,2] y)'
        " <int64[2] shape = {3, 2}, float[3] w = {1.0, 2.0, 3.0}> { z = Mul(x, w)  y = Reshape(z, shape) }"
    )
    for tensor in model.graph.initializer:
        tensor.raw_data = numpy_helper.to_array(tensor).tobytes()
        tensor.ClearField("int64_data")
        tensor.ClearField("float_data")
    onnx.save(model, tmp_path / "m.onnx", save_as_external_data=True, location="m.data", size_threshold=0)
    loaded = io.load(tmp_path / "m.onnx")
    found = io.with_operands(loaded.model, loaded.folder)
    assert numpy_helper.to_array(found.graph.initializer[0]).tolist() == [3, 2]
    assert len(io.external_tensors(loaded.model)) == 2
    ampgraph.convert(tmp_path / "m.onnx", tmp_path / "out.onnx", objective="coverage")
    onnx.checker.check_model(str(tmp_path / "out.onnx"), full_check=True)
