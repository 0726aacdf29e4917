"""A traced module in the company of torch's own engines."""

import copy
import faulthandler
import gc
import shutil
import time
from datetime import timedelta
from functools import partial
from pathlib import Path

import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from torch import Tensor, nn
from torch._dynamo.testing import CompileCounter
from torch.utils.checkpoint import checkpoint
from torch_models import Convolutional, mlp

import ampgraph
from ampgraph import TracedModule


def gradients(module: nn.Module, x: Tensor, run=None) -> list[Tensor]:
    module.zero_grad()
    (module if run is None else run)(x).square().sum().backward()
    return [parameter.grad.clone() for parameter in module.parameters()]


def close(found: list[Tensor], expected: list[Tensor]) -> bool:
    pairs = zip(found, expected, strict=True)
    return all(a.dtype is torch.float32 and (a - b).norm() <= 0.02 * b.norm() + 1e-5 for a, b in pairs)


@pytest.fixture
def traced() -> TracedModule:
    torch.manual_seed(0)
    return ampgraph.trace(mlp(), torch.randn(4, 12), precision="bfloat16")


NEEDS_COMPILER = pytest.mark.skipif(not shutil.which("g++"), reason="inductor needs a compiler")
BACKENDS = ["eager", "aot_eager", pytest.param("inductor", marks=NEEDS_COMPILER)]


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.filterwarnings("ignore")
def test_it_compiles_without_a_break(backend: str, traced: TracedModule) -> None:
    torch._dynamo.reset()
    x = torch.randn(4, 12)
    expected = gradients(traced, x)
    compiled = torch.compile(traced, backend=backend, fullgraph=True)
    assert close(gradients(traced, x, compiled), expected)
    with torch.no_grad():
        for parameter in traced.parameters():
            parameter.mul_(1.5)
    torch.testing.assert_close(compiled(x), traced(x), rtol=0.02, atol=0.02)


@pytest.mark.filterwarnings("ignore")
def test_modes_change_under_compile() -> None:
    torch._dynamo.reset()
    traced = ampgraph.trace(Convolutional(), torch.randn(4, 3, 8, 8), precision="bfloat16")
    compiled = torch.compile(traced, backend="eager")
    x = torch.randn(4, 3, 8, 8)
    traced.train()
    assert not torch.equal(compiled(x), compiled(x))
    traced.eval()
    torch.testing.assert_close(compiled(x), traced(x))
    assert traced.original.norm.num_batches_tracked == 2


@pytest.mark.parametrize("reentrant", [False, True])
def test_checkpointing_around_it(reentrant: bool, traced: TracedModule) -> None:
    x = torch.randn(4, 12, requires_grad=True)
    expected = gradients(traced, x)
    found = gradients(traced, x, partial(checkpoint, traced, use_reentrant=reentrant))
    assert close(found, expected)


