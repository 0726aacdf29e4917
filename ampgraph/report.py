"""Report: the plain account of a conversion. What became of the nodes, casts and parameters, and why not more."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING

from ampgraph.cost import count_measured
from ampgraph.graph import Decision, Op, PrecisionGraph, Value
from ampgraph.judgement import Category, Cause, Judgement
from ampgraph.kernels import KernelTable, onnxruntime_cuda
from ampgraph.measured import mismatches
from ampgraph.plan import BY_PRICE, Choice, Plan
from ampgraph.precision import FORMATS, Precision
from ampgraph.settings import MeasuredSetting
from ampgraph.wording import numbered
from ampgraph.work import foreign_float, size_of

if TYPE_CHECKING:
    from ampgraph.conversion import Planned
    from ampgraph.onnx_model.check import Check
    from ampgraph.onnx_model.tune import Tuned
    from ampgraph.options import Options

FORMAT = 1
NO_FLOAT = "other"  # ops that have no floating-point slot
_FLOATLESS = {NO_FLOAT: "without floats"}  # in texts
EXAMPLES = 3
_CONTRIB = "com.microsoft."
_RUNTIMES = ("onnxruntime-gpu", "onnxruntime")


@dataclass(frozen=True, slots=True)
class Kept:
    """Ops that stayed float32 for one reason. `why` is the first one's where the sentences differ."""

    cause: str
    rule: str
    why: str
    count: int
    types: Mapping[str, int]
    examples: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class KeptParameter:
    """A parameter that stayed float32, alone or beside a low copy, and the first float32 consumer's reason."""

    name: str
    bytes: int
    consumer: str
    cause: str
    why: str


@dataclass(frozen=True, slots=True)
class Coverage:
    """Of the ops that a rule calls worth low precision and that schema and kernels admit low, those that are."""

    eligible: int
    low: int

    @property
    def share(self) -> float | None:
        """None where there is nothing to cover."""
        return self.low / self.eligible if self.eligible else None


@dataclass(frozen=True)
class Report:
    """All figures of one conversion. Times and bytes are modelled at `shapes`; `unit` is that of the three prices.

    `source_price`: of the source as it is; `before`: of the model that the plan is for, which is the source with what
    was fused; `after`: of the plan. `source_price` is None where a saved plan of a fused model was applied, for which
    the source is not priced. `lowers_nothing`: no operator changes its precision, `changes_nothing`: nor is any fused.
    `assumed`: inputs among `shapes` whose free dimensions nobody gave. `cpu_ops`: ops that the target runs on the CPU
    provider. `needed_opsets`: ops held back by the model's opset -> the opset that would admit the precision.
    """

    source: str
    destination: str
    precision: str
    target: str
    device: str
    objective: str
    nodes: Mapping[str, int]
    casts: int
    cast_bytes: int
    parameter_bytes_before: int
    parameter_bytes_after: int
    unit: str
    before: int
    after: int
    coverage: Coverage
    kept: tuple[Kept, ...]
    kept_parameters: tuple[KeptParameter, ...]
    unknown_ops: Mapping[str, int]
    cpu_ops: Mapping[str, int]
    needed_opsets: Mapping[str, int]
    shapes: Mapping[str, tuple[int, ...]]
    assumed: tuple[str, ...]
    notes: tuple[str, ...]
    warnings: tuple[str, ...]
    changes_nothing: bool
    already_converted: bool = False
    checker: str = ""
    check: Check | None = None
    tuned: Tuned | None = None
    session: MeasuredSetting | None = None  # that the file records and `Session` opens it in
    source_price: int | None = None
    lowers_nothing: bool = False

    def __str__(self) -> str:
        """The summary that `ampgraph convert` prints."""
        from ampgraph.report_text import to_text

        return to_text(self)

    def __repr__(self) -> str:
        return f"<ampgraph.Report {self.summary}>"

    @property
    def summary(self) -> str:
        """The model's name and its nodes and casts, in one line."""
        nodes = [f"{count} {_FLOATLESS.get(kind, kind)}" for kind, count in self.nodes.items() if count]
        return f"{Path(self.source).name}: {', '.join([*nodes, numbered(self.casts, 'cast')])}"


