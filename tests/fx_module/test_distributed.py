"""torch's own engines around a traced module: DDP and FSDP2 on two processes, with a scaler that all ranks agree on."""

from itertools import product
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.distributed.fsdp import fully_shard
from torch.distributed.tensor import DTensor
from torch.nn.functional import cross_entropy

import ampgraph
from ampgraph import LossScaler, TrainStep
from ampgraph.errors import ModelError, TrainError
from tests.training import Rerun, batches, same
from tests.two_processes import RANKS, SIZE, layers, together, whole

STEPS, BAD, INTERVAL = 12, (4,), 3


def share(rank: int) -> list[tuple[Tensor, Tensor]]:
    """A rank's part of every batch; only the second rank ever sees an infinity."""
    return batches(STEPS, SIZE, seed=1 + rank, bad=BAD if rank else ())


def traced() -> ampgraph.TracedModule:
    return ampgraph.trace(layers(), (share(0)[0][0],), objective="coverage")


def loop(module: nn.Module, rank: int) -> dict[str, Any]:
    """Clipped, as users of these engines do; gradients are averaged by the engine."""
    optimizer = torch.optim.AdamW(module.parameters(), 1e-2)
    scaler, losses = LossScaler("cpu", init_scale=2.0**10, growth_interval=INTERVAL), []
    for x, y in share(rank):
        loss = cross_entropy(module(x), y)
        scaler.scale(loss).backward()
        scaler.unscale_(optimizer)
        nn.utils.clip_grad_norm_(module.parameters(), 1.0)
        scaler.step(optimizer)
        scaler.update()
        optimizer.zero_grad()
        losses.append(loss.detach())
    return {
        "state": unwrapped(module),
        "losses": losses,
        "scales": [(each.scale, each.skipped) for each in scaler.history()],
    }


def by_engines(rank: int) -> dict[str, Any]:
    sharded = traced()
    fully_shard(sharded)
    assert all(isinstance(each, DTensor) for each in sharded.parameters())
    said = refusals(sharded)
    found = {"DDP": loop(wrapped(), rank), "FSDP2": loop(sharded, rank), "refusals": said}
    found["in part"] = spread_in_part()
    return {**found, "steps": steps(wrapped(), rank), "one shard": one_shard(sharded, rank)}


def spread_in_part() -> str:
    part = traced()
    fully_shard(next(part.original.children()))
    with pytest.raises(ModelError) as caught:
        part(share(0)[0][0])
    return str(caught.value)


def wrapped() -> nn.Module:
    return nn.parallel.DistributedDataParallel(traced())


def refusals(sharded: nn.Module) -> list[str]:
    """What a recording says of each, and of one that is a part of what is recorded."""
    said = []
    for module in (wrapped(), nn.Sequential(wrapped()), sharded):
        step = TrainStep(module, cross_entropy, torch.optim.AdamW(module.parameters(), fused=True), capture=Rerun())
        with pytest.raises(TrainError) as caught:
            step(*share(0)[0])
        said.append(str(caught.value))
    return said


def one_shard(sharded: nn.Module, rank: int) -> list[tuple[bool, list[str]]]:
    """Only one rank's shard of one gradient has a NaN; with optimizers that unscale in three ways."""
    found = []
    for holder, (words, clips) in product(range(RANKS), (({}, False), ({}, True), ({"fused": True}, False))):
        optimizer, scaler = torch.optim.AdamW(sharded.parameters(), **words), LossScaler("cpu")
        scaler.watch(sharded)
        scaler.scale(cross_entropy(sharded(share(rank)[0][0]), share(rank)[0][1])).backward()
        if rank == holder:
            sharded.get_parameter("last.weight").grad.to_local()[0, 0] = float("nan")
        if clips:
            scaler.unscale_(optimizer)
        scaler.step(optimizer)
        scaler.update()
        optimizer.zero_grad()
        found.append((bool(scaler.last_step_skipped), scaler.overflowed()))
    return found


