"""Which rule speaks for which decision: conditions of single ops, patterns of several, precedence.

Patterns are found in one pass forwards and one backwards over the ops. Every step of every pattern has a bit; a value
carries the bits of the steps that some path of matching ops, with transparent ops between them, has reached at it.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from ampgraph.graph import Attribute, Op, PrecisionGraph
from ampgraph.precision import FORMATS, Precision
from ampgraph.ranges import Interval
from ampgraph.rule import Match, Rule, Step
from ampgraph.rulebook import RuleBook


def winning_rules(
    graph: PrecisionGraph,
    book: RuleBook,
    ranges: Mapping[str, Interval],
    low: Precision = Precision.FLOAT16,
) -> Mapping[str, Rule]:
    """The rule that wins for each decision of an op; a decision that no rule knows is absent.

    `ranges` by value id; `low` settles which integers are exact.
    """
    situation = _Situation(graph, ranges, FORMATS[low].exact_integers_to)
    patterns = _pattern_matches(graph, book)
    winners: dict[str, Rule] = {}
    for op_id, decisions in graph.decisions_of.items():
        op = graph.ops[op_id]
        named = book.by_op.get(op.type, ())
        candidates = _merged(named, patterns[op_id]) if op_id in patterns else named
        open_ids = {decision.variable: decision.id for decision in decisions}
        for rule in candidates:
            spoken = _spoken(rule, open_ids)
            if spoken and situation.applies(rule, op):
                winners.update((open_ids.pop(variable), rule) for variable in spoken)
                if not open_ids:
                    break
    return winners


def _merged(named: Iterable[Rule], patterns: Iterable[Rule]) -> list[Rule]:
    return sorted({rule.name: rule for rule in (*named, *patterns)}.values(), key=lambda rule: rule.precedence)


def _spoken(rule: Rule, open_ids: Mapping[str, str]) -> list[str]:
    """The variables still without a rule that this one speaks of."""
    return [variable for variable in open_ids if not rule.variables or variable in rule.variables]


@dataclass(frozen=True, slots=True)
class _Situation:
    """What conditions are evaluated against."""

    graph: PrecisionGraph
    ranges: Mapping[str, Interval]
    exact_integers_to: int

    def applies(self, rule: Rule, op: Op) -> bool:
        """Whether every condition of a rule holds for an op that it names."""
        if not rule.narrowed:
            return True
        return (
            rule.dialect in ("", self.graph.dialect)
            and (not rule.min_version or op.version >= rule.min_version)
            and (not rule.max_version or 0 < op.version <= rule.max_version)
            and all(_has(op, match) for match in rule.attributes)
            and (not rule.input_dtype or self._first_dtype(op) in rule.input_dtype)
            and (not rule.outputs or any(_is_used(op, index) for index in rule.outputs))
            and all(self._scalar(op, operand.slot) in operand.values for operand in rule.constants)
            and not self._is_silenced(rule, op)
        )

    def _first_dtype(self, op: Op) -> str:
        return self.graph.values[op.inputs[0].value].dtype if op.inputs and op.inputs[0].value else ""

    def _scalar(self, op: Op, slot: int) -> float | None:
        return _scalar(self.graph, op, slot)

    def _is_silenced(self, rule: Rule, op: Op) -> bool:
        """Whether every value that matters is proven inside the rule's `unless_within`."""
        bounds = rule.unless_within
        if bounds is None:
            return False
        lo, hi = (-self.exact_integers_to, self.exact_integers_to) if isinstance(bounds, str) else bounds
        floats = [slot.value for slot in (*op.inputs, *op.outputs) if slot.decision and slot.value]
        first = [op.inputs[0].value] if op.inputs and op.inputs[0].value else []
        found = [self.ranges.get(value) for value in (*first, *floats)]
        return bool(found) and all(
            interval is not None
            and interval.complete
            and lo <= interval.lo
            and interval.hi <= hi
            and (interval.integer or not isinstance(bounds, str))
            for interval in found
        )


def _has(op: Op, match: Match) -> bool:
    return match.attribute in op.attributes and (not match.values or op.attributes[match.attribute] in match.values)


def _is_used(op: Op, index: int) -> bool:
    return index < len(op.outputs) and bool(op.outputs[index].value)


def _scalar(graph: PrecisionGraph, op: Op, slot: int) -> float | None:
    """The number that a constant operand holds throughout."""
    if slot >= len(op.inputs) or not op.inputs[slot].value:
        return None
    constant = graph.values[op.inputs[slot].value].constant
    return constant.scalar if constant else None


@dataclass(frozen=True, slots=True)
class _Stage:
    """A step of a pattern with its bit, that of the step before (0: none), and the rule."""

    step: Step
    bit: int
    before: int
    last: bool
    rule: Rule


