"""Random modules: every plan is lawful, every graph is its plan's, and the answers are those of float32."""

import torch
from graphs import captured
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from ampgraph.fx_module.capture import held_tensors
from ampgraph.precision import Precision

WIDTH = 6
STEPS = {
    "linear": lambda m, x, y: m.linear(x),
    "relu_": lambda m, x, y: (x * 1.0).relu_(),
    "tanh": lambda m, x, y: x.tanh(),
    "layer_norm": lambda m, x, y: m.norm(x),
    "softmax": lambda m, x, y: x.softmax(-1),
    "add": lambda m, x, y: x + y,
    "mul": lambda m, x, y: x.tanh() * y.tanh(),
    "cat": lambda m, x, y: torch.cat([x[:, :3], y[:, 3:]], 1),
    "centre": lambda m, x, y: x - x.mean(-1, keepdim=True),
    "exp": lambda m, x, y: x.tanh().exp(),
    "sum": lambda m, x, y: x + x.tanh().sum(0, keepdim=True) / 8,
    "half": lambda m, x, y: x.to(torch.bfloat16).float(),
    "write": lambda m, x, y: _written(x),
    "parameter": lambda m, x, y: x * m.linear.weight[0],
    "where": lambda m, x, y: torch.where(x > y, x, y),
    "matmul": lambda m, x, y: x @ (y.transpose(0, 1) @ x).tanh(),
}


def _written(x: Tensor) -> Tensor:
    y = x * 1.0
    y[:, 0] = 0.5
    return y


class Random(nn.Module):
    def __init__(self, steps: list[tuple[str, int]]) -> None:
        super().__init__()
        self.linear, self.norm, self.steps = nn.Linear(WIDTH, WIDTH), nn.LayerNorm(WIDTH), steps

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        made = [x]
        for name, back in self.steps:
            made.append(STEPS[name](self, made[-1], made[-1 - back % len(made)]))
        return made[-1], made[len(made) // 2]


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    st.lists(st.tuples(st.sampled_from(sorted(STEPS)), st.integers(0, 9)), min_size=1, max_size=10),
    st.sampled_from(["training", "coverage", "speed", "memory"]),
    st.sampled_from([Precision.FLOAT16, Precision.BFLOAT16]),
)
def test_random_modules(steps: list[tuple[str, int]], objective: str, precision: Precision) -> None:
    torch.manual_seed(0)
    module, x = Random(steps), torch.randn(4, WIDTH)
    found = captured(module, x, objective=objective, precision=precision)
    states = held_tensors(found.prepared, module)
    code = torch.fx.GraphModule({}, found.written)
    answers = code(*[states[state.name] for state in found.prepared.states], x)
    for answer, expected in zip(answers, module(x), strict=True):
        assert answer.dtype is torch.float32
        scale = float(expected.detach().abs().max()) + 1.0
        assert (
            float((answer - expected).detach().abs().max()) < (0.02 if precision is Precision.FLOAT16 else 0.15) * scale
        )
