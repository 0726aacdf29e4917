"""Every value has one entry, in the order of computing, and the evaluator's model has it at the same place."""

from pathlib import Path

import pytest
from hypothesis import given
from onnx import GraphProto, ModelProto

from ampgraph.onnx_model.inventory import Inventory, take_inventory
from ampgraph.onnx_model.inventory import Path as Place
from ampgraph.onnx_model.io import Loaded
from ampgraph.onnx_model.simulate import simulate
from ampgraph.onnx_model.types import bodies
from tests.models import W, convert, parse
from tests.onnx_model.test_properties import RELAXED, models
from tests.onnx_model.test_side_by_side import WHERE, lowered, planted


def inventory(model: ModelProto) -> Inventory:
    return take_inventory(Loaded(model, Path()))


def made_at(model: ModelProto, path: Place) -> set[str]:
    """Names of what the nodes of a body make."""
    graph: GraphProto = model.graph
    for position, index in path:
        owners = [node for node in graph.node if list(bodies(node))]
        graph = list(bodies(owners[position]))[index][1]
    return {name for node in graph.node for name in node.output if name}


def assert_places_are_kept(model: ModelProto) -> None:
    found = inventory(model)
    rewritten = simulate(found.model)
    for entry in found.made:
        assert entry.value.name in made_at(found.model, entry.path)
        assert entry.value.name in made_at(rewritten, entry.path)


@pytest.mark.parametrize("where", WHERE)
def test_the_evaluator_keeps_names_and_places(where: str) -> None:
    assert_places_are_kept(lowered(planted(where)))


def test_so_it_does_where_kernels_are_taken_apart() -> None:
    """Softplus, Elu and the like become several operators, Celu and Mish their schema's function."""
    source = parse(
        f"g (float[2, 4] x, bool c) => (float[2, 4] y) <{W}> {{ h = MatMul(x, w) s = Softplus(h) "
        "e = Elu(s) m = Mish(e) k = Celu(m) r = ReduceMean(k) t = HardSwish(r) "
        "y = If(c)<then_branch = a () => (float[2, 4] p) { p0 = Softsign(k) p = Add(p0, t) },"
        "else_branch = b () => (float[2, 4] q) { q0 = Mish(k) q = Selu(q0) }> }"
    )
    assert_places_are_kept(convert(source, low="Softplus|^Elu|Mish|Mean|Hard|Softsign|Selu|Add").model)


@RELAXED
@given(models())
def test_so_it_does_for_any_graph(model: ModelProto) -> None:
    assert_places_are_kept(model)
    assert_places_are_kept(convert(model).model)


@pytest.mark.parametrize("where", WHERE)
def test_values_stand_in_the_order_of_computing(where: str) -> None:
    found = inventory(planted(where))
    assert [entry.order for entry in found.made] == list(range(len(found.made)))
    names = [entry.value.name for entry in found.made]
    assert names.index("plant_second") < names.index("plant_back") < names.index("y")
    assert len({entry.value.id for entry in found.made}) == len(found.made)


def test_what_gave_its_name_to_a_cast_is_known_by_it() -> None:
    source = parse(f"g (float[2, 4] x) => (float[2, 4] y) <{W}> {{ y = MatMul(x, w) }}")
    found = {entry.value.name: entry for entry in inventory(convert(source).model).made}
    assert {name: (entry.key[1], entry.is_cast) for name, entry in found.items()} == {
        "x_float16": ("x", True),
        "y_float16": ("y", False),
        "y": ("y", True),
    }
