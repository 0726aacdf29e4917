"""What a conversion keeps and what options do to it, on the whole road."""

import os
import subprocess
import sys
from pathlib import Path

import ml_dtypes
import numpy as np
import onnx
import pytest
from onnx import ModelProto, TensorProto, helper, numpy_helper

import ampgraph
from ampgraph.conversion import low_interface
from ampgraph.errors import ModelError, OptionError, RuleError
from ampgraph.onnx_model.lift import lift
from ampgraph.onnx_model.marks import DIGEST_KEY, UNCHANGED_KEY, remembered
from ampgraph.onnx_model.names import CAST_KEY, metadata_of
from ampgraph.onnx_model.raising import at_opset, opset_of
from ampgraph.onnx_model.run import CPU, open_session, run
from tests.models import (
    FLOAT,
    FLOAT16,
    OBJECTIVES,
    TARGETS,
    W,
    assert_agrees,
    assert_valid,
    casts,
    convert,
    elem_types,
    low_ops,
    nodes,
    parse,
    weight,
)
from tests.small_models import unmarked
from tests.traps.control import control_traps

CHAIN = f"g (float[N,4] x) => (float[N,4] y) <{W}> {{ [a] h = MatMul(x, w) [b] r = Relu(h) [c] y = MatMul(r, w) }}"


def serialized(model: ModelProto) -> bytes:
    return model.SerializeToString(deterministic=True)


def saved_outside(model: ModelProto, path: Path, location: str = "weights.bin") -> Path:
    """Save a copy with its tensors in a data file."""
    copy = ModelProto()
    copy.CopyFrom(model)
    onnx.save(copy, path, save_as_external_data=True, location=location, size_threshold=0)
    return path


def test_the_whole_is_low_between_two_casts():
    result = convert(parse(CHAIN))
    types = elem_types(result.model)
    assert (types["x"], types["h"], types["r"], types["y"], types["w"]) == (FLOAT, FLOAT16, FLOAT16, FLOAT, FLOAT16)
    assert [metadata_of(cast, CAST_KEY) for cast in casts(result.model)] == ["x", "y"]


def test_names_notes_and_documents_are_kept():
    model = parse(CHAIN)
    model.doc_string, model.producer_name, model.producer_version, model.domain = "doc", "maker", "3", "org"
    model.model_version = 7
    model.metadata_props.add(key="author", value="someone")
    model.graph.doc_string = "about the graph"
    model.graph.metadata_props.add(key="graph", value="note")
    model.graph.node[0].doc_string = "about the node"
    model.graph.node[0].metadata_props.add(key="layer", value="1")
    model.graph.initializer[0].doc_string = "about the weight"
    model.graph.input[0].doc_string = "about the input"
    model.graph.quantization_annotation.add(tensor_name="h")
    made = convert(model).model
    fields = ("doc_string", "producer_name", "producer_version", "domain", "model_version", "ir_version")
    assert [getattr(made, name) for name in fields] == [getattr(model, name) for name in fields]
    assert remembered(made, "author") == "someone"
    assert (made.graph.name, made.graph.doc_string) == ("g", "about the graph")
    assert [(entry.key, entry.value) for entry in made.graph.metadata_props] == [("graph", "note")]
    first = nodes(made, "MatMul")[0]
    assert (first.name, first.doc_string, metadata_of(first, "layer")) == ("a", "about the node", "1")
    assert made.graph.initializer[0].doc_string == "about the weight"
    assert made.graph.input[0].doc_string == "about the input"
    assert made.graph.quantization_annotation[0].tensor_name == "h"


def test_a_raised_opset_keeps_notes_and_functions():
    model = next(trap.model for trap in control_traps() if trap.name == "functions in functions")
    model.graph.metadata_props.add(key="graph", value="note")
    plain = parse(CHAIN, opset=11, ir=8)
    plain.graph.node[0].metadata_props.add(key="layer", value="1")
    made = convert(plain, opset=21).model
    assert metadata_of(nodes(made, "MatMul")[0], "layer") == "1"
    raised = convert(model, opset=22).model
    assert len(nodes(raised, "MatMul")) == 6
    assert_agrees(model, raised)


