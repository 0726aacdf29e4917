"""LossScaler: torch's GradScaler where its extras are off, and what the extras do."""

import copy
import pickle
import random
from collections.abc import Callable
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.amp.grad_scaler import GradScaler
from torch.utils._python_dispatch import TorchDispatchMode

from ampgraph import LossScaler
from ampgraph.errors import AmpgraphError, OptionError, TrainError
from ampgraph.fx_module import gradients, scale_log
from ampgraph.fx_module.scale_log import ScaleLog, ScaleStep
from tests.training import batches, network, plain_loop, same_state

OFF = {"min_scale": 0.0}


def one(value: float = 1.0) -> nn.Parameter:
    return nn.Parameter(torch.tensor([value]))


def advance(scaler: GradScaler, weight: nn.Parameter, optimizer: torch.optim.Optimizer, factor: float) -> None:
    """A whole step whose gradient is `factor`."""
    scaler.scale((weight * factor).sum()).backward()
    scaler.step(optimizer)
    scaler.update()
    optimizer.zero_grad()


def trajectory(
    scaler: GradScaler, factors: list[float], kind: Any = torch.optim.SGD, **words: Any
) -> tuple[list[float], Tensor]:
    weight = one()
    optimizer = kind([weight], 1e-3, **words)
    scales = []
    for factor in factors:
        advance(scaler, weight, optimizer, factor)
        scales.append(scaler.get_scale())
    return scales, weight.detach()


@pytest.mark.parametrize("fused", [False, True])
@pytest.mark.parametrize("seed", [0, 1])
def test_a_thousand_random_steps_are_those_of_torch(seed: int, fused: bool) -> None:
    dice = random.Random(seed)
    factors = [dice.choice([0.5, -2.0, 1e3, 1.0, 7.0, 0.1, float("inf"), float("nan")]) for _ in range(500)]
    factors += [dice.choice([0.1, 3.0, 7.0, 9.0, float("-inf")]) for _ in range(500)]
    words = {"growth_interval": 3, "growth_factor": 2.5, "backoff_factor": 0.4}
    ours, theirs = LossScaler("cpu", **words, **OFF), GradScaler("cpu", **words)
    found, expected = trajectory(ours, factors, fused=fused), trajectory(theirs, factors, fused=fused)
    assert found[0] == expected[0]
    assert len(set(found[0])) > 8
    assert 1e-30 < min(found[0]) < max(found[0]) < 1e30  # where torch's own scale means something
    assert torch.equal(found[1], expected[1])
    assert ours.state_dict() == theirs.state_dict()


@settings(deadline=None)  # the machine may be busy
@given(st.lists(st.sampled_from([1.0, 1e3, float("inf"), float("nan")]), max_size=30), st.integers(1, 4))
def test_any_sequence_is_torchs(factors: list[float], interval: int) -> None:
    ours, theirs = LossScaler("cpu", growth_interval=interval, **OFF), GradScaler("cpu", growth_interval=interval)
    assert trajectory(ours, factors)[0] == trajectory(theirs, factors)[0]


@pytest.mark.parametrize("fused", [False, True])
def test_the_scale_never_reaches_zero_and_no_nan_is_written(fused: bool) -> None:
    """torch's, after 166 steps that overflow, has the scale 0 and writes NaN with the next healthy one."""
    factors = [float("nan")] * 166 + [1.0]
    scales, weight = trajectory(GradScaler("cpu"), factors, fused=fused)
    assert scales[-2] == 0
    assert not weight.isfinite().all()
    scales, weight = trajectory(LossScaler("cpu"), factors, fused=fused)
    assert scales[-1] == 2.0**-14
    assert weight.item() == pytest.approx(1 - 1e-3)


@pytest.mark.parametrize("fused", [False, True])
def test_without_a_floor_the_check_after_unscaling_skips_the_step(fused: bool) -> None:
    scales, weight = trajectory(LossScaler("cpu", **OFF), [float("nan")] * 166 + [1.0] * 5, fused=fused)
    assert scales[-1] == 0
    assert weight.item() == 1