def make_report(
    planned: Planned,
    destination: str = "",
    needed_opsets: Mapping[str, int] | None = None,
    *,
    already_converted: bool = False,
) -> Report:
    """The report of a plan. `needed_opsets` comes from the dialect, which knows the newer schemas."""
    graph, plan, options = planned.graph, planned.plan, planned.options
    table = onnxruntime_cuda() if options.target == "onnxruntime-cuda" else None
    before, after = parameter_bytes(graph, plan)
    return Report(
        source=str(planned.loaded.named or planned.prepared.graph.name or "model"),
        destination=destination,
        precision=options.precision.value,
        target=options.target,
        device=options.device,
        objective=options.objective,
        nodes=count_nodes(graph, plan),
        casts=len(plan.casts),
        cast_bytes=_cast_bytes(graph, plan),
        parameter_bytes_before=before,
        parameter_bytes_after=after,
        unit=plan.unit,
        before=plan.baseline,
        after=plan.cost,
        coverage=measure_coverage(graph, planned.judgement, plan),
        kept=tuple(_kept(graph, plan)),
        kept_parameters=tuple(_kept_parameters(graph, plan)),
        unknown_ops=_unknown(graph, planned.judgement),
        cpu_ops=_on_cpu(graph, plan, table) if table else {},
        needed_opsets=dict(needed_opsets or {}),
        shapes=dict(planned.shapes),
        assumed=planned.assumed,
        notes=(*planned.judgement.notes, *graph.notes, *_fusing(planned), *_times(planned), *_unread(planned)),
        warnings=(
            *_warnings(plan, table),
            *_cuda_only(graph, table),
            *_costs_warnings(planned, table),
            *_idle_options(planned.options),
        ),
        changes_nothing=planned.changes_nothing,
        already_converted=already_converted,
        tuned=planned.tuned,
        session=planned.session,
        source_price=planned.source_price if plan.fused else plan.baseline,
        lowers_nothing=planned.lowers_nothing,
    )


def to_json(report: Report) -> str:
    """The whole report, for machines."""
    content = {"format": FORMAT, **asdict(report)}
    content["coverage"]["share"] = report.coverage.share
    content["session"] = report.session and report.session.as_json()
    return json.dumps(content, indent=2, ensure_ascii=False) + "\n"


def representative(graph: PrecisionGraph, op: Op) -> Decision | None:
    """The decision that stands for an op: the one that carries its time, else its first; None without floats.

    Asking for a float's shape is nothing that happens to floats.
    """
    decisions = () if op.type in ("Shape", "Size") else graph.decisions_of.get(op.id, ())
    return next((decision for decision in decisions if decision.principal), decisions[0] if decisions else None)


def cause_of(choice: Choice) -> str:
    """A choice's cause as users read it."""
    return choice.cause.value if choice.cause else BY_PRICE


def count_nodes(graph: PrecisionGraph, plan: Plan) -> dict[str, int]:
    """Ops by precision, float64 and the like included; `other` for those without floats."""
    counts = Counter({plan.precision.value: 0, Precision.FLOAT32.value: 0})
    for op in graph.ops.values():
        decision = representative(graph, op)
        own = plan.choices[decision.id].precision.value if decision else foreign_float(op, graph)
        counts[own or NO_FLOAT] += 1
    return dict(counts)


def parameter_bytes(graph: PrecisionGraph, plan: Plan) -> tuple[int, int]:
    """Bytes of all constants before and after."""
    before = after = 0
    for value in graph.values.values():
        if value.constant is None:
            continue
        own = _bytes(value)
        before += own
        kept = plan.parameters.get(value.id)
        after += own if kept is None else sum(FORMATS[each].bytes * value.constant.elements for each in kept)
    return before, after


