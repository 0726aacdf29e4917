"""Causes: why each decision, and so each node, is in its precision, in the three states of a model."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

from ampgraph.graph import Decision, Op
from ampgraph.inspection.document import Choice
from ampgraph.inspection.facets import Recorded
from ampgraph.inspection.view import NO_FLOAT, View, finite
from ampgraph.judgement import Verdict
from ampgraph.plan import BY_PRICE
from ampgraph.precision import Precision
from ampgraph.reasons import format_amount
from ampgraph.report import cause_of, representative

SOURCE = "source"  # nobody decided: it was found so


@dataclass(frozen=True, slots=True)
class Reason:
    """Cause, sentence and the rule that it rests on, -1 for none."""

    cause: str
    why: str
    rule: int = -1


@dataclass(frozen=True)
class Causes:
    """The reasons in a model."""

    view: View

    @cached_property
    def _bonds(self) -> Mapping[str, tuple[str, ...]]:
        """Sentences by decision."""
        graph, judgement = self.view.graph, self.view.judgement
        found: dict[str, dict[str, None]] = {}
        for first, second in (*judgement.ties, *graph.ties):
            if first != second:
                found.setdefault(first, {})[f"has the precision of {second}"] = None
                found.setdefault(second, {})[f"has the precision of {first}"] = None
        for first, second in judgement.implications:
            found.setdefault(first, {})[f"is low only where {second} is"] = None
        return {id: tuple(sentences) for id, sentences in found.items()}

    def choices(self, op: Op) -> tuple[Choice, ...]:
        """What became of each type variable of an op."""
        return tuple(self._choice(decision) for decision in self.view.graph.decisions_of.get(op.id, ()))

    def _choice(self, decision: Decision) -> Choice:
        reason, costs = self.of(decision), self.view.costs
        low, high = costs.low.get(decision.id), costs.high.get(decision.id)
        return Choice(
            decision.variable,
            self.view.plan.choices[decision.id].precision.value,
            reason.cause,
            reason.why,
            reason.rule,
            finite(low),
            finite(high),
            self._bonds.get(decision.id, ()),
        )

    def of(self, decision: Decision) -> Reason:
        """Why a decision has its precision."""
        if self.view.decided:
            return self._planned(decision)
        recorded = self.view.facets.recorded.get(decision.op) if decision.kind == "op" else None
        return self._recorded(decision, recorded) or self._found(decision)

    def _rule(self, name: str) -> int:
        return self.view.rule_places.get(name, -1)

    def _planned(self, decision: Decision) -> Reason:
        choice, verdict = self.view.plan.choices[decision.id], self.view.judgement.verdicts[decision.id]
        why = choice.why
        if choice.cause is None and not verdict.legal:
            why = f"{why}; {verdict.why}"
        return Reason(cause_of(choice), why, self._rule(choice.rule or verdict.rule))

    def _recorded(self, decision: Decision, recorded: Recorded | None) -> Reason | None:
        """What the conversion wrote, where it speaks of this variable."""
        if recorded is None:
            return None
        precision, colon, why = recorded.of(decision.variable).partition(": ")
        if not colon or precision != self.view.plan.choices[decision.id].precision:
            return None
        verdict = self.view.judgement.verdicts[decision.id]
        rule = next((rule.name for rule in self.view.book.by_op.get(self._type(decision), ()) if rule.why in why), "")
        settled = BY_PRICE if decision.present is not Precision.FLOAT32 else verdict.cause.value
        cause = recorded.cause or ("rule" if rule else settled)
        return Reason(cause, why, self._rule(recorded.rule or rule or verdict.rule))

    def _type(self, decision: Decision) -> str:
        return self.view.graph.ops[decision.op].type

    def _found(self, decision: Decision) -> Reason:
        """Of a file that ampgraph did not convert: what holds it in float32, or that nothing does."""
        verdict, present = self.view.judgement.verdicts[decision.id], decision.present
        rule = self._rule(verdict.rule)
        if decision.kind != "op":
            return Reason("pin", f"the model's interface has it in {present}")
        if present is not Precision.FLOAT32:
            return Reason(SOURCE, f"is {present} in the file as it was found{self._opinion(verdict)}", rule)
        if not verdict.legal:
            return Reason(verdict.cause.value, verdict.why, rule)
        return Reason(SOURCE, f"is float32 in the file as it was found; {self._gain(decision)}", rule)

    def _opinion(self, verdict: Verdict) -> str:
        """What ampgraph's rule says of an op that is low already."""
        name = verdict.rule
        rule = self.view.book.by_name.get(name)
        return f"; ampgraph's rule {name} ({rule.category}): {rule.why}" if rule else ""

    def _gain(self, decision: Decision) -> str:
        costs, low = self.view.costs, self.view.plan.precision
        cheap, dear = costs.low.get(decision.id), costs.high.get(decision.id)
        if cheap is None or dear is None:
            return f"{low} would be legal here"
        amounts = format_amount(cheap, costs.unit), format_amount(dear, costs.unit)
        return f"{low} would be legal: by itself {amounts[0]} against {amounts[1]}, without casts"

    def of_op(self, op: Op) -> Reason:
        """Why an op is in its precision: its principal variable's reason, or that it carries no float."""
        decisions: Sequence[Decision] = self.view.graph.decisions_of.get(op.id, ())
        decision = representative(self.view.graph, op) or next(iter(decisions), None)
        if decision is not None:
            return self.of(decision)
        precision = self.view.precision_of(op)
        if precision != NO_FLOAT:
            return Reason("pin", f"works on {precision}, which ampgraph leaves as it is")
        return Reason("pin", "reads and makes no floating-point value")

    def of_interface(self, decision: str) -> Reason:
        """Why a graph input or output is in its precision."""
        found = self.view.graph.decisions.get(decision)
        return (
            self.of(found) if found else Reason("pin", "the interface carries no float32 or low-precision value here")
        )
