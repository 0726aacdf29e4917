"""`ampgraph profile`: measure a model's operators on this machine, for `ampgraph convert --costs`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from ampgraph.commands.run import DATA, SHAPE
from ampgraph.precision import LOW_PRECISIONS, Precision

if TYPE_CHECKING:
    from ampgraph.measured import MeasuredCosts, Seconds
    from ampgraph.onnx_model.run import Provider

SLOWER = 1.1  # times float32's: worth a word
LEAST = 5e-7  # seconds: what a run takes beside its operators, which is subtracted, is not known more closely


@click.command("profile")
@click.argument("model", metavar="MODEL")
@click.option("-o", "--output", "destination", metavar="COSTS.json", help="Default: MODEL.costs.json beside the model.")
@SHAPE
@DATA
@click.option("--provider", default="best", show_default=True, metavar="best|cpu|cuda", help="Where it runs.")
@click.option("--tf32/--no-tf32", default=True, show_default=True, help="float32 products in TF32.")
@click.option("--seconds", default=120.0, show_default=True, help="Begin no further measurement after them.")
@click.option("--force", is_flag=True, help="Write over an existing file.")
def profile(
    model: str,
    destination: str | None,
    shapes: tuple[str, ...],
    data: str | None,
    provider: str,
    tf32: bool,
    seconds: float,
    force: bool,
) -> None:
    """Measure a model's operators in float32, float16 and bfloat16 on this machine.

    Give the shapes that the model is deployed at: times hold for them alone. `convert --costs COSTS.json` with the same
    shapes then decides with what was measured.
    """
    from ampgraph.measured import to_json
    from ampgraph.onnx_model.feeds import inputs_for, refuse_empty
    from ampgraph.onnx_model.io import load
    from ampgraph.onnx_model.profile import Settings
    from ampgraph.onnx_model.profile import profile as measure
    from ampgraph.options import parse_shapes
    from ampgraph.outputs import Outputs, staged

    source = Path(model)
    target = Path(destination) if destination else source.with_name(f"{source.name.removesuffix('.onnx')}.costs.json")
    _verify_seconds(seconds)
    Outputs({"-o": target}, force).verify([Path(path) for path in (model, data) if path])
    loaded, sizes = load(source), parse_shapes(shapes)
    settings = Settings(_provider(provider), tf32, seconds)
    feeds = inputs_for([loaded], Path(data) if data else None, sizes, provider)
    refuse_empty(feeds, f"--data {data}" if data else f"--shape {next(iter(sizes), '')}".strip())
    costs = measure(loaded, sizes, feeds, settings, say=click.echo)
    _require_times(model, costs)
    for line in summary(costs):
        click.echo(line)
    with staged({target: to_json(costs)}) as publish:
        publish()
    click.echo(f"wrote {target}")


def _verify_seconds(seconds: float) -> None:
    from ampgraph.errors import OptionError

    if not seconds > 0:
        raise OptionError(f"--seconds {seconds:g}", "leaves no time to measure in", "give a positive number")


def _require_times(model: str, costs: MeasuredCosts) -> None:
    from ampgraph.errors import ModelError

    if not any(time is not None for times in costs.entries.values() for time in times.values()):
        fact = "no operator of it could be measured, so there are no costs to write"
        raise ModelError(model, fact, "give more --seconds, or plan with modelled times")


def _provider(name: str) -> Provider:
    from ampgraph.errors import OptionError
    from ampgraph.onnx_model.run import CPU, CUDA, best_provider

    best = best_provider()
    known = {"best": best, "cpu": CPU, "cuda": CUDA}
    if name not in known:
        raise OptionError(f"--provider {name}", "is not known here", f"choose one of {', '.join(known)}")
    if name == "cuda" and best != CUDA:
        raise OptionError("--provider cuda", "does not open on this machine", "profile where the GPU is")
    return known[name]


def summary(costs: MeasuredCosts) -> list[str]:
    """What the profile found, in words."""
    found = [f"{len(costs.entries)} shape classes"]
    for precision in LOW_PRECISIONS:
        slower = [kind for kind, times in costs.entries.items() if _is_slower(times, precision)]
        absent = sum(times.get(precision) is None for times in costs.entries.values())
        found.append(f"{precision}: {len(slower)} slower than float32, {absent} without a kernel")
    return [*found, *_whole_lines(costs)]


def _is_slower(times: Seconds, precision: Precision) -> bool:
    slow, fast = times.get(Precision.FLOAT32), times.get(precision)
    return slow is not None and fast is not None and fast > SLOWER * slow


def _whole_lines(costs: MeasuredCosts) -> list[str]:
    whole = costs.whole
    if whole is None:
        return []
    of = f"{whole.measured} of {whole.ops} operators"
    if whole.seconds < max(costs.launch, LEAST):
        return [f"whole model less than an operator takes to start ({of}): too little to hold its parts against"]
    found = [
        f"whole model {whole.seconds * 1e3:.3f} ms in float32, its parts {whole.parts * 1e3:.3f} ms ({of}): "
        f"ratio {whole.ratio:.2f}"
    ]
    if not whole.is_explained:
        found.append("warning: the parts do not add up to the whole: fused, left out, or bound by something else")
    return found
