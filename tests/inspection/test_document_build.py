"""Documents of small models: converted, to be converted, as others made them."""

from pathlib import Path

import numpy as np
import onnx
import pytest
from hypothesis import HealthCheck, given, settings

import ampgraph
from ampgraph.errors import ModelError, OptionError
from ampgraph.inspection.document import Document, Node
from tests.inspection.soundness import BRANCHES, look, renamed
from tests.onnx_model.test_properties import models
from tests.small_models import classifier, parse, random, saved

SHAPES = {"image": (2, 8, 16, 16)}


def by_name(document: Document) -> dict[str, Node]:
    return {node.name: node for node in document.graph.nodes}


def test_a_plan_shows_its_casts_prices_and_reasons() -> None:
    document = look(classifier(), objective="memory", shapes=SHAPES)
    nodes = by_name(document)
    assert (document.state, document.unit, document.precision) == ("planned", "bytes", "float16")
    conv, exp = nodes["conv"], nodes["exp"]
    assert (conv.precision, conv.before, conv.cause, conv.kernel) == ("float16", "float32", "cost", "cuda")
    assert (conv.low, conv.high) == (8192, 16384)
    assert conv.operations == 2 * 2 * 8 * 16 * 16 * 8 * 9
    assert document.rules[exp.rule].name == "sum-of-exponentials"
    assert (exp.precision, exp.cause) == ("float32", "rule")
    assert exp.why == document.rules[exp.rule].why
    image = nodes["image"]
    assert (image.kind, image.precision, image.cause) == ("input", "float32", "pin")
    (cast,) = [node for node in document.graph.nodes if node.kind == "cast" and node.inputs == ("image",)]
    assert cast.outputs == (conv.inputs[0],)
    assert (cast.precision, cast.before) == ("float16", "")
    boundary = next(each for each in document.graph.boundaries if each.cast == cast.id)
    assert (boundary.maker, boundary.readers, boundary.bytes) == (image.id, (conv.id,), 2 * 8 * 16 * 16 * 6)
    assert boundary.why == cast.why == "made in float32 by the graph's input image, read in float16 by Conv conv"


def test_the_summary_adds_up() -> None:
    document = look(classifier(), objective="memory", shapes=SHAPES)
    summary = document.summary
    assert {share.precision: share.nodes for share in summary.shares}["float16"] == 5
    assert summary.casts == sum(node.kind == "cast" for node in document.graph.nodes)
    assert summary.cast_bytes == sum(each.bytes or 0 for each in document.graph.boundaries)
    assert summary.after < summary.before
    (island,) = summary.islands
    assert set(island.nodes) == {"exp", "total", "share"}
    assert (island.cause, document.rules[island.rule].name) == ("rule", "sum-of-exponentials")


@pytest.mark.parametrize("objective", ["speed", "memory"])
def test_a_model_of_low_operators_takes_as_much_as_it_is_as_when_planned(objective: str) -> None:
    text = """g (float[2048,1024] x) => (float[2048,1024] y) { low = Cast<to = 10>(x) wide = Cast<to = 10>(w)
        h = MatMul(low, wide) r = Relu(h) y = Cast<to = 1>(r) }"""
    found, planned = (look(parse(text, w=random(1024, 1024)), as_is=as_is) for as_is in (True, False))
    assert found.summary.after == planned.summary.after > 0
    prices = ({node.name: (node.low, node.high, node.bytes) for node in each.graph.nodes} for each in (found, planned))
    assert next(prices) == next(prices)


