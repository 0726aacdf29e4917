"""Judge: rules, ranges, parameters and kernels to one verdict per decision. Which lows are legal, and why the others
are not; costs play no part here.

Order of the causes: pin, user, unknown op, denied by a rule, kernel, parameter, range, unproven input, taint.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace

import networkx as nx

from ampgraph.errors import OptionError
from ampgraph.fusable import normalizations
from ampgraph.fusable import ties as fusable_ties
from ampgraph.graph import Constant, Decision, Op, PrecisionGraph, Slot
from ampgraph.intervals import Interval
from ampgraph.judgement import Category, Cause, Judgement, Verdict
from ampgraph.kernels import KernelLaw, KernelTable, kernel_law
from ampgraph.matching import winning_rules
from ampgraph.overruled import Overruled, notes_on
from ampgraph.precision import FORMATS, Precision
from ampgraph.rule import Rule
from ampgraph.rulebook import RuleBook
from ampgraph.wishes import Wishes

LARGE_CONSTANT = 2048.0  # an unknown operand of 32 times this leaves float16; next to it, integers stop being exact
SUMMAND_ERROR = 0.05  # relative L2 error of a constant that is only added to a sum
HARMLESS = 1.0  # a tainted value proven within this magnitude loses no more than its rounding


def judge(
    graph: PrecisionGraph,
    book: RuleBook,
    ranges: Mapping[str, Interval],
    precision: Precision,
    kernels: KernelTable | None = None,
    wishes: Wishes | None = None,
) -> Judgement:
    """One verdict per decision. `kernels` None: any runtime that has what the schema admits.

    Raises OptionError when a wish cannot be granted.
    """
    wishes = wishes or Wishes()
    rules = winning_rules(graph, book, ranges, precision)
    laws = {op: kernel_law(kernels, graph.ops[op], found, precision) for op, found in _by_op(graph)}
    patterns = normalizations(graph)
    case = _Case(graph, rules, ranges, precision, laws, frozenset(pattern.normalized for pattern in patterns))
    verdicts = {key: case.verdict(decision) for key, decision in graph.decisions.items()}
    fed = _require_fed(case, verdicts)
    _protect_operands(case, verdicts, fed)
    _taint(case, verdicts)
    notes = notes_on(_grant(case, verdicts, wishes))
    ties = [pair for law in laws.values() for pair in law.ties] + _uncastable(case, verdicts)
    ties += fusable_ties(graph, patterns)
    implications = tuple(pair for law in laws.values() for pair in law.implications)
    return Judgement(precision, verdicts, tuple(ties), implications, notes)


def _by_op(graph: PrecisionGraph) -> Iterable[tuple[str, tuple[Decision, ...]]]:
    return graph.decisions_of.items()


@dataclass(frozen=True)
class _Case:
    """What the verdicts rest on."""

    graph: PrecisionGraph
    rules: Mapping[str, Rule]
    ranges: Mapping[str, Interval]
    precision: Precision
    laws: Mapping[str, KernelLaw]
    normalized: frozenset[str]  # values that a normalization has just made harmless

    def verdict(self, decision: Decision) -> Verdict:
        """The verdict by what stands at the op itself; what follows from its neighbours comes after."""
        rule = self.rules.get(decision.id)
        category = rule.category if rule else Category.UNKNOWN
        name = rule.name if rule else ""
        if decision.kind != "op":
            why = decision.pin or f"the interface keeps its type (--io low changes graph {decision.kind}s)"
            return Verdict(False, Category.CLEAR, Cause.PIN, why)
        if not decision.is_open(self.precision):
            return Verdict(False, category, Cause.PIN, self._pinned(decision), name)
        if rule is None:
            op_type = self.graph.ops[decision.op].type
            return Verdict(False, category, Cause.UNKNOWN, f"no rule knows {op_type}")
        if category is Category.DENY:
            return Verdict(False, category, Cause.RULE, rule.why, name)
        found = self._kernel(decision) or self._parameter(decision, rule) or self._range(decision, rule)
        if found is not None:
            return Verdict(False, category, *found, name)
        return Verdict(True, category, Cause.RULE, rule.why, name)

    def _pinned(self, decision: Decision) -> str:
        if decision.present is not Precision.FLOAT32:
            return f"is {decision.present} in the source"
        return decision.pin or f"{self._versioned(decision)} admits no {self.precision}"

    def _versioned(self, decision: Decision) -> str:
        op = self.graph.ops[decision.op]
        return f"the schema of {op.type}-{op.version}"

    def _kernel(self, decision: Decision) -> tuple[Cause, str] | None:
        law = self.laws.get(decision.op)
        why = law.forbidden.get(decision.id) if law else None
        return (Cause.KERNEL, why) if why else None

    def slots(self, decision: Decision) -> Iterator[tuple[int, Slot]]:
        """Input slots of a decision with their index."""
        op = self.graph.ops[decision.op]
        return ((index, slot) for index, slot in enumerate(op.inputs) if slot.decision == decision.id)

    def _parameter(self, decision: Decision, rule: Rule) -> tuple[Cause, str] | None:
        for index, slot in self.slots(decision):
            constant = self.graph.values[slot.value].constant
            if constant is not None:
                added = slot.formal in rule.summands
                why = _lost(constant, rule, index in rule.precise_slots, added, self.precision)
                if why:
                    return Cause.PARAMETER, f"{self.graph.values[slot.value].name!r}: {why}"
        return None

    def _range(self, decision: Decision, rule: Rule) -> tuple[Cause, str] | None:
        if rule.saturates or rule.category is Category.CLEAR:
            return None
        for value in self.held(decision):
            interval = self.ranges.get(value)
            if interval is not None and self.is_beyond(interval):
                ends = (end for end in (interval.lo, interval.hi) if abs(end) < float("inf"))
                reach = f"{self.graph.values[value].name!r} can reach {max(ends, key=abs, default=0.0):.3g}"
                return Cause.RANGE, f"{reach}, beyond {self.precision}'s {FORMATS[self.precision].largest:g}"
        return None

    def held(self, decision: Decision) -> Iterator[str]:
        """Run-time values that a decision reads or makes."""
        op = self.graph.ops[decision.op]
        for slot in (*op.inputs, *op.outputs):
            if slot.decision == decision.id and self.graph.values[slot.value].constant is None:
                yield slot.value

    def is_beyond(self, interval: Interval) -> bool:
        """Whether an interval has a finite end that the format cannot hold."""
        largest = FORMATS[self.precision].largest
        return any(largest < abs(end) < float("inf") for end in (interval.lo, interval.hi))


def _lost(constant: Constant, rule: Rule, precise: bool, added: bool, precision: Precision) -> str:
    """Why a constant does not survive in this place; "" when it does."""
    loss = constant.conversions.get(precision)
    if loss is None:
        return ""
    saturates = rule.saturates or rule.category is Category.CLEAR
    limits = FORMATS[precision]
    if loss.overflowed and not saturates:
        return f"{loss.overflowed} of its values exceed {limits.largest:.6g}, up to {constant.magnitude:.3g}"
    if precise and loss.subnormal:
        return f"{loss.subnormal} of its values are below {limits.smallest_normal:.2g}, and here each of them matters"
    if added and constant.magnitude < limits.smallest_normal:
        return ""  # rounding moves it by no more than it moves the result
    if loss.error > max(rule.constant_error, SUMMAND_ERROR if added else 0.0, 2 * limits.unit_roundoff):
        return f"rounding it to {precision} moves it by {loss.error:.2g}, relative (smallest: {constant.smallest:.2g})"
    if constant.magnitude > LARGE_CONSTANT and not saturates and not rule.large_constants:
        return f"reaches {constant.magnitude:.3g}: next to it {precision} overflows or stops being exact"
    return ""


def _require_fed(case: _Case, verdicts: dict[str, Verdict]) -> Mapping[str, bool]:
    """Ops that only follow allow ops: float32 where a float input may carry more than low precision already took.

    Returns which values are fed: made by legal allow ops, or from such values alone by clear and infer ops.
    """
    fed: dict[str, bool] = {}
    for op in case.graph.ops.values():
        for decision in case.graph.decisions_of.get(op.id, ()):
            rule = case.rules.get(decision.id)
            if rule is None or rule.only_after is None or not verdicts[decision.id].legal:
                continue
            raw = next(
                (slot for _, slot in case.slots(decision) if not _is_fed(case, fed, slot.value, rule.small)), None
            )
            if raw is not None:
                name = case.graph.values[raw.value].name
                why = f"{rule.why.rstrip('.')}; {name!r} does not come from low-precision arithmetic"
                verdicts[decision.id] = replace(verdicts[decision.id], legal=False, why=why)
        _mark_products(case, fed, op, verdicts)
    return fed


def _is_fed(case: _Case, fed: Mapping[str, bool], value: str, small: float) -> bool:
    interval = case.ranges.get(value)
    proven = (
        small > 0 and interval is not None and interval.complete and max(abs(interval.lo), abs(interval.hi)) <= small
    )
    return proven or fed.get(value, case.graph.values[value].constant is not None)


def _mark_products(case: _Case, fed: dict[str, bool], op: Op, verdicts: Mapping[str, Verdict]) -> None:
    """A product is fed when a legal allow op made it, or a clear or infer op whose every float input is fed."""
    inputs = all(_is_fed(case, fed, slot.value, 0.0) for slot in op.inputs if slot.decision)
    for slot in op.outputs:
        if slot.decision:
            verdict = verdicts[slot.decision]
            passes = verdict.category in (Category.CLEAR, Category.INFER) and inputs
            fed[slot.value] = (verdict.category is Category.ALLOW and verdict.legal) or passes


def _protect_operands(case: _Case, verdicts: dict[str, Verdict], fed: Mapping[str, bool]) -> None:
    """What a float32 op needs unrounded is not rounded on the way: its raw operands stay float32 back to their source.

    A cast of the model's own, a fixed float32 slot or a denied op may turn a rounding into another answer. Operands
    that a low-precision product has rounded already are left alone.
    """
    queue = deque(key for key, verdict in verdicts.items() if _needs_exact_operands(case, key, verdict))
    origin = {key: key for key in queue}
    while queue:
        key = queue.popleft()
        for _, slot in case.slots(case.graph.decisions[key]):
            producer = case.graph.values[slot.value].producer
            if not producer or producer in origin or fed.get(slot.value):
                continue
            verdict = verdicts[producer]
            if verdict.legal and verdict.category in (Category.CLEAR, Category.INFER):
                origin[producer] = origin[key]
                queue.append(producer)
                why = f"feeds {_describe(case, origin[key])}, which needs it unrounded"
                verdicts[producer] = replace(verdict, legal=False, cause=Cause.TAINT, why=why)


def _needs_exact_operands(case: _Case, key: str, verdict: Verdict) -> bool:
    decision = case.graph.decisions[key]
    settled = verdict.cause in (Cause.RULE, Cause.PIN, Cause.PARAMETER, Cause.RANGE) and not verdict.legal
    return decision.kind == "op" and decision.present is Precision.FLOAT32 and settled


def _taint(case: _Case, verdicts: dict[str, Verdict]) -> None:
    """Forbid infer ops reached from float32 by rule, range or parameter through clear and infer ops."""
    origin: dict[str, str] = {}
    queue = deque(key for key, verdict in verdicts.items() if _is_source(case, key, verdict))
    origin.update((key, key) for key in queue)
    if not queue:
        return
    flow = case.graph.flow
    while queue:
        key = queue.popleft()
        for following in _followers(case, flow, key):
            verdict = verdicts[following]
            if following in origin or verdict.category not in (Category.CLEAR, Category.INFER):
                continue
            origin[following] = origin[key]
            queue.append(following)
            if verdict.legal and verdict.category is Category.INFER:
                why = f"follows {_describe(case, origin[key])}, which stays float32"
                verdicts[following] = replace(verdict, legal=False, cause=Cause.TAINT, why=why)
    for key in _carriers(verdicts, flow, origin):
        why = f"carries what {_describe(case, origin[key])} makes to something float32"
        verdicts[key] = replace(verdicts[key], legal=False, cause=Cause.TAINT, why=why)


def _carriers(verdicts: Mapping[str, Verdict], flow: nx.MultiDiGraph, tainted: Collection[str]) -> list[str]:
    """Tainted clear ops that hand a value to anything but legal allow ops: low, they would round it for nothing."""

    def carries(key: str) -> bool:
        return key in tainted and verdicts[key].legal and verdicts[key].category is Category.CLEAR

    def takes_low(key: str) -> bool:
        return carries(key) or (verdicts[key].legal and verdicts[key].category is Category.ALLOW)

    queue = deque(
        key for key in tainted if carries(key) and not all(takes_low(after) for after in flow.successors(key))
    )
    found = dict.fromkeys(queue)
    while queue:
        for before in flow.predecessors(queue.popleft()):
            if before not in found and carries(before):
                found[before] = None
                queue.append(before)
    return list(found)


def _is_source(case: _Case, key: str, verdict: Verdict) -> bool:
    if case.graph.decisions[key].kind != "op" or case.graph.decisions[key].present is not Precision.FLOAT32:
        return False
    lossy = verdict.cause in (Cause.RANGE, Cause.PARAMETER) and verdict.category is not Category.ALLOW
    return verdict.category is Category.DENY or lossy


def _followers(case: _Case, flow: nx.MultiDiGraph, key: str) -> Iterator[str]:
    """Decisions that read what this one makes, unless what they read is proven harmless.

    A rule that speaks of some variables of an op (indices, coordinates) says nothing of what the op makes.
    """
    rule = case.rules.get(key)
    operand_only = rule is not None and bool(rule.variables)
    for _, following, edge in flow.out_edges(key, keys=True):
        value = "" if edge == "op" else edge[0]
        interval = case.ranges.get(value)
        if value in case.normalized or (edge == "op" and operand_only):
            continue
        if interval is None or not interval.complete or max(abs(interval.lo), abs(interval.hi)) > HARMLESS:
            yield following


def _describe(case: _Case, key: str) -> str:
    op = case.graph.ops[case.graph.decisions[key].op]
    return f"{op.type} {op.name or op.id!r}"


def _uncastable(case: _Case, verdicts: Mapping[str, Verdict]) -> list[tuple[str, str]]:
    """A value known to leave the format's range admits no cast: its producer and consumers agree."""
    beyond = {key for key, interval in case.ranges.items() if case.is_beyond(interval)}
    ties = []
    for use in case.graph.uses:
        producer = case.graph.values[use.value].producer
        if use.value in beyond and producer and (verdicts[producer].legal or verdicts[use.decision].legal):
            ties.append((producer, use.decision))
    return ties


