"""Random modules: every plan is lawful, every graph is its plan's, and the answers are those of float32.

Some modules magnify any rounding (a normalization of rows that are nearly constant), so answers are held against what
float32 itself answers when every intermediate value is moved by a rounding of the low precision.
"""

import torch
from graphs import captured
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from ampgraph.fx_module.capture import held_tensors
from ampgraph.precision import FORMATS, Precision

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
        return self.run(x, 0.0)

    def run(self, x: Tensor, error: float) -> tuple[Tensor, ...]:
        """The answers when every value is off by an error of this relative size."""
        made = [x * (1 + error * torch.randn(x.shape)) if error else x]
        for name, back in self.steps:
            y = STEPS[name](self, made[-1], made[-1 - back % len(made)])
            made.append(y * (1 + error * torch.randn(y.shape)) if error else y)
        return made[-1], made[len(made) // 2]


def tolerance(module: Random, x: Tensor, precision: Precision, place: int) -> float:
    """Eight times what roundings did in the worst of some runs, and a little for results near zero."""
    exact, roundoff = module(x)[place], FORMATS[precision].unit_roundoff
    moved = max(float((module.run(x, roundoff)[place] - exact).abs().max()) for _ in range(8))
    return 8 * moved + 8 * roundoff * (1.0 + float(exact.abs().max()))


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
    for place, (answer, expected) in enumerate(zip(answers, module(x), strict=True)):
        assert answer.dtype is torch.float32
        with torch.no_grad():
            assert float((answer - expected).abs().max()) <= tolerance(module, x, precision, place)
