"""Is a captured training step the plain loop? `python -m benchmarks.train_capture [--only NAME]`, on a GPU.

Every case trains two copies of a network on the same data, one by a hand-written eager loop with torch's GradScaler,
one by `TrainStep` as a CUDA graph, and compares losses, parameters, buffers and scale bit for bit, with steps that
overflow among them. Replays run with torch's sync debug mode at "error": whatever waits for the device fails.
"""

from __future__ import annotations

import argparse
import tempfile
import time
import traceback
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

import ampgraph
from ampgraph.errors import AmpgraphError
from benchmarks.record import keep, table
from benchmarks.train_networks import (
    FEATURES,
    SCHEDULERS,
    Convolutions,
    Perceptron,
    Plain,
    batches,
    optimizers,
)
from tests.training import plain_loop

DEVICE = torch.device("cuda")
STEPS, BAD = 50, (3, 4, 17, 31)
CASES: dict[str, Callable[[], str]] = {}


@dataclass(frozen=True, slots=True)
class Row:
    """One case: "equal" or what else came out, and seconds."""

    case: str
    passed: bool
    said: str
    seconds: float


def case(function: Callable[[], str]) -> Callable[[], str]:
    CASES[function.__name__] = function
    return function


@contextmanager
def no_waiting() -> Iterator[None]:
    """Whatever waits for the device raises."""
    torch.cuda.set_sync_debug_mode("error")
    try:
        yield
    finally:
        torch.cuda.set_sync_debug_mode("default")


def worst(ours: Sequence[Tensor], theirs: Sequence[Tensor]) -> float:
    """The largest difference relative to the largest value; 0.0 where all is equal bit for bit, NaNs too."""
    found = 0.0
    for one, other in zip(ours, theirs, strict=True):
        differs = (one != other) & ~(one.isnan() & other.isnan())
        if bool(differs.any()):
            size = other.abs().nan_to_num(0, 0, 0).max().clamp(min=1e-12)
            found = max(found, float(((one - other).abs().nan_to_num(1e9, 1e9, 1e9) / size).max()))
    return found


def state(module: nn.Module) -> list[Tensor]:
    return [each.detach().clone() for each in module.state_dict().values()]


def verdict(difference: float) -> str:
    assert difference == 0, f"differs by {difference:.3g}"
    return "equal bit for bit"


def trained(
    step: ampgraph.TrainStep,
    data: Sequence[tuple[Tensor, Tensor]],
    after: Callable[[], Any] = lambda: None,
    warm: int = 8,
) -> list[Tensor]:
    """Run the step over the data; after `warm` calls nothing may wait for the device."""
    losses = []
    for index, (x, y) in enumerate(data):
        if index < warm:
            losses.append(step(x, y))
        else:
            with no_waiting():
                losses.append(step(x, y))
        if (index + 1) % step.recipe.accumulate == 0:
            after()
    return losses


def compare(
    make: Callable[[], nn.Module],
    optimizer: Callable[[Any], torch.optim.Optimizer],
    schedule: Callable[[torch.optim.Optimizer], Any] | None = None,
    data: Sequence[tuple[Tensor, Tensor]] | None = None,
    **words: Any,  # noqa: ANN401  (clip and accumulate, of both loops)
) -> str:
    data = data if data is not None else batches(STEPS, DEVICE, bad=BAD)
    outcomes, steps = [], None
    for ours in (False, True):
        torch.manual_seed(0)
        module = make().to(DEVICE)
        chosen = optimizer(module.parameters())
        plan = schedule(chosen) if schedule else None
        after = plan.step if plan else lambda: None
        torch.manual_seed(7)
        if ours:
            scaler: Any = ampgraph.LossScaler("cuda", growth_interval=6, min_scale=0)
            steps = ampgraph.TrainStep(module, cross_entropy, chosen, scaler, **words)
            warm = 8 * steps.recipe.accumulate
            losses = trained(steps, data, after, warm)
        else:
            scaler = torch.amp.GradScaler("cuda", growth_interval=6)
            losses = plain_loop(module, chosen, data, scaler, after=after, **words)
        outcomes.append([*losses, *state(module), torch.tensor([scaler.get_scale(), torch.rand((), device=DEVICE)])])
    assert steps is not None
    assert steps.captured is not None
    assert steps.captured.count > 0, "nothing was captured"
    outside = ", optimizer outside" if steps.captured.steps_outside else ""
    said = verdict(worst(outcomes[1], outcomes[0]))
    return f"{said}, {steps.captured.count} graphs{outside}"


def tensor_rate(kind: type[Any], **words: float) -> Callable[[Any], torch.optim.Optimizer]:
    """With the learning rate as a tensor, which both loops then read alike."""
    return lambda parameters: kind(parameters, lr=torch.tensor(2e-3, device=DEVICE), **words)


