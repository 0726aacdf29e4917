"""Every operator that is measured on a GPU is a model that holds, and the plain ones run anywhere."""

import numpy as np
import onnx
import pytest
from onnxruntime.capi.onnxruntime_pybind11_state import get_all_operator_schema

from ampgraph.onnx_model.session import Session
from benchmarks.gpu_operators import cases, drawn

SCHEMAS = {schema.name for schema in get_all_operator_schema() if schema.domain == "com.microsoft"}
STANDARD = {schema.name for schema in onnx.defs.get_all_schemas() if not schema.domain}
CASES = {case.title: case for case in cases()}


def test_titles_differ():
    assert len(CASES) == len(cases())


@pytest.mark.parametrize("title", CASES)
def test_a_case_is_a_model(title):
    model = CASES[title].model()
    for node in model.graph.node:
        known = SCHEMAS if node.domain else STANDARD
        assert node.op_type in known
    made = {name for node in model.graph.node for name in node.output}
    given = {value.name for value in (*model.graph.input, *model.graph.initializer)}
    assert all(name in made | given | {""} for node in model.graph.node for name in node.input)
    assert [value.name for value in model.graph.output] == ["y"]
    assert all(not value.name.startswith("w") for value in model.graph.input)


def test_a_case_runs():
    model = CASES["a bias of 96 channels as a sum"].model()
    feeds = {value.name: drawn(value, np.random.default_rng(0)) for value in model.graph.input}
    assert Session(model, provider="cpu").run(feeds)["y"].shape == (32, 96, 112, 112)
