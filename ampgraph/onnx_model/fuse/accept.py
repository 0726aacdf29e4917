"""Accept: a fused model counts only where, in float32, it gives the answers of the model it was made from.

Both are run as they are written, without the runtime's own optimizations, which would move answers and take longer than
the run. Where there is no GPU, operators that only CUDA has a kernel for are computed by standard ones: what is wired,
counted and grouped is checked, the kernel is not. Sizes that nobody asked for are small: wiring needs no large image.
What holds at some sizes alone is seen at others: free dimensions are tried at two, where the model runs at both.

Some answers hold fewer digits than float32 has: the small probabilities of a segmentation, say, move by 2e-3 when the
runtime merely folds constants into weights. Where the bar is missed, it becomes what the runtime's own optimizations
move the answers of the source by.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from onnx import ModelProto
from onnxruntime import InferenceSession

from ampgraph.onnx_model.blank import instead
from ampgraph.onnx_model.compare import OutputError, output_errors
from ampgraph.onnx_model.feeds import shapes_of
from ampgraph.onnx_model.fuse.elsewhere import tried_sizes
from ampgraph.onnx_model.fuse.view import Shape
from ampgraph.onnx_model.io import first_line
from ampgraph.onnx_model.run import CPU, Feed, best_provider, fitted, open_session, random_inputs, run
from ampgraph.onnx_model.sizes import first_that_runs, small_first
from ampgraph.onnx_model.skeleton import Weights, read_in, weights_apart
from ampgraph.onnx_model.stepwise import cuda_only
from ampgraph.onnx_model.types import fixed_size

TOLERANCE = 1e-4  # relative L2: sums in another order, which deep networks amplify
_OWN_MOVES = 2.0  # times what the source moves by: two different orders of sums are apart, not one
_MOST = 1e-2  # relative L2, however little the answers hold
_BATCH = 2
_UNPACKED = {"session.disable_prepacking": "1"}  # on the CPU, where one run does not pay for weights in another layout


@dataclass(frozen=True)
class _Opened:
    session: InferenceSession
    weights: Weights  # which the session reads where they lie
    as_written: bool


def difference(
    model: ModelProto,
    fused: ModelProto,
    shapes: Mapping[str, Shape],
    folder: Path | None,
    *,
    assumed: Collection[str] = (),
) -> str:
    """How the answers of a fused model differ, "" where they do not. Runs both, on generated inputs, small batches.

    `assumed`: inputs whose free sizes nobody gave, and that others may do for.
    """
    try:
        reference = _opened(model, folder)
        sizes = small_first(model, _small_batches(model, shapes), assumed)
        feeds, expected = first_that_runs(model, reference.session, sizes)
    except Exception as error:  # onnxruntime's exceptions share no base class
        return f"the model itself does not run on generated inputs here ({first_line(error)})"
    if nothing := instead(expected):
        return f"the model itself answers generated inputs with {nothing}, which nothing can be compared with"
    rounds = [(feeds, expected), *_elsewhere(model, reference.session, feeds)]
    as_written = reference.as_written
    del reference  # its weights, before the other's are there
    try:
        runs = _opened(fused, folder, for_cpu=best_provider() == CPU).session
        found = [output_errors(answers, run(runs, fitted(runs, given))) for given, answers in rounds]
    except Exception as error:
        return f"the fused model does not run ({first_line(error)})"
    for (given, answers), errors in zip(rounds, found, strict=True):
        if all(each.within(TOLERANCE) for each in errors):
            continue
        noise = _own_moves(model, given, answers, folder) if as_written else {}
        if not all(each.within(max(TOLERANCE, min(noise.get(each.name, 0.0), _MOST))) for each in errors):
            return f"the fused model answers differently ({_worst(errors)})"
    return ""


def _elsewhere(
    model: ModelProto, session: InferenceSession, feeds: Mapping[str, Feed]
) -> list[tuple[Mapping[str, Feed], dict[str, Any]]]:
    """Inputs and answers at other sizes of free dimensions, where the model runs at those too: none or one."""
    shapes = shapes_of(feeds)
    sizes = tried_sizes(model, shapes)
    if sizes == shapes:
        return []
    given = random_inputs(model, shapes=sizes)
    try:
        answers = run(session, fitted(session, given))
    except Exception:  # a model may have one size that it runs at
        return []
    return [] if instead(answers) else [(given, answers)]


def _worst(errors: Collection[OutputError]) -> str:
    """The output that is furthest off, in words: another shape before other infinities before a distance."""
    worst = max(errors, key=lambda each: (bool(each.mismatch), each.nonfinite, each.relative))
    if worst.nonfinite and not worst.mismatch:
        return f"{worst.name}: {worst.nonfinite} elements are NaN or infinite in one of them alone"
    return f"{worst.name}: {worst.mismatch or f'{worst.relative:.1e} relative L2'}"


def _opened(model: ModelProto, folder: Path | None, *, for_cpu: bool = False) -> _Opened:
    """A session of the model as it is written, or optimized where an operator opens in no other way."""
    bones, weights = weights_apart(model)
    if for_cpu and cuda_only(bones):
        from ampgraph.onnx_model.simulate import for_any_provider  # onnx_ir is slow to import

        bones = for_any_provider(bones)
        read = read_in(bones.graph)  # a kernel's steps may do without an operand
        weights = {name: array for name, array in weights.items() if name in read}
    config = _UNPACKED if best_provider() == CPU else None
    try:
        session = open_session(bones, optimize="disabled", folder=folder, config=config, weights=weights, once=True)
    except Exception:  # of no common class; what optimizing does not help either is raised then
        return _Opened(open_session(bones, folder=folder, weights=weights, once=True), weights, as_written=False)
    return _Opened(session, weights, as_written=True)


def _own_moves(
    model: ModelProto, feeds: Mapping[str, Feed], expected: Mapping[str, Any], folder: Path | None
) -> dict[str, float]:
    """What the runtime's optimizations move each output of the source by, relative L2, with room for another order."""
    bones, weights = weights_apart(model)
    try:
        session = open_session(bones, folder=folder, weights=weights, once=True)
        errors = output_errors(expected, run(session, fitted(session, feeds)))
    except Exception:  # it opened as it is written; there is nothing to measure by
        return {}
    return {each.name: _OWN_MOVES * each.relative for each in errors if not (each.mismatch or each.nonfinite)}


def _small_batches(model: ModelProto, shapes: Mapping[str, Shape]) -> dict[str, Shape]:
    """The modelled shapes with small batches: of symbols that stand in first places alone."""
    found = dict(shapes)
    lengths = {dim.dim_param for value in model.graph.input for dim in value.type.tensor_type.shape.dim[1:]} - {""}
    for value in model.graph.input:
        dims = value.type.tensor_type.shape.dim
        if value.name in found and dims and fixed_size(dims[0]) is None and dims[0].dim_param not in lengths:
            found[value.name] = (min(found[value.name][0], _BATCH), *found[value.name][1:])
    return found
