"""Naming: errors of the Python API point to arguments, which a command line has as options."""

from __future__ import annotations

import ast
import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ampgraph.errors import AmpgraphError

_ARGUMENT = re.compile(r"(cuda_graph|nhwc|provider|tf32|tolerance)(?= |$)")
_SHAPE = re.compile(r"shapes\[(?P<name>'(?:[^'\\]|\\.)*'|\"(?:[^\"\\]|\\.)*\")\](?P<sizes>=\S+)?")


def as_options(error: AmpgraphError) -> str:
    """The error's line, its place an option where it is an argument."""
    place = " ".join(error.place.split())
    return _option(place) + str(error).removeprefix(place)


def _option(place: str) -> str:
    if shape := _SHAPE.fullmatch(place):
        return f"--shape {ast.literal_eval(shape['name'])}{shape['sizes'] or ''}"
    if argument := _ARGUMENT.match(place):
        return f"--{argument[1].replace('_', '-')}{place[argument.end() :]}"
    return place
