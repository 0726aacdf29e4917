"""What the GPU kernels compute, on this CPU, against numpy in float64."""

import ctypes
import math
from pathlib import Path

import emulation
import numpy as np
import pytest

pytestmark = pytest.mark.skipif(emulation.COMPILER is None, reason="no C++ compiler")
NONE, RELU, SILU, SIGMOID, HARD_SIGMOID, HARD_SWISH, GELU, HARD_SIGMOID_FIFTH, RELU6 = range(9)
ROW = 2  # late: a number for each channel
ROUNDED = 1e-3  # relative L2 of float16
Array = np.ndarray


def low(*shape: int) -> Array:
    return np.random.default_rng(sum(shape)).standard_normal(shape).astype(np.float16)


def exact(*shape: int) -> Array:
    """Numbers that no float16 is."""
    return np.random.default_rng(sum(shape)).standard_normal(shape).astype(np.float32)


def ints(*values: int) -> list[ctypes.c_int]:
    return [ctypes.c_int(value) for value in values]


def structure(*values: int) -> ctypes.Array:
    return (ctypes.c_int * len(values))(*values)


def activated(x: Array, kind: int) -> Array:
    x = x.astype(np.float64)
    gate = 1 / (1 + np.exp(-x))
    erf = np.vectorize(math.erf)
    ways = {NONE: x, RELU: np.maximum(x, 0), SILU: x * gate, SIGMOID: gate, HARD_SIGMOID: np.clip(x / 6 + 0.5, 0, 1)}
    ways |= {HARD_SWISH: x * np.clip(x / 6 + 0.5, 0, 1), HARD_SIGMOID_FIFTH: np.clip(0.2 * x + 0.5, 0, 1)}
    ways |= {RELU6: np.clip(x, 0, 6)}
    return x * 0.5 * (1 + erf(x / 2**0.5)) if kind == GELU else ways[kind]


def off(expected: Array, found: Array) -> float:
    wide = expected.astype(np.float64)
    return float(np.linalg.norm(wide - found) / np.linalg.norm(wide))


def convolved(x: Array, w: Array, down: int, across: int, pads: tuple[int, int]) -> Array:
    """Depthwise, channels last, with these strides. x: N, H, W, C; w: R, S, C."""
    padded = np.pad(x.astype(np.float64), ((0, 0), (pads[0], pads[0]), (pads[1], pads[1]), (0, 0)))
    height = (x.shape[1] + 2 * pads[0] - w.shape[0]) // down + 1
    width = (x.shape[2] + 2 * pads[1] - w.shape[1]) // across + 1
    out = np.zeros((x.shape[0], height, width, x.shape[3]))
    for r in range(w.shape[0]):
        for s in range(w.shape[1]):
            out += (
                padded[:, r : r + down * height : down, s : s + across * width : across][:, :height, :width] * w[r, s]
            )
    return out


