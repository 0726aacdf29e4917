"""One verdict per decision: which cause wins, what neighbours do to it, and what the user may overrule.

The rules, ranges and kernels are made up for these tests, so that every cause can be given where it is wanted.
"""

from collections.abc import Mapping

import pytest

from ampgraph.errors import OptionError
from ampgraph.intervals import Interval
from ampgraph.judge import judge
from ampgraph.judgement import Cause, Judgement, Verdict
from ampgraph.kernels import KernelTable
from ampgraph.onnx_model.lift import lift
from ampgraph.onnx_model.prepare import prepare
from ampgraph.precision import Precision
from ampgraph.rule_text import parse as parse_rules
from ampgraph.rulebook import RuleBook
from ampgraph.wishes import Wishes
from tests.models import parse

RULES = """
product: category = "allow"; ops = ["MatMul"]
plain: category = "infer"; ops = ["Add", "Mul", "Relu", "Neg"]
moves: category = "clear"; ops = ["Identity", "Transpose"]
powers: category = "deny"; ops = ["Exp", "Cast"]
bounded: category = "infer"; ops = ["Min"]; saturates = true
root: category = "infer"; ops = ["Div"]; precise_slots = [1]
layer: category = "allow"; ops = ["Gemm"]; summands = ["C"]
gated: category = "infer"; ops = ["Sub"]; only_after = "allow"; small = 8
"""
HEAD = '[[rule]]\nname = "{}"\nwhy = "{} is so"\nsource = "s"\n'
BOOK = RuleBook(
    parse_rules(
        "\n".join(
            HEAD.format(name, name) + body.strip().replace("; ", "\n")
            for name, body in (line.split(":", 1) for line in RULES.strip().splitlines())
        ),
        "test.toml",
    )
)
WIDE = {"x": Interval(-1e6, 1e6), "a": Interval(0, 1e6)}
WEIGHTS = (
    "float[4,4] w = {1,2,3,4,1,2,3,4,1,2,3,4,1,2,3,4}, "
    "float[1] big = {1e9}, float[1] tiny = {1e-6}, float[4,1] heavy = {1e9,1,1,1}"
)
NO_KERNELS = KernelTable("nothing", "1", {}, {})


def judged(
    body: str,
    ranges: Mapping[str, Interval] | None = None,
    kernels: KernelTable | None = None,
    precision: Precision = Precision.FLOAT16,
    **wishes: object,
) -> Judgement:
    graph = lift(prepare(parse(f"g (float[4,4] x) => (float[4,4] y) <{WEIGHTS}> {{ {body} }}")), precision=precision)
    judgement = judge(graph, BOOK, ranges or {}, precision, kernels, Wishes(**wishes))
    assert judgement.verdicts.keys() == graph.decisions.keys()
    return judgement


def of(judgement: Judgement, op: str) -> Verdict:
    """The verdict on the first type variable of an op."""
    return next(verdict for key, verdict in judgement.verdicts.items() if key.startswith(f"{op}:"))


def legal(judgement: Judgement) -> set[str]:
    return {key.split(":")[0] for key, verdict in judgement.verdicts.items() if verdict.legal}


# Precedence: each graph has the cause that is expected and all those after it


@pytest.mark.parametrize(
    ("body", "kernels", "cause", "why"),
    [
        ("a = Exp(x) [op] y = Cast<to = 1>(a)", NO_KERNELS, Cause.PIN, "rounding before the model's own cast"),
        ("a = Exp(x) [op] y = Sin(a)", NO_KERNELS, Cause.UNKNOWN, "no rule knows Sin"),
        ("[op] y = Exp(x)", NO_KERNELS, Cause.RULE, "powers is so"),
        ("a = Exp(x) [op] y = Add(a, big)", NO_KERNELS, Cause.KERNEL, "runs Add-14 on the CPU provider"),
        ("a = Exp(x) [op] y = Add(a, big)", None, Cause.PARAMETER, "'big': 1 of its values exceed 65504"),
        ("a = Exp(x) [op] y = Neg(a)", None, Cause.RANGE, "'a' can reach 1e+06, beyond float16's 65504"),
        ("e = Exp(x) [op] y = Neg(e)", None, Cause.TAINT, "follows Exp 'Exp#0', which stays float32"),
        ("[op] y = MatMul(x, w)", None, Cause.RANGE, "'x' can reach -1e+06"),
    ],
)
def test_the_first_cause_wins(body: str, kernels: KernelTable | None, cause: Cause, why: str) -> None:
    verdict = of(judged(body, WIDE, kernels), "op")
    assert not verdict.legal
    assert (verdict.cause, why in verdict.why) == (cause, True), verdict.why


