"""Try every operator in low precision and write rules/targets/onnxruntime_unopenable.json.

    python -m benchmarks.probe_ops

What a schema claims counts only after a one-node model passes onnx's full checker and opens in a CPU session. Nodes are
those of onnx's backend tests, also rewritten for other opsets, and a few of onnxruntime's contrib ops; each is tried
with every choice of low type variables, once between casts and once with low inputs and outputs. What onnxruntime does
not open in float32 either is held against the checker alone.
"""

from __future__ import annotations

import argparse
import itertools
import json
import warnings
from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
from onnx import ModelProto, NodeProto, helper, numpy_helper, parser
from onnx.backend.test.case.node import collect_testcases
from onnx.defs import OpSchema

from ampgraph.costs import Costs
from ampgraph.decide import decide
from ampgraph.errors import AmpgraphError
from ampgraph.graph import Decision, PrecisionGraph
from ampgraph.judgement import Category, Cause, Judgement, Verdict
from ampgraph.onnx_model.apply import apply
from ampgraph.onnx_model.io import check_model
from ampgraph.onnx_model.lift import lift
from ampgraph.onnx_model.prepare import prepare
from ampgraph.onnx_model.run import CPU, open_session
from ampgraph.plan import make_plan
from ampgraph.precision import Precision

OUT = Path(__file__).parents[1] / "rules" / "targets" / "onnxruntime_unopenable.json"
OLDEST_OPSET, NEWEST_OPSET = 7, 26  # that the recorded onnxruntime opens
NEWEST_CHECKED = onnx.defs.onnx_opset_version()
NODES_PER_VERSION = 12
Pattern = tuple[tuple[str, ...], tuple[str, ...]]  # low variables, float32 variables
Seen = defaultdict[tuple[str, bool], set[str]]  # forms by "Op-version" and whether they open
Refused = dict[str, dict[str, set[Pattern]]]  # "checker" or "session" -> "Op-version" -> patterns


@dataclass(frozen=True)
class Template:
    """A float32 model of one node."""

    model: ModelProto
    key: str  # "Op-version"
    opens: bool  # in a CPU session, as it is


