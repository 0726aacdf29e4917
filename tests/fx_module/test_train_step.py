"""TrainStep on the CPU, where it is the plain loop: compared with one written by hand, bit for bit."""

import copy
import io
import warnings
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.amp.grad_scaler import GradScaler
from torch.nn.functional import cross_entropy
from torch.optim import lr_scheduler

from ampgraph import LossScaler, TrainStep
from ampgraph.errors import AmpgraphError, OptionError, TrainError
from ampgraph.fx_module.recorder import Recorder
from tests.training import WIDTH, Rerun, batches, network, plain_loop, same, same_state

BAD = (3, 4, 21)
WAYS: dict[str, bool | Recorder] = {"plain": False, "recorded": Rerun()}


def adamw(module: nn.Module, rate: float = 2.0**-7) -> torch.optim.Optimizer:
    return torch.optim.AdamW(module.parameters(), rate, fused=True)


def pair(way: str, scaled: bool = True, **words: Any) -> tuple[TrainStep, nn.Module, torch.optim.Optimizer, Any]:
    """A step, and the same parts for a loop by hand."""
    ours, theirs = network(low=scaled), network(low=scaled)
    scaler = LossScaler("cpu", growth_interval=5) if scaled else None
    step = TrainStep(ours, cross_entropy, adamw(ours), scaler, capture=WAYS[way], **words)
    return step, theirs, adamw(theirs), GradScaler("cpu", growth_interval=5) if scaled else None


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("scaled", [False, True])
@pytest.mark.parametrize("clip", [None, 0.5])
@pytest.mark.parametrize("accumulate", [1, 3])
def test_it_is_the_loop_by_hand(way: str, scaled: bool, clip: float | None, accumulate: int) -> None:
    """Dropout, batch norm and overflows included; after it the random generator stands where it stood."""
    data = batches(50, bad=BAD if scaled else ())
    step, module, optimizer, scaler = pair(way, scaled, clip=clip, accumulate=accumulate)
    torch.manual_seed(3)
    expected = plain_loop(module, optimizer, data, scaler, clip, accumulate)
    after = torch.rand(1)
    torch.manual_seed(3)
    losses = [step(x, y) for x, y in data]
    assert torch.equal(torch.rand(1), after)
    assert all(map(same, losses, expected))
    assert same_state(step.recipe.module, module)
    if scaler is not None:
        assert step.recipe.scaler is not None
        assert step.recipe.scaler.state_dict() == scaler.state_dict()
    assert (step.captured is not None) == (way == "recorded")