def test_a_converted_file_says_what_its_plan_said(tmp_path: Path) -> None:
    """Nodes, reasons, rules, prices, boundaries and summary are those of the plan, read from the file alone."""
    for objective in ("memory", "coverage"):
        target = tmp_path / f"{objective}.onnx"
        result = ampgraph.convert(classifier(), target, objective=objective, shapes=SHAPES)
        planned = look(result)
        found = look(target, objective=objective, shapes=SHAPES)
        assert (planned.state, found.state) == ("converted", "converted")
        facts = [
            {node.id: (node.precision, node.before, node.cause, node.why, node.rule, node.low, node.high, node.kernel)
             for node in document.graph.nodes if node.kind == "op"}
            for document in (planned, found)
        ]  # fmt: skip
        assert facts[0] == facts[1]
        for part in ("shares", "casts", "cast_bytes", "cast_time", "before", "after"):
            assert getattr(planned.summary, part) == getattr(found.summary, part), part
        assert [each.cost for each in planned.graph.boundaries] == [each.cost for each in found.graph.boundaries]


def test_a_converted_file_is_shown_with_the_options_that_it_remembers(tmp_path: Path) -> None:
    target = tmp_path / "low.onnx"
    result = ampgraph.convert(classifier(), target, objective="memory", device="t4", shapes=SHAPES)
    found = look(target)
    assert (found.device, found.objective, found.unit, found.shapes) == ("t4", "memory", "bytes", SHAPES)
    assert found.summary.after == look(result).summary.after
    assert "converted with --device t4 --objective memory --shape image=2x8x16x16" in found.summary.notes
    other = look(target, device="h100", shapes={"image": (1, 8, 16, 16)})
    assert (other.device, other.shapes) == ("h100", {"image": (1, 8, 16, 16)})
    assert any("asked for here" in note for note in other.summary.notes)


def test_shapes_that_nobody_gave_are_said_to_be_assumed(tmp_path: Path) -> None:
    """Of a plan, and of a file that was converted with assumed ones; not where they were given, then or now."""
    said = "free dimensions of image are assumed; say yours with --shape"
    ampgraph.convert(classifier(), tmp_path / "assumed.onnx", objective="coverage")
    ampgraph.convert(classifier(), tmp_path / "given.onnx", objective="coverage", shapes=SHAPES)
    for source, words, expected in (
        (classifier(), {}, True),
        (classifier(), {"shapes": SHAPES}, False),
        (tmp_path / "assumed.onnx", {}, True),
        (tmp_path / "assumed.onnx", {"shapes": SHAPES}, False),
        (tmp_path / "given.onnx", {}, False),
    ):
        assert (said in look(source, **words).summary.notes) is expected


def test_a_file_that_was_left_alone_is_shown_as_converted_with_its_reasons(tmp_path: Path) -> None:
    target = tmp_path / "alone.onnx"
    assert ampgraph.convert(classifier(), target).report.changes_nothing
    found = look(target)
    assert found.state == "converted"
    assert "less than a model can tell" in by_name(found)["conv"].why
    assert look(target, as_is=False, objective="coverage").state == "planned"


def test_a_result_is_planned_until_it_is_made() -> None:
    assert look(ampgraph.convert(classifier(), dry_run=True)).state == "planned"


def test_a_bfloat16_file_is_recognised_as_one(tmp_path: Path) -> None:
    model = parse("g (float[4,8] x) => (float[4,4] y) { [product] y = MatMul(x, w) }", w=random(8, 4))
    ampgraph.convert(model, tmp_path / "low.onnx", objective="coverage", precision="bfloat16", target="onnx")
    document = look(tmp_path / "low.onnx")
    assert document.precision == "bfloat16"
    assert by_name(document)["product"].precision == "bfloat16"


OTHERS = """g (float[4,8] x) => (float[4,4] y) {
    [down] h = Cast<to = 10>(x)  [product] p = MatMul(h, w)  [up] q = Cast<to = 1>(p)
    [scores] s = Softmax(q)  [exp] e = Exp(s)  [shape] n = Shape(e)  [back] y = Reshape(e, n) }"""