def test_a_raised_model_has_the_name_of_its_file(tmp_path: Path):
    source = tmp_path / "m.onnx"
    onnx.save(parse(CHAIN), source)
    result = ampgraph.convert(source, opset=21, check=True)
    assert result.report.source == str(source)
    assert result.plan.model == ampgraph.inspect(source, opset=21).document.name == "m.onnx"
    assert opset_of(result.model) == 21
    equal = ampgraph.convert(source, opset=20)
    assert opset_of(equal.model) == 20


def test_a_shape_that_only_newer_opsets_know_to_be_wrong_is_left_out():
    """As an exporter left it in a network that reads captchas: an output of three axes declared to have two."""
    model = onnx.parser.parse_model("""<ir_version: 6, opset_import: ["" : 12]> g (float[N, 4] x) => (float[1, L] y)
        <int64 first = {0}, int64[2] rest = {2, 2}> {
            s = Shape(x) n = Gather<axis = 0>(s, first) u = Unsqueeze<axes = [0]>(n)
            t = Concat<axis = 0>(u, rest) y = Reshape(x, t) }""")
    raised = at_opset(model, 22, "m")
    onnx.checker.check_model(raised, full_check=True)
    assert [value.name for value in raised.graph.output] == ["y"]
    assert len(raised.graph.output[0].type.tensor_type.shape.dim) == 3
    x = np.ones((3, 4), np.float32)
    np.testing.assert_array_equal(run(open_session(raised, provider=CPU), {"x": x})["y"], x.reshape(3, 2, 2))


def test_an_opset_that_cannot_be_reached_is_refused():
    sparse = parse(f"g (float[4] x) => (float[4] y) <{W}> {{ y = Add(x, x) }}", opset=13)
    value = numpy_helper.from_array(np.array([2.0], np.float32), "s")
    sparse.graph.sparse_initializer.append(
        helper.make_sparse_tensor(value, numpy_helper.from_array(np.array([1]), "i"), [4])
    )
    sparse.graph.node[0].input[1] = "s"
    with pytest.raises(ModelError, match="cannot be brought to opset 21"):
        convert(sparse, opset=21)


@pytest.mark.parametrize("objective", OBJECTIVES)
def test_a_second_conversion_changes_nothing_and_other_options_are_refused(objective: str):
    once = convert(parse(CHAIN), objective=objective).model
    assert serialized(convert(once, objective=objective).model) == serialized(once)
    assert remembered(once, DIGEST_KEY)
    if remembered(once, UNCHANGED_KEY):  # there is nothing that other options would have to take back
        assert objective == "speed"
        assert serialized(convert(once, device="t4").model) == serialized(convert(parse(CHAIN), device="t4").model)
    else:
        with pytest.raises(ModelError, match="other options; convert the float32 source"):
            convert(once, objective=objective, device="t4")


def test_same_bytes_in_processes_that_hash_differently(tmp_path: Path):
    """Sets of strings are ordered by a random seed: none of them may reach the file."""
    script = """
import hashlib
from tests.traps.control import control_traps
from tests.traps.edges import edges_traps
from tests.models import convert
for trap in (*control_traps(), *edges_traps()):
    made = convert(trap.model, target="onnxruntime-cuda").model.SerializeToString(deterministic=True)
    print(trap.name, hashlib.sha256(made).hexdigest())
"""
    said = []
    for seed in ("0", "1"):
        environment = {**os.environ, "PYTHONHASHSEED": seed, "PYTHONPATH": str(Path(__file__).parents[1])}
        process = subprocess.run([sys.executable, "-c", script], env=environment, capture_output=True, check=True)
        said.append(process.stdout)
    assert said[0] == said[1]
    assert said[0].count(b"\n") > 40


def test_initializers_on_both_sides_are_converted_once():
    body = "h = MatMul(x, w) i = MatMul(h, w) e = ReduceSum(w) s = ReduceL1(w) t = Add(e, s) y = Add(i, t)"
    model = parse(f"g (float[4,4] x) => (float[4,4] y) <{W}> {{ {body} }}")
    made = convert(model).model
    assert sorted((tensor.name, tensor.data_type) for tensor in made.graph.initializer) == [
        ("w", FLOAT),
        ("w_float16", FLOAT16),
    ]


def test_a_cast_of_the_models_own_is_kept_as_it_is():
    body = """h = MatMul(x, w) [own] c = Cast<to = 1>(h) [there] l = Cast<to = 10>(c) [back] f = Cast<to = 1>(l)
    y = MatMul(f, w)"""
    made = convert(parse(f"g (float[N,4] x) => (float[N,4] y) <{W}> {{ {body} }}")).model
    own = {node.name: node.attribute[0].i for node in casts(made) if not metadata_of(node, CAST_KEY)}
    assert own == {"own": FLOAT, "there": FLOAT16, "back": FLOAT}