def test_what_no_cause_forbids_is_legal_and_says_its_rule() -> None:
    verdict = of(judged("[op] y = MatMul(x, w)"), "op")
    assert (verdict.legal, verdict.cause, verdict.rule, verdict.why) == (True, Cause.RULE, "product", "product is so")


def test_the_interface_keeps_its_type() -> None:
    judgement = judged("y = MatMul(x, w)")
    for key in ("input:x", "output:y"):
        assert judgement.verdicts[key].cause is Cause.PIN
        assert not judgement.verdicts[key].legal


# Parameters and ranges


@pytest.mark.parametrize(
    ("body", "why"),
    [
        ("[op] y = Add(x, big)", "exceed"),
        ("[op] y = Min(x, big)", ""),  # its rule saturates
        ("[op] y = Div(x, tiny)", "each of them matters"),
        ("[op] y = Mul(x, tiny)", "rounding it to float16 moves it by"),
        ("c = Constant<value = float[1] {3000}>() [op] y = Mul(x, c)", "next to it float16 overflows"),
        ("c = Constant<value = float[1] {2048}>() [op] y = Mul(x, c)", ""),
    ],
)
def test_parameters_that_do_not_survive(body: str, why: str) -> None:
    verdict = of(judged(body), "op")
    assert verdict.legal == (not why)
    assert why in verdict.why


@pytest.mark.parametrize(
    ("op", "reach", "precision", "is_legal"),
    [
        ("Relu", 65505.0, Precision.FLOAT16, False),
        ("Relu", 65504.0, Precision.FLOAT16, True),
        ("Relu", float("inf"), Precision.FLOAT16, True),  # no bound is known
        ("Relu", 1e6, Precision.BFLOAT16, True),
        ("Identity", 1e6, Precision.FLOAT16, True),
    ],
)
def test_ranges_forbid_what_the_format_cannot_hold(op: str, reach: float, precision: Precision, is_legal: bool) -> None:
    found = judged(f"[op] y = {op}(x)", {"x": Interval(-1.0, reach, complete=False)}, None, precision)
    assert of(found, "op").legal == is_legal


def test_a_value_beyond_the_format_admits_no_cast() -> None:
    assert judged("[op] y = Identity(x)", WIDE).ties == (("input:x", "op:V"),)
    assert judged("[op] y = Identity(x)").ties == ()


@pytest.mark.parametrize(
    ("slots", "is_legal"),
    [("x, w, lost", True), ("x, lost2, tiny", False), ("x, w, big", False)],
    ids=["a bias that vanishes", "a weight that vanishes", "a bias out of range"],
)
def test_a_bias_may_vanish_where_the_result_is_rounded_as_coarsely(slots: str, is_legal: bool) -> None:
    lost = (
        "lost = Constant<value = float[2] {1e-9, -2e-8}>()  lost2 = Constant<value = float[2,2] {1e-9, 0, 0, 1e-9}>()"
    )
    assert of(judged(f"{lost} [op] y = Gemm({slots})"), "op").legal == is_legal


# only_after


