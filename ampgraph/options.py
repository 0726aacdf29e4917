"""Options of a conversion: one frozen record, the same words on the command line and in Python."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Literal, get_args

from ampgraph.errors import OptionError
from ampgraph.precision import LOW_PRECISIONS, Precision

Objective = Literal["speed", "memory", "coverage"]
Target = Literal["onnxruntime-cuda", "onnx"]
Interface = Literal["keep", "low"]


@dataclass(frozen=True)
class Options:
    """What decides the bytes of a converted model, besides the model itself.

    `keep`, `low`: regular expressions over node names. `io`: "keep", "low", or a regular expression over the names of
    graph inputs and outputs that become low. `shapes`: concrete shapes of inputs by name. `opset`: 0 leaves it alone.
    """

    precision: Precision = Precision.FLOAT16
    target: str = "onnxruntime-cuda"
    device: str = "h100"
    objective: str = "speed"
    rules: Path | None = None
    keep: str = ""
    low: str = ""
    io: str = "keep"
    shapes: Mapping[str, tuple[int, ...]] = field(default_factory=dict)
    opset: int = 0
    plan: Path | None = None

    def __post_init__(self) -> None:
        _require("--precision", self.precision, [str(p) for p in LOW_PRECISIONS])
        _require("--target", self.target, get_args(Target))
        _require("--objective", self.objective, get_args(Objective))
        for option, pattern in (("--keep", self.keep), ("--low", self.low), ("--io", self.io)):
            try:
                re.compile(pattern)
            except re.error as error:
                raise OptionError(f"{option} {pattern!r}", f"is no regular expression ({error})", "mend it") from None

    def digest(self) -> str:
        """What a converted file remembers of its options; the contents of rule and plan files count, not their paths."""
        said = {name: value for name, value in asdict(self).items() if name not in ("rules", "plan")}
        for name in ("rules", "plan"):
            path = getattr(self, name)
            said[name] = hashlib.sha256(path.read_bytes()).hexdigest() if path else ""
        return hashlib.sha256(json.dumps(said, sort_keys=True).encode()).hexdigest()[:16]


def _require(option: str, value: str, known: object) -> None:
    choices = [str(choice) for choice in known]  # type: ignore[attr-defined]
    if str(value) not in choices:
        raise OptionError(f"{option} {value}", "unknown value", f"choose one of {', '.join(choices)}")
