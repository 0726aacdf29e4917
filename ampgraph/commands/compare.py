"""`ampgraph compare`: two models side by side, outputs and every inner value that both have."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import click

from ampgraph.commands.files import FILE, path_of, show
from ampgraph.commands.run import DATA, SHAPE


@click.command("compare")
@click.argument("reference", metavar="A.onnx")
@click.argument("candidate", metavar="B.onnx")
@DATA
@SHAPE
@click.option(
    "--tolerance", type=float, metavar="E",
    help="Relative L2 error that a value may have; default: the bar of `convert --check`, 0.25 where a model holds "
    "bfloat16, else 0.031.",
)  # fmt: skip
@click.option("--json", "json_file", help="Write all figures as JSON; to the terminal without FILE.", **FILE)
@click.option(
    "--provider", default="auto", show_default=True, metavar="auto|cuda|cpu",
    help="cpu: ampgraph's own evaluator of low precision; auto: CUDA where it opens.",
)  # fmt: skip
@click.option("--force", is_flag=True, help="Write over an existing file.")
def compare(
    reference: str,
    candidate: str,
    data: str | None,
    shapes: tuple[str, ...],
    tolerance: float | None,
    json_file: str | None,
    provider: str,
    force: bool,
) -> None:
    """Compare model B with model A, value by value where names match, bodies of If, Loop and Scan included.

    Says which value is the first beyond tolerance, which the first to overflow or to flush to zero, and which are the
    worst. Operators compute what the file says, nothing is fused; without CUDA, low precision is computed by ampgraph's
    evaluator. Exit code 0: all outputs are within tolerance, 1: they are not, 2: a mistake, or inputs that model A
    answers with NaN or no elements alone, so that nothing could be compared.
    """
    from ampgraph.inspection.comparison_json import to_json
    from ampgraph.onnx_model.side_by_side import compare as side_by_side
    from ampgraph.options import parse_shapes
    from ampgraph.outputs import Outputs

    Outputs(path_of("--json", json_file), force).verify([Path(path) for path in (reference, candidate, data) if path])
    with _progress() as told:
        found = side_by_side(
            reference,
            candidate,
            data,
            tolerance=tolerance,
            provider=provider,
            shapes=parse_shapes(shapes),
            progress=told,
        )
    show(str(found), lambda: to_json(found), json_file)
    if not found.within:
        raise click.exceptions.Exit(1)


@contextmanager
def _progress() -> Iterator[Callable[[int, int], None] | None]:
    """A bar on stderr, where that is a terminal."""
    if not sys.stderr.isatty():
        yield None
        return
    from rich.console import Console
    from rich.progress import Progress

    with Progress(console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task("comparing", total=None)
        yield lambda done, total: bar.update(task, completed=done, total=total)
