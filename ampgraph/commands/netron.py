"""Netron on a model, for those who like it: what ampgraph knows of each node stands among the node's metadata there."""

from __future__ import annotations

import importlib
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from ampgraph.inspection.document import Document, Node


def require_netron() -> None:
    """Raise OptionError where Netron is not installed."""
    from ampgraph.errors import OptionError

    if find_spec("netron") is None:
        raise OptionError("--netron", "Netron is not installed", "pip install netron")


def open_netron(model: Path, document: Document) -> None:
    """Serve a model in Netron until interrupted.

    A converted file says everything itself. Any other is shown as a temporary copy whose nodes say what the document
    says of them, since the file's own nodes say nothing; large weights stay where they are.
    """
    path = model if document.state == "converted" else annotated(model, document)
    click.echo(f"Netron shows {path}; stop it with Ctrl-C")
    importlib.import_module("netron").start(str(path))


def annotated(model: Path, document: Document) -> Path:
    """A temporary copy of a model without weights, each node with its precision and reason as planned or found."""
    import tempfile

    from ampgraph.onnx_model.annotate import annotated_copy

    nodes = document.graph.nodes
    told = {origin: _told(node, f"part of one {node.type}; ") for node in nodes for origin in node.origins}
    told |= {node.id: _told(node) for node in nodes}
    path = Path(tempfile.mkdtemp(prefix="ampgraph-")) / model.name
    path.write_bytes(annotated_copy(model, told).SerializeToString())
    return path


def _told(node: Node, first: str = "") -> tuple[str, str, str]:
    return node.precision, node.cause, f"{first}{node.why}"