ADAMW = tensor_rate(torch.optim.AdamW, fused=True)
SGD = tensor_rate(torch.optim.SGD, momentum=0.9, nesterov=True, weight_decay=1e-4, fused=True)


@case
def adamw_fused_dropout() -> str:
    return compare(Perceptron, ADAMW)


@case
def adamw_fused_clipped() -> str:
    return compare(Perceptron, ADAMW, clip=0.5)


@case
def sgd_fused_batch_norm() -> str:
    return compare(Convolutions, SGD, data=batches(STEPS, DEVICE, shape=(3, 16, 16), bad=BAD))


@case
def number_as_rate() -> str:
    """A rate that is a Python number is rounded to float32 on its way into the graph; this one is one already."""
    return compare(Perceptron, lambda p: torch.optim.AdamW(p, lr=2.0**-9, fused=True))


@case
def accumulated() -> str:
    return compare(Perceptron, ADAMW, data=batches(STEPS * 3, DEVICE, bad=BAD), accumulate=3)


@case
def accumulated_clipped_sgd() -> str:
    data = batches(STEPS * 2, DEVICE, shape=(3, 16, 16), bad=BAD)
    return compare(Convolutions, SGD, data=data, accumulate=2, clip=1.0)


@case
def shapes_change() -> str:
    sizes = [32, 17, 32, 5] * 13
    data = [batches(1, DEVICE, size=size, seed=i, bad=(0,) if i in BAD else ())[0] for i, size in enumerate(sizes)]
    return compare(Perceptron, ADAMW, data=data)


@case
def skipped_first_step() -> str:
    """torch leaves momentum uninitialized here; the plain loop with a zero buffer is what we compare with."""
    data = batches(20, DEVICE, shape=(3, 16, 16), bad=(0,))
    torch.manual_seed(0)
    module = Convolutions().to(DEVICE)
    step = ampgraph.TrainStep(module, cross_entropy, SGD(module.parameters()), ampgraph.LossScaler("cuda"))
    trained(step, data)
    assert all(bool(each.isfinite().all()) for each in module.parameters())
    return "finite"


def _add_optimizers() -> None:
    for name, make in optimizers(DEVICE).items():
        CASES[f"optimizer_{name}"] = lambda make=make: compare(Perceptron, make)  # type: ignore[misc]


def _add_schedulers() -> None:
    for name, make in SCHEDULERS.items():
        CASES[f"schedule_{name}"] = lambda make=make: compare(Perceptron, ADAMW, make)  # type: ignore[misc]


def traced() -> nn.Module:
    """Batch norm, dropout and layer norm among products, traced by ampgraph on the device."""
    module = Plain().to(DEVICE)
    return ampgraph.trace(module, (torch.randn(32, FEATURES, device=DEVICE),))


@case
def traced_module() -> str:
    return compare(traced, ADAMW)


@case
def traced_module_accumulated() -> str:
    return compare(traced, ADAMW, data=batches(STEPS * 3, DEVICE, bad=BAD), accumulate=3, clip=1.0)


@case
def traced_module_evaluated_between() -> str:
    """Evaluations keep copies of parameters, which replays must make stale."""
    data, outcomes = batches(60, DEVICE), []
    for ours in (False, True):
        torch.manual_seed(0)
        module = traced()
        optimizer = ADAMW(module.parameters())
        step = ampgraph.TrainStep(module, cross_entropy, optimizer)
        seen = []
        for begin in range(0, 60, 10):
            part = data[begin : begin + 10]
            seen += trained(step, part, warm=10) if ours else plain_loop(module, optimizer, part)
            with torch.no_grad():
                seen += [module.eval()(data[0][0]), module.train()(data[0][0])]
        outcomes.append([*seen, *state(module)])
    return verdict(worst(outcomes[1], outcomes[0]))


@case
def resumed() -> str:
    """Saved amid an accumulation after 31 calls, loaded into new objects; both go on."""
    data, outcomes = batches(60, DEVICE, bad=BAD), []
    saved: dict[str, Any] = {}
    for resume in (False, True):
        torch.manual_seed(resume)
        module = Perceptron().to(DEVICE)
        optimizer = torch.optim.AdamW(module.parameters(), 2e-3, fused=True)
        step = ampgraph.TrainStep(module, cross_entropy, optimizer, ampgraph.LossScaler("cuda"), accumulate=2)
        if resume:
            step.load_state_dict(saved)
        else:
            trained(step, data[:31])
            saved = torch.utils._pytree.tree_map(lambda x: x.clone() if isinstance(x, Tensor) else x, step.state_dict())
        outcomes.append([*trained(step, data[31:], warm=12), *state(module)])
    return verdict(worst(outcomes[1], outcomes[0]))


