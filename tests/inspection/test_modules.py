"""The tree of modules: scopes, bodies, neighbours, stretches."""

from collections import Counter
from itertools import pairwise

from ampgraph.inspection.document import Module
from ampgraph.inspection.facets import Place
from ampgraph.inspection.modules import DEEPEST, Leaf, arrange


def leaf(id: str, path: str | None, *sources: str, body: str = "", owner: str = "", type: str = "Op") -> Leaf:
    place = None if path is None else Place(tuple(part for part in path.split(".") if part))
    return Leaf(id, type, body, owner, body, place, sources)


def paths(leaves: list[Leaf]) -> dict[str, str]:
    modules, homes = arrange(leaves)
    return {id: modules[home].path for id, home in homes.items()}


def test_scopes_become_modules_with_their_types() -> None:
    typed = Leaf("a", "Op", "", "", "", Place(("encoder", "layer"), ("Encoder", "Layer")), ())
    modules, homes = arrange([typed, leaf("b", "encoder")])
    assert modules == (
        Module("", "", -1), Module("encoder", "encoder", 0, "Encoder"), Module("layer", "encoder.layer", 1, "Layer"),
    )  # fmt: skip
    assert homes == {"a": 2, "b": 1}


def test_what_has_no_scope_goes_to_its_reader_else_to_what_it_reads() -> None:
    found = paths([leaf("cast", None), leaf("a", "left", "cast"), leaf("b", "right"), leaf("lost", None, "b")])
    assert found == {"cast": "left", "a": "left", "b": "right", "lost": "right"}


def test_a_body_is_a_module_inside_of_its_owners() -> None:
    found = paths([
        leaf("loop", "decoder"), leaf("in", "decoder.rnn", body="loop/body", owner="loop"),
        leaf("free", None, "in", body="loop/body", owner="loop"), leaf("out", "decoder", "loop"),
    ])  # fmt: skip
    assert found == {
        "loop": "decoder", "in": "decoder.loop/body.rnn", "free": "decoder.loop/body.rnn", "out": "decoder",
    }  # fmt: skip


def test_bodies_of_one_name_stay_apart() -> None:
    owners = [leaf("one", ""), leaf("two", "")]
    inner = [
        Leaf(f"{owner.id}in", "Op", f"{owner.id}/then", owner.id, "If then", None, ()) for owner in owners
    ]  # fmt: skip
    modules, homes = arrange([owners[0], inner[0], owners[1], inner[1]])
    assert homes["onein"] != homes["twoin"]
    assert [modules[homes[each.id]].name for each in inner] == ["If then", "If then"]


def test_a_model_without_scopes_is_cut_into_stretches() -> None:
    count = 5_000
    leaves = [leaf(str(n), None, *([str(n - 1)] if n else []), type="Conv" if n % 2 else "Relu") for n in range(count)]
    modules, homes = arrange(leaves)
    children = Counter(module.parent for module in modules) + Counter(homes.values())
    assert max(children.values()) <= 60
    assert modules[1].name == "part 1: Relu, Conv"
    order = [homes[str(n)] for n in range(count)]
    assert len(set(order)) == 1 + sum(one != other for one, other in pairwise(order))


def test_many_modules_in_one_are_grouped_too() -> None:
    modules, _ = arrange([leaf(str(n), f"layer{n}") for n in range(200)])
    children = Counter(module.parent for module in modules)
    assert max(children.values()) <= 60
    assert modules[1].name.startswith("part 1: layer0 to layer")


def test_scopes_that_are_very_deep_end_in_one_long_name() -> None:
    modules, homes = arrange([leaf("a", ".".join(["a"] * 5000))])
    assert len(modules) == DEEPEST + 2
    assert len(modules[homes["a"]].name) > 5000
