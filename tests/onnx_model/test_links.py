"""The table of attributes that carry a dtype, against the schemas, and what is written into them."""

import onnx
import pytest
from onnx import NodeProto, TensorProto, helper

from ampgraph.onnx_model.links import FIXED, LINKS, linked_dtype, set_dtype
from ampgraph.onnx_model.schema import signature
from ampgraph.precision import Precision
from tests.models import FLOAT, FLOAT16


@pytest.mark.parametrize("op", sorted(LINKS))
def test_a_link_is_of_the_schema(op: str) -> None:
    domain, _, name = op.rpartition(".")
    schema, link = signature(domain, name, onnx.defs.onnx_opset_version()), LINKS[op]
    assert schema is not None
    assert domain or link.attribute in onnx.defs.get_schema(name).attributes
    assert schema.outputs[0].type == link.variable
    assert link.follows in {"", *schema.constraints}


def test_no_op_that_names_its_output_type_is_forgotten() -> None:
    """Quantizers name integer types only."""
    names = {"dtype", "output_dtype", "output_datatype", "to"}
    floats = {
        schema.name
        for schema in onnx.defs.get_all_schemas()
        if schema.domain == "" and names & set(schema.attributes) and "tensor(float)" in schema.outputs[0].types
    }
    assert floats <= {*LINKS, *(op for op, _ in FIXED)}


@pytest.mark.parametrize("key", sorted(FIXED), ids=":".join)
def test_what_is_fixed_is_a_variable_of_its_schema(key: tuple[str, str]) -> None:
    domain, _, name = key[0].rpartition(".")
    versions = [s for s in onnx.defs.get_all_schemas_with_history() if (s.domain, s.name) == (domain, name)]
    assert any(key[1] == c.type_param_str for schema in versions for c in schema.type_constraints)


@pytest.mark.parametrize(
    ("node", "dtype"),
    [
        (helper.make_node("Cast", ["x"], ["y"], to=FLOAT16), "float16"),
        (helper.make_node("RandomNormal", [], ["y"], shape=[1]), "float32"),
        (helper.make_node("EyeLike", ["x"], ["y"]), ""),
        (helper.make_node("EyeLike", ["x"], ["y"], dtype=TensorProto.DOUBLE), "float64"),
        (helper.make_node("ConstantOfShape", ["s"], ["y"]), "float32"),
        (helper.make_node("ConstantOfShape", ["s"], ["y"], value=helper.make_tensor("", 7, [1], [3])), "int64"),
    ],
)
def test_what_a_node_says(node: NodeProto, dtype: str) -> None:
    assert linked_dtype(node, LINKS[node.op_type]) == dtype


@pytest.mark.parametrize("precision", [Precision.FLOAT16, Precision.BFLOAT16])
@pytest.mark.parametrize("op", ["Cast", "RandomNormal", "EyeLike", "ConstantOfShape", "HannWindow"])
def test_what_is_set_is_said(op: str, precision: Precision) -> None:
    node = helper.make_node(op, ["x"], ["y"], seed=1.0)
    for _ in range(2):
        set_dtype(node, LINKS[op], precision)
        assert linked_dtype(node, LINKS[op]) == precision
    assert len(node.attribute) == 2


@pytest.mark.parametrize(("value", "kept"), [(None, 0.0), (1.5, 1.5), (1e6, 65504.0), (-1e-9, -(2.0**-24))])
def test_a_fill_value_is_kept_finite_and_signed(value: float | None, kept: float) -> None:
    node = helper.make_node("ConstantOfShape", ["s"], ["y"])
    if value is not None:
        node.attribute.append(helper.make_attribute("value", helper.make_tensor("", FLOAT, [1], [value])))
    set_dtype(node, LINKS["ConstantOfShape"], Precision.FLOAT16)
    (attribute,) = node.attribute
    assert onnx.numpy_helper.to_array(attribute.t).tolist() == [kept]
