"""Setup: how a session is opened, from what is asked for, what its file records, and what the model is."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

import onnxruntime as ort
from onnx import ModelProto

from ampgraph.errors import OptionError
from ampgraph.onnx_model.cpu_nodes import RECORD
from ampgraph.onnx_model.io import Loaded
from ampgraph.onnx_model.plain_casts import with_plain_casts
from ampgraph.onnx_model.preferences import (
    has_biases_apart,
    prefers_channels_last,
    prefers_tf32,
    takes_biases_inside,
)
from ampgraph.onnx_model.run import CPU, CUDA, TENSORRT, Provider, best_provider, open_session
from ampgraph.onnx_model.timing import device_name
from ampgraph.settings import GRAPH as AS_GRAPH
from ampgraph.settings import PLAIN, SESSION_KEY, Choice, MeasuredSetting, Setting, from_text

PROVIDERS: Mapping[str, Provider] = {"best": "best", "cpu": CPU, "cuda": CUDA, "tensorrt": TENSORRT}
# Where shapes are fixed onnxruntime makes a product and the sum after it one Gemm, which hides the sum from its own
# BiasGelu and copies the bias out first. On one H200, 6,304 x 768 by 768 x 3,072 and GELU, float16: 196 us against 99.
LEFT_OUT = ("MatMulAddFusion",)
BIAS_FUSION = "ConvAddFusion"  # puts the biases back that fusing took apart (fuse/bias.py)
GRAPH, NHWC = "a CUDA graph", "channels last"  # what "auto" can give up
_RULE = Setting()


@dataclass(frozen=True)
class Setup:
    """How a session is opened."""

    provider: Provider
    tf32: bool
    cuda_graph: bool
    nhwc: bool
    conv_search: str
    more: Mapping[str, str] = field(default_factory=dict)
    sizes: Mapping[str, int] = field(default_factory=dict)  # of free dimensions, by symbol
    library: Path | None = None  # of kernels of our own
    recorded: Setting = _RULE  # what is taken where it is left to us


@dataclass(frozen=True)
class Record:
    """What a file records of a session, None where there is nothing that can be had here; `note`: words about it."""

    measured: MeasuredSetting | None = None
    note: str = ""


def chosen_provider(name: str) -> Provider:
    """The provider of a short or full name; for "best", the one that really opens."""
    if not isinstance(name, str):
        raise OptionError("provider", f"is {name!r}", f"choose one of {', '.join(PROVIDERS)}")
    known = {**PROVIDERS, **{value.lower(): value for value in PROVIDERS.values()}}
    if name.lower() not in known:
        raise OptionError(f"provider {name}", "is no provider", f"choose one of {', '.join(PROVIDERS)}")
    chosen = known[name.lower()]
    return best_provider() if chosen == "best" else chosen


def read_record(model: ModelProto, provider: Provider, cuda_graph: Choice) -> Record:
    """The setting that a file was measured in, where it was measured on this provider and for this way of running."""
    text = next((entry.value for entry in model.metadata_props if entry.key == SESSION_KEY), "")
    if not text:
        return Record()
    try:
        found = from_text(text)
    except ValueError as error:
        return Record(None, f"not in the setting that the file records: it {error}")
    if found.provider != provider:
        return Record(None, f"not in the setting that the file records: that is for {found.provider}")
    if cuda_graph not in ("auto", found.cuda_graph):
        way = AS_GRAPH if found.cuda_graph else PLAIN
        return Record(None, f"not in the setting that the file records: that is for running it {way}")
    here = device_name(provider)
    return Record(found, f"the file records: {found.words}{'' if here == found.device else f'; this is {here}'}")


def first_setup(provider: Provider, cuda_graph: Choice, recorded: MeasuredSetting | None = None) -> Setup:
    """The setup before the model is looked at. Raises OptionError for a CUDA graph that the provider cannot have."""
    if cuda_graph is True and provider != CUDA:
        raise OptionError("cuda_graph", f"is asked for, but {provider} is in use", "leave it out, or use CUDA")
    if recorded is not None and cuda_graph == "auto":
        cuda_graph = recorded.cuda_graph
    graph, setting = provider == CUDA and bool(cuda_graph), recorded.setting if recorded else _RULE
    return Setup(provider, tf32=True, cuda_graph=graph, nhwc=False, conv_search="", recorded=setting)


def settled(setup: Setup, model: ModelProto, asked: Mapping[str, Choice]) -> Setup:
    """The setup with TF32 and layout as asked for; where that is "auto" as recorded, else by what the model is."""
    tf32 = _first_said(asked["tf32"], setup.recorded.tf32, lambda: prefers_tf32(model, setup.cuda_graph))
    nhwc = _first_said(asked["nhwc"], setup.recorded.nhwc, lambda: prefers_channels_last(model, tf32))
    return replace(setup, tf32=tf32, nhwc=setup.provider == CUDA and nhwc)


def _first_said(asked: Choice, recorded: Choice, rule: Callable[[], bool]) -> bool:
    said = recorded if asked == "auto" else asked
    return rule() if said == "auto" else bool(said)


def opened(loaded: Loaded, setup: Setup) -> ort.InferenceSession:
    """Open a session so. Raises OptionError where the provider does not open here, else onnxruntime's own errors."""
    options = dict(setup.more)
    if setup.provider == CUDA:
        options = {
            "prefer_nhwc": str(int(setup.nhwc)),
            "fuse_conv_bias": str(int(setup.nhwc and takes_biases_inside(loaded.model))),
            "enable_cuda_graph": str(int(setup.cuda_graph)),
            "cudnn_conv_algo_search": setup.conv_search,
            **setup.recorded.provider_options,
            **options,
        }
    model = with_plain_casts(loaded.model)
    as_found = loaded.path if model is loaded.model else None
    session = open_session(
        as_found or model,
        provider=setup.provider,
        tf32=setup.tf32,
        provider_options=options,
        config=RECORD,
        folder=None if as_found else loaded.folder,
        sizes=setup.sizes,
        without=_left_out(loaded.model) if setup.provider == CUDA else (),
        library=setup.library,
    )
    if setup.provider not in session.get_providers():
        fact = "its libraries cannot be loaded, or there is no device"
        raise OptionError(f"provider {setup.provider}", f"does not open here: {fact}", "use the provider 'best'")
    return session


def _left_out(model: ModelProto) -> tuple[str, ...]:
    """onnxruntime's optimizations that cost time here."""
    return (*LEFT_OUT, BIAS_FUSION) if has_biases_apart(model) else LEFT_OUT


def without(setup: Setup, asked: Mapping[str, Choice], said: str) -> tuple[str, Setup]:
    """What "auto" gives up next after a complaint, in words, and the setup without it: first what it speaks of."""
    graph = setup.cuda_graph and asked["cuda_graph"] == "auto"
    nhwc = setup.nhwc and asked["nhwc"] == "auto"
    if graph and ("graph capture" in said or not nhwc):
        return GRAPH, replace(setup, cuda_graph=False)
    return (NHWC, replace(setup, nhwc=False)) if nhwc else ("", setup)