def of_bfloat16() -> ModelProto:
    """A model of an initializer and a Constant in bfloat16, as exporters of such weights store them."""
    body = "h = Cast<to = 1>(w) i = MatMul(x, h) v = Constant() k = Cast<to = 1>(v) y = MatMul(i, k)"
    model = parse(f"g (float[N,4] x) => (float[N,4] y) {{ {body} }}")
    stored = numpy_helper.from_array(np.full((4, 4), 0.25, ml_dtypes.bfloat16), "w")
    model.graph.initializer.append(stored)
    model.graph.node[2].attribute.append(helper.make_attribute("value", stored))
    return model


@pytest.mark.parametrize("precision", ["float16", "bfloat16"])
def test_constants_in_bfloat16_are_constants(precision: str):
    result = convert(of_bfloat16(), precision=precision)
    assert (result.report.parameter_bytes_before, result.report.parameter_bytes_after) == (64, 64)
    assert sum(share.parameter_bytes for share in ampgraph.inspect(result).document.summary.shares) == 64
    assert_valid(of_bfloat16(), result.model)


def test_a_training_graph_finds_what_it_names():
    model = parse(CHAIN)
    step = helper.make_graph([helper.make_node("Sub", ["w", "h"], ["w2"])], "step", [], [])
    training = model.training_info.add(algorithm=step)
    training.update_binding.add(key="w", value="w2")
    made = convert(model).model
    assert made.training_info == model.training_info
    assert {tensor.name: tensor.data_type for tensor in made.graph.initializer} == {"w": FLOAT}
    types = elem_types(made)
    assert (types["w"], types["h"]) == (FLOAT, FLOAT)
    assert_agrees(model, made)


@pytest.mark.parametrize("target", TARGETS)
def test_the_interface_becomes_low_all_or_by_name(target: str):
    model = parse(CHAIN)
    both = convert(model, io="low", target=target).model
    assert (elem_types(both)["x"], elem_types(both)["y"]) == (FLOAT16, FLOAT16)
    one = convert(model, io="^y$", target=target).model
    assert (elem_types(one)["x"], elem_types(one)["y"]) == (FLOAT, FLOAT16)
    for made in (both, one):
        onnx.checker.check_model(made, full_check=True)
        assert [value.name for value in made.graph.input] == ["x"]
        feed = np.random.default_rng(0).standard_normal((3, 4)).astype(np.float32)
        session = ampgraph.onnx_model.run.open_session(made, provider="CPUExecutionProvider")
        kind = np.float16 if made is both else np.float32
        assert session.run(None, {"x": feed.astype(kind)})[0].dtype == np.float16


def test_an_interface_name_that_is_none():
    with pytest.raises(OptionError, match=r"names no float32 input or output; choose among x, y$"):
        convert(parse(CHAIN), io="^nothing$")
    with pytest.raises(OptionError, match="the model has none"):
        convert(parse("g (int64[4] x) => (int64[4] y) { y = Abs(x) }"), io="^x$")


def test_past_and_present_of_a_cache_keep_one_precision():
    names = ("past_key_values.0.key", "present.0.key", "past.0.value", "present.0.value", "past_key_1", "present_key_1")
    inputs = ", ".join(f"float[N,4] {chr(97 + i)}" for i in range(3))
    outputs = ", ".join(f"float[N,4] {chr(112 + i)}" for i in range(3))
    model = parse(f"g ({inputs}) => ({outputs}) {{ p = Abs(a) q = Abs(b) r = Abs(c) }}")
    for index in range(3):
        for old, new in ((chr(97 + index), names[2 * index]), (chr(112 + index), names[2 * index + 1])):
            renamed = serialized(model)
            model.ParseFromString(renamed)
            for value in (*model.graph.input, *model.graph.output):
                value.name = new if value.name == old else value.name
            for node in model.graph.node:
                node.input[0] = new if node.input[0] == old else node.input[0]
                node.output[0] = new if node.output[0] == old else node.output[0]
    graph = lift(model)
    assert low_interface(graph, "past_key_values") == {"past_key_values.0.key", "present.0.key"}
    assert low_interface(graph, r"present\.0\.value") == {"past.0.value", "present.0.value"}
    made = convert(model, io="past_key_1").model
    types = elem_types(made)
    assert (types["past_key_1"], types["present_key_1"], types["past.0.value"]) == (FLOAT16, FLOAT16, FLOAT)


