"""Fusing on the whole road: when a fused model is taken, what it keeps, and that its plan is a plan like any other."""

from collections import Counter
from dataclasses import replace

import numpy as np
import onnx
import pytest
from onnx import ModelProto, TensorProto, helper, numpy_helper

import ampgraph
from ampgraph.conversion import FUSABLE, named_as_fused, plan_prepared
from ampgraph.errors import OptionError, PlanError
from ampgraph.fusable import most_saved_by_fusing
from ampgraph.onnx_model.fuse.accept import difference
from ampgraph.onnx_model.fuse.fuse import fuse
from ampgraph.onnx_model.lift import constants_of, lift
from ampgraph.onnx_model.prepare import prepare
from ampgraph.onnx_model.run import CPU, open_session, random_inputs, run
from ampgraph.onnx_model.sources import as_loaded
from ampgraph.options import make_options
from ampgraph.plan import to_json
from ampgraph.reasons import format_amount
from ampgraph.report import make_report
from tests.models import parse

TOKENS, HEADS, SIZE, LAYERS = 256, 12, 64, 2
WIDTH = HEADS * SIZE
SHAPES = {"x": (8, TOKENS, WIDTH)}


@pytest.fixture(scope="module")
def transformer() -> ModelProto:
    """Two layers, post-norm, as an exporter writes them, at a free batch."""
    nodes, weights, generator = [], [], np.random.default_rng(0)

    def weight(name: str, *shape: int) -> str:
        values = (generator.standard_normal(shape) * (0.5 / np.sqrt(shape[0]))).astype(np.float32)
        weights.append(numpy_helper.from_array(values, name))
        return name

    def add(op: str, inputs: list[str], output: str, **attributes: object) -> str:
        nodes.append(helper.make_node(op, inputs, [output], name=f"node_{output}", **attributes))
        return output

    weights.append(numpy_helper.from_array(np.array([0, 0, HEADS, SIZE], np.int64), "split"))
    weights.append(numpy_helper.from_array(np.array([0, 0, WIDTH], np.int64), "merge"))
    weights.append(numpy_helper.from_array(np.array(8.0, np.float32), "eight"))
    x = "x"
    for layer in range(LAYERS):
        heads = {}
        for part, order in (("q", [0, 2, 1, 3]), ("k", [0, 2, 3, 1]), ("v", [0, 2, 1, 3])):
            name = f"{part}{layer}"
            product = add("MatMul", [x, weight(f"w_{name}", WIDTH, WIDTH)], f"{name}_product")
            biased = add("Add", [product, weight(f"b_{name}", WIDTH)], f"{name}_biased")
            heads[part] = add("Transpose", [add("Reshape", [biased, "split"], f"{name}_split")], name, perm=order)
        scores = add("MatMul", [heads["q"], heads["k"]], f"scores{layer}")
        weights_ = add("Softmax", [add("Div", [scores, "eight"], f"scaled{layer}")], f"p{layer}", axis=-1)
        mixed = add("MatMul", [weights_, heads["v"]], f"mixed{layer}")
        turned = add("Transpose", [mixed], f"turned{layer}", perm=[0, 2, 1, 3])
        out = add(
            "MatMul", [add("Reshape", [turned, "merge"], f"m{layer}"), weight(f"w_o{layer}", WIDTH, WIDTH)], f"o{layer}"
        )
        total = add("Add", [x, add("Add", [out, weight(f"b_o{layer}", WIDTH)], f"ob{layer}")], f"sum{layer}")
        normed = add(
            "LayerNormalization", [total, weight(f"g{layer}", WIDTH), weight(f"h{layer}", WIDTH)], f"norm{layer}"
        )
        x = add("MatMul", [normed, weight(f"w_last{layer}", WIDTH, WIDTH)], f"last{layer}")
    ends = [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["n", TOKENS, WIDTH]) for name in ("x", x)]
    graph = helper.make_graph(nodes, "transformer", ends[:1], ends[1:], weights)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


@pytest.fixture(scope="module")
def result(transformer):
    return ampgraph.convert(transformer, shapes=SHAPES)


def kinds(model: ModelProto) -> Counter[str]:
    return Counter(node.op_type for node in model.graph.node)


