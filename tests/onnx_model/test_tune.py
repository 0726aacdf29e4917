"""Tuning: never slower than the source beyond noise; the plan gives the same bytes without a stopwatch."""

import json
from dataclasses import replace
from pathlib import Path

import onnx
import pytest
from hypothesis import given
from hypothesis import strategies as st

import ampgraph
from ampgraph.api import convert
from ampgraph.conversion import Planned, convert_model, is_converted, plan_model
from ampgraph.errors import ModelError
from ampgraph.onnx_model import io
from ampgraph.onnx_model.bench import Spread
from ampgraph.onnx_model.marks import TUNED_KEY, remembered
from ampgraph.onnx_model.tune import GRAPH, PLAIN, Candidate, Reference, Trial, Way, decided, measure, reference
from ampgraph.options import Options, make_options
from ampgraph.plan import to_json
from ampgraph.report import make_report
from ampgraph.report import to_json as report_to_json
from ampgraph.report_text import WIDTH, to_text
from ampgraph.tuning import tune
from tests.small_models import classifier, parse, random, saved

QUICK = Way(rounds=3)
GELU = """g (float[N,64] x) => (float[N,64] y) {
    h = MatMul(x, w) s = Div(h, root) e = Erf(s) p = Add(e, one) m = Mul(h, p) g = Mul(m, half) y = MatMul(g, w) }"""


def at(median: float, noise: float = 0.01) -> Spread:
    return Spread(median, median - noise, median + noise)


def row(name: str, plain: float, graph: float | None = None, low: int = 1, out: str = "") -> Trial:
    return Trial(name, low, 0, at(plain), None if graph is None else at(graph), 0.0, out)


def chosen(*rows: Trial) -> str:
    (found,) = [each.name for each in decided(rows) if each.chosen]
    return found


def spreads() -> st.SearchStrategy[Spread]:
    times = st.lists(st.integers(1, 30), min_size=3, max_size=3).map(sorted)
    return times.map(lambda each: Spread(each[1], each[0], each[2]))


@given(
    st.tuples(spreads(), st.none() | spreads()),
    st.lists(st.tuples(st.none() | spreads(), st.none() | spreads(), st.integers(0, 3), st.sampled_from(["", "no"]))),
)
def test_the_choice_is_never_slower_than_the_source_beyond_noise(source, others) -> None:
    trials = [Trial("source", 0, 0, *source, 0.0)]
    trials += [Trial(f"c{i}", low, 0, a, b, 0.0, out) for i, (a, b, low, out) in enumerate(others)]
    rows = decided(trials)
    (winner,) = [each for each in rows if each.chosen]
    fastest = GRAPH if source[1] is not None and source[1].median < source[0].median else PLAIN
    own, start = winner.time(fastest), rows[0].time(fastest)
    assert all(each.verdict for each in rows)
    able = [each for each in rows[1:] if not each.out and each.time(fastest)]
    if winner is rows[0]:
        assert all(each.time(fastest).high >= start.low for each in able)
        return
    assert not winner.out
    assert own.high < start.low
    best = min((each.time(fastest) for each in able if each.time(fastest).high < start.low), key=lambda x: x.median)
    assert own.low <= best.high
    for each in able:
        if each.time(fastest).high < start.low and each.time(fastest).low <= best.high:
            assert winner.low <= each.low


def test_ties_go_to_the_source_then_to_the_fewest_low_decisions() -> None:
    assert chosen(row("source", 1.0), row("same", 0.985)) == "source"
    assert chosen(row("source", 1.0), row("many", 0.5, low=9), row("few", 0.51, low=2)) == "few"
    assert chosen(row("source", 1.0), row("many", 0.5, low=9), row("slow", 0.6, low=2)) == "many"


def test_the_source_s_fastest_setting_decides() -> None:
    """What is fast plain and cannot be captured loses to a source that can."""
    rows = decided([row("source", 1.0, 0.4), row("uncaptured", 0.5), row("other", 2.0, 0.3)])
    assert [each.chosen for each in rows] == [False, False, True]
    assert rows[1].verdict == "out: does not run as CUDA graph, where the source is fastest"
    assert chosen(row("source", 1.0, 1.2), row("fast", 0.5, 1.1)) == "fast"


