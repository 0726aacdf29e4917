"""Raising a model's opset, with onnx's version converter; what the converter forgets is put back."""

from __future__ import annotations

import onnx
import onnx.shape_inference
import onnx.version_converter
from onnx import ModelProto

from ampgraph.errors import ModelError
from ampgraph.onnx_model.io import check_model, first_line
from ampgraph.onnx_model.names import walk
from ampgraph.onnx_model.prepare import prepare

_STALE = "Inferred shape and existing shape differ in rank"
REMEDY = "leave --opset out, or export again at that opset"


def opset_of(model: ModelProto) -> int:
    """The opset of ONNX's own operators; 0 when the model imports none."""
    return max((entry.version for entry in model.opset_import if entry.domain in ("", "ai.onnx")), default=0)


def at_opset(model: ModelProto, opset: int, place: str) -> ModelProto:
    """The model at another opset; functions are inlined, since the converter would lose them.

    Raises ModelError, naming `place`, where onnx has no way to that opset.
    """
    newest = onnx.defs.onnx_opset_version()
    if opset > newest:
        fact = f"cannot be brought to opset {opset}: the newest that is known here is {newest}"
        raise ModelError(place, fact, "give that or an older one, or leave --opset out")
    flat = prepare(model)
    if flat.functions:
        raise _unable(place, opset, f"the function {flat.functions[0].name} is of another opset than the model")
    try:
        raised = onnx.version_converter.convert_version(flat, opset)
    except (RuntimeError, onnx.version_converter.ConvertError) as error:
        raise _unable(place, opset, first_line(error)) from None
    complaint = check_model(raised)
    if _STALE in complaint:
        _drop_stale_shapes(raised)
        complaint = check_model(raised)
    if complaint and not check_model(flat):
        raise _unable(place, opset, complaint)
    _restore(flat, raised)
    return raised


def _drop_stale_shapes(raised: ModelProto) -> None:
    """Take out shapes of results that are not what the operators make, which inference sees at newer opsets alone."""
    bare = ModelProto()
    bare.CopyFrom(raised)
    del raised.graph.value_info[:], bare.graph.value_info[:]
    for value in bare.graph.output:
        value.type.tensor_type.ClearField("shape")
    inferred = onnx.shape_inference.infer_shapes(bare, data_prop=True).graph.output
    for said, found in zip(raised.graph.output, inferred, strict=True):
        if len(said.type.tensor_type.shape.dim) != len(found.type.tensor_type.shape.dim):
            said.CopyFrom(found)


def _unable(place: str, opset: int, why: str) -> ModelError:
    return ModelError(place, f"cannot be brought to opset {opset} ({why})", REMEDY)


def _restore(source: ModelProto, raised: ModelProto) -> None:
    """Put back the metadata of graph, nodes and training, in place; a node is known by its outputs."""
    raised.training_info.extend(source.training_info)
    raised.graph.metadata_props.extend(source.graph.metadata_props)
    notes = {(node.op_type, *node.output): node.metadata_props for node in walk(source.graph)}
    for node in walk(raised.graph):
        if not node.metadata_props:
            node.metadata_props.extend(notes.get((node.op_type, *node.output), ()))
