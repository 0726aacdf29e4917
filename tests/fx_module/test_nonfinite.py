"""Where numbers stop being finite: planted faults are found at their place, and masks are not taken for faults."""

import copy
from collections.abc import Callable

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, fx, nn
from torch.nn.functional import cross_entropy

import ampgraph
from ampgraph import LossScaler
from ampgraph.errors import ModelError
from ampgraph.fx_module.module import TracedModule
from ampgraph.fx_module.nonfinite import NonFinite, first_non_finite
from ampgraph.fx_module.recipe import Call
from tests.training import CLASSES, WIDTH, Network, batches, network

DEPTH, FEATURES = 5, 6


class Chain(nn.Module):
    """Additions, one of which can be made infinite or NaN: nothing else of it is ever not finite."""

    def __init__(self) -> None:
        super().__init__()
        self.added = nn.ParameterList(torch.zeros(FEATURES) for _ in range(DEPTH))

    def forward(self, x: Tensor) -> Tensor:
        for each in self.added:
            x = torch.tanh(x) * torch.exp(each)
        return x


@pytest.fixture(scope="module")
def chain() -> TracedModule:
    return ampgraph.trace(Chain(), (torch.randn(3, FEATURES),), objective="speed")


@pytest.fixture(scope="module")
def traced() -> TracedModule:
    module: Network = network()
    return ampgraph.trace(module, (batches(1)[0][0],))


def found(module: nn.Module, *inputs: Tensor, scale: float = 1.0, loss: bool = True) -> NonFinite | None:
    return first_non_finite(module, Call(inputs), cross_entropy if loss else None, scale)


@settings(deadline=None, max_examples=20)
@given(st.sets(st.integers(0, DEPTH - 1), max_size=3), st.integers(0, FEATURES - 1))
def test_the_first_of_several_is_named(chain: TracedModule, places: set[int], element: int) -> None:
    """exp(200) is infinite in float32."""
    with torch.no_grad():
        for index, each in enumerate(chain.original.added):  # type: ignore[arg-type]
            each.zero_()
            if index in places:
                each[element] = 200
    report = found(chain, torch.ones(3, FEATURES), loss=False)
    if not places:
        assert report is None
        return
    assert report is not None
    index = min(places)
    assert report.name == (f"exp_{index}" if index else "exp")
    assert (report.op, report.phase, report.infinities, report.nans) == ("aten.exp", "forward", 1, 0)
    assert report.largest == 200
    assert __file__ in report.line


def test_a_healthy_batch_has_none(traced: TracedModule) -> None:
    assert found(traced, *batches(1)[0]) is None
    assert found(traced, batches(1)[0][0], loss=False) is None


def test_an_input_too_large_for_float16_is_named_where_it_is_cast(traced: TracedModule) -> None:
    x, y = batches(1)[0]
    x[0, 0] = 7e4
    report = found(traced, x, y)
    assert report is not None
    assert (report.op, report.dtype, report.infinities) == ("aten._to_copy", "float16", 1)
    assert report.largest == pytest.approx(7e4)


@pytest.mark.parametrize("value", [float("inf"), float("nan")])
def test_a_bad_input_is_named_itself(traced: TracedModule, value: float) -> None:
    x, y = batches(1)[0]
    x[2, 3] = value
    report = found(traced, x, y)
    assert report is not None
    assert report.name == "input x"
    assert report.infinities + report.nans == 1


@pytest.mark.parametrize(
    ("value", "name"), [(float("nan"), "parameter first.weight"), (1e6, "parameter first.weight in float16")]
)
def test_bad_parameters(traced: TracedModule, value: float, name: str) -> None:
    twin = copy.deepcopy(traced)
    with torch.no_grad():
        twin.get_parameter("first.weight")[0, 0] = value
    report = found(twin, *batches(1)[0])
    assert report is not None
    assert report.name == name


def test_a_scale_too_large_is_named_in_backward(traced: TracedModule) -> None:
    """The last layer's scores are the first float16 gradient on the way back."""
    report = found(traced, *batches(1)[0], scale=2.0**24)
    assert report is not None
    assert (report.phase, report.dtype) == ("backward", "float16")
    assert report.name == "last.linear_1"
    assert "the gradient of last.linear_1" in str(report)
    assert "\n" not in str(report)


def test_a_loss_that_the_loss_function_spoils(traced: TracedModule) -> None:
    report = first_non_finite(traced, Call(batches(1)[0]), lambda scores, y: scores.sum().abs() / 0.0)
    assert report is not None
    assert report.name == "loss"


def test_the_module_is_left_as_it_was(traced: TracedModule) -> None:
    """Batch statistics, gradients and random state, whether something is found or not."""
    before, random = copy.deepcopy(traced.state_dict()), torch.get_rng_state()
    for scale in (1.0, 2.0**40):
        found(traced, *batches(1)[0], scale=scale)
    assert torch.equal(torch.get_rng_state(), random)
    assert all(torch.equal(tensor, before[name]) for name, tensor in traced.state_dict().items())
    assert all(each.grad is None for each in traced.parameters())


