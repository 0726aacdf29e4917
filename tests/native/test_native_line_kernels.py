"""Layer normalization on this CPU, as its caller in C launches it, against numpy in float64."""

from dataclasses import dataclass

import emulation
import launches
import numpy as np
import pytest

without = emulation.COMPILER is None or launches.COMPILER is None
pytestmark = pytest.mark.skipif(without, reason="no compiler of C and of C++")
EPSILON = 1e-5
Array = np.ndarray


def low(*shape: int) -> Array:
    return np.random.default_rng(sum(shape)).standard_normal(shape).astype(np.float16)


def layer_normed(total: Array, gamma: Array, beta: Array | None, simple: bool) -> Array:
    centred = total - (0 if simple else total.mean(1, keepdims=True))
    found = centred / np.sqrt((centred**2).mean(1, keepdims=True) + EPSILON) * gamma
    return found if beta is None else found + beta


def rounds_to(expected: Array, found: Array) -> bool:
    """Whether float16 numbers are the next to float64's but for what float32 makes of sums in another order."""
    ulp = np.spacing(np.abs(expected).astype(np.float16)).astype(np.float64)
    return bool((np.abs(found - expected) <= 0.51 * ulp + 2e-6 * np.abs(expected).max()).all())


@dataclass(frozen=True)
class Normed:
    """Rows before they are normalized, and where an image has them: y at `places`, skip `beside`."""

    x: Array
    gamma: Array
    beta: Array | None = None
    skip: Array | None = None
    bias: Array | None = None
    places: Array | None = None
    beside: Array | None = None
    length: int = 0  # rows of an image, where there are places
    simple: bool = False

    def total(self) -> Array:
        skip, found = self.skip, self.x.astype(np.float64)
        if skip is not None and self.beside is not None:
            images = len(self.x) // len(self.beside)
            skip = skip.reshape(images, -1, skip.shape[1])[:, self.beside].reshape(self.x.shape)
        found += 0 if skip is None else np.tile(skip, (len(self.x) // len(skip), 1))
        return found + (0 if self.bias is None else self.bias)

    def expected(self) -> Array:
        found = layer_normed(self.total(), self.gamma, self.beta, self.simple)
        if self.places is None:
            return found
        return found.reshape(-1, self.length, found.shape[1])[:, self.places].reshape(-1, found.shape[1])


def run_layer_norm(
    gpu: emulation.Emulated, callers: launches.Launches, given: Normed, sum_: Array | None = None
) -> Array:
    """As ops.c launches it."""
    counts = {name: 0 if (of := getattr(given, name)) is None else len(of) for name in ("gamma", "places", "beside")}
    skip_rows, skip_columns = (0, 0) if given.skip is None else given.skip.shape
    how = callers.of(
        rows=len(given.x),
        columns=given.x.shape[1],
        skip_rows=skip_rows,
        skip_columns=skip_columns,
        length=given.length,
        simple=given.simple,
        epsilon=EPSILON,
        **counts,
    )
    assert not how.wrong
    y = np.full_like(given.expected(), np.nan, np.float16)
    further = given.beta, given.skip, given.bias, given.places, given.beside, y, sum_
    gpu.run(how.name, (how.grid, 1, 1), (how.across, how.down, 1), given.x, given.gamma, *further, how.at)
    return y


@pytest.mark.parametrize("width", [8, 48, 96, 192, 320, 384, 512, 768, 1024, 1288, 4096, 10240])
@pytest.mark.parametrize("simple", [False, True])
def test_layer_normalization_of_sums(
    gpu: emulation.Emulated, callers: launches.Launches, width: int, simple: bool
) -> None:
    rows = 35 if width < 1288 else 2
    x, skip, bias, gamma = low(rows, width), low(rows, width)[::-1].copy(), low(width), low(width) + np.float16(1)
    beta, made = None if simple else low(width)[::-1].copy(), np.zeros_like(x)
    given = Normed(x, gamma, beta, skip, bias, simple=simple)
    y = run_layer_norm(gpu, callers, given, made)
    assert rounds_to(given.total(), made)
    assert rounds_to(given.expected(), y)


@pytest.mark.parametrize(("skips", "biased"), [(0, True), (0, False), (5, False)])
def test_layer_normalization_of_less(
    gpu: emulation.Emulated, callers: launches.Launches, skips: int, biased: bool
) -> None:
    """Nothing is added, or a few rows over and over."""
    skip, bias = low(skips, 96) if skips else None, low(96)[::-1].copy() if biased else None
    given = Normed(low(15, 96), low(96), None, skip, bias)
    assert rounds_to(given.expected(), run_layer_norm(gpu, callers, given))


@pytest.mark.parametrize("width", [96, 2048])
@pytest.mark.parametrize("skips", [0, 5, 15])
@pytest.mark.parametrize("places", [[4, 2, 0, 1, 3], [4, 2, 0, 1, 3, 3, 3], [1, 1]])
def test_rows_are_normalized_into_another_order(
    gpu: emulation.Emulated, callers: launches.Launches, width: int, skips: int, places: list[int]
) -> None:
    """Three images of five rows. The sum stays in its own order, and whole where every row is there."""
    skip = low(skips, width) if skips else None
    given = Normed(low(15, width), low(width), low(width), skip, None, np.array(places, np.int32), length=5)
    made = np.full((15, width), np.nan, np.float16)
    assert rounds_to(given.expected(), run_layer_norm(gpu, callers, given, made))
    there = np.isin(np.arange(15) % 5, places)
    assert rounds_to(given.total()[there], made[there])
    assert np.isnan(made[~there]).all()


@pytest.mark.parametrize("width", [96, 2048])
@pytest.mark.parametrize("placed", [False, True])
@pytest.mark.parametrize("images", [1, 3])
def test_rows_that_lie_in_another_order_are_added(
    gpu: emulation.Emulated, callers: launches.Launches, width: int, placed: bool, images: int
) -> None:
    """Images of five rows, to which five of seven are added; y in their order or in a third one."""
    places, beside = np.array([4, 2, 0, 1, 3, 0], np.int32) if placed else None, np.array([6, 0, 3, 3, 5], np.int32)
    given = Normed(
        low(5 * images, width), low(width), None, low(7 * images, width), low(width), places, beside, 5 if placed else 0
    )
    made = np.zeros((5 * images, width), np.float16)
    assert rounds_to(given.expected(), run_layer_norm(gpu, callers, given, made))
    assert rounds_to(given.total(), made)


@pytest.mark.parametrize("width", [96, 2048])
def test_rows_far_above_their_spread_cancel_nothing(
    gpu: emulation.Emulated, callers: launches.Launches, width: int
) -> None:
    """Mean of squares less square of the mean would be off by a hundredth here, and worse."""
    given = Normed((low(3, width) + np.float16(1000)).astype(np.float16), np.ones(width, np.float16))
    assert np.abs(run_layer_norm(gpu, callers, given) - given.expected()).max() < 2e-3


@pytest.mark.parametrize("columns", [8, 96, 1288, 10240])
@pytest.mark.parametrize("rows", [1, 7, 5000, 200_000])
def test_every_vector_of_every_row_has_a_thread(callers: launches.Launches, columns: int, rows: int) -> None:
    how = callers.of(rows=rows, columns=columns, gamma=columns)
    held = int(how.name.rpartition("_")[2])
    assert held * how.across * 8 >= columns
    assert how.grid * how.down >= rows > (how.grid - 1) * how.down
    assert how.across * how.down <= 256  # __launch_bounds__
    assert how.across * how.down % 32 == 0  # whole warps, for sums of a row


PLAIN = {"rows": 30, "columns": 96, "gamma": 96}


@pytest.mark.parametrize(
    ("given", "wrong"),
    [
        ({"gamma": 88}, "one to scale them"),
        ({"columns": 100, "gamma": 100}, "whole vectors"),
        ({"columns": 10248, "gamma": 10248}, "no rows so wide"),
        ({"skip_rows": 30, "skip_columns": 88}, "rows as wide"),
        ({"skip_rows": 7, "skip_columns": 96}, "over and over"),
        ({"skip_rows": 60, "skip_columns": 96}, "over and over"),
        ({"places": 10}, "whole images"),
        ({"places": 10, "length": 7}, "whole images"),
        ({"beside": 10}, "to every image"),
        ({"beside": 7, "skip_rows": 30, "skip_columns": 96}, "over and over"),
        ({"beside": 10, "skip_rows": 35, "skip_columns": 96}, "to every image"),
    ],
)
def test_layer_normalization_of_sizes_that_do_not_fit_is_refused(
    callers: launches.Launches, given: dict[str, int], wrong: str
) -> None:
    assert not callers.of(**PLAIN).wrong
    assert wrong in callers.of(**{**PLAIN, **given}).wrong
