"""Numbers with their nouns."""

from ampgraph.wording import are, numbered


def test_one_is_no_plural() -> None:
    said = [f"{numbered(count, 'cast')} {are(count)}" for count in range(3)]
    assert said == ["0 casts are", "1 cast is", "2 casts are"]