def _stages(chains: Iterable[Rule]) -> dict[str, list[_Stage]]:
    """Stages by op type."""
    found: dict[str, list[_Stage]] = {}
    bit = 1
    for rule in chains:
        before = 0
        for index, step in enumerate(rule.chain):
            stage = _Stage(step, bit, before, index == len(rule.chain) - 1, rule)
            for op_type in step.ops:
                found.setdefault(op_type, []).append(stage)
            before, bit = bit, bit << 1
    return found


def _pattern_matches(graph: PrecisionGraph, book: RuleBook) -> dict[str, list[Rule]]:
    """Pattern rules by the ops they mark."""
    situation = _Situation(graph, {}, 0)
    chains = [rule for rule in book.chains if rule.dialect in ("", graph.dialect)]
    stages = _stages(chains)
    transparent = book.transparent
    relevant = [op for op in graph.ops.values() if op.type in stages or op.type in transparent]
    reached: dict[str, int] = {}
    entered: dict[str, list[_Stage]] = {}
    for op in relevant:
        arriving = [reached.get(slot.value, 0) for slot in op.inputs]
        leaving = _union(arriving) if op.type in transparent else 0
        mine = [stage for stage in stages.get(op.type, ()) if _enters(stage, op, arriving, situation)]
        if mine:
            entered[op.id] = mine
            leaving |= _union(stage.bit for stage in mine)
        if leaving:
            reached.update((slot.value, leaving) for slot in op.outputs if slot.decision and slot.value)
    return _completed(relevant, transparent, reached, entered) if entered else {}


def _completed(
    relevant: Sequence[Op],
    transparent: frozenset[str],
    reached: Mapping[str, int],
    entered: Mapping[str, list[_Stage]],
) -> dict[str, list[Rule]]:
    """Rules by op, of the stages that lie on a path which reaches the pattern's last step."""
    wanted: dict[str, int] = {}
    found: dict[str, list[Rule]] = {}
    for op in reversed(relevant):
        asked = _union(wanted.get(slot.value, 0) for slot in op.outputs)
        for stage in entered.get(op.id, ()):
            if stage.last or stage.bit & asked:
                if stage.step.marks:
                    found.setdefault(op.id, []).append(stage.rule)
                _want(wanted, reached, _link(op, stage.step), stage.before)
        if asked and op.type in transparent:
            _want(wanted, reached, (slot.value for slot in op.inputs), asked)
    return found


def _want(wanted: dict[str, int], reached: Mapping[str, int], values: Iterable[str], bits: int) -> None:
    for value in values:
        here = bits & reached.get(value, 0)
        if here:
            wanted[value] = wanted.get(value, 0) | here


def _link(op: Op, step: Step) -> Iterator[str]:
    """Values through which the step before may enter."""
    return (slot.value for index, slot in enumerate(op.inputs) if step.slot is None or step.slot == index)


def _union(bits: Iterable[int]) -> int:
    total = 0
    for bit in bits:
        total |= bit
    return total


def _enters(stage: _Stage, op: Op, arriving: Sequence[int], situation: _Situation) -> bool:
    """Whether an op of the right type takes this step."""
    step = stage.step
    if stage.before:
        linked = arriving if step.slot is None else arriving[step.slot : step.slot + 1]
        if not any(bits & stage.before for bits in linked):
            return False
    elif step.slot is not None and step.slot >= len(op.inputs):
        return False
    return (
        (not step.squares or _squares(situation.graph, op))
        and (step.constant_at_most is None or _has_epsilon(situation.graph, op, step.constant_at_most))
        and all(_has(op, match) for match in step.attributes)
    )


def _squares(graph: PrecisionGraph, op: Op) -> bool:
    """`x * x`, `x ** 2`, or an op with one operand that squares by name."""
    numbers = [number for attribute in op.attributes.values() for number in _numbers(attribute)]
    if len(op.inputs) < 2:
        return not numbers or 2.0 in numbers
    same = op.inputs[0].value == op.inputs[1].value
    return (same and _is_product(op)) or (not _is_product(op) and _scalar(graph, op, 1) == 2.0)


def _is_product(op: Op) -> bool:
    return op.type.lower().removeprefix("aten.").startswith("mul")


def _has_epsilon(graph: PrecisionGraph, op: Op, limit: float) -> bool:
    """Whether a constant operand, or a number among the attributes, is a small positive or negative one."""
    operands = (graph.values[slot.value].constant for slot in op.inputs if slot.value)
    if any(constant and 0 < constant.magnitude <= limit for constant in operands):
        return True
    return any(0 < abs(number) <= limit for attribute in op.attributes.values() for number in _numbers(attribute))


def _numbers(attribute: Attribute) -> tuple[float, ...]:
    return (float(attribute),) if isinstance(attribute, (int, float)) else ()
