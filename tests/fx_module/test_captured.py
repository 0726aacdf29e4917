"""What recorded steps must notice, with a recorder that needs no GPU; benchmarks/train_capture.py has the real one."""

from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch._subclasses import FakeTensorMode
from torch.amp.grad_scaler import GradScaler
from torch.nn.functional import cross_entropy

from ampgraph import LossScaler, TrainStep
from ampgraph.errors import TrainError
from ampgraph.fx_module import captured
from ampgraph.fx_module.capturable import verify
from ampgraph.fx_module.recorder import failed
from ampgraph.fx_module.skipping import step_unless
from tests.training import WIDTH, Rerun, batches, network, plain_loop, same, same_state


class Counting(Rerun):
    """Counts what is recorded; like a GPU it runs the Python once while it records, here on what is put back after."""

    def __init__(self) -> None:
        self.recorded, self.runs = 0, 0

    def run(self, work: Any) -> Any:
        self.runs += 1
        return work()

    def record(self, work: Any, inputs: Any) -> Any:
        self.recorded += 1
        return super().record(work, inputs)


def made(**words: Any) -> tuple[TrainStep, Counting]:
    module, recorder = network(drop=0), Counting()
    optimizer = torch.optim.SGD(module.parameters(), 2.0**-5, momentum=0.5, fused=True)
    return TrainStep(module, cross_entropy, optimizer, capture=recorder, **words), recorder


def count(step: TrainStep) -> int:
    assert step.captured is not None
    return step.captured.count


def test_a_shape_runs_once_then_is_recorded_then_replayed() -> None:
    step, recorder = made()
    for x, y in batches(6):
        step(x, y)
    assert (recorder.runs, recorder.recorded, count(step)) == (1, 1, 1)
    for x, y in batches(6, size=5):
        step(x, y)
    assert (recorder.runs, recorder.recorded, count(step)) == (2, 2, 2)


def test_accumulation_is_two_graphs() -> None:
    step, recorder = made(accumulate=4)
    for x, y in batches(24):
        step(x, y)
    assert (recorder.runs, recorder.recorded, count(step)) == (2, 2, 2)


def test_few_graphs_are_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(captured, "MOST_GRAPHS", 2)
    step, _ = made()
    for size in (3, 4, 5, 3):
        for x, y in batches(3, size=size):
            step(x, y)
    assert count(step) == 2


@pytest.mark.parametrize("change", ["mode", "frozen"])
def test_what_changes_the_way_through_a_module_is_recorded_anew(change: str) -> None:
    step, recorder = made()
    module, data = step.recipe.module, batches(4)
    for x, y in data:
        step(x, y)
    if change == "mode":
        module.eval()
    else:
        module.first.requires_grad_(False)  # type: ignore[union-attr, operator]
    for x, y in data:
        step(x, y)
    assert (recorder.runs, recorder.recorded) == (2, 2)


@pytest.mark.parametrize("change", ["state", "memory", "settings"])
def test_memory_that_moved_is_not_written(change: str) -> None:
    """A graph would go on with the old tensors: after such a change the next call runs, and is the loop's."""
    step, recorder = made()
    twin = network(drop=0)
    optimizer = torch.optim.SGD(twin.parameters(), 2.0**-5, momentum=0.5, fused=True)
    data = batches(20)
    losses = [step(x, y) for x, y in data[:10]]
    expected = plain_loop(twin, optimizer, data[:10])
    for module, each in ((step.recipe.module, step.recipe.optimizer), (twin, optimizer)):
        if change == "state":
            each.load_state_dict(each.state_dict())
        elif change == "memory":
            for parameter in module.parameters():
                parameter.data = parameter.data.clone()
        else:
            each.param_groups[0]["weight_decay"] = 0.125
    losses += [step(x, y) for x, y in data[10:]]
    expected += plain_loop(twin, optimizer, data[10:])
    assert all(map(same, losses, expected))
    assert same_state(step.recipe.module, twin)
    assert (recorder.runs, recorder.recorded) == (2, 2)


def test_settings_that_change_all_the_time_leave_the_optimizer_out() -> None:
    step, recorder = made()
    twin = network(drop=0)
    optimizer = torch.optim.SGD(twin.parameters(), 2.0**-5, momentum=0.5, fused=True)
    data, losses, expected = batches(20), [], []
    for index, (x, y) in enumerate(data):
        for each in (step.recipe.optimizer, optimizer):
            each.param_groups[0]["momentum"] = 0.5 + index / 64
        losses.append(step(x, y))
        expected += plain_loop(twin, optimizer, [(x, y)])
    assert all(map(same, losses, expected))
    assert same_state(step.recipe.module, twin)
    assert step.captured is not None
    assert step.captured.steps_outside
    assert recorder.recorded == 1


def test_hooks_of_the_optimizer_run_at_every_step() -> None:
    module, seen = network(drop=0), []
    optimizer = torch.optim.SGD(module.parameters(), 0.1, fused=True)
    optimizer.register_step_post_hook(lambda *_: seen.append(1))
    step = TrainStep(module, cross_entropy, optimizer, capture=Rerun())
    for x, y in batches(7):
        step(x, y)
    assert len(seen) == 7


