"""Which rule speaks for which decision: conditions of single ops, patterns of several, precedence.

Patterns are found in one pass forwards and one backwards over the ops. Every step of every pattern has a bit; a value
carries the bits of the steps that some path of matching ops, with transparent ops between them, has reached at it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from ampgraph.graph import Attribute, Op, PrecisionGraph, Slot
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
        candidates = book.by_op.get(op.type, ())
        if op_id in patterns:
            candidates = tuple(sorted((*candidates, *patterns[op_id]), key=lambda rule: book.rank[rule.name]))
        for decision in decisions:
            for rule in candidates:
                if rule.name in book.plain or situation.applies(rule, op, decision.variable):
                    winners[decision.id] = rule
                    break
    return winners


@dataclass(frozen=True, slots=True)
class _Situation:
    """What conditions are evaluated against."""

    graph: PrecisionGraph
    ranges: Mapping[str, Interval]
    exact_integers_to: int

    def applies(self, rule: Rule, op: Op, variable: str) -> bool:
        """Whether every condition of a rule holds for a type variable of an op that it names."""
        return (
            (not rule.variables or variable in rule.variables)
            and rule.dialect in ("", self.graph.dialect)
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
    bare: bool  # no condition but the op's type
    rule: Rule


def _stages(chains: Iterable[Rule]) -> dict[str, list[_Stage]]:
    """Stages by op type."""
    found: dict[str, list[_Stage]] = {}
    bit = 1
    for rule in chains:
        before = 0
        for index, step in enumerate(rule.chain):
            bare = not step.squares and step.constant_at_most is None and not step.attributes
            stage = _Stage(step, bit, before, index == len(rule.chain) - 1, bare, rule)
            for op_type in step.ops:
                found.setdefault(op_type, []).append(stage)
            before, bit = bit, bit << 1
    return found


def _pattern_matches(graph: PrecisionGraph, book: RuleBook) -> dict[str, list[Rule]]:
    """Pattern rules by the ops they mark."""
    stages = _stages(rule for rule in book.chains if rule.dialect in ("", graph.dialect))
    transparent = book.transparent
    reached: dict[str, int] = {}
    entered: list[tuple[Op, list[_Stage]]] = []  # ops on some path, in topological order
    for op in graph.ops.values():
        candidates = stages.get(op.type, ())
        carries = op.type in transparent
        if not candidates and not carries:
            continue
        arriving = 0
        for slot in op.inputs:
            arriving |= reached.get(slot.value, 0)
        mine = [
            stage
            for stage in candidates
            if (not stage.before or stage.before & arriving) and _enters(stage, op, reached, graph)
        ]
        leaving = arriving if carries else 0
        for stage in mine:
            leaving |= stage.bit
        if leaving:
            entered.append((op, mine))
            reached.update([(slot.value, leaving) for slot in op.outputs if slot.decision and slot.value])
    return _completed(entered, transparent, reached)


def _completed(
    entered: Sequence[tuple[Op, list[_Stage]]], transparent: frozenset[str], reached: Mapping[str, int]
) -> dict[str, list[Rule]]:
    """Rules by op, of the stages that lie on a path which reaches the pattern's last step."""
    wanted: dict[str, int] = {}
    found: dict[str, dict[str, Rule]] = {}
    for op, stages in reversed(entered):
        asked = 0
        for slot in op.outputs:
            asked |= wanted.get(slot.value, 0)
        for stage in stages:
            if stage.last or stage.bit & asked:
                if stage.step.marks:
                    found.setdefault(op.id, {})[stage.rule.name] = stage.rule
                if stage.before:
                    _want(wanted, reached, _links(op, stage.step), stage.before)
        if asked and op.type in transparent:
            _want(wanted, reached, op.inputs, asked)
    return {op: list(rules.values()) for op, rules in found.items()}


def _want(wanted: dict[str, int], reached: Mapping[str, int], slots: Iterable[Slot], bits: int) -> None:
    """Ask the values in `slots` for those of `bits` that reach them."""
    for slot in slots:
        here = bits & reached.get(slot.value, 0)
        if here:
            wanted[slot.value] = wanted.get(slot.value, 0) | here


def _links(op: Op, step: Step) -> tuple[Slot, ...]:
    """The inputs through which the step before may enter."""
    return op.inputs if step.slot is None else op.inputs[step.slot : step.slot + 1]


def _enters(stage: _Stage, op: Op, reached: Mapping[str, int], graph: PrecisionGraph) -> bool:
    """Whether an op of the right type takes this step, given that the step before reaches it somewhere."""
    step = stage.step
    if step.slot is not None and stage.before:
        slots = op.inputs[step.slot : step.slot + 1]
        if not slots or not stage.before & reached.get(slots[0].value, 0):
            return False
    return stage.bare or (
        (not step.squares or _squares(graph, op))
        and (step.constant_at_most is None or _has_epsilon(graph, op, step.constant_at_most))
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