def test_an_output_made_low_by_name_that_others_read_in_float32():
    model = parse(f"g (float[4,4] x) => (float[4,4] y, float[4,4] w) <{W}> {{ e = ReduceSum(w) y = Div(x, e) }}")
    made = convert(model, io="^w$").model
    types = elem_types(made)
    assert types["w"] == FLOAT16
    assert types["e"] == FLOAT
    onnx.checker.check_model(made, full_check=True)
    assert_agrees(model, convert(model).model)


def test_wishes_hold_nodes_or_lower_them():
    model = parse(CHAIN)
    held = convert(model, keep="^a$").model
    types = elem_types(held)
    assert (types["h"], types["w"]) == (FLOAT, FLOAT)
    exp = parse("g (float[4] x) => (float[4] y) { [e] h = Exp(x) [f] y = Exp(h) }")
    lowered = convert(exp, low="^e$")
    assert elem_types(lowered.model)["h_float16" if "h_float16" in elem_types(lowered.model) else "h"] == FLOAT16
    with pytest.raises(OptionError, match="matches no node"):
        convert(model, keep="nothing")
    with pytest.raises(OptionError, match="no schema is known"):
        convert(parse("g (float[4] x) => (float[4] y) { [s] y = my.Strange(x) }", my=1), low="^s$")


def test_a_rule_may_name_an_operator_that_only_the_model_knows(tmp_path: Path):
    rules = tmp_path / "mine.toml"
    keys = 'name = "mine"\nops = ["Strange"]\ncategory = "deny"\nwhy = "A test."\nsource = "me"\n'
    rules.write_text(f"[[rule]]\n{keys}")
    with pytest.raises(RuleError, match="'Strange' is no operator"):
        convert(parse(CHAIN), rules=rules)
    model = parse("g (float[4] x) => (float[4] y) { [s] y = my.Strange(x) }", my=1)
    model.graph.node[0].domain = ""
    convert(model, rules=rules)


@pytest.mark.parametrize(("opset", "low"), [(11, set()), (13, {"MatMul"}), (22, {"Conv", "MatMul"})])
@pytest.mark.parametrize("target", TARGETS)
def test_bfloat16_as_far_as_the_opset_admits_it(opset: int, low: set[str], target: str):
    body = "h = Conv(x, k) t = MatMul(h, h) y = Conv(t, k)"
    model = parse(f"g (float[1,2,4,4] x) => (float[1,2,4,4] y) <{weight('k', 2, 2, 1, 1)}> {{ {body} }}", opset=opset)
    result = convert(model, precision="bfloat16", target=target)
    assert low_ops(result) == low
    assert_valid(model, result.model)
    if not low:
        assert serialized(unmarked(result.model)) == serialized(model)


def test_contrib_ops_wait_for_an_opset_whose_cast_knows_bfloat16():
    text = f"g (float[N,4] x) => (float[N,4] y) <{W}> {{ h = MatMul(x, w) b = com.microsoft.Gelu(h) y = MatMul(b, w) }}"
    assert not low_ops(convert(parse(text, 12, com_microsoft=1), precision="bfloat16"))
    assert low_ops(convert(parse(text, 13, com_microsoft=1), precision="bfloat16"))


def large(rows: int = 64) -> ModelProto:
    """Weights to lie outside: one is wanted on both sides, one has the name of another in the sibling branch."""
    then = "t () => (float[64,64] a) { a = MatMul(h, v) }"
    other = "e () => (float[64,64] b) { q = ReduceSum(v) b = Add(h, q) }"
    chosen = f"o = If (c) <then_branch = {then}, else_branch = {other}>"
    body = f"h = MatMul(x, w) e = ReduceSum(w) f = Add(h, e) {chosen} y = Add(f, o)"
    model = parse(f"g (float[64,64] x, bool c) => (float[64,64] y) {{ {body} }}")
    generator = np.random.default_rng(0)

    def data(name: str) -> TensorProto:
        return numpy_helper.from_array(generator.standard_normal((rows, 64)).astype(np.float32) / 8, name)

    model.graph.initializer.append(data("w"))
    for attribute in next(node for node in model.graph.node if node.op_type == "If").attribute:
        attribute.g.initializer.append(data("v"))
    return model


