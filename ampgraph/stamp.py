"""Stamp: what a written file remembers of its conversion, and how it is known again."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from onnx import ModelProto

from ampgraph import __version__
from ampgraph.errors import ModelError, OptionError
from ampgraph.kernels import onnxruntime_cuda
from ampgraph.onnx_model.io import Loaded
from ampgraph.onnx_model.marks import (
    DIGEST_KEY,
    OPTIONS_KEY,
    RUNTIME_KEY,
    SHAPES_KEY,
    TUNED_KEY,
    UNCHANGED_KEY,
    VERSION_KEY,
    is_changed,
    options_text,
    remembered,
    shapes_text,
    write,
)
from ampgraph.options import Options
from ampgraph.plan import Plan, read_mark
from ampgraph.settings import SESSION_KEY, MeasuredSetting, from_text


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
    """Whether the model is our own output under these options.

    One that an earlier conversion left alone is as good as its source under any others. Raises ModelError for an output
    under other options that has changed.
    """
    if is_output_of(loaded.model, options):
        return True
    if is_changed(loaded.model):
        place = str(loaded.path or loaded.model.graph.name or "model")
        raise ModelError(place, "was converted by ampgraph with other options", "convert the float32 source instead")
    return False


def is_output_of(model: ModelProto, options: Options) -> bool:
    """Whether a model was written by a conversion with these options."""
    digest, mark = remembered(model, DIGEST_KEY), remembered(model, TUNED_KEY)
    return bool(digest) and stamp_of(options) == (digest, "" if options.tune else mark)


def stamp_of(options: Options) -> tuple[str, str]:
    """Digest and mark. A tuned plan, given back unchanged, is remembered as the tuning that it came from."""
    text = plan_text(options)
    tuning = replace(options, plan=None, tune=True).digest()
    mark = read_mark(text, tuning) if text is not None else ""
    return (tuning, mark) if mark else (options.digest(), "")


def stamp(
    model: ModelProto, options: Options, plan: Plan, shapes: Mapping[str, tuple[int, ...]], *, unchanged: bool
) -> None:
    """Write into a model's metadata what it was converted with. `shapes`: that it was modelled at."""
    digest, mark = stamp_of(options)
    runtime = onnxruntime_cuda()
    marks = {
        VERSION_KEY: __version__,
        DIGEST_KEY: digest,
        RUNTIME_KEY: f"{runtime.runtime} {runtime.version}" if options.target == "onnxruntime-cuda" else "",
        TUNED_KEY: plan.tuned,
        SESSION_KEY: plan.session.to_text() if plan.session else "",
        OPTIONS_KEY: options_text(replace(options, plan=None, tune=True) if mark else options),
        SHAPES_KEY: shapes_text(shapes),
        UNCHANGED_KEY: "yes" if unchanged else "",
    }
    write(model, marks)


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
