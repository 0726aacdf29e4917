"""`ampgraph.Session`: a model opened the way that runs fastest where it is opened, which says what it could not do."""

from __future__ import annotations

import threading
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import count
from pathlib import Path
from typing import Any, Literal, TypeVar

import numpy as np
import onnxruntime as ort
from onnx import ModelProto

from ampgraph.errors import ModelError, OptionError
from ampgraph.onnx_model import buffers
from ampgraph.onnx_model.buffers import NO_GRAPH, Buffers
from ampgraph.onnx_model.cpu_nodes import RECORD, CpuNode, cpu_nodes, warning_line, without_shape_arithmetic
from ampgraph.onnx_model.io import Loaded, first_line
from ampgraph.onnx_model.native.opening import with_kernels
from ampgraph.onnx_model.plain_casts import with_plain_casts
from ampgraph.onnx_model.preferences import (
    has_biases_apart,
    has_grouped_convolutions,
    prefers_channels_last,
    prefers_tf32,
)
from ampgraph.onnx_model.run import CPU, CUDA, TENSORRT, Feed, Provider, best_provider, fitted, open_session, run
from ampgraph.onnx_model.sources import as_loaded

Made = TypeVar("Made")
Choice = bool | Literal["auto"]
ConvSearch = Literal["EXHAUSTIVE", "HEURISTIC", "DEFAULT"]
PROVIDERS: Mapping[str, Provider] = {"best": "best", "cpu": CPU, "cuda": CUDA, "tensorrt": TENSORRT}
# Where shapes are fixed onnxruntime makes a product and the sum after it one Gemm, which hides the sum from its own
# BiasGelu and copies the bias out first. On one H200, 6,304 x 768 by 768 x 3,072 and GELU, float16: 196 us against 99.
LEFT_OUT = ("MatMulAddFusion",)
BIAS_FUSION = "ConvAddFusion"  # puts the biases back that fusing took apart (fuse/bias.py)
GRAPH, NHWC = "a CUDA graph", "channels last"  # what "auto" can give up
MOST_GRAPHS = 16  # captured per session: each holds its inputs and outputs on the device


@dataclass(frozen=True)
class Bound:
    """A model on one set of inputs that lie where it reads them: a run copies nothing, so it can be timed.

    `run` runs once, `wait` returns when the device has finished, `outputs` copies what the last run computed.
    `cuda_graph`: a run replays a captured CUDA graph.
    """

    run: Callable[[], None]
    wait: Callable[[], None]
    outputs: Callable[[], dict[str, Any]]
    cuda_graph: bool = False


@dataclass(frozen=True)
class _Setup:
    """How a session is opened."""

    provider: Provider
    tf32: bool
    cuda_graph: bool
    nhwc: bool
    conv_search: str
    more: Mapping[str, str] = field(default_factory=dict)
    sizes: Mapping[str, int] = field(default_factory=dict)  # of free dimensions, by symbol
    library: Path | None = None  # of kernels of our own


