"""Two roads from a module to a graph, and threads on both."""

import threading

import pytest
import torch
from torch import nn

import ampgraph
from ampgraph.tracing import explained


def networks() -> list[tuple[nn.Module, torch.Tensor]]:
    images = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(), nn.Linear(144, 10))
    rows = nn.Sequential(nn.Linear(3, 16), nn.ReLU(), nn.Linear(16, 10))
    return [(images, torch.zeros(2, 3, 8, 8)), (rows, torch.zeros(2, 3)), (rows, torch.zeros(2, 3))]


@pytest.mark.parametrize("road", ["convert", "trace"])
def test_threads_take_turns(road: str) -> None:
    """torch's tracer keeps its state in globals of the process; so do the modes of a module that two of them take."""
    work, found, take = networks(), list[object](), getattr(ampgraph, road)

    def go(module: nn.Module, example: torch.Tensor) -> None:
        try:
            made = take(module, example_args=example)
            found.append(type(made).__name__)
        except BaseException as error:  # a thread would keep it to itself
            found.append(error)

    threads = [threading.Thread(target=go, args=each) for each in work]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == [{"convert": "Result", "trace": "TracedModule"}[road]] * 3
    assert all(each.training for module, _ in work for each in module.modules())


def test_a_failure_is_told_once(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level("WARNING"), pytest.raises(ampgraph.AmpgraphError, match="fails by itself"):
        ampgraph.trace(nn.Linear(4, 4), torch.ones(2, 3))
    assert not caplog.records, "torch's own words about it are for those who work on torch"


def test_explaining_a_failure_leaves_the_module_as_it_was() -> None:
    module = nn.Sequential(nn.BatchNorm1d(3), nn.Dropout(), nn.Linear(4, 4))
    before, drawn = {name: each.clone() for name, each in module.state_dict().items()}, torch.get_rng_state()
    said = explained(module, ((torch.ones(2, 3),), {}), RuntimeError("torch's words"))
    assert "RuntimeError: mat1 and mat2 shapes" in str(said)
    assert all(torch.equal(each, before[name]) for name, each in module.state_dict().items())
    assert torch.equal(torch.get_rng_state(), drawn)
