"""Errors that point to an argument of the Python API name the option on the command line."""

import pytest

from ampgraph.commands.naming import as_options
from ampgraph.errors import OptionError


@pytest.mark.parametrize(
    ("place", "said"),
    [
        ("cuda_graph", "--cuda-graph"),
        ("provider gpu", "--provider gpu"),
        ("tolerance -1.0", "--tolerance -1.0"),
        ("shapes['x']", "--shape x"),
        ("shapes['x']=2x3", "--shape x=2x3"),
        ("""shapes["it's"]=2""", "--shape it's=2"),
        (r"shapes['a\\b']", r"--shape a\b"),
        ("--shape x", "--shape x"),
        ("cuda_graph.onnx", "cuda_graph.onnx"),
        ("provider.onnx", "provider.onnx"),
        ("the generated inputs", "the generated inputs"),
    ],
)
def test_places_become_options(place: str, said: str) -> None:
    assert as_options(OptionError(place, "is cuda_graph: so", "mend it")) == f"{said}: is cuda_graph: so; mend it"
