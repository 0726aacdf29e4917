"""Reading options: what callers write, and what a digest remembers."""

from pathlib import Path

import pytest

from ampgraph.errors import OptionError
from ampgraph.options import (
    Options,
    make_options,
    parse_shape,
    parse_shapes,
    parse_threshold,
    parse_thresholds,
    to_words,
)
from ampgraph.precision import Precision


def test_words_become_options() -> None:
    options = make_options(precision="bfloat16", device="H100", rules="r.toml", shapes={"x": [1, 2]}, keep="a")
    assert options == Options(Precision.BFLOAT16, device="h100", rules=Path("r.toml"), shapes={"x": (1, 2)}, keep="a")


@pytest.mark.parametrize(
    ("words", "complaint"),
    [
        ({"precision": "float8"}, "--precision float8: unknown value; choose one of float16, bfloat16"),
        ({"precision": "float32"}, "--precision float32"),
        ({"target": "tpu"}, "--target tpu"),
        ({"objective": "beauty"}, "choose one of speed, memory, coverage"),
        ({"keep": "("}, "is no regular expression"),
        ({"low": "*"}, "is no regular expression"),
        ({"io": "["}, "is no regular expression"),
        ({"opset": -1}, "is no opset"),
        ({"native": True, "cuda_graph": True, "target": "onnx"}, "--native and --target onnx: do not go together"),
        ({"shapes": {"x": (1, -2)}}, "negative size"),
        ({"shapes": {"x": (1, 10**20)}}, f"shapes['x']=1x{10**20}: has more than 1099511627776 elements"),
        ({"keep": ["a", "("]}, "--keep '(': is no regular expression"),
        ({"shapes": {"x": (1.5, 3)}}, "shapes['x']: is (1.5, 3); give whole numbers"),
        ({"shapes": {"x": "1x3"}}, "shapes['x']: is '1x3'; give whole numbers"),
        ({"shapes": [(1, 3)]}, "shapes: is of type list; give sizes by name of input"),
        ({"shapes": {1: (1, 3)}}, "a name in shapes: is 1, of type int"),
        ({"opset": "20"}, "opset: is '20'; give a whole number"),
        ({"keep": 5}, "keep: is 5, of type int; give a string"),
        ({"low": ["a", 5]}, "low: is 5, of type int; give a string"),
        ({"io": None}, "io: is None"),
        ({"device": 3}, "device: is 3"),
        ({"rules": 3}, "rules: is of type int; give the path of a file"),
        ({"plan": object()}, "plan: is of type object; give the path of a plan file, such as save_plan=FILE writes"),
    ],
)
def test_values_that_mean_nothing(words, complaint: str) -> None:
    with pytest.raises(OptionError) as caught:
        make_options(**words)
    assert complaint in str(caught.value)
    assert "\n" not in str(caught.value)


def test_shapes_and_thresholds_as_text() -> None:
    assert parse_shape("x=1x3x224x224") == ("x", (1, 3, 224, 224))
    assert parse_shape("a=b=7") == ("a=b", (7,))
    assert parse_threshold("coverage=0.9") == ("coverage", 0.9)
    for text in ("x", "x=", "=1", "x=1x", "x=1,2", "x=-1"):
        with pytest.raises(OptionError, match="NAME=1x3x224x224"):
            parse_shape(text)
    for text in (f"x=1x{10**20}", "x=0x1048576x1048577"):
        with pytest.raises(OptionError, match="more than 1099511627776 elements"):
            parse_shape(text)
    for text in ("coverage", "coverage=", "coverage=high"):
        with pytest.raises(OptionError, match=r"coverage=0\.9"):
            parse_threshold(text)


def test_what_is_given_twice_is_refused_not_lost() -> None:
    assert parse_shapes(["x=1x2", "y=3"]) == {"x": (1, 2), "y": (3,)}
    with pytest.raises(OptionError, match="--shape x: is given twice"):
        parse_shapes(["x=1x2", "x=1x2"])
    assert parse_thresholds(["coverage=0.5"]) == {"coverage": 0.5}
    with pytest.raises(OptionError, match="--require coverage: is given twice"):
        parse_thresholds(["coverage=0.9", "coverage=0.5"])


def test_several_expressions_are_one_wish() -> None:
    assert make_options(keep=["a", ""]) == make_options(keep="a")
    assert make_options(keep=["a"]).digest() == Options(keep="a").digest()
    both = make_options(keep=["a", "b c"], low=())
    assert (both.keep, both.low) == (("a", "b c"), "")
    assert to_words(both) == ["--keep", "a", "--keep", "'b c'"]


def test_the_digest_remembers_contents_not_paths(tmp_path: Path) -> None:
    one, two = tmp_path / "one.toml", tmp_path / "two.toml"
    one.write_text("a")
    two.write_text("a")
    assert Options(rules=one).digest() == Options(rules=two).digest()
    two.write_text("b")
    digests = {Options(rules=one).digest(), Options(rules=two).digest(), Options().digest(), Options(opset=18).digest()}
    assert len(digests) == 4
    with pytest.raises(OptionError, match="cannot be read"):
        Options(plan=tmp_path / "missing").digest()


def test_options_as_words_of_a_command_line() -> None:
    options = Options(Precision.BFLOAT16, low="a b", shapes={"x": (1, 2)}, opset=22, fuse=False, cuda_graph=True)
    said = "--precision bfloat16 --low 'a b' --shape x=1x2 --opset 22 --no-fuse --cuda-graph"
    assert " ".join(to_words(options)) == said
    assert to_words(Options(rules=Path("r.toml"))) == []
