"""User code: which line of it an error comes from, or a call that is being made."""

from __future__ import annotations

import linecache
import sys
import sysconfig
import traceback
from functools import cache
from pathlib import Path
from types import FrameType

import torch

_OURS = str(Path(__file__).parent)
_EXPORTERS = ("onnxscript", "onnx_ir")  # beside torch, whose frames are nobody's code


def user_line(error: BaseException) -> str:
    """`file:line (code)` of the deepest frame that is neither torch's, Python's nor ours; "" where there is none."""
    found = ""
    each: BaseException | None = error
    while each is not None and not found:
        for frame in traceback.extract_tb(each.__traceback__):
            if is_user_code(frame.filename):
                found = _shown(frame.filename, frame.lineno)
        each = each.__cause__ or each.__context__
    return found


def calling_line() -> str:
    """The same for the call that is being made, as far as the module that is traced: what called us is not meant."""
    frame: FrameType | None = sys._getframe(1)
    while frame is not None and frame.f_code.co_filename.startswith(_OURS):
        frame = frame.f_back
    while frame is not None and not frame.f_code.co_filename.startswith(_OURS):
        if is_user_code(frame.f_code.co_filename):
            return _shown(frame.f_code.co_filename, frame.f_lineno)
        frame = frame.f_back
    return ""


def _shown(file: str, line: int | None) -> str:
    return f"{file}:{line} ({linecache.getline(file, line or 0).strip()})"


@cache
def is_user_code(file: str) -> bool:
    """Whether a file is neither torch's, nor Python's, nor ours."""
    paths = sysconfig.get_paths()
    libraries = tuple(str(Path(paths["purelib"], name)) for name in _EXPORTERS)
    ours = (str(Path(torch.__file__).parent), _OURS, *libraries)
    python = file.startswith(paths["stdlib"]) and not file.startswith(paths["purelib"])
    return not (file.startswith("<") or file.startswith(ours) or python)
