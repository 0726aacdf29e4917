"""Conversion: the road from a source to a checked, saved model, each stage called once, in order."""

from __future__ import annotations

import gc
import shutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

import onnx
from onnx import ModelProto

from ampgraph.cost import price
from ampgraph.costs import Costs
from ampgraph.decide import decide
from ampgraph.devices import device_named
from ampgraph.errors import AmpgraphError, ModelError, OptionError, PlanError
from ampgraph.fusable import most_saved_by_fusing
from ampgraph.graph import Constant, PrecisionGraph
from ampgraph.judge import judge
from ampgraph.judgement import Judgement
from ampgraph.kernels import onnxruntime_cuda
from ampgraph.laws import verify
from ampgraph.measured import MeasuredCosts
from ampgraph.measured import read as read_costs
from ampgraph.onnx_model import io
from ampgraph.onnx_model.apply import apply
from ampgraph.onnx_model.asked_shapes import refuse_unlike
from ampgraph.onnx_model.fuse.accept import difference
from ampgraph.onnx_model.fuse.fuse import Fused, fuse, summary
from ampgraph.onnx_model.fuse.view import Shape
from ampgraph.onnx_model.io import Loaded
from ampgraph.onnx_model.lift import constants_of, lift
from ampgraph.onnx_model.prepare import prepare
from ampgraph.onnx_model.raising import at_opset, opset_of
from ampgraph.onnx_model.schema import known_types
from ampgraph.onnx_model.types import fixed_size, modelled_inputs
from ampgraph.onnx_model.verify import verify_written
from ampgraph.onnx_model.wellformed import refuse_ill_formed
from ampgraph.onnx_model.wished import lost_wish, low_interface, origins_of, wishes_in
from ampgraph.options import Options
from ampgraph.own_kernels import own_kernels
from ampgraph.plan import Plan, Replacement, from_json, is_fused, make_plan, session_in, unread, untouched
from ampgraph.ranges import propagate
from ampgraph.rulebook import RuleBook, load_builtin, with_user_file
from ampgraph.settings import MeasuredSetting
from ampgraph.stamp import is_output_of, plan_text, session_of, stamp, stamp_of
from ampgraph.worth import hardly_pays, left_alone

if TYPE_CHECKING:
    from ampgraph.onnx_model.tune import Tuned

Look = Callable[[Path, str], None]

FUSABLE = 0.3  # a bound on what fusing saves, of the modelled time; where it is less, it is not looked for
FUSING_WORTHWHILE = 0.02  # of the modelled time: every fused operator measured faster than what it stands for
FUSING_FAILED = "fusing failed"


@dataclass(frozen=True)
class Planned:
    """A model on which everything is decided and nothing written."""

    loaded: Loaded  # as the user gave it, at the opset they asked for
    prepared: ModelProto  # what graph and plan speak of
    options: Options
    shapes: Mapping[str, tuple[int, ...]]  # that the inputs are modelled at
    graph: PrecisionGraph
    judgement: Judgement
    costs: Costs
    plan: Plan
    measured: MeasuredCosts | None = None  # that times come from where they are there
    fusing: str = ""  # why a fused model that looked faster was not taken
    tuned: Tuned | None = None  # what was measured to choose the plan
    source_price: int | None = None  # of the model before fusing, where something was fused and this is known
    unread: tuple[str, ...] = ()  # what the plan file tells otherwise than it follows from the decisions

    def __repr__(self) -> str:
        return f"<Planned: {self.plan!r}>"

    @property
    def changes_nothing(self) -> bool:
        """Whether the plan leaves every operator and decision as it is."""
        return self.lowers_nothing and not self.plan.fused

    @property
    def lowers_nothing(self) -> bool:
        """Whether every decision stays in the precision that it has, fused or not."""
        decisions = self.graph.decisions
        return all(choice.precision is decisions[key].present for key, choice in self.plan.choices.items())

    @property
    def session(self) -> MeasuredSetting | None:
        """The setting of a session that the result records: the plan's, or that of a file which is left as it is."""
        left = self.changes_nothing and self.plan.session is None
        return session_of(self.loaded.model) if left else self.plan.session

    @property
    def assumed(self) -> tuple[str, ...]:
        """Inputs whose free dimensions nobody gave."""
        free = {
            value.name
            for value in self.prepared.graph.input
            if any(fixed_size(dim) is None for dim in value.type.tensor_type.shape.dim)
        }
        return tuple(name for name in self.shapes if name in free and name not in self.options.shapes)

    @property
    def is_as_found(self) -> bool:
        """Whether the result is the model as it was given, marks included: an output of ours, left as it is."""
        return self.changes_nothing and is_output_of(self.loaded.model, self.options)