def _bytes(value: Value) -> int:
    assert value.constant is not None  # the caller asked
    return size_of(value.dtype) * value.constant.elements


def _cast_bytes(graph: PrecisionGraph, plan: Plan) -> int:
    """Bytes that the casts read and write in one run, where shapes are known."""
    each = FORMATS[Precision.FLOAT32].bytes + FORMATS[plan.precision].bytes
    found = ((graph.values[cast.value].elements or 0, graph.scopes[cast.scope].frequency) for cast in plan.casts)
    return round(sum(elements * frequency * each for elements, frequency in found))


def measure_coverage(graph: PrecisionGraph, judgement: Judgement, plan: Plan) -> Coverage:
    """What `--require coverage` is measured by."""
    eligible = [d for op in graph.ops.values() if (d := representative(graph, op)) and _is_eligible(d, judgement)]
    return Coverage(len(eligible), sum(plan.choices[decision.id].precision is plan.precision for decision in eligible))


def _is_eligible(decision: Decision, judgement: Judgement) -> bool:
    verdict = judgement.verdicts[decision.id]
    if verdict.category is not Category.ALLOW:
        return False
    is_low = decision.present is judgement.precision
    return is_low or (decision.is_open(judgement.precision) and verdict.cause is not Cause.KERNEL)


def stayed(graph: PrecisionGraph, plan: Plan) -> Iterator[tuple[Op, Choice]]:
    """Ops that are float32 in the plan, with their choice."""
    for op in graph.ops.values():
        decision = representative(graph, op)
        if decision and plan.choices[decision.id].precision is Precision.FLOAT32:
            yield op, plan.choices[decision.id]


def _kept(graph: PrecisionGraph, plan: Plan) -> list[Kept]:
    groups: dict[tuple[str, str], list[tuple[Op, Choice]]] = {}
    for op, choice in stayed(graph, plan):
        groups.setdefault((cause_of(choice), _group(op, choice)), []).append((op, choice))
    found = [_kept_group(cause, members) for (cause, _), members in groups.items()]
    return sorted(found, key=lambda kept: (-kept.count, kept.cause, kept.why))


def _group(op: Op, choice: Choice) -> str:
    """What ops of one cause share: the rule, the figures of none, else the sentence."""
    if choice.cause in (Cause.RULE, Cause.PARAMETER, Cause.RANGE):
        return choice.rule
    if choice.cause is Cause.TAINT:
        return choice.why.split()[0]
    return "" if choice.cause is None else choice.why


def _kept_group(cause: str, members: list[tuple[Op, Choice]]) -> Kept:
    types = Counter(op.type for op, _ in members)
    first = members[0][1]
    rule = first.rule if first.cause in (Cause.RULE, Cause.PARAMETER, Cause.RANGE) else ""
    names = tuple(op.name or op.id for op, _ in members[:EXAMPLES])
    return Kept(cause, rule, first.why, len(members), dict(types.most_common()), names)


def _kept_parameters(graph: PrecisionGraph, plan: Plan) -> Iterator[KeptParameter]:
    for id, precisions in plan.parameters.items():
        value = graph.values[id]
        uses = graph.uses_of.get(id, ())
        takers = (use for use in uses if plan.choices[use.decision].precision is Precision.FLOAT32)
        use = next(takers, None)
        if use is None or Precision.FLOAT32 not in precisions or value.constant is None:
            continue
        choice = plan.choices[use.decision]
        consumer = graph.ops[use.op].name or use.op if use.op else "graph output"
        yield KeptParameter(value.name, _bytes(value), consumer, cause_of(choice), choice.why)


def _unknown(graph: PrecisionGraph, judgement: Judgement) -> dict[str, int]:
    """Types of the ops that no rule knows, custom ones included."""
    found = {
        decision.op
        for decision in graph.decisions.values()
        if decision.kind == "op" and judgement.verdicts[decision.id].category is Category.UNKNOWN
    }
    return dict(Counter(op.type for op in graph.ops.values() if op.id in found).most_common())


