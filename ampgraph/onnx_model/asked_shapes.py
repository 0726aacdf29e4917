"""Asked shapes: those that a caller says inputs have, held to what the model says of them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence

from onnx import ModelProto

from ampgraph.errors import OptionError
from ampgraph.onnx_model.dimensions import sizes_by_symbol
from ampgraph.onnx_model.types import by_x, fixed_size, is_like

Shapes = Mapping[str, Sequence[int]]
Place = Callable[[str], str]


def as_option(name: str) -> str:
    """Where an error about the shape of this input points to on a command line."""
    return f"--shape {name}"


def as_argument(name: str) -> str:
    """Where it points to in Python."""
    return f"shapes[{name!r}]"


def refuse_unlike(model: ModelProto, shapes: Shapes, place: Place = as_option) -> None:
    """Raise OptionError for a shape of no input, of another rank than the input's, or unlike a size that is fixed."""
    inputs = {value.name: value.type.tensor_type.shape for value in model.graph.input}
    for name, sizes in shapes.items():
        if name not in inputs:
            known = f"choose among {', '.join(sorted(inputs))}" if inputs else "leave it out: the model has no inputs"
            raise OptionError(place(name), "no such graph input", known)
        declared = [fixed_size(dim) for dim in inputs[name].dim]
        if declared and not is_like(sizes, declared):
            raise OptionError(f"{place(name)}={by_x(sizes)}", f"the input is {by_x(declared)}", "give one like it")


def contradictions(model: ModelProto, shapes: Shapes) -> Iterator[str]:
    """Words about symbols that are of two sizes in these shapes.

    No mistake for sure: the runtime does not hold inputs to their symbols, and exporters give one to what is not alike.
    """
    for symbol, sizes in sizes_by_symbol(model, shapes).items():
        if len(sizes) > 1 and any(map(str.isalpha, symbol)):
            yield f"{symbol!r} is of sizes {' and '.join(map(str, sorted(sizes)))} in `shapes`, and stays free"
