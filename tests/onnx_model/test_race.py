"""The race: what is out, what time allows, and how few sessions are open at a time."""

import weakref
from dataclasses import replace
from pathlib import Path

import onnx
import pytest

from ampgraph.conversion import collector_at_rest
from ampgraph.onnx_model import race
from ampgraph.onnx_model.race import FINALISTS, measure
from ampgraph.onnx_model.run import CPU
from ampgraph.onnx_model.session import Session
from ampgraph.onnx_model.tune import OWN, Candidate, Reference, Way, reference
from ampgraph.settings import PLAIN, Setting
from tests.small_models import parse, random, saved

QUICK = Way("cpu", rounds=3)
BAR = 0.03


def chain(length: int, body: str, name: str, folder: Path) -> Path:
    """A model that multiplies so often, and whose answer is another thing."""
    steps = " ".join(f"v{i + 1} = MatMul({'x' if i == 0 else f'v{i}'}, w)" for i in range(length))
    text = f"g (float[N,256] x) => (float[N,256] y) {{ {steps} z = Mul(v{length}, none) {body} }}"
    return saved(parse(text, w=random(256, 256), none=random(1) * 0), folder / f"{name}.onnx")


@pytest.fixture
def source(tmp_path: Path) -> Path:
    return chain(20, "y = Add(z, x)", "source", tmp_path)


def known(source: Path) -> Reference:
    return reference(onnx.load(source), source, {"x": (64, 256)}, None, "generated", BAR, "cpu")


def candidates(*paths: Path) -> list[Candidate]:
    return [Candidate(path.stem, path, 0, 0) for path in paths]


def test_wrong_answers_are_out_however_fast(tmp_path: Path, source: Path) -> None:
    """Two models that do a twentieth of the work, one of them wrongly."""
    right = saved(parse("g (float[N,256] x) => (float[N,256] y) { y = Identity(x) }"), tmp_path / "right.onnx")
    wrong = saved(parse("g (float[N,256] x) => (float[N,256] y) { y = Neg(x) }"), tmp_path / "wrong.onnx")
    tried = candidates(source, wrong, right)
    tried += [Candidate("again", None, 0, 0, same_as="right"), Candidate("gone", tmp_path / "none.onnx", 0, 0)]
    found = measure(tried, known(source), QUICK)
    assert (found.winner.name, found.way, found.provider, found.shapes) == ("right", PLAIN, CPU, {"x": (64, 256)})
    assert (found.measured.cuda_graph, found.measured.shapes) == (False, {"x": (64, 256)})
    verdicts = {each.name: each.verdict for each in found.rows}
    assert "output y is off by 2 relative L2" in verdicts["wrong"]
    assert verdicts["again"] == "out: the same plan as right"
    assert verdicts["gone"] == "out: no such file"


def test_what_is_half_as_fast_is_not_tried_in_other_settings(tmp_path: Path, source: Path) -> None:
    fast = chain(2, "y = Add(z, x)", "fast", tmp_path)
    found = measure(candidates(source, fast), known(source), QUICK)
    settings = [(each.name, each.setting) for each in found.rows]
    assert settings == [("source", OWN), ("fast", OWN), ("fast", Setting(tf32=False))]
    assert found.notes == ("source: no other settings tried, what is fastest takes less than half as long",)


def test_when_time_is_up_nothing_more_is_opened_and_the_table_says_so(tmp_path: Path, source: Path) -> None:
    other = chain(19, "y = Add(z, x)", "other", tmp_path)
    found = measure(candidates(source, other), known(source), replace(QUICK, seconds=-1))
    assert [each.verdict for each in found.rows][1:] == ["out: not tried: time was up"]
    assert found.winner.name == "source"
    assert found.notes == ("time was up before source with without TF32",)


def test_few_sessions_are_open_at_a_time(tmp_path: Path, source: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    alive: weakref.WeakSet[object] = weakref.WeakSet()
    most = []

    class Counted(Session):
        def __init__(self, *given, **more) -> None:
            super().__init__(*given, **more)
            alive.add(self._session)
            most.append(len(alive))

    monkeypatch.setattr(race, "Session", Counted)
    others = [chain(18 - i, "y = Add(z, x)", f"c{i}", tmp_path) for i in range(7)]
    with collector_at_rest():  # as tuning runs
        found = measure(candidates(source, *others), known(source), QUICK)
    assert len(most) > 8
    assert max(most) <= FINALISTS + 2
    assert sum(each.last for each in found.rows) == FINALISTS + 1
    assert "slower in its heat than those that ran the last rounds" in {each.verdict for each in found.rows}
