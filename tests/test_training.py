"""Prices of a training step: products count three times, a cast twice, a parameter's copy once a step."""

import torch
from torch import nn

from ampgraph.devices import device_named
from ampgraph.fx_module.capture import capture
from ampgraph.fx_module.policy import Policy
from ampgraph.precision import Precision
from ampgraph.training import price_training

H100 = device_named("h100")


def graph_of(module: nn.Module, *shape: int):
    return capture(module, ((torch.randn(*shape),), {}), Policy(), "batch").graph


def test_a_large_product_pays_by_itself_and_a_small_one_does_not() -> None:
    for width, pays in ((16, False), (4096, True)):
        graph = graph_of(nn.Linear(width, width, device="meta").to_empty(device="cpu"), width, width)
        costs = price_training(graph, H100, Precision.FLOAT16)
        gain = costs.high["linear:T"] - costs.low["linear:T"]
        around = sum(costs.down[id] for id in costs.down) + sum(costs.keep_low.values())
        assert (gain > around) is pays


def test_what_is_worthwhile_outweighs_all_casts_around_it() -> None:
    graph = graph_of(nn.Sequential(nn.Linear(8, 8), nn.Softmax(-1), nn.Linear(8, 8)), 4, 8)
    plain, asked = (price_training(graph, H100, Precision.FLOAT16, worth) for worth in ((), ("linear:T", "linear_1:T")))
    for id in ("linear:T", "linear_1:T"):
        uses = [use.value for use in graph.uses if use.decision == id]
        around = sum(asked.down.get(value, 0) + asked.keep_low.get(value, 0) for value in uses)
        assert asked.high[id] - asked.low[id] > around
    assert asked.high["softmax:T"] == plain.high["softmax:T"]


def test_copies_of_parameters_have_a_price_and_numbers_have_none() -> None:
    module = nn.Sequential(nn.Linear(512, 512), nn.Threshold(0.1, 0.0))
    costs = price_training(graph_of(module, 4, 512), H100, Precision.FLOAT16)
    assert set(costs.keep_low) == {"p_0_weight", "p_0_bias"}
    assert costs.keep_low["p_0_weight"] > costs.keep_low["p_0_bias"]
    assert not costs.keep_high
