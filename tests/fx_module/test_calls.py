"""Calls: arguments in whatever way they are given, as the inputs of a graph."""

import pytest
import torch
from torch import Tensor, nn

import ampgraph
from ampgraph.errors import ModelError
from ampgraph.tracing import bind, describe


class Keywords(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(4, 4)

    def forward(
        self, x: Tensor, mask: Tensor | None = None, *, bias: Tensor | None = None, flag: bool = True
    ) -> Tensor:
        y = self.linear(x) if flag else x
        y = y if mask is None else y * mask
        return y if bias is None else y + bias


torch.manual_seed(0)
X, MASK, BIAS = torch.randn(3, 4), torch.ones(3, 4), torch.randn(4)


def test_places_and_names_are_one() -> None:
    assert bind(Keywords(), (X,), {"mask": MASK, "flag": False}) == ((X, MASK), {"flag": False})
    with pytest.raises(ModelError, match=r"Keywords.forward: does not take these arguments.*'wrong'"):
        bind(Keywords(), (X,), {"wrong": 1})


@pytest.mark.parametrize(
    ("args", "kwargs"),
    [((X, MASK), {"bias": BIAS}), ((X,), {"mask": MASK, "bias": BIAS}), ((), {"bias": BIAS, "x": X, "mask": MASK})],
)
def test_a_call_may_be_written_otherwise_than_the_example(args, kwargs) -> None:
    module = Keywords()
    traced = ampgraph.trace(module, (X,), {"mask": MASK, "bias": BIAS}, precision="bfloat16")
    torch.testing.assert_close(traced(*args, **kwargs), module(X, MASK, bias=BIAS), rtol=0.05, atol=0.05)


def test_calls_that_are_not_like_the_example_say_so() -> None:
    traced = ampgraph.trace(Keywords(), (X,), {"mask": MASK})
    for args, kwargs, message in (
        ((X,), {}, "nested otherwise"),
        ((X, MASK), {"bias": BIAS}, "nested otherwise"),
        ((X, MASK.double()), {}, r"argument mask: is float64\[3, 4\]"),
        ((X, MASK[:2]), {}, r"argument mask: is float32\[2, 4\]"),
        ((X, MASK[0]), {}, r"argument mask: is float32\[4\]"),
        ((X, 3), {}, "nested otherwise|argument mask: is 3"),
    ):
        with pytest.raises(ModelError, match=message) as caught:
            traced(*args, **kwargs)
        assert "\n" not in str(caught.value)


def test_words_for_arguments() -> None:
    assert describe(X) == "float32[3, 4]"
    assert describe(None) == "None"
