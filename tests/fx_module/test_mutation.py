"""In-place ops: functional where nobody sees the difference, pinned where somebody does."""

import pytest
import torch
from graphs import Function, prepared
from torch import Tensor, nn

import ampgraph
from ampgraph.fx_module.mutation import PIN
from ampgraph.fx_module.schema import op_type

torch.manual_seed(0)
X = torch.randn(4, 6)


def ops(function) -> dict[str, bool]:
    """Op types, each with whether it is pinned."""
    graph = prepared(Function(function, buffer=torch.zeros(6)), X).graph
    return {op_type(node): PIN in node.meta for node in graph.nodes if node.op == "call_function"}


def chain(m, x: Tensor) -> Tensor:
    return (x * 2).relu_().add_(1.0)


def reread(m, x: Tensor) -> Tensor:
    y = x * 2
    y.relu_()
    return y + 1


def through_a_view(m, x: Tensor) -> Tensor:
    y = x * 2
    y.view(-1).relu_()
    return y + 1


def of_a_view_that_is_read_no_more(m, x: Tensor) -> Tensor:
    return (x * 2).view(-1).relu_()


def into_the_argument(m, x: Tensor) -> Tensor:
    return x.relu_()


def into_a_buffer(m, x: Tensor) -> Tensor:
    m.buffer.add_(x.detach().mean(0))
    return x * 2


def without_a_twin(m, x: Tensor) -> Tensor:
    return torch.empty_like(x).normal_() + x


@pytest.mark.parametrize(
    ("function", "expected"),
    [
        (chain, {"aten.mul": False, "aten.relu": False, "aten.add": False}),
        (reread, {"aten.mul": False, "aten.relu": False, "aten.add": False}),
        (through_a_view, {"aten.mul": True, "aten.view": True, "aten.relu_": True, "aten.add": True}),
        (of_a_view_that_is_read_no_more, {"aten.mul": False, "aten.view": False, "aten.relu": False}),
        (into_the_argument, {"aten.relu_": True}),
        (into_a_buffer, {"aten.detach": False, "aten.mean": False, "aten.add_": True, "aten.mul": False}),
        (without_a_twin, {"aten.empty_like": False, "aten.normal_": False, "aten.add": False}),
    ],
)
def test_what_becomes_of_writing(function, expected: dict[str, bool]) -> None:
    assert ops(function) == expected


# Numbers, types and gradients of what is written in place are the original's


def clamped_without_gradients(m, x: Tensor) -> Tensor:
    y = m.encode(x)
    with torch.no_grad():
        y.clamp_(-0.1, 0.1)
    return m.decode(y)


def power(m, x: Tensor) -> Tensor:
    return m.encode(x).pow_(2)


def power_of_the_language(m, x: Tensor) -> Tensor:
    y = m.encode(x)
    y **= 2
    return m.decode(y)


def without_a_twin_of_its_arguments(m, x: Tensor) -> Tensor:
    return m.encode(x).abs().add(1.0).polygamma_(1).ldexp_(torch.ones(6)).double().float_power_(2)


def into_fresh_memory(m, x: Tensor) -> Tensor:
    z = torch.zeros_like(x)
    z[:] = m.encode(x)
    return z * 2


def into_fresh_memory_of_another_shape_and_type(m, x: Tensor) -> Tensor:
    row = torch.empty(6).copy_(m.encode(x)[0])
    wide = torch.zeros(4, 6).copy_(row.double())
    wide.mul_(2)
    return wide + row


def into_memory_that_is_read_before(m, x: Tensor) -> Tensor:
    y = m.encode(x)
    z = torch.zeros_like(y)
    z[...] = y
    z.mul_(2)
    return z + y


def by_a_wider_type(m, x: Tensor) -> Tensor:
    y = m.encode(x)
    y += torch.arange(6, dtype=torch.float64)
    return m.decode(y)


def by_a_wider_half(m, x: Tensor) -> Tensor:
    y = m.encode(x).half()
    y *= x
    return y


