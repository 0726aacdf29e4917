"""Asked: what a session may be asked for, and what of it the provider cannot have."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Literal, get_args

from ampgraph.errors import OptionError
from ampgraph.onnx_model.run import CPU, CUDA, Provider

ConvSearch = Literal["EXHAUSTIVE", "HEURISTIC", "DEFAULT"]
USUAL_SEARCH: ConvSearch = "EXHAUSTIVE"


def verify(choices: Mapping[str, object], recorded: object, conv_search: object, provider_options: object) -> None:
    """Raise OptionError for what means nothing to any provider. `choices`: "auto", True or False, by argument."""
    for name, choice in choices.items():
        if not isinstance(choice, bool) and choice != "auto":
            raise OptionError(name, f"is {choice!r}", "give True, False or 'auto'")
    if not isinstance(recorded, bool):
        raise OptionError("recorded", f"is {recorded!r}", "give True or False")
    if conv_search not in get_args(ConvSearch):
        raise OptionError("conv_search", f"is {conv_search!r}", f"choose one of {', '.join(get_args(ConvSearch))}")
    if not isinstance(provider_options or {}, Mapping):
        fact = f"is of type {type(provider_options).__name__}"
        raise OptionError("provider_options", fact, 'give text by name: {"arena_extend_strategy": "kSameAsRequested"}')


def lacking(
    provider: Provider, asked: Mapping[str, object], conv_search: str, provider_options: object
) -> Iterator[str]:
    """Notes on what was asked for and cannot be had on this provider."""
    wanted = {
        "channels last": asked["nhwc"] is True and provider != CUDA,
        "TF32": asked["tf32"] is True and provider == CPU,
        f"conv_search {conv_search}": conv_search != USUAL_SEARCH and provider != CUDA,
        "options of the provider": bool(provider_options) and provider == CPU,
    }
    yield from (
        f"without {what}, which {CUDA} has and {provider} has not" for what, is_lost in wanted.items() if is_lost
    )