TEXTS = (
    "float[2,4] x => float[2,4] y | y = RandomNormalLike(x)",
    "float[2,4] x => float[2,4] y | y = RandomUniformLike(x)",
    "float[2,4] x => float[2,4] y | y = RandomNormalLike<dtype = 1>(x)",
    "float[2,4] x => float[2,4] y | y = RandomUniformLike<dtype = 1>(x)",
    "=> float[2,4] y | y = RandomNormal<shape = [2, 4]>()",
    "=> float[2,4] y | y = RandomUniform<shape = [2, 4]>()",
    "float[2,4] x => int32[2,3] y | y = Multinomial<sample_size = 3>(x)",
    "float[1,2,4,4] x => float[1,2,1,1] y | y = GlobalLpPool(x)",
    "float[1,2,4,4] x => float[1,2,4,4] y | y = MeanVarianceNormalization<axes = [0, 2, 3]>(x)",
    "float[1,2,4,4] x, float[1,5] r => float[1,2,2,2] y | y = MaxRoiPool<pooled_shape = [2, 2]>(x, r)",
    "int64 n => float[M] y | y = HannWindow(n)",
    "int64 n => float[M] y | y = HammingWindow(n)",
    "int64 n => float[M] y | y = BlackmanWindow(n)",
    "float[2,4] x => float[2,4] y | y = com.microsoft.Gelu(x)",
    "float[2,4] x, float[4] b => float[2,4] y | y = com.microsoft.FastGelu(x, b)",
    "float[2,4] x => float[2,4] y | y = com.microsoft.QuickGelu(x)",
    "float[2,4] x, float[4] b => float[2,4] y | y = com.microsoft.BiasGelu(x, b)",
    "float[2,4] x, float[2,4] b => float[2,4] y | "
    "y = com.microsoft.BiasSoftmax<axis = 1, is_inner_broadcast = 0>(x, b)",
    "float[2,4] x, float[4,3] w => float[2,3] y | y = com.microsoft.FusedMatMul(x, w)",
    "float[2,4] x, float[4,3] w, float[3] b => float[2,3] y | "
    'y = com.microsoft.FusedGemm<activation = "Relu">(x, w, b)',
    'float[1,2,4,4] x, float[2,2,1,1] w => float[1,2,4,4] y | y = com.microsoft.FusedConv<activation = "Relu">(x, w)',
    "float[1,2,4] x, float[1,2,4] s, float[4] g, float[4] b => float[1,2,4] y | "
    "y = com.microsoft.SkipLayerNormalization(x, s, g, b)",
    "float[1,2,4] x, float[1,2,4] s, float[4] g => float[1,2,4] y | "
    "y = com.microsoft.SkipSimplifiedLayerNormalization(x, s, g)",
    "int32[1,2] i, int32[1,2] t, float[9,4] e, float[9,4] p, float[2,4] q, float[4] g, "
    "float[4] b => float[1,2,4] y, int32[1] m | y, m = com.microsoft.EmbedLayerNormalization(i, t, e, p, q, g, b)",
    "float[1,2,4] x, float[4,12] w, float[12] b => float[1,2,4] y | "
    "y = com.microsoft.Attention<num_heads = 2>(x, w, b)",
    "float[1,2,4] q, float[1,2,4] k, float[1,2,4] v => float[1,2,4] y | "
    "y = com.microsoft.MultiHeadAttention<num_heads = 2>(q, k, v)",
    "float[1,2,16] q, float[1,2,16] k, float[1,2,16] v, float[1,2,4,8] pk, float[1,2,4,8] pv, "
    "int32[1] s, int32 t => float[1,2,16] y, float[1,2,4,8] ok, float[1,2,4,8] ov | "
    "y, ok, ov = com.microsoft.GroupQueryAttention<num_heads = 2, kv_num_heads = 2>(q, k, v, pk, pv, s, t)",
    "float[1,2,8] x, int64[1,2] p, float[9,2] c, float[9,2] s => float[1,2,8] y | "
    "y = com.microsoft.RotaryEmbedding<num_heads = 2>(x, p, c, s)",
    "float[2,32] x, uint8[4,1,16] w, float[4] s => float[2,4] y | "
    "y = com.microsoft.MatMulNBits<K = 32, N = 4, bits = 4, block_size = 32>(x, w, s)",
    "float[2,4] x, float[4] g => float[2,4] y | y = SimplifiedLayerNormalization(x, g)",
    "float[2,2] x => float[2,2] y | y = com.microsoft.Inverse(x)",
    "float[2,4] x, int64[1,1] i => float[1,4] y | y = com.microsoft.GatherND(x, i)",
    "uint8[4] x, float s, uint8 z => float[4] y | y = com.microsoft.DequantizeLinear(x, s, z)",
)


def templates() -> Iterator[Template]:
    """Nodes of every operator at every version that they can be written for."""
    seen: Seen = defaultdict(set)
    for case in collect_testcases(None):
        model = case.model
        if len(model.graph.node) != 1 or model.functions:
            continue
        given = dict(zip((value.name for value in model.graph.input), case.data_sets[0][0], strict=False))
        for candidate in _versions(model, given):
            yield from _fresh(candidate, seen)
            yield from _fresh(_with_constants(candidate, given), seen)
    for text in TEXTS:
        model = _parsed(text)
        ones = {value.name: np.ones([], np.int64) for value in model.graph.input if _is_scalar(value)}
        for candidate in _versions(model, ones):
            yield from _fresh(candidate, seen)
            yield from _fresh(_with_constants(candidate, ones), seen)


def _fresh(model: ModelProto, seen: Seen) -> Iterator[Template]:
    """The template, unless enough nodes like it are known, or it is no good in float32."""
    node = model.graph.node[0]
    key = f"{_name(node)}-{_version(model)}"
    attributes = [(a.name, a.i) for a in node.attribute]
    form = repr((_opset(model), attributes, len(node.input), len(node.output), _types(model)))
    enough = [form in seen[key, opens] or len(seen[key, opens]) >= NODES_PER_VERSION for opens in (False, True)]
    if all(enough) or not _has_choices(model):
        return
    checkable = _is_known(node)
    opens = not _opens(model)
    if enough[opens] or (check_model(model) if checkable else not opens):
        return
    seen[key, opens].add(form)
    yield Template(model, key, opens)


def _has_choices(model: ModelProto) -> bool:
    try:
        graph = lift(prepare(model), precision=None)
    except AmpgraphError:
        return False
    return any(decision.kind == "op" and decision.is_open(Precision.FLOAT16) for decision in graph.decisions.values())


def _parsed(text: str) -> ModelProto:
    signature, body = text.split("|")
    inputs, outputs = signature.split("=>")
    header = '<ir_version: 8, opset_import: ["" : 17, "com.microsoft" : 1]>'
    return parser.parse_model(f"{header} g ({inputs}) => ({outputs}) {{ {body} }}")