@pytest.mark.parametrize("objective", OBJECTIVES)
def test_external_data(tmp_path: Path, objective: str):
    model = large()
    source = saved_outside(model, tmp_path / "m.onnx")
    before = (tmp_path / "weights.bin").read_bytes()
    target = tmp_path / "out.onnx"
    ampgraph.convert(source, target, objective=objective, target="onnx")
    held = ampgraph.convert(source, objective=objective, target="onnx").model
    whole = onnx.load(target)
    assert not [tensor for tensor in held.graph.initializer if tensor.external_data]
    onnx.checker.check_model(target, full_check=True)
    for made in (whole, held):
        assert_valid(model, made)
        assert_agrees(model, made)
    assert (tmp_path / "weights.bin").read_bytes() == before
    names = sorted(path.name for path in tmp_path.iterdir())
    assert names == ["m.onnx", "out.onnx", "out.onnx.data", "weights.bin"]


def test_external_data_is_rounded_as_inner_data_is(tmp_path: Path):
    model = large()
    source = saved_outside(model, tmp_path / "m.onnx")
    outer = ampgraph.convert(source, objective="coverage", target="onnx").model
    inner = convert(model).model
    found = {tensor.name: numpy_helper.to_array(tensor) for tensor in outer.graph.initializer}
    expected = {tensor.name: numpy_helper.to_array(tensor) for tensor in inner.graph.initializer}
    assert found.keys() == expected.keys()
    assert all(np.array_equal(found[name], expected[name]) for name in found)


def test_external_data_in_a_folder_below(tmp_path: Path):
    (tmp_path / "data").mkdir()
    model = large()
    source = saved_outside(model, tmp_path / "m.onnx", "data/weights.bin")
    ampgraph.convert(source, tmp_path / "out.onnx", objective="coverage", target="onnx")
    assert_agrees(model, onnx.load(tmp_path / "out.onnx"))


def test_constants_of_nodes_with_external_data(tmp_path: Path):
    """Their tensors have no names of their own to be told apart by."""
    text = """g (float[4,4] x) => (float[4,4] y) { a = Constant<value = float[4,4] {0}>()
    b = Constant<value = float[4,4] {0}>() h = MatMul(x, a) e = ReduceSum(b) i = MatMul(h, b) y = Add(i, e) }"""
    numbers = ", ".join(str(number / 16) for number in range(16))
    model = parse(text.replace("{0}>", f"{{{numbers}}}>"))
    copy = ModelProto()
    copy.CopyFrom(model)
    stored = b""
    for node in copy.graph.node[:2]:
        tensor = node.attribute[0].t
        raw = numpy_helper.to_array(tensor).tobytes()
        tensor.ClearField("float_data")
        tensor.ClearField("raw_data")
        tensor.data_location = TensorProto.EXTERNAL
        entries = {"location": "c.bin", "offset": str(len(stored)), "length": str(len(raw))}
        for key, value in entries.items():
            tensor.external_data.add(key=key, value=value)
        stored += raw
    (tmp_path / "c.bin").write_bytes(stored)
    (tmp_path / "m.onnx").write_bytes(copy.SerializeToString())
    made = ampgraph.convert(tmp_path / "m.onnx", objective="coverage", target="onnx").model
    assert [node.attribute[0].t.data_type for node in nodes(made, "Constant")] == [FLOAT16, FLOAT, FLOAT16]
    assert_agrees(model, made)


def test_the_checker_is_asked_of_the_source_where_its_data_lie(tmp_path: Path):
    """A source whose data the checker could not find would excuse everything."""
    source = saved_outside(large(), tmp_path / "m.onnx")
    assert ampgraph.convert(source, objective="coverage", target="onnx").converted.complaint == ""


def test_free_dimensions_are_modelled_and_shapes_decide():
    model = parse(CHAIN)
    result = convert(model, shapes={"x": (7, 4)})
    assert result.planned.shapes["x"] == (7, 4)
    assert convert(model).planned.shapes["x"] == (1, 4)
    assert elem_types(result.model)["x"] == FLOAT
    dims = result.model.graph.input[0].type.tensor_type.shape.dim
    assert [dim.dim_param or dim.dim_value for dim in dims] == ["N", 4]