def test_statistics_that_an_earlier_overflow_spoilt(traced: TracedModule) -> None:
    """In training they are only written, and the fault is another; in evaluation they are the fault."""
    module, (x, y) = copy.deepcopy(traced), batches(1)[0]
    bad = x.clone()
    bad[0, 0] = 7e4
    module(bad)
    assert not module.get_buffer("norm.running_mean").isfinite().all()
    assert found(module, x, y) is None
    report = found(module, bad, y)
    assert report is not None
    assert report.op == "aten._to_copy"
    report = found(module.eval(), x, y)
    assert report is not None
    assert report.name == "buffer norm.running_mean"
    assert not module.get_buffer("norm.running_mean").isfinite().all()


class Attention(nn.Module):
    """A causal mask written as a number, another one given."""

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        scores = x @ x.T
        scores = scores.masked_fill(torch.ones_like(mask).triu(1) > 0, float("-inf")) + mask
        return torch.softmax(scores, -1) @ x


@pytest.mark.parametrize(
    ("made", "large"),
    [(fx.symbolic_trace, 1e25), (lambda m: ampgraph.trace(m, (torch.ones(4, 3), torch.ones(4, 4))), 300)],
)
def test_masks_are_no_faults_until_they_hide_a_whole_row(made: Callable[[nn.Module], nn.Module], large: float) -> None:
    module, x, mask = made(Attention()), torch.randn(4, 3), torch.zeros(4, 4)
    mask[2, 0] = float("-inf")
    assert found(module, x, mask, loss=False) is None
    mask[0, 0] = float("-inf")
    report = found(module, x, mask, loss=False)
    assert report is not None
    assert report.name == "input mask"
    grown = found(module, x * large, torch.zeros(4, 4), loss=False)
    assert grown is not None
    assert "matmul" in grown.name


class Hides(nn.Module):
    """Every score is masked by the code: the NaN is made by the softmax."""

    def forward(self, x: Tensor) -> Tensor:
        return torch.softmax(x.masked_fill(x < 100, -float("inf")), -1)


def test_a_nan_made_of_what_the_code_masks_is_the_ops_own() -> None:
    report = found(ampgraph.trace(Hides(), (torch.ones(4, 3),)), torch.ones(4, 3), loss=False)
    assert report is not None
    assert report.name.startswith("softmax")
    assert report.nans == 12


def test_graph_modules_of_torch() -> None:
    """symbolic_trace and export: submodules, parameters and batch statistics of their own."""
    module, (x, y) = network(drop=0.0), batches(1)[0]
    exported = torch.export.export(module, (x,)).module()
    for each in (fx.symbolic_trace(module), exported):
        assert found(each, x, y) is None
        before = copy.deepcopy(each.state_dict())
        x_bad = x.clone()
        x_bad[0] = 3e38
        report = found(each, x_bad, y)
        assert report is not None
        assert report.phase == "forward"
        assert "first" in report.name or "linear" in report.name
        assert all(torch.equal(tensor, before[name]) for name, tensor in each.state_dict().items())
    with torch.no_grad():
        module.last.bias[0] = float("nan")
    report = found(fx.symbolic_trace(module), x, y)
    assert report is not None
    assert report.name == "last"


class OwnLoss(nn.Module):
    """Returns its own loss."""

    def __init__(self) -> None:
        super().__init__()
        self.scores = nn.Linear(WIDTH, CLASSES)

    def forward(self, x: Tensor, y: Tensor) -> dict[str, Tensor]:
        return {"loss": cross_entropy(self.scores(x), y)}


def test_a_module_that_returns_its_loss() -> None:
    x, y = batches(1)[0]
    traced = ampgraph.trace(OwnLoss(), (x, y))
    assert first_non_finite(traced, Call((), {"x": x, "y": y})) is None
    report = first_non_finite(traced, Call((x, y)), scale=2.0**30)
    assert report is not None
    assert report.phase == "backward"


def test_the_scaler_takes_the_scale_of_the_step_that_overflowed(traced: TracedModule) -> None:
    """After it the scale is lower, and the same batch is finite again."""
    module = copy.deepcopy(traced)
    (x, y), scaler = batches(1)[0], LossScaler("cpu", init_scale=2.0**20)
    optimizer = torch.optim.SGD(module.parameters(), 1e-3)
    overflowed = 0
    while not overflowed or bool(scaler.last_step_skipped):
        scaler.scale(cross_entropy(module(x), y)).backward()
        scaler.step(optimizer)
        scaler.update()
        optimizer.zero_grad()
        overflowed += bool(scaler.last_step_skipped)
        assert overflowed < 12
    report = scaler.locate(module, x, y, loss_fn=cross_entropy)
    assert report is not None
    assert report.phase == "backward"
    assert scaler.locate(module, x, y, loss_fn=cross_entropy, scale=scaler.get_scale()) is None
    assert LossScaler("cpu").locate(module, x, y, loss_fn=cross_entropy, scale=2.0**30) is not None


def test_a_module_without_a_graph_is_refused() -> None:
    with pytest.raises(ModelError, match=r"no graph.*ampgraph\.trace"):
        LossScaler("cpu").locate(network(), *batches(1)[0], loss_fn=cross_entropy)