def _name(node: NodeProto) -> str:
    return f"{node.domain}.{node.op_type}" if node.domain else node.op_type


def _is_known(node: NodeProto) -> bool:
    return bool(onnx.defs.has(node.op_type, node.domain))


def _version(model: ModelProto) -> int:
    node = model.graph.node[0]
    try:
        return int(onnx.defs.get_schema(node.op_type, _opset(model), node.domain).since_version)
    except onnx.defs.SchemaError:
        return 1


def _opset(model: ModelProto) -> int:
    return {entry.domain: entry.version for entry in model.opset_import}[model.graph.node[0].domain]


def _types(model: ModelProto) -> list[str]:
    return [value.type.SerializeToString(deterministic=True).hex() for value in model.graph.input]


def _with_constants(model: ModelProto, given: Mapping[str, Any]) -> ModelProto:
    """The model with its integer operands as initializers: onnxruntime expands some functions only then."""
    fixed = ModelProto()
    fixed.CopyFrom(model)
    for value in list(fixed.graph.input):
        array = given.get(value.name)
        if not isinstance(array, np.ndarray) or array.dtype.kind not in "iu":
            continue
        if helper.np_dtype_to_tensor_dtype(array.dtype) == value.type.tensor_type.elem_type:
            fixed.graph.initializer.append(numpy_helper.from_array(array, value.name))
            fixed.graph.input.remove(value)
    return fixed


def _is_scalar(value: onnx.ValueInfoProto) -> bool:
    return not value.type.tensor_type.shape.dim


def _versions(model: ModelProto, given: Mapping[str, Any]) -> Iterator[ModelProto]:
    """The node at every version of its operator, at the first and at the last opset that has it.

    onnxruntime expands some operators into functions, which it does only at some opsets of their version.
    """
    node = model.graph.node[0]
    if node.domain or not _is_known(node):
        yield model
        return
    newest = onnx.defs.get_schema(node.op_type)
    starts = sorted(schema.since_version for schema in _history(node.op_type))
    for schema in _history(node.op_type):
        later = [start for start in starts if start > schema.since_version]
        first, last = max(schema.since_version, OLDEST_OPSET), (later[0] - 1 if later else NEWEST_CHECKED)
        for opset in sorted({first, min(last, NEWEST_OPSET), last}):
            if first <= opset <= last:
                yield _rewritten(model, newest, schema, opset, given)


def _history(op_type: str) -> list[OpSchema]:
    return [s for s in onnx.defs.get_all_schemas_with_history() if s.name == op_type and s.domain == ""]


def _rewritten(
    model: ModelProto, newest: OpSchema, schema: OpSchema, opset: int, given: Mapping[str, Any]
) -> ModelProto:
    older = ModelProto()
    older.CopyFrom(model)
    older.ir_version = 10
    for entry in older.opset_import:
        entry.version = opset if entry.domain == "" else entry.version
    node = older.graph.node[0]
    for attribute in list(node.attribute):
        if attribute.name not in schema.attributes:
            node.attribute.remove(attribute)
    taken = {formal.name for formal in schema.inputs}
    for index in reversed(range(min(len(node.input), len(newest.inputs)))):
        formal, name = newest.inputs[index], node.input[index]
        if formal.name in taken or formal.option == OpSchema.FormalParameterOption.Variadic:
            continue
        array = given.get(name)
        if formal.name in schema.attributes and isinstance(array, np.ndarray) and array.size:
            kind = schema.attributes[formal.name].type
            listed = kind in (OpSchema.AttrType.INTS, OpSchema.AttrType.FLOATS, OpSchema.AttrType.STRINGS)
            value = array.reshape(-1).tolist() if listed else array.reshape(-1)[0].item()
            node.attribute.append(helper.make_attribute(formal.name, value))
        if len(schema.inputs) <= index:
            del node.input[index]
    read = set(node.input)
    for value in [value for value in older.graph.input if value.name not in read]:
        older.graph.input.remove(value)
    return older


def _opens(model: ModelProto) -> str:
    """What onnxruntime says when it does not open a model in a CPU session; "" when it does."""
    try:
        open_session(model, provider=CPU)
    except Exception as error:  # onnxruntime's exceptions share no base class
        return " ".join(str(error).split()) or "refused"
    return ""