def test_a_gradient_that_overflows_by_the_division_skips_the_step() -> None:
    weight = one()
    optimizer, scaler = torch.optim.SGD([weight], 1.0), LossScaler("cpu", init_scale=2.0**-10)
    scaler.scale(weight.sum()).backward()
    weight.grad = torch.tensor([3e38])  # finite; divided by the scale it is not
    scaler.step(optimizer)
    scaler.update()
    assert weight.item() == 1
    assert bool(scaler.last_step_skipped)


@pytest.mark.parametrize("dampening", [0.0, 0.5])
def test_momentum_of_fused_sgd_survives_a_skipped_first_step(dampening: float) -> None:
    """torch makes the momentum buffer of uninitialized memory and then skips the kernel that would fill it."""
    weight = nn.Parameter(torch.ones(1000))
    optimizer = torch.optim.SGD([weight], 0.5, momentum=0.9, dampening=dampening, fused=True)
    scaler = LossScaler("cpu")
    advance(scaler, weight, optimizer, float("inf"))
    assert not optimizer.state[weight]["momentum_buffer"].any()
    advance(scaler, weight, optimizer, 1.0)
    assert torch.equal(weight, torch.full((1000,), 1 - 0.5 * (1 - dampening)))


def test_momentum_of_parameters_that_join_later_survives_a_skipped_first_step() -> None:
    first, later = nn.Parameter(torch.ones(1000)), nn.Parameter(torch.ones(1000))
    optimizer = torch.optim.SGD([first], 0.5, momentum=0.9, fused=True)
    scaler = LossScaler("cpu")
    advance(scaler, first, optimizer, 1.0)
    held = optimizer.state[first]["momentum_buffer"].clone()
    optimizer.add_param_group({"params": [later]})
    later.grad = torch.full((1000,), float("inf"))
    advance(scaler, first, optimizer, 1.0)
    assert not optimizer.state[later]["momentum_buffer"].any()
    assert torch.equal(optimizer.state[first]["momentum_buffer"], held)


def test_hysteresis_waits_for_overflows_in_a_row() -> None:
    inf = float("inf")
    scales, _ = trajectory(LossScaler("cpu", 8.0, hysteresis=3), [inf, inf, 1.0, inf, inf, inf, inf, 1.0, inf])
    assert scales == [8, 8, 8, 8, 8, 4, 2, 2, 2]


def test_with_hysteresis_an_overflow_still_ends_the_healthy_steps_in_a_row() -> None:
    inf = float("inf")
    scales, _ = trajectory(LossScaler("cpu", 8.0, growth_interval=2, hysteresis=2), [1.0, inf, 1.0, 1.0, 1.0, inf])
    assert scales == [8, 8, 8, 16, 16, 16]


def test_history_and_last_step_skipped() -> None:
    scaler = LossScaler("cpu", 8.0, history=3)
    assert scaler.history() == []
    assert not scaler.last_step_skipped
    trajectory(scaler, [1.0, 1.0, float("inf"), float("inf"), 1.0])
    assert scaler.history() == [ScaleStep(2, 4.0, True), ScaleStep(3, 2.0, True), ScaleStep(4, 2.0, False)]
    assert not scaler.last_step_skipped
    assert isinstance(scaler.last_step_skipped, Tensor)
    assert scaler.last_step_skipped.dtype is torch.bool
    silent = LossScaler("cpu", history=0)
    trajectory(silent, [1.0])
    assert silent.history() == []


class Ops(TorchDispatchMode):
    """Counts what is computed; views cost nothing."""

    def __init__(self) -> None:
        super().__init__()
        self.count = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.count += not func.is_view
        return func(*args, **(kwargs or {}))


def ops(make: Callable[[], GradScaler], fused: bool, of: str, kind: Any = torch.optim.Adam) -> int:
    """How many ops a part of the third step has, of a scaler for ten parameters."""
    weights = [one() for _ in range(10)]
    scaler, optimizer = make(), kind(weights, 1e-3, fused=fused)
    for number in range(3):
        scaler.scale(torch.stack([each.sum() for each in weights]).sum()).backward()
        parts = {"step": lambda: scaler.step(optimizer), "update": scaler.update}
        for name, part in parts.items():
            with Ops() as mode:
                part()
            if number == 2 and name == of:
                return mode.count
    raise AssertionError(of)


