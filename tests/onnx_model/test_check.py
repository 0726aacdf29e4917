"""The check as data: what counts as a failure."""

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import parser

from ampgraph.errors import OptionError
from ampgraph.onnx_model.check import _lacks_kernels_alone, check, tolerance
from ampgraph.onnx_model.io import Loaded
from ampgraph.onnx_model.run import CPU, CUDA, best_provider
from ampgraph.precision import Precision

SOURCE = "(float[2,4] x, int64[2] i) => (float[2,4] y, int64[2] j) { y = Exp(x)  j = Abs(i) }"
LOW = """(float[2,4] x, int64[2] i) => (float[2,4] y, int64[2] j) {
    h = Cast<to = 10>(x)  [exp] e = Exp(h)  y = Cast<to = 1>(e)  j = Abs(i) }"""


def parse(text: str) -> onnx.ModelProto:
    return parser.parse_model(f'<ir_version: 8, opset_import: ["" : 17]> g {text}')


def source() -> Loaded:
    return Loaded(parse(SOURCE), Path())


def test_tolerance_follows_the_format() -> None:
    assert tolerance(Precision.FLOAT16) == 2.0**-5
    assert tolerance(Precision.BFLOAT16) == 2.0**-2


def test_true_low_precision_numbers_are_compared() -> None:
    found = check(source(), parse(LOW), Precision.FLOAT16, ())
    assert found.simulated is (best_provider() != CUDA)
    assert [output.name for output in found.outputs] == ["y", "j"]
    assert 1e-5 < found.outputs[0].relative < found.bar
    assert found.outputs[1].largest == 0
    assert found.failures == ()


def test_answers_outside_the_tolerance_fail() -> None:
    feeds = {"x": np.full((2, 4), 12.0, np.float32), "i": np.zeros(2, np.int64)}
    found = check(source(), parse(LOW), Precision.FLOAT16, (), feeds)
    assert "infinite or NaN" in found.failures[0]
    wrong = parse(SOURCE.replace("Exp", "Neg"))
    assert "relative L2 error" in check(source(), wrong, Precision.FLOAT16, ()).failures[0]


def test_other_types_and_files_that_do_not_run_fail() -> None:
    other = parse("(float[2,4] x, int64[2] i) => (double[2,4] y, int64[2] j) { y = Cast<to = 11>(x)  j = Abs(i) }")
    assert "float64 instead of float32" in check(source(), other, Precision.FLOAT16, ()).failures[0]
    broken = parse(SOURCE.replace("Exp(x)", "Mystery(x)"))
    found = check(source(), broken, Precision.FLOAT16, ("y",))
    assert "does not run" in found.failures[0]
    assert found.cpu_complaint


def test_what_only_the_evaluator_cannot_compute_is_said_to_run(monkeypatch) -> None:
    """No such model is known, so the evaluator is made one that computes nothing."""
    monkeypatch.setattr("ampgraph.onnx_model.simulate.simulate", lambda _: onnx.ModelProto())
    monkeypatch.setattr("ampgraph.onnx_model.check.best_provider", lambda: CPU)
    found = check(source(), parse(LOW), Precision.FLOAT16, ())
    said = "the converted model runs, but the evaluator of low precision on a CPU cannot compute it ("
    assert found.failures[0].startswith(said)
    broken = check(source(), parse(SOURCE.replace("Exp(x)", "Mystery(x)")), Precision.FLOAT16, ())
    assert broken.failures[0].startswith("the converted model does not run (")


def test_low_outputs_that_were_asked_for_are_compared_by_their_numbers() -> None:
    low = parse(LOW.replace("float[2,4] y", "float16[2,4] y").replace("Cast<to = 1>(e)", "Identity(e)"))
    found = check(source(), low, Precision.FLOAT16, (), low=["y"])
    assert (found.failures, found.outputs[0].mismatch) == ((), "")
    assert found.outputs[0].relative > 1e-5
    assert "float16 instead of float32" in check(source(), low, Precision.FLOAT16, ()).failures[0]
    assert "float16 instead of float32" in check(source(), low, Precision.FLOAT16, (), low=["j"]).failures[0]
    double = parse(SOURCE.replace("float[2,4] y", "double[2,4] y").replace("Exp(x)", "Cast<to = 11>(x)"))
    assert "float64 instead of float32" in check(source(), double, Precision.FLOAT16, (), low=["y"]).failures[0]


def test_names_that_the_runtime_has_low_fail() -> None:
    """On the CPU provider float16 is computed in float32, so a low value is one that is moved and not computed."""
    text = "(float16[4] x) => (float16[4] y) { [copy] h = Transpose<perm = [0]>(x)  [move] y = Reshape(h, s) }"
    model = parse(text)
    model.graph.initializer.append(onnx.numpy_helper.from_array(np.array([4]), "s"))
    found = check(Loaded(model, Path()), model, Precision.FLOAT16, ("x",))
    assert found.lowered == ("x",)
    assert "runtime's graph has it low" in found.failures[0]


def test_given_inputs_that_fit_and_yet_do_not_run_are_a_mistake_of_the_caller() -> None:
    """The declared sizes are free, and the product admits but one of them."""
    model = parse("(float[N,M] x) => (float[N,K] y) { y = MatMul(x, w) }")
    model.graph.initializer.append(onnx.numpy_helper.from_array(np.ones((4, 4), np.float32), "w"))
    feeds = {"x": np.zeros((2, 5), np.float32)}
    with pytest.raises(OptionError, match=r"--data d\.npz: the model does not run on these inputs"):
        check(Loaded(model, Path()), model, Precision.FLOAT16, (), feeds, inputs="d.npz")


@pytest.mark.parametrize(("more", "alone"), [("y = Neg(g)", True), ("y = com.microsoft.Nonsense(g)", False)])
def test_what_lacks_a_kernel_on_the_cpu_hides_no_other_fault(more, alone):
    model = parser.parse_model(f"""<ir_version: 8, opset_import: ["" : 18, "com.microsoft" : 1]>
        m (float16[1,2,2,32] x) => (float16[1,2,2,32] y) <float[32] s = {{{", ".join(["1"] * 32)}}}> {{
        g = com.microsoft.GroupNorm<groups = 8, activation = 0, channels_last = 1>(x, s, s)  {more} }}""")
    assert _lacks_kernels_alone(model) is alone
