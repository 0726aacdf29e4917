"""The command line: parses arguments and prints. Everything else is in the Python API, which is loaded on use."""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NoReturn

import click

from ampgraph import __version__
from ampgraph.commands.bench import bench as bench_command
from ampgraph.commands.compare import compare as compare_command
from ampgraph.commands.diff import diff as diff_command
from ampgraph.commands.inspect import inspect as inspect_command
from ampgraph.commands.naming import as_options
from ampgraph.commands.planning import given_words, planning_options, read_words
from ampgraph.commands.profile import profile as profile_command
from ampgraph.commands.run import run as run_command
from ampgraph.commands.streams import prepare_streams
from ampgraph.errors import AmpgraphError, CheckError

SETTINGS = {"help_option_names": ["-h", "--help"], "max_content_width": 100}
SIGNALS = {int(signal.SIGINT): "interrupted", int(signal.SIGTERM): "terminated"}
USAGE = 2


class _Program(click.Group):
    """A group whose mistakes are one line on stderr: exit code 2, the error's own, or 128 and the signal's."""

    def main(self, *args: Any, **extra: Any) -> NoReturn:  # noqa: ANN401  (click's own)
        """Run the program and exit."""
        prepare_streams()
        extra["standalone_mode"] = False
        with _signals_as_exceptions():
            code = _guarded(lambda: super(_Program, self).main(*args, **extra))
        sys.exit(code)


def _guarded(run: Callable[[], Any]) -> int:
    try:
        found = run()
    except click.exceptions.Exit as stop:
        return stop.exit_code
    except click.exceptions.NoArgsIsHelpError as error:
        click.echo(error.format_message(), err=True)
        return USAGE
    except click.ClickException as error:
        context = getattr(error, "ctx", None)
        remedy = f"; see `{context.command_path} --help`" if context else ""
        return _complain(f"{error.format_message().rstrip('.')}{remedy}", USAGE)
    except AmpgraphError as error:
        return _complain(as_options(error), error.exit_code)
    except _StoppedError as error:
        return _complain(f"{error.word}; nothing was written", 128 + error.number)
    except OSError as error:
        place = error.filename or "the system"
        return _complain(f"{place}: {error.strerror or error}; check the path and the space that is left", USAGE)
    except MemoryError:
        return _complain("out of memory; a machine with more, or weights as external data, would help", USAGE)
    return found if isinstance(found, int) else 0


def _complain(text: str, code: int) -> int:
    click.echo(f"ampgraph: {' '.join(text.split())}", err=True)
    return code


class _StoppedError(BaseException):
    """A signal, raised so that temporary files are removed on the way out."""

    def __init__(self, number: int) -> None:
        self.number, self.word = number, SIGNALS[number]


def _stop(number: int, _: object) -> NoReturn:
    raise _StoppedError(number)


@contextmanager
def _signals_as_exceptions() -> Iterator[None]:
    if threading.current_thread() is not threading.main_thread():  # only that one may handle signals
        yield
        return
    before = {number: signal.signal(number, _stop) for number in SIGNALS}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@click.group("ampgraph", cls=_Program, context_settings=SETTINGS)
@click.version_option(__version__, message="ampgraph %(version)s")
def main() -> None:
    """Mixed precision for ONNX models, every cast visible.

    Exit codes: 0 done, 1 the check found other answers (compare: beyond tolerance; diff: another plan), 2 a mistake
    that the message says how to mend, 3 a --require threshold is not met, 130 interrupted. Except after 0 nothing is
    written, but for the figures of compare and diff, and files that were complete before standard output failed.
    """


for _command in (run_command, bench_command, profile_command, inspect_command, compare_command, diff_command):
    main.add_command(_command)


