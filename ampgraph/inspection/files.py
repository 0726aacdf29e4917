"""Files: an ONNX model, converted, to be converted or as others made it, to a document."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, replace

from ampgraph.conversion import Planned, collector_at_rest, plan_model, plan_prepared, rule_book
from ampgraph.cost import price
from ampgraph.costs import Costs
from ampgraph.devices import device_named
from ampgraph.errors import OptionError
from ampgraph.inspection.build import Heading, build, build_graph, precisions, same_nodes
from ampgraph.inspection.document import Document, Graph, State
from ampgraph.inspection.kinship import require_source
from ampgraph.inspection.view import View, raised
from ampgraph.kernels import onnxruntime_cuda
from ampgraph.onnx_model import io
from ampgraph.onnx_model.facets import read_facets
from ampgraph.onnx_model.io import Loaded
from ampgraph.onnx_model.marks import is_changed, is_output, notes_on, recall
from ampgraph.onnx_model.prepare import prepare
from ampgraph.options import Options
from ampgraph.own_kernels import own_kernels
from ampgraph.precision import LOW_PRECISIONS, Precision
from ampgraph.ranges import propagate


@dataclass(frozen=True)
class Looked:
    """A model that was looked at: what is known of it, and how it came to be so."""

    planned: Planned
    state: State
    decided: bool  # whether the plan was made now, rather than read from the file


def look(loaded: Loaded, options: Options, as_is: bool | None = None) -> Looked:
    """Plan what `convert` would do, or take the model as it is.

    `as_is` None: a model that has low precision in it already is taken as it is. Raises OptionError where a model that
    ampgraph converted is to be planned again.
    """
    if is_changed(loaded.model) and as_is is False:
        fact = "asks to plan a model that ampgraph converted already"
        raise OptionError("--planned", fact, "name its float32 source, or leave the option out")
    converted = is_output(loaded.model)
    if as_is is False or not (converted or as_is):
        planned = plan_model(loaded, options)
        if as_is is False or not _is_low(planned):
            return Looked(planned, "planned", True)
    priced = replace(options, keep="", low="", io="keep", plan=None)  # without the wishes, which would change a plan
    planned = plan_model(loaded, priced, as_is=True)
    present = _present_low(planned)
    if present != options.precision:
        planned = plan_model(loaded, replace(priced, precision=present), as_is=True)
    return Looked(planned, "converted" if converted else "found", False)


def _is_low(planned: Planned) -> bool:
    """Whether an op of the model computes in low precision as it is."""
    return any(each.kind == "op" and each.present in LOW_PRECISIONS for each in planned.graph.decisions.values())


def _present_low(planned: Planned) -> Precision:
    """The low precision that a model is in, the asked one where it is in none."""
    counted = Counter(each.present for each in planned.graph.decisions.values() if each.present in LOW_PRECISIONS)
    return counted.most_common(1)[0][0] if counted else planned.options.precision


def document_of(looked: Looked, source: Loaded | None = None, notes: tuple[str, ...] = ()) -> Document:
    """The document of a model. `source`: the model that it was made from, if that is to be shown too.

    Raises OptionError for a source that is another model.
    """
    with collector_at_rest():
        before = _source_graph(looked, source)
        view = _view(looked)
        if before is None:
            return build(view, _heading(looked, notes))
        document = build(replace(view, before=precisions(before)), _heading(looked, notes), before)
        if source is not None:
            require_source(document.graph, before, document.name, str(source.path or "the model before"))
        return replace(document, source=None) if same_nodes(document.graph, before) else document


def _source_graph(looked: Looked, source: Loaded | None) -> Graph | None:
    """The picture of the source as it is: the file that was given, or the model before it was fused."""
    planned = looked.planned
    options = planned.options
    if source is None and not planned.plan.fused:
        return None
    loaded = source or planned.loaded
    prepared = io.with_operands(prepare(loaded.model), loaded.folder)
    asked = replace(options, shapes=planned.shapes if source is None else options.shapes, keep="", low="", io="keep")
    before = plan_prepared(loaded, prepared, asked, planned.shapes, None, as_is=True)
    return build_graph(_view(Looked(before, "found", False)))


def _view(looked: Looked) -> View:
    planned = looked.planned
    graph, model, folder = planned.graph, planned.prepared, planned.loaded.folder
    source = planned.loaded.model if planned.plan.fused else None
    return View(
        graph,
        planned.judgement,
        planned.costs if looked.decided else costs_in_both(planned),
        planned.plan,
        propagate(graph),
        rule_book(planned.options),
        onnxruntime_cuda() if planned.options.target == "onnxruntime-cuda" else None,
        read_facets(model, graph, folder, source),
        looked.state,
        looked.decided,
    )


def costs_in_both(planned: Planned) -> Costs:
    """Prices in both precisions, whichever the model is in."""
    options, graph = planned.options, raised(planned.graph)
    device = device_named(options.device, cuda_graph=options.cuda_graph)
    categories = {key: str(verdict.category) for key, verdict in planned.judgement.verdicts.items()}
    own = own_kernels(graph, planned.judgement, options)
    return price(graph, options.objective, device, options.precision, categories, planned.measured, own)


def _heading(looked: Looked, notes: tuple[str, ...]) -> Heading:
    planned = looked.planned
    model, options, path = planned.loaded.model, planned.options, planned.loaded.named
    producer = f"{model.producer_name} {model.producer_version}".strip()
    return Heading(
        path.name if path else model.graph.name or "model",
        producer,
        options.target,
        options.device,
        options.objective,
        planned.shapes,
        (
            *planned.judgement.notes,
            *planned.graph.notes,
            *_fusing(planned),
            *_session(planned),
            *_past(looked),
            *_assumed(looked),
            *notes,
        ),
    )


def _of_model(looked: Looked) -> tuple[str, ...]:
    """Notes on how it was, or would be, converted."""
    planned = looked.planned
    return (*_fusing(planned), *_session(planned), *_past(looked), *_assumed(looked))


def _past(looked: Looked) -> tuple[str, ...]:
    model = looked.planned.loaded.model
    return tuple(notes_on(model, looked.planned.options)) if looked.state == "converted" and is_output(model) else ()


def _assumed(looked: Looked) -> tuple[str, ...]:
    """Free dimensions that nobody gave, now or when the model was converted."""
    planned, past = looked.planned, recall(looked.planned.loaded.model)
    given = dict(planned.options.shapes)
    if past is not None:  # whose shapes were taken over, assumed ones too
        given = {name: each for name, each in given.items() if name in past.options.shapes or each != past.shapes[name]}
    names = replace(planned, options=replace(planned.options, shapes=given)).assumed
    return (f"free dimensions of {', '.join(names)} are assumed; say yours with --shape",) if names else ()


def _session(planned: Planned) -> tuple[str, ...]:
    return (f"a session opens it in: {planned.session.words}",) if planned.session else ()


def _fusing(planned: Planned) -> tuple[str, ...]:
    fused = (f"fused first: {planned.plan.fused}",) if planned.plan.fused else ()
    return fused + ((f"a fused model was {planned.fusing}",) if planned.fusing else ())