class Session:
    """An onnxruntime session on CUDA where that really opens, with CUDA graphs where they can be had, else on the CPU.

    - `model`: a path, `onnx.ModelProto`, `onnx_ir.Model` or torch `ONNXProgram`.
    - `provider`: "best", "cpu", "cuda" or "tensorrt", or onnxruntime's name of it.
    - `tf32`: float32 products in TF32, as onnxruntime does unless told otherwise; "auto" without for small models of
      sound that run without CUDA graphs.
    - `cuda_graph`: replay one captured CUDA graph per set of input shapes. "auto" falls back to plain runs and says why
      in `notes`; True raises ModelError instead. `run` under "auto" captures when shapes come a second time.
    - `nhwc`: convolutions with channels last; "auto" in low precision, and in TF32 where none works in groups or all
      are along one axis.
    - `conv_search`: how cuDNN chooses convolution algorithms: "EXHAUSTIVE", "HEURISTIC" or "DEFAULT".
    - `provider_options`: further options of the CUDA or TensorRT provider.
    - `shapes`: of the inputs, by name, where they never change: shape arithmetic is then done once, when the session
      opens, and what it kept from becoming a CUDA graph can become one. Runs of other shapes fail.
    - `native`: kernels of our own for float16 convolutions and the like; ModelError where none of them can be had.

    `providers` are those in use, `on_cpu` the nodes that fell to the CPU provider although a GPU is in use, without the
    shape arithmetic that onnxruntime puts there on purpose; a RuntimeWarning names them.
    """

    def __init__(
        self,
        model: Any,  # noqa: ANN401  (the types of four libraries)
        *,
        provider: str = "best",
        tf32: Choice = "auto",
        cuda_graph: Choice = "auto",
        nhwc: Choice = "auto",
        conv_search: ConvSearch = "EXHAUSTIVE",
        provider_options: Mapping[str, str] | None = None,
        shapes: Mapping[str, Sequence[int]] | None = None,
        native: bool = False,
    ) -> None:
        self._loaded = as_loaded(model)
        self._place = str(self._loaded.path or self._loaded.model.graph.name or "model")
        self._asked: dict[str, Choice] = {"cuda_graph": cuda_graph, "nhwc": nhwc, "tf32": tf32}
        self._notes: list[str] = []
        self._setup = _settled(_setup(provider, cuda_graph), self._loaded.model, self._asked)
        self._setup = replace(self._setup, conv_search=conv_search, more=dict(provider_options or {}))
        self._setup = replace(self._setup, sizes=symbol_sizes(self._loaded.model, shapes or {}))
        if native:
            self._take_kernels(shapes or {})
        self._lock, self._ids = threading.RLock(), count(1)
        self._seen: set[Any] = set()  # shapes that came once
        self._captured: dict[Any, Buffers] = {}  # by shapes
        self._session = self._open()
        self.on_cpu = self._fallen()
        self._check_graph()

    @classmethod
    def fastest(
        cls,
        model: Any,  # noqa: ANN401
        feeds: Mapping[str, Feed],
        **settings: Any,  # noqa: ANN401
    ) -> Session:
        """The session of this model that runs fastest on `feeds`: all layouts, TF32 or not, timed side by side.

        `settings`: provider, cuda_graph and shapes, as above. Takes as long as opening some six sessions.
        """
        from ampgraph.onnx_model.fastest import fastest

        return fastest(model, feeds, **settings)

    @property
    def providers(self) -> tuple[str, ...]:
        """The providers in use, first the one that is preferred."""
        return tuple(self._session.get_providers())

    @property
    def provider(self) -> str:
        """The provider that is preferred."""
        return self.providers[0]

    @property
    def cuda_graph(self) -> bool:
        """Whether runs may replay CUDA graphs."""
        return self._setup.cuda_graph

    @property
    def nhwc(self) -> bool:
        """Whether convolutions run with channels last."""
        return self._setup.nhwc

    @property
    def notes(self) -> tuple[str, ...]:
        """What was not done as asked for, and why."""
        return tuple(self._notes)

    @property
    def inputs(self) -> dict[str, str]:
        """Names of the inputs with onnxruntime's words for their types."""
        return {value.name: value.type for value in self._session.get_inputs()}

    def note(self, said: str) -> None:
        """Add to `notes` what whoever opened the session found out."""
        self._notes.append(said)

    def run(self, feeds: Mapping[str, Feed]) -> dict[str, Any]:
        """Outputs by name; a float32 array is cast where the model takes a low type."""
        given = self._given(feeds)
        with self._lock:
            graph = self._graph_for(given)
            if graph is None:
                return self._guarded(lambda: run(self._session, given, buffers.run_options(NO_GRAPH)))
            graph.fill(given)
            graph.run()
            return graph.outputs()

    def bind(self, feeds: Mapping[str, Feed]) -> Bound:
        """Put inputs on the device and run once: captured as a CUDA graph of its own where that is in use."""
        given = self._given(feeds)
        if not buffers.is_bindable(self._session):
            return _unbound(lambda: self._guarded(lambda: run(self._session, given)))
        with self._lock:
            bound = self._capture(given) if self._setup.cuda_graph else None
            bound = bound or self._placed(given)
        return Bound(bound.run, bound.wait, bound.outputs, bound.graph_id != NO_GRAPH)

    def _take_kernels(self, shapes: Mapping[str, Sequence[int]]) -> None:
        own = with_kernels(self._loaded, shapes, self._place, self._setup.provider)
        self._loaded, self._setup = own.loaded, replace(self._setup, library=own.library)
        self.note(f"kernels of our own: {own.words}")

    def _open(self) -> ort.InferenceSession:
        """Open as asked for, without what "auto" can do without where it does not open so."""
        while True:
            try:
                return _open(self._loaded, self._setup)
            except OptionError:
                raise
            except Exception as error:  # onnxruntime's exceptions share no base class
                said = first_line(error)[:300]
            given_up, self._setup = _without(self._setup, self._asked, said)
            if not given_up:
                remedy = "check the model, or choose another provider"
                raise ModelError(self._place, f"does not open on {self._setup.provider} ({said})", remedy)
            self._settle(given_up)
            self._notes.append(f"without {given_up}: {said}")

    def _settle(self, given_up: str) -> None:
        """What was left to us may be another without what was given up."""
        if given_up == NHWC:
            self._asked["nhwc"] = False
        self._setup = _settled(self._setup, self._loaded.model, self._asked)

    def _fallen(self) -> tuple[CpuNode, ...]:
        if self._setup.provider == CPU:
            return ()
        fallen = without_shape_arithmetic(cpu_nodes(self._session), self._loaded.model)
        if fallen:
            self._notes.append(warning_line(fallen, self._setup.provider))
            warnings.warn(f"{self._place}: {self._notes[-1]}", RuntimeWarning, stacklevel=3)
        return fallen

    def _check_graph(self) -> None:
        """A replay sees only what lies on the device: an input that is read on the CPU would keep its first value."""
        if not self._setup.cuda_graph:
            return
        if not buffers.is_bindable(self._session):
            self._without_graph("an input or output is no tensor of numbers")
        elif on_host := buffers.read_on_host(self._session):
            self._without_graph(f"{', '.join(on_host)} is read on the CPU, where a replay would not see it change")

    def _given(self, feeds: Mapping[str, Feed]) -> dict[str, Any]:
        names = list(self.inputs)
        for name in feeds.keys() ^ set(names):
            fact = f"lack the input {name!r}" if name in names else f"hold {name!r}, which is no input"
            raise OptionError(f"feeds of {self._place}", fact, f"give {', '.join(names)}")
        return {name: _contiguous(feed) for name, feed in fitted(self._session, feeds).items()}

    def _guarded(self, work: Callable[[], Made]) -> Made:
        try:
            return work()
        except Exception as error:  # onnxruntime's exceptions share no base class
            fact = f"does not run on these inputs ({first_line(error)[:300]})"
            raise ModelError(self._place, fact, "check their shapes and types") from None

    def _graph_for(self, given: Mapping[str, Any]) -> Buffers | None:
        if not self._setup.cuda_graph:
            return None
        shapes = tuple((name, array.shape, str(array.dtype)) for name, array in sorted(given.items()))
        if shapes in self._captured:
            return self._captured[shapes]
        if shapes not in self._seen and self._asked["cuda_graph"] == "auto":
            self._seen.add(shapes)
            return None
        if len(self._captured) >= MOST_GRAPHS:
            note = f"without a CUDA graph for more than {MOST_GRAPHS} sets of input shapes"
            self._notes += [note] if note not in self._notes else []
            return None
        graph = self._capture(given)
        if graph is not None:
            self._captured[shapes] = graph
        return graph

    def _placed(self, given: Mapping[str, Any]) -> Buffers:
        """Inputs in place, run once: what is wrong with them is found here, and not taken for a failed capture."""
        bound = self._guarded(lambda: buffers.bind(self._session, given))
        self._guarded(bound.run)
        return bound

    def _capture(self, given: Mapping[str, Any]) -> Buffers | None:
        plain = self._placed(given)
        try:
            return buffers.capture(plain, next(self._ids))
        except Exception as error:  # as above
            self._without_graph(error.fact if isinstance(error, ModelError) else first_line(error)[:300])
        return None

    def _without_graph(self, reason: str) -> None:
        """Open anew without CUDA graphs: after a capture that failed, a session's stream is not to be trusted."""
        if self._asked["cuda_graph"] is True:
            raise ModelError(self._place, f"cannot run as a CUDA graph ({reason})", "leave cuda_graph at 'auto'")
        self._notes.append(f"without a CUDA graph: {reason}")
        self._setup = replace(self._setup, cuda_graph=False)
        self._settle(GRAPH)
        self._captured.clear()
        self._session = self._open()


