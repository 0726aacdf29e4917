"""What a session is given, as onnxruntime takes it: byte order, tensors of torch, numbers, sequences, and refusals."""

import subprocess
import sys

import ml_dtypes
import numpy as np
import onnxruntime as ort
import pytest
import torch

from ampgraph import Session
from ampgraph.errors import OptionError
from ampgraph.onnx_model.arrays import as_array, taken
from tests.models import parse

HALVES = np.array([[0.5, 1.5, -2.0, 4.0]], np.float32)
DOUBLE = parse("g (float[A,4] x) => (float[A,4] y) { y = Add(x, x) }")
SCALED = parse("g (float[2] x, int32 n, bool b) => (float[2] y) { f = Cast<to = 1>(n) y = Mul(x, f) c = Not(b) }")
JOINED = parse("g (seq(float[A]) s) => (float[B] y) { y = ConcatFromSequence<axis = 0>(s) }")


class Foreign:
    """An array of another library."""

    def __array__(self, dtype: object = None, copy: object = None) -> np.ndarray:
        return HALVES


@pytest.mark.parametrize(
    "given",
    [
        HALVES.astype(">f4"),
        HALVES.astype(">f4")[:, ::-1][:, ::-1],
        torch.from_numpy(HALVES),
        torch.from_numpy(HALVES).requires_grad_(),
        torch.from_numpy(HALVES.T.copy()).T,
        ort.OrtValue.ortvalue_from_numpy(HALVES),
        Foreign(),
        HALVES.tolist(),
    ],
    ids=["big-endian", "strided", "torch", "with a gradient", "turned", "OrtValue", "foreign", "lists"],
)
def test_arrays_of_every_kind_have_the_answers_of_numpys(given: object) -> None:
    session = Session(DOUBLE, provider="cpu")
    np.testing.assert_array_equal(session.run({"x": given})["y"], HALVES * 2)
    np.testing.assert_array_equal(session.bind({"x": given}).outputs()["y"], HALVES * 2)


@pytest.mark.parametrize("name", ["float16", "bfloat16"])
def test_low_tensors_keep_their_type(name: str) -> None:
    tensor = torch.from_numpy(HALVES).to(getattr(torch, name))
    found = as_array(tensor)
    assert found.dtype == np.dtype(getattr(ml_dtypes, name, name))
    np.testing.assert_array_equal(found.astype(np.float32), HALVES)
    session = Session(parse(f"g ({name}[1,4] x) => (float[1,4] y) {{ y = Cast<to = 1>(x) }}"), provider="cpu")
    for given in (tensor, tensor.float(), HALVES.tolist()):
        np.testing.assert_array_equal(session.run({"x": given})["y"], HALVES)


def test_torch_is_not_loaded_to_be_asked() -> None:
    script = (
        "import sys, numpy as np, ampgraph; from onnx import parser;"
        """model = parser.parse_model('<ir_version: 8, opset_import: ["" : 17]> g (float[N] x) => (float[N] y)"""
        """ { y = Neg(x) }');"""
        "print(ampgraph.Session(model).run({'x': np.ones(2, '>f4')})['y'], 'torch' in sys.modules)"
    )
    shown = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True).stdout
    assert shown == "[-1. -1.] False\n"


@pytest.mark.parametrize("n", [3, np.int32(3), np.int64(3), np.array(3, np.int32), torch.tensor(3, dtype=torch.int32)])
@pytest.mark.parametrize("b", [True, np.bool_(True)])
def test_scalars_come_in_the_models_type(n: object, b: object) -> None:
    found = Session(SCALED, provider="cpu").run({"x": [1, 2], "n": n, "b": b})["y"]
    np.testing.assert_array_equal(found, [3, 6])


def test_text_is_text() -> None:
    session = Session(parse("g (string[N] t, string s) => (string[N] u) { u = Identity(t) v = Identity(s) }"))
    for given in (
        ["a", "bc"],
        ("a", "bc"),
        np.array(["a", "bc"]),
        np.array(["a", "bc"], ">U2"),
        np.array(["a", "bc"], object),
    ):
        assert list(session.run({"t": given, "s": "text"})["u"]) == ["a", "bc"]


def test_sequences_are_lists_or_tuples_of_what_arrays_may_be() -> None:
    session, row = Session(JOINED, provider="cpu"), HALVES[0]
    for given in ([row], (row,), [torch.from_numpy(row)], [row.astype(">f4")], [row.tolist()]):
        np.testing.assert_array_equal(session.run({"s": given})["y"], row)
    np.testing.assert_array_equal(session.bind({"s": (row, row)}).outputs()["y"], [*row, *row])


def test_optional_inputs_may_be_none() -> None:
    kinds = {"x": "optional(seq(tensor(float)))", "z": "optional(tensor(float))", "m": "map(int64,tensor(float))"}
    found = taken({"x": (HALVES,), "z": None, "m": {1: 2.0}}, kinds, "feeds")
    assert (len(found["x"]), found["z"], found["m"]) == (1, None, {1: 2.0})


@pytest.mark.parametrize(
    ("model", "feeds", "said"),
    [
        (DOUBLE, {"x": None}, "'x' is of type NoneType, which does not do for tensor(float)"),
        (DOUBLE, {"x": object()}, "'x' is of type object, which does not do for tensor(float)"),
        (DOUBLE, {"x": HALVES.astype(object)}, "as an array it holds Python objects"),
        (DOUBLE, {"x": torch.zeros(1, 4).bfloat16()}, "as an array it is bfloat16"),
        (DOUBLE, {"x": [[1], [1, 2]]}, "inhomogeneous"),
        (DOUBLE, {"x": [["a"]]}, "as an array it is <U1"),
        (DOUBLE, {"x": torch.zeros(1, 4, device="meta")}, "'x' is of type Tensor"),
        (SCALED, {"x": [1, 2], "n": 1.5, "b": True}, "'n' is of type float, which does not do for tensor(int32)"),
        (SCALED, {"x": [1, 2], "n": 1 << 40, "b": True}, "out of bounds for int32"),
        (JOINED, {"s": HALVES}, "(a sequence is wanted); give a list of arrays"),
        (JOINED, {"s": [None]}, "'s' is of type list"),
    ],
)
def test_what_is_no_array_is_one_line(model: object, feeds: dict, said: str) -> None:
    session = Session(model, provider="cpu")
    for work in (session.run, session.bind):
        with pytest.raises(OptionError) as error:
            work(feeds)
        assert said in str(error.value)
        assert str(error.value).startswith("feeds of g: ")


def test_a_model_without_inputs_takes_none() -> None:
    session = Session(parse("g () => (float y) { y = Constant<value_float = 1.0>() }"), provider="cpu")
    assert session.run({})["y"] == 1
    with pytest.raises(OptionError, match=r"are of type NoneType; give arrays by name: \{\}$"):
        session.run(None)
    with pytest.raises(OptionError, match=r"hold 'x', which is no input; give none: \{\}$"):
        session.run({"x": 1})