def test_the_fused_model_is_valid_and_answers_alike(transformer, result):
    assert kinds(result.model)["Attention"] == LAYERS
    assert kinds(result.model)["SkipLayerNormalization"] == LAYERS
    assert "fused first: 2 Attention, 2 SkipLayerNormalization" in result.report.notes
    onnx.checker.check_model(result.model, full_check=True)
    feeds = random_inputs(transformer)
    expected, found = (
        next(iter(run(open_session(each, provider=CPU), feeds).values())) for each in (transformer, result.model)
    )
    assert np.linalg.norm(expected - found) < 3e-2 * np.linalg.norm(expected)


def test_the_interface_is_kept(transformer, result):
    assert result.model.graph.input == transformer.graph.input
    assert result.model.graph.output == transformer.graph.output


def test_the_report_begins_with_what_fusing_and_the_plan_gain(transformer, result, tmp_path):
    report = result.report
    plain = ampgraph.convert(transformer, shapes=SHAPES, fuse=False).report
    assert report.source_price == plain.source_price == plain.before
    prices = [format_amount(price, report.unit) for price in (plain.before, report.before, report.after)]
    head = str(report).split("\n\n")[0]
    assert head.endswith("modelled time {}, {} fused, {} as planned".format(*prices))
    assert f"modelled time {prices[0]}, " in str(plain)
    assert "fused" not in str(plain).split("\n\n")[0]
    source, plan = tmp_path / "model.onnx", tmp_path / "plan.json"
    onnx.save(transformer, source)
    ampgraph.convert(source, tmp_path / "a.onnx", shapes=SHAPES, save_plan=plan)
    again = ampgraph.convert(source, shapes=SHAPES, plan=plan).report  # the source itself is not priced then
    assert again.source_price is None
    assert "modelled time {} fused, {} as planned".format(*prices[1:]) in str(again)


def test_a_model_that_is_fused_alone_says_that_nothing_becomes_low(transformer):
    found, options = fuse(prepare(transformer), SHAPES), make_options(shapes=SHAPES)
    loaded = as_loaded(transformer)
    planned = plan_prepared(loaded, found.model, options, SHAPES, None, as_is=True, known=found.shapes)
    report = make_report(named_as_fused(planned, found.counts))
    assert (report.lowers_nothing, report.changes_nothing) == (True, False)
    head = " ".join(str(report).split("\n\n")[0].split())
    assert "nothing becomes float16: under --objective speed on h100, float16 pays nowhere at these shapes;" in head
    assert "; operators are fused, and that is all (larger shapes: --shape; all that is legal: --objective" in head
    assert "nothing becomes float16: operators are fused, and that is all" in str(replace(report, kept=()))


@pytest.mark.parametrize(
    "words", [{"fuse": False}, {"target": "onnx"}, {"objective": "memory"}, {"objective": "coverage"}], ids=str
)
def test_operators_are_left_alone_where_nobody_asks_for_speed_on_cuda(transformer, words):
    found = kinds(ampgraph.convert(transformer, shapes=SHAPES, **words).model)
    assert not found["Attention"] + found["SkipLayerNormalization"]


def test_a_replacement_answers_for_the_nodes_it_stands_for(result):
    assert "com.microsoft.Attention" in result.explain("node_mixed1")
    assert "com.microsoft.Attention" in result.explain("node_p1")
    assert "com.microsoft.SkipLayerNormalization" in result.explain("node_ob0")


def wished(transformer, **words: str) -> dict[str, tuple[str, str]]:
    """Precision and reason of the fused operators' decisions that a wish settled."""
    found, options = fuse(prepare(transformer), SHAPES), make_options(shapes=SHAPES, **words)
    loaded = as_loaded(transformer)
    planned = plan_prepared(loaded, found.model, options, SHAPES, None, known=found.shapes)
    chosen = planned.plan.choices.items()
    return {id: (choice.precision, choice.why) for id, choice in chosen if choice.cause == "user"}


def test_a_fused_node_is_kept_or_low_with_the_nodes_it_stands_for(transformer):
    kept = ("float32", "--keep names 'node_p1', which is part of it")
    assert wished(transformer, keep="^node_p1$") == {"mixed1_fused:T": kept}
    assert wished(transformer, keep="^node_p1$", low="^node_scores1$") == {"mixed1_fused:T": kept}
    low = ("float16", "--low names 'node_scores1', which is part of it")
    assert wished(transformer, low="^node_scores1$") == {"mixed1_fused:T": low}


