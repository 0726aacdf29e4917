import json

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from ampgraph.errors import OptionError
from ampgraph.graph import Op, PrecisionGraph
from ampgraph.measured import (
    CastCost,
    MeasuredCosts,
    Whole,
    class_of,
    fit_cast,
    from_json,
    joined,
    read,
    to_json,
)
from ampgraph.onnx_model.lift import lift
from ampgraph.precision import Precision

FLOAT32, FLOAT16, BFLOAT16 = Precision


def graph_of(body: str, inputs: str = "float[4,8] x") -> PrecisionGraph:
    """A graph beside whose inputs stand the constants w, a matrix, and m, a number."""
    text = f'<ir_version: 8, opset_import: ["" : 17]> g ({inputs}) => (float[M] y) {{ {body} }}'
    model = onnx.parser.parse_model(text)
    model.graph.output[0].type.tensor_type.ClearField("shape")
    constants = {"w": np.ones((8, 8), np.float32), "m": np.float32(1)}
    model.graph.initializer.extend(numpy_helper.from_array(data, name) for name, data in constants.items())
    return lift(model)


def ops_of(graph: PrecisionGraph, kind: str) -> list[Op]:
    return [op for op in graph.ops.values() if op.type == kind]


def costs_of(graph: PrecisionGraph, **others) -> MeasuredCosts:
    entries = {class_of(op, graph): {FLOAT32: 2e-6, FLOAT16: 1e-6, BFLOAT16: None} for op in graph.ops.values()}
    entries.pop(None, None)
    given = {"device": "a GPU", "provider": "P", "runtime": "r 1", "tf32": True, "launch": 5e-6} | others
    return MeasuredCosts(**given, cast=CastCost(1e-6, 1e-12), entries=entries, whole=Whole(1e-3, 9e-4, 3, 2))


def test_layers_that_repeat_are_one_class():
    graph = graph_of("a = MatMul(x, w) b = MatMul(a, w) y = MatMul(x, b2)", "float[4,8] x, float[8,8] b2")
    first, second, third = (class_of(op, graph) for op in ops_of(graph, "MatMul"))
    assert first == second
    assert first.inputs == ("float32[4,8]", "float32[8,8]=")
    assert third != first  # no weight that could be packed beforehand


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ("LeakyRelu<alpha = 0.1>(x)", "LeakyRelu<alpha = 0.2>(x)", True),
        ("Transpose<perm = [1, 0]>(x)", "Transpose<perm = [0, 1]>(x)", False),
        ("Softmax<axis = 0>(x)", "Softmax<axis = 1>(x)", False),
        ("Relu(x)", "Sigmoid(x)", False),
    ],
)
def test_attributes_that_change_the_work_are_part_of_the_class(one, other, same):
    classes = []
    for body in (one, other):
        graph = graph_of(f"y = {body}")
        classes.append(class_of(next(iter(graph.ops.values())), graph))
    assert (classes[0] == classes[1]) is same


def test_what_takes_no_time_or_has_no_shape_has_no_class():
    graph = graph_of("f = Flatten(x) i = NonZero(x) t = Transpose(i) u = Cast<to = 1>(t) y = Relu(u)")
    assert [op.type for op in graph.ops.values() if class_of(op, graph)] == []


def test_a_file_reads_back_as_it_was_written(tmp_path):
    costs = costs_of(graph_of("a = MatMul(x, w) b = Relu(a) y = Clip(b, , m)"))
    assert len(costs.entries) == 3
    path = tmp_path / "costs.json"
    path.write_text(to_json(costs))
    assert read(path) == costs


def test_the_file_is_plain_to_read():
    content = json.loads(to_json(costs_of(graph_of("y = Softmax<axis = 1>(x)"))))
    (entry,) = content["ops"]
    assert entry["attributes"] == {"axis": "1"}
    assert entry["seconds"] == {"float32": 2e-6, "float16": 1e-6, "bfloat16": None}
    assert content["format"] == 1


@pytest.mark.parametrize(
    ("edit", "fact"),
    [
        (lambda text: text[:-9], "is no JSON"),
        (lambda text: text.replace('"format": 1', '"format": 9'), "has format 9"),
        (lambda text: text.replace('"launch"', '"lunch"'), "lacks 'launch'"),
        (lambda text: text.replace("2e-06", "-1"), "is no time"),
        (lambda text: text.replace("2e-06", "NaN"), "is no time"),
        (lambda text: text.replace('"float16"', '"float17"'), "float17"),
        (lambda text: "[]", "holds no measured costs"),
        (lambda text: text.replace('"ratio"', "").replace('"parts"', '"pairs"'), "pairs"),
    ],
)
def test_a_broken_file_is_refused_in_one_line(edit, fact):
    with pytest.raises(OptionError) as caught:
        from_json(edit(to_json(costs_of(graph_of("y = Relu(x)")))), "--costs c.json")
    assert fact in str(caught.value)
    assert str(caught.value).startswith("--costs c.json: ")
    assert "ampgraph profile" in str(caught.value)


def test_a_file_that_is_not_there_is_refused(tmp_path):
    with pytest.raises(OptionError, match="cannot be read"):
        read(tmp_path / "none.json")
    (tmp_path / "bytes").write_bytes(b"\xff\xfe\xff")
    with pytest.raises(OptionError, match="is not text"):
        read(tmp_path / "bytes")


def test_the_fit_finds_the_line_that_the_casts_lie_on():
    found = fit_cast([(size, 2e-6 + size * 5e-13) for size in (6e3, 6e5, 6e6, 6e8)])
    assert found.fixed == pytest.approx(2e-6)
    assert found.per_byte == pytest.approx(5e-13)
    assert found.seconds(1e6) == pytest.approx(2.5e-6)


@pytest.mark.parametrize("times", [(1e-6, 1e-5, 4e-4), (3e-6, 2e-6, 2e-6), (2e-6, 2e-6, 2e-6)])
def test_no_cast_takes_negative_time(times):
    found = fit_cast(list(zip((1e4, 1e6, 1e7), times, strict=True)))
    assert found.fixed >= 0
    assert found.per_byte >= 0
    assert found.seconds(1e4) > 0


def test_parts_explain_the_whole_within_bounds():
    assert Whole(1e-3, 1.2e-3, 2, 2).is_explained
    assert not Whole(1e-3, 1.5e-3, 2, 2).is_explained
    assert not Whole(1e-3, 0.6e-3, 2, 2).is_explained


def test_files_of_one_machine_join():
    one, other = costs_of(graph_of("y = Relu(x)")), costs_of(graph_of("y = Sigmoid(x)"))
    assert set(joined(one, other).entries) == {*one.entries, *other.entries}
    with pytest.raises(OptionError, match="different devices"):
        joined(one, costs_of(graph_of("y = Relu(x)"), runtime="r 2"))