@case
def state_loaded_by_hand() -> str:
    """The optimizer's own load_state_dict replaces its tensors: graphs that write the old ones must go."""
    data, outcomes = batches(40, DEVICE), []
    for ours in (False, True):
        torch.manual_seed(0)
        module = Perceptron(drop=0).to(DEVICE)
        optimizer = ADAMW(module.parameters())
        step = ampgraph.TrainStep(module, cross_entropy, optimizer)
        run = partial(trained, step, warm=20) if ours else partial(plain_loop, module, optimizer)
        first = run(data[:20])
        optimizer.load_state_dict(optimizer.state_dict())
        with torch.no_grad():
            for each in module.parameters():
                each.data = each.data.clone()
        outcomes.append([*first, *run(data[20:]), *state(module)])
    return verdict(worst(outcomes[1], outcomes[0]))


@case
def dropout_differs_by_replay() -> str:
    torch.manual_seed(0)
    module = Perceptron(drop=0.5).to(DEVICE)
    step = ampgraph.TrainStep(module, cross_entropy, torch.optim.SGD(module.parameters(), 0.0, fused=True))
    x, y = batches(1, DEVICE)[0]
    losses = torch.stack([step(x, y) for _ in range(10)])
    assert len(set(losses.tolist())) == 10, losses
    return "10 losses of the same weights, all different"


@case
def cpu_inputs_are_refused() -> str:
    module = Perceptron().to(DEVICE)
    step = ampgraph.TrainStep(module, cross_entropy, ADAMW(module.parameters()))
    return refused(lambda: step(*batches(1, torch.device("cpu"))[0]))


@case
def plain_adam_is_refused() -> str:
    module = Perceptron().to(DEVICE)
    step = ampgraph.TrainStep(module, cross_entropy, torch.optim.Adam(module.parameters()))
    return refused(lambda: step(*batches(1, DEVICE)[0]))


class Reads(Perceptron):
    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x) * (1.0 if x.sum().item() > 0 else 2.0)


@case
def reading_the_device_is_refused_and_survived() -> str:
    """The error names the line, as often as one tries; the same parts then go on without capture, and torch too:
    random numbers are those that were due, the stream is the caller's, cached memory can be given back."""
    module = Reads().to(DEVICE)
    optimizer, scaler = ADAMW(module.parameters()), ampgraph.LossScaler("cuda")
    step = ampgraph.TrainStep(module, cross_entropy, optimizer, scaler)
    x, y = batches(1, DEVICE)[0]
    earlier = _replaying()
    step(x, y)
    due = _numbers_due()
    said = [refused(lambda: step(x, y)) for _ in range(2)]
    assert "train_capture.py" in said[0], said
    assert said[0] == said[1], said
    assert torch.cuda.current_stream() == torch.cuda.default_stream()
    assert torch.equal(torch.rand(5, device=DEVICE), due)
    _gives_memory_back()
    plain = ampgraph.TrainStep(module, cross_entropy, optimizer, scaler, capture=False)
    assert all(bool(plain(x, y).isfinite()) for _ in range(3))
    other = Perceptron().to(DEVICE)
    again = ampgraph.TrainStep(other, cross_entropy, ADAMW(other.parameters()), ampgraph.LossScaler("cuda"))
    trained(again, batches(12, DEVICE))
    assert again.captured is not None
    assert again.captured.count == 1
    due = _numbers_due()
    earlier()
    assert not torch.equal(torch.rand(5, device=DEVICE), due), "an earlier graph drew no numbers"
    return said[0]


def _numbers_due() -> Tensor:
    """The next random numbers, which are still due afterwards."""
    before = torch.cuda.get_rng_state()
    due = torch.rand(5, device=DEVICE)
    torch.cuda.set_rng_state(before)
    return due


def _replaying() -> Callable[[], Any]:
    """Another step that is captured already, with dropout."""
    module = Perceptron().to(DEVICE)
    step = ampgraph.TrainStep(module, cross_entropy, ADAMW(module.parameters()), ampgraph.LossScaler("cuda"))
    x, y = batches(1, DEVICE)[0]
    trained(step, [(x, y)] * 10)
    return lambda: trained(step, [(x, y)], warm=0)


def _gives_memory_back() -> None:
    """As the allocator does not while it waits for the end of a capture."""
    torch.cuda.empty_cache()
    before, something = torch.cuda.memory_reserved(), torch.empty(2**28, device=DEVICE)
    other = torch.cuda.Stream()
    something.record_stream(other)
    del something
    torch.cuda.synchronize()
    torch.cuda.empty_cache()
    assert torch.cuda.memory_reserved() <= before, "blocks that another stream used are not freed"


def refused(work: Callable[[], Any]) -> str:
    said = ""
    try:
        work()
    except AmpgraphError as error:
        said = str(error)
    assert said, "was not refused"
    assert "\n" not in said
    return said


