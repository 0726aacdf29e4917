"""`ampgraph run`: run a model once and say what came out, on what, and how fast."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from ampgraph.onnx_model.session import Session

PROVIDER = click.option(
    "--provider", default="best", show_default=True, metavar="best|cpu|cuda|tensorrt", help="Where it runs."
)
SHAPE = click.option(
    "--shape",
    "shapes",
    multiple=True,
    metavar="NAME=1x3x224x224",
    help="Shape of a generated input (repeatable); default: as it was converted for, else one that the model runs at.",
)
DATA = click.option("--data", metavar="FILE.npz", help="Inputs by name; default: generated ones.")
CUDA_GRAPH = click.option(
    "--cuda-graph/--no-cuda-graph", default=None, help="Replay a CUDA graph, or never; default: where it can be had."
)


@click.command("run")
@click.argument("model", metavar="MODEL")
@DATA
@SHAPE
@click.option("--save", metavar="OUT.npz", help="Write the outputs, by name.")
@PROVIDER
@CUDA_GRAPH
@click.option("--fastest", is_flag=True, help="Open it in the setting that measures best on these inputs.")
@click.option("--repeat", default=10, show_default=True, metavar="N", help="Runs to time; 0 times none.")
@click.option("--force", is_flag=True, help="Write over an existing file.")
def run(
    model: str,
    data: str | None,
    shapes: tuple[str, ...],
    save: str | None,
    provider: str,
    cuda_graph: bool | None,
    fastest: bool,
    repeat: int,
    force: bool,
) -> None:
    """Run a model and print its outputs, their range, the time, and what fell to the CPU.

    Times are of runs that copy nothing: inputs and outputs stay where the model reads and writes them.
    """
    import warnings

    from ampgraph.onnx_model.feeds import inputs_for, shapes_of
    from ampgraph.onnx_model.io import load
    from ampgraph.onnx_model.session import Session
    from ampgraph.options import parse_shapes
    from ampgraph.settings import Choice, words_of_shapes

    _verify(model, data, save, repeat, force)
    sizes = parse_shapes(shapes)
    feeds = inputs_for([load(Path(model))], Path(data) if data else None, sizes, provider)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # printed below with the other notes
        graph: Choice = "auto" if cuda_graph is None else cuda_graph
        if fastest:
            session = Session.fastest(model, feeds, provider=provider, cuda_graph=graph, shapes=shapes_of(feeds))
        else:
            session = Session(model, provider=provider, cuda_graph=graph, shapes=shapes_of(feeds))
    outputs = session.run(feeds)
    made = words_of_shapes(shapes_of(feeds)) if not data else ""
    head = [f"provider {session.provider}", *([f"generated inputs: {made}"] if made else [])]
    for line in (*head, *_outputs_lines(outputs), *_time_lines(session, feeds, repeat)):
        click.echo(line)
    for note in session.notes:
        click.echo(f"note: {note}")
    if save:
        _save(outputs, Path(save))
        click.echo(f"wrote {save}")


def _verify(model: str, data: str | None, save: str | None, repeat: int, force: bool) -> None:
    from ampgraph.errors import OptionError
    from ampgraph.outputs import Outputs

    if repeat < 0:
        raise OptionError(f"--repeat {repeat}", "is no number of runs", "give 0 or more")
    if save:
        Outputs({"--save": Path(save)}, force).verify([Path(path) for path in (model, data) if path])


def _outputs_lines(outputs: dict[str, Any]) -> list[str]:
    import numpy as np

    from ampgraph.onnx_model.bench import describe

    lines = []
    for name, value in outputs.items():
        if isinstance(value, np.ndarray) and value.dtype.kind in "OSU":
            words = "string" if value.shape in ((), (1,)) else "strings"
            lines.append(f"output {name}: {'x'.join(map(str, value.shape)) or '1'} {words}")
        elif isinstance(value, np.ndarray):
            least, greatest, mean = describe(value)
            shape = "x".join(map(str, value.shape)) or "scalar"
            lines.append(f"output {name}: {shape} {value.dtype}, min {least}, max {greatest}, mean {mean}")
        else:
            lines.append(f"output {name}: {type(value).__name__} of {len(value)}")
    return lines


def _time_lines(session: Session, feeds: dict[str, Any], repeat: int) -> list[str]:
    from ampgraph.onnx_model.bench import milliseconds
    from ampgraph.onnx_model.bench_text import spread_text

    if not repeat:
        return []
    bound = session.bind(feeds)
    how = ", as a CUDA graph" if bound.cuda_graph else ""
    return [f"time {spread_text(milliseconds(bound, repeat))} ms a run, median and quartiles of {repeat}{how}"]


def _save(outputs: dict[str, Any], path: Path) -> None:
    """Write the outputs under another name and move them into place, so that a file appears whole or not at all."""
    import contextlib
    import os

    import numpy as np

    from ampgraph.errors import OptionError

    if any(not isinstance(value, np.ndarray) or value.dtype.kind in "OV" for value in outputs.values()):
        raise OptionError(f"--save {path}", "cannot hold sequences, text or bfloat16", "leave --save out")
    temporary = path.parent / f".ampgraph-{os.getpid()}-{path.name}"
    try:
        with temporary.open("wb") as stream:
            np.savez(stream, **outputs)
        temporary.replace(path)
    except OSError as error:
        raise OptionError(f"--save {path}", f"cannot be written ({error.strerror})", "choose another place") from None
    finally:
        with contextlib.suppress(OSError):
            temporary.unlink()
