"""Intercept: a function of torch's that does something of ours as well, while one thread traces a module."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import ModuleType
from typing import Any

Method = Callable[..., Any]

_LOCK = threading.RLock()
_MISSING = object()


@contextmanager
def intercepted(
    owner: type | ModuleType, name: str, method: Method, replacement: Method, *, of_class: bool = False
) -> Iterator[None]:
    """Until it is left, `owner.name` is `replacement` in this thread and `method` in all others.

    Both are called with all arguments, the object (`of_class`: the class) first. One thread at a time traces.
    """
    with _LOCK:
        here = threading.get_ident()

        def chosen(*args: Any, **kwargs: Any) -> Any:  # noqa: ANN401
            return (replacement if threading.get_ident() == here else method)(*args, **kwargs)

        before = owner.__dict__.get(name, _MISSING)
        setattr(owner, name, classmethod(chosen) if of_class else chosen)
        try:
            yield
        finally:
            if before is _MISSING:
                delattr(owner, name)
            else:
                setattr(owner, name, before)