def test_its_bookkeeping_is_a_few_small_ops() -> None:
    """On a GPU each is a launch, in a CUDA graph a kernel."""
    ours, theirs = (lambda: LossScaler("cpu")), (lambda: GradScaler("cpu"))
    assert ops(ours, True, "update") - ops(theirs, True, "update") <= 2  # the floor, and the log
    assert ops(ours, False, "update") - ops(theirs, False, "update") <= 3  # and found_inf
    assert ops(lambda: LossScaler("cpu", history=0), True, "update") - ops(theirs, True, "update") <= 1
    assert ops(ours, True, "step") < ops(theirs, True, "step")
    assert ops(ours, False, "step") - ops(theirs, False, "step") <= 3
    sgd = torch.optim.SGD
    assert ops(ours, True, "step", sgd) - ops(theirs, True, "step", sgd) <= 3


@pytest.mark.parametrize(("kind", "divides"), [(torch.optim.SGD, True), (torch.optim.Adam, False)])
def test_who_divides_is_whose_rounding_is_torchs(kind: Any, divides: bool) -> None:
    """The fused kernel of SGD rounds otherwise when it divides itself, as it does for torch's GradScaler."""
    weight, seen = one(), []
    optimizer = kind([weight], 0.5, fused=True)
    optimizer.register_step_pre_hook(lambda *_: seen.append(optimizer.grad_scale is not None))
    scaler = LossScaler("cpu", 8.0)
    scaler.scale(weight.sum()).backward()
    scaler.step(optimizer)
    assert seen == [divides]


def test_many_gradients_are_not_written_before_the_step(monkeypatch: pytest.MonkeyPatch) -> None:
    """A large model's are read once, and divided by the optimizer; the numbers are the same."""
    outcomes = []
    for few in (gradients.FEW, 0):
        monkeypatch.setattr(gradients, "FEW", few)
        scaler = LossScaler("cpu", growth_interval=3, growth_factor=2.5, backoff_factor=0.4)
        factors = [1.0, 3.0, float("inf"), 7.0, 0.1]
        outcomes.append((*trajectory(scaler, factors, torch.optim.Adam, fused=True), scaler.history()))
    assert outcomes[0][0] == outcomes[1][0]
    assert torch.equal(outcomes[0][1], outcomes[1][1])
    assert outcomes[0][2] == outcomes[1][2]


@pytest.mark.parametrize("bad", [0, 1])
def test_of_two_fused_optimizers_one_skips_and_both_are_logged(bad: int) -> None:
    weights = [one(), one()]
    optimizers = [torch.optim.SGD([each], 0.5, fused=True) for each in weights]
    scaler = LossScaler("cpu", 8.0)
    factors = [float("inf") if place == bad else 1.0 for place in range(2)]
    scaler.scale(sum(each.sum() * factor for each, factor in zip(weights, factors, strict=True))).backward()
    for each in optimizers:
        scaler.step(each)
    scaler.update()
    assert [each.item() for each in weights] == [1.0 if place == bad else 0.5 for place in range(2)]
    assert bool(scaler.last_step_skipped)
    assert scaler.history() == [ScaleStep(0, 4.0, True)]


def test_updates_that_are_recorded_follow_those_that_were_not(monkeypatch: pytest.MonkeyPatch) -> None:
    """A replay of a CUDA graph writes down where the device says, since Python does not know of it."""
    log = ScaleLog(torch.zeros(3, 2), torch.zeros(1, dtype=torch.int64))
    rows = torch.tensor([[[float(2**k), k % 2]] for k in range(7)])
    expected = [ScaleStep(k, float(2**k), bool(k % 2)) for k in range(7)]
    for k in range(7):
        monkeypatch.setattr(scale_log, "is_capturing", lambda k=k: k == 4)
        log.write(rows[k])
        assert log.read() == expected[max(0, k - 2) : k + 1]


