"""ONNX's own backend tests as a test of converters: `python -m benchmarks.backend_suite`.

The node tests and the pytorch-converted, pytorch-operator and simple suites that ship with onnx: every model with a
float32 input or output that onnxruntime runs on the CPU is converted, checked, loaded, run, and its answers compared
with those of the float32 model, once as onnxruntime's CPU session gives them and once in true low precision.
"""

from __future__ import annotations

import argparse
import time
import warnings
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx.backend.test.loader as loader
import onnxruntime as ort
from onnx import TensorProto, numpy_helper

from ampgraph.onnx_model.compare import output_errors
from ampgraph.onnx_model.run import CPU, open_session, run
from ampgraph.onnx_model.simulate import simulate
from benchmarks.converters import Converter, ampgraph_with, peers, quiet
from benchmarks.record import keep, table

BAR = 2e-2
KINDS = ("node", "pytorch-converted", "pytorch-operator", "simple")
STAGES = ("convert", "load", "run", "interface", "agree", "true low precision")
_RANDOM = frozenset(
    ("RandomNormal", "RandomNormalLike", "RandomUniform", "RandomUniformLike", "Bernoulli", "Multinomial")
)


@dataclass(frozen=True)
class Case:
    """A backend test that runs in float32, with its inputs and the float32 outputs."""

    name: str
    model: onnx.ModelProto
    feeds: dict[str, Any]
    reference: dict[str, Any]
    random: bool  # outputs are compared by shape and type
    checks: bool  # the source passes the full checker


@dataclass(frozen=True, slots=True)
class Verdict:
    """How far one converter came with one case: the stage that failed, "" when none did, and what it said."""

    case: str
    failed: str
    message: str
    checker: bool  # the written model passes the full checker, or its source does not
    error: float  # largest relative L2 error over the outputs, as the CPU session computes
    true_error: float  # the same in true low precision


@cache
def cases() -> tuple[Case, ...]:
    """Every case that runs in float32."""
    return tuple(case for test in _tests() if (case := _case(*test)) is not None)


@cache
def considered() -> int:
    """How many tests have a float32 input or output at all."""
    return sum(1 for _ in _tests())


def judge_case(case: Case, converter: Converter) -> Verdict:
    """Convert one case and follow it through every stage."""
    source = onnx.ModelProto()
    source.CopyFrom(case.model)
    stage, checker, error, true_error = "convert", False, np.inf, np.inf
    try:
        with quiet():
            converted = converter.convert(source, case.feeds)
        checker = not case.checks or _passes_checker(converted)
        stage = "load"
        session = open_session(converted, provider=CPU)
        stage = "run"
        outputs = run(session, case.feeds)
        stage = "interface"
        _require(_interface(case.model) == _interface(converted), "names, types or shapes changed")
        stage = "agree"
        error = _disagreement(case, outputs)
        stage = "true low precision"
        true_error = _disagreement(case, run(open_session(simulate(converted), provider=CPU), case.feeds))
    except Exception as failure:  # whatever a tool or the runtime raises is a finding, not an accident
        return Verdict(case.name, stage, _line(failure), checker, error, true_error)
    return Verdict(case.name, "", "", checker, error, true_error)


def _tests() -> Iterator[tuple[str, onnx.ModelProto, list[Any]]]:
    for kind in KINDS:
        with warnings.catch_warnings(), np.errstate(all="ignore"):
            warnings.simplefilter("ignore")
            tests = loader.load_model_tests(kind=kind)
        for test in sorted(tests, key=lambda test: test.name):
            model = test.model if test.model is not None else onnx.load(f"{test.model_dir}/model.onnx")
            if any(_is_float32(value.type) for value in (*model.graph.input, *model.graph.output)):
                inputs = test.data_sets[0][0] if test.data_sets else _stored_inputs(model, str(test.model_dir))
                yield test.name, model, list(inputs)


def _case(name: str, model: onnx.ModelProto, inputs: Sequence[Any]) -> Case | None:
    initialized = {tensor.name for tensor in model.graph.initializer}
    names = [value.name for value in model.graph.input]
    if len(inputs) < len(names):
        names = [name for name in names if name not in initialized]
    feeds = {name: _plain(value) for name, value in zip(names, inputs, strict=False)}
    try:
        reference = run(open_session(model, provider=CPU), feeds)
    except Exception:  # what does not run in float32 is not a case, whatever the reason
        return None
    return Case(name, model, feeds, reference, _is_random(model), _passes_checker(model))


def _plain(value: Any) -> Any:  # noqa: ANN401  (tensors, sequences, nothing)
    if isinstance(value, TensorProto):
        return numpy_helper.to_array(value)
    return value if value is None or isinstance(value, list) else np.asarray(value)


def _stored_inputs(model: onnx.ModelProto, folder: str) -> list[Any]:
    found = []
    for index, value in enumerate(model.graph.input):
        path = Path(folder, "test_data_set_0", f"input_{index}.pb")
        if path.exists():
            found.append(_read(path.read_bytes(), value.type))
    return found


def _read(data: bytes, kind: onnx.TypeProto) -> Any:  # noqa: ANN401
    if kind.HasField("sequence_type"):
        return numpy_helper.to_list(onnx.SequenceProto.FromString(data))
    if kind.HasField("optional_type"):
        return numpy_helper.to_optional(onnx.OptionalProto.FromString(data))
    return numpy_helper.to_array(TensorProto.FromString(data))


