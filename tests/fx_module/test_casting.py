"""Casts in groups: the same numbers as one by one, forward and backward, and when a parameter goes alone."""

from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from ampgraph.fx_module import grouping
from ampgraph.fx_module.casting import cast_group, cast_together, link_together
from ampgraph.fx_module.grouping import groups_of

LOW = torch.float16


def sources(*sizes: int) -> list[nn.Parameter]:
    torch.manual_seed(0)
    return [nn.Parameter(torch.randn(size, 3)) for size in sizes]


def nodes(made: list[Tensor]) -> list[Any]:
    return list(dict.fromkeys(tensor.grad_fn for tensor in made))


@given(st.lists(st.tuples(st.integers(0, 5), st.booleans(), st.booleans()), min_size=1, max_size=9))
def test_any_mixture_is_what_casts_one_by_one_are(kinds: list[tuple[int, bool, bool]]) -> None:
    given = [nn.Parameter(torch.randn(size, 3), requires_grad=trained) for size, trained, _ in kinds]
    dtypes = [LOW if low else torch.bfloat16 for _, _, low in kinds]
    made = cast_together(given, dtypes)
    assert all(torch.equal(one, each.to(dtype)) for one, each, dtype in zip(made, given, dtypes, strict=True))
    assert [one.requires_grad for one in made] == [each.requires_grad for each in given]
    loss = sum(((index + 1.5) * one.float()).sum() for index, one in enumerate(made))
    if isinstance(loss, Tensor) and loss.requires_grad:
        loss.backward()
    for index, each in enumerate(given):
        expected = torch.full_like(each, index + 1.5) if each.requires_grad else None
        assert (each.grad is None) == (expected is None)
        assert expected is None or torch.equal(each.grad, expected)


def test_a_group_is_one_node_and_few_kernels() -> None:
    given = sources(*[2] * 20)
    made = cast_together(given, [LOW] * 20)
    assert len(nodes(made)) == 1
    seen: list[str] = []

    class Seen(TorchDispatchMode):
        def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            seen.append(func.__name__)
            return func(*args, **(kwargs or {}))

    with Seen():
        torch.autograd.backward(made, [torch.ones_like(each) for each in made])
    assert seen.count("_foreach_copy_.default") == 1
    assert "_to_copy.default" not in seen


def test_groups_are_small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(grouping, "MOST_BYTES", 2 * 3 * 4 * 2)
    assert len(nodes(cast_together(sources(2, 2, 2, 9, 2, 2), [LOW] * 6))) == 4
    monkeypatch.setattr(grouping, "MOST_TENSORS", 1)
    assert len(nodes(cast_together(sources(1, 1, 1), [LOW] * 3))) == 3


def test_few_go_one_by_one() -> None:
    """Fewer than a node in Python is worth."""
    assert len(nodes(cast_together(sources(2, 2, 2, 9), [LOW] * 4, few=4))) == 4
    assert len(nodes(cast_together(sources(2, 2, 2, 9), [LOW] * 4, few=3))) == 1


def test_who_waits_for_a_gradient_gets_it_when_it_comes() -> None:
    given, arrived = sources(2, 2, 2), []
    given[1].register_post_accumulate_grad_hook(lambda each: arrived.append(given[0].grad is None))
    made = cast_together(given, [LOW] * 3)
    assert len(nodes(made)) == 2
    torch.autograd.backward(made, [torch.ones_like(each) for each in made])
    assert len(arrived) == 1


def test_what_is_not_used_gets_no_gradient() -> None:
    given = sources(2, 2)
    cast_together(given, [LOW] * 2)[0].sum().backward()
    assert given[0].grad is not None
    assert given[1].grad is None


def test_gradients_may_be_accumulated_and_differentiated() -> None:
    given = sources(2, 2)
    made = cast_together(given, [torch.bfloat16] * 2)
    for _ in range(2):  # micro-steps share the copies
        sum(each.float().square().sum() for each in made).backward()  # type: ignore[union-attr]
    assert torch.equal(given[0].grad, 4 * made[0].float())  # type: ignore[arg-type]
    cubes = sum(each.float().pow(3).sum() for each in made)
    (first, _) = torch.autograd.grad(cubes, given, create_graph=True)  # type: ignore[arg-type]
    (second,) = torch.autograd.grad(first.sum(), given[:1])
    assert torch.equal(second, (6 * made[0].float()).bfloat16().float())  # each gradient was low on its way


def test_links_share_the_copies_memory_and_spoil_with_them() -> None:
    given = sources(2, 2)
    given[1].requires_grad_(False)
    copies = [each.detach().to(LOW) for each in given]
    made = link_together(given, copies)
    assert [one.data_ptr() for one in made] == [copy.data_ptr() for copy in copies]
    assert [one.requires_grad for one in made] == [True, False]
    loss = made[0].square().sum() + made[1].square().sum()
    copies[0].add_(1)
    with pytest.raises(RuntimeError, match=r"modified (in-?place|by an inplace)"):
        loss.backward()


def test_few_casts_go_one_by_one_and_the_largest_has_its_gradient_first() -> None:
    order: list[int] = []
    given = [torch.ones(size, requires_grad=True) for size in (3, 9, 1)]
    made = cast_group(next(groups_of(given, [torch.bfloat16] * 3)), given)
    assert [len(each) for each in made] == [3, 9, 1]
    for source in given:
        source.register_hook(lambda grad: order.append(len(grad)))
    torch.cat(list(made)).sum().backward()
    assert order == [9, 3, 1]