def test_the_first_parameter_to_overflow_is_named() -> None:
    """In the order of backward: the last layer's gradient is made first."""
    module = nn.Sequential(nn.Linear(3, 3), nn.ReLU(), nn.Linear(3, 2))
    nn.init.ones_(module[0].weight)  # no unit is dead: the gradient of one that is stays 0
    scaler, optimizer = LossScaler("cpu"), torch.optim.SGD(module.parameters(), 0.1)
    with pytest.raises(TrainError, match=r"watches no module.*scaler\.watch"):
        scaler.overflowed()
    scaler.watch(module)
    for factor in (1.0, float("inf"), 1.0):
        scaler.scale(module(torch.ones(1, 3)).sum() * factor).backward()
        scaler.step(optimizer)
        scaler.update()
        optimizer.zero_grad()
    assert set(scaler.overflowed()) == {"2.bias", "2.weight", "0.weight", "0.bias"}
    assert scaler.overflowed()[0].startswith("2.")
    scaler.scale(module(torch.ones(1, 3)).sum()).backward()
    assert module[0].weight.grad is not None
    module[0].weight.grad[0, 0] = float("nan")
    scaler.step(optimizer)
    assert scaler.overflowed() == ["0.weight"]


def test_bfloat16_needs_no_scaler() -> None:
    scaler = LossScaler("cpu", precision="bfloat16")
    assert not scaler.is_enabled()
    assert trajectory(scaler, [1.0])[1].item() == pytest.approx(1 - 1e-3)
    assert scaler.state_dict() == {}
    assert LossScaler("cpu", precision="bfloat16", enabled=True).is_enabled()
    assert not LossScaler("cpu", enabled=False).is_enabled()


def test_in_the_loop_it_is_torchs_with_clipping_accumulation_and_a_network() -> None:
    data, outcomes = batches(40, bad=(3, 4, 21)), []
    for scaler in (LossScaler("cpu", growth_interval=4), GradScaler("cpu", growth_interval=4)):
        module = network(low=True, drop=0)
        optimizer = torch.optim.AdamW(module.parameters(), 1e-2)
        plain_loop(module, optimizer, data, scaler, clip=0.5, accumulate=2)
        outcomes.append((module, scaler.state_dict()))
    assert same_state(outcomes[0][0], outcomes[1][0])
    assert outcomes[0][1] == outcomes[1][1]


def test_several_optimizers_share_a_scale_and_skip_alone() -> None:
    good, bad = one(), one()
    first, second = torch.optim.SGD([good], 0.5), torch.optim.SGD([bad], 0.5)
    scaler = LossScaler("cpu", 8.0)
    scaler.scale(good.sum() + (bad * float("inf")).sum()).backward()
    scaler.unscale_(first)
    scaler.step(first)
    scaler.step(second)
    scaler.update()
    assert (good.item(), bad.item(), scaler.get_scale()) == (0.5, 1.0, 4.0)


def test_states_are_exchanged_with_torch() -> None:
    ours, theirs = LossScaler("cpu", growth_interval=7), GradScaler("cpu")
    trajectory(ours, [float("inf"), 1.0])
    theirs.load_state_dict(ours.state_dict())
    assert theirs.state_dict() == ours.state_dict()
    other = LossScaler("cpu")
    other.load_state_dict(theirs.state_dict())
    assert other.state_dict() == ours.state_dict()


@pytest.mark.parametrize("again", [copy.deepcopy, lambda scaler: pickle.loads(pickle.dumps(scaler))])
def test_a_copy_goes_on_alike(again: Callable[[LossScaler], LossScaler]) -> None:
    inf, scaler = float("inf"), LossScaler("cpu", hysteresis=2)
    trajectory(scaler, [1.0, inf])
    twin, loaded = again(scaler), LossScaler("cpu", hysteresis=2)
    loaded.load_state_dict(scaler.state_dict())
    expected = trajectory(scaler, [inf, 1.0, inf])[0]
    assert trajectory(twin, [inf, 1.0, inf])[0] == trajectory(loaded, [inf, 1.0, inf])[0] == expected


def test_sparse_gradients_are_checked() -> None:
    table = nn.Embedding(4, 2, sparse=True)
    optimizer, scaler = torch.optim.SGD(table.parameters(), 0.1), LossScaler("cpu")
    before = table.weight.detach().clone()
    scaler.scale(table(torch.tensor([1, 1])).sum() * float("inf")).backward()
    scaler.step(optimizer)
    scaler.update()
    assert torch.equal(table.weight, before)


