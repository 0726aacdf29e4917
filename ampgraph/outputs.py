"""Where commands write: what may be written over, and files that appear whole or not at all."""

from __future__ import annotations

import os
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryFile

from ampgraph.errors import OptionError


@dataclass(frozen=True)
class Outputs:
    """Files to write, by the option that names them. None are written unless all can be."""

    paths: Mapping[str, Path]
    force: bool = False

    def verify(self, inputs: Collection[Path], *, unwritten: Collection[str] = ()) -> None:
        """Refuse what would write over an input, over another output, or, without force, over any file.

        `unwritten`: options whose file will not be, so that one which exists is in nobody's way.
        """
        for option, path in self.paths.items():
            place = f"{option} {path}"
            _verify_place(place, path)
            if any(same_file(path, other) for other in inputs):
                raise OptionError(place, "is also an input file", "choose another place")
            if any(same_file(path, other) for name, other in self.paths.items() if name != option):
                raise OptionError(place, "is named by two options", "choose different files")
            if option in unwritten:
                continue
            if os.path.lexists(path) and not self.force:
                raise OptionError(place, "exists already", "choose another place, or write over it with --force")
            _verify_writable(place, path.parent)


def same_file(first: Path, second: Path) -> bool:
    """Whether two paths lead to one file, or would."""
    try:
        return first.samefile(second)
    except OSError:
        return first.resolve() == second.resolve()


def _verify_place(place: str, path: Path) -> None:
    if path.is_dir():
        raise OptionError(place, "is a directory", "name a file in it")
    if path.exists() and not path.is_file():  # or what a link leads to: /dev/stdout is a link to a pipe or terminal
        raise OptionError(place, "is no regular file", "choose another place")
    if not path.parent.is_dir():
        raise OptionError(place, f"has no folder {path.parent}", "make the folder first")


def _verify_writable(place: str, folder: Path) -> None:
    """By writing: neither a read-only disk nor a special one is known by permissions."""
    try:
        with TemporaryFile(dir=folder):
            return
    except OSError as error:
        fact = f"cannot be written ({error.strerror})"
        raise OptionError(place, fact, "choose another place") from None


def _publish(written: Mapping[Path, Path]) -> None:
    for path, temporary in written.items():
        temporary.replace(path)


@contextmanager
def staged(texts: Mapping[Path, str]) -> Iterator[Callable[[], None]]:
    """Write texts under temporary names beside their places; calling what is yielded moves them there."""
    written: dict[Path, Path] = {}
    try:
        for path, text in texts.items():
            temporary = path.parent / f".ampgraph-{os.getpid()}-{path.name}"
            written[path] = temporary
            try:
                temporary.write_text(text, encoding="utf-8")
            except OSError as error:
                raise OptionError(str(path), f"cannot be written ({error.strerror})", "choose another place") from None
        yield lambda: _publish(written)
    finally:
        for temporary in written.values():
            with suppress(OSError):
                temporary.unlink()
