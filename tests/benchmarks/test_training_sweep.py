"""What the training sweep counts: distances of losses, the part of their fall that is missed; and how it is shared."""

from itertools import chain

import pytest
import torch
from torch import nn

from benchmarks.training_models import Case, images
from benchmarks.training_sweep import (
    add_row,
    batch_of,
    chosen,
    compared,
    distance,
    kept,
    labels_for,
    losses,
    measure,
    missed,
    nudged,
    output,
    warm_up,
)


def small_case() -> Case:
    return Case(lambda: nn.Sequential(nn.Flatten(), nn.Linear(3 * 64, 16), nn.ReLU(), nn.Linear(16, 4)), images(8, 8))


def test_distance_is_the_largest_of_all_steps():
    assert distance([2.0, 1.1, 1.0], [2.0, 1.0, 1.0]) == pytest.approx(0.1)


@pytest.mark.parametrize(("last", "part"), [(2.0, 1.0), (1.98, 0.5), (1.96, 0.0), (1.94, 0.5), (2.04, 2.0)])
def test_a_loss_that_does_not_fall_misses_all_of_it_however_near_it_is(last, part):
    expected, found = [2.0, 1.97, 1.96], [2.0, 1.99, last]
    assert distance(found, expected) < 0.05
    assert missed(found, expected) == pytest.approx(part)


def test_parts_together_are_all():
    names = [f"model {index}" for index in range(7)]
    parts = [chosen(names, [], (first, 3)) for first in (1, 2, 3)]
    assert sorted(chain(*parts)) == names
    assert chosen(names, ["2", "5"], (1, 1)) == ["model 2", "model 5"]


def test_rows_are_added_to_those_of_the_same_settings(tmp_path):
    file, settings = tmp_path / "rows.json", {"steps": 10}
    assert kept(file, settings) == {}
    add_row(file, settings, "first", {"distance": 0.5})
    add_row(file, settings, "second", {"error": "no"})
    add_row(file, settings, "first", {"distance": 0.25})
    assert kept(file, settings) == {"first": {"distance": 0.25}, "second": {"error": "no"}}
    assert kept(file, {"steps": 11}) == {}
    add_row(file, {"steps": 11}, "third", {})
    assert kept(file, {"steps": 11}) == {"third": {}}


def test_a_seed_draws_the_same_batch_whatever_was_drawn_before():
    case = small_case()
    ((first,), _) = batch_of(case, 3, "cpu")
    torch.rand(5)
    assert torch.equal(batch_of(case, 3, "cpu")[0][0], first)
    assert not torch.equal(batch_of(case, 4, "cpu")[0][0], first)


def test_images_are_smooth_and_of_unit_variance():
    ((drawn,), _) = images(4, 64)(torch.Generator().manual_seed(0))
    assert drawn.std().item() == pytest.approx(1.0)
    assert (drawn[..., 1:] - drawn[..., :-1]).std() < 0.2


def test_nudged_parameters_are_off_by_a_part_of_themselves_and_come_back():
    module = nn.Linear(64, 64)
    before = module.weight.detach().clone()
    with nudged(module, 0.125, torch.Generator().manual_seed(0)):
        off = (module.weight.detach() / before - 1).abs()
        module(torch.ones(1, 64)).sum().backward()
    assert 0.12 < off.max() <= 0.125 + 1e-6
    assert torch.equal(module.weight, before)
    assert torch.equal(module.weight.grad, torch.ones(64, 64))


def test_control_differs_from_float32_by_its_noise_alone():
    case = small_case()
    args, kwargs = batch_of(case, 0, "cpu")
    runs = []
    for part in (0.0, 0.0, 0.25):
        torch.manual_seed(0)
        module, noise = case.make(), torch.Generator().manual_seed(1)
        call = lambda each: output(each, args, kwargs)  # noqa: E731
        runs.append(losses(module, call, False, "cpu", lambda m=module, p=part, g=noise: nudged(m, p, g)))
    assert runs[0] == runs[1] != runs[2]


def test_warm_up_trains_in_place_and_by_no_steps_not_at_all():
    case = small_case()
    module = case.make()
    before = [each.detach().clone() for each in module.parameters()]
    warm_up(module, case, 0, "cpu")
    assert all(map(torch.equal, module.parameters(), before))
    warm_up(module, case, 2, "cpu")
    assert not any(map(torch.equal, module.parameters(), before))
    assert all(each.grad is None for each in module.parameters())


def test_each_run_is_compared_with_float32():
    found = compared(
        {"float32": [2.0, 1.0], "traced": [2.0, 1.1], "autocast": [2.0, 1.2], "control": [2.0, 1.5]},
    )
    distances = [found[f"{run}distance"] for run in ("", "autocast_", "control_")]
    falls = [found[f"{run}missed_fall"] for run in ("", "autocast_", "control_")]
    assert distances == pytest.approx([0.1, 0.2, 0.5])
    assert falls == pytest.approx([0.1, 0.2, 0.5])


def test_a_row_has_all_four_runs():
    row = measure(small_case(), "bfloat16", "cpu", 2)
    assert {run: len(found) for run, found in row["losses"].items()} == dict.fromkeys(
        ("float32", "traced", "autocast", "control"), 10
    )
    assert 0 < row["control_distance"] < 0.02
    assert 0 < row["distance"] < 0.02


def test_labels_are_not_the_tokens_of_their_batch():
    tokens = torch.randint(0, 100, (64,), generator=torch.Generator().manual_seed(3))
    labels = labels_for(torch.zeros(64, 100), 3)
    assert torch.equal(labels, labels_for(torch.zeros(64, 100), 3))
    assert not torch.equal(labels, labels_for(torch.zeros(64, 100), 4))
    assert (labels == tokens).float().mean() < 0.2