def test_a_kept_softmax_is_float32_fused_or_not_and_the_result_is_known_again(transformer, tmp_path):
    ampgraph.convert(transformer, tmp_path / "a.onnx", shapes=SHAPES, keep="^node_p1$")
    found = ampgraph.convert(transformer, shapes=SHAPES, keep="^node_p1$")
    kept = [choice for choice in found.plan.choices.values() if choice.why.startswith("--keep")]
    assert {(choice.precision, choice.cause) for choice in kept} == {("float32", "user")}
    assert "user: --keep" in found.explain("node_p1")
    assert found.plan.low, "the rest is converted"
    again = ampgraph.convert(tmp_path / "a.onnx", tmp_path / "b.onnx", shapes=SHAPES, keep="^node_p1$")
    assert again.report.already_converted


@pytest.mark.parametrize("word", ["keep", "low"])
def test_a_wish_that_matches_nothing_is_refused_and_one_that_fusing_would_lose_is_not(transformer, word):
    for name in ("node_q0_split", "node_q0_biased", "node_sum1", "node_scaled0"):
        found = ampgraph.convert(transformer, shapes=SHAPES, dry_run=True, **{word: f"^{name}$"})
        said = [*(choice.why for choice in found.plan.choices.values()), *found.report.notes]
        assert any(f"--{word}" in why for why in said) or name == "node_q0_split", "only a reshape may go unsaid"
    with pytest.raises(OptionError, match="matches no node"):
        ampgraph.convert(transformer, shapes=SHAPES, **{word: "^nobody$"})


def test_a_diff_says_what_fusing_changed(transformer, result, tmp_path):
    """From plans in memory, from files and from models alike."""
    apart = ampgraph.convert(transformer, fuse=False, shapes=SHAPES)
    (tmp_path / "plan.json").write_text(to_json(result.plan))
    for pair in ((apart.plan, result.plan), (apart.plan, tmp_path / "plan.json"), (apart.model, result.model)):
        found = ampgraph.diff(*pair)
        part = {id.removesuffix(":T"): change.type for change in found.fused for id in change.decisions}
        assert part["node_p1"] == part["node_mixed1"] == "com.microsoft.Attention"
        assert part["node_ob0"] == "com.microsoft.SkipLayerNormalization"
        assert part.keys().isdisjoint(id.removesuffix(":T") for change in found.removed for id in change.decisions)


def test_the_plan_of_a_fused_model_is_applied_again(transformer, result, tmp_path):
    source, plan = tmp_path / "m.onnx", tmp_path / "plan.json"
    onnx.save(transformer, source)
    first = ampgraph.convert(source, tmp_path / "a.onnx", shapes=SHAPES, save_plan=plan)
    again = ampgraph.convert(source, tmp_path / "b.onnx", shapes=SHAPES, plan=plan)
    assert again.plan.fused == first.plan.fused
    assert again.plan.low == first.plan.low
    assert kinds(again.model) == kinds(first.model)
    with pytest.raises(PlanError, match=r"plan\.json.*is of a fused model, and nothing is fused here"):
        ampgraph.convert(source, tmp_path / "c.onnx", shapes=SHAPES, plan=plan, fuse=False)
    assert not (tmp_path / "c.onnx").exists()


def test_the_same_bytes_from_run_to_run_and_when_converted_again(transformer, tmp_path):
    source = tmp_path / "m.onnx"
    onnx.save(transformer, source)
    for name in ("a", "b"):
        ampgraph.convert(source, tmp_path / f"{name}.onnx", shapes=SHAPES)
    ampgraph.convert(tmp_path / "a.onnx", tmp_path / "c.onnx", shapes=SHAPES)
    first, *others = ((tmp_path / f"{name}.onnx").read_bytes() for name in "abc")
    assert others == [first, first]


def test_a_fault_of_fusing_costs_speed_and_no_conversion(transformer, result, tmp_path, monkeypatch):
    """No model is known that brings one about, so it is put in."""
    onnx.save(transformer, tmp_path / "m.onnx")
    (tmp_path / "plan.json").write_text(to_json(result.plan), encoding="utf-8")

    def fault(*_: object) -> None:
        raise IndexError("tuple index out of range")

    monkeypatch.setattr(ampgraph.conversion, "fuse", fault)
    found = ampgraph.convert(transformer, shapes=SHAPES)
    said = "fusing failed (IndexError: tuple index out of range); please report it with the model"
    assert found.planned.fusing == f"left out: {said}"
    assert f"a fused model was left out: {said}" in found.report.notes
    assert kinds(found.model) == kinds(ampgraph.convert(transformer, shapes=SHAPES, fuse=False).model)
    with pytest.raises(PlanError, match=r"is of a fused model, and fusing failed \(IndexError"):
        ampgraph.convert(tmp_path / "m.onnx", tmp_path / "c.onnx", shapes=SHAPES, plan=tmp_path / "plan.json")