def chosen_provider(name: str) -> Provider:
    """The provider of a short or full name; for "best", the one that really opens."""
    known = {**PROVIDERS, **{value.lower(): value for value in PROVIDERS.values()}}
    if name.lower() not in known:
        raise OptionError(f"--provider {name}", "is no provider", f"choose one of {', '.join(PROVIDERS)}")
    chosen = known[name.lower()]
    return best_provider() if chosen == "best" else chosen


def _setup(provider: str, cuda_graph: Choice) -> _Setup:
    name = chosen_provider(provider)
    if cuda_graph is True and name != CUDA:
        raise OptionError("cuda_graph", f"is asked for, but {name} is in use", "leave it at 'auto', or use CUDA")
    return _Setup(name, tf32=True, cuda_graph=name == CUDA and bool(cuda_graph), nhwc=False, conv_search="")


def _settled(setup: _Setup, model: ModelProto, asked: Mapping[str, Choice]) -> _Setup:
    """The setup with TF32 and layout as asked for; by what the model is and how it runs where that is "auto"."""
    tf32 = prefers_tf32(model, setup.cuda_graph) if asked["tf32"] == "auto" else asked["tf32"]
    nhwc = prefers_channels_last(model, bool(tf32)) if asked["nhwc"] == "auto" else asked["nhwc"]
    return replace(setup, tf32=bool(tf32), nhwc=setup.provider == CUDA and bool(nhwc))


