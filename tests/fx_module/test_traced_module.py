"""TracedModule: what users expect of a module, with a graph inside."""

import copy
import io

import pytest
import torch
from torch import Tensor, nn
from torch_models import Convolutional, Language, language_batch, mlp

import ampgraph
from ampgraph import TracedModule
from ampgraph.errors import ModelError, OptionError


@pytest.fixture
def convolutional() -> TracedModule:
    torch.manual_seed(0)
    return ampgraph.trace(Convolutional(), torch.randn(4, 3, 8, 8), precision="bfloat16")


def test_state_is_the_original_s(convolutional: TracedModule) -> None:
    original = convolutional.original
    assert list(convolutional.state_dict()) == list(original.state_dict())
    assert [name for name, _ in convolutional.named_parameters()] == [name for name, _ in original.named_parameters()]
    assert all(a is b for a, b in zip(convolutional.buffers(), original.buffers(), strict=True))


def test_statistics_are_updated_in_training_alone(convolutional: TracedModule) -> None:
    norm = convolutional.original.norm
    x = torch.randn(6, 3, 8, 8)
    twin = copy.deepcopy(convolutional.original)
    convolutional.train()(x)
    twin.train()(x)
    assert norm.num_batches_tracked == 1
    torch.testing.assert_close(norm.running_mean, twin.norm.running_mean, rtol=0.02, atol=0.01)
    torch.testing.assert_close(norm.running_var, twin.norm.running_var, rtol=0.02, atol=0.01)
    before = norm.running_mean.clone()
    convolutional.eval()(x)
    assert torch.equal(norm.running_mean, before)
    assert norm.num_batches_tracked == 1


def test_dropout_follows_the_mode(convolutional: TracedModule) -> None:
    x = torch.randn(4, 3, 8, 8)
    with torch.no_grad():
        assert torch.equal(convolutional.eval()(x), convolutional(x))
        assert not torch.equal(convolutional.train()(x), convolutional(x))


def test_a_frozen_part_is_captured_when_it_is_called(convolutional: TracedModule) -> None:
    convolutional.train()
    norm = convolutional.get_submodule("norm")
    norm.eval()
    convolutional(torch.randn(4, 3, 8, 8))
    assert norm.num_batches_tracked == 0
    norm.train()
    convolutional(torch.randn(4, 3, 8, 8))
    assert norm.num_batches_tracked == 1


def test_gradients_are_float32_and_close_to_those_of_float32() -> None:
    torch.manual_seed(0)
    module = Convolutional().eval()
    traced = ampgraph.trace(module, torch.randn(4, 3, 8, 8), precision="bfloat16").eval()
    x = torch.randn(4, 3, 8, 8)
    found = []
    for each in (module, traced):
        each(x).square().sum().backward()
        found.append([parameter.grad for parameter in each.parameters()])
        module.zero_grad()
    for expected, gradient in zip(*found, strict=True):
        assert gradient.dtype is torch.float32
        assert (gradient - expected).norm() < 0.05 * expected.norm() + 1e-4


def test_nested_inputs_outputs_and_tied_weights() -> None:
    torch.manual_seed(0)
    module = Language()
    traced = ampgraph.trace(module, (language_batch(),), precision="bfloat16")
    batch = language_batch(5)
    expected, found = module(batch), traced(batch=batch)
    assert list(found) == ["logits", "hidden"]
    torch.testing.assert_close(found["logits"], expected["logits"], rtol=0.1, atol=0.1)
    kept = [name for name, kinds in traced.plan.parameters.items() if len(kinds) > 1]
    assert kept == ["p_tokens_weight"]  # the table in float32, the head's product in bfloat16: one parameter
    found["logits"].sum().backward()
    assert module.head.weight.grad.dtype is torch.float32
    with pytest.raises(ModelError, match=r"argument scale|nested otherwise"):
        traced(batch, 2.0)


def test_a_plain_argument_is_part_of_the_graph() -> None:
    traced = ampgraph.trace(Language(), (language_batch(), 0.5))
    traced(language_batch(2), 0.5)
    with pytest.raises(ModelError, match=r"argument scale: is 2\.0, and the graph takes 0\.5"):
        traced(language_batch(2), 2.0)


