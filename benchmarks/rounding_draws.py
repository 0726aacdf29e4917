"""Whether one float16 model is less exact than another, or had bad luck: `python -m benchmarks.rounding_draws CORPUS`.

A network's error is the sum of what its roundings come to, and nearly all of that is drawn once, when its weights and
biases are rounded. Here they are drawn anew: every weight of PP-OCRv4's recognition is multiplied by a number within a
thousandth of one, and what converters make of that is simulated on 32 lines of text and compared with its own float32
answers: line by line, all lines together, and the line by itself whose answer hangs most on how things are rounded.

Ours as a session runs it, with kernels that round what they store and read rests; without rests; with all to the
nearest; and rounded after each operator, as the other converters' are. At the end, how what channels are expected to
hold goes with what they hold. What these are: onnx_model/rounding.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import numpy as np
import numpy.typing as npt
import onnx
from onnx import ModelProto, NodeProto, TensorProto, ValueInfoProto, numpy_helper

import ampgraph
from ampgraph.onnx_model.attributes import constant_tensor
from ampgraph.onnx_model.native.reference import expanded
from ampgraph.onnx_model.native.rewrite import rewrite
from ampgraph.onnx_model.rounding.expected import expected_inputs
from ampgraph.onnx_model.rounding.tables import tables
from ampgraph.onnx_model.run import CPU, open_session, run
from ampgraph.onnx_model.simulate import simulate
from benchmarks.corpus_inputs import lines_of_text, phrases
from benchmarks.record import keep, table

NAME, SHAPE = "ch_PP-OCRv4_rec_infer", (16, 3, 48, 320)
DRAWS, SPREAD, LINES = 8, 1e-3, 32
OPSET = 20  # the reference of our operators is in later ones than the model's
_FEW = 3  # channels, of which no correlation says much
_SMALL = 64  # elements: axes, sizes, single numbers
Answers = npt.NDArray[np.float64]


def drawn(source: ModelProto, seed: int) -> ModelProto:
    """The model with its weights a little other than they were; as they were for draw 0."""
    model = ModelProto()
    model.CopyFrom(source)
    generator = np.random.default_rng(seed)
    for tensor in _floats(model) if seed else ():
        values, name = numpy_helper.to_array(tensor), tensor.name
        factors = generator.uniform(1 - SPREAD, 1 + SPREAD, values.shape)
        tensor.CopyFrom(numpy_helper.from_array((values * factors).astype(np.float32), name))
    return model


def _floats(model: ModelProto) -> Iterator[TensorProto]:
    constants = [each for node in model.graph.node if (each := constant_tensor(node)) is not None]
    for tensor in (*model.graph.initializer, *constants):
        if tensor.data_type == TensorProto.FLOAT and np.prod(tensor.dims) > _SMALL:
            yield tensor


def made_of(model: ModelProto) -> Mapping[str, Callable[[], ModelProto]]:
    """What each converter makes of it, in float32 with what float16 rounds."""
    from onnxruntime.transformers.float16 import convert_float_to_float16

    copy = ModelProto()
    copy.CopyFrom(model)
    ours = converted(model)
    return {
        "ampgraph": lambda: as_stored(ours.model),
        "without rests": lambda: as_stored(without_rests(ours.model)),
        "to the nearest": lambda: as_stored(without_rests(to_the_nearest(ours))),
        "each operator": lambda: simulate(ours.model),
        "ort float16": lambda: simulate(convert_float_to_float16(copy, keep_io_types=True)),
    }


def converted(model: ModelProto) -> ampgraph.Result:
    """As a session of ours is to run it."""
    return ampgraph.convert(model, shapes={"x": SHAPE}, cuda_graph=True, native=True, opset=OPSET)


def to_the_nearest(result: ampgraph.Result) -> ModelProto:
    """The converted model with every weight of a convolution to the nearest float16."""
    model = ModelProto()
    model.CopyFrom(result.model)
    source = {tensor.name: tensor for tensor in result.planned.prepared.graph.initializer}
    weights = {node.input[1] for node in model.graph.node if node.op_type == "Conv"}
    for tensor in model.graph.initializer:
        if tensor.name in weights and tensor.data_type == TensorProto.FLOAT16:
            tensor.raw_data = numpy_helper.to_array(source[tensor.name]).astype(np.float16).tobytes()
    return model


def without_rests(model: ModelProto) -> ModelProto:
    """The model with what low constants say alone."""
    bare = ModelProto()
    bare.CopyFrom(model)
    constants = [node.attribute[0].t for node in bare.graph.node if node.op_type == "Constant"]
    for tensor in (*bare.graph.initializer, *constants):
        del tensor.metadata_props[:]
    return bare


def as_stored(model: ModelProto) -> ModelProto:
    """As a session of ours computes it: what an operator of ours does not store it does not round."""
    found = rewrite(model, {"x": SHAPE})
    assert found is not None
    stored = {name for node in found.model.graph.node for name in node.output}
    rounding = simulate(expanded(found.model))
    wide = {node.input[0]: node.output[0] for node in rounding.graph.node if _casts_to(node, TensorProto.FLOAT)}
    for node in rounding.graph.node:
        if _casts_to(node, TensorProto.FLOAT16) and wide.get(node.output[0], "") not in {*stored, ""}:
            node.attribute[0].i = TensorProto.FLOAT
    del rounding.graph.value_info[:]
    return rounding


def _casts_to(node: NodeProto, kind: int) -> bool:
    return node.op_type == "Cast" and node.attribute[0].i == kind


def answers(model: ModelProto, x: npt.NDArray[np.float32]) -> Answers:
    """Of all lines, as many at a time as models are made for."""
    session = open_session(model, provider=CPU)
    parts = [x[start : start + SHAPE[0]] for start in range(0, len(x), SHAPE[0])]
    return np.concatenate([next(iter(run(session, {"x": part}).values())) for part in parts]).astype(np.float64)


def errors(model: ModelProto, x: npt.NDArray[np.float32], expected: Answers) -> Answers:
    """Relative L2 of every line, and of all together at the end."""
    found = answers(model, x)
    pairs = [*zip(found, expected, strict=True), (found, expected)]
    return np.array([np.linalg.norm(one - other) / np.linalg.norm(other) for one, other in pairs])


def correlations(result: ampgraph.Result, x: npt.NDArray[np.float32]) -> dict[str, float]:
    """Between what channels are expected to hold and what they hold on average of these lines, over convolutions."""
    graph, model = result.planned.graph, ModelProto()
    model.CopyFrom(result.planned.prepared)
    expected = expected_inputs(graph, tables(model, Path()))
    names = {id: graph.ops[id].inputs[0].value for id, each in expected.items() if len(each.mean) > _FEW}
    model.graph.output.extend(ValueInfoProto(name=name) for name in dict.fromkeys(names.values()))
    held = run(open_session(model, provider=CPU), {"x": x[: SHAPE[0]]})
    found = [np.corrcoef(expected[id].mean, held[name].mean((0, 2, 3)))[0, 1] for id, name in names.items()]
    return {f"{share:.0%} are below": float(np.quantile(found, share)) for share in (0.1, 0.25, 0.5, 0.75)}


def said(found: Mapping[str, list[Answers]]) -> dict[str, dict[str, float]]:
    """Of each converter, over the draws: the mean line, the median line and all together, and the line off most."""
    whole = {name: np.stack(draws) for name, draws in found.items()}
    line = int(np.argmax(np.mean([draws[:, :-1].mean(0) for draws in whole.values()], 0)))
    return {
        name: {
            "mean line": float(draws[:, :-1].mean()),
            "median line": float(np.median(draws[:, :-1], 1).mean()),
            "all together": float(draws[:, -1].mean()),
            f"line {line}, least": float(draws[:, line].min()),
            f"line {line}, most": float(draws[:, line].max()),
        }
        for name, draws in whole.items()
    }


def main() -> None:
    """Print and keep the mean line's error of every draw, and what all draws say."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("corpus", type=Path)
    source = onnx.load(parser.parse_args().corpus / f"{NAME}.onnx")
    x = lines_of_text(phrases(LINES))
    kept: dict[str, dict[str, float]] = {}
    found: dict[str, list[Answers]] = {}
    for seed in range(DRAWS):
        model = drawn(source, seed)
        expected = answers(model, x)
        for name, each in made_of(model).items():
            found.setdefault(name, []).append(errors(each(), x, expected))
        case = {name: float(draws[-1][:-1].mean()) for name, draws in found.items()}
        kept[f"draw {seed}" if seed else "as trained"] = case
        print(table(["weights", *case], [[name, *each.values()] for name, each in list(kept.items())[-1:]]), flush=True)
    whole = said(found)
    print(
        table(["over all draws", *next(iter(whole.values()))], [[name, *each.values()] for name, each in whole.items()])
    )
    means = correlations(converted(source), x)
    print(table(["means, as expected and as they are", *means], [["correlation", *means.values()]]))
    print(keep("rounding_draws", {"mean error": kept, "over all draws": whole, "correlation of means": means}))


if __name__ == "__main__":
    main()
