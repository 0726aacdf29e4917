"""Answers without a number in them are nothing to compare with: refused where all are, told where some are."""

from pathlib import Path

import numpy as np
import pytest

import ampgraph
from ampgraph.errors import OptionError
from ampgraph.onnx_model.check import check
from ampgraph.onnx_model.compare import blank
from ampgraph.onnx_model.io import Loaded
from ampgraph.precision import Precision
from ampgraph.report_text import check_lines
from tests.models import parse

INTERFACE = "g (float[n,4] x) => (float[n,4] y, float[n,4] z, int64[n] at)"
REST = "z = Log(x)  at = ArgMax<axis = 1, keepdims = 0>(x)"
SOURCE = f"{INTERFACE} {{ y = Exp(x)  {REST} }}"
LOW = f"{INTERFACE} {{ h = Cast<to = 10>(x)  e = Exp(h)  y = Cast<to = 1>(e)  {REST} }}"
NAN, INF = np.float32(np.nan), np.float32(np.inf)


def checked(x: np.ndarray, low: str = LOW):
    return check(Loaded(parse(SOURCE), Path()), parse(low), Precision.FLOAT16, (), {"x": x}, inputs="given")


@pytest.mark.parametrize(
    ("x", "said"),
    [
        (np.full((1, 4), NAN), "NaN or infinity throughout"),
        (np.full((1, 4), INF), "NaN or infinity throughout"),
        (np.ones((0, 4), np.float32), "no elements"),
    ],
)
def test_what_the_source_answers_without_a_number_passes_no_check(x: np.ndarray, said: str) -> None:
    """The whole numbers beside them do not count: where the largest of many NaN stands says nothing."""
    with pytest.raises(
        OptionError, match=f"^data: the source itself answers with {said}.*nothing was compared"
    ) as told:
        checked(x)
    assert told.value.exit_code == 2
    with pytest.raises(OptionError, match=said):
        ampgraph.compare(parse(SOURCE), parse(LOW), {"x": x}, provider="cpu")


def test_generated_inputs_may_be_blank_too() -> None:
    nothing = parse("g (float[4] x) => (float[4] y) { a = Abs(x)  b = Neg(a)  y = Sqrt(b) }")
    with pytest.raises(OptionError, match=r"^the generated inputs: .*--data, or sizes with --shape"):
        check(Loaded(nothing, Path()), nothing, Precision.FLOAT16, ())


def test_one_blank_output_of_several_is_told_and_the_others_decide() -> None:
    below = np.full((1, 4), -1, np.float32)
    found = checked(below)
    assert [output.blank for output in found.outputs] == ["", "NaN or infinity throughout", ""]
    assert found.failures == ()
    text = " ".join(" ".join(check_lines(found)).split())
    assert "z: nothing to compare, the source answers with NaN or infinity throughout" in text
    assert "y: relative L2 error" in text
    assert ", at most 0.031 is allowed; largest" in text
    compared = ampgraph.compare(parse(SOURCE), parse(LOW), {"x": below}, provider="cpu")
    assert compared.within
    assert "output z is not compared: the first model answers with NaN or infinity throughout" in compared.notes


def test_equal_places_count_as_equal_and_others_do_not() -> None:
    mixed = np.array([[-1, 0, 1, 2]], np.float32)  # z: NaN, -inf, 0 and a number
    assert checked(mixed).failures == ()
    assert ampgraph.compare(parse(SOURCE), parse(LOW), {"x": mixed}, provider="cpu").within
    moved = LOW.replace("z = Log(x)", "a = Abs(x)  z = Log(a)")
    assert "infinite or NaN in only one" in checked(mixed, moved).failures[0]


def test_text_and_whole_numbers_are_something() -> None:
    assert [blank(np.array(each)) for each in (["a"], [0], [True], [0.0], [np.nan, 1.0])] == [""] * 5


def test_no_check_passes_at_sizes_of_zero() -> None:
    with pytest.raises(OptionError, match="--shape x: leaves every input of the model without elements"):
        ampgraph.convert(parse(SOURCE), objective="coverage", check=True, shapes={"x": (0, 4)})
    cached = parse("g (float[1,4] x, float[past,4] old) => (float[all,4] y) { y = Concat<axis = 0>(old, x) }")
    assert ampgraph.convert(cached, shapes={"old": (0, 4)}).report.shapes["old"] == (0, 4)
