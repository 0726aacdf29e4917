"""Quiet: without what torch tells of a trace by itself, which is an answer and no error.

The tracer is asked for more than one way, and operations whether they take low precision; what comes of it is said in
one line. What was asked for by TORCH_LOGS is still told.
"""

from __future__ import annotations

import logging
import threading
import warnings
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

from torch.export import _trace

from ampgraph.intercept import intercepted

_LOGGERS = ("torch._subclasses.fake_tensor", "torch.fx.experimental.symbolic_shapes", "torch.export._trace")


@contextmanager
def quietly() -> Iterator[None]:
    """Without torch's logs of errors, its warnings, and the graphs that it prints when it cannot finish them."""
    here, torch_logger = threading.get_ident(), logging.getLogger("torch")

    def passes(record: logging.LogRecord) -> bool:
        return record.thread != here or record.levelno < logging.WARNING

    with ExitStack() as stack:
        stack.callback(torch_logger.setLevel, torch_logger.level)
        torch_logger.setLevel(logging.CRITICAL)
        for logger in map(logging.getLogger, _LOGGERS):  # to which torch gives levels of their own
            logger.addFilter(passes)
            stack.callback(logger.removeFilter, passes)
        stack.enter_context(intercepted(_trace, "print", print, lambda *_, **__: None))
        stack.enter_context(warnings.catch_warnings())
        warnings.simplefilter("ignore")
        yield
