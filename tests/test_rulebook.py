"""Rule files: what they may say, how a mistake in one is reported, and what a user's file does to the book."""

from importlib import resources
from pathlib import Path

import pytest

from ampgraph.errors import RuleError
from ampgraph.judgement import Category
from ampgraph.rulebook import RuleBook, load_builtin, markdown, parse, with_user_file

RULE = '[[rule]]\nname = "one"\nops = ["Sin"]\ncategory = "deny"\nwhy = "Because."\nsource = "A book"\n'


def _rule(**changes: str) -> str:
    """A valid rule with keys replaced, added, or removed by an empty text."""
    keys = {
        "name": '"one"',
        "ops": '["Sin"]',
        "category": '"deny"',
        "why": '"Because."',
        "source": '"A book"',
        **changes,
    }
    return "[[rule]]\n" + "".join(f"{key} = {value}\n" for key, value in keys.items() if value)


def test_a_rule_with_every_key_is_read():
    text = _rule(
        category='"infer"',
        dialect='"onnx"',
        min_version="13",
        max_version="20",
        variables='["T"]',
        attributes='{ axis = 1, mode = ["a", "b"], seed = { present = true } }',
        constants="{ 1 = [0.5, 2] }",
        input_dtype='["int64"]',
        outputs="[1, 3]",
        unless_within="[-8, 8]",
        only_after='"allow"',
        small="16",
        saturates="true",
        precise_slots="[1]",
    )
    (rule,) = parse(text, "a.toml")
    assert (rule.name, rule.category, rule.place, rule.user) == ("one", Category.INFER, "a.toml:1", False)
    assert {match.attribute: match.values for match in rule.attributes} == {
        "axis": (1,),
        "mode": ("a", "b"),
        "seed": (),
    }
    assert (rule.constants[0].slot, rule.constants[0].values) == (1, (0.5, 2.0))
    assert (rule.unless_within, rule.only_after, rule.small) == ((-8.0, 8.0), Category.ALLOW, 16.0)
    assert (rule.outputs, rule.precise_slots, rule.saturates, rule.narrowed) == ((1, 3), (1,), True, True)


def test_a_pattern_is_read():
    chain = '[{ ops = ["Add"], constant_at_most = 1e-3 }, { ops = ["Mul"], squares = true, slot = 1, marks = false }]'
    (rule,) = parse(_rule(ops="", chain=chain), "a.toml")
    first, second = rule.chain
    assert (first.ops, first.constant_at_most, first.marks) == (("Add",), 1e-3, True)
    assert (second.squares, second.slot, second.marks) == (True, 1, False)
    assert rule.named_ops == ("Add", "Mul")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (_rule(categry='"deny"'), "a.toml, line 7, key 'categry': unknown key; did you mean 'category'?"),
        (_rule(category='"denny"'), "a.toml, line 4, key 'category': 'denny' is not a category; did you mean 'deny'?"),
        (
            _rule(why=""),
            "a.toml, line 1, key 'why': missing; every rule needs name, category, why, source, and ops or chain",
        ),
        (_rule(source=""), "a.toml, line 1, key 'source': missing"),
        (_rule(why='" "'), "a.toml, line 5, key 'why': not a text"),
        (_rule(name='"One Two"'), "a.toml, line 2, key 'name': 'One Two' is not in kebab-case"),
        (RULE + "\n" + RULE, "a.toml, line 9, key 'name': 'one' is the name of the rule on line 1 too; rename one"),
        (_rule(ops=""), "key 'ops': a rule has either ops or a chain"),
        (_rule(ops="[]"), "a.toml, line 3, key 'ops': not a list of texts"),
        (_rule(ops='["Sin", "Sin"]'), "a.toml, line 3, key 'ops': 'Sin' is listed twice"),
        (
            _rule(dialect='"tensorflow"'),
            "line 7, key 'dialect': 'tensorflow' is not a dialect; use one of onnx, torch.fx",
        ),
        (_rule(input_dtype='["flaot"]'), "line 7, key 'input_dtype': 'flaot' is not a input_dtype; did you mean"),
        (_rule(unless_within="[8, -8]"), "line 7, key 'unless_within': the range is empty"),
        (_rule(unless_within="8"), "line 7, key 'unless_within': not a range"),
        (_rule(min_version='"13"'), "line 7, key 'min_version': not a whole number"),
        (_rule(saturates="1"), "line 7, key 'saturates': neither true nor false"),
        (_rule(constants="{ x = 2 }"), "line 7, key 'constants': 'x' is not an input's index"),
        (_rule(only_after='"allow"'), "line 7, key 'only_after': only an infer rule can have it"),
        (_rule(ops="", chain='[{ ops = ["Add"] }]'), "key 'chain': not a list of two or more steps"),
        (
            _rule(ops="", chain='[\n  { ops = ["Add"] },\n  { ops = ["Sqrt"], sloot = 1 },\n]'),
            "a.toml, line 8, key 'sloot': unknown key of a chain's step; did you mean 'slot'?",
        ),
        (RULE + "[[rule.example]]\ngraph = 'g'\nexpects = { y = 'float32' }\n", "line 9, key 'expects': unknown key"),
        (RULE + "[[rule.example]]\ngraph = 'g'\nexpect = { y = 'float64' }\n", "key 'expect': 'float64' is not a"),
        ("[rules]\n", "a.toml, line 1, key 'rules': unknown key outside of a rule; begin every rule with [[rule]]"),
        ("[rule]\nname = 'x'\n", "key 'rule': not an array of tables"),
        (RULE + "why = \n", "a.toml, line 7: not TOML"),
    ],
)
def test_a_mistake_is_named_by_line_and_key(text: str, message: str):
    with pytest.raises(RuleError) as caught:
        parse(text, "a.toml")
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_rule_header_inside_a_graph_does_not_shift_lines():
    example = '[[rule.example]]\ngraph = """\n[[rule]]\n"""\nexpect = { y = "float32" }\n'
    with pytest.raises(RuleError, match="line 13, key 'nam'"):
        parse(RULE + example + _rule(name="", nam='"two"', ops="", category="", why="", source=""), "a.toml")


