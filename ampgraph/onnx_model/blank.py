"""Answers that say nothing: without elements, or without a finite one, they agree with whatever is like them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from ampgraph.errors import OptionError
from ampgraph.onnx_model.compare import blank, tensors_of
from ampgraph.onnx_model.given import GENERATED, place_of


def refuse_blank(answers: Mapping[str, Any], inputs: str) -> None:
    """Raise OptionError where the reference's answers to inputs of this name leave nothing to compare."""
    what = instead(answers)
    if not what:
        return
    fact = f"the source itself answers with {what}, so that nothing was compared"
    remedy = "give real inputs with --data"
    raise OptionError(place_of(inputs), fact, f"{remedy}, or sizes with --shape" if inputs == GENERATED else remedy)


def instead(answers: Mapping[str, Any]) -> str:
    """What the answers hold instead of anything to compare with, "" where one output holds something.

    Some outputs may well be blank, such as an empty cache or a masked score, while others are not. Floats decide where
    there are any: the index of the largest of many NaN is a number too.
    """
    tensors = dict(tensors_of(answers))
    floats = {name: array for name, array in tensors.items() if _is_float(array)}
    found = {blank(array) for array in (floats or tensors).values()}
    return "" if "" in found else " and ".join(sorted(found)) or "no output"


def _is_float(array: np.ndarray[Any, Any]) -> bool:
    """ml_dtypes' own floats have kind "V"."""
    return array.dtype.kind in "fV"
