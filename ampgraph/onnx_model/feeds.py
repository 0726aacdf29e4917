"""Inputs to run and time models on: from a file or generated, at sizes that the model runs at, and at a batch."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import NoReturn

import numpy as np
from onnx import ModelProto
from onnxruntime import InferenceSession

from ampgraph.errors import ModelError, OptionError
from ampgraph.onnx_model import io
from ampgraph.onnx_model.given import GENERATED, Data, place_of, read_inputs
from ampgraph.onnx_model.io import Loaded, reason
from ampgraph.onnx_model.marks import shapes_asked_for
from ampgraph.onnx_model.run import CPU, Array, Feed, open_session, random_inputs
from ampgraph.onnx_model.setup import chosen_provider
from ampgraph.onnx_model.sizes import fitting_inputs
from ampgraph.onnx_model.types import fixed_size

REMEDY = "give sizes with --shape NAME=1x3x224x224, or real inputs with --data FILE.npz"


def inputs_for(
    models: Sequence[Loaded],
    data: Data | None = None,
    shapes: Mapping[str, tuple[int, ...]] | None = None,
    provider: str = "best",
) -> dict[str, Feed]:
    """Inputs by name for models that take the same: as they are given, else generated.

    Generated ones are of `shapes`, else of those that one of the models was converted for, else of sizes that the first
    of them runs at. Raises OptionError for a shape of no input, ModelError where no sizes are found.
    """
    if data is not None and shapes:
        refuse_both()
    first = models[0]
    named = {value.name for value in first.model.graph.input}
    for name in shapes or {}:
        if name not in named:
            raise OptionError(
                f"--shape {name}", "is no input of the model", f"its inputs are {', '.join(sorted(named))}"
            )
    if data is not None:
        return read_inputs(data, first.model)
    known = {name: shape for name, shape in shapes_asked_for(models).items() if name in named} | dict(shapes or {})
    return _generated(first, known, provider)


def _generated(loaded: Loaded, shapes: Mapping[str, tuple[int, ...]], provider: str) -> dict[str, Feed]:
    """Inputs of these shapes; where they leave sizes open, of such as a session answers."""
    session = _asked(loaded, provider) if _leaves_open(loaded.model, shapes) else None
    if session is None:
        with within_memory():
            return random_inputs(loaded.model, shapes=shapes)
    try:
        with within_memory():
            return fitting_inputs(loaded.model, session, shapes)[0]
    except OptionError:
        raise
    except Exception as error:  # onnxruntime's exceptions share no base class
        fact = f"does not run on generated inputs ({reason(error)})"
        raise ModelError(str(loaded.path or "the model"), fact, REMEDY) from None


def _leaves_open(model: ModelProto, shapes: Mapping[str, tuple[int, ...]]) -> bool:
    given = {tensor.name for tensor in model.graph.initializer} | shapes.keys()
    inputs = [value.type.tensor_type for value in model.graph.input if value.name not in given]
    return any(not kind.HasField("shape") or None in map(fixed_size, kind.shape.dim) for kind in inputs)


def _asked(loaded: Loaded, provider: str) -> InferenceSession | None:
    """A session to try sizes on; None where the model does not open, which whoever opens it for good will tell."""
    whole = io.with_data(loaded.model, loaded.folder) if loaded.path is None else loaded.path
    try:
        return open_session(whole, provider=CPU if chosen_provider(provider) == CPU else "best", once=True)
    except OptionError:
        raise
    except Exception:  # as above
        return None


def at_batch(model: ModelProto, feeds: Mapping[str, Feed], batch: int) -> dict[str, Feed]:
    """The first sample of the inputs, `batch` times; the inputs as they are for 0."""
    if not batch:
        return dict(feeds)
    arrays = {name: feed for name, feed in feeds.items() if isinstance(feed, np.ndarray)}
    axes = batch_axes(model, arrays)
    if not axes:
        fact = "no input of the model has a free batch axis"
        raise OptionError(f"--batch {batch}", fact, "leave --batch out, or give a model with a free first dimension")
    with within_memory(f"--batch {batch}", "give a smaller --batch or --shape"):
        return {**feeds, **batched(arrays, batch, axes)}


@contextmanager
def within_memory(place: str = place_of(GENERATED), remedy: str = "give a smaller --shape") -> Iterator[None]:
    """Raise OptionError, with this place, where memory does not suffice for inputs of the sizes that are asked for."""
    try:
        yield
    except MemoryError:
        raise OptionError(place, "inputs of this size do not fit in memory", remedy) from None


def refuse_both() -> NoReturn:
    """Raise OptionError for --data together with --shape."""
    fact = "are both given, and data have shapes of their own"
    raise OptionError("--data and --shape", fact, "leave one of them out")


def refuse_empty(feeds: Mapping[str, Feed], place: str) -> None:
    """Raise OptionError, with this place, where no input has an element: nothing would be computed."""
    shapes = shapes_of(feeds).values()
    if shapes and all(0 in shape for shape in shapes):
        raise OptionError(place, "leaves every input of the model without elements", "give sizes of real inputs")


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
