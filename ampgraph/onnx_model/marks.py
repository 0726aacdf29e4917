"""Marks: what a converted file remembers of its conversion, in the model's metadata, and reading it back."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, fields
from typing import Any

from onnx import ModelProto

from ampgraph.errors import OptionError
from ampgraph.onnx_model.io import Loaded
from ampgraph.options import FILES, Options, make_options, to_words

PREFIX = "ampgraph."
DIGEST_KEY, VERSION_KEY, RUNTIME_KEY = "ampgraph.digest", "ampgraph.version", "ampgraph.runtime"
TUNED_KEY = "ampgraph.tuned"
OPTIONS_KEY = "ampgraph.options"  # JSON: `Options.said`
SHAPES_KEY = "ampgraph.shapes"  # JSON: sizes by input that the plan was modelled at
UNCHANGED_KEY = "ampgraph.unchanged"  # the conversion left operators and types alone: as good as its source
WISHES = ("keep", "low", "io", "plan")  # options that a plan is made by, and nothing else
PRICED = ("precision", "target", "device", "objective", "cuda_graph")  # options that prices depend on


def remembered(model: ModelProto, key: str) -> str:
    """A model metadata entry, "" when there is none."""
    return next((entry.value for entry in model.metadata_props if entry.key == key), "")


def write(model: ModelProto, marks: Mapping[str, str]) -> None:
    """Write marks in place of all that an earlier conversion wrote; empty ones are left out."""
    kept = [(entry.key, entry.value) for entry in model.metadata_props if not entry.key.startswith(PREFIX)]
    del model.metadata_props[:]
    for key, value in (*kept, *marks.items()):
        if value or not key.startswith(PREFIX):
            model.metadata_props.add(key=key, value=value)


def options_text(options: Options) -> str:
    """Options as a mark."""
    return json.dumps(options.said(), sort_keys=True)


def shapes_text(shapes: Mapping[str, tuple[int, ...]]) -> str:
    """Shapes as a mark."""
    return json.dumps({name: list(sizes) for name, sizes in shapes.items()}, sort_keys=True, ensure_ascii=False)


@dataclass(frozen=True)
class Past:
    """A conversion as its file remembers it.

    `options` without the files they name, of which `files` are the names of the options; `shapes`: sizes of inputs that
    the plan was modelled at, assumed ones included.
    """

    options: Options
    files: tuple[str, ...]
    shapes: Mapping[str, tuple[int, ...]]

    def words(self) -> str:
        """The options as on the command line, those left at their defaults out."""
        return " ".join((*to_words(self.options), *(f"--{name} FILE" for name in self.files)))


def recall(model: ModelProto) -> Past | None:
    """What a file remembers; None where that is nothing that can be read, as in files of earlier versions."""
    try:
        said, shapes = (json.loads(remembered(model, key)) for key in (OPTIONS_KEY, SHAPES_KEY))
        names = {field.name for field in fields(Options)} - set(FILES)
        options = make_options(**{name: value for name, value in said.items() if name in names})
        sizes = {str(name): tuple(int(size) for size in shape) for name, shape in shapes.items()}
    except (ValueError, TypeError, AttributeError, RecursionError, OptionError):
        return None
    return Past(options, tuple(name for name in FILES if said.get(name)), sizes)


def shapes_asked_for(models: Iterable[Loaded]) -> dict[str, tuple[int, ...]]:
    """The shapes that the user gave when models were converted, those of later ones before those of earlier ones."""
    found: dict[str, tuple[int, ...]] = {}
    for each in models:
        past = recall(each.model)
        found |= past.options.shapes if past is not None else {}
    return found


def is_output(model: ModelProto) -> bool:
    """Whether ampgraph wrote the model."""
    return bool(remembered(model, DIGEST_KEY))


def is_changed(model: ModelProto) -> bool:
    """Whether ampgraph converted the model and changed something: there is no way back from it to its source."""
    return is_output(model) and not remembered(model, UNCHANGED_KEY)


def options_to_look_at(model: ModelProto, given: Mapping[str, Any]) -> Options:
    """The options that a model is looked at with: those given, before those that it was converted with.

    Only what prices depend on is taken from the file: wishes were granted when it was made.
    """
    past = recall(model)
    if past is None:
        return make_options(**given)
    said = {name: getattr(past.options, name) for name in PRICED}
    return make_options(**{**said, **given, "shapes": {**past.shapes, **(given.get("shapes") or {})}})


def idle_notes(given: Mapping[str, Any], options: Options) -> Iterator[str]:
    """Options that were given in vain to look at a model as it is. `options`: those that it was looked at with."""
    idle = [name for name in WISHES if given.get(name) and given[name] != getattr(Options, name)]
    if given.get("precision", options.precision) != options.precision:
        idle.insert(0, "precision")
    yield from (f"--{name} says nothing of a model that is taken as it is" for name in idle)


def notes_on(model: ModelProto, options: Options) -> Iterator[str]:
    """What is to be said of how a converted file was made. `options`: those that it is looked at with."""
    past = recall(model)
    if past is None:
        yield "the file does not say with what options it was converted: prices are of those of this command"
        return
    yield f"converted with {past.words() or 'the default options'}"
    if past.files:
        names = " and ".join(f"--{name}" for name in past.files)
        yield f"the file does not hold {names}: give it again for its rules and prices, reasons are recorded anyway"
    others = [name for name in PRICED if getattr(options, name) != getattr(past.options, name)]
    others += [name for name in ("shapes",) if {**past.shapes, **options.shapes} != past.shapes]
    if others:
        asked = ", ".join(name.replace("_", "-").removesuffix("s") for name in others)
        yield f"prices are of the {asked} asked for here, not of the conversion's"
