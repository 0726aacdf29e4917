"""Policies: words of other libraries with a meaning of their own, and nothing that contradicts itself."""

import pytest

from ampgraph.errors import OptionError
from ampgraph.fx_module.policy import NAMED, make_policy
from ampgraph.precision import Precision


def test_the_default_is_float16_for_training() -> None:
    policy = make_policy(None, None, None, None)
    assert (policy.precision, policy.objective, policy.keep) == (Precision.FLOAT16, "training", "")


@pytest.mark.parametrize("name", NAMED)
def test_names_mean_what_the_table_says(name: str) -> None:
    policy = make_policy(None, None, name, None, keep="x")
    assert (policy.precision, policy.objective, policy.keep) == (*NAMED[name][:2], "x")


def test_apex_s_levels_are_of_either_precision_and_keras_s_names_are_not() -> None:
    assert make_policy("bfloat16", None, "O1", None).precision is Precision.BFLOAT16
    assert make_policy("float16", None, "mixed_float16", None).precision is Precision.FLOAT16
    with pytest.raises(OptionError, match="says bfloat16, and precision says float16; give one of the two"):
        make_policy("float16", None, "mixed_bfloat16", None)


def test_unknown_words_name_the_known_ones() -> None:
    with pytest.raises(OptionError, match="choose one of mixed_float16, mixed_bfloat16, O1, O2"):
        make_policy(None, None, "O3", None)
    with pytest.raises(OptionError, match="choose one of training, speed, memory, coverage"):
        make_policy(None, "fast", None, None)
