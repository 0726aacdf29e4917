"""The Python surface: `ampgraph.convert` and its result. The command line uses the same words and nothing else."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from functools import cached_property
from numbers import Real
from pathlib import Path
from typing import Any

from onnx import ModelProto

from ampgraph.conversion import (
    Converted,
    Planned,
    collector_at_rest,
    convert_model,
    plan_model,
    rule_book,
)
from ampgraph.errors import CheckError, OptionError, RequirementError
from ampgraph.explain import explain
from ampgraph.judgement import Cause
from ampgraph.onnx_model import external, io
from ampgraph.onnx_model.check import Check
from ampgraph.onnx_model.check import check as run_check
from ampgraph.onnx_model.facets import recorded_in
from ampgraph.onnx_model.fuse.net import fused_parts
from ampgraph.onnx_model.given import Data, as_data, name_of_data, read_inputs
from ampgraph.onnx_model.io import Loaded
from ampgraph.onnx_model.marks import idle_notes, is_output, options_to_look_at
from ampgraph.onnx_model.opsets import needed_opsets
from ampgraph.onnx_model.sources import as_loaded
from ampgraph.onnx_model.wished import low_interface
from ampgraph.options import FilePath, Options, as_path, as_text, make_options
from ampgraph.outputs import Outputs, staged
from ampgraph.plan import Plan
from ampgraph.plan import to_json as plan_to_json
from ampgraph.precision import Precision
from ampgraph.report import Report, make_report
from ampgraph.report import to_json as report_to_json
from ampgraph.stamp import is_converted
from ampgraph.tuning import tune as tune_model

NUMERIC = (Cause.RULE, Cause.TAINT, Cause.RANGE, Cause.PARAMETER)  # float32 for the numbers' sake


@dataclass(frozen=True)
class Result:
    """What `convert` did. `path`: where the model was written, None where it was not.

    `idle`: notes on options that `examine` was given in vain.
    """

    planned: Planned
    report: Report
    path: Path | None = None
    converted: Converted | None = field(default=None, repr=False)
    idle: tuple[str, ...] = ()

    @property
    def plan(self) -> Plan:
        """Every decision with its precision and reason, and every cast."""
        return self.planned.plan

    @property
    def check(self) -> Check | None:
        """The outcome of `check=True`."""
        return self.report.check

    @cached_property
    def model(self) -> ModelProto:
        """The converted model, with its external data; after a dry run it is made on first use."""
        return (self.converted or convert_model(self.planned)).model

    def __repr__(self) -> str:
        return f"<ampgraph.Result {self.report.summary}>"

    def _repr_html_(self) -> str:
        from ampgraph.inspection.inspect import inspect

        return inspect(self)._repr_html_()

    def explain(self, node: str) -> str:
        """Why a node is in its precision. Raises OptionError for an unknown name, with close ones."""
        as_text("node", node)
        planned, book = self.planned, rule_book(self.planned.options)
        parts = fused_parts(planned.prepared)
        name = parts.get(node, node)
        part = f"{node} became part of {name}, see below; --no-fuse leaves it alone\n\n" if name != node else ""
        session = f"\nopens in: {planned.session.words}\n" if planned.session else ""
        if not self.report.already_converted:
            return part + explain(planned, name, book, parts=parts) + session
        from ampgraph.inspection.files import costs_in_both

        recorded = recorded_in(planned.prepared)
        told = explain(replace(planned, costs=costs_in_both(planned)), name, book, recorded, parts)
        idle = "".join(f"note: {note}\n" for note in self.idle)
        return part + told + session + (f"\n{idle}" if idle else "")


def convert(
    source: Any,  # noqa: ANN401  (the types of five libraries)
    destination: FilePath = None,
    *,
    precision: str = "float16",
    target: str = "onnxruntime-cuda",
    device: str = "h100",
    objective: str = "speed",
    rules: FilePath = None,
    keep: str | Sequence[str] = "",
    low: str | Sequence[str] = "",
    io: str = "keep",
    shapes: Mapping[str, Sequence[int]] | None = None,
    opset: int = 0,
    plan: FilePath = None,
    costs: FilePath = None,
    fuse: bool = True,
    tune: bool = False,
    cuda_graph: bool = False,
    native: bool = False,
    save_plan: FilePath = None,
    report: FilePath = None,
    require: Mapping[str, float] | None = None,
    check: bool = False,
    data: Mapping[str, Any] | FilePath = None,
    force: bool = False,
    dry_run: bool = False,
    example_args: Any = None,  # noqa: ANN401  (a tensor, or a tuple of anything)
    example_kwargs: Mapping[str, Any] | None = None,
) -> Result:
    """Convert a float32 model to mixed precision, and verify what was made.

    `source`: a path, `onnx.ModelProto`, `onnx_ir.Model`, torch `ONNXProgram`, or a `torch.nn.Module` with
    `example_args`, `example_kwargs`: what its forward is called with; a single tensor will do. Without `destination`
    the model stays in memory. Files appear whole, all of them or none; the source is never changed.

    - `precision`: "float16" or "bfloat16". `target`: "onnxruntime-cuda", whose kernels are known, or "onnx".
    - `device`: the deployment's GPU, not the local one. `objective`: "speed", "memory" or "coverage".
    - `rules`: a TOML file of rules that go before the built-in ones.
    - `keep`, `low`: nodes that stay float32, or become low against the rules: regular expressions, one or several,
      that are searched in node names.
    - `io`: "keep" the interface, make float inputs and outputs "low", or a regular expression over their names.
    - `shapes`: input shapes by name that times are modelled at. `opset`: raise the model's opset first.
    - `costs`: times that `ampgraph profile` measured, instead of modelled ones.
    - `fuse`: let operators that onnxruntime has one kernel for become that one, where `speed` gains by it.
    - `cuda_graph`: plan for a model that runs as a CUDA graph, where a launch costs little: small models gain there.
    - `native`: with `cuda_graph`, plan for `ampgraph.Session` and its own kernels, which it takes where it knows the
      input shapes and finds a C compiler; elsewhere the model runs too, but may be slower than its source.
    - `tune`: measure candidate plans end to end on the GPU that is here, with `data` or generated inputs, in every
      setting that a session can have, and take the fastest of all; the file records the setting, in which `Session`
      opens it, and the saved plan gives the same bytes again without measuring.
    - `plan`: apply this saved and perhaps edited plan. `save_plan`, `report`: write the plan, the report as JSON.
    - `require`: thresholds such as {"coverage": 0.9}. `force`: write over existing files.
    - `check`: run both models, with `data` (arrays by input name, or an .npz file of them) or generated inputs, and
      compare: the relative L2 error of an output may be 0.031 in float16, 0.25 in bfloat16, 64 roundings.
    - `dry_run`: write no model, but plan and report where they are named; `.model` is made when asked for.

    Raises AmpgraphError, each a line that names place, fact and remedy: ModelError (no model, cannot be converted),
    OptionError, RuleError, PlanError (a plan that breaks a law), RequirementError (a threshold is not met) and
    CheckError (the answers differ too much). After any of them nothing is written.
    """
    options = make_options(
        precision=precision,
        target=target,
        device=device,
        objective=objective,
        rules=rules,
        keep=keep,
        low=low,
        io=io,
        shapes=shapes,
        opset=opset,
        plan=plan,
        costs=costs,
        fuse=fuse,
        tune=tune,
        cuda_graph=cuda_graph,
        native=native,
    )
    outputs = Outputs(_places(destination, save_plan, report), force)
    order = _Order(options, outputs, _thresholds(require), check, as_data(data), dry_run)
    order.verify()
    return _carry_out(order, as_loaded(source, example_args, example_kwargs))


def _places(destination: FilePath, save_plan: FilePath, report: FilePath) -> dict[str, Path]:
    """Where files are asked for, by the option that names them. OptionError for what cannot be a path."""
    wanted = {
        "-o": as_path("destination", destination),
        "--save-plan": as_path("save_plan", save_plan),
        "--report": as_path("report", report),
    }
    return {option: path for option, path in wanted.items() if path is not None}


def _thresholds(require: Mapping[str, float] | None) -> dict[str, float]:
    """Thresholds by name. OptionError for what is no mapping of numbers."""
    if not isinstance(require or {}, Mapping) or any(not isinstance(each, Real) for each in (require or {}).values()):
        raise OptionError("require", f"is {require!r}", 'give numbers by name: {"coverage": 0.9}')
    return dict(require or {})


def examine(
    source: Any,  # noqa: ANN401
    example_args: Any = None,  # noqa: ANN401
    example_kwargs: Mapping[str, Any] | None = None,
    **words: Any,  # noqa: ANN401
) -> Result:
    """Plan without writing, to look at: `words` are those of `convert` that decide the model's bytes.

    A model that ampgraph converted is taken as it is, with the options that it remembers where `words` have no others.
    """
    loaded = as_loaded(source, example_args, example_kwargs)
    already, options = is_output(loaded.model), options_to_look_at(loaded.model, words)
    planned = plan_model(loaded, options, as_is=already)
    needed = needed_opsets(planned.graph, options.precision)
    report = make_report(planned, "", needed, already_converted=already)
    return Result(planned, report, idle=tuple(idle_notes(words, options)) if already else ())


@dataclass(frozen=True)
class _Order:
    """What the caller wants besides the options that decide the model's bytes."""

    options: Options
    outputs: Outputs
    require: Mapping[str, float]
    check: bool
    data: Data | None
    dry_run: bool

    def verify(self) -> None:
        """Refuse wishes that contradict each other."""
        paths = self.outputs.paths
        if self.options.plan and "--save-plan" in paths:
            raise OptionError("--plan and --save-plan", "are both given", "leave one of them out")
        if self.data is not None and not (self.check or self.options.tune):
            raise OptionError("--data", "is only read by --check and --tune", "give one of them too, or leave it out")
        for name, share in self.require.items():
            if name != "coverage":
                raise OptionError(f"--require {name}", "unknown threshold", "coverage=0.9 is known")
            if not 0 <= share <= 1:
                raise OptionError(f"--require {name}={share:g}", "is no share", "give a number from 0 to 1")

    def verify_places(self, loaded: Loaded) -> None:
        """Refuse to write over what is read; the model's data file is written beside it under a name of its own."""
        paths, outputs = dict(self.outputs.paths), self.outputs
        outside = io.external_tensors(loaded.model)
        if outside and "-o" in paths:
            paths["the external data beside -o:"] = paths["-o"].with_name(f"{paths['-o'].name}.data")
            outputs = replace(outputs, paths=paths)
        read = {external.external_source(tensor, loaded.folder)[0] for tensor in outside}
        data = None if isinstance(self.data, Mapping) else self.data
        inputs = (loaded.path, self.options.rules, self.options.plan, self.options.costs, data, *sorted(read))
        texts = ("--save-plan", "--report")
        unwritten = [option for option in paths if option not in texts] if self.dry_run else []
        outputs.verify([path for path in inputs if path is not None], unwritten=unwritten)


