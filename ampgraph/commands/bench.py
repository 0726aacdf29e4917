"""`ampgraph bench`: time models against the first of them, paired, with error and memory."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from ampgraph.commands.run import CUDA_GRAPH, DATA, PROVIDER, SHAPE

if TYPE_CHECKING:
    from ampgraph.onnx_model.bench import Bench


@click.command("bench")
@click.argument("models", nargs=-1, required=True, metavar="A.onnx [B.onnx ...]")
@click.option("--batch", default="", metavar="1,16", help="Batches to run at; default: the inputs as they are.")
@SHAPE
@DATA
@click.option("--rounds", default=15, show_default=True, metavar="N", help="Interleaved samples of each model.")
@click.option("--json", "json_file", metavar="OUT.json", help="Write all figures, in the layout of version 1.")
@click.option("--plot", metavar="OUT.svg", help="Write a picture.")
@PROVIDER
@CUDA_GRAPH
@click.option("--nhwc/--no-nhwc", default=None, help="Convolutions with channels last; default: low-precision ones.")
@click.option("--tf32/--no-tf32", default=None, help="float32 products in TF32 on CUDA; default: as Session has it.")
@click.option("--fastest", is_flag=True, help="Each in the setting that measures best, instead of --nhwc and --tf32.")
@click.option("--force", is_flag=True, help="Write over existing files.")
def bench(
    models: tuple[str, ...],
    batch: str,
    shapes: tuple[str, ...],
    data: str | None,
    rounds: int,
    json_file: str | None,
    plot: str | None,
    provider: str,
    cuda_graph: bool | None,
    nhwc: bool | None,
    tf32: bool | None,
    fastest: bool,
    force: bool,
) -> None:
    """Time models against the first: paired medians with quartiles, gain, error and peak memory.

    All run on the same inputs, in turn, each many times a sample. Memory is what opening a model and running it once
    adds: to the GPU's, or to this process at its peak.
    """
    import warnings

    from ampgraph.errors import OptionError
    from ampgraph.onnx_model.bench import Way
    from ampgraph.onnx_model.bench import bench as measure
    from ampgraph.onnx_model.bench_text import to_table
    from ampgraph.options import parse_shapes

    targets = {"--json": json_file, "--plot": plot}
    paths = {option: Path(path) for option, path in targets.items() if path}
    _verify(paths, [Path(path) for path in (*models, data) if path], force)
    way = Way(
        provider,
        "auto" if cuda_graph is None else cuda_graph,
        "auto" if nhwc is None else nhwc,
        "auto" if tf32 is None else tf32,
        parse_shapes(shapes),
        Path(data) if data else None,
        fastest,
    )
    if fastest and (nhwc is not None or tf32 is not None):
        raise OptionError("--fastest", "chooses channels and TF32 itself", "leave --nhwc and --tf32 out")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # the table holds the same as notes
        found = measure([Path(model) for model in models], parse_batches(batch), rounds, way)
    click.echo(to_table(found))
    _write(found, paths)


def parse_batches(text: str) -> tuple[int, ...]:
    """`1,16` as sizes."""
    from ampgraph.errors import OptionError

    words = text.split(",") if text else []
    if not all(word.strip().isdecimal() for word in words):
        raise OptionError(f"--batch {text}", "holds no batch sizes", "write it as 1,16")
    return tuple(int(word) for word in words)


def _verify(paths: dict[str, Path], inputs: list[Path], force: bool) -> None:
    from ampgraph.errors import OptionError
    from ampgraph.outputs import Outputs

    Outputs(paths, force).verify(inputs)
    plot = paths.get("--plot")
    if plot and plot.suffix != ".svg":
        fact, remedy = "is no .svg file, the only kind of picture drawn", "name an .svg: browsers and editors show it"
        raise OptionError(f"--plot {plot}", fact, remedy)


def _write(found: Bench, paths: dict[str, Path]) -> None:
    from ampgraph.onnx_model.bench_text import to_json, to_svg
    from ampgraph.outputs import staged

    texts = {"--json": to_json, "--plot": to_svg}
    with staged({path: texts[option](found) for option, path in paths.items()}) as publish:
        publish()
    for path in paths.values():
        click.echo(f"wrote {path}")
