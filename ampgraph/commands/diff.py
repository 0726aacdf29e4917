"""`ampgraph diff`: which decisions changed between two conversions, and why."""

from __future__ import annotations

from pathlib import Path

import click

from ampgraph.commands.files import FILE, path_of, show


@click.command("diff")
@click.argument("first", metavar="PLAN")
@click.argument("second", metavar="PLAN")
@click.option("--json", "json_file", help="Write all of it as JSON; to the terminal without FILE.", **FILE)
@click.option("--force", is_flag=True, help="Write over an existing file.")
def diff(first: str, second: str, json_file: str | None, force: bool) -> None:
    """Say which decisions changed from one conversion to another, and why.

    Each PLAN is a file of `convert --save-plan`; two converted .onnx files, which record their reasons, do as well.
    Plans that share less than half of their decisions are of different models and refused. Exit code 0: both come to
    the same model, even if for other reasons, 1: they differ, 2: a mistake.
    """
    from ampgraph.inspection.plan_diff import to_json
    from ampgraph.onnx_model.recorded import diff as compare_plans
    from ampgraph.outputs import Outputs

    Outputs(path_of("--json", json_file), force).verify([Path(first), Path(second)])
    found = compare_plans(first, second)
    show(str(found), lambda: to_json(found), json_file)
    if not found.same:
        raise click.exceptions.Exit(1)
