"""ampgraph: a mixed-precision compiler pass with every cast visible.

`convert` turns a float32 model into one that computes in float16 or bfloat16 where that is safe and worth it.
`trace` turns a torch module into one that trains in mixed precision.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ampgraph.api import Result, convert
    from ampgraph.errors import (
        AmpgraphError,
        CheckError,
        ModelError,
        OptionError,
        PlanError,
        RequirementError,
        RuleError,
        TrainError,
    )
    from ampgraph.fx_module.loss_scaler import LossScaler
    from ampgraph.fx_module.module import TracedModule
    from ampgraph.fx_module.trace import trace
    from ampgraph.fx_module.train_step import TrainStep
    from ampgraph.inspection.inspect import Inspection, inspect
    from ampgraph.onnx_model.recorded import diff
    from ampgraph.onnx_model.session import Session
    from ampgraph.onnx_model.side_by_side import compare
    from ampgraph.options import Options

__version__ = "0.1.0"
__all__ = [
    "AmpgraphError",
    "CheckError",
    "Inspection",
    "LossScaler",
    "ModelError",
    "OptionError",
    "Options",
    "PlanError",
    "RequirementError",
    "Result",
    "RuleError",
    "Session",
    "TracedModule",
    "TrainError",
    "TrainStep",
    "__version__",
    "compare",
    "convert",
    "diff",
    "inspect",
    "trace",
]

_HOMES = {
    "AmpgraphError": "ampgraph.errors",
    "CheckError": "ampgraph.errors",
    "Inspection": "ampgraph.inspection.inspect",
    "LossScaler": "ampgraph.fx_module.loss_scaler",
    "ModelError": "ampgraph.errors",
    "OptionError": "ampgraph.errors",
    "Options": "ampgraph.options",
    "PlanError": "ampgraph.errors",
    "RequirementError": "ampgraph.errors",
    "Result": "ampgraph.api",
    "RuleError": "ampgraph.errors",
    "Session": "ampgraph.onnx_model.session",
    "TracedModule": "ampgraph.fx_module.module",
    "TrainError": "ampgraph.errors",
    "TrainStep": "ampgraph.fx_module.train_step",
    "compare": "ampgraph.onnx_model.side_by_side",
    "convert": "ampgraph.api",
    "inspect": "ampgraph.inspection.inspect",
    "diff": "ampgraph.onnx_model.recorded",
    "trace": "ampgraph.fx_module.trace",
}


def __getattr__(name: str) -> Any:  # noqa: ANN401
    """Load public names on first use: importing ampgraph loads neither onnx nor torch."""
    import importlib

    if name not in _HOMES:
        raise AttributeError(f"module 'ampgraph' has no attribute {name!r}")
    return getattr(importlib.import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
