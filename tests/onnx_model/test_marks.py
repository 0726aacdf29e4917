"""What a converted file remembers of its conversion."""

from pathlib import Path

import onnx
import pytest

import ampgraph
from ampgraph.api import examine
from ampgraph.onnx_model.marks import (
    OPTIONS_KEY,
    PREFIX,
    SHAPES_KEY,
    is_changed,
    is_output,
    notes_on,
    options_to_look_at,
    recall,
    write,
)
from ampgraph.options import Options, make_options
from tests.small_models import classifier

ASKED = {"objective": "memory", "device": "t4", "keep": "^exp|^it's$", "shapes": {"image": (2, 8, 16, 16)}}
RULE = """[[rule]]
name = "mine"
ops = ["Relu"]
category = "deny"
why = "A rule of my own."
source = "me"
[[rule.example]]
graph = "g (float[4] x) => (float[4] y) { y = Relu(x) }"
expect = { y = "float32" }
"""


def test_options_and_shapes_are_read_back() -> None:
    past = recall(ampgraph.convert(classifier(), **ASKED).model)
    assert past is not None
    assert past.options == make_options(**ASKED)
    assert (past.shapes, past.files) == ({"image": (2, 8, 16, 16)}, ())
    words = "--device t4 --objective memory --keep '^exp|^it'\"'\"'s$' --shape image=2x8x16x16"
    assert past.words() == words


def test_shapes_that_were_assumed_are_remembered_too() -> None:
    past = recall(ampgraph.convert(classifier(), objective="coverage").model)
    assert past is not None
    assert (past.options.shapes, past.shapes) == ({}, {"image": (1, 8, 16, 16)})


def test_files_are_remembered_by_their_contents_alone(tmp_path: Path) -> None:
    """Their paths would make other bytes of the same conversion."""
    made = []
    for name in ("one.toml", "two.toml"):
        (tmp_path / name).write_text(RULE)
        made.append(ampgraph.convert(classifier(), objective="coverage", rules=tmp_path / name).model)
    assert made[0].SerializeToString(deterministic=True) == made[1].SerializeToString(deterministic=True)
    past = recall(made[0])
    assert past is not None
    assert (past.files, past.words()) == (("rules",), "--objective coverage --rules FILE")
    assert any("does not hold --rules: give it again" in note for note in notes_on(made[0], past.options))


def test_what_is_given_goes_before_what_is_remembered() -> None:
    model = ampgraph.convert(classifier(), **ASKED).model
    assert options_to_look_at(model, {}) == Options(objective="memory", device="t4", shapes={"image": (2, 8, 16, 16)})
    assert list(notes_on(model, options_to_look_at(model, {}))) == [f"converted with {recall(model).words()}"]
    other = options_to_look_at(model, {"device": "h100", "shapes": {"image": (1, 8, 16, 16)}})
    assert other == Options(objective="memory", shapes={"image": (1, 8, 16, 16)})
    assert list(notes_on(model, other))[-1] == "prices are of the device, shape asked for here, not of the conversion's"


def test_wishes_for_a_model_that_is_taken_as_it_is_are_told_to_say_nothing() -> None:
    model = ampgraph.convert(classifier(), objective="memory").model
    asked = {"keep": ("^conv$",), "low": "exp", "io": "low"}
    notes = tuple(f"--{name} says nothing of a model that is taken as it is" for name in asked)
    shown = ampgraph.inspect(model, **asked).document.summary.notes
    assert shown[-3:] == notes
    assert not any("overrules" in note for note in shown)
    assert notes[0] in examine(model, **asked).explain("exp")
    given = {**asked, "precision": "bfloat16"}
    assert ampgraph.inspect(model, **given).document.summary.notes[-4].startswith("--precision says nothing of")
    nothing = {"keep": "", "io": "keep", "precision": "float16", "device": "t4"}
    for document in (ampgraph.inspect(model, **nothing), ampgraph.inspect(classifier(), **asked)):
        assert not [note for note in document.document.summary.notes if "says nothing" in note]


@pytest.mark.parametrize("damage", ["", "{", "[]", '{"objective": "beauty"}', '{"shapes": 3}'])
def test_a_file_that_remembers_nothing_is_looked_at_as_asked(damage: str) -> None:
    model = ampgraph.convert(classifier(), **ASKED).model
    for entry in model.metadata_props:
        if entry.key == OPTIONS_KEY:
            entry.value = damage
    assert recall(model) is None
    assert options_to_look_at(model, {"device": "t4"}) == Options(device="t4")
    assert "does not say with what options" in " ".join(notes_on(model, Options()))
    assert is_output(model)


def test_marks_replace_marks_and_nothing_else() -> None:
    model = onnx.ModelProto()
    model.metadata_props.add(key="author", value="")
    for shapes in ("{}", ""):
        write(model, {OPTIONS_KEY: "{}", SHAPES_KEY: shapes})
        said = {entry.key: entry.value for entry in model.metadata_props}
        assert said == {"author": "", OPTIONS_KEY: "{}", **({SHAPES_KEY: shapes} if shapes else {})}
    assert all(key.startswith(PREFIX) for key in (OPTIONS_KEY, SHAPES_KEY))
    assert not is_changed(model)
