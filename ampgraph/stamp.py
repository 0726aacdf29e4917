"""Stamp: what a written file remembers of its conversion, and how it is known again."""

from __future__ import annotations

from dataclasses import replace

from onnx import ModelProto

from ampgraph import __version__
from ampgraph.errors import ModelError, OptionError
from ampgraph.kernels import onnxruntime_cuda
from ampgraph.onnx_model.io import Loaded
from ampgraph.options import Options
from ampgraph.plan import Plan, read_mark
from ampgraph.settings import SESSION_KEY, MeasuredSetting, from_text

DIGEST_KEY, VERSION_KEY, RUNTIME_KEY = "ampgraph.digest", "ampgraph.version", "ampgraph.runtime"
TUNED_KEY = "ampgraph.tuned"


def remembered(model: ModelProto, key: str) -> str:
    """A model metadata entry, "" when there is none."""
    return next((entry.value for entry in model.metadata_props if entry.key == key), "")


def session_of(model: ModelProto) -> MeasuredSetting | None:
    """The setting of a session that a file records."""
    text = remembered(model, SESSION_KEY)
    if not text:
        return None
    try:
        return from_text(text)
    except ValueError:  # a session says so when it opens the file
        return None


def is_converted(loaded: Loaded, options: Options) -> bool:
    """Whether the model is our own output under these options. Raises ModelError when it is under others."""
    digest = remembered(loaded.model, DIGEST_KEY)
    if digest and not _made_under(options, digest, remembered(loaded.model, TUNED_KEY)):
        place = str(loaded.path or loaded.model.graph.name or "model")
        raise ModelError(place, "was converted by ampgraph with other options", "convert the float32 source instead")
    return bool(digest)


def _made_under(options: Options, digest: str, mark: str) -> bool:
    return stamp_of(options) == (digest, "" if options.tune else mark)


def stamp_of(options: Options) -> tuple[str, str]:
    """Digest and mark. A tuned plan, given back unchanged, is remembered as the tuning that it came from."""
    text = plan_text(options)
    tuning = replace(options, plan=None, tune=True).digest()
    mark = read_mark(text, tuning) if text is not None else ""
    return (tuning, mark) if mark else (options.digest(), "")


def stamp(model: ModelProto, options: Options, plan: Plan) -> None:
    """Write into a model's metadata what it was converted with."""
    runtime = onnxruntime_cuda()
    planned_for = f"{runtime.runtime} {runtime.version}" if options.target == "onnxruntime-cuda" else ""
    marks = {
        VERSION_KEY: __version__,
        DIGEST_KEY: stamp_of(options)[0],
        RUNTIME_KEY: planned_for,
        TUNED_KEY: plan.tuned,
        SESSION_KEY: plan.session.to_text() if plan.session else "",
    }
    for key, value in marks.items():
        entry = next((entry for entry in model.metadata_props if entry.key == key), None)
        if entry is not None:
            entry.value = value
        elif value:
            model.metadata_props.add(key=key, value=value)


def plan_text(options: Options) -> str | None:
    """The plan file's text, where there is one."""
    if options.plan is None:
        return None
    try:
        return options.plan.read_text()
    except OSError as error:
        raise OptionError(f"--plan {options.plan}", f"cannot be read ({error.strerror})", "check the path") from None
    except UnicodeDecodeError:
        raise OptionError(f"--plan {options.plan}", "is not text", "name a file that --save-plan wrote") from None