def test_hooks_requires_grad_and_moves() -> None:
    traced = ampgraph.trace(mlp(), torch.randn(4, 12))
    seen: list[str] = []
    traced.register_forward_hook(lambda module, args, result: seen.append(type(module).__name__))
    traced(torch.randn(2, 12))
    assert seen == ["TracedModule"]
    traced.requires_grad_(False)
    assert not traced(torch.randn(2, 12)).requires_grad
    assert traced.to("cpu") is traced
    for change in (lambda: traced.half(), lambda: traced.to(torch.bfloat16), lambda: traced.double()):
        with pytest.raises(ModelError, match="keeps its parameters in float32"):
            change()
    assert all(parameter.dtype is torch.float32 for parameter in traced.parameters())


def test_a_hook_that_came_too_late_is_not_forgotten_silently() -> None:
    traced = ampgraph.trace(mlp(), torch.randn(4, 12))
    handle = traced.original[0].register_forward_hook(lambda module, args, result: result * 2)
    with pytest.raises(ModelError, match="hook"):
        traced(torch.randn(2, 12))
    handle.remove()
    traced(torch.randn(2, 12))
    module = mlp()
    module[2].register_forward_hook(lambda module, args, result: result * 0)
    assert ampgraph.trace(module, torch.randn(4, 12))(torch.randn(2, 12)).abs().max() == 0


def test_hooks_that_were_part_of_the_graph_are_missed() -> None:
    """Watched by what they are: one for another is as many as before."""
    module = mlp()
    handle = module[0].register_forward_hook(lambda module, args, result: result * 2)
    traced = ampgraph.trace(module, torch.randn(4, 12))
    traced(torch.randn(2, 12))
    handle.remove()
    with pytest.raises(ModelError, match="other forward hooks than when it was traced"):
        traced(torch.randn(2, 12))
    module[0].register_forward_hook(lambda module, args, result: result * 5)
    with pytest.raises(ModelError, match="other forward hooks than when it was traced"):
        traced(torch.randn(2, 12))


def test_a_hook_of_the_module_itself_is_part_of_the_graph_and_watched() -> None:
    module, x = mlp(), torch.randn(4, 12)
    handle = module.register_forward_hook(lambda module, args, result: result * 0)
    traced = ampgraph.trace(module, x)
    assert traced(x).abs().max() == 0
    handle.remove()
    with pytest.raises(ModelError, match="other forward hooks"):
        traced(x)


class Drops(nn.Module):
    """No submodule says in which mode it is."""

    def forward(self, x: Tensor) -> Tensor:
        return nn.functional.dropout(x, 0.5, self.training)


def test_the_mode_of_the_original_and_of_the_traced_module_are_one() -> None:
    module, x = Drops(), torch.ones(4, 12)
    traced = ampgraph.trace(module, x)
    assert traced(x).min() == 0
    module.eval()
    assert not traced.training
    assert torch.equal(traced(x), x)
    traced.train()
    assert module.training
    assert traced(x).min() == 0


def test_a_parametrization_that_came_too_late_is_named() -> None:
    traced = ampgraph.trace(mlp(), torch.randn(4, 12))
    nn.utils.parametrizations.weight_norm(traced.original[2])
    with pytest.raises(ModelError, match=r"no longer holds a parameter or buffer 'weight'.*trace again"):
        traced(torch.randn(4, 12))


def test_deepcopy_and_saving() -> None:
    traced = ampgraph.trace(mlp(), torch.randn(4, 12))
    traced(torch.randn(4, 12)).sum().backward()  # copies of parameters are there
    twin = copy.deepcopy(traced)
    assert all(a is not b for a, b in zip(twin.parameters(), traced.parameters(), strict=True))
    x = torch.randn(3, 12)
    assert torch.equal(twin(x), traced(x))
    with torch.no_grad():
        twin.original[0].weight.zero_()
    assert not torch.equal(twin(x), traced(x))
    file = io.BytesIO()
    torch.save(traced.state_dict(), file)
    file.seek(0)
    twin.load_state_dict(torch.load(file))
    assert torch.equal(twin(x), traced(x))
    with pytest.raises(ModelError, match="state_dict"):
        torch.save(traced, io.BytesIO())


def test_what_it_shows() -> None:
    traced = ampgraph.trace(mlp(), torch.randn(4, 12))
    assert "_to_copy" in traced.print_readable(print_output=False)
    assert "torch.float16" in traced.code
    told = traced.explain("0.linear")
    assert told.startswith("0.linear: aten.linear\n")
    assert "matrix-product" in told
    with pytest.raises(OptionError, match="close names are"):
        traced.explain("lineal")
    with pytest.raises(OptionError, match="node: is None"):
        traced.explain(None)
    assert "objective=training" in repr(traced)


