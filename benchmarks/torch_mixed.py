"""Which of torch's kernels take a low-precision input beside float32 scale and shift, forward and backward.

`python -m benchmarks.torch_mixed --device cuda` keeps torch_mixed_<device>.json in benchmarks/results; what it finds on
CUDA is what rules/targets/torch_types.toml may say under `fixed`.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Mapping

import torch
from torch import Tensor
from torch.nn import functional

from benchmarks.record import keep, table

Norm = Callable[[Tensor, Tensor, Tensor], Tensor]


def kernels(device: str) -> Mapping[str, Norm]:
    """Normalizations of (8, 16, 6, 6), with 16 scales and shifts, or 6."""
    statistics = torch.zeros(16, device=device), torch.ones(16, device=device)
    return {
        "aten.batch_norm": lambda x, w, b: functional.batch_norm(x, *statistics, w, b, training=True),
        "aten.batch_norm (evaluation)": lambda x, w, b: functional.batch_norm(x, *statistics, w, b),
        "aten.instance_norm": lambda x, w, b: functional.instance_norm(x, weight=w, bias=b),
        "aten.group_norm": lambda x, w, b: functional.group_norm(x, 4, w, b),
        "aten.layer_norm": lambda x, w, b: functional.layer_norm(x, (6,), w[:6], b[:6]),
        "aten.rms_norm": lambda x, w, b: functional.rms_norm(x, (6,), w[:6] + 0 * b[:6]),
        "aten.prelu": lambda x, w, b: functional.prelu(x, w + 0 * b),
    }


def verdict(norm: Norm, dtype: torch.dtype, device: str) -> str:
    """ "yes", or what torch answers."""
    x = torch.randn(8, 16, 6, 6, device=device, dtype=dtype, requires_grad=True)
    weight, bias = (torch.randn(16, device=device, requires_grad=True) for _ in range(2))
    try:
        result = norm(x, weight, bias)
        result.float().sum().backward()
    except RuntimeError as error:
        return str(error).splitlines()[0][:100]
    kinds = {result.dtype, x.grad.dtype if x.grad is not None else None}
    return "yes" if kinds == {dtype} else f"makes {result.dtype}"


def main() -> None:
    """Ask, print and keep."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--device", default="cpu", choices=["cpu", "cuda"])
    device = parser.parse_args().device
    types = {"float16": torch.float16, "bfloat16": torch.bfloat16}
    found = {
        name: {word: verdict(norm, dtype, device) for word, dtype in types.items()}
        for name, norm in kernels(device).items()
    }
    print(table(["op", *types], [[name, *row.values()] for name, row in found.items()]))
    keep(f"torch_mixed_{device}", found)


if __name__ == "__main__":
    main()
