"""Every rule as plain text for a terminal: at most 80 columns, no colour."""

from __future__ import annotations

from collections.abc import Iterator

from ampgraph.report_text import wrapped
from ampgraph.rule import Rule
from ampgraph.rulebook import RuleBook, conditions


def rules_text(book: RuleBook) -> str:
    """Every rule with its ops, reason and source."""
    return "\n\n".join("\n".join(_rule(rule)) for rule in book.rules)


def _rule(rule: Rule) -> Iterator[str]:
    yield f"{rule.name}: {rule.category}"
    for text in (", ".join(rule.named_ops), rule.why, *conditions(rule), f"source: {rule.source}"):
        yield from wrapped(text, "  ")
