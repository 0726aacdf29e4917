"""Arguments of a session: what means nothing is one line, what cannot be had is a note."""

import numpy as np
import pytest

from ampgraph import Session
from ampgraph.errors import OptionError
from ampgraph.onnx_model.asked import lacking
from ampgraph.onnx_model.run import CPU, CUDA, TENSORRT
from tests.models import parse

MODEL = parse("g (float[A,4] x) => (float[A,4] y) { y = Add(x, x) }")


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ({"provider": None}, "provider: is None; choose one of best, cpu, cuda, tensorrt"),
        ({"provider": [CPU]}, "provider: is ['CPUExecutionProvider']; choose one of"),
        ({"provider_options": 5}, "provider_options: is of type int; give text by name"),
        ({"tf32": "yes"}, "tf32: is 'yes'; give True, False or 'auto'"),
        ({"nhwc": None}, "nhwc: is None; give True, False or 'auto'"),
        ({"cuda_graph": "yes"}, "cuda_graph: is 'yes'; give True, False or 'auto'"),
        ({"native": 1}, "native: is 1; give True, False or 'auto'"),
        ({"recorded": "auto"}, "recorded: is 'auto'; give True or False"),
        ({"conv_search": "foo"}, "conv_search: is 'foo'; choose one of EXHAUSTIVE, HEURISTIC, DEFAULT"),
    ],
)
def test_what_means_nothing_is_refused(words: dict, said: str) -> None:
    with pytest.raises(OptionError) as error:
        Session(MODEL, **words)
    assert str(error.value).startswith(said)


def test_what_cannot_be_had_on_the_cpu_is_noted() -> None:
    options = {"arena_extend_strategy": "kSameAsRequested"}
    wishes = {"nhwc": True, "tf32": True, "conv_search": "HEURISTIC", "provider_options": options}
    session = Session(MODEL, provider="cpu", **wishes)
    assert session.notes == tuple(
        f"without {what}, which {CUDA} has and {CPU} has not"
        for what in ("channels last", "TF32", "conv_search HEURISTIC", "options of the provider")
    )
    assert session.run({"x": np.ones((2, 4), np.float32)})["y"].sum() == 16
    assert Session(MODEL, provider="cpu", nhwc=False, tf32=False, cuda_graph=False, native=False).notes == ()


def test_what_can_be_had_is_not_noted() -> None:
    asked = {"nhwc": True, "tf32": True}
    assert [*lacking(CUDA, asked, "HEURISTIC", {"a": "b"})] == []
    assert [note.split(",")[0] for note in lacking(TENSORRT, asked, "EXHAUSTIVE", {"a": "b"})] == [
        "without channels last"
    ]