def _grant(case: _Case, verdicts: dict[str, Verdict], wishes: Wishes) -> list[Overruled]:
    """Apply the user's wishes, in place; returns the rules that they overrule."""
    overruled: list[Overruled] = []
    for name in sorted(wishes.low_interface):
        _force_interface(case, verdicts, name)
    wishes.require_possible(case.graph)
    for option in ("--keep", "--low"):
        for op in case.graph.ops.values():
            if why := wishes.reason(option, op):
                overruled += _force(case, verdicts, op, option, why)
    return overruled


def _force_interface(case: _Case, verdicts: dict[str, Verdict], name: str) -> None:
    for key in (f"input:{name}", f"output:{name}"):
        decision = case.graph.decisions.get(key)
        if decision is not None and decision.is_open(case.precision):
            verdicts[key] = Verdict(True, Category.CLEAR, Cause.USER, "--io low", forced=True)


def _force(case: _Case, verdicts: dict[str, Verdict], op: Op, option: str, why: str) -> list[Overruled]:
    overruled, forced, name = list[Overruled](), option == "--low", op.name or op.id
    for decision in case.graph.decisions_of.get(op.id, ()):
        old = verdicts[decision.id]
        if forced and old.cause in (Cause.PIN, Cause.KERNEL) and decision.present is Precision.FLOAT32:
            if decision.principal:
                raise OptionError(f"{option} {name}", f"cannot be low: {old.why}", "narrow the expression")
            continue
        if forced and not old.legal:
            overruled.append(Overruled(option, name, old.rule, str(old.cause), old.why))
        if not forced and old.category is Category.ALLOW:
            overruled.append(Overruled(option, name, old.rule))
        verdicts[decision.id] = Verdict(forced, old.category, Cause.USER, why, old.rule, forced)
    return overruled