def _on_cpu(graph: PrecisionGraph, plan: Plan, table: KernelTable) -> dict[str, int]:
    """Ops that the runtime's CPU provider serves and its CUDA provider does not, as they are planned."""
    kinds: Counter[tuple[str, int, tuple[tuple[str, Precision], ...]]] = Counter()
    for op in graph.ops.values():
        bound = [(each.variable, plan.choices[each.id].precision) for each in graph.decisions_of.get(op.id, ())]
        kinds[op.type, op.version, tuple(bound)] += 1
    found: Counter[str] = Counter()
    for (op_type, version, pairs), times in kinds.items():
        if table.provider_of(op_type, version, dict(pairs)) == "cpu":
            found[op_type] += times
    return dict(found.most_common())


def _warnings(plan: Plan, table: KernelTable | None) -> Iterator[str]:
    installed = _installed_runtime()
    if table and installed and installed != table.version:
        yield (
            f"kernels are known for {table.runtime} {table.version}, and {installed} is installed here: "
            "another release may run some ops elsewhere or not at all"
        )
    if any(choice.precision is Precision.BFLOAT16 for choice in plan.choices.values()):
        yield "onnxruntime's CPU provider has no bfloat16 kernels: the file opens on CUDA only"


def _cuda_only(graph: PrecisionGraph, table: KernelTable | None) -> Iterator[str]:
    """Contrib ops that have a kernel on CUDA and none on the CPU; those of ONNX mostly have a definition in others."""
    kinds = {(op.type, op.version) for op in graph.ops.values() if op.type.startswith(_CONTRIB)} if table else set()
    found = [kind for kind, version in sorted(kinds) if table and _is_cuda_only(table, kind, version)]
    if found:
        types = ", ".join(dict.fromkeys(kind.removeprefix(_CONTRIB) for kind in found))
        yield f"onnxruntime's CPU provider has no kernel for {types}: the file opens on CUDA only"


def _is_cuda_only(table: KernelTable, op_type: str, version: int) -> bool:
    return bool(table.rows(op_type, version, "cuda")) and not table.rows(op_type, version, "cpu")


def _times(planned: Planned) -> Iterator[str]:
    """Where the times come from that `--costs` gives."""
    if planned.measured is not None and planned.options.objective == "speed":
        measured, ops = count_measured(planned.graph, planned.measured)
        yield f"times of {measured} of {ops} ops were measured on {planned.measured.device}, the others are modelled"


def _fusing(planned: Planned) -> Iterator[str]:
    """What was fused before deciding, or why it was not."""
    if planned.plan.fused:
        yield f"fused first: {planned.plan.fused}"
    if planned.fusing:
        yield f"a fused model was {planned.fusing}"


def _unread(planned: Planned) -> Iterator[str]:
    """What of an edited plan file is not used as it stands there."""
    if planned.unread:
        what = " and ".join(planned.unread)
        yield f"{what} in {planned.options.plan} are not those of its decisions, which alone are read"


def _costs_warnings(planned: Planned, table: KernelTable | None) -> Iterator[str]:
    if planned.measured is None:
        return
    yield from mismatches(planned.measured, planned.options.device, table.version if table else "")


def _idle_options(options: Options) -> Iterator[str]:
    """Options about times where no times count, or none that they speak of."""
    timing = {"--costs": bool(options.costs), "--cuda-graph": options.cuda_graph, "--native": options.native}
    if options.objective != "speed":
        given = (option for option, is_given in timing.items() if is_given)
        yield from (f"{option} says nothing under --objective {options.objective}" for option in given)
    elif options.native and options.precision is not Precision.FLOAT16:
        yield f"--native says nothing of {options.precision}: ampgraph's own kernels are in float16"
    elif options.native and options.costs:
        yield "--native says nothing beside --costs, which were measured with onnxruntime's kernels"


def _installed_runtime() -> str:
    for package in _RUNTIMES:
        try:
            return metadata.version(package)
        except metadata.PackageNotFoundError:
            continue
    return ""
