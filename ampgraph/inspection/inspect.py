"""Inspect: the public door. Takes a file, a model, a result or a traced module; gives something to look at."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ampgraph.inspection.document import Document
from ampgraph.inspection.views import html_of, notebook_html
from ampgraph.outputs import Outputs, staged

if TYPE_CHECKING:
    from ampgraph.api import Result


@dataclass(frozen=True, eq=False)
class Inspection:
    """A model to look at: print it, show it in a notebook, or write it as JSON, as Graphviz text or as a page."""

    document: Document

    def __str__(self) -> str:
        """The summary that `ampgraph inspect` prints."""
        from ampgraph.inspection.text import plain, summary

        return plain(summary(self.document))

    def tree(self, depth: int = 3) -> str:
        """The module tree, each module with a bar of its precisions."""
        from ampgraph.inspection.text import plain
        from ampgraph.inspection.tree import tree

        return plain(tree(self.document, depth))

    def to_json(self) -> str:
        """Everything, by the schema in `ampgraph/inspection/document.schema.json`."""
        from ampgraph.inspection.encode import to_json

        return to_json(self.document)

    def to_dot(self) -> str:
        """Graphviz text: `dot -Tsvg`."""
        from ampgraph.inspection.dot import to_dot

        return to_dot(self.document)

    def write_html(self, path: str | Path, *, force: bool = False) -> None:
        """Write the page, one file that needs no network. OptionError where there is a file, without `force`."""
        Outputs({"write_html": Path(path)}, force).verify(())
        with staged({Path(path): html_of(self.document)}) as publish:
            publish()

    @cached_property
    def _shown(self) -> str:
        return notebook_html(self.document)

    def _repr_html_(self) -> str:
        return self._shown

    def __repr__(self) -> str:
        found = self.document
        return f"<Inspection of {found.name}: {len(found.graph.nodes)} nodes, {found.state}>"


def inspect(
    source: Any,  # noqa: ANN401  (the types of five libraries, and two of ours)
    *,
    before: Any = None,  # noqa: ANN401
    as_is: bool | None = None,
    example_args: Any = None,  # noqa: ANN401  (a tensor, or a tuple of anything)
    example_kwargs: Mapping[str, Any] | None = None,
    **options: Any,  # noqa: ANN401  (those of `convert` that decide a plan)
) -> Inspection:
    """Look at a model: where it is in low precision, where in float32, why, and what each boundary costs.

    `source`: all that `convert` takes (a path, a model, a torch module with `example_args`, `example_kwargs`), what
    `convert` returned, or a traced module. A model that is not converted yet is planned with `options`, those of
    `convert`: precision, target, device, objective, rules, keep, low, io, shapes, opset, plan, costs, fuse, cuda_graph.
    A converted file is shown with the options that it remembers; others given here count for prices.

    - `before`: the model that `source` was made from, to be shown beside it.
    - `as_is`: True takes the model as it was found, False plans it. Without it a model that ampgraph converted, or that
      has low precision in it already, is taken as it was found.

    Raises ModelError for what is no model, OptionError for options that mean nothing here.
    """
    from ampgraph.options import Options, make_options

    for name in options.keys() - {field.name for field in fields(Options)}:
        raise TypeError(f"inspect() got an unexpected keyword argument {name!r}")
    names = {f"{cls.__module__}.{cls.__name__}" for cls in type(source).__mro__}
    if "ampgraph.fx_module.module.TracedModule" in names:
        return Inspection(_of_traced(source, before, options))
    if "ampgraph.api.Result" in names:
        return Inspection(_of_result(source, before, options))
    from ampgraph.inspection.files import document_of, look
    from ampgraph.onnx_model.marks import idle_notes, options_to_look_at
    from ampgraph.onnx_model.sources import as_loaded, is_module

    example = example_args, example_kwargs
    loaded = as_loaded(source, *(() if is_module(before) and not is_module(source) else example))
    chosen = make_options(**options) if as_is is False else options_to_look_at(loaded.model, options)
    looked = look(loaded, chosen, as_is)
    notes = () if looked.decided else tuple(idle_notes(options, looked.planned.options))
    if before is None:
        return Inspection(document_of(looked, notes=notes))
    return Inspection(document_of(looked, as_loaded(before, *(example if is_module(before) else ())), notes))


def _of_traced(source: Any, before: Any, options: dict[str, Any]) -> Document:  # noqa: ANN401
    from ampgraph.inspection.traced import document_of

    _refuse(before, options, "a traced module", "give them to `ampgraph.trace`")
    return document_of(source)


def _of_result(source: Result, before: Any, options: dict[str, Any]) -> Document:  # noqa: ANN401
    from ampgraph.inspection.files import Looked, document_of

    _refuse(before, options, "the result of a conversion", "give them to `ampgraph.convert`")
    if source.report.already_converted:
        return document_of(Looked(source.planned, "converted", False))
    return document_of(Looked(source.planned, "converted" if source.converted else "planned", True))


def _refuse(before: Any, options: dict[str, Any], what: str, remedy: str) -> None:  # noqa: ANN401
    from ampgraph.errors import OptionError

    if before is not None or options:
        given = ", ".join([*(["before"] if before is not None else []), *options])
        raise OptionError(given, f"is settled in {what}", remedy)