@pytest.mark.parametrize(
    ("body", "is_legal"),
    [
        ("[p] h = MatMul(x, w) [op] y = Sub(h, w)", True),
        ("[p] h = MatMul(x, w) a = Relu(h) t = Transpose(a) [op] y = Sub(t, h)", True),
        ("[p] h = MatMul(x, w) [op] y = Sub(h, x)", False),
        ("[op] y = Sub(x, w)", False),
        (
            "c = Constant<value = float[4,1] {1e9, 1, 1, 1}>() [p] h = MatMul(x, c) [op] y = Sub(h, w)",
            False,
        ),  # the product itself is not low
        ("[p] h = MatMul(x, w) a = Add(h, x) [op] y = Sub(a, h)", False),
    ],
)
def test_ops_that_only_follow_products(body: str, is_legal: bool) -> None:
    verdict = of(judged(body), "op")
    assert (verdict.legal, verdict.cause) == (is_legal, Cause.RULE)
    assert ("does not come from low-precision arithmetic" in verdict.why) == (not is_legal)


@pytest.mark.parametrize(
    ("given", "is_legal"),
    [(Interval(-8, 8), True), (Interval(-8, 9), False), (Interval(-8, 8, complete=False), False)],
)
def test_a_proven_small_input_need_not_follow_a_product(given: Interval, is_legal: bool) -> None:
    assert of(judged("[op] y = Sub(x, w)", {"x": given}), "op").legal == is_legal


# Operands of what stays float32


def test_raw_operands_of_a_denied_op_are_not_rounded_on_the_way() -> None:
    judgement = judged("[a] s = Neg(x) [b] t = Transpose(s) [e] y = Exp(t)")
    assert not legal(judgement)
    assert "feeds Exp 'e', which needs it unrounded" in of(judgement, "a").why
    assert of(judgement, "b").cause is Cause.TAINT


def test_operands_that_a_product_has_rounded_are_left_alone() -> None:
    assert legal(judged("[p] h = MatMul(x, w) [a] s = Neg(h) [e] y = Exp(s)")) == {"p", "a"}


def test_a_missing_kernel_asks_nothing_of_its_operands() -> None:
    rows = {op: {"cuda": [(1, 99, {"T": ["float32", "float16"]})]} for op in ("Neg", "Exp")}
    kernels = KernelTable("test", "1", rows, {})
    assert legal(judged("[a] s = Neg(x) [r] y = Relu(s)", None, kernels)) == {"a"}
    assert not legal(judged("[a] s = Neg(x) [r] y = Exp(s)", None, kernels))


# Taint


@pytest.mark.parametrize(
    ("given", "is_legal"),
    [(Interval(0, 1), True), (Interval(0, 1.5), False), (Interval(0, 1, complete=False), False), (None, False)],
)
def test_what_follows_a_denied_op_is_tainted_unless_proven_harmless(given: Interval | None, is_legal: bool) -> None:
    judgement = judged("[e] a = Exp(x) [op] y = Neg(a)", {"a": given} if given else {})
    assert of(judgement, "op").legal == is_legal


def test_taint_passes_clear_ops_and_ends_at_products() -> None:
    judgement = judged("e = Exp(x) [c] t = Transpose(e) [n] s = Neg(t) [p] h = MatMul(s, w) [r] y = Relu(h)")
    assert legal(judgement) == {"p", "r"}


def test_a_clear_op_may_carry_what_is_tainted_to_products_alone() -> None:
    assert legal(judged("e = Exp(x) [c] t = Transpose(e) [p] y = MatMul(t, w)")) == {"c", "p"}
    judgement = judged("e = Exp(x) [c] y = Transpose(e) [p] h = MatMul(y, w)")
    assert legal(judgement) == {"p"}
    assert "carries what Exp 'Exp#0' makes to something float32" in of(judgement, "c").why


def test_what_stays_float32_for_its_range_taints_and_for_its_kernel_does_not() -> None:
    body = "[a] s = Add(x, x) [op] y = Neg(s)"
    assert of(judged(body, WIDE), "op").cause is Cause.TAINT
    kernels = KernelTable("test", "1", {"Neg": {"cuda": [(1, 99, {"T": ["float32", "float16"]})]}}, {})
    found = judged(body, None, kernels)
    assert of(found, "a").cause is Cause.KERNEL
    assert of(found, "op").legal


# Wishes


