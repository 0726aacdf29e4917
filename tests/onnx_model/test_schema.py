"""Signatures: onnx's word for its operators, onnxruntime's for the others."""

import onnx
import pytest

from ampgraph.onnx_model.schema import known_types, qualified, signature
from ampgraph.precision import Precision

FLOAT32, FLOAT16, BFLOAT16 = Precision.FLOAT32, Precision.FLOAT16, Precision.BFLOAT16


@pytest.mark.parametrize(
    ("op", "opset", "since", "variable", "admits"),
    [
        ("Conv", 21, 11, "T", {FLOAT32, FLOAT16}),
        ("Conv", 22, 22, "T", {FLOAT32, FLOAT16, BFLOAT16}),
        ("Relu", 12, 6, "T", {FLOAT32, FLOAT16}),
        ("Shape", 20, 19, "T1", set()),
        ("Pow", 20, 15, "T1", {FLOAT32, FLOAT16, BFLOAT16}),
    ],
)
def test_a_schema_is_that_of_the_opset(op: str, opset: int, since: int, variable: str, admits: set[Precision]) -> None:
    found = signature("", op, opset)
    assert found is not None
    assert (found.since_version, found.admits[variable]) == (since, admits)
    assert signature("ai.onnx", op, opset) is found or signature("ai.onnx", op, opset).constraints == found.constraints  # type: ignore[union-attr]


def test_contrib_ops_are_the_runtimes() -> None:
    found = signature("com.microsoft", "SkipLayerNormalization", 1)
    assert found is not None
    assert [formal.type for formal in found.outputs] == ["T", "U", "U", "T"]
    assert (found.admits["T"], found.admits["U"]) == ({FLOAT32, FLOAT16, BFLOAT16}, {FLOAT32})


@pytest.mark.parametrize(("domain", "op"), [("my.own", "Relu"), ("", "NoSuchOperator"), ("com.microsoft", "Relu")])
def test_what_nobody_knows(domain: str, op: str) -> None:
    assert signature(domain, op, 20) is None


def test_an_operator_newer_than_the_opset_is_not_known() -> None:
    """The runtime lists standard operators too, whatever the opset: it is not asked for them."""
    assert onnx.defs.has("Gelu", 20)
    assert signature("", "Gelu", 19) is None


def test_the_last_formal_takes_the_rest_where_it_is_variadic() -> None:
    concat, add = signature("", "Concat", 20), signature("", "Add", 20)
    assert concat is not None
    assert add is not None
    assert concat.input(5) is concat.inputs[0]
    assert (concat.output(1), add.input(2)) == (None, None)
    assert [formal.homogeneous for formal in signature("", "Loop", 20).inputs] == [True, True, False]  # type: ignore[union-attr]


def test_qualified_names() -> None:
    assert [qualified(domain, "Op") for domain in ("", "ai.onnx", "my.own")] == ["Op", "Op", "my.own.Op"]


def test_operators_of_every_version_and_of_the_runtime_are_known() -> None:
    assert {"Conv", "Upsample", "com.microsoft.FusedMatMul", "SimplifiedLayerNormalization"} <= known_types()
    assert "Matmul" not in known_types()
