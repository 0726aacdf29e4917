"""Fastest: of the settings that a session could have, the one that these inputs run fastest in, by the clock.

Nothing that can be read off a model says it. On one H100, milliseconds, the rule of `Session` and the best setting:
PP-OCRv4 rec at batch 1 without CUDA graphs 2.42 in TF32 and 2.19 without, det 2.81 and 2.61 with channels last;
ConvNeXt-T at batch 1 as a CUDA graph 0.554 with channels last and 0.518 without.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from onnx import ModelProto, TensorProto

from ampgraph.errors import ModelError
from ampgraph.onnx_model.bench import Spread, interleaved, sampler, spread
from ampgraph.onnx_model.bound import Bound
from ampgraph.onnx_model.compare import output_errors
from ampgraph.onnx_model.names import walk
from ampgraph.onnx_model.native.opening import choices_of_kernels
from ampgraph.onnx_model.preferences import CONVOLUTIONS, prefers_channels_last, takes_biases_inside
from ampgraph.onnx_model.run import CUDA
from ampgraph.onnx_model.session import Session
from ampgraph.onnx_model.setup import chosen_provider
from ampgraph.onnx_model.sources import as_loaded
from ampgraph.settings import Choice, Setting

ROUNDS = 7
_AGREES = 3e-2  # relative L2 between settings: TF32 in deep networks
_IN_TF32 = (*CONVOLUTIONS, "MatMul", "Gemm", "Einsum", "LSTM", "GRU", "RNN", "Attention")


@dataclass(frozen=True)
class _Tried:
    setting: Setting
    session: Session
    bound: Bound


def settings_of(
    model: ModelProto, shapes: Mapping[str, Sequence[int]] | None = None, cuda_graph: bool = True
) -> tuple[Setting, ...]:
    """The settings that could be faster one than the other, the session's own rule first.

    `shapes`: as of `Session`. `cuda_graph`: whether it replays one.
    """
    low = {tensor.name for tensor in model.graph.initializer if tensor.data_type != TensorProto.FLOAT}
    places = [Setting()]
    if any(node.op_type in CONVOLUTIONS for node in model.graph.node):
        flipped = not takes_biases_inside(model)
        places += [Setting(not prefers_channels_last(model, True), True), Setting(True, True, flipped)]
    places += [Setting(native=each) for each in choices_of_kernels(model, shapes or {}, cuda_graph)]
    products = [node for node in walk(model.graph) if node.op_type in _IN_TF32]
    if all(len(node.input) > 1 and node.input[1] in low for node in products) and not model.functions:
        return tuple(places)
    return (*places, *(replace(each, tf32=False) for each in places if each.native == "auto"))


def fastest(
    source: Any,  # noqa: ANN401  (the types of four libraries)
    feeds: Mapping[str, Any],
    *,
    provider: str = "best",
    cuda_graph: Choice = "auto",
    shapes: Mapping[str, Sequence[int]] | None = None,
) -> Session:
    """The session whose runs on these inputs take least, of all settings that open; its `notes` say which it is.

    Raises what `Session` raises where its own choice does not open or run on these inputs.
    """
    given: dict[str, Any] = {"provider": provider, "cuda_graph": cuda_graph, "shapes": shapes}
    first = Session(source, **given)
    bound = first.bind(feeds)
    if chosen_provider(provider) != CUDA:
        return first
    tried = list(_opened(source, first, bound, feeds, given))
    times = [spread(samples) for samples in interleaved([sampler(each.bound) for each in tried], ROUNDS)]
    best = min(range(len(tried)), key=lambda place: times[place].median)
    tried[best].session.note(_words(tried[best].setting, times[best], len(tried)))
    return tried[best].session


def _opened(
    source: Any,  # noqa: ANN401
    first: Session,
    bound: Bound,
    feeds: Mapping[str, Any],
    given: Mapping[str, Any],
) -> Iterator[_Tried]:
    """Sessions in every setting that opens, bound, and gives the first one's answers."""
    own = _Tried(first.recorded.setting if first.recorded else Setting(), first, bound)
    answers = own.bound.outputs()
    yield own
    for setting in settings_of(as_loaded(source).model, given["shapes"], first.cuda_graph):
        if setting == own.setting:
            continue
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", RuntimeWarning)  # the first one has said it
                session = Session(source, **given, **setting.options)
            bound = session.bind(feeds)
        except ModelError:
            continue
        if all(error.within(_AGREES) for error in output_errors(answers, bound.outputs())):
            yield _Tried(setting, session, bound)


def _words(setting: Setting, took: Spread, count: int) -> str:
    return f"fastest of {count} settings: {setting.words}, {took.median:.3g} ms a run"
