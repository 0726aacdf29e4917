"""Options of a conversion: one frozen record, the same words on the command line and in Python."""

from __future__ import annotations

import hashlib
import json
import math
import operator
import os
import re
import shlex
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal, TypeVar, get_args

from ampgraph.errors import OptionError
from ampgraph.precision import LOW_PRECISIONS, Precision

Value = TypeVar("Value")
Objective = Literal["speed", "memory", "coverage"]
Target = Literal["onnxruntime-cuda", "onnx"]
FilePath = str | os.PathLike[str] | None
Patterns = str | tuple[str, ...]  # regular expressions, any of which may match; as a rule there is one at most
FILES = ("rules", "plan", "costs")  # options that name a file
MOST_ELEMENTS = 1 << 40  # of an input: numbers of bytes that come of it still are numbers of 64 bits


@dataclass(frozen=True)
class Options:
    """What decides the bytes of a converted model, besides the model itself.

    `keep`, `low`: regular expressions searched in node names. `io`: "keep", "low", or a regular expression searched in
    the names of graph inputs and outputs, which become low. `shapes`: of inputs, by name. `opset`: 0 leaves it alone.
    `cuda_graph`: the model will run as a CUDA graph, where a kernel's launch costs little. `native`: in a Session, with
    ampgraph's own kernels.
    """

    precision: Precision = Precision.FLOAT16
    target: str = "onnxruntime-cuda"
    device: str = "h100"
    objective: Objective = "speed"
    rules: Path | None = None
    keep: Patterns = ""
    low: Patterns = ""
    io: str = "keep"
    shapes: Mapping[str, tuple[int, ...]] = field(default_factory=dict)
    opset: int = 0
    plan: Path | None = None
    costs: Path | None = None
    fuse: bool = True
    tune: bool = False
    cuda_graph: bool = False
    native: bool = False

    def __post_init__(self) -> None:
        _require("--precision", self.precision, LOW_PRECISIONS)
        _require("--target", self.target, get_args(Target))
        _require("--objective", self.objective, get_args(Objective))
        if self.opset < 0:
            raise OptionError(f"--opset {self.opset}", "is no opset", "give a positive number")
        if self.native and not self.cuda_graph:
            fact = "counts on kernels that sessions take by themselves in CUDA graphs alone"
            raise OptionError("--native", fact, "add --cuda-graph")
        if self.native and self.target != "onnxruntime-cuda":
            fact = "do not go together: the kernels are those of ampgraph.Session, which is of onnxruntime"
            raise OptionError(f"--native and --target {self.target}", fact, "leave one of them out")
        for option, asked in (("--keep", self.keep), ("--low", self.low), ("--io", self.io)):
            for pattern in each_of(asked):
                _require_expression(option, pattern)

    def said(self) -> dict[str, Any]:
        """The options as plain data: of the files that they name a digest of the contents, not the paths."""
        said = {name: value for name, value in asdict(self).items() if name not in FILES}
        for name in FILES:
            path = getattr(self, name)
            said[name] = _file_digest(f"--{name} {path}", path) if path else ""
        return said

    def digest(self) -> str:
        """What a converted file is recognised by."""
        said = self.said()
        for later in ("tune", "cuda_graph", "native"):  # files converted before there were these keep their digest
            if not said[later]:
                del said[later]
        return hashlib.sha256(json.dumps(said, sort_keys=True).encode()).hexdigest()[:16]


def each_of(patterns: Patterns) -> tuple[str, ...]:
    """The expressions one by one; none where there are none."""
    return tuple(filter(None, (patterns,) if isinstance(patterns, str) else patterns))


def to_words(options: Options) -> list[str]:
    """The options as on a command line, ready for a shell; those left at their defaults and files are left out."""
    words: list[str] = []
    for name, default in asdict(Options()).items():
        value = getattr(options, name)
        if name in FILES or value == default:
            continue
        option = f"--{name.replace('_', '-')}"
        if name == "shapes":
            for each, sizes in value.items():
                words += ["--shape", shlex.quote(f"{each}={'x'.join(map(str, sizes))}")]
        elif isinstance(value, tuple):
            for each in value:
                words += [option, shlex.quote(each)]
        elif isinstance(value, bool):
            words.append(option if value else option.replace("--", "--no-", 1))
        else:
            words += [option, shlex.quote(str(value))]
    return words


def make_options(
    *,
    precision: str = Precision.FLOAT16,
    device: str = "h100",
    rules: FilePath = None,
    plan: FilePath = None,
    costs: FilePath = None,
    keep: str | Iterable[str] = "",
    low: str | Iterable[str] = "",
    io: str = "keep",
    shapes: Mapping[str, Sequence[int]] | None = None,
    opset: int = 0,
    **others: Any,  # noqa: ANN401  (those of Options that need no reading)
) -> Options:
    """Options from what a caller writes: names and paths as text, shapes as any sequence, one pattern or several."""
    _require("--precision", precision, LOW_PRECISIONS)
    return Options(
        precision=Precision(precision),
        device=as_text("device", device).lower(),
        rules=as_path("rules", rules or None),
        plan=as_path("plan", plan or None, "give the path of a plan file, such as save_plan=FILE writes"),
        costs=as_path("costs", costs or None),
        keep=patterns_of("keep", keep),
        low=patterns_of("low", low),
        io=as_text("io", io),
        shapes=as_shapes(shapes),
        opset=_whole("opset", opset),
        **others,
    )


