"""Shape arithmetic: every operator against onnx's reference evaluator."""

import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper
from onnx.reference import ReferenceEvaluator

from ampgraph.onnx_model.shape_operators import OPERATORS

I64 = np.int64
A, B = np.array([7, -3, 0, 5], I64), np.array([2, 2, -3, 4], I64)
F = np.array([1.5, -2.5, 0.4], np.float32)
FLAGS = np.array([True, False, True, False])
GRID = np.arange(12, dtype=I64).reshape(3, 4)


def i(*values: int) -> np.ndarray:
    return np.array(values, I64)


CASES = [
    ("Abs", (A,), {}), ("Add", (A, B), {}), ("And", (FLAGS, FLAGS[::-1].copy()), {}),
    ("Cast", (F,), {"to": 7}), ("Cast", (A,), {"to": 1}), ("CastLike", (A, F), {}), ("Ceil", (F,), {}),
    ("Concat", (A, B), {"axis": 0}), ("Concat", (GRID, GRID), {"axis": -1}),
    ("ConstantOfShape", (i(2, 3),), {}), ("ConstantOfShape", (i(2),), {"value": numpy_helper.from_array(i(4), "")}),
    ("Div", (A, B), {}), ("Div", (F, F + 1), {}), ("Equal", (A, B), {}),
    ("Expand", (i(3), i(2, 3)), {}), ("Expand", (GRID, i(4)), {}), ("Floor", (F,), {}),
    ("Gather", (GRID, i(2, 0)), {}), ("Gather", (GRID, np.array(-1)), {"axis": 1}), ("Greater", (A, B), {}),
    ("GreaterOrEqual", (A, B), {}), ("Identity", (A,), {}), ("Less", (A, B), {}), ("LessOrEqual", (A, B), {}),
    ("Max", (A, B, i(1)), {}), ("Min", (A, B), {}), ("Min", (A,), {}),
    ("Mod", (A, B), {}), ("Mod", (F, F + 1), {"fmod": 1}), ("Mul", (A, B), {}), ("Neg", (A,), {}),
    ("Not", (FLAGS,), {}), ("Or", (FLAGS, FLAGS), {}), ("Pow", (np.abs(F), np.array(-0.5, np.float32)), {}),
    ("Pow", (F, np.array(3, I64)), {}), ("Range", (np.array(2), np.array(11), np.array(3)), {}),
    ("Range", (np.array(5), np.array(0), np.array(-2)), {}), ("ReduceMax", (GRID, i(0)), {"keepdims": 0}),
    ("ReduceMin", (GRID,), {}), ("ReduceProd", (A,), {"keepdims": 0}), ("ReduceSum", (GRID, i(-1)), {}),
    ("ReduceSum", (GRID,), {"noop_with_empty_axes": 1}), ("Reshape", (GRID, i(0, 2, -1)), {}),
    ("Reshape", (np.zeros((0, 3), I64), i(0, 7)), {"allowzero": 1}), ("Round", (F,), {}),
    ("Slice", (GRID, i(1), i(100)), {}), ("Slice", (GRID, i(-1), i(-100), i(1), i(-2)), {}),
    ("Slice", (GRID, i(0, 1), i(2, -1), i(1, 0)), {}), ("Sqrt", (np.abs(F),), {}), ("Squeeze", (GRID[:1], i(0)), {}),
    ("Squeeze", (GRID[:1, :1],), {}), ("Sub", (A, B), {}), ("Transpose", (GRID,), {}),
    ("Transpose", (GRID,), {"perm": [1, 0]}), ("Unsqueeze", (A, i(0, -1)), {}), ("Where", (FLAGS, A, B), {}),
]  # fmt: skip


@pytest.mark.parametrize(("op", "operands", "attributes"), CASES, ids=lambda part: part if type(part) is str else "")
def test_operators_agree_with_the_reference(op: str, operands, attributes) -> None:
    names = [f"i{index}" for index in range(len(operands))]
    node = helper.make_node(op, names, ["y"], **attributes)
    inputs = [
        helper.make_tensor_value_info(name, helper.np_dtype_to_tensor_dtype(array.dtype), array.shape)
        for name, array in zip(names, operands, strict=True)
    ]
    graph = helper.make_graph([node], "g", inputs, [helper.make_value_info("y", onnx.TypeProto())])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)])
    (expected,) = ReferenceEvaluator(model).run(None, dict(zip(names, operands, strict=True)))
    given = {entry.name: helper.get_attribute_value(entry) for entry in node.attribute}
    found = np.asarray(OPERATORS[op](list(operands), given))
    assert found.dtype == expected.dtype
    np.testing.assert_array_equal(found, expected)


def test_every_operator_has_a_case() -> None:
    assert {op for op, _, _ in CASES} == set(OPERATORS)


def test_powers_of_whole_numbers_are_left_to_the_runtime() -> None:
    assert OPERATORS["Pow"]([A, i(-1)], {}) is None
