"""Apply and check: the graph that is written is the one that was planned."""

import dataclasses

import pytest
import torch
from graphs import Function, captured
from torch import nn
from torch_models import Convolutional, mlp

from ampgraph.errors import PlanError
from ampgraph.fx_module.apply import CAST, apply, is_cast
from ampgraph.fx_module.capture import held_tensors
from ampgraph.fx_module.lift import Holdings
from ampgraph.fx_module.verify import verify_applied
from ampgraph.precision import Precision

torch.manual_seed(0)
X = torch.randn(4, 6)


def test_casts_are_nodes_that_name_what_they_cast() -> None:
    found = captured(mlp(), torch.randn(4, 12))
    casts = [node for node in found.written.nodes if is_cast(node)]
    assert {node.meta[CAST][0] for node in casts} == {
        "input_1", "linear_1", "p_0_weight", "p_0_bias", "p_2_weight", "p_2_bias",
    }  # fmt: skip
    assert {node.name for node in found.prepared.graph.nodes} <= {node.name for node in found.written.nodes}


def test_the_source_graph_is_left_alone() -> None:
    found = captured(mlp(), torch.randn(4, 12))
    assert not any(is_cast(node) for node in found.prepared.graph.nodes)
    made = [node.meta["val"] for node in found.prepared.graph.nodes if node.op != "output"]
    assert all(val.dtype is torch.float32 for val in made)


def test_a_value_is_cast_once_for_all_its_uses() -> None:
    tensors = {name: nn.Parameter(torch.randn(6, 6)) for name in "wv"}
    module = Function(lambda m, x: x @ m.w + (x @ m.w).sum() + (x @ m.v).exp(), **tensors)
    found = captured(module, X)
    names = [node.meta[CAST] for node in found.written.nodes if is_cast(node)]
    assert len(names) == len(set(names))
    assert ("p_w", Precision.FLOAT16) in names


def test_numbers_beyond_the_format_become_its_ends() -> None:
    lowest = torch.finfo(torch.float32).min

    def attend(m, x):
        hidden = torch.full((6, 6), lowest).triu(1)
        q = (x @ m.w).view(1, 1, -1, 6)
        return nn.functional.scaled_dot_product_attention(q, q, q, attn_mask=hidden[:4, :4])

    module = Function(attend, w=nn.Parameter(torch.randn(6, 6)))
    found = captured(module, X, objective="coverage")
    fill = next(node for node in found.written.nodes if node.name.startswith("full"))
    assert fill.kwargs["dtype"] is torch.float16
    assert fill.args[1] == -65504.0
    attention = next(node for node in found.written.nodes if "attention" in node.name)
    assert attention.meta["val"].dtype is torch.float16


@pytest.mark.parametrize("precision", list(Precision)[1:])
def test_modules_of_one_op_each_are_written_as_planned(precision: Precision) -> None:
    """Every stage's own check runs in `captured`; this walks many ops through them with as much low as is legal."""
    functions = [
        lambda m, x: torch.cat([x @ m.w, x], 0),
        lambda m, x: torch.where(x > 0, x @ m.w, -1e9),
        lambda m, x: (x @ m.w).masked_fill(x > 0, float("-inf")).softmax(-1),
        lambda m, x: nn.functional.layer_norm(x @ m.w, (6,), m.w[0], m.w[1]),
        lambda m, x: nn.functional.group_norm((x @ m.w)[:, :, None], 2),
        lambda m, x: nn.functional.cross_entropy(x @ m.w, torch.zeros(x.shape[0], dtype=torch.long)),
        lambda m, x: nn.functional.interpolate((x @ m.w)[:, None, :], scale_factor=2.0),
        lambda m, x: torch.einsum("bi,ij->bj", x, m.w).topk(2)[0],
        lambda m, x: nn.functional.pad(x @ m.w, (1, 1), value=3.0),
        lambda m, x: nn.functional.normalize(x @ m.w, dim=-1),
        lambda m, x: torch.var_mean(x @ m.w, -1),
        lambda m, x: nn.functional.log_softmax(x @ m.w, -1),
        lambda m, x: nn.functional.prelu(x @ m.w, m.w[0, :1]),
        lambda m, x: torch.stack([x @ m.w, torch.zeros_like(x)]).amax(0).clamp(min=-1e30),
        lambda m, x: (x @ m.w, x, m.w),
    ]
    for function in functions:
        module = Function(function, w=nn.Parameter(torch.randn(6, 6)))
        found = captured(module, X, objective="coverage", precision=precision)
        assert found.plan.low


def test_a_graph_that_is_not_the_plan_is_refused() -> None:
    module = Convolutional()
    found = captured(module, torch.randn(2, 3, 8, 8))
    holdings = Holdings.of(found.prepared.states, held_tensors(found.prepared, module))
    other = captured(module, torch.randn(2, 3, 8, 8), keep="body")
    with pytest.raises(PlanError, match="was planned as float16 and is float32 in the graph"):
        verify_applied(other.written, found.graph, found.plan, holdings)
    short = dataclasses.replace(found.plan, casts=found.plan.casts[:-1])
    with pytest.raises(PlanError, match="in only one of plan and graph"):
        verify_applied(found.written, found.graph, short, holdings)
    assert apply(found.prepared.graph, found.graph, found.plan).python_code("self").src