def probe(template: Template, precision: Precision, refused: Refused) -> int:
    """Try every choice of low variables of a node, and record what is refused; the number of choices tried."""
    prepared = prepare(template.model)
    graph = lift(prepared, precision=precision)
    free = [decision for decision in graph.decisions.values() if decision.kind == "op" and decision.is_open(precision)]
    tried = 0
    for size in range(1, len(free) + 1):
        for low in itertools.combinations(free, size):
            tried += 1
            by = _refusal(prepared, graph, low, precision, template.opens)
            if by:
                high = tuple(sorted(decision.variable for decision in free if decision not in low))
                pattern = (tuple(sorted(decision.variable for decision in low)), high)
                refused[by].setdefault(template.key, set()).add(pattern)
    return tried


def _refusal(
    prepared: ModelProto, graph: PrecisionGraph, low: tuple[Decision, ...], precision: Precision, opens: bool
) -> str:
    """Who refuses a choice: "checker", "session" or nobody."""
    complains = bool(check_model(prepared))
    for bare in (False, True):
        try:
            model = _written(prepared, graph, low, precision, bare)
        except AmpgraphError:
            continue
        if not complains and check_model(model):
            return "checker"
        if opens and precision is Precision.FLOAT16 and _opens(model):
            return "session"
    return ""


def _written(
    prepared: ModelProto, graph: PrecisionGraph, low: tuple[Decision, ...], precision: Precision, bare: bool
) -> ModelProto:
    """The model with exactly these decisions low; `bare`: inputs and outputs follow what they are bound to."""
    wanted = {decision.id for decision in low}
    if bare:
        wanted |= _ends(graph, wanted)
    verdicts = {
        key: Verdict(key in wanted, Category.ALLOW, Cause.RULE, "", forced=key in wanted) for key in graph.decisions
    }
    judgement = Judgement(precision, verdicts)
    costs = Costs("points", {}, {}, {}, {}, {}, {})
    return apply(prepared, graph, make_plan(graph, judgement, costs, decide(graph, judgement, costs), "coverage"))


def _ends(graph: PrecisionGraph, wanted: set[str]) -> set[str]:
    """Graph inputs that only low decisions read, and outputs that they make."""
    inputs = {
        value.producer
        for value in graph.values.values()
        if value.producer.startswith("input:") and {use.decision for use in graph.uses_of.get(value.id, ())} <= wanted
    }
    outputs = {use.decision for use in graph.uses if not use.op and graph.values[use.value].producer in wanted}
    return {key for key in inputs | outputs if not graph.decisions[key].pin}


def record() -> dict[str, Any]:
    """Everything that is refused, by precision, by whom and by operator."""
    refused: dict[Precision, Refused] = {Precision.FLOAT16: defaultdict(dict), Precision.BFLOAT16: defaultdict(dict)}
    keys: set[str] = set()
    for template in templates():
        keys.add(template.key)
        for precision, found in refused.items():
            probe(template, precision, found)
    listed = {precision.value: _sorted(found) for precision, found in refused.items()}
    return {"onnx": onnx.__version__, "onnxruntime": ort.__version__, "probed": sorted(keys), **listed}


def _sorted(refused: Refused) -> dict[str, dict[str, list[Pattern]]]:
    return {by: {key: sorted(found) for key, found in sorted(ops.items())} for by, ops in sorted(refused.items())}


def main() -> None:
    """Probe and write the table."""
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--out", type=Path, default=OUT)
    out = arguments.parse_args().out
    ort.set_default_logger_severity(4)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        table = record()
    out.write_text(_text(table))
    print(f"{out}: {len(table['probed'])} operators and versions")


def _text(table: Mapping[str, Any]) -> str:
    """JSON with a line an operator, so that a change is readable."""
    head = {key: value for key, value in table.items() if isinstance(value, str | list)}
    blocks = [f"{json.dumps(key)}: {json.dumps(value)}" for key, value in head.items()]
    for precision in (Precision.FLOAT16, Precision.BFLOAT16):
        kinds = (f"{json.dumps(by)}: {{{_lines(ops)}}}" for by, ops in table[precision.value].items())
        blocks.append(f"{json.dumps(precision.value)}: {{{', '.join(kinds)}}}")
    return "{" + ",\n".join(blocks) + "}\n"


def _lines(ops: Mapping[str, Any]) -> str:
    return ",".join(f"\n  {json.dumps(key)}: {json.dumps(patterns)}" for key, patterns in ops.items())


if __name__ == "__main__":
    main()