class Checkpointed(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = mlp(), nn.Linear(4, 2)

    def forward(self, x: Tensor) -> Tensor:
        return self.second(checkpoint(self.first, x, use_reentrant=False))


def test_checkpointing_inside_it_is_traced_through() -> None:
    module = Checkpointed()
    traced = ampgraph.trace(module, torch.randn(4, 12), precision="bfloat16")
    x = torch.randn(4, 12)
    assert close(gradients(traced, x), gradients(module, x))


def test_averaging_of_weights(traced: TracedModule) -> None:
    averaged = torch.optim.swa_utils.AveragedModel(traced)
    optimizer = torch.optim.SGD(traced.parameters(), 0.1)
    x = torch.randn(4, 12)
    before = averaged(x)
    for _ in range(3):
        gradients(traced, x)
        optimizer.step()
        averaged.update_parameters(traced)
    mean = [parameter.detach().clone() for parameter in averaged.module.parameters()]
    assert not any(torch.equal(a, b) for a, b in zip(mean, traced.parameters(), strict=True))
    assert not torch.equal(averaged(x), before)
    assert torch.equal(averaged(x), averaged.module(x))


def test_functional_calls_and_transforms(traced: TracedModule) -> None:
    x = torch.randn(4, 12)
    weights = {name: torch.zeros_like(parameter) for name, parameter in traced.named_parameters()}
    traced(x)
    assert torch.func.functional_call(traced, weights, x).abs().max() == 0
    assert traced(x).abs().max() > 0
    own = {name: parameter.detach() for name, parameter in traced.named_parameters()}
    found = torch.func.grad(lambda state: torch.func.functional_call(traced, state, x).square().sum())(own)
    assert close(list(found.values()), gradients(traced, x))


# Two processes

PATIENCE = timedelta(seconds=60)


def _train(module: nn.Module, x: Tensor, y: Tensor, steps: int) -> list[float]:
    optimizer, losses = torch.optim.SGD(module.parameters(), 0.1), []
    for _ in range(steps):
        loss = nn.functional.mse_loss(module(x), y)
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        losses.append(loss.item())
    return losses


def _data(rank: int) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(10 + rank)
    return torch.randn(4, 12, generator=generator), torch.randn(4, 4, generator=generator)


def _worker(rank: int, engine: str, folder: str) -> None:
    faulthandler.dump_traceback_later(40, file=(Path(folder) / f"stuck{rank}").open("w"))
    torch.set_num_threads(1)
    store = dist.FileStore(f"{folder}/store", 2)
    dist.init_process_group("gloo", rank=rank, world_size=2, store=store, timeout=PATIENCE)
    _check_training(rank, engine)
    gc.collect()  # engines end before what they talk through
    dist.barrier()  # nobody leaves while the other still talks
    (Path(folder) / f"done{rank}").touch()
    dist.destroy_process_group()


def _check_training(rank: int, engine: str) -> None:
    torch.manual_seed(0)
    module = mlp()
    twin = copy.deepcopy(module)
    traced: nn.Module = ampgraph.trace(module, torch.randn(4, 12), precision="bfloat16")
    if engine == "ddp":
        traced, twin = nn.parallel.DistributedDataParallel(traced), nn.parallel.DistributedDataParallel(twin)
    else:
        from torch.distributed.fsdp import fully_shard

        mesh = dist.device_mesh.init_device_mesh("cpu", (2,))
        fully_shard(traced, mesh=mesh)
        twin = nn.parallel.DistributedDataParallel(twin)
    x, y = _data(rank)
    found, expected = _train(traced, x, y, 6), _train(twin, x, y, 6)
    assert found == pytest.approx(expected, rel=0.02), (found, expected)
    assert expected[-1] < 0.9 * expected[0]
    if engine == "ddp":
        optimizer = torch.optim.SGD(traced.parameters(), 0.1)
        with traced.no_sync():
            nn.functional.mse_loss(traced(x), y).backward()
        nn.functional.mse_loss(traced(x), y).backward()
        gathered = [torch.empty(16, 12) for _ in range(2)]
        dist.all_gather(gathered, module[0].weight.grad)
        assert torch.equal(*gathered)
        optimizer.step()


@pytest.mark.skipif(not dist.is_available() or not dist.is_gloo_available(), reason="torch was built without gloo")
@pytest.mark.parametrize("engine", ["ddp", "fsdp2"])
def test_two_processes(engine: str, tmp_path: Path) -> None:
    context = mp.spawn(_worker, (engine, str(tmp_path)), nprocs=2, join=False)
    start = time.monotonic()
    while not context.join(timeout=5):
        if time.monotonic() - start > PATIENCE.total_seconds():
            for process in context.processes:
                process.kill()
            pytest.fail("\n".join(["a process does not end", *(each.read_text() for each in tmp_path.glob("stuck*"))]))
    assert {path.name for path in tmp_path.glob("done*")} == {"done0", "done1"}


@pytest.mark.filterwarnings("ignore")
def test_a_compiled_one_is_compiled_once_for_all_batches_and_steps(traced: TracedModule) -> None:
    torch._dynamo.reset()
    counter = CompileCounter()
    compiled = torch.compile(traced, backend=counter, dynamic=True)
    optimizer = torch.optim.SGD(traced.parameters(), 0.1)
    for size in (4, 5, 6, 7):
        compiled(torch.randn(size, 12)).sum().backward()
        optimizer.step()
        traced(torch.randn(3, 12))
    assert counter.frame_count == 1
