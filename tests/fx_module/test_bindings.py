"""The quick way to an op: the same numbers, gradients and op as the long one, for every row of the table."""

from typing import Any

import pytest
import torch
from torch import Tensor, fx

from ampgraph.fx_module.apply import TO_COPY
from ampgraph.fx_module.bindings import FUNCTIONS, METHODS, bound, functions, op
from ampgraph.fx_module.body import Body

NAMES = [name for names in FUNCTIONS.values() for name in names]


def numbers(*sizes: int, low: float = 0.1, high: float = 2.0) -> Tensor:
    torch.manual_seed(sum(sizes))
    return (torch.rand(*sizes) * (high - low) + low).requires_grad_()


X, Y, IMAGE = numbers(3, 4), numbers(3, 4, low=1.0, high=3.0), numbers(2, 4, 6, 6)
SIGNAL, VOLUME, VECTOR = numbers(2, 4, 8), numbers(1, 2, 4, 4, 4), numbers(4)
BATCHED, CLASSES, MASK = numbers(2, 3, 3), torch.tensor([0, 3, 1]), torch.tensor([[True, False, True, False]] * 3)
PAIRS = dict.fromkeys(("add.Tensor", "div.Tensor", "mul.Tensor", "sub.Tensor", "eq.Tensor", "huber_loss"), (X, Y))
PAIRS |= dict.fromkeys(("l1_loss", "mse_loss", "smooth_l1_loss", "type_as"), (X, Y))
NUMBER = {f"{name}.Scalar": (X, 1.0) for name in ("eq", "ge", "gt", "le", "lt", "ne", "rsub")}
ARGUMENTS: dict[str, tuple[Any, ...]] = {
    **PAIRS,
    **NUMBER,
    "adaptive_avg_pool1d": (SIGNAL, [3]),
    "adaptive_avg_pool2d": (IMAGE, [2, 3]),
    "addmm": (VECTOR, numbers(3, 5), numbers(5, 4)),
    "avg_pool1d": (SIGNAL, [2]),
    "avg_pool2d": (IMAGE, [2, 2]),
    "baddbmm": (BATCHED, BATCHED, BATCHED),
    "batch_norm": (IMAGE, VECTOR, VECTOR, torch.zeros(4), torch.ones(4), True, 0.1, 1e-5, True),
    "binary_cross_entropy": (numbers(3, 4, high=0.9), numbers(3, 4, high=0.8).detach()),
    "bmm": (BATCHED, BATCHED),
    "cat": ([X, Y], 1),
    "chunk": (X, 2, 1),
    "clamp": (X, 0.5, 1.0),
    "conv1d": (SIGNAL, numbers(3, 4, 3)),
    "conv2d": (IMAGE, numbers(3, 4, 3, 3), None, [2, 2], [1, 1]),
    "conv3d": (VOLUME, numbers(3, 2, 3, 3, 3), numbers(3)),
    "conv_transpose1d": (SIGNAL, numbers(4, 3, 3)),
    "conv_transpose2d.input": (IMAGE, numbers(4, 3, 3, 3), None, [2, 2]),
    "conv_transpose3d.input": (VOLUME, numbers(2, 3, 3, 3, 3)),
    "cross_entropy_loss": (X, CLASSES),
    "cumsum": (X, 1),
    "dropout": (X, 0.5, True),
    "embedding": (X, CLASSES[:2] % 3),
    "feature_dropout": (IMAGE, 0.5, True),
    "flatten.using_ints": (IMAGE, 1),
    "glu": (X,),
    "group_norm": (IMAGE, 2, VECTOR, VECTOR),
    "instance_norm": (IMAGE, VECTOR, VECTOR, None, None, True, 0.1, 1e-5, True),
    "layer_norm": (X, [4], VECTOR, VECTOR),
    "linear": (X, numbers(5, 4), numbers(5)),
    "log_softmax.int": (X, 1),
    "masked_fill.Scalar": (X, MASK, 7.0),
    "matmul": (X, numbers(4, 5)),
    "max_pool1d": (SIGNAL, [2]),
    "max_pool2d": (IMAGE, [3, 3], [2, 2], [1, 1]),
    "max_pool3d": (VOLUME, [2, 2, 2]),
    "mean.dim": (X, [1], True),
    "mm": (X, numbers(4, 5)),
    "movedim.int": (IMAGE, 1, -1),
    "nll_loss_nd": (X, CLASSES),
    "pad": (X, [1, 1]),
    "permute": (IMAGE, [0, 2, 3, 1]),
    "pixel_shuffle": (IMAGE, 2),
    "pow.Tensor_Scalar": (X, 3),
    "prelu": (X, numbers(1)),
    "reshape": (X, [4, -1]),
    "rms_norm": (X, [4], VECTOR),
    "roll": (X, [1], [0]),
    "scaled_dot_product_attention": (numbers(1, 2, 4, 4), numbers(1, 2, 4, 4), numbers(1, 2, 4, 4), None, 0.0, True),
    "select.int": (X, 0, 1),
    "softmax.int": (X, 1),
    "split_with_sizes": (X, [1, 3], 1),
    "squeeze.dim": (numbers(3, 1), 1),
    "stack": ([X, Y],),
    "sum.dim_IntList": (X, [1]),
    "transpose.int": (X, 0, 1),
    "unflatten.int": (X, 1, [2, -1]),
    "unsqueeze": (X, 1),
    "upsample_bilinear2d.vec": (IMAGE, [9, 9], False, None),
    "upsample_nearest2d.vec": (IMAGE, None, [2.0, 2.0]),
    "var.correction": (X, [1]),
    "where.self": (MASK, X, Y),
    "contiguous": (X.detach().T,),
    "expand": (numbers(1, 4), [3, -1]),
    "view": (X, [-1]),
}  # fmt: skip