@pytest.mark.parametrize("kernel", [(3, 1), (3, 2), (5, 1), (5, 2), (7, 1)])
@pytest.mark.parametrize("tile", [7, 2])
@pytest.mark.parametrize("down", [1, 2])
@pytest.mark.parametrize("act", [SILU, GELU])
@pytest.mark.parametrize("further", [True, False])
def test_depthwise(
    gpu: emulation.Emulated, kernel: tuple[int, int], tile: int, down: int, act: int, further: bool
) -> None:
    (k, stride), height, width, vectors, batch = kernel, 11, 13, 6, 2
    x, w, bias = low(batch, height, width, 8 * vectors), low(k, k, 8 * vectors), low(8 * vectors)
    after = low(2, 8 * vectors).astype(np.float32) if further else None
    expected = activated(convolved(x, w, down, stride, (k // 2, k // 2)) + bias, act)
    expected = expected if after is None else expected * after[0] + after[1]
    out_height, out_width = expected.shape[1:3]
    across, rows = 3, 10
    parts = -(-out_height * -(-out_width // tile) // rows)
    y, sums = np.zeros(expected.shape, np.float16), np.zeros((batch, parts, 8 * vectors), np.float32)
    at = structure(height, width, vectors, out_height, out_width, k, k, down, stride, k // 2, k // 2)
    grid, block = (vectors // across, parts, batch), (across, rows, 1)
    wide = w.astype(np.float32), bias.astype(np.float32)
    gpu.run(f"depthwise_{k}_{stride}_{tile}", grid, block, x, *wide, after, y, sums, at, *ints(act))
    assert off(expected, y) < ROUNDED
    assert off(expected.mean((1, 2)), sums.sum(1)) < ROUNDED


@pytest.mark.parametrize("k", [3, 5, 7])
@pytest.mark.parametrize("tile", [7, 2])
@pytest.mark.parametrize("gaps", [(2, 2), (1, 3), (4, 1), (20, 25)])
def test_depthwise_with_gaps_between_taps(gpu: emulation.Emulated, k: int, tile: int, gaps: tuple[int, int]) -> None:
    (down, gap), height, width, vectors, batch = gaps, 11, 23, 6, 2
    x, w, bias = low(batch, height, width, 8 * vectors), low(k, k, 8 * vectors), low(8 * vectors)
    spread = np.zeros((down * (k - 1) + 1, gap * (k - 1) + 1, 8 * vectors), np.float16)
    spread[::down, ::gap] = w
    pads = down * (k // 2), gap * (k // 2)
    expected = activated(convolved(x, spread, 1, 1, pads) + bias, RELU)
    across, rows = 3, 10
    tiles = height * -(-width // (tile * gap)) * gap
    parts = -(-tiles // rows)
    y, sums = np.zeros(expected.shape, np.float16), np.zeros((batch, parts, 8 * vectors), np.float32)
    at = structure(height, width, vectors, height, width, k, k, 1, 1, *pads)
    wide = w.astype(np.float32), bias.astype(np.float32)
    grid, block = (vectors // across, parts, batch), (across, rows, 1)
    gpu.run(f"dilated_{k}_{tile}", grid, block, x, *wide, None, y, sums, at, *ints(RELU, down, gap))
    assert off(expected, y) < ROUNDED
    assert off(expected.mean((1, 2)), sums.sum(1)) < ROUNDED


@pytest.mark.parametrize(("rows", "depth", "columns", "pixels"), [(200, 40, 80, 100), (130, 16, 24, 13), (5, 72, 8, 5)])
@pytest.mark.parametrize("block", [32, 64])
@pytest.mark.parametrize("further", [True, False])
@pytest.mark.parametrize("late", [0, 1, 2])
def test_products(
    gpu: emulation.Emulated, rows: int, depth: int, columns: int, pixels: int, block: int, further: bool, late: int
) -> None:
    x, w, bias, z, scale = (
        low(rows, depth),
        low(columns, depth),
        low(columns),
        exact(columns) if late == ROW else low(rows, columns),
        low(rows // pixels, depth),
    )
    scaled = (x * np.repeat(scale, pixels, 0)).astype(np.float16) if further else x
    total, more = scaled.astype(np.float64) @ w.astype(np.float64).T + bias, z if further else 0
    y = np.zeros((rows, columns), np.float16)
    of = structure(rows, depth, columns, pixels, GELU, late)
    grid = -(-columns // block), -(-rows // 128), 1
    gpu.run(
        f"product_{block}", grid, (128, 1, 1), x, w, bias, z if further else None, scale if further else None, y, of
    )
    assert off(activated(total, GELU) + more if late else activated(total + more, GELU), y) < ROUNDED


@pytest.mark.parametrize(
    ("channels", "hidden", "parts"), [(32, 8, 50), (96, 4, 1), (1152, 48, 3), (3000, 20, 2), (8, 2, 1)]
)
@pytest.mark.parametrize("gate", [SIGMOID, HARD_SIGMOID, HARD_SIGMOID_FIFTH])
@pytest.mark.parametrize("act", [NONE, RELU, SILU])
def test_excite(gpu: emulation.Emulated, channels: int, hidden: int, parts: int, gate: int, act: int) -> None:
    sums = np.abs(low(2, parts, channels)).astype(np.float32) / parts
    w1, b1, w2, b2 = exact(hidden, channels) / 30, exact(hidden), exact(hidden, channels) / 3, exact(channels)
    inner = activated(sums.sum(1).astype(np.float64) @ w1.astype(np.float64).T + b1, act)
    expected = activated(inner @ w2.astype(np.float64) + b2, gate)
    y, sizes = np.zeros((2, channels), np.float16), ints(channels, hidden, parts, act, gate)
    gpu.run("excite", (2, 1, 1), (1024, 1, 1), sums, w1, b1, w2, b2, y, *sizes)
    assert off(expected, y) < ROUNDED


@pytest.mark.parametrize("kind", [NONE, RELU, RELU6, HARD_SWISH, GELU])
def test_affine(gpu: emulation.Emulated, kind: int) -> None:
    x, scale, shift = 4 * low(37, 24), low(24).astype(np.float32), low(24).astype(np.float32)
    y = np.zeros_like(x)
    gpu.run("affine", (1, 1, 1), (256, 1, 1), x, scale, shift, y, *ints(37 * 3, 3, kind))
    assert off(activated(x.astype(np.float64) * scale + shift, kind), y) < ROUNDED


@pytest.mark.parametrize("kind", [NONE, RELU, RELU6, SILU, HARD_SWISH, GELU])
@pytest.mark.parametrize("residual", ["none", "before", "late", "row"])
def test_epilogue(gpu: emulation.Emulated, kind: int, residual: str) -> None:
    late = {"late": 1, "row": ROW}.get(residual, 0)
    y, bias, more = 3 * low(37, 24), low(24), exact(24) if late == ROW else low(37, 24)
    total, z = y.astype(np.float64) + bias, None if residual == "none" else more
    expected = activated(total + (more if residual == "before" else 0), kind) + (more if late else 0)
    gpu.run("epilogue", (1, 1, 1), (256, 1, 1), y, bias, z, *ints(37 * 3, 3, kind, late))
    assert off(expected, y) < ROUNDED


def test_gelu_in_the_tails(gpu: emulation.Emulated) -> None:
    """Far below zero, where one minus the error function is nothing but rounding."""
    y = np.linspace(-8, 8, 512).astype(np.float16)
    expected = activated(y, GELU)
    gpu.run("epilogue", (1, 1, 1), (64, 1, 1), y, np.zeros(8, np.float16), None, *ints(64, 1, GELU, False))
    assert np.abs(expected - y).max() < 4e-3
    small = np.abs(expected) < 1e-2
    assert np.abs(expected - y)[small].max() < 1e-5


@pytest.mark.parametrize("dtype", [np.float32, np.float16])
def test_images(gpu: emulation.Emulated, dtype: type) -> None:
    x = low(2, 3, 5, 7).astype(dtype)
    name, y = "float" if dtype is np.float32 else "half", np.ones((2, 5, 7, 8), np.float16)
    gpu.run(f"image_{name}", (1, 1, 1), (128, 1, 1), x, y, *ints(2 * 35, 3, 35))
    assert np.array_equal(y[..., :3], x.transpose(0, 2, 3, 1))
    assert not y[..., 3:].any()


@pytest.mark.parametrize("channels", [1, 2, 3, 4])
def test_images_in_blocks(gpu: emulation.Emulated, channels: int) -> None:
    x, y = low(2, channels, 5, 6).astype(np.float32), np.ones((2, 3, 3, 16), np.float16)
    gpu.run("image_blocks_float", (1, 1, 1), (64, 1, 1), x, y, *ints(18, channels, 5, 6))
    padded = np.zeros((2, channels, 6, 6), np.float32)
    padded[:, :, :5] = x
    expected = padded.reshape(2, channels, 3, 2, 3, 2).transpose(0, 2, 4, 3, 5, 1).reshape(2, 3, 3, 4 * channels)
    assert np.array_equal(y[..., : 4 * channels], expected.astype(np.float16))
    assert not y[..., 4 * channels :].any()


@pytest.mark.parametrize("bordered", [True, False])
def test_means_of_windows(gpu: emulation.Emulated, bordered: bool) -> None:
    x, y = low(2, 7, 9, 16), np.zeros((2, 4, 5, 16), np.float16)
    window = structure(7, 9, 2, 4, 5, 3, 3, 2, 2, 1, 1)
    gpu.run("average_pool", (1, 1, 1), (128, 1, 1), x, y, *ints(80), window, *ints(bordered))

    def sums(image: Array) -> Array:
        padded = np.pad(image.astype(np.float64), ((0, 0), (1, 1), (1, 1), (0, 0)))
        return sum(padded[:, r : r + 8 : 2, s : s + 10 : 2][:, :4, :5] for r in range(3) for s in range(3))

    assert off(sums(x) / (9 if bordered else sums(np.ones_like(x))), y) < ROUNDED


def test_max_pool_and_mean(gpu: emulation.Emulated) -> None:
    x, y, means = low(2, 7, 9, 16), np.zeros((2, 4, 5, 16), np.float16), np.zeros((2, 16), np.float16)
    gpu.run("max_pool", (1, 1, 1), (128, 1, 1), x, y, *ints(80), structure(7, 9, 2, 4, 5, 3, 3, 2, 2, 1, 1))
    padded = np.pad(x, ((0, 0), (1, 1), (1, 1), (0, 0)), constant_values=-np.inf)
    windows = [padded[:, r : r + 8 : 2, s : s + 10 : 2][:, :4, :5] for r in range(3) for s in range(3)]
    assert np.array_equal(y, np.max(windows, 0))
    gpu.run("mean", (1, 2, 1), (4, 64, 1), x, means, None, *ints(63, 2))
    assert off(x.astype(np.float64).mean((1, 2)), means) < ROUNDED
    wide = np.zeros((2, 16), np.float32)
    gpu.run("mean", (1, 2, 1), (4, 64, 1), x, None, wide, *ints(63, 2))
    assert off(x.astype(np.float64).mean((1, 2)), wide) < ROUNDED


@pytest.mark.parametrize("apart", [True, False])
def test_gated_and_scaled(gpu: emulation.Emulated, apart: bool) -> None:
    both, y = low(5, 48), np.zeros((5, 24), np.float16)
    a, b = (np.ascontiguousarray(each) for each in np.split(both, 2, 1))
    given = (a, b) if apart else (both, both.reshape(-1)[24:])
    gpu.run("gated", (1, 1, 1), (32, 1, 1), *given, None, y, structure(5, 3, 3 if apart else 6, 0, SILU))
    assert off(activated(a, SILU) * b, y) < ROUNDED
    x, scale = low(2, 5, 16), low(2, 16)
    out = np.zeros_like(x)
    for added in (False, True):
        gpu.run("scaled", (1, 1, 1), (32, 1, 1), x, scale, out, *ints(20, 2, 5, added))
        assert off(x.astype(np.float64) * (scale[:, None] + np.float64(added)), out) < ROUNDED


@pytest.mark.parametrize("positions", [[3], [3, 4, 5, 0, 1, 2]])
def test_rotary(gpu: emulation.Emulated, positions: list[int]) -> None:
    """Two batches of three rows; queries and keys of two heads of 8, values 8 wide."""
    x, angles = low(6, 40), np.random.default_rng(0).uniform(0, 6, (9, 4))
    cos, sin = np.cos(angles).astype(np.float16), np.sin(angles).astype(np.float16)
    q, k, v = (np.zeros((6, width), np.float16) for width in (16, 16, 8))
    given, at = np.array(positions, np.int64), structure(6 * 5, 5, 2, 1, 3, 4, len(positions))
    gpu.run("rotary", (1, 1, 1), (32, 1, 1), x, given, cos, sin, q, k, v, at)
    rows = np.array([3, 4, 5, 3, 4, 5]) if len(positions) == 1 else given
    for found, part in ((q, x[:, :16]), (k, x[:, 16:32])):
        pairs = part.astype(np.float64).reshape(6, 2, 4, 2)
        c, s = cos[rows][:, None].astype(np.float64), sin[rows][:, None].astype(np.float64)
        turned = np.stack([pairs[..., 0] * c - pairs[..., 1] * s, pairs[..., 1] * c + pairs[..., 0] * s], -1)
        assert off(turned.reshape(6, 16), found) < ROUNDED
    assert np.array_equal(v, x[:, 32:])


def test_the_folder_of_headers_is_the_emulation_alone() -> None:
    assert {path.name for path in Path(emulation.HEADERS).iterdir()} == {"cuda_fp16.h"}


@pytest.mark.parametrize("second", [False, True])
def test_gated_with_its_bias(gpu: emulation.Emulated, second: bool) -> None:
    both, bias, y = low(5, 48), low(48), np.zeros((5, 24), np.float16)
    gpu.run("gated", (1, 1, 1), (32, 1, 1), both, both.reshape(-1)[24:], bias, y, structure(5, 3, 6, second, GELU))
    one, other = np.split(both.astype(np.float64) + bias, 2, 1)
    expected = one * activated(other, GELU) if second else activated(one, GELU) * other
    assert off(expected, y) < ROUNDED


EPSILON = 1e-5


def normed(x: Array, groups: int, gamma: Array, beta: Array, kind: int) -> Array:
    """x: N, pixels, C."""
    count, pixels, channels = x.shape
    parts = x.astype(np.float64).reshape(count, pixels, groups, channels // groups)
    mean = parts.mean((1, 3), keepdims=True)
    deviation = np.sqrt(parts.var((1, 3), keepdims=True) + EPSILON)
    return activated(((parts - mean) / deviation).reshape(x.shape) * gamma + beta, kind)


def norm_structure(channels: int, groups: int, pixels: int, parts: int, part: int, kind: int) -> ctypes.Array:
    return structure(channels, groups, pixels, parts, part, kind, int(np.float32(EPSILON).view(np.int32)))


def rows_of(size: int) -> tuple[Array, Array]:
    generator = np.random.default_rng(size)
    return (generator.standard_normal(size) + 1).astype(np.float32), generator.standard_normal(size).astype(np.float32)


@pytest.mark.parametrize(("channels", "groups", "pixels"), [(40, 4, 37), (16, 16, 70), (24, 1, 9), (80, 8, 130)])
@pytest.mark.parametrize("offset", [True, False])
@pytest.mark.parametrize("kind", [SILU, NONE])
def test_group_normalization_with_channels_last(
    gpu: emulation.Emulated, channels: int, groups: int, pixels: int, offset: bool, kind: int
) -> None:
    count, rows, held = 2, 8, 4  # as many threads as groups, at least
    x, more = low(count, pixels, channels) + np.float16(5), low(count, channels) if offset else None
    gamma, beta = rows_of(channels)
    part, parts = held * rows, -(-pixels // (held * rows))
    at, grid, block = (
        norm_structure(channels, groups, pixels, parts, part, kind),
        (parts, count, 1),
        (channels // 8, rows, 1),
    )
    found, y = np.zeros((count, parts, groups, 2), np.float32), np.zeros_like(x)
    gpu.run("moments_last", grid, block, x, more, found, at)
    gpu.run("normalize_last", grid, block, x, more, found, gamma, beta, y, at)
    whole = x.astype(np.float64) + (0 if more is None else more[:, None])
    assert off(normed(whole, groups, gamma, beta, kind), y) < ROUNDED


@pytest.mark.parametrize(("channels", "groups", "pixels"), [(80, 4, 70), (16, 16, 9), (136, 1, 128), (72, 12, 1500)])
@pytest.mark.parametrize("kind", [SILU, NONE])
@pytest.mark.parametrize("dtype", [np.float32, np.float16])
def test_group_normalization_with_channels_first(
    gpu: emulation.Emulated, channels: int, groups: int, pixels: int, kind: int, dtype: type
) -> None:
    count, part = 2, 32 * 256
    x = (low(count, channels, pixels) + np.float16(5)).astype(dtype)
    gamma, beta = rows_of(channels)
    parts = -(-channels // groups * pixels // part)
    at, name = norm_structure(channels, groups, pixels, parts, part, kind), "float" if dtype is np.float32 else "half"
    found, y = np.zeros((count, parts, groups, 2), np.float32), np.zeros((count, pixels, channels), np.float16)
    gpu.run(f"moments_first_{name}", (parts, groups, count), (256, 1, 1), x, found, at)
    over = -(-pixels // 64), -(-channels // 64), count
    gpu.run(f"normalize_first_{name}", over, (256, 1, 1), x, found, gamma, beta, y, at)
    assert off(normed(x.transpose(0, 2, 1), groups, gamma, beta, kind), y) < ROUNDED


def test_a_mean_far_above_the_spread_cancels_nothing(gpu: emulation.Emulated) -> None:
    generator = np.random.default_rng(0)
    x = (generator.standard_normal((1, 8, 900)) + 3000).astype(np.float32)
    found, y = np.zeros((1, 1, 1, 2), np.float32), np.zeros((1, 900, 8), np.float16)
    at, gamma, beta = norm_structure(8, 1, 900, 1, 8192, NONE), np.ones(8, np.float32), np.zeros(8, np.float32)
    gpu.run("moments_first_float", (1, 1, 1), (256, 1, 1), x, found, at)
    gpu.run("normalize_first_float", (15, 1, 1), (256, 1, 1), x, found, gamma, beta, y, at)
    assert off(normed(x.transpose(0, 2, 1), 1, gamma, beta, NONE), y) < ROUNDED


@pytest.mark.parametrize(("channels", "pixels"), [(80, 70), (8, 5), (64, 128)])
def test_sums_of_images_in_two_layouts(gpu: emulation.Emulated, channels: int, pixels: int) -> None:
    x, z = low(2, channels, pixels).astype(np.float32), low(2, pixels, channels)
    y = np.zeros_like(x)
    over = -(-pixels // 64), -(-channels // 64), 2
    gpu.run("sum_first", over, (256, 1, 1), x, z, y, *ints(channels, pixels))
    np.testing.assert_array_equal(y, x + z.transpose(0, 2, 1))


@pytest.mark.parametrize("vectors", [1, 5])
def test_rows_at_places(gpu: emulation.Emulated, vectors: int) -> None:
    x, places = low(3, 7, 8 * vectors), np.array([6, 0, 0, 3, 5], np.int32)
    y = np.zeros((3, 5, 8 * vectors), np.float16)
    gpu.run("rows", (2, 1, 1), (16, 1, 1), x, places, y, *ints(15 * vectors, vectors, 5, 7))
    np.testing.assert_array_equal(y, x[:, places])