@main.command()
@click.argument("source", metavar="IN")
@click.option("-o", "--output", "destination", metavar="OUT", help="Default: IN.float16.onnx beside the input.")
@planning_options
@click.option("--save-plan", metavar="FILE", help="Write the plan as JSON, to read or edit.")
@click.option("--report", metavar="FILE.json", help="Write the whole report as JSON.")
@click.option("--tune", is_flag=True, help="Measure plans and settings on the GPU that is here, and take the fastest.")
@click.option("--require", multiple=True, metavar="coverage=0.9", help="Exit with 3, nothing written, if not reached.")
@click.option(
    "--check", is_flag=True,
    help="Run both models and compare; exit with 1 if the relative L2 error of an output is above 0.031 for float16, "
    "0.25 for bfloat16 (64 roundings), or NaN and infinities stand elsewhere.",
)  # fmt: skip
@click.option("--data", metavar="FILE.npz", help="Inputs for --check and --tune, by name; default: generated ones.")
@click.option("--force", is_flag=True, help="Write over existing files.")
@click.option("--dry-run", is_flag=True, help="Say what would be done; write no model, only --report and --save-plan.")
def convert(source: str, destination: str | None, precision: str, **words: Any) -> None:  # noqa: ANN401
    """Convert a float32 ONNX model to mixed precision and say what happened."""
    from ampgraph.options import parse_thresholds

    words["require"] = parse_thresholds(words["require"])
    target = default_destination(source, precision) if destination is None else destination
    try:
        result = _api().convert(source, target, precision=precision, **read_words(words))
    except CheckError as error:
        _show("\n".join(_report_text().check_lines(error.check)))
        raise
    _show(_report_text().to_text(result.report))
    _show(f"wrote {result.path}" if result.path else _dry(filter(None, (words["save_plan"], words["report"]))))


@main.command()
@click.argument("model", metavar="MODEL")
@click.argument("node", metavar="NODE")
@planning_options
def explain(model: str, node: str, **words: Any) -> None:  # noqa: ANN401
    """Say why a node is in its precision: rule, ranges, kernels, taint or cost.

    NODE is a node's name or a value that it makes. A model not yet converted is planned with the options first.
    """
    _show(_api().examine(model, **given_words(words)).explain(node))


@main.command()
@click.option("--markdown", is_flag=True, help="As the table of rules/README.md.")
@click.option("--rules", metavar="FILE", help="With this file's rules before the built-in ones.")
def rules(markdown: bool, rules: str | None) -> None:
    """Print the rules: what is true of each operator's numbers, why, and where that is known from."""
    from ampgraph import rulebook
    from ampgraph.rule_list import rules_text

    book = rulebook.load_builtin()
    if rules:
        book = rulebook.with_user_file(book, Path(rules))
    if markdown:
        click.echo(rulebook.markdown(book), nl=False)
    else:
        _show(rules_text(book))


@main.command()
@click.option("--folder", default="ampgraph-demo", show_default=True, metavar="DIR", help="Where everything is left.")
@click.option("--force", is_flag=True, help="Write over existing files.")
def demo(folder: str, force: bool) -> None:
    """Train in mixed precision, convert, check the answers, and say what stayed float32 and why."""
    from ampgraph.demo import run_demo

    run_demo(Path(folder), _show, force=force)


def _dry(written: Iterable[str]) -> str:
    files = " and ".join(written)
    return f"dry run: no model was written, only {files}" if files else "dry run: nothing was written"


def default_destination(source: str, precision: str) -> str:
    """`model.onnx` becomes `model.float16.onnx` beside it."""
    path = Path(source)
    stem = path.name.removesuffix(".onnx")
    return str(path.with_name(f"{stem}.{precision}.onnx")) if path.name else source


def _api() -> Any:  # noqa: ANN401  (a module, loaded when a command needs it)
    from ampgraph import api

    return api


def _report_text() -> Any:  # noqa: ANN401
    from ampgraph import report_text

    return report_text


def _show(text: str) -> None:
    """Print plainly; on a terminal with its headings and figures brought out, unless NO_COLOR says otherwise."""
    if not sys.stdout.isatty() or os.environ.get("NO_COLOR") or os.environ.get("TERM") == "dumb":
        click.echo(text)
        return
    from rich.console import Console
    from rich.text import Text

    styled = Text(text)
    styled.highlight_regex(r"(?m)^(?! ).*$", "bold")
    styled.highlight_regex(r"\b(float16|bfloat16)\b", "green")
    styled.highlight_regex(r"\bfloat32\b", "yellow")
    styled.highlight_regex(r"(?m)^(\s*FAILED|warning):.*$", "red")
    Console(soft_wrap=True).print(styled)
