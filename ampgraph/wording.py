"""Wording: numbers with their nouns."""

from __future__ import annotations


def numbered(count: int, noun: str) -> str:
    """`1 cast`, `2 casts`."""
    return f"{count} {noun}{'' if count == 1 else 's'}"


def are(count: int) -> str:
    """The verb that goes with so many."""
    return "is" if count == 1 else "are"