def test_wrong_answers_are_out_however_fast(tmp_path: Path) -> None:
    """Two models that do a twentieth of the work, one of them wrongly."""
    chain = " ".join(f"v{i + 1} = MatMul({'x' if i == 0 else f'v{i}'}, w)" for i in range(20))
    body = f"{chain} z = Mul(v20, none) y = Add(z, x)"
    slow = parse(f"g (float[N,256] x) => (float[N,256] y) {{ {body} }}", w=random(256, 256), none=random(1) * 0)
    right = parse("g (float[N,256] x) => (float[N,256] y) { y = Identity(x) }")
    wrong = parse("g (float[N,256] x) => (float[N,256] y) { y = Neg(x) }")
    paths = [saved(model, tmp_path / f"{i}.onnx") for i, model in enumerate((slow, wrong, right))]
    known: Reference = reference(slow, paths[0], {"x": (64, 256)}, None, "generated", 0.03, "cpu")
    tried = [Candidate(name, path, 0, 0) for name, path in zip(("source", "wrong", "right"), paths, strict=True)]
    tried += [Candidate("again", None, 0, 0, same_as="right"), Candidate("gone", tmp_path / "none.onnx", 0, 0)]
    found = measure(tried, known, replace(QUICK, provider="cpu"))
    assert found.winner.name == "right"
    verdicts = {each.name: each.verdict for each in found.rows}
    assert "output y is off by 2 relative L2" in verdicts["wrong"]
    assert verdicts["again"] == "out: the same plan as right"
    assert "does not run here" in verdicts["gone"]
    late = measure(tried[:2], known, Way("cpu", 2, seconds=0))
    assert late.rows[1].verdict == "out: not tried: time was up"


@pytest.fixture(scope="module")
def tuned(tmp_path_factory: pytest.TempPathFactory) -> Planned:
    source = saved(classifier(), tmp_path_factory.mktemp("tune") / "model.onnx")
    options = make_options(shapes={"image": (4, 8, 16, 16)}, tune=True)
    return tune(io.load(source), options, provider="cpu", way=QUICK, profile_seconds=3)


def test_every_candidate_has_a_row(tuned: Planned) -> None:
    assert tuned.tuned is not None
    rows = {each.name: each for each in tuned.tuned.rows}
    assert list(rows) == ["source", "roofline", "graph roofline", "measured", "all low"]
    assert (rows["source"].low, rows["source"].casts) == (0, 0)
    assert rows["all low"].low == 5
    assert rows["all low"].plain is not None
    assert rows["roofline"].verdict.startswith("out: the same plan as source")


def test_the_report_has_the_table(tuned: Planned) -> None:
    report = make_report(tuned)
    shown = to_text(report)
    assert max(map(len, shown.splitlines())) <= WIDTH
    assert "decided plain" in " ".join(shown.split())
    content = json.loads(report_to_json(report))["tuned"]
    assert [each["chosen"] for each in content["rows"]].count(True) == 1
    assert set(content["rows"][0]["plain"]) == {"median", "low", "high"}


def of_row(model: onnx.ModelProto, tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch) -> tuple[Planned, Path]:
    """What tuning gives where that candidate is the fastest."""
    path = saved(model, tmp_path / "source.onnx")

    def taken(trials):
        return tuple(replace(each, chosen=each.name == name, verdict="taken") for each in trials)

    monkeypatch.setattr("ampgraph.onnx_model.tune.decided", taken)
    return tune(io.load(path), Options(tune=True), provider="cpu", way=QUICK, profile_seconds=0), path


@pytest.mark.parametrize("name", ["source", "all low", "fused", "fused, all low"])
def test_the_plan_gives_the_same_bytes_without_measuring(tmp_path: Path, name: str, monkeypatch) -> None:
    numbers = {"root": 2**0.5, "one": 1.0, "half": 0.5}
    model = parse(GELU, w=random(64, 64), **{key: random(1) * 0 + value for key, value in numbers.items()})
    planned, path = of_row(model, tmp_path, name, monkeypatch)
    first, second, plan = tmp_path / "first.onnx", tmp_path / "second.onnx", tmp_path / "plan.json"
    convert_model(planned, first)
    plan.write_text(to_json(planned.plan).replace('"model": "source.onnx"', '"model": "elsewhere"'))
    assert planned.changes_nothing is (name == "source")
    assert bool(planned.plan.fused) is name.startswith("fused")
    convert(path, second, plan=plan)
    assert first.read_bytes() == second.read_bytes()
    loaded = io.load(first)
    assert remembered(loaded.model, TUNED_KEY)
    for options in (Options(tune=True), Options(plan=plan)):  # a second conversion leaves it as it is
        assert is_converted(loaded, options)
        assert plan_model(loaded, options, as_is=True).changes_nothing
    again = ampgraph.convert(first, tmp_path / "third.onnx", tune=True)
    assert again.report.already_converted
    assert (tmp_path / "third.onnx").read_bytes() == first.read_bytes()
    plan.write_text(plan.read_text().replace('"tuned": "', '"tuned": "0'))
    for options in (Options(), Options(tune=True, device="t4"), Options(plan=plan)):
        if name == "source":  # may be converted in another way
            assert not is_converted(loaded, options)
        else:
            with pytest.raises(ModelError, match="other options"):
                is_converted(loaded, options)
