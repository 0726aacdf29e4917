"""Type tuples of kernels, and what the checker and a session refuse, as laws between the decisions of an op."""

import itertools
from collections.abc import Mapping, Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ampgraph.graph import Decision, Op
from ampgraph.kernels import NO_LAW, KernelLaw, KernelTable, kernel_law, onnxruntime_cuda
from ampgraph.precision import Precision
from tests.models import assert_valid, convert, low_ops, parse

BOTH, HIGH, LOW = ("float32", "float16"), ("float32",), ("float16",)
Row = Mapping[str, Sequence[str]]


def table(*rows: Row, op: str = "Made", narrow: Mapping[str, str] | None = None) -> KernelTable:
    return KernelTable("rt", "1", {op: {"cuda": [(1, 20, row) for row in rows]}}, narrow or {})


def law(kernels: KernelTable | None, *variables: str, op: str = "Made", version: int = 13, **fixed: str) -> KernelLaw:
    """The law of an op with these open variables; `fixed` ones have the precision that is given."""
    everything = frozenset(Precision)
    decisions = [Decision(f"n:{name}", "n", name, "op", Precision.FLOAT32, everything) for name in variables]
    decisions += [
        Decision(f"n:{name}", "n", name, "op", Precision(precision), everything, "pinned")
        for name, precision in fixed.items()
    ]
    return kernel_law(kernels, Op("n", "n", op, version, "", (), ()), decisions, Precision.FLOAT16)


def test_a_kernel_for_every_choice_is_no_law() -> None:
    assert law(table({"T": BOTH}), "T") == NO_LAW
    assert law(None, "T") == NO_LAW
    assert law(table({"T": BOTH})) == NO_LAW  # nothing is open


def test_without_a_float32_kernel_nothing_moves() -> None:
    assert law(table({"T": LOW}), "T").forbidden == {"n:T": "rt 1 runs Made-13 on the CPU provider"}
    assert law(table(), "T").forbidden == {"n:T": "rt 1 runs Made-13 on the CPU provider"}


def test_without_a_low_kernel_low_is_forbidden() -> None:
    assert law(table({"T": HIGH}), "T").forbidden == {"n:T": "rt 1 has no CUDA kernel of Made in float16"}


def test_a_narrow_kernel_counts_as_none() -> None:
    found = law(table({"T": BOTH}, narrow={"Made": "keeps its sum low"}), "T").forbidden
    assert found == {"n:T": "rt 1's CUDA kernel of Made keeps its sum low"}


def test_tuples_become_ties() -> None:
    found = law(table({"T": HIGH, "U": HIGH}, {"T": LOW, "U": LOW}), "T", "U")
    assert found == KernelLaw({}, (("n:T", "n:U"),))


def test_tuples_become_implications() -> None:
    found = law(table({"T": HIGH, "U": BOTH}, {"T": LOW, "U": LOW}), "T", "U")
    assert found == KernelLaw({}, (), (("n:T", "n:U"),))


def test_a_variable_that_no_row_names_is_free() -> None:
    assert law(table({"T": BOTH}), "T", "U") == NO_LAW


def test_what_is_fixed_selects_the_rows() -> None:
    kernels = table({"T": BOTH, "U": HIGH}, {"T": HIGH, "U": LOW})
    assert law(kernels, "T", U="float32") == NO_LAW
    assert set(law(kernels, "T", U="float16").forbidden) == {"n:T"}


@pytest.mark.parametrize(
    ("since", "until", "version", "serves"),
    [(7, 13, 13, True), (7, 13, 14, False), (7, 13, 6, False), (13, None, 13, True), (13, None, 14, False)],
)
def test_an_open_ended_kernel_serves_its_own_version_alone(
    since: int, until: int | None, version: int, serves: bool
) -> None:
    kernels = KernelTable("rt", "1", {"Made": {"cuda": [(since, until, {"T": BOTH})]}}, {})
    assert (law(kernels, "T", version=version) == NO_LAW) == serves


@given(st.lists(st.tuples(*[st.sampled_from([HIGH, LOW, BOTH])] * 3), min_size=1, max_size=4))
def test_a_law_never_lets_a_choice_through_that_has_no_kernel(rows: list[tuple[tuple[str, ...], ...]]) -> None:
    names = ("T", "U", "V")
    found = law(table(*[dict(zip(names, row, strict=True)) for row in rows]), *names)
    through = 0
    for choice in itertools.product(("float32", "float16"), repeat=3):
        low = {f"n:{name}" for name, precision in zip(names, choice, strict=True) if precision == "float16"}
        if _lawful(found, low):
            through += 1
            has_kernel = any(all(p in types for p, types in zip(choice, row, strict=True)) for row in rows)
            assert has_kernel or not low  # an op on the CPU provider stays as it is
    assert through


def _lawful(found: KernelLaw, low: set[str]) -> bool:
    ties = all((a in low) == (b in low) for a, b in found.ties)
    return ties and not low & set(found.forbidden) and all(b in low or a not in low for a, b in found.implications)


# What one-node models were refused (rules/targets/onnxruntime_unopenable.json)


def test_what_the_checker_refuses_holds_for_every_target() -> None:
    for version in (9, 13):
        for kernels in (None, table({"T": BOTH}, op="MeanVarianceNormalization")):
            found = law(kernels, "T", op="MeanVarianceNormalization", version=version)
            assert f"refuses MeanVarianceNormalization-{version} in float16" in found.forbidden["n:T"]
    assert law(None, "T", "V", op="RMSNormalization", version=23).ties == (("n:T", "n:V"),)


def test_what_a_session_refuses_holds_for_onnxruntime_alone() -> None:
    kernels = table({"T1": BOTH, "T2": BOTH}, op="EyeLike")
    assert law(None, "T2", op="EyeLike", version=9) == NO_LAW
    assert "opens no CPU session with EyeLike-9" in law(kernels, "T2", op="EyeLike", version=9).forbidden["n:T2"]


@pytest.mark.parametrize(
    ("node", "opset", "is_low"),
    [
        ("MeanVarianceNormalization<axes = [0, 2, 3]>(h)", 18, False),
        ("OptionalGetElement(h)", 18, True),
        ("OptionalGetElement(h)", 28, True),
    ],
)
def test_ops_that_no_session_opens_pass_the_checker_when_converted(node: str, opset: int, is_low: bool) -> None:
    text = "float[1,2,4,4] x, float[4,4] w) => (float[1,2,4,4] y"
    model = parse(f"g ({text}) {{ h = MatMul(x, w) n = {node} y = MatMul(n, w) }}", opset, 13)
    result = convert(model)
    assert_valid(model, result.model)
    assert (node.partition("<")[0].partition("(")[0] in low_ops(result)) == is_low


def test_the_table_that_ships_knows_convolutions() -> None:
    assert law(onnxruntime_cuda(), "T", op="Conv", version=11) == NO_LAW
    assert set(law(onnxruntime_cuda(), "T", op="ReduceMean", version=18).forbidden) == {"n:T"}
