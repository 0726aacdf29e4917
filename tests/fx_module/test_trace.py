"""The public door: what it takes, what it refuses and how, and that nothing of the user's changes."""

import copy
import subprocess
import sys
from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch_models import Convolutional, mlp

import ampgraph
from ampgraph.errors import AmpgraphError, ModelError, OptionError
from ampgraph.judgement import Cause
from ampgraph.precision import Precision


def snapshot(module: nn.Module) -> list[tuple[str, int, Tensor]]:
    named = [*module.named_parameters(), *module.named_buffers()]
    return [(name, id(tensor), tensor.detach().clone()) for name, tensor in named]


def same(module: nn.Module, before: list[tuple[str, int, Tensor]]) -> bool:
    now = snapshot(module)
    return all(a[:2] == b[:2] and torch.equal(a[2], b[2]) for a, b in zip(now, before, strict=True))


class Branching(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(4, 4)

    def forward(self, x: Tensor) -> Tensor:
        if x.sum() > 0:
            return self.linear(x)
        return x


def test_a_small_module_is_mixed_by_default() -> None:
    traced = ampgraph.trace(mlp(), torch.randn(8, 12))
    products = [op for op in traced.captured.graph.ops.values() if op.type == "aten.linear"]
    assert len(products) == 2
    assert all(traced.plan.choices[f"{op.id}:T"].precision is Precision.FLOAT16 for op in products)
    assert traced.summary().startswith("Sequential: float16")


def test_under_speed_a_tiny_module_stays_as_it_is() -> None:
    traced = ampgraph.trace(mlp(), torch.randn(8, 12), objective="speed")
    assert not traced.plan.low
    assert not traced.plan.casts


@pytest.mark.parametrize("objective", ["training", "speed", "memory", "coverage"])
@pytest.mark.parametrize("precision", ["float16", "bfloat16"])
def test_every_objective_gives_a_plan_that_runs(objective: str, precision: str) -> None:
    module = Convolutional()
    traced = ampgraph.trace(module, torch.randn(2, 3, 8, 8), precision=precision, objective=objective).eval()
    x = torch.randn(5, 3, 8, 8)
    torch.testing.assert_close(traced(x), module(x), rtol=0.05, atol=0.05)


@pytest.mark.parametrize(
    ("named", "precision", "objective"),
    [
        ("mixed_float16", "float16", "coverage"),
        ("mixed_bfloat16", "bfloat16", "coverage"),
        ("O1", "float16", "training"),
        ("O2", "float16", "coverage"),
    ],
)
def test_policies_of_other_libraries_by_name(named: str, precision: str, objective: str) -> None:
    plan = ampgraph.trace(mlp(), torch.randn(8, 12), named_policy=named).plan
    assert (plan.precision, plan.objective) == (precision, objective)


def test_the_module_is_left_as_it_was() -> None:
    module = Convolutional()
    module.norm.eval()
    before, modes = snapshot(module), [each.training for each in module.modules()]
    traced = ampgraph.trace(module, torch.randn(2, 3, 8, 8))
    assert same(module, before)
    assert modes == [each.training for each in module.modules()]
    assert all(a is b for a, b in zip(traced.parameters(), module.parameters(), strict=True))


def test_control_by_data_is_refused_with_the_line() -> None:
    module = Branching()
    before = snapshot(module)
    with pytest.raises(ModelError, match=r"test_trace\.py:\d+ \(if x\.sum\(\) > 0:\).*torch\.where") as caught:
        ampgraph.trace(module, torch.randn(2, 4))
    assert "\n" not in str(caught.value)
    assert same(module, before)
    assert module.training


class OwnLine(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x @ torch.ones(7, 7)


def half_module() -> nn.Module:
    module = mlp()
    module[2].half()
    return module


def split_module() -> nn.Module:
    module = mlp()
    module[2].to("meta")
    return module


def lazy_module() -> nn.Module:
    with pytest.warns(UserWarning, match="Lazy"):
        return nn.Sequential(nn.LazyLinear(4))


REFUSED = [
    (lambda: half_module(), (torch.randn(2, 12),), "parameter 2.weight: is float16.*module.float()"),
    (lambda: split_module(), (torch.randn(2, 12),), "2.weight: is on the meta device"),
    (lambda: mlp(), (torch.randn(2, 12), 3), "does not take these arguments"),
    (lambda: mlp(), (torch.randn(2, 13),), r"fails by itself when it is called with \(float32\[2, 13\]\)"),
    (lambda: mlp(), (np.zeros((2, 12), np.float32),), "example_args: holds a numpy array.*torch.from_numpy"),
    (lambda: mlp(), 5, "example_args: is of type int"),
    (lambda: mlp(), (torch.randn(2, 12, device="meta"),), "example argument: is on meta"),
    (lambda: OwnLine(), (torch.randn(2, 3),), r"test_trace\.py:\d+ \(return x @ torch.ones\(7, 7\)\)"),
    (lambda: "text", (torch.randn(2, 12),), "is no torch.nn.Module"),
    (lambda: ampgraph.trace(mlp(), torch.randn(2, 12)), (torch.randn(2, 12),), "is traced already"),
    (lambda: nn.DataParallel(mlp()), (torch.randn(2, 12),), "is a wrapper"),
]


@pytest.mark.parametrize(("make", "args", "message"), REFUSED)
def test_bad_input_is_one_line_with_a_remedy(make, args, message) -> None:
    with pytest.raises(AmpgraphError, match=message) as caught:
        ampgraph.trace(make(), args)
    assert "\n" not in str(caught.value)
    assert caught.value.remedy


def test_two_devices_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """The devices of a real module with one part on another device; meta is the only other one everywhere."""
    from ampgraph.fx_module.trace import refuse

    module = mlp()
    module.register_buffer("extra", torch.zeros(2))
    module.extra = torch.zeros(2, device="meta")
    with pytest.raises(ModelError, match="extra: is on the meta device"):
        refuse(module)


def test_uninitialized_parameters_are_refused() -> None:
    with pytest.raises(ModelError, match="has no size yet"):
        ampgraph.trace(nn.Sequential(nn.LazyLinear(4)), torch.randn(2, 3))


@pytest.mark.parametrize(
    "options",
    [
        {"precision": "float8"},
        {"objective": "best"},
        {"named_policy": "O7"},
        {"named_policy": "mixed_float16", "precision": "bfloat16"},
        {"keep": "nothing_is_called_this"},
        {"io": "no_such_input"},
        {"device": "abacus"},
    ],
)
def test_words_that_mean_nothing_are_refused(options: dict[str, str]) -> None:
    with pytest.raises(OptionError):
        ampgraph.trace(mlp(), torch.randn(2, 12), **options)


def test_keep_low_and_rules_are_heard(tmp_path) -> None:
    x = torch.randn(2, 12)
    kept = ampgraph.trace(mlp(), x, keep=r"^2\.")
    assert kept.plan.choices["linear_1:T"].precision is Precision.FLOAT32
    assert kept.plan.choices["linear_1:T"].cause is Cause.USER
    file = tmp_path / "mine.toml"
    rule = '[[rule]]\nname = "mine"\nops = ["aten.linear"]\ncategory = "deny"\nwhy = "because"\nsource = "me"\n'
    file.write_text(rule)
    assert not ampgraph.trace(mlp(), x, rules=file).plan.low
    loss = nn.Sequential(nn.Linear(12, 4), nn.LogSigmoid())
    assert "1.log_sigmoid" in ampgraph.trace(loss, x, low="log_sigmoid").explain("log_sigmoid")


def test_interfaces_can_be_low() -> None:
    traced = ampgraph.trace(mlp(), torch.randn(2, 12), io="output")
    assert traced(torch.randn(3, 12)).dtype is torch.float16
    both = ampgraph.trace(mlp(), torch.randn(2, 12), io="low")
    assert both(torch.randn(3, 12).half()).dtype is torch.float16
    assert not both.plan.casts
    with pytest.raises(ModelError, match=r"is float32.*and the graph takes float16"):
        both(torch.randn(3, 12))


def test_bias_of_nothing_is_still_nothing() -> None:
    """A module without parameters, and one whose forward takes nothing but numbers of its own."""
    traced = ampgraph.trace(nn.ReLU(), torch.randn(4, 3))
    torch.testing.assert_close(traced(torch.ones(2, 3)), torch.ones(2, 3))


def test_batches_of_other_sizes() -> None:
    for size in (1, 4):
        traced = ampgraph.trace(mlp(), torch.randn(size, 12))
        for other in (1, 2, 7):
            assert traced(torch.randn(other, 12)).shape == (other, 4)
    fixed = ampgraph.trace(mlp(), torch.randn(4, 12), dynamic_shapes=None)
    with pytest.raises(ModelError, match=r"is float32\[5, 12\], and the graph takes float32\[4, 12\]"):
        fixed(torch.randn(5, 12))


class FixedBatch(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x.view(int(x.shape[0]), -1) * torch.ones(3, 1)


class EvenBatch(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x + 1 if x.shape[0] % 2 == 0 else x


def test_a_batch_that_the_module_s_python_fixes_is_not_free() -> None:
    traced = ampgraph.trace(FixedBatch(), torch.randn(3, 4))
    with pytest.raises(ModelError, match=r"is float32\[4, 4\], and the graph takes float32\[3, 4\]"):
        traced(torch.randn(4, 4))


def test_a_size_that_would_take_another_branch_is_refused() -> None:
    traced = ampgraph.trace(EvenBatch(), torch.randn(4, 2))
    assert traced(torch.zeros(6, 2)).sum() == 12
    with pytest.raises(ModelError, match="trace again with an example of this size"):
        traced(torch.zeros(5, 2))


class ByBatch(nn.Module):
    """Goes another way for a batch of one; the ways of asking are many."""

    def __init__(self, asks: Callable[[Tensor], bool]) -> None:
        super().__init__()
        self.asks = asks

    def forward(self, x: Tensor) -> Tensor:
        return x * 10 if self.asks(x) else x + 1


ASKS_FOR_ONE = [
    lambda x: x.shape[0] == 1,
    lambda x: not x.shape[0] > 1,
    lambda x: x.size(0) in (1, 100),
    lambda x: x.numel() < 4,
    lambda x: min(x.shape[0], 2) < 2,
    lambda x: not x.shape[0] - 1,
]


@pytest.mark.parametrize("asks", ASKS_FOR_ONE)
def test_a_module_that_looks_at_a_batch_of_one_is_not_called_with_one(asks: Callable[[Tensor], bool]) -> None:
    traced = ampgraph.trace(ByBatch(asks), torch.zeros(4, 2))
    assert torch.equal(traced(torch.zeros(6, 2)), torch.ones(6, 2))
    with pytest.raises(ModelError, match="trace again with an example of this size"):
        traced(torch.zeros(1, 2))


@pytest.mark.parametrize("asks", ASKS_FOR_ONE)
def test_traced_with_one_such_a_module_takes_one_and_nothing_else(asks: Callable[[Tensor], bool]) -> None:
    traced = ampgraph.trace(ByBatch(asks), torch.zeros(1, 2))
    assert torch.equal(traced(torch.ones(1, 2)), torch.full((1, 2), 10.0))
    assert any("batch size is fixed" in note for note in traced.captured.notes)
    with pytest.raises(ModelError, match=r"is float32\[4, 2\], and the graph takes float32\[1, 2\]"):
        traced(torch.zeros(4, 2))


def test_statistics_of_a_batch_of_one_are_refused_as_torch_does() -> None:
    module = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4))
    traced = ampgraph.trace(module, torch.randn(4, 3))
    for each in (module, traced):
        with pytest.raises((ValueError, ModelError)):
            each(torch.randn(1, 3))
    torch.testing.assert_close(traced.eval()(torch.ones(1, 3)), module.eval()(torch.ones(1, 3)), atol=0.01, rtol=0.01)
    images = ampgraph.trace(nn.BatchNorm2d(3), torch.randn(4, 3, 5, 5))
    assert images(torch.randn(1, 3, 5, 5)).shape == (1, 3, 5, 5)


class Mapped(nn.Module):
    """Maps over the batch, and over another axis within; what is around it is not mapped."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Linear(6, 6), nn.Linear(6, 6)

    def forward(self, x: Tensor) -> Tensor:
        y = self.first(x)
        y = torch.vmap(lambda a, b: torch.vmap(lambda c: a @ c + b.sum())(y))(y, x)
        return self.second(x) + y.mean(1, keepdim=True)


def test_vmap_in_forward_is_left_as_it_is_and_all_around_it_is_low() -> None:
    module, x = Mapped(), torch.randn(5, 6)
    traced = ampgraph.trace(module, x)
    torch.testing.assert_close(traced(x), module(x), rtol=0.01, atol=0.02)
    torch.testing.assert_close(traced(x[:3]), module(x[:3]), rtol=0.01, atol=0.02)
    assert "torch.vmap" in traced.explain("matmul")
    assert traced.plan.choices["linear_1:T"].precision is Precision.FLOAT16
    module(x).square().mean().backward()
    expected = {name: parameter.grad for name, parameter in module.named_parameters()}
    module.zero_grad()
    traced(x).square().mean().backward()
    for name, parameter in module.named_parameters():
        assert (parameter.grad - expected[name]).norm() <= 0.01 * expected[name].norm(), name


class TakesAnything(nn.Module):
    def forward(self, x: Tensor, **more: Tensor) -> Tensor:
        return sum(more.values(), x)


def test_why_a_batch_is_fixed_is_said_truly() -> None:
    x = torch.randn(4, 2)
    traced = ampgraph.trace(TakesAnything(), x, {"y": x})
    assert traced.captured.notes == (
        "the batch size is fixed to the example's: torch.export takes no free sizes beside **more; "
        "name its arguments in forward",
    )
    assert ampgraph.trace(TakesAnything(), x)(torch.ones(5, 2)).shape == (5, 2)


NOISY = """
import torch, ampgraph

class Inverse(torch.nn.Module):
    def forward(self, x):
        return torch.linalg.inv(x @ x.mT + torch.eye(3))

ampgraph.trace(Inverse(), torch.randn(2, 3, 3), objective="coverage")
try:
    ampgraph.trace(torch.nn.BatchNorm1d(3, momentum=None), torch.randn(2, 3))
except ampgraph.errors.ModelError:
    print("refused")
"""


def test_what_torch_is_asked_and_refuses_is_not_told() -> None:
    """Torch's logs and prints go by streams that it opens as it is imported."""
    found = subprocess.run([sys.executable, "-c", NOISY], capture_output=True, text=True, check=True)
    assert found.stderr == ""
    assert found.stdout == "refused\n"


def test_copies_of_the_original_are_not_needed() -> None:
    module = mlp()
    twin = copy.deepcopy(module)
    traced = ampgraph.trace(module, torch.randn(4, 12))
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.zero_()
    assert traced(torch.randn(2, 12)).abs().max() == 0
    assert any(parameter.abs().max() > 0 for parameter in twin.parameters())