def test_what_the_graph_makes_of_nothing_is_made_where_the_module_lives() -> None:
    """Positions and constants of the graph move with the module; meta is a device that every build has."""
    traced = ampgraph.trace(Language(), (language_batch(),))
    assert any(torch.device("cpu") in node.kwargs.values() for node in traced.graph.nodes)
    found = traced.to("meta")({"ids": torch.zeros(3, 6, dtype=torch.long, device="meta")})
    assert found["logits"].is_meta
    assert found["logits"].shape == (3, 6, 50)


class Author(nn.Module):
    """Casts of the author's, before and after."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(8, 8)

    def forward(self, x: Tensor) -> Tensor:
        y = self.linear(x).float()
        z = y.half().float() + y.to(torch.bfloat16).float()
        return self.linear(z.double().float())


def test_casts_of_the_author_s_are_kept() -> None:
    traced = ampgraph.trace(Author(), torch.randn(2, 8))
    theirs = [node for node in traced.graph.nodes if "aten.to.dtype" in str(node.target)]
    assert [node.args[1] for node in theirs] == [
        torch.float32, torch.float16, torch.float32, torch.bfloat16, torch.float32, torch.float64, torch.float32,
    ]  # fmt: skip
    assert all(node.meta["val"].dtype is node.args[1] for node in theirs)


class InPlace(nn.Module):
    """Writes into views, into its input, and into a buffer."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(6, 6)
        self.register_buffer("calls", torch.zeros(6))

    def forward(self, x: Tensor) -> Tensor:
        y = self.linear(x)
        view = y[:, :2]
        view.mul_(3.0)
        y[:, 5] = 1.0
        self.calls.add_(y.detach().mean(0))
        z = torch.empty_like(y).bernoulli_(0.5)
        return self.linear(torch.relu_(y) + z * 0)


def test_what_is_written_in_place_is_written() -> None:
    torch.manual_seed(0)
    module, x = InPlace(), torch.randn(3, 6)
    twin = copy.deepcopy(module)
    traced = ampgraph.trace(module, torch.randn(2, 6))
    torch.testing.assert_close(traced(x), twin(x), rtol=0.02, atol=0.01)
    torch.testing.assert_close(module.calls, twin.calls, rtol=0.02, atol=0.01)
    assert module.calls.abs().max() > 0


class Regions(nn.Module):
    """Regions without gradients and without autocast."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(4, 4)

    def forward(self, x: Tensor) -> Tensor:
        y = self.linear(x)
        with torch.no_grad():
            scale = y.abs().amax()
        with torch.autocast("cpu", enabled=False):
            z = y @ y.transpose(0, 1)
        return (z / scale) @ y


def test_regions_keep_their_meaning() -> None:
    torch.manual_seed(0)
    module = Regions()
    traced = ampgraph.trace(module, torch.randn(4, 4), precision="bfloat16", dynamic_shapes=None)
    pinned = [choice.why for id, choice in traced.plan.choices.items() if id.startswith("matmul:")]
    assert pinned == ["the author turned autocast off around it"]
    x = torch.randn(4, 4)
    for each in (module, traced):
        each.zero_grad()
        each(x).sum().backward()
    assert torch.is_grad_enabled()
    with torch.no_grad():
        traced(x)
        assert not torch.is_grad_enabled()


def test_autocast_around_it_casts_nothing_more() -> None:
    traced = ampgraph.trace(mlp(), torch.randn(4, 12))
    x = torch.randn(2, 12)
    plain = traced(x)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(traced(x), plain)


def test_training_follows_float32() -> None:
    torch.manual_seed(0)
    module = mlp()
    twin = copy.deepcopy(module)
    traced = ampgraph.trace(module, torch.randn(4, 12))
    x, y = torch.randn(32, 12), torch.randint(0, 4, (32,))
    losses: list[list[float]] = []
    for each in (twin, traced):
        optimizer = torch.optim.Adam(each.parameters(), 1e-2)
        losses.append([])
        for _ in range(20):
            loss = nn.functional.cross_entropy(each(x), y)
            loss.backward()
            optimizer.step()
            optimizer.zero_grad()
            losses[-1].append(loss.item())
    assert losses[1] == pytest.approx(losses[0], rel=0.01)
    assert losses[1][-1] < 0.8 * losses[1][0]
