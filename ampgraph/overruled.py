"""What the user's wishes overrule, said once for all nodes that are alike in it."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

NAMED = 6  # nodes that a note names


@dataclass(frozen=True, slots=True)
class Overruled:
    """A wish for one node against its rule, "" for none, for which `cause` and `why` then speak."""

    option: str
    node: str
    rule: str
    cause: str = ""
    why: str = ""


def notes_on(overruled: Iterable[Overruled]) -> tuple[str, ...]:
    """A sentence for every option, rule and cause, with the nodes in their order and the reason."""
    groups: dict[tuple[str, str, str], list[Overruled]] = {}
    for each in overruled:
        groups.setdefault((each.option, each.rule, each.cause), []).append(each)
    return tuple(_note(option, rule or cause, members) for (option, rule, cause), members in groups.items())


def _note(option: str, rule: str, members: list[Overruled]) -> str:
    nodes, reasons = (list(dict.fromkeys(found)) for found in zip(*((m.node, m.why) for m in members), strict=True))
    more = f" and {len(nodes) - NAMED} more" if len(nodes) > NAMED else ""
    why = f": {reasons[0]}" if reasons[0] else ""
    like = f" (and {len(reasons) - 1} reasons like it)" if len(reasons) > 1 else ""
    return f"{option} {', '.join(nodes[:NAMED])}{more} overrules {rule}{why}{like}"