def _is_float32(kind: onnx.TypeProto) -> bool:
    """A float32 tensor, or a sequence or optional of such."""
    field = kind.WhichOneof("value")
    if field in ("sequence_type", "optional_type"):
        return _is_float32(getattr(kind, field).elem_type)
    return field == "tensor_type" and kind.tensor_type.elem_type == TensorProto.FLOAT


def _nodes(graphs: Iterable[Any]) -> Iterator[onnx.NodeProto]:
    for graph in graphs:
        for node in graph.node:
            yield node
            for attribute in node.attribute:
                yield from _nodes([*attribute.graphs, *([attribute.g] if attribute.HasField("g") else [])])


def _is_random(model: onnx.ModelProto) -> bool:
    return any(
        node.op_type in _RANDOM or (node.op_type == "Dropout" and len(node.input) > 2)
        for node in _nodes([model.graph, *model.functions])
    )


def _passes_checker(model: onnx.ModelProto) -> bool:
    try:
        onnx.checker.check_model(model, full_check=True)
    except Exception:  # the checker raises several unrelated types
        return False
    return True


def _interface(model: onnx.ModelProto) -> list[bytes]:
    """Names and types; before IR version 4 every initializer is listed as an input and is none."""
    listed = {tensor.name for tensor in model.graph.initializer} if model.ir_version < 4 else set()
    values = [value for value in (*model.graph.input, *model.graph.output) if value.name not in listed]
    return [value.name.encode() + value.type.SerializeToString(deterministic=True) for value in values]


def _disagreement(case: Case, outputs: dict[str, Any]) -> float:
    """The largest relative error; raises where outputs do not agree."""
    errors = output_errors(case.reference, outputs)
    for error in errors:
        _require(not error.mismatch, f"{error.name}: {error.mismatch}")
        if not case.random:
            _require(not error.nonfinite, f"{error.name}: {error.nonfinite} non-finite elements differ")
            _require(error.relative <= BAR, f"{error.name}: relative error {error.relative:.3g}")
    return 0.0 if case.random else max((error.relative for error in errors), default=0.0)


class _UnmetError(Exception):
    """A case is not what it should be."""


def _require(holds: bool, message: str) -> None:
    if not holds:
        raise _UnmetError(message)


def _line(failure: BaseException) -> str:
    text = " ".join(str(failure).split())
    return f"{type(failure).__name__}: {text}"[:200] if not isinstance(failure, _UnmetError) else text


def judge_all(converter: Converter, chosen: Sequence[Case]) -> list[Verdict]:
    """All verdicts of one converter."""
    return [judge_case(case, converter) for case in chosen]


def _row(converter: Converter, verdicts: Sequence[Verdict], seconds: float) -> dict[str, Any]:
    """One line of the table: how many cases came through each stage."""
    failed = Counter(verdict.failed for verdict in verdicts)
    left, passed = len(verdicts), {}
    for stage in STAGES:
        left -= failed[stage]
        passed[stage] = left
    agree = [verdict for verdict in verdicts if verdict.failed in ("", "true low precision")]
    return {
        "converter": f"{converter.name} {converter.version}",
        **passed,
        "agree and check": sum(verdict.checker for verdict in agree),
        "seconds": round(seconds, 1),
    }


def _by_stage(verdicts: Sequence[Verdict]) -> dict[str, list[str]]:
    """Names of the cases by the stage that failed; "checker" where nothing else did."""
    found: dict[str, list[str]] = {}
    for verdict in verdicts:
        found.setdefault(verdict.failed or "checker", []).append(verdict.case)
    return found


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", help="substring of the names of the converters to run")
    parser.add_argument("--case", help="substring of the names of the cases to run")
    parser.add_argument("--objective", default="coverage", help="ampgraph's objective")
    parser.add_argument("--precision", default="float16", help="ampgraph's precision")
    parser.add_argument("--no-results", action="store_true", help="keep no JSON")
    return parser.parse_args()


def main() -> None:
    """Run the suite and print the table, then every failure of ampgraph's."""
    arguments = _arguments()
    ort.set_default_logger_severity(4)
    chosen = [case for case in cases() if (arguments.case or "") in case.name]
    print(f"{len(cases())} of {considered()} tests with float32 in their interface run in float32")
    rows: list[dict[str, Any]] = []
    failures: dict[str, list[Verdict]] = {}
    for converter in (ampgraph_with(arguments.objective, arguments.precision), *peers()):
        if (arguments.only or "") not in converter.name:
            continue
        start = time.perf_counter()
        verdicts = judge_all(converter, chosen)
        rows.append(_row(converter, verdicts, time.perf_counter() - start))
        failures[converter.name] = [verdict for verdict in verdicts if verdict.failed or not verdict.checker]
        print(table(list(rows[-1]), [list(rows[-1].values())]), flush=True)
    if not arguments.no_results:
        named = {name: _by_stage(verdicts) for name, verdicts in failures.items()}
        keep("backend_suite", {"cases": len(chosen), "considered": considered(), "rows": rows, "failures": named})
    for name, verdicts in failures.items():
        for verdict in verdicts if name.startswith("ampgraph") else ():
            print(f"{name}: {verdict.case}: {verdict.failed or 'checker'}: {verdict.message}")
    print(table(list(rows[0]), [list(row.values()) for row in rows]))


if __name__ == "__main__":
    main()
