"""`ampgraph inspect`: where a model is in low precision, where in float32, why, and what the boundaries cost."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from ampgraph.commands.files import FILE, STDOUT
from ampgraph.commands.planning import given_words, planning_options

if TYPE_CHECKING:
    from rich.console import RenderableType

    from ampgraph.inspection.comparison import Comparison
    from ampgraph.inspection.document import Document


@click.command("inspect")
@click.argument("model", metavar="MODEL")
@click.option("--tree", "wants_tree", is_flag=True, help="The module tree too, with a bar of precisions.")
@click.option("--depth", type=click.IntRange(0), default=3, show_default=True, metavar="N", help="Levels of --tree.")
@click.option("--source", metavar="FILE", help="The model that MODEL was made from, to show what changed.")
@click.option("--as-is/--planned", default=None, help="MODEL as it was found, or as `convert` would make it.")
@click.option("--html", metavar="OUT.html", help="Write the page: one file, no network.")
@click.option("--open", "opens", is_flag=True, help="Open the page in a browser.")
@click.option("--compare", "comparison", metavar="FILE.json", help="Colour the page by what `compare --json` found.")
@click.option("--json", "json_file", help="Write everything as JSON; to the terminal without FILE.", **FILE)
@click.option("--dot", "dot_file", help="Write Graphviz text; to the terminal without FILE.", **FILE)
@click.option("--netron", is_flag=True, help="Open the file in Netron, if that is installed.")
@click.option("--force", is_flag=True, help="Write over existing files.")
@planning_options
def inspect(model: str, source: str | None, as_is: bool | None, **words: Any) -> None:  # noqa: ANN401
    """Show where MODEL is in which precision, why, and what each boundary costs.

    A model not yet converted is planned with the options first; --as-is takes it as it is. A model that ampgraph
    converted, or that has low precision in it already, is taken as it is.
    """
    from ampgraph.inspection.inspect import inspect as look

    wanted = _Wanted.take(words)
    wanted.verify([Path(path) for path in (model, source, wanted.comparison) if path])
    comparison = wanted.read_comparison()
    document = look(model, before=source, as_is=as_is, **given_words(words)).document
    if comparison is not None:
        from ampgraph.inspection.kinship import require_comparison_of

        require_comparison_of(document, comparison, f"--compare {wanted.comparison}")
    wanted.show(document)
    wanted.write(document, comparison)
    if wanted.netron:
        from ampgraph.commands.netron import open_netron

        open_netron(Path(model), document)


@dataclass(frozen=True)
class _Wanted:
    """What is to become of the document."""

    tree: bool
    depth: int
    html: str | None
    opens: bool
    comparison: str | None
    json: str | None
    dot: str | None
    netron: bool
    force: bool

    @classmethod
    def take(cls, words: dict[str, Any]) -> _Wanted:
        """Take the words of this command out of those of a plan."""
        names = ("wants_tree", "depth", "html", "opens", "comparison", "json_file", "dot_file", "netron", "force")
        return cls(*(words.pop(name) for name in names))

    @property
    def paths(self) -> dict[str, Path]:
        """Files to write, by option."""
        named = {"--html": self.html, "--json": self.json, "--dot": self.dot}
        return {option: Path(path) for option, path in named.items() if path and path != STDOUT}

    def verify(self, inputs: list[Path]) -> None:
        """Refuse what cannot be, before the model is looked at."""
        from ampgraph.errors import OptionError
        from ampgraph.inspection.views import require_page
        from ampgraph.outputs import Outputs

        if self.json == self.dot == STDOUT:
            raise OptionError("--json and --dot", "both write to the terminal", "give one of them a FILE")
        if self.comparison and not (self.html or self.opens):
            raise OptionError("--compare", "colours the page, and none is asked for", "give --html OUT.html or --open")
        Outputs(self.paths, self.force).verify(inputs)
        if self.html or self.opens:
            require_page()
        if self.netron:
            from ampgraph.commands.netron import require_netron

            require_netron()

    def read_comparison(self) -> Comparison | None:
        """What `compare --json` wrote."""
        if not self.comparison:
            return None
        from ampgraph.inspection.views import read_comparison

        return read_comparison(Path(self.comparison))

    def show(self, document: Document) -> None:
        """Print the summary and the tree, or the one text that was asked for."""
        texts = {"--json": _json, "--dot": _dot}
        for option, target in (("--json", self.json), ("--dot", self.dot)):
            if target == STDOUT:
                click.echo(texts[option](document), nl=False)
                return
        from ampgraph.inspection.text import summary
        from ampgraph.inspection.tree import tree

        _print(summary(document))
        if self.tree:
            click.echo()
            _print(tree(document, self.depth))

    def write(self, document: Document, comparison: Comparison | None) -> None:
        """Write the files, all of them or none, and open the page."""
        import tempfile

        from ampgraph.commands.browser import open_page
        from ampgraph.outputs import staged

        makers: dict[str, Callable[[Document], str]] = {
            "--json": _json,
            "--dot": _dot,
            "--html": partial(_page, comparison=comparison),
        }
        paths = dict(self.paths)
        if self.opens and not self.html:
            paths["--html"] = Path(tempfile.mkdtemp(prefix="ampgraph-")) / f"{Path(document.name).stem or 'model'}.html"
        with staged({path: makers[option](document) for option, path in paths.items()}) as publish:
            publish()
        for path in paths.values():
            click.echo(f"wrote {path}", err=STDOUT in (self.json, self.dot))
        if self.opens:
            open_page(paths["--html"])


def _json(document: Document) -> str:
    from ampgraph.inspection.encode import to_json

    return to_json(document)


def _dot(document: Document) -> str:
    from ampgraph.inspection.dot import to_dot

    return to_dot(document)


def _page(document: Document, comparison: Comparison | None) -> str:
    from ampgraph.inspection.views import html_of

    return html_of(document, comparison)


def _print(renderable: RenderableType) -> None:
    """In colour on a terminal, unless NO_COLOR says otherwise; plain text of 80 columns elsewhere."""
    from rich.console import Console

    from ampgraph.inspection.text import plain

    if not sys.stdout.isatty() or os.environ.get("NO_COLOR") or os.environ.get("TERM") == "dumb":
        click.echo(plain(renderable), nl=False)
        return
    Console(highlight=False).print(renderable)
