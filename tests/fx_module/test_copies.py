"""Copies of parameters: when they are shared, when they are made anew, and that gradients pass through them."""

import pytest
import torch
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch_models import mlp

import ampgraph
from ampgraph import TracedModule


class Casts(TorchDispatchMode):
    """Counts casts of matrices to low precision: those of the two weights, and of a batch of two dimensions."""

    def __init__(self, shapes: set[tuple[int, ...]]) -> None:
        super().__init__()
        self.shapes, self.count = shapes, 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        result = func(*args, **(kwargs or {}))
        is_cast = func is torch.ops.aten._to_copy.default and result.dtype is torch.bfloat16
        self.count += is_cast and tuple(result.shape) in self.shapes
        return result


class Profiled:
    """How often weights were cast in a block, counted by torch's profiler, which changes nothing of what runs."""

    def __enter__(self):
        self.profile = torch.profiler.profile(record_shapes=True)
        self.profile.__enter__()
        return self

    def __exit__(self, *error):
        self.profile.__exit__(*error)
        events = self.profile.events()
        shapes = [tuple(event.input_shapes[0]) for event in events if event.name == "aten::copy_"]
        self.count = sum(shape in ((16, 12), (4, 16)) for shape in shapes)


@pytest.fixture
def traced() -> TracedModule:
    torch.manual_seed(0)
    return ampgraph.trace(mlp(), torch.randn(4, 12), precision="bfloat16")


X = torch.ones(5, 12)


def casts_of_forward(module: nn.Module) -> int:
    with Profiled() as found:
        module(X)
    return found.count


def test_micro_steps_share_the_copies_of_a_step(traced: TracedModule) -> None:
    assert casts_of_forward(traced) == 2
    traced(X).sum().backward()
    assert casts_of_forward(traced) == 0
    once = [parameter.grad.clone() for parameter in traced.parameters()]
    traced(X).sum().backward()
    for parameter, gradient in zip(traced.parameters(), once, strict=True):
        assert parameter.grad.dtype is torch.float32
        torch.testing.assert_close(parameter.grad, 2 * gradient)


def step(traced: TracedModule) -> None:
    traced(X).sum().backward()
    torch.optim.SGD(traced.parameters(), 0.1).step()


def by_hand(traced: TracedModule) -> None:
    with torch.no_grad():
        for parameter in traced.parameters():
            parameter.add_(1.0)


def loaded(traced: TracedModule) -> None:
    traced.load_state_dict({name: tensor + 1 for name, tensor in traced.state_dict().items()})


def other_data(traced: TracedModule) -> None:
    for parameter in traced.parameters():
        parameter.data = parameter.data + 1


def written_data(traced: TracedModule) -> None:
    for parameter in traced.parameters():
        parameter.data.add_(1.0)
    traced.refresh_copies()


@pytest.mark.parametrize("change", [step, by_hand, loaded, other_data, written_data])
def test_a_changed_parameter_is_cast_anew(change, traced: TracedModule) -> None:
    before = traced(X)
    change(traced)
    after = traced(X)
    assert not torch.equal(before, after)
    traced.release_copies()
    assert torch.equal(after, traced(X))


def test_the_modes_of_gradients(traced: TracedModule) -> None:
    with torch.inference_mode():
        traced(X)
    with torch.no_grad():
        assert not traced(X).requires_grad
    traced(X).sum().backward()
    assert all(parameter.grad is not None for parameter in traced.parameters())
    with torch.no_grad():
        assert casts_of_forward(traced) == 0
    traced.requires_grad_(False)
    assert not traced(X).requires_grad
    traced.requires_grad_(True)
    traced.zero_grad()
    traced(X).sum().backward()
    assert all(parameter.grad.abs().max() >= 0 for parameter in traced.parameters())


def test_frozen_copies_outlive_a_step(traced: TracedModule) -> None:
    traced.original[0].requires_grad_(False)
    traced(X).sum().backward()
    torch.optim.SGD([each for each in traced.parameters() if each.requires_grad], 0.1).step()
    assert casts_of_forward(traced) == 1


