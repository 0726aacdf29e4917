"""Options that write a text to a file, or to the terminal alone where no file is named."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

STDOUT = "-"
FILE: dict[str, Any] = {"is_flag": False, "flag_value": STDOUT, "metavar": "[FILE]"}


def path_of(option: str, file: str | None) -> dict[str, Path]:
    """The file that an option writes, by option; none where it writes to the terminal, or is not given."""
    return {option: Path(file)} if file and file != STDOUT else {}


def show(report: str, to_json: Callable[[], str], json_file: str | None) -> None:
    """Print a report and write its figures, or print the figures alone."""
    from ampgraph.outputs import staged

    click.echo(to_json() if json_file == STDOUT else report, nl=False)
    paths = path_of("--json", json_file)
    with staged({path: to_json() for path in paths.values()}) as publish:
        publish()
    for path in paths.values():
        click.echo(f"wrote {path}")
