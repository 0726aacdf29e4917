"""Inputs and outputs where a session reads and writes them, and runs over them that copy nothing.

A CUDA graph replays kernels on the addresses it was captured with. So what it reads and writes lies in buffers of our
own: what onnxruntime's arena hands out may be overwritten by another graph's replay.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import onnxruntime as ort
from onnx.helper import np_dtype_to_tensor_dtype

from ampgraph.errors import ModelError
from ampgraph.onnx_model.compare import output_errors
from ampgraph.onnx_model.run import UNKNOWN_TO_NUMPY, Array, array_of, ort_value

NO_GRAPH = -1  # the id of a run that neither captures nor replays
REPLAY_BAR = 1e-2  # relative L2: a replay runs the same kernels, in TF32 or with atomics at worst

Arrays = Mapping[str, Array]


@dataclass(frozen=True)
class Buffers:
    """A binding with its inputs in place. `graph_id`: the CUDA graph that a run replays, NO_GRAPH for a plain run."""

    session: Any
    binding: Any
    inputs: Mapping[str, Any]
    options: Any
    graph_id: int = NO_GRAPH

    def fill(self, feeds: Arrays) -> None:
        """Copy other inputs of the same shapes and types over those in place."""
        for name, value in self.inputs.items():
            _write(value, feeds[name])
        self.binding.synchronize_inputs()  # the runtime's stream does not wait for copies made outside it

    def run(self) -> None:
        """Run once on what is in place."""
        self.session.run_with_iobinding(self.binding, self.options)

    def wait(self) -> None:
        """Wait until the device has finished."""
        self.binding.synchronize_outputs()

    def outputs(self) -> dict[str, Any]:
        """Copies of what the last run computed."""
        self.wait()
        names = [output.name for output in self.session.get_outputs()]
        return dict(zip(names, map(_copied, self.binding.get_outputs()), strict=True))


def run_options(graph_id: int) -> ort.RunOptions:
    """Options of a run that captures or replays the graph of this id; without CUDA graphs they change nothing."""
    options = ort.RunOptions()
    options.add_run_config_entry("gpu_graph_id", str(graph_id))
    return options


def is_bindable(session: ort.InferenceSession) -> bool:
    """Whether all inputs and outputs are tensors of numbers: onnxruntime binds no others."""
    values = (*session.get_inputs(), *session.get_outputs())
    return all(value.type.startswith("tensor(") and value.type != "tensor(string)" for value in values)


def read_on_host(session: ort.InferenceSession) -> tuple[str, ...]:
    """Inputs that a CUDA session reads on the CPU, such as a shape to reshape to."""
    return tuple(name for name, device in _inputs(session) if not device)


def bind(session: ort.InferenceSession, feeds: Arrays) -> Buffers:
    """Put inputs where the session reads them; the runtime makes the outputs, and leaves them on the device."""
    binding = session.io_binding()
    inputs = {}
    for name, device in _inputs(session):
        inputs[name] = _buffer(feeds[name].shape, np_dtype_to_tensor_dtype(feeds[name].dtype), device)
        _write(inputs[name], feeds[name])
        binding.bind_ortvalue_input(name, inputs[name])
    for name, device in _outputs(session):
        binding.bind_output(name, device or "cpu")
    binding.synchronize_inputs()
    return Buffers(session, binding, inputs, run_options(NO_GRAPH))


def capture(plain: Buffers, graph_id: int) -> Buffers:
    """Capture a CUDA graph over inputs that have been run: outputs become fixed buffers of the sizes that they had.

    The replay must give the plain run's answers. Raises ModelError where it does not, onnxruntime's own error where the
    runtime cannot capture; after either the session is not to be used again.
    """
    expected = plain.outputs()
    for output, value in zip(plain.session.get_outputs(), plain.binding.get_outputs(), strict=True):
        fixed = _buffer(tuple(value.shape()), value.element_type(), value.device_name())
        plain.binding.bind_ortvalue_output(output.name, fixed)
    captured = replace(plain, options=run_options(graph_id), graph_id=graph_id)
    captured.run()  # onnxruntime itself runs as often as it takes to capture
    captured.run()
    captured.wait()
    for error in output_errors(expected, captured.outputs()):
        if not error.within(REPLAY_BAR):
            fact = f"a replayed CUDA graph gives other answers ({error.name} is off by {error.relative:.1e})"
            raise ModelError("CUDA graph", fact, "run it without one")
    return captured


def _inputs(session: ort.InferenceSession) -> list[tuple[str, str]]:
    """Names with the device that the session reads them on, "" for the host."""
    return _placed(session.get_inputs(), session.get_input_memory_infos())


def _outputs(session: ort.InferenceSession) -> list[tuple[str, str]]:
    return _placed(session.get_outputs(), session.get_output_memory_infos())


def _placed(values: Any, memory: Any) -> list[tuple[str, str]]:  # noqa: ANN401  (onnxruntime is untyped)
    places = ("cuda" if info.name == "Cuda" else "" for info in memory)
    return [(value.name, place) for value, place in zip(values, places, strict=True)]


def _buffer(shape: tuple[int, ...], element_type: int, device: str) -> Any:  # noqa: ANN401
    return ort.OrtValue.ortvalue_from_shape_and_type(shape, element_type, device or "cpu", 0)


def _write(value: Any, array: Array) -> None:  # noqa: ANN401
    value.update_inplace(ort_value(array) if array.dtype in UNKNOWN_TO_NUMPY.values() else array)


def _copied(value: Any) -> Array:  # noqa: ANN401
    """On the CPU, onnxruntime's arrays share the memory that the next run writes."""
    return np.array(array_of(value)) if value.device_name() == "cpu" else array_of(value)
