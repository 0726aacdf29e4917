"""Views: a value as another one read in a different order. Reshapes, transposes and slices are views of their input.

A view's dimensions are products of factors, each a size and a stride in the base's elements, outermost first; factors
of size 1 are left out, and what is repeated has a stride of 0. Two chains of operators that move data alike have equal
views, however an exporter wrote them.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

Factor = tuple[int, int]  # size, stride
Shape = tuple[int, ...]


@dataclass(frozen=True, slots=True)
class View:
    """A value of the base's elements, from `offset` on."""

    base: str
    dims: tuple[tuple[Factor, ...], ...]
    offset: int = 0

    @property
    def shape(self) -> Shape:
        """Size of every dimension."""
        return tuple(math.prod(size for size, _ in dim) for dim in self.dims)


def whole(base: str, shape: Shape) -> View:
    """The base itself."""
    return View(base, contiguous(shape))


def contiguous(shape: Shape) -> tuple[tuple[Factor, ...], ...]:
    """Dimensions of a tensor that lies in memory as it is written."""
    dims, stride = [], 1
    for size in reversed(shape):
        dims.append(((size, stride),) if size != 1 else ())
        stride *= size
    return tuple(reversed(dims))


def is_whole(view: View, shape: Shape) -> bool:
    """Whether the view reads a base of this shape just as it is."""
    return view.offset == 0 and view.dims == contiguous(shape)


def covers(view: View, shape: Shape) -> bool:
    """Whether the view reads every element of a base of this shape once, in any order."""
    strides = [stride for dim in view.dims for _, stride in dim]
    return (
        view.offset == 0
        and 0 not in shape
        and math.prod(view.shape) == math.prod(shape)
        and len({0, *strides}) == 1 + len(strides)  # 0: of what is read again
    )


def covers_rows(view: View, shape: Shape) -> bool:
    """Whether the view reads every row of a base of this shape once, whole, in any order; a number has no rows."""
    width = shape[-1] if shape else 0
    last = view.dims[-1] if view.dims else ()
    return width > 0 and last == (((width, 1),) if width != 1 else ()) and covers(view, shape)


def with_rows_of(view: View, base: str, width: int, now: int) -> View:
    """The same rows of another base, whose rows are `now` long instead of `width`."""
    rows = tuple(tuple((size, stride // width * now) for size, stride in dim) for dim in view.dims[:-1])
    return View(base, (*rows, ((now, 1),) if now != 1 else ()))


def repeated(view: View, axis: int, times: int) -> View | None:
    """The view with its only place along an axis read so many times over; None where there are more."""
    if view.dims[axis] or times < 1:
        return None
    dim = ((times, 0),) if times != 1 else ()
    return View(view.base, (*view.dims[:axis], dim, *view.dims[axis + 1 :]), view.offset)


def transposed(view: View, order: Sequence[int]) -> View:
    """The view with its dimensions in another order."""
    return View(view.base, tuple(view.dims[axis] for axis in order), view.offset)


def reshaped(view: View, shape: Shape) -> View | None:
    """The view with the same elements in the same order in another shape; None where no factors say so."""
    if 0 in shape or 0 in view.shape:
        return None
    left = [factor for dim in view.dims for factor in dim]
    left.reverse()
    dims = []
    for size in shape:
        dim = _taken(left, size)
        if dim is None:
            return None
        dims.append(merged(dim))
    return View(view.base, tuple(dims), view.offset) if not left else None


def _taken(left: list[Factor], size: int) -> list[Factor] | None:
    """Factors from the end of `left` that make up `size`; the last one may be split."""
    taken: list[Factor] = []
    while size > 1:
        if not left:
            return None
        factor, stride = left.pop()
        if size % factor == 0:
            taken.append((factor, stride))
            size //= factor
        elif factor % size == 0:
            rest = factor // size
            taken.append((size, stride * rest))
            left.append((rest, stride))
            size = 1
        else:
            return None
    return taken


def merged(factors: Iterable[Factor]) -> tuple[Factor, ...]:
    """Neighbours that lie in memory as one, as one."""
    found: list[Factor] = []
    for size, stride in factors:
        if found and found[-1][1] == size * stride:
            found[-1] = (found[-1][0] * size, stride)
        else:
            found.append((size, stride))
    return tuple(found)


def sliced(view: View, axis: int, start: int, size: int) -> View | None:
    """`size` places of one dimension from `start` on; None where they are no product of factors."""
    dim = view.dims[axis]
    if not dim:
        return view if (start, size) == (0, 1) else None
    inner = math.prod(factor for factor, _ in dim[1:])
    if start % inner or size % inner:
        return None
    outer, stride = dim[0]
    kept = ((size // inner, stride),) if size // inner != 1 else ()
    dims = (*view.dims[:axis], kept + dim[1:], *view.dims[axis + 1 :])
    return View(view.base, dims, view.offset + start // inner * stride) if start // inner < outer else None
