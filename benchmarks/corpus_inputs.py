"""Inputs for the corpus that look like what the models were trained on: rendered text, voiced audio, sentences.

`stream_for` gives what a model is converted and checked with, `singles` many different inputs, one at a time: an error
on one of them alone is luck.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageDraw, ImageFont

Array = np.ndarray[Any, Any]
Feeds = dict[str, Array]
RATE = 16_000
_LINES = (
    "QUARTERLY REPORT 2023",
    "Revenue grew by 17.4% to $2,318,906",
    "Offices: Oslo, Porto, Lyon, Gdansk",
    "Tel. +33 4 72 55 01 98  (Mon - Fri)",
    "Invoice no. 0047-B, due 30 June",
    "Thank you for your business!",
)
_WORDS = (
    "quick brown fox jumps over lazy dogs while engineers measure float16 errors on kernels and write reports about"
    " precision invoice total amount due date street city"
)
SINGLES = 16
_IMAGENET = (np.array([0.485, 0.456, 0.406]), np.array([0.229, 0.224, 0.225]))
_HALVES = (np.full(3, 0.5), np.full(3, 0.5))
# First three formants in Hz of five vowels (Peterson and Barney 1952, male speakers).
_VOWELS = ((730, 1090, 2440), (270, 2290, 3010), (570, 840, 2410), (300, 870, 2240), (530, 1840, 2480))


@dataclass(frozen=True)
class Stream:
    """Runs of a model one after the other; `carry` names the outputs that a run hands to inputs of the next."""

    feeds: tuple[Feeds, ...]
    carry: Mapping[str, str] = field(default_factory=dict)


def stream_for(model: str, corpus: Path) -> Stream:
    """The inputs of a corpus model, by its file's stem."""
    if "det" in model:
        return Stream(({"x": _pixels(_page(640, 480), _IMAGENET)},))
    if "_rec_" in model:
        return Stream(({"x": lines_of_text(_LINES)},))
    if "_cls_" in model:
        crops = [_crop(line[:14], 192).rotate(180 * (i % 2)) for i, line in enumerate(_LINES)]
        return Stream(({"x": np.concatenate([_pixels(crop, _HALVES) for crop in crops])},))
    if "MiniLM" in model:
        from benchmarks.minilm import tokens

        return Stream((tokens(corpus / "all-MiniLM-L6-v2"),))
    return _audio(model)


def singles(model: str, corpus: Path) -> Stream:
    """Different inputs of one sample each: SINGLES of images and sentences, every window of a recording."""
    lines = phrases(SINGLES)
    if "det" in model:
        pages = [_page(640, 480, _shuffled(lines, index), 1 + index) for index in range(SINGLES)]
        return Stream(tuple({"x": _pixels(page, _IMAGENET)} for page in pages))
    if "_rec_" in model:
        return Stream(tuple({"x": lines_of_text([line])} for line in lines))
    if "_cls_" in model:
        crops = [_crop(line[:14], 192).rotate(180 * (index % 2)) for index, line in enumerate(lines)]
        return Stream(tuple({"x": _pixels(crop, _HALVES)} for crop in crops))
    if "MiniLM" in model:
        from benchmarks.minilm import tokens

        sentences = [", ".join(_shuffled(lines, index)[: 1 + index % 6]) for index in range(SINGLES)]
        padded = tokens(corpus / "all-MiniLM-L6-v2", tuple(sentences))
        return Stream(tuple({name: ids[[index]] for name, ids in padded.items()} for index in range(SINGLES)))
    whole = _audio(model)
    if "sequence" not in model:
        return whole
    first = whole.feeds[0]
    windows = tuple({**(first if index == 0 else {}), "input": one[None]} for index, one in enumerate(first["input"]))
    return Stream(windows, {"hn": "h", "cn": "c"})


def phrases(count: int) -> list[str]:
    """So many of three words, the same every time."""
    generator, words = np.random.default_rng(3), _WORDS.split()
    return [" ".join(generator.choice(words, 3)) for _ in range(count)]


def _shuffled(lines: Sequence[str], seed: int) -> list[str]:
    return [lines[index] for index in np.random.default_rng(seed).permutation(len(lines))[: len(_LINES)]]


def lines_of_text(lines: Sequence[str]) -> Array:
    """A crop of each, as PP-OCR's recognition takes them. (N, 3, 48, 320), float32."""
    return np.concatenate([_pixels(_crop(line, 320), _HALVES) for line in lines])


def _font(size: int) -> ImageFont.ImageFont | ImageFont.FreeTypeFont:
    return ImageFont.load_default(size)


