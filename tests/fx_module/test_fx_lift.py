"""Lift: which decisions a torch graph has, what they are called, and why some cannot move."""

import pytest
import torch
from graphs import Function, lifted, prepared
from torch import nn
from torch_models import Convolutional, mlp

from ampgraph.fx_module.schema import op_type
from ampgraph.precision import Precision

torch.manual_seed(0)
X = torch.randn(4, 6)
ZEROS = torch.zeros(4, dtype=torch.long)


def pins(function, *args, **tensors) -> dict[str, str]:
    graph = lifted(Function(function, **tensors), *args)
    return {id: decision.pin for id, decision in graph.decisions.items() if decision.kind == "op"}


def test_a_small_network() -> None:
    graph = lifted(mlp(), torch.randn(4, 12))
    assert [op.type for op in graph.ops.values()] == ["aten.linear", "aten.relu", "aten.linear"]
    assert [op.name for op in graph.ops.values()] == ["0.linear", "1.relu", "2.linear_1"]
    assert list(graph.decisions) == ["input:input_1", "linear:T", "relu:T", "linear_1:T", "output:output_0"]
    assert [use.decision for use in graph.uses] == ["linear:T"] * 3 + ["relu:T"] + ["linear_1:T"] * 3 + [
        "output:output_0"
    ]
    weight = graph.values["p_0_weight"]
    assert weight.constant is not None
    assert weight.constant.scalar is None  # training changes it: nothing is known of its numbers
    assert graph.values["linear"].shape == (4, 16)
    assert graph.dialect == "torch.fx"


def test_batch_normalization_takes_float32_statistics_beside_low_inputs() -> None:
    graph = lifted(Convolutional(), torch.randn(2, 3, 8, 8))
    fixed = {id for id, decision in graph.decisions.items() if decision.pin}
    assert fixed == {f"batch_norm:{formal}" for formal in ("weight", "bias", "running_mean", "running_var")}
    assert graph.decisions["batch_norm:T"].is_open(Precision.FLOAT16)


@pytest.mark.parametrize(
    ("function", "id", "why"),
    [
        (lambda m, x: x.float() + 1, "to:T", "a cast of the author's"),
        (lambda m, x: x.half().sin(), "sin:T", ""),
        (lambda m, x: x.softmax(-1, dtype=torch.float32), "softmax:R", "its type is written in the source (float32)"),
        (lambda m, x: x * torch.arange(6), "mul:T", "takes integers as floats"),
        (lambda m, x: x.double() * x, "mul:T", "mixes types in the source: float32 and float64"),
        (lambda m, x: (x > 0) / 2 + x, "div:T", "makes floats of what are none"),
        (lambda m, x: torch.linalg.inv(x[:, :4]), "linalg_inv:T", "torch refuses it"),
        (
            lambda m, x: nn.functional.embedding(torch.zeros(4, dtype=torch.long), m.table) + x,
            "embedding:T",
            "its gradient",
        ),
    ],
)
def test_why_a_decision_cannot_move(function, id, why) -> None:
    found = pins(function, X, table=nn.Parameter(torch.randn(9, 6)))
    key = next(each for each in found if each.startswith(id.rstrip("T").rstrip(":")) and each.endswith(id[-1]))
    assert why in found[key] if why else not found[key], found


def test_numbers_are_constants_of_the_op() -> None:
    graph = lifted(Function(lambda m, x: (x + 1e-9) ** 2.0), X)
    add, power = graph.ops.values()
    assert graph.values[add.inputs[1].value].constant.scalar == 1e-9
    assert graph.values[add.inputs[1].value].constant.conversions[Precision.FLOAT16].flushed == 1
    assert graph.values[power.inputs[1].value].constant.scalar == 2.0


def test_buffers_are_measured_unless_they_are_written() -> None:
    def function(m, x):
        m.count.add_(1.0)
        return x * m.table + m.count

    graph = lifted(Function(function, table=torch.full((6,), 1e6), count=torch.zeros(6)), X)
    assert graph.values["b_table"].constant.conversions[Precision.FLOAT16].overflowed == 6
    assert not graph.values["b_count"].constant.conversions
    assert "shares memory that is written" in graph.decisions["add:T"].pin


def test_several_results_are_values_of_their_own() -> None:
    graph = lifted(Function(lambda m, x: sum(x.chunk(2, -1)) + x.max(-1)[0][:, None]), X)
    assert {"chunk.0", "chunk.1", "max_1.0", "max_1.1"} <= set(graph.values)
    assert graph.values["max_1.1"].dtype == "int64"
    assert all(use.value in graph.values for use in graph.uses)


def test_questions_about_sizes_are_no_ops() -> None:
    found = prepared(Function(lambda m, x: x.view(x.shape[0] * 2, 3)), X)
    assert any("sym_size" in op_type(node) for node in found.graph.nodes if node.op == "call_function")
    assert [op.type for op in lifted(Function(lambda m, x: x.view(x.shape[0] * 2, 3)), X).ops.values()] == ["aten.view"]