def steps(module: nn.Module, rank: int) -> dict[str, Tensor]:
    """The same as `loop`, as a TrainStep."""
    scaler = LossScaler("cpu", init_scale=2.0**10, growth_interval=INTERVAL)
    step = TrainStep(module, cross_entropy, torch.optim.AdamW(module.parameters(), 1e-2), scaler, clip=1.0)
    for x, y in share(rank):
        step(x, y)
    return unwrapped(module)


def unwrapped(module: nn.Module) -> dict[str, Tensor]:
    return {name.removeprefix("module."): each for name, each in whole(module.state_dict()).items()}


def by_hand() -> dict[str, Any]:
    """Both ranks in this process: gradients of two copies, averaged."""
    ours, other = traced(), traced()
    optimizer = torch.optim.AdamW(ours.parameters(), 1e-2)
    scaler, losses = LossScaler("cpu", init_scale=2.0**10, growth_interval=INTERVAL), []
    for (x, y), (x2, y2) in zip(share(0), share(1), strict=True):
        other.load_state_dict(ours.state_dict())
        other.zero_grad()
        loss = cross_entropy(ours(x), y)
        scaler.scale(loss).backward()
        scaler.scale(cross_entropy(other(x2), y2)).backward()
        for one, two in zip(ours.parameters(), other.parameters(), strict=True):
            one.grad = one.grad / RANKS + two.grad / RANKS
        scaler.unscale_(optimizer)
        nn.utils.clip_grad_norm_(ours.parameters(), 1.0)
        scaler.step(optimizer)
        scaler.update()
        optimizer.zero_grad()
        losses.append(loss.detach())
    return {
        "state": whole(ours.state_dict()),
        "losses": losses,
        "scales": [(e.scale, e.skipped) for e in scaler.history()],
    }


@pytest.fixture(scope="module")
def outcomes(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    return together(by_engines, tmp_path_factory.mktemp("ranks"))


@pytest.mark.parametrize("engine", ["DDP", "FSDP2"])
def test_two_processes_train_as_one_and_skip_together(engine: str, outcomes: list[dict[str, Any]]) -> None:
    first, second = (each[engine] for each in outcomes)
    expected = by_hand()
    assert "float16" in traced().code
    assert [number for number, (_, skipped) in enumerate(first["scales"]) if skipped] == list(BAD)
    assert len({scale for scale, _ in first["scales"]}) > 2
    assert first["scales"] == second["scales"] == expected["scales"]
    assert all(same(first["state"][name], each) for name, each in second["state"].items())
    for name, each in expected["state"].items():
        torch.testing.assert_close(first["state"][name], each, rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(torch.stack(first["losses"]), torch.stack(expected["losses"]), rtol=1e-5, atol=1e-6)


def test_a_step_is_the_loop_under_ddp(outcomes: list[dict[str, Any]]) -> None:
    for each in outcomes:
        assert all(same(each["steps"][name], tensor) for name, tensor in each["DDP"]["state"].items())


def test_engines_are_not_recorded(outcomes: list[dict[str, Any]]) -> None:
    for said in outcomes[0]["refusals"]:
        assert "capture=False" in said
        assert "\n" not in said
    assert [said.partition(":")[0] for said in outcomes[0]["refusals"]] == [
        *["DistributedDataParallel"] * 2,
        "FSDPModule",
    ]


def test_a_part_that_is_spread_is_refused_in_a_line(outcomes: list[dict[str, Any]]) -> None:
    said = outcomes[0]["in part"]
    assert "fully_shard on the traced module alone" in said
    assert "\n" not in said


def test_what_one_shard_overflows_all_ranks_skip_and_name(outcomes: list[dict[str, Any]]) -> None:
    for each in outcomes:
        assert each["one shard"] == [(True, ["last.weight"])] * 3 * RANKS
