"""Numbers that float16 gets wrong without any data to show it, converted under every objective."""

import pytest

import ampgraph
from ampgraph.onnx_model.compare import output_errors
from ampgraph.onnx_model.run import CPU, open_session, run
from ampgraph.onnx_model.simulate import simulate
from tests.number_cases import NumberCase, number_cases


@pytest.mark.parametrize("case", number_cases(), ids=lambda case: case.name)
def test_true_float16_gives_the_float32_answer(case: NumberCase) -> None:
    reference = run(open_session(case.model, provider=CPU), case.feeds)
    for objective in ("speed", "memory", "coverage"):
        converted = ampgraph.convert(case.model, objective=objective, shapes=case.shapes).model
        found = run(open_session(simulate(converted), provider=CPU), case.feeds)
        wrong = [error for error in output_errors(reference, found) if not error.within(case.bar)]
        assert not wrong, objective