class Rebinding(nn.Module):
    """Puts a new tensor in its buffer's place instead of writing into it."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(WIDTH, 5)
        self.register_buffer("mean", torch.zeros(()))

    def forward(self, x: Tensor) -> Tensor:
        self.mean = 0.9 * self.mean + 0.1 * x.mean()
        return self.layer(x)


class Running(Counting):
    """Runs the Python while it records, as a CUDA graph does."""

    def record(self, work: Any, inputs: Any) -> Any:
        work([each.like.clone() for each in inputs])
        return super().record(work, inputs)


def test_buffers_that_are_replaced_are_refused_and_put_back() -> None:
    module = Rebinding()
    step = TrainStep(module, cross_entropy, torch.optim.SGD(module.parameters(), 0.0, fused=True), capture=Running())
    (x, y), *_ = batches(1)
    step(x, y)
    before = module.mean
    with pytest.raises(TrainError, match=r"buffer mean of Rebinding: is replaced in forward; write into it"):
        step(x, y)
    assert module.mean is before


def test_state_that_is_made_while_recording_is_not_kept() -> None:
    """A replay would make it anew each time: after a first step that was skipped there is none yet."""
    module = network(low=True, drop=0)
    optimizer = torch.optim.Adam(module.parameters(), capturable=True, foreach=True)
    optimizer.param_groups[0]["capturable"] = False  # the CPU has no such kernels; the state comes as late
    scaler = LossScaler("cpu", 2.0**10)
    optimizer.param_groups[0]["fused"] = None
    data = batches(6, bad=(0, 1))
    recipe = captured.Recipe(module, cross_entropy, optimizer, scaler)
    before = captured._Before(recipe, list(module.modules()))
    captured.forward_backward(recipe, captured.Call(data[2]))
    captured.update(recipe)
    assert before.has_changed(recipe, keeps=False)
    before.restore(recipe)
    assert not optimizer.state
    assert not before.has_changed(recipe, keeps=False)


def optimizers() -> dict[str, tuple[type[torch.optim.Optimizer], dict[str, Any]]]:
    kinds = ("Adam", "AdamW", "NAdam", "RAdam", "Adamax", "ASGD", "RMSprop", "Adadelta")
    return {name: (getattr(torch.optim, name), {"capturable": True, "foreach": True}) for name in kinds}


@pytest.mark.parametrize("name", optimizers())
def test_no_capturable_optimizer_waits_for_the_device(name: str) -> None:
    """On fake CUDA tensors, where reading one raises: the step with a rate on the device, and the skip around it.

    Rprop's copies need a build with CUDA; benchmarks/train_capture.py runs it.
    """
    kind, words = optimizers()[name]
    with FakeTensorMode():
        weight = nn.Parameter(torch.empty(3, 4, device="cuda"))
        optimizer = kind([weight], lr=2e-3, **words)  # type: ignore[call-arg]
        verify(optimizer, None)
        weight.grad = torch.empty_like(weight)
        optimizer.step()  # makes the state, before anything is recorded
        optimizer.param_groups[0]["lr"] = torch.empty((), device="cuda")
        step_unless(torch.empty((), device="cuda"), optimizer, optimizer.step)


@pytest.mark.parametrize(
    ("optimizer", "remedy"),
    [
        (lambda p: torch.optim.SGD(p, 0.1), "SGD(..., fused=True)"),
        (lambda p: torch.optim.Adam(p), "Adam(..., fused=True)"),
        (lambda p: torch.optim.NAdam(p), "NAdam(..., capturable=True, foreach=True)"),
        (
            lambda p: torch.optim.RMSprop(p, capturable=True, foreach=False),
            "RMSprop(..., capturable=True, foreach=True)",
        ),
        (lambda p: torch.optim.Adagrad(p), "capture=False"),
    ],
)
def test_optimizers_that_cannot_be_captured(optimizer: Any, remedy: str) -> None:
    module = network()
    step = TrainStep(module, cross_entropy, optimizer(list(module.parameters())), capture=Rerun())
    with pytest.raises(TrainError) as caught:
        step(*batches(1)[0])
    assert remedy in caught.value.remedy
    assert "\n" not in str(caught.value)


def test_torchs_scaler_cannot_skip_on_the_device_but_with_fused_optimizers() -> None:
    weight = nn.Parameter(torch.ones(1))
    with pytest.raises(TrainError, match=r"use ampgraph\.LossScaler"):
        verify(torch.optim.Adam([weight], capturable=True), GradScaler("cpu"))
    verify(torch.optim.Adam([weight], fused=True), GradScaler("cpu"))


@pytest.mark.parametrize("bad", [0.0, 1.0])
def test_a_step_that_the_device_skips_leaves_all_as_it_was(bad: float) -> None:
    weight = nn.Parameter(torch.ones(3))
    optimizer = torch.optim.NAdam([weight], 0.5)
    weight.grad = torch.ones(3)
    optimizer.step()
    before = [weight.detach().clone(), *[each.clone() for each in optimizer.state[weight].values()]]
    weight.grad = torch.full((3,), float("nan") if bad else 1.0)
    step_unless(torch.tensor(bad), optimizer, optimizer.step)
    after = [weight.detach(), *optimizer.state[weight].values()]
    assert all(torch.equal(one, other) == bool(bad) for one, other in zip(before, after, strict=True))


def test_inputs_elsewhere_or_with_gradients_are_refused() -> None:
    x, y = batches(1)[0]
    for inputs, fact in ((x.to("meta"), "lies on meta"), (x.clone().requires_grad_(), "wants a gradient")):
        step, _ = made()
        with pytest.raises(TrainError, match=fact):
            step(inputs, y)


def test_arguments_that_cannot_be_compared_are_refused() -> None:
    step, _ = made()
    x, y = batches(1)[0]
    with pytest.raises(TrainError, match="cannot be compared"):
        step(x, y, extra=bytearray(b"1"))


def test_a_failed_recording_names_the_users_line() -> None:
    try:
        try:
            raise RuntimeError("operation not permitted when stream is capturing\nmore")
        finally:
            raise RuntimeError("capture_end failed too")
    except RuntimeError as error:
        said = failed(error)
    assert "test_captured.py:" in said.place
    assert "not permitted" in said.fact
    assert "\n" not in str(said)