@dataclass(frozen=True)
class Converted:
    """A finished conversion. `path` is where it was written; `held` the model where it was not."""

    planned: Planned
    path: Path | None
    held: ModelProto | None
    complaint: str = ""  # what onnx's checker says of the result, and says of the source too

    def __repr__(self) -> str:
        return f"<Converted{f' {self.path}' if self.path else ''}: {self.planned.plan!r}>"

    @cached_property
    def model(self) -> ModelProto:
        """The converted model, with its external data."""
        if self.held is not None:
            return self.held
        assert self.path is not None  # one of the two is set
        return onnx.load(self.path)


@contextmanager
def collector_at_rest() -> Iterator[None]:
    """Millions of small live objects make the cyclic collector quadratic; nothing here makes cycles."""
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()


@contextmanager
def _text_is_text(loaded: Loaded) -> Iterator[None]:
    """protobuf decodes names when they are asked for, wherever that is."""
    try:
        yield
    except UnicodeDecodeError as error:
        fact = f"holds a name that is no UTF-8 ({error.reason})"
        raise ModelError(str(loaded.named or "model"), fact, "export or copy it again") from None


def plan_model(loaded: Loaded, options: Options, *, as_is: bool = False) -> Planned:
    """Lift, fuse, judge, decide, plan and verify; nothing is written. `as_is`: the plan that leaves the model alone."""
    with collector_at_rest(), _text_is_text(loaded):
        loaded = _at_opset(loaded, options.opset)
        prepared = io.with_operands(prepare(loaded.model), loaded.folder)
        refuse_ill_formed(prepared, str(loaded.named or prepared.graph.name or "model"))
        shapes = _shapes(prepared, options)
        text = None if as_is else plan_text(options)
        if text is not None and is_fused(text):
            return _planned_as_fused(loaded, prepared, options, shapes, text)
        plain = plan_prepared(loaded, prepared, options, shapes, text, as_is=as_is)
        may_fuse = options.fuse and options.target == "onnxruntime-cuda" and options.objective == "speed"
        return _fused_if_faster(plain) if may_fuse and text is None and not as_is else plain


def plan_prepared(
    loaded: Loaded,
    model: ModelProto,
    options: Options,
    shapes: Mapping[str, Shape],
    text: str | None,
    *,
    as_is: bool = False,
    known: Mapping[str, Shape] | None = None,
    measured: Mapping[str, Constant] | None = None,
) -> Planned:
    """The plan of a prepared model. `text`: a plan file's, if there is one.

    `known`: shapes of what fused ops make. `measured`: what is known of constants already.
    """
    graph = lift(model, shapes, options.precision, loaded.folder, known, measured)
    judgement = _judged(graph, options, model, loaded.model)
    categories = {key: str(verdict.category) for key, verdict in judgement.verdicts.items()}
    times = read_costs(options.costs) if options.costs else None
    if times is not None and options.cuda_graph:
        times = replace(times, launch=0.0)
    device = device_named(options.device, cuda_graph=options.cuda_graph)
    own = own_kernels(graph, judgement, options)
    costs = price(graph, options.objective, device, options.precision, categories, times, own)
    if as_is:
        low = untouched(graph, options.precision)
    elif text is not None:
        low = from_json(text, str(options.plan), graph, judgement, options.objective)
    else:
        low = decide(graph, own.tied(judgement), costs)
    decides = options.objective == "speed" and text is None and not as_is
    if decides and hardly_pays(graph, judgement, costs, low, cuda_graph=options.cuda_graph):
        plan = left_alone(graph, judgement, costs, low)
    else:
        plan = make_plan(graph, judgement, costs, low, options.objective)
    session = session_in(text, str(options.plan)) if text is not None else None
    plan = replace(plan, tuned=stamp_of(options)[1], session=session)
    if not as_is:  # what the judge asks for is not yet in a model as it is
        verify(graph, judgement, plan, costs)
    plan = replace(plan, model=loaded.named.name if loaded.named else model.graph.name, options=options.digest())
    told = unread(text, plan) if text is not None else ()
    return Planned(loaded, model, options, shapes, graph, judgement, costs, plan, times, unread=told)


