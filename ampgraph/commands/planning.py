"""The options that decide what a conversion does, shared by the commands that plan one."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import click
from click.core import ParameterSource


def planning_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """The options that decide what a conversion does, the same for every command that plans."""
    options = (
        click.option("--precision", default="float16", show_default=True, metavar="float16|bfloat16"),
        click.option(
            "--target", default="onnxruntime-cuda", show_default=True, metavar="onnxruntime-cuda|onnx",
            help="The runtime whose kernels count; onnx: any, as in the standard.",
        ),
        click.option(
            "--device", default="h100", show_default=True, metavar="GPU",
            help="The deployment's GPU: a10, a100, h100, h200, l4, rtx4090, t4 or v100.",
        ),
        click.option("--objective", default="speed", show_default=True, metavar="speed|memory|coverage"),
        click.option("--rules", metavar="FILE", help="TOML file of rules that go before the built-in ones."),
        click.option(
            "--keep", multiple=True, metavar="REGEX",
            help="Nodes that stay float32: those in whose name it is found (repeatable).",
        ),
        click.option(
            "--low", multiple=True, metavar="REGEX",
            help="Nodes that become low, against the rules; matched as with --keep (repeatable).",
        ),
        click.option(
            "--shape", "shapes", multiple=True, metavar="NAME=1x3x224x224",
            help="Shape of an input that times are modelled at (repeatable).",
        ),
        click.option(
            "--io", default="keep", show_default=True, metavar="keep|low|REGEX",
            help="Keep the types of inputs and outputs, make float ones low, or those of these names.",
        ),
        click.option("--opset", type=int, default=0, metavar="N", help="Raise the model to this opset first."),
        click.option(
            "--plan", metavar="FILE",
            help="Apply a saved, perhaps edited plan: its decisions; casts and parameters follow from them.",
        ),
        click.option("--costs", metavar="FILE", help="Times that `ampgraph profile` measured, not modelled ones."),
        click.option(
            "--fuse/--no-fuse", default=True, show_default=True,
            help="Let operators become one where onnxruntime has one kernel for them and speed gains by it.",
        ),
        click.option("--cuda-graph", is_flag=True, help="Plan for runs as a CUDA graph, where launches cost little."),
        click.option(
            "--native", is_flag=True, help="With --cuda-graph: plan for ampgraph.Session with kernels of its own."
        ),
    )  # fmt: skip
    for option in reversed(options):
        command = option(command)
    return command


def read_words(words: dict[str, Any]) -> dict[str, Any]:
    """The words of the Python API: shapes by input."""
    from ampgraph.options import parse_shapes

    return {**words, "shapes": parse_shapes(words["shapes"])}


def given_words(words: dict[str, Any]) -> dict[str, Any]:
    """Those words of the Python API that were given: for the others a converted file has its own."""
    context = click.get_current_context()
    return {
        name: word
        for name, word in read_words(words).items()
        if context.get_parameter_source(name) is not ParameterSource.DEFAULT
    }
