"""Silence: onnxruntime's words while a provider is loaded, held back for as long as any thread is at it.

They go through its default logger, which no session option reaches, and Python's standard output. Both are of the whole
process: a thread that gave them back while another still held them would let words through, or put the wrong ones back.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator

import onnxruntime as ort

FATAL, _WARNING = 4, 2


class _Silence:
    def __init__(self) -> None:
        self._lock, self._holders = threading.Lock(), 0
        self._held = contextlib.ExitStack()

    @contextlib.contextmanager
    def __call__(self) -> Iterator[None]:
        """Hold back; the last one to leave gives back."""
        with self._lock:
            self._holders += 1
            if self._holders == 1:
                ort.set_default_logger_severity(FATAL)
                self._held.callback(ort.set_default_logger_severity, _WARNING)
                self._held.enter_context(contextlib.redirect_stdout(None))
        try:
            yield
        finally:
            with self._lock:
                self._holders -= 1
                if not self._holders:
                    self._held.close()


silence = _Silence()
