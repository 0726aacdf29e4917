"""Which values of two models are the same value: by name and body, through what `apply` records of renamed ones."""

from __future__ import annotations

from dataclasses import dataclass

from ampgraph.onnx_model.inventory import Entry, Inventory, Key, Path

NUMBERS = frozenset(
    (
        "float16", "bfloat16", "float32", "float64", "bool", "int8", "int16", "int32", "int64", "uint8", "uint16",
        "uint32", "uint64",
    )
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Pair:
    """A value of the reference and its counterpart in the candidate."""

    reference: Entry
    candidate: Entry


@dataclass(frozen=True)
class Matching:
    """Pairs in the candidate's order, and what has no counterpart: `candidate`'s values, `reference`'s."""

    pairs: tuple[Pair, ...]
    unmatched: tuple[Entry, ...]
    missing: tuple[Entry, ...]


def match(reference: Inventory, candidate: Inventory) -> Matching:
    """Pair the values that nodes of the candidate make with those of the reference.

    A value is paired with one that a node makes; a cast of ours with the same cast in the reference, else with whatever
    it casts, inputs included.
    """
    made = {entry.key: entry for entry in reference.made if not entry.is_cast}
    castable = {**{entry.key: entry for entry in reference.given}, **made}
    casts = {_cast_key(entry): entry for entry in reference.made if entry.is_cast}
    pairs, unmatched = [], []
    seen: set[Key] = set()
    for entry in candidate.made:
        found = casts.get(_cast_key(entry), castable.get(entry.key)) if entry.is_cast else made.get(entry.key)
        if found is None:
            unmatched.append(entry)
        else:
            pairs.append(Pair(found, entry))
            seen.add(entry.key)
    missing = tuple(entry for key, entry in made.items() if key not in seen)
    return Matching(tuple(pairs), tuple(unmatched), missing)


def _cast_key(entry: Entry) -> tuple[Key, str, Path]:
    return entry.key, entry.value.dtype, entry.path