def test_what_other_tools_converted_is_shown_as_it_was_found() -> None:
    document = look(parse(OTHERS, w=random(8, 4).astype(np.float16)), objective="memory")
    nodes = by_name(document)
    assert document.state == "found"
    assert (nodes["product"].precision, nodes["product"].before, nodes["product"].cause) == (
        "float16", "float16", "source",
    )  # fmt: skip
    assert "is float16 in the file as it was found; ampgraph's rule matrix-product (allow)" in nodes["product"].why
    assert "ampgraph" not in nodes["exp"].why
    assert nodes["shape"].precision == "other"
    assert {each.cast for each in document.graph.boundaries} == {"down", "up"}
    assert all("the model casts it itself" in each.why for each in document.graph.boundaries)
    assert document.summary.casts == 0  # none of ours
    assert (nodes["product"].low, nodes["product"].high) == (32, 64)


def test_as_is_chooses_what_is_shown() -> None:
    low = parse(OTHERS, w=random(8, 4).astype(np.float16))
    assert look(low, as_is=False, objective="coverage").state == "planned"
    with pytest.raises(OptionError, match="--planned: asks to plan a model that ampgraph converted already"):
        look(ampgraph.convert(classifier(), objective="coverage").model, as_is=False)
    found = look(classifier(), as_is=True)
    assert found.state == "found"
    assert {node.precision for node in found.graph.nodes} == {"float32"}
    assert "would be legal: by itself" in by_name(found)["conv"].why


def test_the_source_is_shown_beside_where_its_nodes_differ(tmp_path: Path) -> None:
    source = saved(classifier(), tmp_path / "model.onnx")
    ampgraph.convert(source, tmp_path / "low.onnx", objective="coverage")
    document = look(tmp_path / "low.onnx", before=source)
    assert document.source is None
    assert by_name(document)["conv"].before == "float32"
    part = parse("g (float[4] x) => (float[4] y) { [conv] y = Relu(x) }")
    other = look(tmp_path / "low.onnx", before=part)
    assert other.source is not None
    assert by_name(other)["conv"].before == "float32"
    assert by_name(other)["relu"].before == ""


def test_a_source_that_is_another_model_is_refused(tmp_path: Path) -> None:
    source = saved(classifier(), tmp_path / "model.onnx")
    stranger = parse("g (float[4] in) => (float[4] out) { [first] mid = Relu(in) [second] out = Neg(mid) }")
    other = saved(stranger, tmp_path / "other.onnx")
    with pytest.raises(OptionError, match=r"other.onnx: shares 0 of 2 nodes and 0 of 2 values with model.onnx"):
        look(source, before=other, objective="coverage")


def test_a_fused_model_is_of_its_source() -> None:
    """Nodes have other names then."""
    numbers = {"root": np.sqrt(2), "one": 1.0, "half": 0.5}
    constants = {name: np.array(number, np.float32) for name, number in numbers.items()}
    model = parse(GELU, w=random(64, 64), bias=random(64), **constants)
    document = look(model, before=model, shapes={"x": (8192, 64)})
    assert any(node.origins for node in document.graph.nodes)
    assert document.source is not None


GELU = """g (float[N,64] x) => (float[N,64] y) {
    [a] h = MatMul(x, w)  [b] i = Add(h, bias)  [c] j = Div(i, root)  [d] k = Erf(j)  [e] l = Add(k, one)
    [f] m = Mul(i, l)  [g] y = Mul(m, half) }"""


def test_fused_operators_tell_their_origins_and_come_with_the_model_before() -> None:
    numbers = {"root": np.sqrt(2), "one": 1.0, "half": 0.5}
    constants = {name: np.array(number, np.float32) for name, number in numbers.items()}
    model = parse(GELU, w=random(64, 64), bias=random(64), **constants)
    document = look(model, shapes={"x": (8192, 64)})
    fused = [node for node in document.graph.nodes if node.origins]
    assert fused
    assert all(node.before == "" and node.why for node in fused)
    assert document.source is not None
    assert {name for node in fused for name in node.origins} <= {node.name for node in document.source.nodes}
    assert any("fused first" in note for note in document.summary.notes)


