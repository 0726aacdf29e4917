"""`ampgraph.compare`: two models on the same inputs, outputs and inner values."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from numbers import Real
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime as ort

from ampgraph import __version__
from ampgraph.errors import OptionError
from ampgraph.graph import PrecisionGraph
from ampgraph.inspection.comparison import FORMAT, Comparison
from ampgraph.inspection.kinship import Step, are_strangers, connections
from ampgraph.inspection.verdict import Verdict, judge
from ampgraph.onnx_model.advice import advice_for
from ampgraph.onnx_model.batches import MOST_BYTES
from ampgraph.onnx_model.check import tolerance as bar_of
from ampgraph.onnx_model.compare import blank, tensors_of
from ampgraph.onnx_model.compare_values import Progress, aligned, comparable, differences
from ampgraph.onnx_model.feeds import refuse_both
from ampgraph.onnx_model.first_runs import Means, both_sides, first_runs, name_of, refuse_other_inputs
from ampgraph.onnx_model.given import as_data, name_of_data
from ampgraph.onnx_model.inventory import Inventory, take_inventory
from ampgraph.onnx_model.inventory import Path as Place
from ampgraph.onnx_model.io import Loaded
from ampgraph.onnx_model.marks import shapes_asked_for
from ampgraph.onnx_model.matching_values import Pair, match
from ampgraph.onnx_model.moments import moments
from ampgraph.onnx_model.output_differences import is_sequence, output_differences, sequence_differences
from ampgraph.onnx_model.run import CPU, CUDA, Feed, Provider, best_provider
from ampgraph.onnx_model.sources import as_loaded
from ampgraph.onnx_model.surfacing import unreachable
from ampgraph.onnx_model.timing import device_name
from ampgraph.options import FilePath, as_shapes
from ampgraph.precision import LOW_PRECISIONS, Precision
from ampgraph.wording import are, numbered

PROVIDERS = ("auto", "cuda", "cpu")


def compare(
    reference: Any,  # noqa: ANN401  (a path or the models of three libraries)
    candidate: Any,  # noqa: ANN401
    data: Mapping[str, Any] | FilePath = None,
    *,
    tolerance: float | None = None,
    provider: str = "auto",
    shapes: Mapping[str, Sequence[int]] | None = None,
    most_bytes: int = MOST_BYTES,
    progress: Progress | None = None,
) -> Comparison:
    """Run two models on the same inputs and compare their outputs, and every inner value that both have.

    - `reference`, `candidate`: paths, `onnx.ModelProto`, `onnx_ir.Model` or torch `ONNXProgram`, with the same inputs.
    - `data`: arrays by input name, or an .npz file of them; generated ones without it, of `shapes` where given, else of
      those that a model was converted for.
    - `tolerance`: relative L2 error up to which a value agrees. Without it the bar of `convert(check=True)`: 0.25 where
      a model holds bfloat16, else 0.031, which are 64 roundings.
    - `provider`: "cuda", "cpu", which is ampgraph's own evaluator of low precision, or "auto": CUDA where it opens.
    - `most_bytes`: of values that are fetched at a time from both models. `progress`: told of values done and in all.

    Every operator computes what the file says: nothing is fused or folded. Raises ModelError for a model that does not
    load or run, OptionError for options that mean nothing here, and for inputs that the first model answers with NaN,
    infinities or no elements alone: nothing would be compared.
    """
    if tolerance is not None and not (isinstance(tolerance, Real) and tolerance >= 0):
        raise OptionError(f"tolerance {tolerance!r}", "is no error", "give a number such as 3e-2")
    if data is not None and shapes:
        refuse_both()
    loaded = as_loaded(reference), as_loaded(candidate)
    refuse_other_inputs(*loaded)
    inventories = take_inventory(loaded[0]), take_inventory(loaded[1])
    means = Means(
        as_data(data),
        _bar(inventories) if tolerance is None else float(tolerance),
        chosen(provider),
        as_shapes(shapes) or shapes_asked_for(loaded),
        most_bytes,
        progress or (lambda done, total: None),
    )
    return _compare(loaded, inventories, means)


def _bar(inventories: tuple[Inventory, Inventory]) -> float:
    """The bar that `--check` has for the precision that the models hold."""
    return bar_of(Precision.BFLOAT16 if Precision.BFLOAT16 in _held(inventories) else Precision.FLOAT16)


def _held(inventories: tuple[Inventory, Inventory]) -> tuple[Precision, ...]:
    """The low precisions that values of the models are in."""
    dtypes = {value.dtype for inventory in inventories for value in inventory.graph.values.values()}
    return tuple(precision for precision in LOW_PRECISIONS if precision in dtypes)


def chosen(provider: str) -> Provider:
    """The provider that a word stands for. OptionError where it is none, or CUDA does not open."""
    if provider not in PROVIDERS:
        raise OptionError(f"provider {provider}", "is unknown here", f"choose one of {', '.join(PROVIDERS)}")
    if provider == "cuda" and best_provider() != CUDA:
        raise OptionError("provider cuda", "CUDA does not open here", "use auto or cpu")
    return best_provider() if provider == "auto" else CUDA if provider == "cuda" else CPU


def _compare(loaded: tuple[Loaded, Loaded], inventories: tuple[Inventory, Inventory], means: Means) -> Comparison:
    found = match(*inventories)
    blocked = _blocked(found.pairs, inventories)
    pairs = [pair for pair in found.pairs if comparable(pair) and pair not in blocked]
    with both_sides(loaded, inventories, means.provider) as bare:
        sides, sized, answers = first_runs(bare, pairs, means)
        ran = [each for each in map(aligned, sized) if each is not None]
        values = [*differences(sides, ran, means.tolerance, means.progress, means.most_bytes)]
        values += sequence_differences(sides, found.pairs, means.tolerance)
    outputs = tuple(output_differences(answers, inventories[1], means.tolerance))
    casts = {entry.value.id for entry in inventories[1].made if entry.is_cast}
    verdict = judge(outputs, values, casts, moments(inventories[1].graph, values))
    notes = [*_strangers(inventories, len(ran)), *_skipped(found.pairs, blocked), *_not_run(len(sized) - len(ran))]
    notes += _blanks(answers[0])
    return _comparison(loaded, inventories, (means, sides[0].feeds), verdict, len(found.unmatched), notes)


def _comparison(
    loaded: tuple[Loaded, Loaded],
    inventories: tuple[Inventory, Inventory],
    ran: tuple[Means, Mapping[str, Feed]],
    verdict: Verdict,
    unmatched: int,
    notes: list[str],
) -> Comparison:
    (means, feeds), source = ran, str(loaded[0].path or name_of(loaded[0]))
    firsts = dict.fromkeys((verdict.first_beyond, verdict.first_overflow, verdict.first_flush))
    return Comparison(
        FORMAT,
        f"ampgraph {__version__}",
        name_of(loaded[0]),
        name_of(loaded[1]),
        "cuda" if means.provider == CUDA else "evaluator",
        _runtime(means.provider, _held(inventories)),
        means.data.name if isinstance(means.data, Path) else name_of_data(means.data),
        {name: tuple(feed.shape) for name, feed in feeds.items() if isinstance(feed, np.ndarray)},
        means.tolerance,
        verdict.outputs,
        verdict.values,
        unmatched,
        verdict.first_beyond,
        verdict.first_overflow,
        verdict.first_flush,
        verdict.worst,
        verdict.within,
        tuple(advice_for(inventories[1], id, source) for id in firsts if id),
        tuple(notes),
    )


def _blanks(answers: Mapping[str, Any]) -> Iterator[str]:
    for name, array in tensors_of(answers):
        if what := blank(array):
            yield f"output {name} is not compared: the first model answers with {what}"


def _runtime(provider: Provider, held: tuple[Precision, ...]) -> str:
    if provider == CUDA:
        return f"onnxruntime {ort.__version__} on CUDA ({device_name(provider)}), nothing fused"
    evaluator = f"{' and '.join(held)} evaluator".strip()
    return f"{evaluator} on the CPU (float32 by onnxruntime {ort.__version__}, nothing fused)"


def _blocked(pairs: Sequence[Pair], inventories: tuple[Inventory, Inventory]) -> dict[Pair, str]:
    """Pairs in bodies that cannot be looked into, with the reason."""
    first, second = (unreachable(inventory.model) for inventory in inventories)
    places: list[tuple[Pair, Place, Place]] = [(pair, pair.reference.path, pair.candidate.path) for pair in pairs]
    return {pair: first.get(one) or second[other] for pair, one, other in places if one in first or other in second}


def _strangers(inventories: tuple[Inventory, Inventory], compared: int) -> Iterator[str]:
    """Two models may be compared whatever they are, but inner values of one name need not be the same thing."""
    first, second = (connections(_steps(each.graph)) for each in inventories)
    if compared and are_strangers(first, second):
        counts = f"{len(first & second)} of {min(len(first), len(second))}"
        yield f"the models share {counts} connections between values: they are different ones with names alike"


def _steps(graph: PrecisionGraph) -> Iterator[Step]:
    for op in graph.ops.values():
        read, made = (
            [graph.values[slot.value].name for slot in slots if slot.value] for slots in (op.inputs, op.outputs)
        )
        yield op.type, read, made


def _skipped(pairs: Sequence[Pair], blocked: Mapping[Pair, str]) -> Iterator[str]:
    for reason, count in Counter(blocked.values()).items():
        yield f"{numbered(count, 'value')} in bodies {are(count)} not compared: {reason}"
    others = sum(not comparable(pair) and not is_sequence(pair) and pair not in blocked for pair in pairs)
    if others:
        yield f"{numbered(others, 'value')} {are(others)} not compared: text, maps, optionals, or sequences in bodies"


def _not_run(count: int) -> Iterator[str]:
    if count:
        yield f"{numbered(count, 'value')} {are(count)} in branches that these inputs do not take"
