"""Measured costs: what `ampgraph profile` found an operator to take on one device, by shape class and precision.

The file is JSON, format 1. Times are seconds.

- `device`, `provider`, `runtime`, `tf32`: what was measured on what; `convert` warns when it plans for another.
- `launch`: what the runtime spends to start an operator, which a short one cannot be faster than. Write 0 for a model
  that is deployed as a CUDA graph.
- `cast`: `fixed` and `per_byte`, of bytes read and written.
- `whole`: the model that was profiled: its time in float32, the sum of its operators' under the same conditions, and
  how many of its operators that sum holds.
- `ops`: one entry per shape class: `op`, schema `version`, `attributes` (numbers that change no time left out),
  `inputs` and `outputs` as dtype and shape (a constant's ends in "="), and `seconds` by precision, null where it does
  not run.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from ampgraph.errors import OptionError
from ampgraph.graph import Attribute, Op, PrecisionGraph
from ampgraph.precision import Precision
from ampgraph.work import is_view

FORMAT = 1
CUDA = "CUDAExecutionProvider"
TOLERANCE = (0.7, 1.4)  # of the parts over the whole: outside, the parts do not explain the model

Seconds = Mapping[Precision, float | None]


@dataclass(frozen=True, slots=True)
class ShapeClass:
    """What the time of an operator depends on, besides the device."""

    op: str
    version: int
    attributes: tuple[tuple[str, str], ...]
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class CastCost:
    """A cast takes a fixed time, and one for each byte that it reads or writes."""

    fixed: float
    per_byte: float

    def seconds(self, traffic: float) -> float:
        """Time of a cast that moves so many bytes."""
        return self.fixed + self.per_byte * traffic


@dataclass(frozen=True, slots=True)
class Whole:
    """One model in float32 and its operators one by one, under the same conditions."""

    seconds: float
    parts: float
    ops: int  # that take time
    measured: int  # of them, those that `parts` holds

    @property
    def ratio(self) -> float:
        """The parts over the whole."""
        return self.parts / self.seconds if self.seconds else math.inf

    @property
    def is_explained(self) -> bool:
        """Whether the parts add up to the whole."""
        return TOLERANCE[0] <= self.ratio <= TOLERANCE[1]


@dataclass(frozen=True)
class MeasuredCosts:
    """Times of operators and casts on one device."""

    device: str
    provider: str
    runtime: str
    tf32: bool
    launch: float
    cast: CastCost
    entries: Mapping[ShapeClass, Seconds] = field(default_factory=dict)
    whole: Whole | None = None

    def times_of(self, op: Op, graph: PrecisionGraph) -> Seconds | None:
        """What was measured for an operator like this one."""
        if op.type not in self._types:
            return None
        found = class_of(op, graph)
        return self.entries.get(found) if found else None

    @cached_property
    def _types(self) -> frozenset[str]:
        return frozenset(entry.op for entry in self.entries)


def class_of(op: Op, graph: PrecisionGraph) -> ShapeClass | None:
    """The shape class of an operator.

    None where it takes no time of its own (views, nodes with bodies), where nothing is to be decided about it, and
    where a tensor's shape is unknown.
    """
    decisions = graph.decisions_of.get(op.id, ())
    principal = next((decision for decision in decisions if decision.principal), None)
    if is_view(op) or principal is None or principal.present is not Precision.FLOAT32:
        return None
    inputs = tuple(_operand(slot.value, graph) for slot in op.inputs)
    outputs = tuple(_operand(slot.value, graph) for slot in op.outputs)
    if any(text is None for text in (*inputs, *outputs)):
        return None
    attributes = tuple((name, _plain(op.attributes[name])) for name in sorted(op.attributes) if _matters(op, name))
    return ShapeClass(op.type, op.version, attributes, _known(inputs), _known(outputs))


def fit_cast(points: Sequence[tuple[float, float]]) -> CastCost:
    """The cast cost that comes closest to measured (bytes, seconds), relative errors alike; neither part negative."""
    weights = [1 / seconds**2 for _, seconds in points]
    total = sum(weights)
    size = sum(w * x for w, (x, _) in zip(weights, points, strict=True)) / total
    time = sum(w * y for w, (_, y) in zip(weights, points, strict=True)) / total
    spread = sum(w * (x - size) ** 2 for w, (x, _) in zip(weights, points, strict=True))
    shared = sum(w * (x - size) * (y - time) for w, (x, y) in zip(weights, points, strict=True))
    slope = max(shared / spread, 0.0) if spread else 0.0
    if time >= slope * size:
        return CastCost(time - slope * size, slope)
    squares = sum(w * x * x for w, (x, _) in zip(weights, points, strict=True))
    return CastCost(0.0, sum(w * x * y for w, (x, y) in zip(weights, points, strict=True)) / squares)


def mismatches(costs: MeasuredCosts, device: str, runtime: str = "") -> Iterator[str]:
    """What makes measured costs doubtful for a plan on `device` by its short name, with a release of onnxruntime."""
    named = re.compile(rf"(?<![a-z0-9]){re.escape(device.lower())}(?![0-9])")
    if not named.search(re.sub(r"(?<=[a-z]) (?=[0-9])", "", costs.device.lower())):
        yield f"--costs were measured on {costs.device}, and the plan is for {device}: name it with --device"
    if costs.provider != CUDA:
        yield f"--costs were measured on {costs.provider}: times on a GPU are others"
    if runtime and costs.runtime.split()[-1:] != [runtime]:
        yield f"--costs were measured with {costs.runtime}, and kernels are known for {runtime}: profile again"


def joined(first: MeasuredCosts, second: MeasuredCosts) -> MeasuredCosts:
    """Both files' entries, the second's where both have one; everything else is the first's. For one device only."""
    places = [(each.device, each.provider, each.runtime, each.tf32) for each in (first, second)]
    if places[0] != places[1]:
        raise OptionError("measured costs", "come from different devices or runtimes", "join those of one machine")
    return replace(first, entries={**first.entries, **second.entries})