def started() -> tuple[LossScaler, torch.optim.Optimizer]:
    weight, scaler = one(), LossScaler("cpu")
    scaler.scale(weight.sum()).backward()
    return scaler, torch.optim.SGD([weight], 0.1)


def twice(name: str) -> None:
    scaler, optimizer = started()
    getattr(scaler, name)(optimizer)
    getattr(scaler, name)(optimizer)


def unscaled_after_step() -> None:
    scaler, optimizer = started()
    scaler.step(optimizer)
    scaler.unscale_(optimizer)


def halves() -> None:
    weight, scaler = nn.Parameter(torch.ones(1, dtype=torch.float16)), LossScaler("cpu", 2.0)
    scaler.scale(weight.float().sum()).backward()
    scaler.step(torch.optim.SGD([weight], 0.1))


MISUSES: dict[str, Callable[[], Any]] = {
    "step before any scale": lambda: LossScaler("cpu").step(torch.optim.SGD([one()], 0.1)),
    "update before any scale": lambda: LossScaler("cpu").update(),
    "step without gradients": lambda: started()[0].step(torch.optim.SGD([one()], 0.1)),
    "update without step": lambda: started()[0].update(),
    "unscale twice": lambda: twice("unscale_"),
    "step twice": lambda: twice("step"),
    "unscale after step": unscaled_after_step,
    "closure": lambda: (lambda s, o: s.step(o, lambda: 0.0))(*started()),
    "named closure": lambda: (lambda s, o: s.step(o, closure=lambda: 0.0))(*started()),
    "half parameters": halves,
    "empty state": lambda: LossScaler("cpu").load_state_dict({}),
}


@pytest.mark.parametrize("misuse", MISUSES)
def test_misuse_is_one_line_with_a_remedy(misuse: str) -> None:
    with pytest.raises(TrainError) as caught:
        MISUSES[misuse]()
    assert "\n" not in str(caught.value)
    assert caught.value.remedy
    assert isinstance(caught.value, AmpgraphError)
    assert isinstance(caught.value, RuntimeError)  # what torch's scaler raises, so that callers' handlers still work


def test_a_closure_that_is_none_is_none() -> None:
    """As accelerate calls it."""
    scaler, optimizer = started()
    scaler.step(optimizer, None)
    scaler.update()


@pytest.mark.parametrize(
    "words",
    [
        {"min_scale": -1.0},
        {"min_scale": float("nan")},
        {"hysteresis": 0},
        {"history": -1},
        {"precision": "float32"},
        {"growth_factor": 1.0},
        {"backoff_factor": 1.0},
        {"init_scale": 0.0},
        {"init_scale": float("inf")},
    ],
    ids=str,
)
def test_options_that_mean_nothing(words: dict[str, Any]) -> None:
    with pytest.raises(OptionError) as caught:
        LossScaler("cpu", **words)
    assert "\n" not in str(caught.value)


def test_a_scale_set_by_hand() -> None:
    scaler = started()[0]
    scaler.update(4)
    assert scaler.get_scale() == 4.0
    scaler.update(torch.tensor(2.0))
    assert scaler.get_scale() == 2.0


class Doubling(LossScaler):
    """A scale of its own."""

    def scale(self, outputs: Any) -> Any:
        return super().scale(outputs) * 2


@pytest.mark.parametrize("shape", [(), (1,)])
def test_a_seed_gives_the_gradients_of_a_scaled_loss(shape: tuple[int, ...]) -> None:
    module, scaler = nn.Linear(3, 1), LossScaler("cpu", 2.0**9)
    loss = module(torch.ones(1, 3)).tanh().reshape(shape)
    seed = scaler.seed(loss)
    expected = torch.autograd.grad(scaler.scale(loss), module.parameters(), retain_graph=True)
    found = torch.autograd.grad(loss, module.parameters(), seed)
    assert all(torch.equal(ours, theirs) for ours, theirs in zip(found, expected, strict=True))


def test_there_is_no_seed_where_the_product_is_another() -> None:
    loss = torch.ones((), requires_grad=True)
    assert LossScaler("cpu", enabled=False).seed(loss) is None
    assert LossScaler("cpu").seed(loss.bfloat16()) is None
    assert Doubling("cpu").seed(loss) is None
