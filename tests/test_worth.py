"""A plan must gain more than the model can tell: less as a CUDA graph, and nothing where somebody asked by name."""

from dataclasses import replace

import onnx
import pytest

from ampgraph.cost import price
from ampgraph.costs import Costs
from ampgraph.devices import device_named
from ampgraph.graph import PrecisionGraph
from ampgraph.judge import judge
from ampgraph.judgement import Judgement
from ampgraph.onnx_model.lift import lift
from ampgraph.precision import Precision
from ampgraph.ranges import propagate
from ampgraph.rulebook import load_builtin
from ampgraph.wishes import Wishes
from ampgraph.worth import gain, hardly_pays, left_alone

TEXT = """<ir_version: 8, opset_import: ["" : 17]> g (float[64,64] x, float[64,64] w) => (float[64,64] y)
  { [product] y = MatMul(x, w) }"""


def judged(wishes: Wishes) -> tuple[PrecisionGraph, Judgement, Costs]:
    graph = lift(onnx.parser.parse_model(TEXT))
    judgement = judge(graph, load_builtin(), propagate(graph), Precision.FLOAT16, None, wishes)
    costs = price(graph, "speed", device_named("h100"), Precision.FLOAT16)
    return graph, judgement, replace(costs, down=dict.fromkeys(costs.down, 0), up=dict.fromkeys(costs.up, 0))


def saving(costs: Costs, part: float) -> Costs:
    """The costs where low precision takes that part less."""
    return replace(costs, low={id: round(price * (1 - part)) for id, price in costs.high.items()})


@pytest.mark.parametrize(("part", "plain", "replayed"), [(0.01, True, True), (0.03, True, False), (0.06, False, False)])
def test_what_a_plan_must_gain(part, plain, replayed):
    graph, judgement, costs = judged(Wishes("", "", frozenset()))
    low = frozenset(id for id in costs.high)
    assert gain(graph, judgement, saving(costs, part), low) == pytest.approx(part, abs=1e-3)
    assert hardly_pays(graph, judgement, saving(costs, part), low) is plain
    assert hardly_pays(graph, judgement, saving(costs, part), low, cuda_graph=True) is replayed


def test_what_is_asked_for_by_name_need_not_pay():
    graph, judgement, costs = judged(Wishes("", "product", frozenset()))
    assert not hardly_pays(graph, judgement, saving(costs, 0.0), frozenset(costs.high))


def test_a_model_that_is_left_alone_says_what_it_could_gain():
    graph, judgement, costs = judged(Wishes("", "", frozenset()))
    plan = left_alone(graph, judgement, saving(costs, 0.03), frozenset(costs.high))
    assert not plan.low
    assert all("3.0% faster" in plan.choices[id].why for id in costs.high)
