"""Well-formedness: what is refused before anything is planned, since no plan for it could mean anything.

Weights play no part, so this takes a weightless copy of the model. Left to others: unsorted nodes (`prepare`), values
that nothing produces and type variables that need two types (`lift`), operators that onnx does not know (pinned).
"""

from __future__ import annotations

import re

import onnx
from onnx import ModelProto, TensorProto

from ampgraph.errors import ModelError
from ampgraph.onnx_model.dtypes import NAMES
from ampgraph.onnx_model.io import all_tensors, first_line
from ampgraph.onnx_model.types import weightless

_LEFT_TO_OTHERS = ("No Op registered for", "Nodes in a graph must be topologically sorted")
_DATA = ("float_data", "int32_data", "int64_data", "double_data", "uint64_data", "string_data")
_CONTEXT = " ==> Context:"
_SILENCE = re.compile(r"\(op_type:[^)]*\): \[TypeInferenceError\] Input \d+ expected to have type but instead is null")
_TOO_LARGE = 2**31
_LONG = 300


def refuse_ill_formed(model: ModelProto, place: str) -> None:
    """Raise ModelError for a model that breaks ONNX's rules, or whose types and shapes contradict each other.

    Stale value_info and stale output shapes contradict nothing: they are not looked at.
    """
    if any(not 0 < entry.version < _TOO_LARGE for entry in model.opset_import):
        raise ModelError(place, "is ill-formed (an opset version is no version)", "repair or export the model again")
    newest, used = onnx.defs.onnx_opset_version(), _opset(model)
    if used > newest:
        fact = f"is of opset {used}, and the installed onnx knows no more than {newest}"
        raise ModelError(place, fact, "install a newer onnx, or export at an older opset")
    try:
        fact = _flaw(model)
    except (TypeError, ValueError) as error:  # what protobuf's and onnx's bindings raise over damaged names and enums
        fact = first_line(error)
    if fact:
        raise ModelError(place, f"is ill-formed ({fact[:_LONG]})", "repair or export the model again")


def _flaw(model: ModelProto) -> str:
    """What is wrong with the model, "" when nothing is."""
    odd = next((tensor for tensor in all_tensors(model.graph) if tensor.data_type not in NAMES), None)
    if odd is not None:
        return f"the tensor {odd.name!r} has the unknown element type {odd.data_type}"
    light = weightless(model)
    light.graph.name = model.graph.name or "graph"
    contradiction = _contradiction(light)
    return _broken_rule(light) or contradiction


def _opset(model: ModelProto) -> int:
    return max((entry.version for entry in model.opset_import if entry.domain in ("", "ai.onnx")), default=0)


def _broken_rule(light: ModelProto) -> str:
    """The checker's complaint; tensors that left their data behind are emptied first, in place."""
    for tensor in all_tensors(light.graph):
        if tensor.data_location == TensorProto.EXTERNAL or not _has_data(tensor):
            tensor.ClearField("external_data")
            tensor.ClearField("data_location")
            tensor.ClearField("dims")
            tensor.dims.append(0)
    try:
        onnx.checker.check_model(light)
    except onnx.checker.ValidationError as error:
        text = first_line(error).partition(_CONTEXT)[0]
        return "" if text.startswith(_LEFT_TO_OTHERS) else text
    return ""


def _has_data(tensor: TensorProto) -> bool:
    return tensor.HasField("raw_data") or any(len(getattr(tensor, field)) for field in _DATA)


def _contradiction(light: ModelProto) -> str:
    """What strict inference says of the declared types and shapes, graph outputs' shapes left aside."""
    declared = ModelProto()
    declared.CopyFrom(light)
    for value in declared.graph.output:
        if value.type.HasField("tensor_type"):
            value.type.tensor_type.ClearField("shape")
    try:
        onnx.shape_inference.infer_shapes(declared, strict_mode=True)
    except onnx.shape_inference.InferenceError as error:
        text = first_line(error)
        return "" if _is_within_function(text) or _is_silence(text) else text
    return ""


def _is_silence(text: str) -> bool:
    """Whether nothing is said but that an operator before has no inference: GroupNormalization, most of ai.onnx.ml."""
    rest = _SILENCE.sub("", text)
    return rest.removeprefix("[ShapeInferenceError] Inference error(s):").strip() == ""


def _is_within_function(text: str) -> bool:
    """Whether inference stumbled in the body that onnx itself gives an operator (MeanVarianceNormalization's)."""
    ops = re.findall(r"\(op_type:(\w+)", text)
    return len(ops) > 1 and onnx.defs.has(ops[0]) and bool(onnx.defs.get_schema(ops[0]).has_function)  # type: ignore[attr-defined]
