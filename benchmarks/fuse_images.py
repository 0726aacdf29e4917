"""What fusing makes of timm's and torchvision's attention models: `python -m benchmarks.fuse_images [NAME ...]`.

Each as torch's two exporters write it, with a free batch and random weights, on a CPU in five minutes: operators before
and after, softmaxes that stay beside those that there were, and the relative L2 distance between the float32 answers of
both at another batch. Needs timm and torchvision.
"""

from __future__ import annotations

import argparse
import logging
import tempfile
import warnings
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import torch
from torch import nn

from ampgraph.onnx_model.fuse.fuse import fuse
from ampgraph.onnx_model.prepare import prepare
from ampgraph.onnx_model.run import CPU, open_session, run
from ampgraph.onnx_model.simulate import for_any_provider
from benchmarks.gpu_timing import relative
from benchmarks.record import keep, table

BATCH, OTHER = 2, 3  # images: what sizes are modelled with, and what answers are compared at
EXPORTERS = ("dynamo", "torchscript")
_OPSET = 17  # of the older exporter
_TWO = {"depth": 2}
_STAGES = {"depths": (2, 2), "num_heads": (3, 6)}
# timm's names, with what makes them small.
_TIMM: Mapping[str, Mapping[str, Any]] = {
    "beit_base_patch16_224": {**_TWO, "embed_dim": 192, "num_heads": 3},
    "cait_xxs24_224": _TWO,
    "deit3_small_patch16_224": _TWO,
    "eva02_tiny_patch14_224": _TWO,
    "maxvit_rmlp_pico_rw_256": {},
    "mobilevit_xxs": {},
    "pit_ti_224": {},
    "pvt_v2_b0": {},
    "swin_tiny_patch4_window7_224": _STAGES,
    "swinv2_tiny_window8_256": _STAGES,
    "twins_svt_small": {"depths": (2, 2, 2, 2)},
    "vit_tiny_patch16_224": _TWO,
    "xcit_nano_12_p16_224": _TWO,
}
_CLASSES = 10


def _torchvision() -> Mapping[str, Callable[[], nn.Module]]:
    from torchvision import models

    return {
        "torchvision vit": lambda: models.VisionTransformer(224, 16, 2, 3, 192, 384, num_classes=_CLASSES),
        "torchvision swin_t": lambda: models.swin_t(num_classes=_CLASSES),
        "torchvision swin_v2_t": lambda: models.swin_v2_t(num_classes=_CLASSES),
        "torchvision maxvit_t": lambda: models.maxvit_t(num_classes=_CLASSES),
    }


def makers() -> dict[str, tuple[Callable[[], nn.Module], int]]:
    """Ways to make the models, and the pixels of their images along a side, by name."""
    import timm

    def of_timm(name: str) -> Callable[[], nn.Module]:
        return lambda: timm.create_model(name, num_classes=_CLASSES, **_TIMM[name])

    sizes = {name: timm.models.get_pretrained_cfg(name).input_size[-1] for name in _TIMM}
    found = {f"timm {name}": (of_timm(name), sizes[name]) for name in _TIMM}
    return {**found, **{name: (make, 224) for name, make in _torchvision().items()}}


def exported(make: Callable[[], nn.Module], size: int, exporter: str, folder: Path) -> onnx.ModelProto:
    """As torch exports it, the batch free."""
    torch.manual_seed(0)
    model, image, path = make().eval(), torch.randn(BATCH, 3, size, size), folder / "model.onnx"
    with torch.no_grad():
        if exporter == "dynamo":
            free = ({0: torch.export.Dim("batch")},)
            program: Any = torch.onnx.export(model, (image,), dynamo=True, dynamic_shapes=free, verbose=False)
            program.save(path)
        else:
            free_axes = {"x": {0: "batch"}}
            torch.onnx.export(
                model, (image,), path, dynamo=False, opset_version=_OPSET, input_names=["x"], dynamic_axes=free_axes
            )
    return onnx.load(path)


def measure(make: Callable[[], nn.Module], size: int, exporter: str) -> dict[str, Any]:
    """One export's row."""
    with tempfile.TemporaryDirectory() as folder:
        source = prepare(exported(make, size, exporter, Path(folder)))
    name = source.graph.input[0].name
    found = fuse(source, {name: (BATCH, 3, size, size)})
    row = {"operators": len(source.graph.node), "softmaxes": _softmaxes(source)}
    if found is None:
        return {**row, "fused": row["operators"], "left": row["softmaxes"], "distance": 0.0}
    images = np.random.default_rng(0).standard_normal((OTHER, 3, size, size)).astype(np.float32)
    sessions = [
        open_session(each, provider=CPU, optimize="disabled") for each in (source, for_any_provider(found.model))
    ]
    one, other = (next(iter(run(session, {name: images}).values())) for session in sessions)
    return {
        **row,
        "fused": len(found.model.graph.node),
        "left": _softmaxes(found.model),
        "distance": relative(one, other),
        "counts": dict(found.counts),
    }


def _softmaxes(model: onnx.ModelProto) -> int:
    return sum(node.op_type == "Softmax" for node in model.graph.node)


def attempt(make: Callable[[], nn.Module], size: int, exporter: str) -> dict[str, Any]:
    """One export's row, or what went wrong."""
    try:
        return measure(make, size, exporter)
    except Exception as error:  # an exporter's
        return {"error": f"{type(error).__name__}: {' '.join(str(error).split())[:100]}"}


def main() -> None:
    """Measure, print and keep."""
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("names", nargs="*", help="parts of names; all models when none is given")
    wanted = options.parse_args().names
    warnings.simplefilter("ignore")
    logging.disable(logging.WARNING)
    rows = {}
    for name, (make, size) in makers().items():
        for exporter in EXPORTERS if not wanted or any(part in name for part in wanted) else ():
            rows[f"{name}, {exporter}"] = row = attempt(make, size, exporter)
            print(name, exporter, row, flush=True)
    names = ("operators", "fused", "softmaxes", "left", "distance", "error")
    print(table(["model", *names], [[name, *(row.get(key) for key in names)] for name, row in rows.items()]))
    done = [row for row in rows.values() if "error" not in row]
    print(f"{sum(not row['left'] for row in done)} of {len(done)} exports with every attention as one operator")
    if not wanted:
        print(keep("fuse_images", {"batch": BATCH, "other": OTHER, "models": rows}))


if __name__ == "__main__":
    main()
