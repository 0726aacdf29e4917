"""torch's own half precision on the networks of gpu_models: eager, and compiled into CUDA graphs."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from benchmarks import gpu_models
from benchmarks.gpu_timing import Array, Contender, Turns

EAGER = "torch eager"
COMPILED = ("reduce-overhead", "max-autotune")  # modes of torch.compile that make CUDA graphs
_WARM_UP = 3  # runs: a compiled network's first two compile and capture

Inputs = tuple[Tensor, ...]


def contenders(name: str, batch: int, modes: Sequence[str], turns: Turns, eager: bool = True) -> Iterator[Contender]:
    """Eager, then compiled in each mode; those that fail say so.

    Eager runs in both layouts of convolutions. Compiled ones have channels last, into which Inductor turns most
    convolutions anyway, so that no layout is compiled in vain.
    """
    torch._dynamo.reset()  # a shape that differs from the last one's would be taken for one that varies
    built = gpu_models.build(name).half()
    with turns.opening():
        network = built.cuda()
        inputs = tuple(each.cuda() for each in gpu_models.inputs(name, batch))
        low = tuple(each.half() if each.is_floating_point() else each for each in inputs)
        layouts: dict[str, Any] = {"": network}
        if any(isinstance(each, nn.Conv2d) for each in network.modules()):
            last: Any = copy.deepcopy(network)
            layouts[" nhwc"] = last.to(memory_format=torch.channels_last)
    for layout, model in layouts.items() if eager else ():
        yield from _opened(EAGER, f"plain{layout}", model, low, turns)
    layout, model = list(layouts.items())[-1]
    for mode in modes:
        compiled = torch.compile(model, mode=mode, dynamic=False)
        yield from _opened(f"torch {mode}", f"graph{layout}", compiled, low, turns)


def _opened(title: str, setting: str, model: Any, low: Inputs, turns: Turns) -> Iterator[Contender]:  # noqa: ANN401
    """`model`: a module, or what torch.compile makes of one."""

    def run() -> Tensor:
        with torch.inference_mode():
            result: Tensor = model(*low)
            return result

    try:
        with turns.opening():
            for _ in range(_WARM_UP):
                run()
            answer: Array = run().float().cpu().numpy()
    except Exception as error:  # a compiler's
        print(f"{title} {setting}: {type(error).__name__}: {str(error)[:300]}", flush=True)
        return
    yield Contender(title, setting, run, torch.cuda.synchronize, answer)