def _carry_out(order: _Order, loaded: Loaded) -> Result:
    order.verify_places(loaded)
    options, destination = order.options, order.outputs.paths.get("-o")
    with collector_at_rest():
        already = is_converted(loaded, options)
        measured = options.tune and not already
        planned = tune_model(loaded, options, order.data) if measured else plan_model(loaded, options, as_is=already)
        needed = needed_opsets(planned.graph, options.precision)
        report = make_report(planned, str(destination or ""), needed, already_converted=already)
        _meet(order.require, report)
        if order.dry_run:
            return _dry_run(order, planned, report)
        return _write(order, planned, report, destination)


def _meet(require: Mapping[str, float], report: Report) -> None:
    wanted, share = require.get("coverage"), report.coverage.share
    if wanted is None or (share is not None and share >= wanted):
        return
    reached = f"{share:.3f}" if share is not None else "of nothing: no operator of the model is worth low precision"
    remedy = "`ampgraph convert --dry-run` without --require shows what stayed float32 and why"
    raise RequirementError(f"--require coverage={wanted:g}", f"the plan has coverage {reached}", remedy)


def _dry_run(order: _Order, planned: Planned, report: Report) -> Result:
    converted = convert_model(planned) if order.check else None
    if converted is not None:
        report = _checked(order, planned, report, converted.model)
    with staged(_texts(order, planned, report)) as publish:
        publish()
    return Result(planned, report, None, converted)


