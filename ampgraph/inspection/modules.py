"""Modules: the tree that a picture is folded along, from the exporter's scopes where there are any.

A body of an If, Loop or Scan is a module of its own inside its owner's, so no module holds nodes of two bodies. Where a
module would have too many children side by side, stretches of them become modules without a type.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

from ampgraph.inspection.document import Module
from ampgraph.inspection.facets import Place
from ampgraph.inspection.stretches import Stretch, group

DEEPEST = 12  # levels of scopes; what is deeper is one name
Key = tuple[str, str]  # what tells siblings apart: "module" and a name, or "body" and a body's id


@dataclass(frozen=True, slots=True)
class Leaf:
    """A node to find a module for. `place`: None where nobody says. `sources`: nodes that it reads from."""

    id: str
    type: str
    body: str
    owner: str  # node whose body it is in
    label: str  # the body's name
    place: Place | None
    sources: tuple[str, ...]


def arrange(leaves: Sequence[Leaf]) -> tuple[tuple[Module, ...], Mapping[str, int]]:
    """The modules, the root first, and the module of each node."""
    tree = _Tree()
    for leaf in adopted(leaves):
        tree.add(leaf)
    return _numbered(tree, {leaf.id: leaf for leaf in leaves})


def adopted(leaves: Sequence[Leaf]) -> list[Leaf]:
    """Nodes without a place take that of a reader in the same body, else of a node that they read from."""
    known = {leaf.id: leaf.place for leaf in leaves}
    if not any(leaf.place and leaf.place.path for leaf in leaves):
        return list(leaves)
    bodies = {leaf.id: leaf.body for leaf in leaves}
    for leaf in reversed(leaves):
        for source in leaf.sources:
            if known.get(source) is None and bodies.get(source) == leaf.body:
                known[source] = known[leaf.id]
    for leaf in leaves:
        if known[leaf.id] is None:
            near = (known.get(source) for source in leaf.sources if bodies.get(source) == leaf.body)
            known[leaf.id] = next((place for place in near if place is not None), None)
    return [replace(leaf, place=known[leaf.id]) for leaf in leaves]


@dataclass
class _Branch:
    """A module while the tree grows. Children are nodes and modules by first appearance."""

    name: str
    type: str = ""
    modules: dict[Key, _Branch] = field(default_factory=dict)
    children: list[str | _Branch] = field(default_factory=list)

    def into(self, key: Key, name: str, type: str = "") -> _Branch:
        """The child module of that key."""
        found = self.modules.get(key)
        if found is None:
            found = self.modules[key] = _Branch(name, type)
            self.children.append(found)
        return found


class _Tree:
    """The tree while it grows; private to this module."""

    def __init__(self) -> None:
        self.root = _Branch("")
        self.homes: dict[str, tuple[_Branch, Place | None]] = {}  # by node: its module and its place
        self.bodies: dict[str, _Branch] = {}

    def add(self, leaf: Leaf) -> None:
        """Put a node under its body and its scopes there."""
        branch, skipped = self.root, 0
        place = leaf.place or Place(())
        if leaf.body:
            home, around = self.homes.get(leaf.owner, (self.root, None))
            branch = self.bodies.get(leaf.body) or home.into(("body", leaf.body), leaf.label)
            self.bodies[leaf.body] = branch
            skipped = _common(place.path, around.path if around else ())
        for name, type in list(_levels(place))[skipped:]:
            branch = branch.into(("module", name), name, type)
        branch.children.append(leaf.id)
        self.homes[leaf.id] = branch, leaf.place


def _levels(place: Place) -> Iterator[Key]:
    path, types = place.path, place.types or ("",) * len(place.path)
    yield from zip(path[:DEEPEST], types, strict=False)
    if len(path) > DEEPEST:
        yield ".".join(path[DEEPEST:]), types[-1]


def _common(first: Sequence[str], second: Sequence[str]) -> int:
    count = 0
    for one, other in zip(first, second, strict=False):
        if one != other:
            break
        count += 1
    return min(count, DEEPEST)


def _numbered(tree: _Tree, leaves: Mapping[str, Leaf]) -> tuple[tuple[Module, ...], dict[str, int]]:
    modules, homes = [Module("", "", -1)], dict[str, int]()
    waiting: list[tuple[_Branch, int]] = [(tree.root, 0)]
    while waiting:
        branch, place = waiting.pop()
        for child, home in _placed(branch, place, modules, leaves):
            if isinstance(child, str):
                homes[child] = home
            else:
                modules.append(Module(child.name, _path(modules[home], child.name), home, child.type))
                waiting.append((child, len(modules) - 1))
    return tuple(modules), homes


def _path(parent: Module, name: str) -> str:
    return f"{parent.path}.{name}" if parent.path else name


def _placed(
    branch: _Branch, place: int, modules: list[Module], leaves: Mapping[str, Leaf]
) -> Iterator[tuple[str | _Branch, int]]:
    """Each child of a branch with the number of the module that it goes to; makes modules of stretches."""
    children = branch.children
    parts = group(len(children), _flows(children, leaves)) if len(children) > 1 else ()
    waiting = [(part, place) for part in reversed(parts)] or [(Stretch(0, len(children)), place)]
    number = 0
    while waiting:
        stretch, parent = waiting.pop()
        home = parent
        if parts:
            number += 1
            name = f"part {number}: {_kinds(children[stretch.first : stretch.end], leaves)}"
            modules.append(Module(name, _path(modules[parent], name), parent))
            home = len(modules) - 1
        if stretch.parts:
            waiting.extend((part, home) for part in reversed(stretch.parts))
        else:
            yield from ((child, home) for child in children[stretch.first : stretch.end])


def _flows(children: Sequence[str | _Branch], leaves: Mapping[str, Leaf]) -> Iterator[tuple[int, int]]:
    """Which child reads from which, by their places in the row."""
    row = {id: index for index, child in enumerate(children) for id in _ids(child)}
    for id, index in row.items():
        yield from ((row[source], index) for source in leaves[id].sources if source in row)


def _ids(child: str | _Branch) -> Iterator[str]:
    waiting = [child]
    while waiting:
        each = waiting.pop()
        if isinstance(each, str):
            yield each
        else:
            waiting.extend(each.children)


def _kinds(children: Sequence[str | _Branch], leaves: Mapping[str, Leaf]) -> str:
    """The two most frequent operators, or the first and the last module."""
    names = [child.name for child in children if isinstance(child, _Branch)]
    if len(names) * 2 > len(children):
        return f"{names[0]} to {names[-1]}"
    types = Counter(leaves[child].type for child in children if isinstance(child, str))
    return ", ".join(kind for kind, _ in types.most_common(2))
