"""The report of a comparison: readable at 80 columns, whatever the names."""

import pytest

from ampgraph.inspection.comparison_text import to_text
from tests.inspection.comparisons import comparison, difference


def test_it_says_what_is_to_be_known() -> None:
    text = to_text(comparison())
    for said in (
        "b.onnx against a.onnx",
        "on the float16 evaluator on the CPU",
        "4 values compared, 2 beyond the tolerance of 0.03; 1 other is in the second\nmodel alone",
        "within  y: relative L2 error 1.00e-03, largest 5.00e-01",
        "first value beyond tolerance: big\n  made by Mul 'make big': relative L2 error 1.00e-03",
        "2 of 6\n  not finite",
        "generated inputs: x=1x3, n=scalar",
        "first element that one alone has finite, at [1, 2]: 2 in the first, inf in the\n  second",
        "recorded: float16: 1 us against 2 us",
        "next: ampgraph convert a.onnx --keep '^big$'",
        "first overflow: the same, big",
        "first flush to zero: tiny",
        "largest difference, at [1, 2]: 2 in the first, 2.5 in the second",
        "first flushed to zero, at [0]",
        "worst 3",
        "note: 3 values are in branches",
        "outputs are within the tolerance",
    ):
        assert said in text, said


def test_nothing_wrong_is_said_in_few_lines() -> None:
    fine = comparison(
        values=(difference("v"),), first_beyond="", first_overflow="", first_flush="", worst=(), advice=(), notes=(),
        unmatched=0,
    )  # fmt: skip
    text = to_text(fine)
    assert "first overflow: none" in text
    assert "worst" not in text
    assert "1 value compared, 0 beyond" in text
    assert "alone" not in text
    assert str(fine) == text


def test_outputs_that_differ_are_told_first() -> None:
    wrong = tuple(difference(f"y{index}", within=False, relative=0.5) for index in range(20))
    text = to_text(comparison(outputs=wrong, within=False))
    assert "BEYOND  y0: relative L2 error 5.00e-01" in text
    assert "and 8 more, 8 of them beyond (--json has them)" in text
    assert "outputs are NOT within the tolerance" in text


def test_inputs_are_said_to_come_from_where_they_come_from() -> None:
    assert "inputs of in.npz: x=2\n" in to_text(comparison(inputs="in.npz", shapes={"x": (2,)}))
    assert "given inputs\n" in to_text(comparison(inputs="given", shapes={}))


@pytest.mark.parametrize("name", ["n" * 10_000, "a/b-c " * 40, "\u202eevil\x1b[31m\n", "<script>", "日本" * 60])
def test_hostile_names_keep_to_80_columns(name: str) -> None:
    found = comparison(
        values=(difference(name, node=name, overflowed=1, within=False),), outputs=(difference(name),),
        first_beyond=name, first_overflow=name, first_flush="", worst=(name,), reference=name, candidate=name,
    )  # fmt: skip
    lines = to_text(found).splitlines()
    assert max(map(len, lines)) <= 80
    assert all(character.isprintable() for line in lines for character in line)