def patterns_of(option: str, given: str | Iterable[str]) -> Patterns:
    """As `Options` has them: a single one by itself, however it is given. OptionError for what are no strings."""
    several = given if isinstance(given, Iterable) and not isinstance(given, str) else (given,)
    found = each_of(tuple(as_text(option, each) for each in several))
    return found if len(found) > 1 else "".join(found)


def as_path(option: str, given: FilePath, remedy: str = "give the path of a file") -> Path | None:
    """A path, None where none is given. OptionError for what cannot be one."""
    if given is None or isinstance(given, str | os.PathLike):
        return None if given is None else Path(given)
    raise OptionError(option, f"is of type {type(given).__name__}", remedy)


def as_shapes(shapes: Mapping[str, Sequence[int]] | None) -> dict[str, tuple[int, ...]]:
    """Shapes by name of input, from any mapping of sequences of whole numbers. OptionError for anything else."""
    if shapes is not None and not isinstance(shapes, Mapping):
        fact = f"is of type {type(shapes).__name__}"
        raise OptionError("shapes", fact, 'give sizes by name of input: {"x": (1, 3, 224, 224)}')
    return {as_text("a name in shapes", name): _shape(name, sizes) for name, sizes in (shapes or {}).items()}


def as_text(option: str, given: object) -> str:
    """What is given, where it is text. OptionError for anything else."""
    if not isinstance(given, str):
        raise OptionError(option, f"is {given!r}, of type {type(given).__name__}", "give a string")
    return given


def _whole(option: str, given: object) -> int:
    try:
        return operator.index(given)  # type: ignore[arg-type]
    except TypeError:
        raise OptionError(option, f"is {given!r}", "give a whole number") from None


def parse_shape(text: str) -> tuple[str, tuple[int, ...]]:
    """`NAME=1x3x224x224` as a name and a shape. The name may hold an `=` itself."""
    name, equals, sizes = text.rpartition("=")
    if not equals or not name or not re.fullmatch(r"\d+(x\d+)*", sizes):
        raise OptionError(f"--shape {text}", "is no shape of an input", "write it as NAME=1x3x224x224")
    return name, _of_possible_size(f"--shape {text}", tuple(int(size) for size in sizes.split("x")))


def parse_shapes(texts: Iterable[str]) -> dict[str, tuple[int, ...]]:
    """Shapes by input. Raises OptionError where one input has two."""
    return _each_once("--shape", map(parse_shape, texts))


def parse_threshold(text: str) -> tuple[str, float]:
    """`coverage=0.9` as a name and a number."""
    name, _, number = text.partition("=")
    try:
        return name.strip(), float(number)
    except ValueError:
        raise OptionError(f"--require {text}", "is no threshold", "write it as coverage=0.9") from None


def parse_thresholds(texts: Iterable[str]) -> dict[str, float]:
    """Thresholds by name. Raises OptionError where one is given twice."""
    return _each_once("--require", map(parse_threshold, texts))


def _each_once(option: str, pairs: Iterable[tuple[str, Value]]) -> dict[str, Value]:
    found: dict[str, Value] = {}
    for name, value in pairs:
        if name in found:
            raise OptionError(f"{option} {name}", "is given twice", "leave one of them out")
        found[name] = value
    return found


def _shape(name: str, sizes: Sequence[int]) -> tuple[int, ...]:
    try:
        shape = tuple(operator.index(size) for size in sizes)
    except TypeError:
        fact = f"is {sizes!r}"
        raise OptionError(f"shapes[{name!r}]", fact, "give whole numbers: (1, 3, 224, 224)") from None
    if any(size < 0 for size in shape):
        raise OptionError(f"shapes[{name!r}]", f"has a negative size in {shape}", "give the sizes of a real input")
    return _of_possible_size(f"shapes[{name!r}]={'x'.join(map(str, shape))}", shape)


def _of_possible_size(place: str, shape: tuple[int, ...]) -> tuple[int, ...]:
    if math.prod(max(size, 1) for size in shape) > MOST_ELEMENTS:
        raise OptionError(place, f"has more than {MOST_ELEMENTS} elements", "give the sizes of a real input")
    return shape


def _require_expression(option: str, pattern: str) -> None:
    try:
        re.compile(pattern)
    except re.error as error:
        raise OptionError(f"{option} {pattern!r}", f"is no regular expression ({error})", "mend it") from None


def _file_digest(option: str, path: Path) -> str:
    try:
        return hashlib.sha256(path.read_bytes()).hexdigest()
    except OSError as error:
        raise OptionError(option, f"cannot be read ({error.strerror})", "check the path") from None


def _require(option: str, value: str, known: Iterable[str]) -> None:
    choices = [str(choice) for choice in known]
    if str(value) not in choices:
        raise OptionError(f"{option} {value}", "unknown value", f"choose one of {', '.join(choices)}")