SCHEDULES: dict[str, Callable[[torch.optim.Optimizer], Any]] = {
    "cosine": lambda o: lr_scheduler.CosineAnnealingLR(o, 20),
    "lambda": lambda o: lr_scheduler.LambdaLR(o, lambda epoch: 0.5 ** (epoch // 4)),
    "one cycle": lambda o: lr_scheduler.OneCycleLR(o, 2.0**-6, total_steps=41),
}


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("schedule", SCHEDULES)
@pytest.mark.parametrize("number", [True, False])
def test_schedules(way: str, schedule: str, number: bool) -> None:
    """The scheduler sees what it would: a number stays one, a tensor the same tensor. A number is read as float32."""
    data, outcomes = batches(30), []
    for ours in (True, False):
        module = network(drop=0)
        optimizer = torch.optim.AdamW(module.parameters(), 2.0**-7 if number else torch.tensor(2.0**-7), fused=True)
        before = optimizer.param_groups[0]["lr"]
        plan = SCHEDULES[schedule](optimizer)
        if ours:
            step = TrainStep(module, cross_entropy, optimizer, capture=WAYS[way])
            losses = []
            for x, y in data:
                losses.append(step(x, y))
                plan.step()
        else:
            losses = plain_loop(module, optimizer, data, after=plan.step)
        rate = optimizer.param_groups[0]["lr"]
        assert isinstance(rate, float) if number else rate is before
        outcomes.append((losses, module, float(rate)))
    assert outcomes[0][2] == outcomes[1][2]
    exact = way == "plain" or not number
    for one, other in zip(outcomes[0][0], outcomes[1][0], strict=True):
        assert torch.equal(one, other) if exact else torch.allclose(one, other, rtol=1e-4)


def test_a_scheduler_that_is_made_late_does_not_warn() -> None:
    """It watches optimizer.step, which a replay does not call."""
    step, _, _, _ = pair("recorded", scaled=False)
    data = batches(4)
    for x, y in data[:3]:
        step(x, y)
    plan = lr_scheduler.ExponentialLR(step.recipe.optimizer, 0.5)
    step(*data[3])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        plan.step()


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("calls", [20, 23])
def test_resuming_is_exact(way: str, calls: int) -> None:
    """Through a file, into new objects, amid an accumulation, with dropout and a scale on its way."""
    data = batches(48, bad=BAD)
    step, *_ = pair(way, accumulate=4)
    torch.manual_seed(5)
    for x, y in data[:calls]:
        step(x, y)
    file = io.BytesIO()
    torch.save(step.state_dict(), file)
    expected = [step(x, y) for x, y in data[calls:]]
    file.seek(0)
    torch.manual_seed(99)
    other = network(7, low=True)
    resumed = TrainStep(
        other, cross_entropy, adamw(other), LossScaler("cpu", growth_interval=5), accumulate=4, capture=WAYS[way]
    )
    resumed.load_state_dict(torch.load(file))
    assert all(map(same, [resumed(x, y) for x, y in data[calls:]], expected))
    assert same_state(other, step.recipe.module)


def test_a_running_step_can_go_back() -> None:
    data = batches(30)
    step, *_ = pair("recorded")
    for x, y in data[:10]:
        step(x, y)
    saved = copy.deepcopy(step.state_dict())
    first = [step(x, y) for x, y in data[10:]]
    step.load_state_dict(saved)
    assert all(map(same, [step(x, y) for x, y in data[10:]], first))


def test_gradients_of_before_are_not_trained_on() -> None:
    step, module, optimizer, scaler = pair("plain")
    (x, y), *_ = batches(1)
    cross_entropy(network(drop=0)(x), y)
    for parameter in step.recipe.module.parameters():
        parameter.grad = torch.full_like(parameter, 5.0)
    torch.manual_seed(0)
    step(x, y)
    torch.manual_seed(0)
    plain_loop(module, optimizer, [(x, y)], scaler)
    assert same_state(step.recipe.module, module)
    assert all(parameter.grad is None for parameter in step.recipe.module.parameters())


class Adder(nn.Module):
    """Takes two inputs and a named option."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(3))

    def forward(self, a: Tensor, b: Tensor, *, sign: int = 1) -> Tensor:
        return self.weight * (a + sign * b)


@pytest.mark.parametrize("way", WAYS)
def test_inputs_in_tuples_dicts_and_by_name(way: str) -> None:
    a, b = torch.ones(3), torch.full((3,), 2.0)
    found = []
    for inputs, words in (((a, b), {}), ({"a": a, "b": b}, {}), ((a, b), {"sign": -1})):
        module = Adder()
        optimizer = torch.optim.SGD(module.parameters(), 0.0, fused=True)
        step = TrainStep(module, lambda out, scale: (out * scale).sum(), optimizer, capture=WAYS[way])
        found.append([step(inputs, torch.tensor(10.0), **words).item() for _ in range(3)])
    assert found == [[90.0] * 3, [90.0] * 3, [-30.0] * 3]


class Own(nn.Module):
    """Returns its own loss, in one of the ways that modules do."""

    def __init__(self, way: str) -> None:
        super().__init__()
        self.weight, self.way = nn.Parameter(torch.ones(1)), way

    def forward(self, x: Tensor) -> Any:
        loss = (self.weight * x).sum()
        if self.way == "attribute":
            return type("Output", (), {"loss": loss})()
        return {"tensor": loss, "dict": {"logits": x, "loss": loss}, "tuple": (loss, x)}[self.way]


@pytest.mark.parametrize("way", ["tensor", "dict", "tuple", "attribute"])
def test_modules_that_return_their_own_loss(way: str) -> None:
    module = Own(way)
    step = TrainStep(module, None, torch.optim.SGD(module.parameters(), 1.0))
    assert step(torch.full((1,), 4.0)).item() == 4
    assert step(x=torch.full((1,), 4.0)).item() == -12


def test_clipping_by_the_users_own_function() -> None:
    seen = []
    module = network(low=True)
    step = TrainStep(module, cross_entropy, adamw(module), LossScaler("cpu", 2.0**12), clip=lambda p: seen.append(p))
    x, y = batches(1)[0]
    step(x, y)
    assert [id(each) for each in seen[0]] == [id(each) for each in module.parameters()]


def test_a_compiled_module() -> None:
    module, twin = network(drop=0), network(drop=0)
    compiled = torch.compile(module, backend="aot_eager")
    data = batches(12)
    step = TrainStep(compiled, cross_entropy, adamw(module))
    losses = [step(x, y) for x, y in data]
    assert all(map(torch.allclose, losses, plain_loop(twin, adamw(twin), data)))
    torch._dynamo.reset()


def _linear() -> nn.Linear:
    return nn.Linear(WIDTH, 5)


def _step(loss: Callable[..., Any] | None, module: nn.Module | None = None, **words: Any) -> TrainStep:
    module = module or _linear()
    return TrainStep(module, loss, torch.optim.SGD(list(module.parameters()) or [torch.ones(1)], 0.1), **words)


X, Y = batches(1)[0]


def _in_no_grad() -> None:
    with torch.no_grad():
        _step(cross_entropy)(X, Y)


def _frozen() -> None:
    _step(cross_entropy, _linear().requires_grad_(False))(X, Y)


def _two_devices() -> None:
    module = nn.Sequential(_linear(), nn.Linear(5, 5, device="meta"))
    _step(cross_entropy, module)(X, Y)


def _of_another() -> None:
    one, other = pair("plain")[0], pair("plain", scaled=False)[0]
    other.load_state_dict(one.state_dict())


def _amid() -> None:
    one, other = pair("plain", accumulate=2)[0], pair("plain", accumulate=3)[0]
    one(X, Y)
    other.load_state_dict(one.state_dict())


MISTAKES: dict[str, Callable[[], Any]] = {
    "no inputs": lambda: _step(cross_entropy)(),
    "loss of a batch": lambda: _step(lambda out, y: cross_entropy(out, y, reduction="none"))(X, Y),
    "loss that is no tensor": lambda: _step(lambda out, y: 1.0)(X, Y),
    "loss that is whole": lambda: _step(lambda out, y: out.argmax())(X, Y),
    "no grad": _in_no_grad,
    "all frozen": _frozen,
    "no parameters": lambda: TrainStep(nn.ReLU(), None, torch.optim.SGD([torch.ones(1)], 0.1))(X),
    "two devices": _two_devices,
    "a state that is none": lambda: _step(None).load_state_dict({"model": 1}),
    "a state of other parts": _of_another,
    "a state amid other micro-steps": _amid,
    "accumulate": lambda: _step(None, accumulate=0),
    "clip": lambda: _step(None, clip=0.0),
    "scaler": lambda: _step(None, scaler=2.0),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_mistakes_are_one_line_with_a_remedy(mistake: str) -> None:
    with pytest.raises((TrainError, OptionError)) as caught:
        MISTAKES[mistake]()
    assert "\n" not in str(caught.value)
    assert caught.value.remedy
    assert isinstance(caught.value, AmpgraphError)


class Fails(torch.autograd.Function):
    """Raises in backward when it is told to, as running out of memory does."""

    now = False

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        return x.clone()

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        if Fails.now:
            raise torch.OutOfMemoryError("out of memory")
        return gradient


class Halfway(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.first, self.second = nn.Linear(WIDTH, 8), nn.Linear(8, WIDTH)

    def forward(self, x: Tensor) -> Tensor:
        return self.second(Fails.apply(self.first(x)))


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("accumulate", [1, 3])
@pytest.mark.parametrize("where", [0, 1, 2, 5])
def test_a_call_that_fails_in_backward_leaves_nothing_for_the_next(way: str, accumulate: int, where: int) -> None:
    """What is summed begins anew, so that a run is the one in which the micro-steps before it were not made either."""
    data = batches(12)
    clean = [each for n, each in enumerate(data) if not where - where % accumulate <= n <= where]
    found = []
    for fails, given in ((True, data), (False, clean)):
        module = Halfway()
        step = TrainStep(
            module, cross_entropy, adamw(module), LossScaler("cpu"), accumulate=accumulate, clip=1.0, capture=WAYS[way]
        )
        for n, (x, y) in enumerate(given):
            Fails.now = fails and n == where
            if Fails.now:
                with pytest.raises(torch.OutOfMemoryError):
                    step(x, y)
            else:
                step(x, y)
        found.append(module)
    assert same_state(*found)


@pytest.mark.parametrize("way", WAYS)
def test_a_step_of_the_optimizer_that_fails_can_be_followed_by_another(way: str) -> None:
    """The scaler had unscaled already, which it does once a step."""
    module, fail = network(), [True]

    def clip(parameters: list[Tensor]) -> None:
        if fail and fail.pop():
            raise MemoryError

    step = TrainStep(module, cross_entropy, adamw(module), LossScaler("cpu"), clip=clip, capture=WAYS[way])
    (x, y), *_ = batches(1)
    with pytest.raises(MemoryError):
        step(x, y)
    assert all(each.grad is None for each in module.parameters())
    step(x, y)


def test_an_optimizer_that_wants_a_closure_is_refused_with_a_remedy() -> None:
    module = network()
    with pytest.raises(OptionError, match=r"LBFGS: asks for the loss as often as it likes.*optimizer.step\(closure\)"):
        TrainStep(module, cross_entropy, torch.optim.LBFGS(module.parameters()))
    TrainStep(module, cross_entropy, torch.optim.Rprop(module.parameters()))