def test_bodies_are_modules_of_their_own_and_count_as_often_as_they_run() -> None:
    document = look(parse(BRANCHES, w=random(8, 4)), objective="coverage")
    nodes = by_name(document)
    modules = document.graph.modules
    assert modules[nodes["inner"].module].name == "choice then_branch"
    assert nodes["inner"].body == "choice/then_branch"
    assert nodes["choice"].bodies == ("choice/then_branch", "choice/else_branch")
    assert nodes["inner"].operations == 2 * 8 * 4 / 2


def test_initializers_have_facts_and_their_first_elements() -> None:
    weight = np.array([[1e-9, 1e6], [3.0, 4.0]], np.float32)
    model = parse("g (float[2,2] x) => (float[2,2] y) { [p] y = MatMul(x, w) }", w=weight)
    document = look(model, objective="coverage")
    (value,) = [value for value in document.graph.values if value.name == "w"]
    facts = value.initializer
    assert facts is not None
    assert facts.sample == tuple(weight.reshape(-1).astype(float).tolist())
    assert (facts.elements, facts.overflowed, facts.flushed, facts.kept) == (4, 1, 1, ("float32",))
    (kept,) = document.summary.kept_parameters
    assert (kept.value, kept.bytes, kept.reader, kept.cause) == ("w", 16, "p", "parameter")


def test_nodes_on_the_cpu_provider_are_listed() -> None:
    document = look(parse("g (float[4] x) => (float[4] y) { [arc] h = Atan(x)  [r] y = Relu(h) }"))
    assert document.summary.cpu_nodes == ("arc",)
    assert by_name(document)["arc"].kernel == "cpu"
    assert (
        by_name(look(parse("g (float[4] x) => (float[4] y) { [arc] y = Atan(x) }"), target="onnx"))["arc"].kernel == ""
    )


def test_ranges_and_free_dimensions_are_shown() -> None:
    document = look(parse("g (float[N,4] x) => (float[N,4] y) { [s] h = Sigmoid(x)  [r] y = Relu(h) }"))
    values = {value.name: value for value in document.graph.values}
    assert (values["h"].lowest, values["h"].highest) == (0, 1)
    assert values["h"].shape == ("N", 4)
    assert values["h"].bytes == 16
    assert document.shapes == {"x": (1, 4)}


@pytest.mark.parametrize(
    "name",
    ["<img src=x onerror=alert(1)>", "\"';--\\", "\u202eright", "a\nb\r\t", "a/" * 3000, "x" * 10_000, "", "/", "..."],
)
def test_hostile_names_survive(name: str) -> None:
    document = look(renamed(classifier(), name), objective="coverage")
    assert [node.name for node in document.graph.nodes if node.kind == "op"][1] == (f"{name}1" if name else "")


def test_numbers_that_json_has_no_words_for() -> None:
    model = parse("g (float[4] x) => (float[4] y) { [sum] y = Add(x, c) }", c=np.array([np.inf, -np.inf, np.nan, 1]))
    model.graph.initializer[0].CopyFrom(
        onnx.numpy_helper.from_array(np.array([np.inf, -np.inf, np.nan, 1], np.float32), "c")
    )
    model.graph.node[0].attribute.add(name="limit", type=onnx.AttributeProto.FLOAT, f=float("-inf"))
    model.graph.node[0].op_type, model.graph.node[0].domain = "Mystery", "custom"
    document = look(model)
    assert by_name(document)["sum"].attributes == {"limit": "-inf"}


def test_what_is_no_model_is_refused(tmp_path: Path) -> None:
    (tmp_path / "model.onnx").write_text("no")
    with pytest.raises(ModelError, match="is not an ONNX model"):
        look(tmp_path / "model.onnx")
    with pytest.raises(OptionError, match="is settled in the result of a conversion"):
        look(ampgraph.convert(classifier()), objective="memory")


@settings(deadline=None, max_examples=25, suppress_health_check=[HealthCheck.too_slow])
@given(models())
def test_documents_of_random_models_are_sound(model: onnx.ModelProto) -> None:
    look(model, objective="coverage")
    look(ampgraph.convert(model, objective="memory").model)
