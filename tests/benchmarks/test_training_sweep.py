"""What the training sweep counts: distances of losses, the part of their fall that is missed; and how it is shared."""

from itertools import chain

import pytest
import torch
from torch import nn

from benchmarks.training_models import Case, Optimize, adamw, adamw_for, images, momentum
from benchmarks.training_sweep import (
    CLIP,
    Run,
    add_row,
    batch_of,
    chosen,
    compared,
    distance,
    fall,
    gradient,
    kept,
    labels_for,
    measure,
    missed,
    nudged,
    output,
    train,
)


def small_case(optimize: Optimize = adamw) -> Case:
    """Smooth throughout: a ReLU that rounding turns on or off would be a fifth of so small a network's gradient."""

    def make() -> nn.Module:
        return nn.Sequential(nn.Flatten(), nn.Linear(3 * 64, 16), nn.Tanh(), nn.Linear(16, 4))

    return Case(make, images(8, 8), optimize)


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


def run_of(part: float = 0.0, scaled: bool = False, optimize: Optimize = adamw) -> Run:
    """The small case, with parameters off by up to a part of themselves as gradients are taken."""
    case = small_case()
    args, kwargs = batch_of(case, 0, "cpu")
    torch.manual_seed(0)
    module, noise = case.make(), torch.Generator().manual_seed(1)
    return train(module, optimize, lambda each: output(each, args, kwargs), scaled, lambda: nudged(module, part, noise))


def test_control_differs_from_float32_by_its_noise_alone():
    runs = [run_of(part) for part in (0.0, 0.0, 0.25)]
    assert runs[0].losses == runs[1].losses != runs[2].losses
    assert torch.equal(runs[0].gradient, runs[1].gradient)
    assert not torch.equal(runs[0].gradient, runs[2].gradient)


def test_a_scaled_run_has_unscaled_gradients_and_the_same_losses():
    plain, scaled = run_of(), run_of(scaled=True)
    assert torch.equal(plain.gradient, scaled.gradient)
    assert plain.losses == scaled.losses


def test_gradients_are_clipped_before_they_are_steps_and_kept_before_they_are_clipped():
    norms = []

    class Watching(torch.optim.SGD):
        def step(self, closure=None):
            norms.append(gradient(self.param_groups[0]["params"]).norm())
            return super().step(closure)

    run = run_of(optimize=lambda parameters: Watching(parameters, 1.0))
    assert run.gradient.norm() > CLIP
    assert norms[0] == pytest.approx(CLIP, rel=1e-4)


def test_gradient_of_an_unused_parameter_is_zeros():
    module = nn.Linear(2, 1)
    module.weight.sum().backward()
    assert gradient(list(module.parameters())).tolist() == [1.0, 1.0, 0.0]


@pytest.mark.parametrize(
    ("of_batch", "batch", "rate"),
    [(momentum, 256, 0.1), (momentum, 32, 0.0125), (adamw_for, 1024, 1e-3), (adamw_for, 256, 2.5e-4)],
)
def test_rates_are_in_proportion_to_the_batch(of_batch, batch, rate):
    assert of_batch(batch)(nn.Linear(1, 1).parameters()).defaults["lr"] == pytest.approx(rate)


def test_each_run_is_compared_with_float32():
    ones = torch.ones(4)
    found = compared(
        {
            "float32": Run([2.0, 1.0], ones),
            "traced": Run([2.0, 1.1], 1.1 * ones),
            "autocast": Run([2.0, 1.2], 1.2 * ones),
            "control": Run([2.0, 1.5], -ones),
        },
    )
    expected = {"distance": [0.1, 0.2, 0.5], "missed_fall": [0.1, 0.2, 0.5], "gradient_distance": [0.1, 0.2, 2.0]}
    for key, values in expected.items():
        assert [found[f"{run}{key}"] for run in ("", "autocast_", "control_")] == pytest.approx(values)
    assert found["fall"] == 0.5
    assert found["gradient_norm"] == pytest.approx(2.0)


@pytest.mark.parametrize("part", [0.1, 0.021])
def test_standing_still_fails_where_the_fall_is_above_the_bar(part):
    falling = [2.0, 2.0 * (1 - part)]
    assert fall(falling) == pytest.approx(part)
    assert distance([2.0, 2.0], falling) > part


@pytest.mark.parametrize(("precision", "optimize"), [("bfloat16", adamw), ("float16", momentum(32))])
def test_a_row_has_all_four_runs(precision, optimize):
    row = measure(small_case(optimize), precision, "cpu")
    assert {run: len(found) for run, found in row["losses"].items()} == dict.fromkeys(
        ("float32", "traced", "autocast", "control"), 10
    )
    assert row["fall"] > 0.02
    for run in ("", "control_"):
        assert 0 < row[f"{run}distance"] < 0.02
        assert 0 < row[f"{run}gradient_distance"] < 0.05


def test_all_of_an_image_has_one_label_and_every_token_its_own():
    image = labels_for(torch.zeros(2, 100, 3, 3))
    assert image.shape == (18,)
    assert len(set(image[:9].tolist())) == len(set(image[9:].tolist())) == 1
    assert len(set(labels_for(torch.zeros(2, 9, 100)).tolist())) > 9


def test_labels_are_not_the_tokens_of_their_batch():
    tokens = torch.randint(0, 100, (64,), generator=torch.Generator().manual_seed(0))
    labels = labels_for(torch.zeros(64, 100))
    assert torch.equal(labels, labels_for(torch.zeros(64, 100)))
    assert (labels == tokens).float().mean() < 0.2