def test_held_copies_are_what_they_were_refreshed_to(traced: TracedModule) -> None:
    traced.refresh_copies()
    held = dict(traced._copies._held)
    with traced.held_copies():
        before = traced(X)
        assert casts_of_forward(traced) == 0
    by_hand(traced)
    with traced.held_copies():
        assert torch.equal(traced(X), before)
    traced.refresh_copies()
    assert all(traced._copies._held[key] is tensor for key, tensor in held.items())  # in place
    plain = [traced(X)]
    plain[0].sum().backward()
    expected = [parameter.grad.clone() for parameter in traced.parameters()]
    traced.zero_grad()
    with traced.held_copies():
        found = traced(X)
        assert torch.equal(found, plain[0])
        found.sum().backward()
    for parameter, gradient in zip(traced.parameters(), expected, strict=True):
        torch.testing.assert_close(parameter.grad, gradient)


def test_an_old_graph_does_not_see_a_refresh(traced: TracedModule) -> None:
    traced.refresh_copies()
    with traced.held_copies():
        loss = traced(X).square().sum()
    by_hand(traced)
    traced.refresh_copies()
    with pytest.raises(RuntimeError, match=r"modified (in-?place|by an inplace)"):
        loss.backward()


def test_under_a_dispatch_mode_everything_is_in_the_open(traced: TracedModule) -> None:
    """A mode that looks at every op (fake tensors, counters) sees the casts."""
    traced(X)
    with Casts({(16, 12), (4, 16)}) as mode:
        traced(X)
    assert mode.count == 2


def test_where_every_forward_is_followed_by_a_step_backward_finds_no_copies_in_its_way(traced: TracedModule) -> None:
    step(traced)
    traced.zero_grad()
    loss = traced(X).sum()
    assert not traced._copies._kept, "autograd alone holds them"
    loss.backward()
    torch.optim.SGD(traced.parameters(), 0.1).step()
    assert casts_of_forward(traced) == 2


def test_an_optimizer_that_makes_its_state_finds_no_copies_in_its_way(traced: TracedModule) -> None:
    kept: list[bool] = []
    optimizer = torch.optim.Adam(traced.parameters())
    optimizer.register_step_pre_hook(lambda *_: kept.append(bool(traced._copies._kept)))
    traced(X).sum().backward()
    assert traced._copies._kept
    optimizer.step()
    assert kept == [False]


def test_who_starts_to_accumulate_has_copies_kept_again(traced: TracedModule) -> None:
    for _ in range(2):
        step(traced)
    assert casts_of_forward(traced) == 2
    assert casts_of_forward(traced) == 2, "now it is known that somebody comes back"
    for _ in range(3):
        assert casts_of_forward(traced) == 0
    step(traced)
    assert [casts_of_forward(traced) for _ in range(3)] == [2, 0, 0]


def test_frozen_copies_are_kept_all_the_same(traced: TracedModule) -> None:
    traced.original[0].requires_grad_(False)
    for _ in range(3):
        traced(X).sum().backward()
        torch.optim.SGD([each for each in traced.parameters() if each.requires_grad], 0.1).step()
    assert casts_of_forward(traced) == 1


@pytest.mark.parametrize("first", [True, False])
def test_copies_of_weights_have_their_channels_where_the_weights_have_them(first: bool) -> None:
    module, x = nn.Sequential(nn.Conv2d(4, 8, 3), nn.ReLU()), torch.randn(2, 4, 6, 6)
    x = x.to(memory_format=torch.channels_last)
    if first:
        module.to(memory_format=torch.channels_last)
    traced = ampgraph.trace(module, x, precision="bfloat16")
    traced.to(memory_format=torch.channels_last)
    found = traced(x)
    assert found.is_contiguous(memory_format=torch.channels_last)
    (copies,) = [kept.tensors for kept in traced._copies._kept.values()]
    assert copies[0].is_contiguous(memory_format=torch.channels_last)
    assert not copies[0].is_contiguous()
