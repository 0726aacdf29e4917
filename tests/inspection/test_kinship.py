"""What is of one model, by names and by what reads what."""

import ampgraph
from ampgraph.inspection.kinship import FEW, Step, are_strangers, connections
from tests.small_models import classifier, parse, random


def chain(*types: str, names: str = "v") -> list[Step]:
    """Operators one after the other, on values of numbered names."""
    return [(type, [f"{names}{place}"], [f"{names}{place + 1}"]) for place, type in enumerate(types)]


def test_casts_are_seen_through() -> None:
    steps = [("Cast", ["x"], ["x_low"]), ("CastLike", ["x_low", "w"], ["z"]), ("Add", ["z", "w"], ["y"])]
    assert connections(steps) == {("x", "y"), ("w", "y")}
    assert connections([("Cast", ["a"], ["b"]), ("Cast", ["b"], ["a"]), ("Neg", ["a"], ["y"])])  # no model, and it ends


def test_empty_slots_and_what_makes_nothing_are_no_connections() -> None:
    assert connections([("Clip", ["x", "", "m"], ["y"]), ("Print", ["y"], [])]) == {("x", "y"), ("m", "y")}


def test_strangers_share_names_and_not_what_reads_what() -> None:
    first = connections(chain(*["Neg"] * 40))
    other = connections([("Neg", [f"v{place}"], [f"v{(place * 7) % 41 + 2}"]) for place in range(40)])
    assert are_strangers(first, other)
    assert not are_strangers(first, connections(chain(*["Neg"] * 20)))  # a part of it
    assert not are_strangers(connections(chain(*["Neg"] * (FEW - 1))), other)  # too few to tell
    assert not are_strangers(frozenset(), first)


def test_compare_says_that_models_are_different_ones() -> None:
    """Numbered names are alike whatever the model: `Conv.1` of one is not `Conv.1` of the other."""
    forth = " ".join(f"v{place + 1} = Neg(v{place})" for place in range(1, 30))
    back = " ".join(f"v{place} = Neg(v{place + 1})" for place in reversed(range(2, 30)))
    one = parse(f"g (float[4] x) => (float[4] y) {{ v1 = Abs(x) {forth} y = Relu(v30) }}")
    other = parse(f"g (float[4] x) => (float[4] y) {{ v30 = Abs(x) {back} y = Relu(v2) }}")
    found = ampgraph.compare(one, other, provider="cpu")
    assert any("connections between values: they are different ones with names alike" in note for note in found.notes)
    assert not ampgraph.compare(one, one, provider="cpu").notes


def test_a_conversion_is_of_its_source_to_compare() -> None:
    low = ampgraph.convert(classifier(), objective="coverage").model
    assert not ampgraph.compare(classifier(), low, {"image": random(1, 8, 16, 16)}, provider="cpu").notes