def _fused_if_faster(plain: Planned) -> Planned:
    """The plan of the fused model where that is faster by the cost model, and its answers are right."""
    worth = most_saved_by_fusing(plain.graph, plain.costs) > FUSABLE * plain.plan.cost
    found, failed = _fuse(plain.prepared, plain.shapes) if worth else (None, "")
    if found is None:
        return replace(plain, fusing=f"left out: {failed}") if failed else plain
    lost = lost_wish(plain.graph, plain.judgement, plain.options, found.model)
    if lost:
        return replace(plain, fusing=f"left out: {lost}")
    known, same, options = found.shapes, constants_of(plain.graph, found.own), plain.options
    try:
        fused = plan_prepared(plain.loaded, found.model, options, plain.shapes, None, known=known, measured=same)
    except OptionError as error:  # the operator that a wish for low precision comes to has no such kernel
        return replace(plain, fusing=f"left out: {error}")
    if fused.plan.cost > (1 - FUSING_WORTHWHILE) * plain.plan.cost:
        return plain
    flaw = difference(plain.prepared, found.model, plain.shapes, plain.loaded.folder, assumed=plain.assumed)
    if flaw:
        return replace(plain, fusing=f"left out: {flaw}")
    return named_as_fused(fused, found.counts, plain.plan.baseline)


def _fuse(model: ModelProto, shapes: Mapping[str, Shape]) -> tuple[Fused | None, str]:
    """The fused model, and what fusing failed with, "" where it did not: a fault of ours costs speed, no conversion."""
    try:
        return fuse(model, shapes), ""
    except AmpgraphError:
        raise
    except Exception as error:  # whatever a pattern takes for granted that a model does not keep
        return None, f"{FUSING_FAILED} ({type(error).__name__}: {error}); please report it with the model"


def _planned_as_fused(
    loaded: Loaded, prepared: ModelProto, options: Options, shapes: Mapping[str, Shape], text: str
) -> Planned:
    """What a plan file of a fused model asks for."""
    found, failed = _fuse(prepared, shapes) if options.fuse else (None, "")
    flaw, assumed = failed or "nothing is fused here", shapes.keys() - options.shapes.keys()
    if found is not None:
        flaw = difference(prepared, found.model, shapes, loaded.folder, assumed=assumed)
    if found is not None and not flaw and (options.keep or options.low):
        plain = plan_prepared(loaded, prepared, options, shapes, None, as_is=True)
        flaw = lost_wish(plain.graph, plain.judgement, options, found.model)
    if found is None or flaw:
        fact = f"is of a fused model, and {flaw}"
        raise PlanError(str(options.plan), fact, "plan this model anew, with the options of the plan")
    planned = plan_prepared(loaded, found.model, options, shapes, text, known=found.shapes)
    return named_as_fused(planned, found.counts)


def named_as_fused(planned: Planned, counts: Mapping[str, int], source_price: int | None = None) -> Planned:
    """With what was fused in the plan, in words and node by node, and what the model was priced at before."""
    ops = planned.graph.ops
    replaced = {id: Replacement(ops[id].type, names) for id, names in origins_of(planned.prepared).items() if id in ops}
    plan = replace(planned.plan, fused=summary(counts), replaced=replaced)
    return replace(planned, plan=plan, source_price=source_price)


