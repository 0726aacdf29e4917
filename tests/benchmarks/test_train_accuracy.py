"""The accuracy benchmark, cut to a few steps: columns start alike, and what it says of them is what was trained."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from ampgraph.tutorial import drawn_digits
from benchmarks import accuracy_tasks, train_accuracy
from benchmarks.accuracy_tasks import Size, Task
from benchmarks.train_accuracy import Run

LOW = ("float16", "bfloat16")


@pytest.fixture(scope="module")
def mlp_and_gpt() -> list[Task]:
    device, size = torch.device("cpu"), Size(small=True, quick=True)
    found = [accuracy_tasks._perceptron(drawn_digits(), device, size), accuracy_tasks._language(device, size)]
    return [replace(task, steps=8) for task in found]


@pytest.mark.parametrize("index", [0, 1])
def test_columns_differ_by_rounding_alone(mlp_and_gpt: list[Task], index: int) -> None:
    """Same weights, same batches: after a few steps every column scores nearly what float32 does, and seeds differ."""
    task = mlp_and_gpt[index]
    torch.set_num_threads(1)
    ways = train_accuracy.columns(task)
    assert list(ways) == ["float32", *(f"{who} {what}" for what in LOW for who in ("torch.amp", "ampgraph"))]
    exact = [ways["float32"](seed).score for seed in (0, 1)]
    assert exact[0] != exact[1]
    for name, train in list(ways.items())[1:]:
        assert train(1).score == pytest.approx(exact[1], rel=0.03), name
    assert ways["ampgraph float16"](1) == ways["ampgraph float16"](1)


def test_what_a_row_says(mlp_and_gpt: list[Task]) -> None:
    runs = [Run(90.0, 1), Run(92.0, 2)]
    row = train_accuracy._row(mlp_and_gpt[0], "some", runs, (91.0, 93.0), 1.0)
    assert (row.mean, row.difference, row.skipped) == (91.0, -1.0, 3)
    assert row.spread == pytest.approx(2**0.5)
    assert row.noise == pytest.approx(2 * 2**0.5)


def test_text_is_cut_into_sequences_and_what_follows_each_symbol() -> None:
    text = torch.arange(11)
    inputs, targets = accuracy_tasks._sequences(text, 3, torch.device("cpu"))
    assert inputs.tolist() == [[0, 1, 2], [3, 4, 5], [6, 7, 8]]
    assert torch.equal(targets, inputs + 1)


def test_falls_of_a_scale_are_skipped_steps() -> None:
    assert train_accuracy._lowered([torch.tensor(2.0**e) for e in (16, 15, 15, 16, 14)]) == 2
    assert train_accuracy._lowered([]) == 0


def test_columns_are_kept_as_they_come_and_not_trained_again(
    mlp_and_gpt: list[Task], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    task, device, trained = mlp_and_gpt[0], torch.device("cpu"), []

    def ways(_: Task) -> dict[str, Callable[[int], Run]]:
        return {name: lambda seed, name=name: trained.append(name) or Run(90.0 + seed) for name in ("float32", "low")}

    monkeypatch.setattr(train_accuracy, "columns", ways)
    first = next(train_accuracy.measure(task, 2))
    train_accuracy._keep(task, first, device, tmp_path)
    assert train_accuracy.kept(task, device, tmp_path) == first
    assert train_accuracy.kept(replace(task, steps=9), device, tmp_path) == []
    assert list(train_accuracy.measure(task, 2, first, until=0.0)) == []
    (rows,) = train_accuracy.measure(task, 2, first)
    assert trained == ["float32", "float32", "low", "low"]
    assert [row.column for row in rows] == ["float32", "low"]
    assert rows[1].difference == 0