@case
def overflow_is_named() -> str:
    """Which parameter overflowed first, written down by replays."""
    torch.manual_seed(0)
    module = Perceptron(drop=0).to(DEVICE)
    scaler = ampgraph.LossScaler("cuda", init_scale=2.0**10)
    scaler.watch(module)
    step = ampgraph.TrainStep(module, cross_entropy, ADAMW(module.parameters()), scaler)
    trained(step, batches(20, DEVICE, bad=(15,)))
    names = scaler.overflowed()
    skipped = [each.number for each in scaler.history() if each.skipped]
    assert skipped == [15], skipped
    assert names
    assert names[0].startswith("last"), names
    return f"step 15, first {names[0]}"


@case
def non_finite_is_located() -> str:
    """On the device as on the CPU: the cast of an input that is too large, and a scale that is, in backward."""
    torch.manual_seed(0)
    module = traced()
    scaler = ampgraph.LossScaler("cuda")
    step = ampgraph.TrainStep(module, cross_entropy, ADAMW(module.parameters()), scaler)
    data = batches(20, DEVICE, bad=(19,))
    trained(step, data)
    before = state(module)
    found = scaler.locate(module, *data[19], loss_fn=cross_entropy)
    assert found is not None
    assert (found.phase, found.op) == ("forward", "aten._to_copy"), found
    back = scaler.locate(module, *data[0], loss_fn=cross_entropy, scale=2.0**40)
    assert back is not None
    assert back.phase == "backward", back
    assert scaler.locate(module, *data[0], loss_fn=cross_entropy, scale=1.0) is None
    assert worst(state(module), before) == 0
    return f"{found}; {back}"


@case
def tutorial() -> str:
    """The example on the device: captured steps, exported from there, read by onnxruntime."""
    from ampgraph.tutorial import Lesson, drawn_digits, teach

    said = []
    for precision in ("float16", "bfloat16"):
        with tempfile.TemporaryDirectory() as folder:
            taught = teach(drawn_digits(), Lesson(precision, "cuda", epochs=5), Path(folder), lambda text: None)
        assert taught.by_torch > 0.6, taught.by_torch
        assert abs(taught.by_torch - taught.by_onnxruntime) < 0.01, taught.by_onnxruntime
        said.append(f"{precision} {taught.by_torch:.3f} by torch, {taught.by_onnxruntime:.3f} by onnxruntime")
    return "; ".join(said)


@case
def memory_and_time() -> str:
    """Milliseconds and the peak of reserved memory, for a first impression; benchmarks.train_gpu measures."""
    said = []
    for ours in (False, True):
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()
        module = Perceptron(width=1024).to(DEVICE)
        optimizer, scaler = ADAMW(module.parameters()), ampgraph.LossScaler("cuda")
        step = ampgraph.TrainStep(module, cross_entropy, optimizer, scaler, capture=ours)
        data = batches(1, DEVICE, size=64) * 50
        [step(x, y) for x, y in data]
        torch.cuda.synchronize()
        start = time.perf_counter()
        [step(x, y) for x, y in data]
        torch.cuda.synchronize()
        ms = (time.perf_counter() - start) / len(data) * 1e3
        said.append(f"{'captured' if ours else 'plain'} {ms:.3f} ms, {torch.cuda.max_memory_reserved() >> 20} MiB")
    return "; ".join(said)


@case
def compiled_module() -> str:
    torch.manual_seed(0)
    module = Perceptron(drop=0).to(DEVICE)
    step = ampgraph.TrainStep(torch.compile(module), cross_entropy, ADAMW(module.parameters()))
    data = batches(1, DEVICE) * 30
    losses = trained(step, data)
    assert float(losses[-1]) < float(losses[0]) / 2
    return f"loss {float(losses[0]):.3f} to {float(losses[-1]):.3f}"


def run(name: str) -> Row:
    start = time.perf_counter()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            said, passed = CASES[name](), True
    except Exception as error:
        traceback.print_exc()
        said, passed = f"{type(error).__name__}: {str(error)[:300]}", False
    here = f"{Path(__file__).parents[1]}/"  # of this machine alone
    return Row(name, passed, said.replace(here, ""), round(time.perf_counter() - start, 2))


def main() -> None:
    """Run the cases, print and keep them."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", default="", help="substring of the cases to run")
    only = parser.parse_args().only
    torch.backends.cudnn.deterministic = True
    _add_optimizers()
    _add_schedulers()
    rows = []
    for name in [name for name in CASES if only in name]:
        rows.append(run(name))
        print(rows[-1], flush=True)
    print(table(list(asdict(rows[0])), [list(asdict(row).values()) for row in rows]))
    print(f"{sum(row.passed for row in rows)} of {len(rows)} passed")
    if not only:
        print(keep("train_capture", {"torch": torch.__version__, "cases": [asdict(row) for row in rows]}))


if __name__ == "__main__":
    main()
