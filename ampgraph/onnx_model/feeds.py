"""Inputs to time a model on: from a file or generated, at the batch that is asked for."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NoReturn

import numpy as np
from onnx import ModelProto

from ampgraph.errors import OptionError
from ampgraph.onnx_model.given import Data, read_inputs
from ampgraph.onnx_model.run import Array, Feed, random_inputs
from ampgraph.onnx_model.types import fixed_size


def inputs_for(
    model: ModelProto, data: Data | None = None, shapes: Mapping[str, tuple[int, ...]] | None = None, batch: int = 0
) -> dict[str, Feed]:
    """Inputs by name as they are given, else generated ones; with a batch, their first sample that many times."""
    if data is not None and shapes:
        refuse_both()
    named = {value.name for value in model.graph.input}
    for name in shapes or {}:
        if name not in named:
            raise OptionError(
                f"--shape {name}", "is no input of the model", f"its inputs are {', '.join(sorted(named))}"
            )
    feeds = read_inputs(data, model) if data is not None else random_inputs(model, shapes=shapes)
    if not batch:
        return feeds
    arrays = {name: feed for name, feed in feeds.items() if isinstance(feed, np.ndarray)}
    axes = batch_axes(model, arrays)
    if not axes:
        fact = "no input of the model has a free batch axis"
        raise OptionError(f"--batch {batch}", fact, "leave --batch out, or give a model with a free first dimension")
    return {**feeds, **batched(arrays, batch, axes)}


def refuse_both() -> NoReturn:
    """Raise OptionError for --data together with --shape."""
    fact = "are both given, and data have shapes of their own"
    raise OptionError("--data and --shape", fact, "leave one of them out")


def shapes_of(feeds: Mapping[str, Feed]) -> dict[str, tuple[int, ...]]:
    """Shapes by name, of those inputs that are tensors."""
    return {name: feed.shape for name, feed in feeds.items() if isinstance(feed, np.ndarray)}


def batched(feeds: Mapping[str, Array], batch: int, axes: Mapping[str, int]) -> dict[str, Array]:
    """The first sample repeated along the batch axis of the inputs that have one."""
    return {
        name: np.repeat(value.take([0], axes[name]), batch, axes[name]) if name in axes else value
        for name, value in feeds.items()
    }


def batch_axes(model: ModelProto, feeds: Mapping[str, Array]) -> dict[str, int]:
    """Where each input's batch is: its first dimension if that is free, else a free one of size 1, as in states."""
    axes = {}
    for value in model.graph.input:
        if value.name not in feeds:
            continue
        dims = value.type.tensor_type.shape.dim
        free = [axis for axis, dim in enumerate(dims) if fixed_size(dim) is None]
        single = [axis for axis in free if axis == 0 or feeds[value.name].shape[axis] == 1]
        if len(dims) > 1 and single:
            axes[value.name] = single[0]
    return axes