def counts(m, x: Tensor) -> Tensor:
    return torch.zeros(6, dtype=torch.int32).add_(torch.arange(6)).add_(m.encode(x).detach().argmax(1).sum() * 0)


def comparisons(m, x: Tensor) -> Tensor:
    return m.encode(x).detach().gt_(0) * m.decode(x)


def constant_by_a_wider_type(m, x: Tensor) -> Tensor:
    y = torch.tensor([1.0, 2.0, 3.0, 4.0, 5.0, 6.0])
    y += torch.arange(6, dtype=torch.float64)
    return m.decode(x) * y


def through_an_einsum(m, x: Tensor) -> Tensor:
    y = m.encode(x) * 1
    torch.einsum("ij->ji", y).mul_(3)
    return y


def through_a_mesh(m, x: Tensor) -> Tensor:
    y = m.encode(x)[0] * 1
    (mesh,) = torch.meshgrid(y, indexing="ij")
    mesh.mul_(3)
    return y


def through_a_product_of_one(m, x: Tensor) -> Tensor:
    y = m.encode(x) * 1
    torch.cartesian_prod(y[:, 0]).mul_(3)
    return y


def through_the_result_of_an_out(m, x: Tensor) -> Tensor:
    y = m.encode(x)
    found = torch.mul(y.detach(), 2, out=m.buffer)
    first = m.decode(found)
    m.buffer.add_(5)
    return (first * m.decode(found)).detach()


WRITERS = [
    clamped_without_gradients, power, power_of_the_language, without_a_twin_of_its_arguments, into_fresh_memory,
    into_fresh_memory_of_another_shape_and_type, into_memory_that_is_read_before, by_a_wider_type, by_a_wider_half,
    counts, comparisons, constant_by_a_wider_type, through_an_einsum, through_a_mesh, through_a_product_of_one,
    through_the_result_of_an_out,
]  # fmt: skip


def made(function) -> nn.Module:
    torch.manual_seed(0)
    module = Function(function, buffer=torch.zeros(4, 6))
    module.encode, module.decode = nn.Linear(6, 6), nn.Linear(6, 6)
    return module


def outcome(module: nn.Module, run) -> tuple[Tensor, list[Tensor]]:
    found, state = run(X), list(module.parameters())
    if not found.requires_grad:
        return found, []
    given = torch.autograd.grad(found.float().square().sum(), state, allow_unused=True)
    return found, [torch.zeros(()) if each is None else each for each in given]


@pytest.mark.parametrize("function", WRITERS)
def test_writing_does_what_it_did(function) -> None:
    ours, theirs = made(function), made(function)
    traced = ampgraph.trace(ours, X, dynamic_shapes=None)
    for _ in range(2):
        found, gradients = outcome(ours, traced)
        expected, wanted = outcome(theirs, theirs)
        assert found.dtype is expected.dtype
        torch.testing.assert_close(found, expected, rtol=0.01, atol=0.02)
        assert len(gradients) == len(wanted)
        for our, their in zip(gradients, wanted, strict=True):
            assert (our - their).norm() <= 0.01 * their.norm()
    torch.testing.assert_close(ours.buffer, theirs.buffer, rtol=0.01, atol=0.02)


def test_several_operands_of_an_einsum_make_a_new_tensor() -> None:
    pins = ops(lambda m, x: torch.einsum("ij,j->i", x, m.buffer).relu_())
    assert pins == {"aten.einsum": False, "aten.relu": False}


def test_a_write_of_another_type_is_not_made_anew() -> None:
    assert "aten.add_" in ops(lambda m, x: (x * 2).add_(torch.ones(6, dtype=torch.float64)))


def test_fresh_memory_that_is_written_whole_is_a_copy_that_may_be_low() -> None:
    found = ops(lambda m, x: torch.empty(4, 6).copy_(x) + 1)
    assert found == {"aten.empty": False, "aten.clone": False, "aten.add": False}