def _write(order: _Order, planned: Planned, report: Report, destination: Path | None) -> Result:
    """Write everything under temporary names, then move all of it into place: nothing appears when anything fails."""
    publish: list[Callable[[], None]] = []
    reports = [report]
    with ExitStack() as stack:

        def finish(subject: ModelProto | Path, complaint: str) -> None:
            reports.append(_checked(order, planned, replace(report, checker=complaint), subject))
            publish.append(stack.enter_context(staged(_texts(order, planned, reports[-1]))))

        converted = convert_model(planned, destination, finish)
        if destination is None:
            finish(converted.model, converted.complaint)
        for move in publish:
            move()
    return Result(planned, reports[-1], destination, converted)


def _texts(order: _Order, planned: Planned, report: Report) -> dict[Path, str]:
    paths, texts = order.outputs.paths, {}
    if "--save-plan" in paths:
        plan = replace(planned.plan, model=report.source, options=order.options.digest())
        texts[paths["--save-plan"]] = plan_to_json(plan)
    if "--report" in paths:
        texts[paths["--report"]] = report_to_json(report)
    return texts


def _checked(order: _Order, planned: Planned, report: Report, subject: ModelProto | Path) -> Report:
    """The report with the outcome of the check, where one is wanted. Raises CheckError when it fails."""
    if not order.check:
        return report
    options, data = order.options, order.data
    feeds = read_inputs(data, planned.loaded.model) if data is not None else None
    said, kept, low = name_of_data(data), kept_names(planned), low_interface(planned.graph, options.io)
    found = run_check(planned.loaded, subject, options.precision, kept, feeds, options.shapes, said, low=low)
    if found.failures:
        more = f" (and {len(found.failures) - 1} more)" if len(found.failures) > 1 else ""
        remedy = "hold nodes back with --keep, give real inputs with --data, or leave --check out"
        raise CheckError(report.source, f"the check failed: {found.failures[0]}{more}", remedy, found)
    return replace(report, check=found)


def kept_names(planned: Planned) -> tuple[str, ...]:
    """Names that must be float32 in the runtime's graph too: nodes kept for their numbers, else what they make."""
    graph, plan = planned.graph, planned.plan
    names = []
    for op in graph.ops.values():
        choices = [plan.choices[decision.id] for decision in graph.decisions_of.get(op.id, ())]
        precise = any(choice.cause in NUMERIC for choice in choices)
        if precise and all(choice.precision is Precision.FLOAT32 for choice in choices):
            made = (graph.values[slot.value].name for slot in op.outputs if slot.value)
            names.append(op.name if op.name == op.id else next(made, ""))
    interface = {decision.op for decision in graph.decisions.values() if decision.kind != "op"}
    return tuple(name for name in names if name and name not in interface)