def test_a_users_rule_replaces_one_of_the_same_name_and_goes_before_the_others(tmp_path: Path):
    book = RuleBook(parse(RULE + _rule(name='"two"', ops='["Cos"]'), "built-in.toml"))
    path = tmp_path / "mine.toml"
    path.write_text(_rule(category='"allow"') + _rule(name='"three"', ops='["Cos"]', category='"infer"'))
    merged = with_user_file(book, path, known_ops=frozenset({"Sin", "Cos"}))
    assert [rule.name for rule in merged.rules] == ["one", "three", "two"]
    assert merged.by_op["Sin"][0].category is Category.ALLOW
    assert [rule.name for rule in merged.by_op["Cos"]] == ["three", "two"]


def test_an_unknown_operator_in_a_users_file_is_named_with_its_line(tmp_path: Path):
    path = tmp_path / "mine.toml"
    path.write_text(_rule(ops='[\n  "Sin",\n  "Softmx",\n]'))
    with pytest.raises(RuleError) as caught:
        with_user_file(RuleBook(()), path, known_ops=frozenset({"Sin", "Softmax"}))
    assert str(caught.value) == f"{path}, line 5, key 'ops': 'Softmx' is no operator; did you mean 'Softmax'?"


@pytest.mark.parametrize(
    ("op", "remedy"), [("Softmx", "Softmax"), ("SOFTMAX", "Softmax"), ("FusedMatMul", "com.microsoft.FusedMatMul")]
)
def test_a_name_like_an_operators_is_told_that_one(op: str, remedy: str):
    known = frozenset({"Softmax", "MatMul", "com.microsoft.FusedMatMul"})
    with pytest.raises(RuleError, match=f"'{op}' is no operator; did you mean '{remedy}'?"):
        parse(_rule(ops=f'["{op}"]'), "a.toml", known_ops=known)


def test_operators_of_other_domains_and_of_torch_may_be_any():
    text = _rule(ops='["aten.softmx", "my.Softmax"]') + _rule(name='"two"', dialect='"torch.fx"', ops='["softmx"]')
    assert len(parse(text, "a.toml", known_ops=frozenset({"Softmax"}))) == 2


@pytest.mark.parametrize("content", [None, b"\xff\xfe\x00"])
def test_an_unreadable_file_is_one_line(tmp_path: Path, content: bytes | None):
    path = tmp_path / "mine.toml"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(RuleError, match=r"mine\.toml: "):
        with_user_file(RuleBook(()), path)


@pytest.mark.parametrize("content", ["", "# none yet\n", "rule = []\n"])
def test_a_file_without_rules_is_one_line(tmp_path: Path, content: str):
    path = tmp_path / "mine.toml"
    path.write_text(content)
    with pytest.raises(RuleError, match=r"mine\.toml: holds no rule; begin every rule with \[\[rule\]\]"):
        with_user_file(RuleBook(()), path)


def test_rules_in_an_array_of_one_line_are_read():
    keys = 'name = "one", ops = ["Sin"], category = "deny", why = "Because.", source = "A book"'
    (rule,) = parse(f"rule = [{{ {keys} }}]\n", "a.toml")
    assert rule.name == "one"


def test_names_are_unique_across_the_built_in_files():
    book = load_builtin()
    assert len(book.by_name) == len(book.rules) > 50


def test_precedence_is_user_then_deny_patterns_then_narrowed_then_plain():
    pattern = _rule(name='"pattern"', ops="", chain='[{ ops = ["Exp"] }, { ops = ["Sin"] }]')
    narrowed = _rule(name='"narrowed"', attributes="{ a = 1 }", category='"infer"')
    denied = _rule(name='"denied"', attributes="{ a = 1 }")
    rules = parse(_rule() + narrowed + denied + pattern, "a.toml") + parse(_rule(name='"mine"'), "b.toml", user=True)
    ordered = sorted(rules, key=lambda rule: rule.precedence)
    assert [rule.name for rule in ordered] == ["mine", "pattern", "denied", "narrowed", "one"]


def test_the_reference_table_is_current():
    """Regenerate it with `python -m ampgraph.rulebook --write`."""
    assert resources.files("ampgraph.rules").joinpath("README.md").read_text(encoding="utf-8") == markdown(
        load_builtin()
    )


def test_the_table_has_a_row_for_every_rule_with_its_conditions():
    (rule,) = parse(
        _rule(unless_within='"exact-integers"', why='"A | B."', category='"infer"', min_version="9"), "a.toml"
    )
    row = markdown(RuleBook((rule,))).splitlines()[-1]
    expected = "| [one](a.toml) | `Sin` | infer | A \\| B. | A book | from version 9; unless proven exact integers |"
    assert row == expected
