"""Explain: why a node is in its precision, variable by variable: rule, ranges, parameters, kernels, taint or cost."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Protocol

from ampgraph.costs import Costs
from ampgraph.errors import OptionError
from ampgraph.graph import Decision, Op, PrecisionGraph, Slot, Use
from ampgraph.inspection.facets import Recorded
from ampgraph.intervals import Interval
from ampgraph.judgement import Judgement
from ampgraph.matching import winning_rules
from ampgraph.plan import Plan, source_of
from ampgraph.precision import Precision
from ampgraph.ranges import propagate
from ampgraph.reasons import format_amount
from ampgraph.report import cause_of
from ampgraph.report_text import wrapped
from ampgraph.rule import Rule
from ampgraph.rulebook import RuleBook, conditions

CLOSE = 5
CAST = "cast"  # the recorded cause of a cast that a conversion wrote
_FOLLOWS = re.compile(r"^taint: follows \S+ '(.*)', which stays float32")
READERS = 4


class Decided(Protocol):
    """What there is to explain, in either dialect."""

    @property
    def graph(self) -> PrecisionGraph:
        """The graph that was planned."""

    @property
    def judgement(self) -> Judgement:
        """What was legal."""

    @property
    def costs(self) -> Costs:
        """What everything was reckoned to cost."""

    @property
    def plan(self) -> Plan:
        """What was chosen."""


def explain(
    planned: Decided,
    node: str,
    book: RuleBook,
    recorded: Mapping[str, Recorded] | None = None,
    parts: Mapping[str, str] | None = None,
) -> str:
    """All there is to say of the nodes called `node`, as text. A value's name stands for the node that makes it.

    `recorded`: what an earlier conversion wrote into the model, by op id; its reasons stand then, and what else is said
    is computed anew. `parts`: names of nodes that are part of a fused one. Raises OptionError for an unknown name.
    """
    graph = planned.graph
    ranges = propagate(graph)
    case = _Case(planned, ranges, winning_rules(graph, book, ranges), book, recorded or {})
    told = ["\n".join(case.op(op)) for op in find_ops(graph, node, parts)]
    return "\n\n".join(told or ["\n".join(case.interface(node))]) + "\n"


def find_ops(graph: PrecisionGraph, node: str, parts: Mapping[str, str] | None = None) -> list[Op]:
    """The ops of that name or plan id, else the one that makes that value; none for an interface name."""
    found = [op for op in graph.ops.values() if node in (op.name, op.id)]
    if not found:
        makers = [value.op for value in graph.values.values() if node in (value.name, value.id) and value.op]
        found = [graph.ops[maker] for maker in dict.fromkeys(makers)]
    if not found and not any(key in graph.decisions for key in (f"input:{node}", f"output:{node}")):
        _refuse_what_no_node_makes(graph, node)
        raise OptionError(f"node {node!r}", "is not in the model", _close_names(graph, node, parts or {}))
    return found


def _refuse_what_no_node_makes(graph: PrecisionGraph, name: str) -> None:
    """Raise OptionError for a parameter, or an input of a body, with the nodes that read it."""
    held = {value.id: value for value in graph.values.values() if name in (value.name, value.id)}
    if not held:
        return
    ops = graph.ops.values()
    readers = [op.name or op.id for op in ops if any(slot.value in held for slot in op.inputs)]
    more = f" and {len(readers) - READERS} more" if len(readers) > READERS else ""
    is_parameter = any(value.constant is not None for value in held.values())
    fact = f"is {'a parameter' if is_parameter else 'an input of a body'}, which no node makes"
    remedy = f"name one that reads it: {', '.join(readers[:READERS])}{more}" if readers else "no node reads it either"
    raise OptionError(f"{name!r}", fact, remedy)


def _close_names(graph: PrecisionGraph, node: str, parts: Mapping[str, str]) -> str:
    ops, values = ([op.name or op.id for op in graph.ops.values()], [value.name for value in graph.values.values()])
    names = dict.fromkeys([*ops, *values, *parts])
    of_type = [op.name or op.id for op in graph.ops.values() if op.type.rpartition(".")[2].lower() == node.lower()]
    if of_type:
        more = f" and {len(of_type) - CLOSE} more" if len(of_type) > CLOSE else ""
        return f"nodes of that operator are {', '.join(of_type[:CLOSE])}{more}"
    fused = [name for name in parts if node and node.lower() in name.lower()]
    if fused:
        more = f" and {len(fused) - CLOSE} more" if len(fused) > CLOSE else ""
        return f"nodes of such names were fused: {', '.join(fused[:CLOSE])}{more}"
    close = difflib.get_close_matches(node, names, CLOSE, 0.5)
    return f"close names are {', '.join(close)}" if close else "name a node, or a value that it makes"


@dataclass(frozen=True)
class _Case:
    planned: Decided
    ranges: Mapping[str, Interval]
    rules: Mapping[str, Rule]
    book: RuleBook
    recorded: Mapping[str, Recorded]

    def op(self, op: Op) -> Iterator[str]:
        """The account of one op."""
        graph = self.planned.graph
        decisions = graph.decisions_of.get(op.id, ())
        unversioned = "" if graph.dialect == "torch.fx" else ", an operator without schema"
        version = f"-{op.version}" if op.version else unversioned
        yield from wrapped(f"{op.name or op.id}: {op.type}{version}{self._within(op)}")
        if not decisions:
            yield "  has no floating-point input or output that could change"
        yield from self._remembered(op) if op.id in self.recorded and decisions else self._decided(op)
        yield from self._inputs(op)
        yield from self._outputs(op)

    def _decided(self, op: Op) -> Iterator[str]:
        """Of an op that was planned now."""
        decisions = self.planned.graph.decisions_of.get(op.id, ())
        for rule in dict.fromkeys(self.rules[each.id] for each in decisions if each.id in self.rules):
            yield from self._rule(rule)
        for decision in decisions:
            yield from self._decision(decision)

    def _remembered(self, op: Op) -> Iterator[str]:
        """Of an op in a converted file: what was recorded, then what can be told from the file as it is."""
        decisions, told = self.planned.graph.decisions_of[op.id], self.recorded[op.id]
        yield "  recorded when it was converted"
        for decision in decisions:
            yield from wrapped(f"type variable {decision.variable}: {decision.present}", "    ")
            yield from wrapped(self._reason(decision), "      ")
            yield from self._root(decision, "      ")
        named = self.book.by_name.get(told.rule)
        if named is not None:
            yield from self._rule(named, "    ")
        yield "  computed anew, from the file"
        others = (self.rules[each.id] for each in decisions if each.id in self.rules)
        for rule in dict.fromkeys(rule for rule in others if rule is not named):
            yield from self._rule(rule, "    ")
        for decision in decisions:
            yield from self._price(decision)

    def interface(self, name: str) -> Iterator[str]:
        """The account of a graph input or output."""
        for kind in ("input", "output"):
            decision = self.planned.graph.decisions.get(f"{kind}:{name}")
            if decision is not None:
                choice = self.planned.plan.choices[decision.id]
                anew = "; computed anew, from the file" if self.recorded else ""
                yield from wrapped(f"{name}: graph {kind}, in {choice.precision}{anew}")
                yield from wrapped(f"{cause_of(choice)}: {choice.why}", "  ")

    def _within(self, op: Op) -> str:
        scope = self.planned.graph.scopes[op.scope]
        return f", in {scope.id}, which runs {scope.frequency:g} times a run" if op.scope else ""

    def _rule(self, rule: Rule, indent: str = "  ") -> Iterator[str]:
        yield from wrapped(f"rule {rule.name} ({rule.place}): {rule.category}", indent)
        for text in (rule.why, f"source: {rule.source}", *conditions(rule)):
            yield from wrapped(text, f"{indent}  ")

    def _decision(self, decision: Decision) -> Iterator[str]:
        choice = self.planned.plan.choices[decision.id]
        verdict = self.planned.judgement.verdicts[decision.id]
        yield from wrapped(f"type variable {decision.variable}: {choice.precision}", "  ")
        told = self.rules.get(decision.id)
        why = f"{told.name}, see above" if told and told.why == choice.why else choice.why
        yield from wrapped(f"{cause_of(choice)}: {why}", "    ")
        yield from self._root(decision)
        if choice.cause is None and not verdict.legal:
            yield from wrapped(f"{verdict.cause}: {verdict.why}", "    ")
        if verdict.legal:
            yield from self._price(decision)
            yield from self._bonds(decision)

    def _reason(self, decision: Decision) -> str:
        """What settled a decision, and why: as it was recorded, where that is so."""
        told = self.recorded.get(decision.op) if decision.kind == "op" else None
        if told is None:
            choice = self.planned.plan.choices[decision.id]
            return f"{cause_of(choice)}: {choice.why}"
        precision, _, why = told.of(decision.variable).partition(": ")
        named = self.book.by_name.get(told.rule)
        why = f"{named.name}, see below" if named is not None and named.why == why else why
        changed = f"; it is {decision.present} now: something else changed it since"
        return f"{told.cause}: {why}{changed if precision != decision.present else ''}".removeprefix(": ")

    def _root(self, decision: Decision, indent: str = "    ") -> Iterator[str]:
        """Where a chain of ops that each follow the one before them begins, and why that one is float32."""
        seen, last = {decision.op}, None
        while (found := _FOLLOWS.search(self._reason(decision))) is not None:
            followed = next((op for op in self.planned.graph.ops.values() if found[1] in (op.name, op.id)), None)
            decisions = self.planned.graph.decisions_of.get(followed.id, ()) if followed else ()
            if followed is None or followed.id in seen or not decisions:
                return  # gone where something else changed a converted file
            seen.add(followed.id)
            last = followed
            decision = next((each for each in decisions if each.principal), decisions[0])
        if last is not None:
            named = f"{last.type} {last.name or last.id!r}"
            yield from wrapped(f"at the root, {named}: {self._reason(decision)}", indent)

    def _price(self, decision: Decision) -> Iterator[str]:
        costs, low = self.planned.costs, self.planned.plan.precision
        if decision.id in costs.high or decision.id in costs.low:
            cheap, dear = (format_amount(each.get(decision.id, 0), costs.unit) for each in (costs.low, costs.high))
            yield from wrapped(f"by itself: {cheap} in {low}, {dear} in float32", "    ")

    def _bonds(self, decision: Decision) -> Iterator[str]:
        judgement, graph = self.planned.judgement, self.planned.graph
        ties = (pair for pair in (*judgement.ties, *graph.ties) if decision.id in pair)
        for other in dict.fromkeys(second if first == decision.id else first for first, second in ties):
            yield from wrapped(f"has the precision of {other}", "    ")
        for first, second in judgement.implications:
            if first == decision.id:
                yield from wrapped(f"is low only where {second} is", "    ")

    def _inputs(self, op: Op) -> Iterator[str]:
        for index, slot in enumerate(op.inputs):
            if slot.decision:
                use = Use(slot.value, slot.decision, op.id, index, op.scope)
                cast = self._cast(use) or self._written_cast(slot)
                yield from wrapped(f"reads {self._value(slot)}{self._constant(slot)}{cast}", "  ")

    def _outputs(self, op: Op) -> Iterator[str]:
        graph = self.planned.graph
        for slot in op.outputs:
            if slot.decision and slot.value:
                uses = graph.uses_of.get(slot.value, ())
                names = list(dict.fromkeys(_reader(graph, use) for use in uses))
                more = f" and {len(names) - READERS} more" if len(names) > READERS else ""
                readers = f", read by {', '.join(names[:READERS])}{more}" if names else ""
                yield from wrapped(f"makes {self._value(slot)}{readers}", "  ")

    def _value(self, slot: Slot) -> str:
        value = self.planned.graph.values[slot.value]
        shape = "x".join(map(str, value.shape)) + " " if value.shape else ""
        return f"{value.name} ({shape}{slot.formal}){self._range(slot.value)}"

    def _range(self, value: str) -> str:
        interval = self.ranges.get(value)
        if interval is None or (interval.unbounded and interval.lo == -interval.hi):
            return ""
        words = "within" if interval.complete else "reaching"
        return f", {words} [{interval.lo:.4g}, {interval.hi:.4g}]"

    def _constant(self, slot: Slot) -> str:
        value, low = self.planned.graph.values[slot.value], self.planned.plan.precision
        if value.constant is None:
            return ""
        loss = value.constant.conversions.get(low)
        kept = self.planned.plan.parameters.get(value.id)
        as_what = f", a parameter kept in {' and '.join(kept)}" if kept else ", a parameter"
        if loss is None:
            return as_what
        lost = {"overflow": loss.overflowed, "flush to zero": loss.flushed, "are subnormal": loss.subnormal}
        counts = "".join(f", {count} elements {what}" for what, count in lost.items() if count)
        return f"{as_what}; {low} would move it by {loss.error:.2g}, relative{counts}"

    def _cast(self, use: Use) -> str:
        cast = source_of(self.planned.plan, self.planned.graph, use)
        if cast is None:
            return ""
        price = self.planned.costs.down if cast.to is not Precision.FLOAT32 else self.planned.costs.up
        cost = format_amount(price.get(cast.value, 0), self.planned.costs.unit)
        return f", cast to {cast.to} for {cost}"

    def _written_cast(self, slot: Slot) -> str:
        """In a converted file: the cast that makes a value."""
        maker = self.planned.graph.ops.get(self.planned.graph.values[slot.value].op)
        if maker is None or maker.id not in self.recorded or self.recorded[maker.id].cause != CAST:
            return ""
        cast = self.planned.graph.values[maker.inputs[0].value]
        return f", cast from {cast.name} in {cast.dtype}"


def _reader(graph: PrecisionGraph, use: Use) -> str:
    return graph.ops[use.op].name or use.op if use.op else "the graph's output"