def test_a_fused_model_with_other_answers_is_named(transformer):
    found = fuse(transformer, SHAPES)
    assert difference(transformer, found.model, SHAPES, None) == ""
    for node in found.model.graph.node:
        for attribute in node.attribute:
            if attribute.name == "scale":
                attribute.f *= 8
    assert "answers differently" in difference(transformer, found.model, SHAPES, None)


def test_what_is_known_of_weights_is_not_measured_again_and_is_the_same(transformer):
    source = prepare(transformer)
    found, before = fuse(source, SHAPES), lift(source, SHAPES)
    known = constants_of(before, found.own)
    assert {"w_last0", "b_o1", "eight"} & found.own == known.keys() & {"w_last0", "b_o1", "eight"} >= {"w_last0"}
    assert not {name for name in known if name in ("w_q0", "b_q0")}, "side by side in a new one"
    anew = lift(found.model, SHAPES, known=found.shapes)
    assert lift(found.model, SHAPES, known=found.shapes, measured=known).values == anew.values
    wrong = {name: replace(constant, lowest=-7.0) for name, constant in known.items()}
    assert lift(found.model, SHAPES, known=found.shapes, measured=wrong).values["w_last0"].constant.lowest == -7.0


def swish(index: int, value: str, output: str) -> str:
    steps = f"p{index} = Add({value}, three) c{index} = Clip(p{index}, zero, six) m{index} = Mul({value}, c{index})"
    return f"{steps} {output} = Div(m{index}, six)"


def test_a_model_that_runs_at_other_sizes_than_modelled_is_fused():
    line = "k = Conv<strides = [16, 1]>(h, w)"
    last = "s = Squeeze(r, two) z = Concat<axis = 1>(s, s) y = Expand(z, fit)"
    body = f"{swish(0, 'x', 'h')} {line} {swish(1, 'k', 'r')} {last}"
    model = parse(f"g (float[N,8,H,W] x) => (float[N,16,V] y) {{ {body} }}")
    weight = np.random.default_rng(0).standard_normal((8, 8, 16, 1)).astype(np.float32)
    numbers = {"three": 3.0, "zero": 0.0, "six": 6.0}
    given = {name: np.float32(value) for name, value in numbers.items()}
    given |= {"w": weight, "two": np.array([2]), "fit": np.array([1, 16, 1])}
    model.graph.initializer.extend(numpy_helper.from_array(np.asarray(value), name) for name, value in given.items())
    found = ampgraph.convert(model)
    assert kinds(found.model)["HardSwish"] == 2
    assert found.planned.fusing == ""
    given_sizes = ampgraph.convert(model, shapes={"x": (1, 8, 224, 224)})
    assert kinds(given_sizes.model)["HardSwish"] == 0
    assert "does not run on generated inputs" in given_sizes.planned.fusing


def test_external_weights_are_fused_around_not_merged(transformer, tmp_path):
    path, copy = tmp_path / "m.onnx", ModelProto()
    copy.CopyFrom(transformer)  # saving takes the weights out of it
    onnx.save(copy, path, save_as_external_data=True, location="m.data", size_threshold=64)
    made = ampgraph.convert(path, tmp_path / "out.onnx", shapes=SHAPES)
    assert kinds(made.model)["MultiHeadAttention"] == LAYERS
    feeds = random_inputs(transformer)
    expected = next(iter(run(open_session(transformer, provider=CPU), feeds).values()))
    found = next(iter(run(open_session(tmp_path / "out.onnx", provider=CPU), feeds).values()))
    assert np.linalg.norm(expected - found) < 3e-2 * np.linalg.norm(expected)


