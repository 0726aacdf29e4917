"""Inputs that the user gives: arrays in memory count wherever a file of them does."""

from pathlib import Path

import ml_dtypes
import numpy as np
import pytest
import torch

import ampgraph
from ampgraph.errors import OptionError
from ampgraph.onnx_model.feeds import at_batch, inputs_for
from ampgraph.onnx_model.given import name_of_data, read_inputs
from ampgraph.onnx_model.io import Loaded
from tests.models import parse
from tests.small_models import classifier, saved

SOURCE = "g (float[2,4] x, int64[2] i) => (float[2,4] y, int64[2] j) { y = Exp(x)  j = Abs(i) }"
ARRAYS = {"x": np.zeros((2, 4)), "i": np.zeros(2, np.int32)}


def test_inputs_are_read_in_the_models_types(tmp_path: Path) -> None:
    np.savez(tmp_path / "data.npz", **ARRAYS)
    tensors = {name: torch.from_numpy(array) for name, array in ARRAYS.items()}
    lists = {name: array.tolist() for name, array in ARRAYS.items()}
    trained = {**tensors, "x": tensors["x"].requires_grad_()}
    for data in (tmp_path / "data.npz", ARRAYS, tensors, lists, trained):
        feeds = read_inputs(data, parse(SOURCE))
        assert {name: array.dtype for name, array in feeds.items()} == {"x": np.float32, "i": np.int64}
    assert read_inputs({**ARRAYS, "x": np.ones((2, 4), np.float32)}, parse(SOURCE))["x"].sum() == 8


def test_what_is_no_input_is_one_line(tmp_path: Path) -> None:
    np.save(tmp_path / "one.npy", np.zeros(3))
    np.savez(tmp_path / "objects.npz", **{**ARRAYS, "i": np.array([{}, None])})
    np.savez(tmp_path / "damaged.npz", **ARRAYS)
    whole = (tmp_path / "damaged.npz").read_bytes()
    (tmp_path / "damaged.npz").write_bytes(whole.replace(b"NUMPY", b"LUMPY"))
    (tmp_path / "short.npz").write_bytes(whole[:100])
    (tmp_path / "empty.npz").write_bytes(b"")
    (tmp_path / "model.onnx").write_bytes(parse(SOURCE).SerializeToString())
    wrong = r"is no \.npz file; save arrays by name with numpy\.savez$"
    for data, said in (
        (tmp_path / "none.npz", r"--data .*none\.npz: cannot be read"),
        (tmp_path / "one.npy", r"is no \.npz file, but an array without a name; save arrays by name"),
        (tmp_path / "model.onnx", wrong),
        (tmp_path / "empty.npz", wrong),
        (tmp_path / "short.npz", wrong),
        (tmp_path / "objects.npz", r"objects\.npz: holds Python objects for 'i', which are not read; save arrays of"),
        (tmp_path / "damaged.npz", r"damaged\.npz: has an array 'x' that is damaged; save it again"),
        ({"x": ARRAYS["x"]}, "data: has no array for the input 'i'; name the arrays x, i"),
        ({**ARRAYS, "z": 1}, "data: has an array 'z' that is no input"),
        ({**ARRAYS, "x": [[1], [1, 2]]}, "data: 'x' is no array"),
    ):
        with pytest.raises(OptionError, match=said):
            read_inputs(data, parse(SOURCE))


def test_low_arrays_and_sequences_are_left_to_the_runtime() -> None:
    sequence = parse(
        "g (seq(float[4]) s) => (float[4] y) { zero = Constant<value = int64 {0}>() y = SequenceAt(s, zero) }"
    )
    given = [np.ones(4, np.float32)]
    for each in (given, tuple(given), [torch.from_numpy(given[0])], [given[0].astype(">f4")]):
        (found,) = read_inputs({"s": each}, sequence)["s"]
        assert found.dtype.isnative
        np.testing.assert_array_equal(found, given[0])
    half = {"x": np.zeros((2, 4), ml_dtypes.bfloat16), "i": ARRAYS["i"]}
    assert read_inputs(half, parse(SOURCE))["x"].dtype == ml_dtypes.bfloat16


def test_a_conversion_is_checked_with_arrays(tmp_path: Path) -> None:
    image = np.random.default_rng(3).standard_normal((2, 8, 16, 16)).astype(np.float32)
    np.savez(tmp_path / "data.npz", image=image)
    words = {"objective": "coverage", "check": True}
    held = ampgraph.convert(classifier(), data={"image": image}, **words)
    assert held.check is not None
    assert held.check.inputs == "given"
    path = saved(classifier(), tmp_path / "model.onnx")
    filed = ampgraph.convert(path, data=tmp_path / "data.npz", **words)
    assert filed.check is not None
    assert held.check.outputs == filed.check.outputs
    with pytest.raises(OptionError, match="data: has no array for the input 'image'"):
        ampgraph.convert(classifier(), data={}, **words)
    with pytest.raises(OptionError, match="data of type list: is neither arrays by name nor a file"):
        ampgraph.convert(classifier(), data=[image], **words)
    with pytest.raises(OptionError, match="--data: is only read by --check and --tune"):
        ampgraph.convert(classifier(), data={"image": image})


def test_arrays_serve_for_timing_too() -> None:
    image = np.ones((1, 8, 16, 16), np.float32)
    model = classifier()
    feeds = inputs_for([Loaded(model, Path())], {"image": image})
    assert at_batch(model, feeds, 3)["image"].shape == (3, 8, 16, 16)
    assert [name_of_data(each) for each in (None, {}, Path("a.npz"))] == ["generated", "given", "a.npz"]


@pytest.mark.parametrize(
    ("array", "said"),
    [
        (np.zeros((2, 4), np.int64), "has int64 for 'x', which is float32; give it in that type"),
        (np.full((2, 4), "text"), "for 'x', which is float32; give it in that type"),
        (np.zeros(4, np.float32), "has 4 for 'x', which is ?x4; give an array like it"),
        (np.zeros((2, 5), np.float32), "has 2x5 for 'x', which is ?x4; give an array like it"),
        (np.float32(0), "has a scalar for 'x', which is ?x4; give an array like it"),
    ],
)
def test_arrays_that_the_model_does_not_take(tmp_path: Path, array: np.ndarray, said: str) -> None:
    np.savez(tmp_path / "data.npz", x=array)
    with pytest.raises(OptionError) as error:
        read_inputs(tmp_path / "data.npz", parse("g (float[N,4] x) => (float[N,4] y) { y = Relu(x) }"))
    assert said in str(error.value)
    assert error.value.exit_code == 2


def test_arrays_of_types_that_numpy_has_not(tmp_path: Path) -> None:
    """bfloat16 as float32, which a session is given in the low type; text as text."""
    np.savez(tmp_path / "data.npz", x=np.zeros(4, np.float32), t=np.array(["a"]))
    model = parse("g (bfloat16[4] x, string[1] t) => (bfloat16[4] y, string[1] u) { y = Relu(x) u = Identity(t) }")
    assert read_inputs(tmp_path / "data.npz", model).keys() == {"x", "t"}
