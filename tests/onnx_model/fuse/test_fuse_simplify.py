"""What does nothing at inference hides no pattern; what may do something stays."""

from collections import Counter

import pytest
from onnx import TensorProto, helper

from ampgraph.onnx_model.fuse.fuse import fuse
from ampgraph.onnx_model.fuse.simplify import simplify
from tests.onnx_model.fuse.answers import counts_of, model_of

WEIGHTS = {"w": (16, 16), "b": (16,), "v": (16, 16)}
BODY = "p = MatMul(x, w)  {dropout}  q = Add(d, b)  y = Gelu(q)"


def counts(dropout: str, inputs: str = "", outputs: str = "") -> Counter[str]:
    text = f"g (float[n,5,16] x{inputs}) => (float[n,5,16] y{outputs}) {{ {BODY.format(dropout=dropout)} }}"
    model = model_of(text, WEIGHTS, opset=20)
    if inputs:
        found = fuse(model, {"x": (2, 5, 16), "train": ()})
        return Counter() if found is None else Counter(node.op_type for node in found.model.graph.node)
    return counts_of(model, {"x": (2, 5, 16)})


@pytest.mark.parametrize(
    "dropout",
    [
        "d = Dropout(p)",
        "r = Constant<value_float = 0.5>()  d = Dropout(p, r)",
        "r = Constant<value_float = 0.5>()  t = Constant<value = bool {0}>()  d = Dropout(p, r, t)",
        "d0 = Identity(p)  d1 = Dropout(d0)  d = Dropout(d1)",
    ],
)
def test_a_dropout_at_inference_is_nothing(dropout: str) -> None:
    found = counts(dropout)
    assert (found["Dropout"], found["Identity"], found["BiasGelu"]) == (0, 0, 1)


@pytest.mark.parametrize(
    ("dropout", "inputs", "outputs"),
    [
        ("r = Constant<value_float = 0.5>()  d = Dropout(p, r, train)", ", bool train", ""),
        ("d, mask = Dropout(p)", "", ", bool[n,5,16] mask"),
    ],
    ids=["may train", "mask"],
)
def test_one_that_may_train_or_whose_mask_is_asked_for_stays(dropout: str, inputs: str, outputs: str) -> None:
    found = counts(dropout, inputs, outputs)
    assert found["Dropout"] == (1 if found else 0)


def test_one_that_is_told_to_train_stays() -> None:
    body = BODY.format(
        dropout="r = Constant<value_float = 0.5>()  t = Constant<value = bool {1}>()  d = Dropout(p, r, t)"
    )
    model = model_of(f"g (float[n,5,16] x) => (float[n,5,16] y) {{ {body} }}", WEIGHTS, opset=20)
    found = fuse(model, {"x": (2, 5, 16)})
    assert "Dropout" in [node.op_type for node in found.model.graph.node]


@pytest.mark.parametrize(
    "cast", ["d = Cast<to = 1>(p)", "d0 = Cast<to = 1>(p)  d1 = Identity(d0)  d = Cast<to = 1>(d1)"]
)
def test_a_cast_to_what_a_value_is_is_nothing(cast: str) -> None:
    """As torch's older exporter writes every `.float()` of a normalization or a softmax."""
    found = counts(cast)
    assert (found["Cast"], found["Identity"], found["BiasGelu"]) == (0, 0, 1)


@pytest.mark.parametrize(
    ("cast", "outputs", "left"),
    [
        ("c = Cast<to = 11>(p)  d = Cast<to = 1>(c)", "", 2),
        ("d = Cast<to = 1>(p)  z = Cast<to = 1>(x)", ", float[n,5,16] z", 1),
        ("c = Cast<to = 10>(p)  e = Cast<to = 10>(c)  d = Cast<to = 1>(e)", "", 2),
    ],
    ids=["to doubles and back", "with a name that must stay", "to halves twice and back"],
)
def test_casts_that_are_something_stay(cast: str, outputs: str, left: int) -> None:
    assert counts(cast, outputs=outputs)["Cast"] == left


def test_a_cast_of_what_nobody_knows_stays() -> None:
    """An operator without a schema makes it."""
    body = BODY.format(dropout="c = com.microsoft.Odd(p)  d = Cast<to = 1>(c)")
    model = model_of(f"g (float[n,5,16] x) => (float[n,5,16] y) {{ {body} }}", WEIGHTS, opset=20)
    assert "d" not in simplify(model).replaced
    model.graph.value_info.append(helper.make_tensor_value_info("c", TensorProto.FLOAT, ["n", 5, 16]))
    assert simplify(model).replaced["d"] == "c"  # as soon as somebody says