def test_what_a_body_reads_keeps_its_name(transformer):
    model = ModelProto()
    model.CopyFrom(transformer)
    body = helper.make_graph(
        [helper.make_node("Relu", ["m0"], ["then"])], "then", [], [helper.make_tensor_value_info("then", 1, None)]
    )
    other = helper.make_graph(
        [helper.make_node("Neg", ["m0"], ["else"])], "else", [], [helper.make_tensor_value_info("else", 1, None)]
    )
    model.graph.initializer.append(numpy_helper.from_array(np.array(True), "yes"))
    model.graph.node.append(helper.make_node("If", ["yes"], ["branch"], then_branch=body, else_branch=other))
    model.graph.output.append(helper.make_tensor_value_info("branch", TensorProto.FLOAT, ["n", TOKENS, WIDTH]))
    found = fuse(model, SHAPES)
    assert difference(model, found.model, SHAPES, None) == ""


def test_nothing_hangs_on_the_sizes_that_are_modelled(transformer):
    model = ModelProto()
    model.CopyFrom(transformer)
    for value in (*model.graph.input, *model.graph.output):
        value.type.tensor_type.shape.dim[1].dim_param = "tokens"
    model.graph.node[-1].input[0], masked = "norm1", model.graph.node
    mask = helper.make_tensor_value_info("mask", TensorProto.FLOAT, ["n", 1, 1, "tokens"])
    model.graph.input.append(mask)
    masked.insert(
        [node.output[0] for node in masked].index("p0"), helper.make_node("Add", ["scaled0", "mask"], ["masked0"])
    )
    next(node for node in masked if node.output[0] == "p0").input[0] = "masked0"
    shapes = SHAPES | {"mask": (8, 1, 1, TOKENS)}
    found = fuse(model, shapes)
    assert found.counts["Attention"] == LAYERS
    for tokens in (70, 300):
        assert difference(model, found.model, {"x": (2, tokens, WIDTH), "mask": (2, 1, 1, tokens)}, None) == ""


def test_fusing_is_not_tried_where_it_could_save_next_to_nothing(transformer):
    def bound(model, **words):
        planned = ampgraph.convert(model, fuse=False, dry_run=True, **words).planned
        return most_saved_by_fusing(planned.graph, planned.costs) / planned.plan.cost

    assert bound(transformer, shapes=SHAPES) > FUSABLE
    text = "g (float[8,256,256] x, float[256,256] w) => (float[8,256,256] y) { m = MatMul(x, w)  y = Relu(m) }"
    assert bound(parse(text)) == 0


def test_a_model_with_training_graphs_is_not_fused(transformer):
    model = ModelProto()
    model.CopyFrom(transformer)
    model.training_info.add().update_binding.add(key="w_q0", value="w_q0")
    assert fuse(transformer, SHAPES) is not None
    assert fuse(model, SHAPES) is None


def test_functions_that_cannot_be_inlined_are_kept(transformer):
    model = ModelProto()
    model.CopyFrom(transformer)
    body = [helper.make_node("Softmax", ["a"], ["b"])]  # another operator before opset 13
    model.functions.append(helper.make_function("own", "Ours", ["a"], ["b"], body, [helper.make_opsetid("", 12)]))
    model.opset_import.append(helper.make_opsetid("own", 1))
    model.graph.node.append(helper.make_node("Ours", ["x"], ["more"], domain="own"))
    model.graph.output.append(helper.make_tensor_value_info("more", TensorProto.FLOAT, ["n", TOKENS, WIDTH]))
    assert [each.name for each in fuse(prepare(model), SHAPES).model.functions] == ["Ours"]


def test_weights_in_constant_nodes_are_fused_like_initializers_and_come_back(transformer):
    model = ModelProto()
    model.CopyFrom(transformer)
    large = [tensor for tensor in transformer.graph.initializer if tensor.name.startswith("w_")]
    kept = [tensor for tensor in transformer.graph.initializer if not tensor.name.startswith("w_")]
    del model.graph.initializer[:]
    model.graph.initializer.extend(kept)
    for tensor in large:
        model.graph.node.insert(0, helper.make_node("Constant", [], [tensor.name], value=tensor))
    found = fuse(model, SHAPES)
    assert found.counts == fuse(transformer, SHAPES).counts
    assert difference(transformer, found.model, SHAPES, None) == ""
    last = next(node for node in found.model.graph.node if "w_last1" in node.output)
    assert last == next(node for node in model.graph.node if "w_last1" in node.output)
    assert "w_last1" in found.own
