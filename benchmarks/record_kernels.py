"""Record the kernel registry of onnxruntime as rules/targets/onnxruntime_kernels.json; run it on a machine with CUDA.

    python benchmarks/record_kernels.py OUT.json

Each kernel is one row of a type tuple: onnxruntime's CUDA BatchNormalization has a kernel for (float, float, float) and
one for (float16, float16, float16) and none between, which lists per type variable cannot say.
The listing asks every provider in the wheel, and dies where TensorRT's libraries are missing; where they are, libraries
that merely export the names that the TensorRT provider imports are enough.
"""

from __future__ import annotations

import argparse
import json
import pathlib

FLOATS = {"tensor(float)": "float32", "tensor(float16)": "float16", "tensor(bfloat16)": "bfloat16"}
PROVIDERS = {"CUDAExecutionProvider": "cuda", "CPUExecutionProvider": "cpu"}
OPEN_ENDED = 2147483647


def record() -> dict[str, object]:
    """The registry of the installed onnxruntime: op -> provider -> rows of [since, until, {variable: float types}]."""
    import onnxruntime
    import torch  # noqa: F401  (brings the CUDA libraries that the registry needs)

    onnxruntime.preload_dlls()
    from onnxruntime.capi import onnxruntime_pybind11_state as state

    table: dict[str, dict[str, list[list[object]]]] = {}
    for kernel in state.get_all_opkernel_def():
        provider = PROVIDERS.get(kernel.provider)
        if provider is None:
            continue
        since, until = kernel.version_range
        types = {name: [FLOATS[t] for t in FLOATS if t in kinds] for name, kinds in kernel.type_constraints.items()}
        op = f"{kernel.domain}.{kernel.op_name}" if kernel.domain not in ("", "ai.onnx") else kernel.op_name
        row = [since, None if until >= OPEN_ENDED else until, dict(sorted(types.items()))]
        rows = table.setdefault(op, {}).setdefault(provider, [])
        if row not in rows:
            rows.append(row)
    ordered = {
        op: {p: sorted(rows, key=lambda r: json.dumps(r)) for p, rows in sorted(table[op].items())}
        for op in sorted(table)
    }
    return {"runtime": "onnxruntime-gpu", "version": onnxruntime.__version__, "kernels": ordered}


def main() -> None:
    """Write the table, a line an op."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("out", type=pathlib.Path)
    out = parser.parse_args().out
    table = record()
    kernels = table.pop("kernels")
    lines = ",\n".join(f"{json.dumps(op)}:{json.dumps(rows, separators=(',', ':'))}" for op, rows in kernels.items())
    out.write_text(json.dumps(table)[:-1] + ', "kernels": {\n' + lines + "\n}}\n")
    print(f"{out}: {len(kernels)} ops")


if __name__ == "__main__":
    main()
