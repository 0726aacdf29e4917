"""How a session is opened: what is asked for, then what the file records, then the rules."""

from dataclasses import replace

import numpy as np
import onnx
import pytest
from onnx import ModelProto

import ampgraph
from ampgraph.errors import ModelError
from ampgraph.onnx_model.run import CPU, CUDA, best_provider
from ampgraph.onnx_model.setup import first_setup, read_record, settled
from ampgraph.onnx_model.timing import device_name
from ampgraph.settings import SESSION_KEY, MeasuredSetting, Setting
from tests.small_models import parse, random

FEEDS = {"x": np.ones((1, 8, 4, 4), np.float32)}
AUTO = {"cuda_graph": "auto", "nhwc": "auto", "tf32": "auto"}
MEASURED = MeasuredSetting(Setting(False, False, True), "NVIDIA H100", CUDA, True, {"x": (1, 8, 4, 4)})
HERE = replace(MEASURED, provider=CPU, cuda_graph=False, device=device_name(CPU))


def model(record: str = "") -> ModelProto:
    made = parse("g (float[1,8,4,4] x) => (float[1,8,4,4] y) { y = Conv(x, w, b) }", w=random(8, 8, 1, 1), b=random(8))
    if record:
        onnx.helper.set_model_props(made, {SESSION_KEY: record})
    return made


def test_what_is_recorded_is_taken_where_it_is_left_to_the_session() -> None:
    setup = first_setup(CUDA, "auto", MEASURED)
    assert setup.cuda_graph
    found = settled(setup, model(), AUTO)
    assert (found.nhwc, found.tf32) == (False, False)
    assert found.recorded.provider_options == {"fuse_conv_bias": "1"}
    by_rule = settled(first_setup(CUDA, "auto"), model(), AUTO)
    assert (by_rule.nhwc, by_rule.tf32) == (True, True)
    partly = replace(MEASURED, setting=Setting(tf32=False))
    assert not settled(first_setup(CUDA, "auto", partly), model(), AUTO).nhwc  # by the rule for runs without TF32


def test_arguments_win_over_what_is_recorded() -> None:
    found = settled(first_setup(CUDA, "auto", MEASURED), model(), {**AUTO, "nhwc": True, "tf32": True})
    assert (found.nhwc, found.tf32) == (True, True)


def test_runs_are_as_measured() -> None:
    plain = replace(MEASURED, cuda_graph=False)
    assert not first_setup(CUDA, "auto", plain).cuda_graph
    assert first_setup(CUDA, True, None).cuda_graph
    assert read_record(model(plain.to_text()), CUDA, False).measured == plain


def test_a_record_of_another_way_of_running_or_another_provider_is_not_used() -> None:
    recorded = model(MEASURED.to_text())
    found = read_record(recorded, CUDA, False)
    assert found.measured is None
    assert found.note == "not in the setting that the file records: that is for running it as CUDA graph"
    assert read_record(recorded, CPU, "auto").note.endswith(f"that is for {CUDA}")
    assert read_record(model("{}"), CPU, "auto").note.startswith("not in the setting that the file records: it lacks")
    assert (read_record(model(), CPU, "auto").measured, read_record(model(), CPU, "auto").note) == (None, "")


def test_a_session_says_what_it_made_of_the_record() -> None:
    session = ampgraph.Session(model(HERE.to_text()), provider="cpu")
    assert session.recorded == HERE
    assert session.notes == (f"the file records: {HERE.words}",)
    np.testing.assert_array_equal(session.run(FEEDS)["y"], ampgraph.Session(model(), provider="cpu").run(FEEDS)["y"])
    elsewhere = ampgraph.Session(model(replace(HERE, device="another").to_text()), provider="cpu")
    assert elsewhere.notes[0].endswith(f"; this is {HERE.device}")
    other = ampgraph.Session(model(MEASURED.to_text()), provider="cpu")
    assert (other.recorded, len(other.notes)) == (None, 1)
    silent = ampgraph.Session(model(HERE.to_text()), provider="cpu", recorded=False)
    assert (silent.recorded, silent.notes) == (None, ())


def test_without_the_recorded_kernels_a_session_goes_by_its_rules() -> None:
    """They are for CUDA, so on the CPU provider they cannot be had."""
    recorded = model(replace(HERE, setting=Setting(native=True)).to_text())
    session = ampgraph.Session(recorded, provider="cpu")
    assert (session.native, session.recorded) == (False, None)
    (note,) = session.notes
    assert note == f"not in the setting that the file records: kernels of our own are for {CUDA}, {CPU} is in use"
    assert session.run(FEEDS)["y"].shape == (1, 8, 4, 4)
    without = ampgraph.Session(recorded, provider="cpu", native=False)
    assert not without.native
    assert without.recorded is not None
    with pytest.raises(ModelError, match="kernels of our own"):
        ampgraph.Session(recorded, provider="cpu", native=True)


@pytest.mark.skipif(best_provider() != CUDA, reason="no GPU here")
def test_on_a_gpu_a_session_has_the_kernels_that_the_file_records() -> None:
    graph = "g (float16[1,8,6,6] x) => (float16[1,16,4,4] y) { c = Conv<kernel_shape=[3,3]>(x, w, b) y = Relu(c) }"
    made = parse(graph, w=random(16, 8, 3, 3).astype(np.float16), b=random(16).astype(np.float16))
    onnx.helper.set_model_props(made, {SESSION_KEY: replace(MEASURED, setting=Setting(native=True)).to_text()})
    feeds = {"x": np.ones((1, 8, 6, 6), np.float16)}
    session = ampgraph.Session(made)
    assert session.native
    expected = ampgraph.Session(made, recorded=False).run(feeds)["y"]
    np.testing.assert_allclose(session.run(feeds)["y"], expected, rtol=2e-2, atol=2e-3)
