"""Every trap goes the real road under every objective and for both targets: nothing that breaks converters breaks ours.

Each conversion passes the full checker, keeps the interface, opens and runs in a CPU session and gives the float32
answers.
"""

import pytest
from onnx import ModelProto

from tests.models import FLOAT, OBJECTIVES, TARGETS, assert_agrees, assert_valid, convert, elem_types, low_ops
from tests.traps.building import Trap
from tests.traps.control import control_traps
from tests.traps.data import data_traps
from tests.traps.edges import edges_traps
from tests.traps.operators import operators_traps

TRAPS = (*data_traps(), *edges_traps(), *control_traps(), *operators_traps())


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("objective", OBJECTIVES)
@pytest.mark.parametrize("trap", TRAPS, ids=lambda trap: trap.name)
def test_trap(trap: Trap, objective: str, target: str):
    before = trap.model.SerializeToString(deterministic=True)
    result = convert(trap.model, objective=objective, target=target)
    assert trap.model.SerializeToString(deterministic=True) == before
    assert_valid(trap.model, result.model)
    if objective == "coverage" and target == "onnx":
        assert trap.low <= low_ops(result)
    if trap.runs:
        assert_agrees(trap.model, result.model, trap.feeds)


@pytest.mark.parametrize("objective", ["memory", "coverage"])
@pytest.mark.parametrize("trap", [trap for trap in TRAPS if "value_info" in trap.name], ids=lambda trap: trap.name)
def test_a_stale_word_on_an_inner_value_is_not_in_the_result(trap: Trap, objective: str):
    """Of its type; not even where that was so wrong that the source could not run: the answers are those without it."""
    clean = ModelProto()
    clean.CopyFrom(trap.model)
    del clean.graph.value_info[:]
    result = convert(trap.model, objective=objective)
    assert result.plan.low
    assert_agrees(clean, result.model)
    said = {value.name: value.type.tensor_type.elem_type for value in result.model.graph.value_info}
    del result.model.graph.value_info[:]
    assert said.items() <= ({"gone": FLOAT} | elem_types(result.model)).items()
