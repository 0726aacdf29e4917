"""The errors a user can cause; each is one line that names the place, the fact and the remedy."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ampgraph.onnx_model.check import Check


class AmpgraphError(Exception):
    """A mistake that the caller can mend.

    `place` is a file, node or option; `fact` says what was found there; `remedy` says what to do about it.
    """

    exit_code = 2

    def __init__(self, place: str, fact: str, remedy: str = "") -> None:
        self.place, self.fact, self.remedy = place, fact, remedy
        line = f"{place}: {fact.rstrip('.')}; {remedy}" if remedy else f"{place}: {fact}"
        super().__init__(" ".join(line.split()))


class ModelError(AmpgraphError):
    """The model file or graph cannot be converted as it is."""


class OptionError(AmpgraphError):
    """An option has a value that means nothing here."""


class RuleError(AmpgraphError):
    """A rule file cannot be read; the place names its line and key."""


class PlanError(AmpgraphError):
    """A plan breaks one of its laws."""


class TrainError(AmpgraphError, RuntimeError):
    """A training step cannot be done as it is written. A RuntimeError too, which is what torch's own scaler raises."""


class RequirementError(AmpgraphError):
    """A `--require` threshold is not met; nothing is written."""

    exit_code = 3


class CheckError(AmpgraphError):
    """`--check` found answers outside the tolerance, or a conversion that does not run; nothing is written.

    `check`: all that it found.
    """

    exit_code = 1

    def __init__(self, place: str, fact: str, remedy: str, check: Check) -> None:
        self.check = check
        super().__init__(place, fact, remedy)