def _open(loaded: Loaded, setup: _Setup) -> ort.InferenceSession:
    options = dict(setup.more)
    if setup.provider == CUDA:
        options = {
            "prefer_nhwc": str(int(setup.nhwc)),
            "fuse_conv_bias": str(int(setup.nhwc and not has_grouped_convolutions(loaded.model))),
            "enable_cuda_graph": str(int(setup.cuda_graph)),
            "cudnn_conv_algo_search": setup.conv_search,
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


def symbol_sizes(model: ModelProto, shapes: Mapping[str, Sequence[int]]) -> dict[str, int]:
    """What the symbols of free dimensions stand for in these shapes; one of several sizes is none (exporters' "?")."""
    found: dict[str, set[int]] = {}
    for value in model.graph.input:
        for dim, size in zip(value.type.tensor_type.shape.dim, shapes.get(value.name, ()), strict=False):
            if dim.dim_param:
                found.setdefault(dim.dim_param, set()).add(size)
    return {symbol: sizes.pop() for symbol, sizes in found.items() if len(sizes) == 1}


def _without(setup: _Setup, asked: Mapping[str, Choice], said: str) -> tuple[str, _Setup]:
    """What "auto" gives up next after a complaint, in words, and the setup without it: first what it speaks of."""
    graph = setup.cuda_graph and asked["cuda_graph"] == "auto"
    nhwc = setup.nhwc and asked["nhwc"] == "auto"
    if graph and ("graph capture" in said or not nhwc):
        return GRAPH, replace(setup, cuda_graph=False)
    return (NHWC, replace(setup, nhwc=False)) if nhwc else ("", setup)


def _unbound(compute: Callable[[], dict[str, Any]]) -> Bound:
    """For inputs and outputs that onnxruntime cannot bind: sequences, text."""
    found: dict[str, Any] = {}

    def step() -> None:
        found.update(compute())

    step()
    return Bound(step, lambda: None, lambda: dict(found))


def _contiguous(feed: Feed) -> Feed:
    return np.ascontiguousarray(feed).reshape(feed.shape) if isinstance(feed, np.ndarray) else feed