def _page(width: int, height: int, lines: Sequence[str] = _LINES, seed: int = 1) -> Image.Image:
    """A page with a heading and lines in several sizes on uneven paper."""
    noise = np.random.default_rng(seed).normal(238, 4, (height, width, 3)).clip(0, 255).astype(np.uint8)
    page = Image.fromarray(noise)
    draw = ImageDraw.Draw(page)
    top = 30
    for index, line in enumerate(lines):
        size = (36, 24, 22, 20, 26, 30)[index]
        draw.text((30 + 12 * index, top), line, fill=(20, 20, 40 + 20 * index), font=_font(size))
        top += size + 38
    return page


def _crop(text: str, width: int) -> Image.Image:
    """One line of text as a detector would cut it out, 48 pixels high."""
    font = _font(30)
    left, top, right, bottom = font.getbbox(text)
    line = Image.new("RGB", (int(right - left) + 12, int(bottom - top) + 12), (235, 232, 225))
    ImageDraw.Draw(line).text((6 - left, 6 - top), text, fill=(25, 25, 30), font=font)
    scaled = line.resize((min(width, round(line.width * 48 / line.height)), 48), Image.Resampling.BILINEAR)
    padded = Image.new("RGB", (width, 48), (127, 127, 127))
    padded.paste(scaled, (0, 0))
    return padded


def _pixels(image: Image.Image, scale: tuple[Array, Array]) -> Array:
    mean, deviation = scale
    blue_first = np.asarray(image, np.float64)[:, :, ::-1] / 255
    scaled: Array = ((blue_first - mean) / deviation).transpose(2, 0, 1)[None]
    return scaled.astype(np.float32)


def speech(seconds: float, rate: int = RATE) -> Array:
    """Phrases of voiced syllables with fricatives between them, and pauses; Silero takes it for speech."""
    generator = np.random.default_rng(7)
    audio = generator.normal(0, 1e-4, int(seconds * rate))
    start, index = int(0.3 * rate), 0
    while True:
        length, hiss = int((0.2 + 0.08 * (index % 3)) * rate), int(0.06 * rate)
        if start + length + hiss > len(audio):
            return np.asarray(0.4 * audio / np.abs(audio).max(), np.float32)
        audio[start : start + length] += _syllable(index, length, generator, rate)
        audio[start + length : start + length + hiss] += np.diff(generator.normal(0, 0.05, hiss + 1))
        start += length + hiss + (int(0.4 * rate) if index % 5 == 4 else 0)
        index += 1


def _syllable(index: int, length: int, generator: np.random.Generator, rate: int) -> Array:
    """Glottal pulses of falling pitch through three resonators that glide from one vowel to another."""
    time = np.arange(length) / rate
    phase = np.cumsum((105 + 15 * (index % 4)) * (1 + 0.1 * np.sin(5 * np.pi * time) - 0.15 * time) / rate) % 1
    sound = np.diff(np.where(phase < 0.6, np.sin(np.pi * phase / 0.6) ** 2, 0), prepend=0)
    sound += generator.normal(0, 0.003, length)
    for first, last, bandwidth in zip(_VOWELS[index % 5], _VOWELS[(index + 2) % 5], (70, 90, 130), strict=True):
        sound = _resonate(sound, np.linspace(first, last, length), bandwidth, rate)
    sound *= np.minimum(1, np.minimum(time / 0.03, (time[-1] - time) / 0.04))
    return np.asarray(sound / np.abs(sound).max())


def _resonate(sound: Array, frequency: Array, bandwidth: float, rate: int) -> Array:
    """A two-pole filter whose frequency moves."""
    radius = np.exp(-np.pi * bandwidth / rate)
    turn = 2 * radius * np.cos(2 * np.pi * frequency / rate)
    result = np.zeros(len(sound))
    for i in range(len(sound)):
        result[i] = (1 - radius) * sound[i] + turn[i] * result[i - 1] - radius**2 * result[i - 2]
    return result


def _audio(model: str) -> Stream:
    """Windows of 512 samples with the 64 before them, as Silero's own wrapper feeds them."""
    audio = speech(2.4)
    count = (len(audio) - 64) // 512
    windows = np.stack([audio[512 * i : 512 * i + 576] for i in range(count)])
    if "sequence" in model:
        state = np.zeros((1, 1, 128), np.float32)
        return Stream(({"input": windows, "h": state, "c": state},))
    first: Feeds = {"state": np.zeros((2, 1, 128), np.float32)}
    rate: Feeds = {} if "half" in model or "openvino" in model else {"sr": np.array(RATE)}
    feeds = tuple({"input": window[None], **rate, **(first if i == 0 else {})} for i, window in enumerate(windows))
    return Stream(feeds, {"stateN": "state"})
