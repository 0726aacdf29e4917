"""Numbers that go wrong without any data to show it: `python -m benchmarks.hard_numbers`.

Every case of tests/number_cases.py under ampgraph's three objectives and the installed peers, in true float16: relative
L2 error of the worst output against float32.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort

from ampgraph.onnx_model.compare import output_errors
from ampgraph.onnx_model.run import CPU, open_session, run
from ampgraph.onnx_model.simulate import simulate
from benchmarks.converters import OBJECTIVES, Converter, ampgraph_with, peers, quiet
from benchmarks.corpus import worst
from benchmarks.record import keep, table
from tests.number_cases import NumberCase, number_cases


def error_of(case: NumberCase, converter: Converter) -> float | str:
    """The worst output's relative error in true low precision, or what stopped the conversion or the run."""
    source = onnx.ModelProto()
    source.CopyFrom(case.model)
    try:
        with quiet():
            converted = converter.convert(source, {})
        open_session(converted, provider=CPU)
        found = run(open_session(simulate(converted), provider=CPU), dict(case.feeds))
    except Exception as failure:  # a converter or the runtime may raise anything; the table says what
        return type(failure).__name__
    return worst(output_errors(run(open_session(case.model, provider=CPU), dict(case.feeds)), found))


def main() -> None:
    """Print a table of errors and count those within each case's bar."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--case", default="", help="substring of case names")
    parser.add_argument("--converter", default="", help="substring of converter names")
    parser.add_argument("--no-results", action="store_true", help="keep no JSON")
    arguments = parser.parse_args()
    ort.set_default_logger_severity(4)
    names = [converter.name for converter in _converters({}) if arguments.converter in converter.name]
    rows: list[list[Any]] = [
        [case.name, case.bar, *(error_of(case, one) for one in _converters(case.shapes) if one.name in names)]
        for case in number_cases()
        if arguments.case in case.name
    ]
    within = {name: sum(_is_within(row[2 + i], row[1]) for row in rows) for i, name in enumerate(names)}
    print(table(["case", "bar", *names], rows))
    for name, count in within.items():
        print(f"{name}: {count} of {len(rows)} within their bars")
    if not arguments.no_results:
        kept = [dict(zip(["case", "bar", *names], map(_storable, row), strict=True)) for row in rows]
        keep("hard_numbers", {"within": within, "cases": kept})


def _converters(shapes: Mapping[str, tuple[int, ...]]) -> list[Converter]:
    return [*(ampgraph_with(objective, shapes=shapes) for objective in OBJECTIVES), *peers()]


def _is_within(error: Any, bar: float) -> bool:  # noqa: ANN401  (a number or the name of an exception)
    return isinstance(error, float) and error <= bar


def _storable(value: Any) -> Any:  # noqa: ANN401
    return "non-finite" if isinstance(value, float) and not np.isfinite(value) else value


if __name__ == "__main__":
    main()
