"""Attributes that carry a dtype, linked to the type variable they set. The one table that schemas do not hold."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from onnx import AttributeProto, NodeProto, TensorProto, numpy_helper

from ampgraph.onnx_model.dtypes import ELEM_TYPES, NAMES
from ampgraph.onnx_model.tensors import round_to
from ampgraph.precision import Precision


@dataclass(frozen=True, slots=True)
class Link:
    """`attribute` sets `variable`; without it the output is float32, or follows `follows` where that is given."""

    attribute: str
    variable: str
    follows: str = ""


LINKS = {
    "Bernoulli": Link("dtype", "T2", follows="T1"),
    "BlackmanWindow": Link("output_datatype", "T2"),
    "Cast": Link("to", "T2"),
    "ConstantOfShape": Link("value", "T2"),
    "DequantizeLinear": Link("output_dtype", "T3", follows="T2"),
    "EyeLike": Link("dtype", "T2", follows="T1"),
    "HammingWindow": Link("output_datatype", "T2"),
    "HannWindow": Link("output_datatype", "T2"),
    "MelWeightMatrix": Link("output_datatype", "T3"),
    "RandomNormal": Link("dtype", "T"),
    "RandomNormalLike": Link("dtype", "T2", follows="T1"),
    "RandomUniform": Link("dtype", "T"),
    "RandomUniformLike": Link("dtype", "T2", follows="T1"),
    "com.microsoft.DequantizeBFP": Link("dtype", "T3"),
    "com.microsoft.DequantizeWithOrder": Link("to", "F"),
    "com.microsoft.GemmFloat8": Link("dtype", "TR"),
}

# The user's own word on a type: never changed.
FIXED = {
    ("Cast", "T2"): "the model casts to this type itself",
    ("CastLike", "T2"): "the model casts to this type itself",
    ("BitCast", "T1"): "the model reads its bits",
    ("BitCast", "T2"): "the model names this type itself",
    ("Constant", "T"): "a sparse constant admits no cast",  # the others are initializers in all but name
    ("LayerNormalization", "U"): "the attribute stash_type fixes it",
    ("ai.onnx.ml.TreeEnsemble", "T"): "its thresholds and weights are attributes of this type",
}


def attribute_of(node: NodeProto, name: str) -> AttributeProto | None:
    """The node's attribute of that name."""
    return next((attribute for attribute in node.attribute if attribute.name == name), None)


def linked_dtype(node: NodeProto, link: Link) -> str:
    """The dtype that the linked attribute says; "" where the variable follows another one."""
    attribute = attribute_of(node, link.attribute)
    if attribute is None:
        return "" if link.follows else Precision.FLOAT32.value
    return str(NAMES.get(attribute.t.data_type if link.attribute == "value" else attribute.i, ""))


def set_dtype(node: NodeProto, link: Link, precision: Precision) -> None:
    """Make the linked attribute say `precision`, in place; a tensor attribute keeps its value."""
    attribute = attribute_of(node, link.attribute)
    if link.attribute == "value":
        value = _scalar(attribute)
        if attribute is None:
            attribute = node.attribute.add(name="value", type=AttributeProto.TENSOR)
        attribute.t.CopyFrom(_filled(value, precision))
        return
    if attribute is None:
        attribute = node.attribute.add(name=link.attribute, type=AttributeProto.INT)
    attribute.i = ELEM_TYPES[precision]


def _scalar(attribute: AttributeProto | None) -> float:
    return 0.0 if attribute is None else float(numpy_helper.to_array(attribute.t).reshape(-1)[0])


def _filled(value: float, precision: Precision) -> TensorProto:
    data = round_to(np.array([value], np.float32), precision)
    return TensorProto(dims=[1], data_type=ELEM_TYPES[precision], raw_data=data.tobytes())
