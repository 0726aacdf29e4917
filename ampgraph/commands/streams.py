"""Standard output and error of the command line: names that cannot be shown, readers that leave, closed streams."""

from __future__ import annotations

import os
import sys
from io import BufferedWriter, FileIO, TextIOWrapper
from typing import TYPE_CHECKING, TextIO

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer

STDOUT, STDERR = 1, 2


def prepare_streams() -> None:
    """Make both streams last for as long as the command runs, whoever reads them."""
    _fill_closed()
    sys.stdout = _prepared(sys.stdout, sys.__stdout__, STDOUT)
    sys.stderr = _prepared(sys.stderr, sys.__stderr__, STDERR)


def _fill_closed() -> None:
    """A file opened later must not get the number of a stream that was closed: what is printed would go into it."""
    while (descriptor := os.open(os.devnull, os.O_RDWR)) <= STDERR:
        continue
    os.close(descriptor)


def _prepared(stream: TextIO | None, own: TextIO | None, descriptor: int) -> TextIO:
    """Names in models are any Unicode; a stream that cannot show one shows its escape."""
    if stream is None:
        return _lasting(descriptor, "utf-8")
    if stream is own and not stream.isatty():
        return _lasting(descriptor, stream.encoding)
    if isinstance(stream, TextIOWrapper):
        stream.reconfigure(errors="backslashreplace")
    return stream


def _lasting(descriptor: int, encoding: str) -> TextIO:
    buffer = BufferedWriter(_Lasting(descriptor, "w", closefd=False))
    return TextIOWrapper(buffer, encoding, "backslashreplace", line_buffering=True)


class _Lasting(FileIO):
    """A stream that outlasts its reader: `ampgraph rules | head` ends as if all of it had been read.

    Any other fault of standard output is raised, once; of standard error there is nobody to tell.
    """

    def write(self, data: ReadableBuffer, /) -> int:
        """Write, as far as somebody is there."""
        try:
            return super().write(data)
        except OSError as error:
            os.dup2(os.open(os.devnull, os.O_WRONLY), self.fileno())
            if self.fileno() == STDOUT and not isinstance(error, BrokenPipeError):
                raise OSError(error.errno, error.strerror, "standard output") from None
            return memoryview(data).nbytes