def one_op(target: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[fx.Graph, list[Tensor]]:
    """A graph of one op whose tensors are inputs."""
    graph, tensors = fx.Graph(), [each for each in torch.utils._pytree.tree_leaves(args) if isinstance(each, Tensor)]
    holders = iter([graph.placeholder(f"x{place}") for place in range(len(tensors))])
    given = torch.utils._pytree.tree_map(lambda each: next(holders) if isinstance(each, Tensor) else each, args)
    graph.output((graph.call_function(target, given, kwargs),))
    return graph, tensors


def outcome(run: Any, tensors: list[Tensor]) -> tuple[list[str], list[Tensor]]:
    """The ops that were called first, with results and gradients."""
    torch.manual_seed(0)
    with torch.profiler.profile() as profile:
        (made,) = run(*tensors)
    results = [made] if isinstance(made, Tensor) else list(made)
    first = [event.name for event in profile.events() if event.name.startswith("aten::")][:1]
    trained = [each for each in tensors if each.requires_grad]
    loss = [each for each in results if each.requires_grad]
    if not loss:
        return first, results
    torch.manual_seed(1)
    seeds = [torch.rand_like(each) for each in loss]
    found = torch.autograd.grad(loss, trained, seeds, allow_unused=True)
    return first, [*results, *[each for each in found if each is not None]]


def body(graph: fx.Graph) -> Body:
    return Body((), {}, fx.GraphModule({}, graph).forward, False, graph)


@pytest.mark.filterwarnings("ignore:.*acc_events")
@pytest.mark.parametrize("name", [*NAMES, *METHODS])
def test_every_row_is_the_op_it_stands_for(name: str) -> None:
    graph, tensors = one_op(op(name), ARGUMENTS.get(name, (X,)), {})
    before, after = body(graph), bound(body(graph))
    assert "torch.ops" not in code(after)
    (called, expected), (calls, found) = outcome(before.run, tensors), outcome(after.run, tensors)
    assert calls == called
    assert len(found) == len(expected)
    for one, other in zip(found, expected, strict=True):
        assert one.dtype is other.dtype
        assert one.stride() == other.stride()
        assert torch.equal(one, other)


def code(one: Body) -> str:
    return str(one.run.__self__.code)  # type: ignore[attr-defined]


NAMED: list[tuple[str, tuple[Any, ...], dict[str, Any]]] = [
    ("gelu", (X,), {"approximate": "tanh"}),
    ("add.Tensor", (X, Y), {"alpha": 2}),
    ("softmax.int", (X, 1, torch.float64), {}),
    ("cross_entropy_loss", (X, CLASSES, None, 2), {}),
    ("cross_entropy_loss", (X, X.detach().softmax(1)), {"label_smoothing": 0.5}),
    ("mse_loss", (X, Y), {"reduction": 0}),
    ("sum", (X,), {"dtype": torch.float64}),
    ("var.correction", (X,), {"correction": 0, "keepdim": True}),
    ("add.Tensor", (X, 2), {}),
    ("scaled_dot_product_attention", (numbers(1, 2, 4, 4),) * 3, {"scale": 0.25}),
]


@pytest.mark.filterwarnings("ignore:.*acc_events")
@pytest.mark.parametrize(("name", "args", "kwargs"), NAMED)
def test_options_arrive(name: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
    graph, tensors = one_op(op(name), args, kwargs)
    (called, expected), (calls, found) = (outcome(each.run, tensors) for each in (body(graph), bound(body(graph))))
    assert called == calls
    assert all(map(torch.equal, found, expected))


def test_all_functions_are_written_in_c() -> None:
    assert all(type(each).__name__ == "builtin_function_or_method" for each in functions().values())
    assert len(functions()) > 0.95 * len(NAMES), "a new torch has moved them"


def test_a_cast_is_a_method_and_what_is_shown_keeps_its_names() -> None:
    graph, tensors = one_op(TO_COPY, (X,), {"dtype": torch.bfloat16})
    after = bound(body(graph))
    assert ".to(torch.bfloat16)" in code(after)
    assert after.run(*tensors)[0].dtype is torch.bfloat16
    assert any(node.target is TO_COPY for node in after.graph.nodes)


def test_other_options_of_a_cast_stay() -> None:
    graph, tensors = one_op(TO_COPY, (IMAGE,), {"dtype": torch.bfloat16, "memory_format": torch.channels_last})
    after = bound(body(graph))
    assert "_to_copy" in code(after)
    assert after.run(*tensors)[0].is_contiguous(memory_format=torch.channels_last)