def to_json(costs: MeasuredCosts) -> str:
    """The file's text."""
    head = {name: getattr(costs, name) for name in ("device", "provider", "runtime", "tf32", "launch")}
    content = {
        "format": FORMAT,
        **head,
        "cast": asdict(costs.cast),
        "whole": asdict(costs.whole) if costs.whole else None,
        "ops": [_entry(kind, seconds) for kind, seconds in costs.entries.items()],
    }
    return json.dumps(content, indent=1, ensure_ascii=False) + "\n"


def from_json(text: str, place: str) -> MeasuredCosts:
    """Read a file's text. OptionError, with `place` as its place, for what is no such file."""
    remedy = "write one with `ampgraph profile`"
    try:
        content = json.loads(text)
        if content["format"] != FORMAT:
            raise OptionError(place, f"has format {content['format']}, and {FORMAT} is known", remedy)
        entries = dict(map(_read_entry, content["ops"]))
        whole = Whole(**content["whole"]) if content["whole"] else None
        cast = CastCost(_time(content["cast"]["fixed"]), _time(content["cast"]["per_byte"]))
        device, provider, runtime = (str(content[name]) for name in ("device", "provider", "runtime"))
        launch = _time(content["launch"])
        return MeasuredCosts(device, provider, runtime, bool(content["tf32"]), launch, cast, entries, whole)
    except json.JSONDecodeError as error:
        raise OptionError(place, f"is no JSON (line {error.lineno}: {error.msg})", remedy) from None
    except KeyError as error:
        raise OptionError(place, f"lacks {error}", remedy) from None
    except (TypeError, ValueError, AttributeError) as error:
        raise OptionError(place, f"holds no measured costs ({error})", remedy) from None


def read(path: Path) -> MeasuredCosts:
    """Read a file that `ampgraph profile` wrote."""
    option = f"--costs {path}"
    try:
        return from_json(path.read_text(encoding="utf-8"), option)
    except OSError as error:
        raise OptionError(option, f"cannot be read ({error.strerror})", "check the path") from None
    except UnicodeDecodeError:
        raise OptionError(option, "is not text", "name a file that `ampgraph profile` wrote") from None


def _operand(value: str, graph: PrecisionGraph) -> str | None:
    """A slot's tensor in words, "" for an empty slot; None when it cannot be said."""
    if not value:
        return ""
    known = graph.values[value]
    if known.shape is None or known.kind != "tensor" or known.dtype in ("", "string"):
        return None
    return f"{known.dtype}[{','.join(map(str, known.shape))}]" + ("=" if known.constant is not None else "")


def _known(texts: Sequence[str | None]) -> tuple[str, ...]:
    return tuple(text for text in texts if text is not None)


def _matters(op: Op, name: str) -> bool:
    """Epsilons, slopes and limits change no time."""
    value = op.attributes[name]
    return not (isinstance(value, float) or (isinstance(value, tuple) and any(isinstance(x, float) for x in value)))


def _plain(value: Attribute) -> str:
    return ",".join(map(str, value)) if isinstance(value, tuple) else str(value)


def _entry(kind: ShapeClass, seconds: Seconds) -> dict[str, Any]:
    return {**asdict(kind), "attributes": dict(kind.attributes), "seconds": {str(k): v for k, v in seconds.items()}}


def _read_entry(entry: Mapping[str, Any]) -> tuple[ShapeClass, Seconds]:
    attributes = tuple((str(name), str(value)) for name, value in sorted(entry["attributes"].items()))
    inputs, outputs = (tuple(map(str, entry[side])) for side in ("inputs", "outputs"))
    kind = ShapeClass(str(entry["op"]), int(entry["version"]), attributes, inputs, outputs)
    return kind, {Precision(k): None if v is None else _time(v) for k, v in entry["seconds"].items()}


def _time(value: float) -> float:
    seconds = float(value)
    if not (seconds >= 0 and math.isfinite(seconds)):
        raise ValueError(f"{value} is no time")
    return seconds
