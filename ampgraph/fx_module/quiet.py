"""Quiet: what torch would tell about a trace that fails on the way, which is an answer and no error.

The tracer is asked for more than one way, and operations whether they take low precision; what comes of it is said in
one line. What was asked for by TORCH_LOGS is still told.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

from torch.export import _trace

from ampgraph.fx_module.intercept import intercepted

_LOGGERS = ("torch._subclasses.fake_tensor", "torch.fx.experimental.symbolic_shapes", "torch.export._trace")


@contextmanager
def hushed() -> Iterator[None]:
    """A context in which torch logs no errors of this thread's traces and prints no graphs that were not finished."""
    here = threading.get_ident()

    def passes(record: logging.LogRecord) -> bool:
        return record.thread != here or record.levelno < logging.WARNING

    with ExitStack() as stack:
        for logger in map(logging.getLogger, _LOGGERS):
            logger.addFilter(passes)
            stack.callback(logger.removeFilter, passes)
        stack.enter_context(intercepted(_trace, "print", print, lambda *_, **__: None))
        yield