def test_keep_holds_back_and_says_which_rule_it_overrules() -> None:
    judgement = judged("[head] h = MatMul(x, w) [r] y = Relu(h)", keep="^head$")
    assert (of(judgement, "head").legal, of(judgement, "head").cause) == (False, Cause.USER)
    assert of(judgement, "r").legal
    assert judgement.notes == ("--keep head overrules product",)


@pytest.mark.parametrize(
    ("body", "ranges", "overruled"),
    [
        ("[op] y = Exp(x)", {}, "powers: powers is so"),
        ("[op] y = Sin(x)", {}, "unknown: no rule knows Sin"),
        ("[op] y = Relu(x)", WIDE, "plain: 'x' can reach -1e+06"),
        ("[op] y = Add(x, big)", {}, "plain: 'big': 1 of its values"),
        ("e = Exp(x) [op] y = Neg(e)", {}, "plain: follows Exp"),
    ],
)
def test_low_overrules_everything_but_schema_and_kernel(
    body: str, ranges: Mapping[str, Interval], overruled: str
) -> None:
    judgement = judged(body, ranges, low="^op$")
    verdict = of(judgement, "op")
    assert (verdict.legal, verdict.forced, verdict.cause) == (True, True, Cause.USER)
    assert [note.startswith(f"--low op overrules {overruled}") for note in judgement.notes] == [True]


def test_what_is_overruled_is_said_once_for_all_nodes_that_are_alike() -> None:
    """An operator of two decisions, such as Pow, is named once too."""
    body = "[a] e = Exp(x) [b] f = Exp(e) [c] g = Neg(f) [d] h = Neg(e) [s] y = Sin(g)"
    assert judged(body, low="^[abcds]$").notes == (
        "--low a, b overrules powers: powers is so",
        "--low c, d overrules plain: follows Exp 'b', which stays float32 (and 1 reasons like it)",
        "--low s overrules unknown: no rule knows Sin",
    )
    many = judged(" ".join(f"[n{i}] e{i} = Exp(x)" for i in range(9)) + " y = Neg(e0)", low="^n")
    assert many.notes == ("--low n0, n1, n2, n3, n4, n5 and 3 more overrules powers: powers is so",)
    power = judged("[p] y = Pow(x, x)", low="^p$")
    assert power.notes == ("--low p overrules unknown: no rule knows Pow",)


def test_low_of_what_is_legal_overrules_nothing() -> None:
    judgement = judged("[op] y = MatMul(x, w)", low="op")
    assert of(judgement, "op").forced
    assert judgement.notes == ()


def test_any_of_several_expressions_may_match() -> None:
    judgement = judged("[head] h = MatMul(x, w) [tail] g = MatMul(h, w) [r] y = Relu(g)", keep=("^head$", "^t"))
    assert [of(judgement, op).cause for op in ("head", "tail")] == [Cause.USER, Cause.USER]
    assert of(judgement, "r").cause is not Cause.USER


@pytest.mark.parametrize(
    ("wishes", "kernels", "said"),
    [
        ({"low": "op"}, NO_KERNELS, "--low op: cannot be low: nothing 1 runs Relu-14 on the CPU provider"),
        ({"low": "nobody"}, None, "--low 'nobody': matches no node; names are such as op"),
        ({"keep": "nobody"}, None, "--keep 'nobody': matches no node; names are such as op"),
        ({"keep": ("op", "nobody")}, None, "--keep 'nobody': matches no node"),
        ({"keep": "^o", "low": ("p$",)}, None, "--keep and --low: both name 'op'; narrow one of the expressions"),
    ],
)
def test_wishes_that_cannot_be_granted(wishes: dict[str, object], kernels: KernelTable | None, said: str) -> None:
    with pytest.raises(OptionError) as error:
        judged("[op] y = Relu(x)", None, kernels, **wishes)
    assert said in str(error.value)


def test_the_interface_becomes_low_only_where_it_is_named() -> None:
    judgement = judged("y = MatMul(x, w)", low_interface=frozenset({"x"}))
    assert judgement.verdicts["input:x"].forced
    assert not judgement.verdicts["output:y"].legal