def _at_opset(loaded: Loaded, opset: int) -> Loaded:
    own = opset_of(loaded.model)
    if opset in (0, own):
        return loaded
    if opset < own:
        fact = f"is below the opset of {loaded.named or 'the model'}, which is {own}"
        raise OptionError(f"--opset {opset}", fact, "give a later one, or leave the option out")
    return Loaded(at_opset(loaded.model, opset, str(loaded.path or "model")), loaded.folder, origin=loaded.path)


def _shapes(model: ModelProto, options: Options) -> Mapping[str, tuple[int, ...]]:
    refuse_unlike(model, options.shapes)
    found = modelled_inputs(model, options.shapes)
    if options.shapes and found and all(0 in shape for shape in found.values()):
        fact = "leaves every input of the model without elements"
        raise OptionError(f"--shape {next(iter(options.shapes))}", fact, "give sizes of real inputs")
    return found


def rule_book(options: Options, graph: PrecisionGraph | None = None) -> RuleBook:
    """The built-in rules with the user's over them. `graph`: whose operators may be named though no schema has them."""
    book = load_builtin()
    if options.rules is None:
        return book
    known = None if graph is None else known_types().union(op.type for op in graph.ops.values())
    return with_user_file(book, options.rules, known)


def _judged(graph: PrecisionGraph, options: Options, model: ModelProto, file: ModelProto) -> Judgement:
    kernels = onnxruntime_cuda() if options.target == "onnxruntime-cuda" else None
    wishes = wishes_in(model, options, low_interface(graph, options.io), file)
    return judge(graph, rule_book(options, graph), propagate(graph), options.precision, kernels, wishes)


def convert_model(planned: Planned, destination: Path | None = None, look: Look | None = None) -> Converted:
    """Apply, write, check and save what is planned. Raises before anything appears at `destination`.

    `look` is shown the finished file, not yet at its destination, and the checker's complaint about it.
    """
    with collector_at_rest():
        model = _made(planned)
        if destination is None:
            return _held(planned, model)
        with io.staging(destination) as folder:
            path = folder / destination.name
            if planned.is_as_found and planned.loaded.path is not None and not io.external_tensors(model):
                shutil.copyfile(str(planned.loaded.path), path)  # byte for byte
            else:
                io.write(model, planned.loaded.folder, folder, destination.name)
            complaint = _checked(planned, path)
            if look is not None:
                look(path, complaint)
            io.publish(folder, destination)
    return Converted(planned, destination, None, complaint)


def _made(planned: Planned) -> ModelProto:
    """The plan in a copy of the model, with marks; what changes nothing gets them too, and reasons on its nodes."""
    if planned.is_as_found:
        return planned.loaded.model
    by_us = planned.options.target == "onnxruntime-cuda"  # what sessions of ours may run
    model = apply(planned.prepared, planned.graph, planned.plan, planned.loaded.folder, rests=by_us)
    stamp(model, planned.options, planned.plan, planned.shapes, unchanged=planned.changes_nothing)
    return model


def _held(planned: Planned, model: ModelProto) -> Converted:
    """A conversion that stays in memory; external data are read and rounded now."""
    if io.external_tensors(model):
        model = io.with_data(model, planned.loaded.folder)
    complaint = "" if planned.is_as_found else _verified(planned, model, io.check_model(model))
    return Converted(planned, None, model, complaint)


def _checked(planned: Planned, path: Path) -> str:
    if planned.is_as_found:
        return ""
    return _verified(planned, io.load(path).model, io.check_file(path), path.parent)


def _verified(planned: Planned, model: ModelProto, complaint: str, folder: Path | None = None) -> str:
    """The written model shows the plan and passes the checker, or fails it just as its source does."""
    verify_written(model, planned.graph, planned.plan, folder)
    if complaint and not io.check_loaded(planned.loaded):
        raise ModelError("the converted model", f"fails the checker ({complaint})", "please report it with the model")
    return complaint
