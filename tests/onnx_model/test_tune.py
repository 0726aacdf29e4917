"""Tuning: never slower than the source beyond noise; the plan gives the same bytes without a stopwatch."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
from hypothesis import given
from hypothesis import strategies as st

import ampgraph
from ampgraph.api import convert, examine
from ampgraph.conversion import Planned, convert_model, plan_model
from ampgraph.errors import ModelError, OptionError, PlanError
from ampgraph.onnx_model import io
from ampgraph.onnx_model.bench import Spread
from ampgraph.onnx_model.fastest import settings_of
from ampgraph.onnx_model.marks import TUNED_KEY, remembered
from ampgraph.onnx_model.run import CPU
from ampgraph.onnx_model.session import Session
from ampgraph.onnx_model.tune import OWN, Trial, Way, decided
from ampgraph.options import Options, make_options
from ampgraph.plan import to_json
from ampgraph.report import make_report
from ampgraph.report import to_json as report_to_json
from ampgraph.report_text import WIDTH, to_text
from ampgraph.settings import SESSION_KEY, Setting
from ampgraph.stamp import is_converted
from ampgraph.tuning import tune
from tests.small_models import classifier, parse, random, saved, unmarked

QUICK = Way(rounds=3)
GELU = """g (float[N,64] x) => (float[N,64] y) {
    h = MatMul(x, w) s = Div(h, root) e = Erf(s) p = Add(e, one) m = Mul(h, p) g = Mul(m, half) y = MatMul(g, w) }"""


def at(median: float, noise: float = 0.01) -> Spread:
    return Spread(median, median - noise, median + noise)


def row(name: str, ms: float, low: int = 1, setting: Setting = OWN, out: str = "") -> Trial:
    return Trial(name, low, 0, setting, at(ms), True, 0.0, out)


def chosen(*rows: Trial) -> tuple[str, Setting]:
    (found,) = [(each.name, each.setting) for each in decided(rows) if each.chosen]
    return found


def spreads() -> st.SearchStrategy[Spread]:
    times = st.lists(st.integers(1, 30), min_size=3, max_size=3).map(sorted)
    return times.map(lambda each: Spread(each[1], each[0], each[2]))


SETTINGS = (OWN, NATIVE := Setting(native=True), LAST := Setting(True, True))


@given(
    st.lists(spreads(), min_size=1, max_size=3),
    st.lists(st.tuples(st.none() | spreads(), st.booleans(), st.integers(0, 3), st.sampled_from(["", "no"]))),
)
def test_the_choice_is_never_slower_than_the_source_in_its_fastest_setting_beyond_noise(source, others) -> None:
    trials = [Trial("source", 0, 0, setting, ms, True, 0.0) for setting, ms in zip(SETTINGS, source, strict=False)]
    trials += [Trial(f"c{i}", low, 0, OWN, ms, last, 0.0, out) for i, (ms, last, low, out) in enumerate(others)]
    rows = decided(trials)
    (winner,) = [each for each in rows if each.chosen]
    assert all(each.verdict for each in rows)
    sources, able = (
        rows[: len(source)],
        [each for each in rows[len(source) :] if each.ms and each.last and not each.out],
    )
    start = min((each.ms for each in sources), key=lambda at: at.median)
    faster = [each for each in able if each.ms.high < start.low]
    if not faster:
        assert winner is rows[0] or winner.ms.high < rows[0].ms.low
        assert winner in sources
        return
    assert winner in faster
    best = min((each.ms for each in faster), key=lambda at: at.median)
    assert winner.ms.low <= best.high
    assert winner.low <= min(each.low for each in faster if each.ms.low <= best.high)


def test_ties_go_to_the_source_then_to_the_fewest_low_decisions_then_to_the_session_s_own_setting() -> None:
    assert chosen(row("source", 1.0), row("same", 0.985)) == ("source", OWN)
    assert chosen(row("source", 1.0), row("many", 0.5, low=9), row("few", 0.51, low=2)) == ("few", OWN)
    assert chosen(row("source", 1.0), row("many", 0.5, low=9), row("slow", 0.6, low=2)) == ("many", OWN)
    assert chosen(row("source", 1.0), row("c", 0.5, setting=NATIVE), row("c", 0.51)) == ("c", OWN)
    assert chosen(row("source", 1.0), row("c", 0.5, setting=NATIVE), row("c", 0.9)) == ("c", NATIVE)


def test_the_source_s_fastest_setting_is_what_others_must_beat() -> None:
    assert chosen(row("source", 1.0), row("source", 0.5, setting=LAST), row("c", 0.6)) == ("source", LAST)
    assert chosen(row("source", 1.0), row("source", 0.99, setting=LAST), row("c", 0.99)) == ("source", OWN)
    assert chosen(row("source", 1.0), row("source", 0.5, setting=LAST), row("c", 0.4)) == ("c", OWN)


@pytest.fixture(scope="module")
def tuned(tmp_path_factory: pytest.TempPathFactory) -> Planned:
    source = saved(classifier(), tmp_path_factory.mktemp("tune") / "model.onnx")
    options = make_options(shapes={"image": (4, 8, 16, 16)}, tune=True)
    return tune(io.load(source), options, provider="cpu", way=QUICK, profile_seconds=3)


def test_every_candidate_has_a_row_in_every_setting_that_was_tried(tuned: Planned) -> None:
    assert tuned.tuned is not None
    rows = tuned.tuned.rows
    names = ["source", "roofline", "graph roofline", "own kernels", "measured", "all low"]
    assert list(dict.fromkeys(each.name for each in rows)) == names
    by_setting = {(each.name, each.setting): each for each in rows}
    assert len(by_setting) == len(rows)
    assert {setting for name, setting in by_setting if name == "source"} == set(settings_of(classifier()))
    assert len([setting for name, setting in by_setting if name == "all low"]) > 1
    assert (rows[0].low, rows[0].casts, rows[0].setting, rows[0].last) == (0, 0, OWN, True)
    assert by_setting["all low", OWN].low == 5
    assert by_setting["all low", OWN].ms is not None
    assert by_setting["roofline", OWN].verdict.startswith("out: the same plan as source")


def test_the_report_has_the_table(tuned: Planned) -> None:
    report = make_report(tuned)
    shown = to_text(report)
    assert max(map(len, shown.splitlines())) <= WIDTH
    assert "all run plain" in " ".join(shown.split())
    content = json.loads(report_to_json(report))["tuned"]
    assert [each["chosen"] for each in content["rows"]].count(True) == 1
    assert set(content["rows"][0]["ms"]) == {"median", "low", "high"}
    assert set(content["rows"][0]["setting"]) == {"nhwc", "tf32", "bias_inside", "native"}


def of_row(
    model: onnx.ModelProto, tmp_path: Path, name: str, setting: Setting, monkeypatch: pytest.MonkeyPatch
) -> tuple[Planned, Path]:
    """What tuning gives where that candidate is the fastest, in that setting."""
    path = saved(model, tmp_path / "source.onnx")

    def taken(trials):
        is_it = [(each.name, each.setting) == (name, setting) for each in trials]
        assert is_it.count(True) == 1
        return tuple(replace(each, chosen=it, verdict="taken") for each, it in zip(trials, is_it, strict=True))

    monkeypatch.setattr("ampgraph.onnx_model.race.decided", taken)
    monkeypatch.setattr("ampgraph.onnx_model.race.LEADERS", 9)
    monkeypatch.setattr("ampgraph.onnx_model.race.REACH", 1e9)
    return tune(io.load(path), Options(tune=True), provider="cpu", way=QUICK, profile_seconds=0), path


def gelu() -> onnx.ModelProto:
    numbers = {"root": 2**0.5, "one": 1.0, "half": 0.5}
    return parse(GELU, w=random(64, 64), **{key: random(1) * 0 + value for key, value in numbers.items()})


NO_TF32 = Setting(tf32=False)


@pytest.mark.parametrize(
    ("name", "setting"),
    [
        ("all low", OWN),
        ("fused", OWN),
        ("fused", NO_TF32),
        ("fused, all low", OWN),
        ("source", NO_TF32),
    ],
)
def test_the_plan_gives_the_same_bytes_without_measuring(tmp_path: Path, name: str, setting, monkeypatch) -> None:
    planned, path = of_row(gelu(), tmp_path, name, setting, monkeypatch)
    first, second, plan = tmp_path / "first.onnx", tmp_path / "second.onnx", tmp_path / "plan.json"
    convert_model(planned, first)
    plan.write_text(to_json(planned.plan).replace('"model": "source.onnx"', '"model": "elsewhere"'))
    assert planned.changes_nothing is (name == "source")
    assert bool(planned.plan.fused) is name.startswith("fused")
    convert(path, second, plan=plan)
    assert first.read_bytes() == second.read_bytes()
    loaded = io.load(first)
    assert remembered(loaded.model, TUNED_KEY)
    assert planned.plan.session.setting == setting
    for options in (Options(tune=True), Options(plan=plan)):  # a second conversion leaves it as it is
        assert is_converted(loaded, options)
        assert plan_model(loaded, options, as_is=True).changes_nothing
    again = ampgraph.convert(first, tmp_path / "third.onnx", tune=True)
    assert again.report.already_converted
    assert again.report.session == planned.plan.session
    assert (tmp_path / "third.onnx").read_bytes() == first.read_bytes()
    plan.write_text(plan.read_text().replace('"tuned": "', '"tuned": "0'))
    for options in (Options(), Options(tune=True, device="t4"), Options(plan=plan)):
        if name == "source":  # may be converted in another way
            assert not is_converted(loaded, options)
        else:
            with pytest.raises(ModelError, match="other options"):
                is_converted(loaded, options)


def test_arrays_in_memory_are_tuned_with_and_must_be_answered_with_numbers(tmp_path: Path) -> None:
    path = saved(gelu(), tmp_path / "model.onnx")

    def tuned(x: float) -> Planned:
        data = {"x": np.full((2, 64), x, np.float32)}
        return tune(io.load(path), Options(tune=True), data, provider="cpu", way=QUICK, profile_seconds=0)

    table = tuned(0.5).tuned
    assert table is not None
    assert (table.inputs, table.shapes) == ("given", {"x": (2, 64)})
    with pytest.raises(OptionError, match=r"^data: the source itself answers with NaN or infinity throughout"):
        tuned(np.nan)


def test_the_source_as_a_session_opens_it_anyway_is_copied(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    planned, path = of_row(gelu(), tmp_path, "source", OWN, monkeypatch)
    convert_model(planned, tmp_path / "same.onnx")
    assert unmarked(onnx.load(tmp_path / "same.onnx")) == onnx.load(path)
    assert make_report(planned).session is None


def test_a_source_that_is_left_alone_differs_by_what_it_remembers(tmp_path: Path, monkeypatch) -> None:
    planned, path = of_row(gelu(), tmp_path, "source", NO_TF32, monkeypatch)
    written = convert_model(planned, tmp_path / "first.onnx").model
    assert remembered(written, SESSION_KEY)
    assert unmarked(written) == onnx.load(path)
    assert "with the session's setting in its metadata" in " ".join(to_text(make_report(planned)).split())


def test_a_session_opens_what_was_tuned_as_it_was_measured(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    planned, _ = of_row(gelu(), tmp_path, "fused", NO_TF32, monkeypatch)
    path = tmp_path / "tuned.onnx"
    convert_model(planned, path)
    session = Session(path, provider="cpu")
    assert session.recorded == planned.plan.session
    assert (session.recorded.setting, session.recorded.provider) == (NO_TF32, CPU)
    assert session.notes[0].startswith("the file records: without TF32, as measured on ")
    words = planned.plan.session.words
    assert words in " ".join(str(ampgraph.inspect(path)).split())
    explained = examine(path).explain("y")
    assert explained.count(f"opens in: {words}") == 1


def test_an_edited_setting_is_no_longer_what_was_measured(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    planned, path = of_row(gelu(), tmp_path, "fused", NO_TF32, monkeypatch)
    plan, text = tmp_path / "plan.json", to_json(planned.plan)
    assert json.loads(text)["session"]["tf32"] is False
    plan.write_text(text.replace('"tf32": false', '"tf32": true'))
    edited = convert(path, plan=plan).model
    assert not remembered(edited, TUNED_KEY)
    assert json.loads(remembered(edited, SESSION_KEY))["tf32"] is True
    plan.write_text(text.replace('"tf32": false', '"tf32": 3'))
    with pytest.raises(PlanError, match=r"session: has no known tf32 \(3\)"):
        convert(path, plan=plan)
