"""`ampgraph.Session`: a model opened the way that runs fastest where it is opened, which says what it could not do."""

from __future__ import annotations

import threading
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from itertools import count
from typing import Any, TypeVar

import onnxruntime as ort

from ampgraph.errors import ModelError, OptionError
from ampgraph.onnx_model import buffers
from ampgraph.onnx_model.arrays import taken
from ampgraph.onnx_model.asked import USUAL_SEARCH, ConvSearch, lacking, verify
from ampgraph.onnx_model.asked_shapes import as_argument, contradictions, refuse_unlike
from ampgraph.onnx_model.bound import Bound, unbound
from ampgraph.onnx_model.buffers import NO_GRAPH, Buffers
from ampgraph.onnx_model.cpu_nodes import CpuNode, cpu_nodes, warning_line, without_shape_arithmetic
from ampgraph.onnx_model.dimensions import symbol_sizes
from ampgraph.onnx_model.io import Loaded, first_line, reason
from ampgraph.onnx_model.native.opening import (
    MISSING,
    OUR_ERRORS,
    UNUSED,
    Find,
    by_rule,
    counts_on_kernels,
    may_gain,
    with_kernels,
)
from ampgraph.onnx_model.native.rewrite import rewrite
from ampgraph.onnx_model.preferences import CONVOLUTIONS
from ampgraph.onnx_model.run import CPU, CUDA, fitted, run
from ampgraph.onnx_model.setup import (
    GRAPH,
    NHWC,
    Record,
    chosen_provider,
    first_setup,
    opened,
    read_record,
    settled,
    without,
)
from ampgraph.onnx_model.sources import as_loaded
from ampgraph.options import as_shapes
from ampgraph.settings import Choice, MeasuredSetting, Setting

Made = TypeVar("Made")
NO_ROOM = "Failed to allocate memory"  # what onnxruntime says of a value that is too large
MOST_GRAPHS = 16  # captured per session: each holds its inputs and outputs on the device


class Session:
    """An onnxruntime session on CUDA where that really opens, with CUDA graphs where they can be had, else on the CPU.

    Outputs come by name, as numpy arrays (lists of them where an output is a sequence):

        session = ampgraph.Session("m.float16.onnx")
        y = session.run({"x": array})["y"]

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
      opens, and what it kept from becoming a CUDA graph can become one. Runs of other shapes fail. Raises OptionError
      for shapes that the model's inputs cannot have.
    - `native`: kernels of our own for what onnxruntime takes several for in float16; True raises ModelError where none
      of them can be had. "auto" takes all where the file records that they are the fastest; else, in CUDA graphs of
      known shapes, all, convolutions among them where images are seldom turned for others; and otherwise those that
      need no search and save launches. It goes on without them where it must.
    - `recorded`: what is left at "auto" is as the file records that it was measured (`convert --tune`), where it does,
      and that can be had on this provider; else, or with False, by rules of what the model is. `notes` say which.

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
        conv_search: ConvSearch = USUAL_SEARCH,
        provider_options: Mapping[str, str] | None = None,
        shapes: Mapping[str, Sequence[int]] | None = None,
        native: Choice = "auto",
        recorded: bool = True,
    ) -> None:
        self._asked: dict[str, Choice] = {"cuda_graph": cuda_graph, "nhwc": nhwc, "tf32": tf32}
        verify({**self._asked, "native": native}, recorded, conv_search, provider_options)
        self._loaded = as_loaded(model)
        self._place = str(self._loaded.path or self._loaded.model.graph.name or "model")
        chosen = chosen_provider(provider)
        self._record = read_record(self._loaded.model, chosen, cuda_graph) if recorded else Record()
        self._notes = [*filter(None, [self._record.note])]
        sizes = as_shapes(shapes)
        refuse_unlike(self._loaded.model, sizes, as_argument)
        setup = first_setup(chosen, cuda_graph, self._record.measured)
        setup = replace(setup, conv_search=conv_search, more=dict(provider_options or {}))
        setup = replace(setup, sizes=symbol_sizes(self._loaded.model, sizes))
        self._setup = settled(setup, self._loaded.model, self._asked)
        self._lock, self._ids = threading.RLock(), count(1)
        self._plain: Loaded | None = None  # the model without kernels of our own that nobody asked for
        self._seen: set[Any] = set()  # shapes that came once
        self._captured: dict[Any, Buffers] = {}  # by shapes
        self._session = self._first_opened(native, sizes)
        self._notes += lacking(chosen, {"nhwc": nhwc, "tf32": tf32}, conv_search, provider_options)
        self._notes += contradictions(self._loaded.model, sizes)
        if self._setup.provider == CUDA and not self.native and counts_on_kernels(self._loaded.model):
            self.note(UNUSED)
        self.on_cpu = self._fallen()
        self._check_graph()

    @classmethod
    def fastest(
        cls,
        model: Any,  # noqa: ANN401
        feeds: Mapping[str, Any],
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
    def native(self) -> bool:
        """Whether kernels of our own are in use."""
        return self._setup.library is not None

    @property
    def recorded(self) -> MeasuredSetting | None:
        """The setting that the file records and the session is in, as far as it was left to it."""
        return self._record.measured

    @property
    def notes(self) -> tuple[str, ...]:
        """What was done as the file records, and what was not done as asked for, and why."""
        return tuple(self._notes)

    @property
    def inputs(self) -> dict[str, str]:
        """Names of the inputs with onnxruntime's words for their types."""
        return {value.name: value.type for value in self._session.get_inputs()}

    def note(self, said: str) -> None:
        """Add to `notes` what whoever opened the session found out."""
        self._notes.append(said)

    def run(self, feeds: Mapping[str, Any]) -> dict[str, Any]:
        """Run once: arrays by input name in, outputs by name out.

        Arrays are numpy's, or what numpy reads: tensors of torch wherever they are, numbers, lists. A float32 array is
        cast where the model takes a low type. Outputs are numpy arrays in the types that the model gives (bfloat16 and
        float8 as of ml_dtypes), each the caller's own; a sequence is a list of arrays, an optional that is empty None.
        Raises OptionError for names that are not the model's and what is no array, ModelError for what does not run.
        """
        given = self._given(feeds)
        with self._lock:
            graph = self._graph_for(given)
            if graph is None:
                return self._guarded(lambda: run(self._session, given, buffers.run_options(NO_GRAPH)))
            graph.fill(given)
            graph.run()
            return graph.outputs()

    def bind(self, feeds: Mapping[str, Any]) -> Bound:
        """Put inputs on the device and run once: captured as a CUDA graph of its own where that is in use."""
        given = self._given(feeds)
        if not buffers.is_bindable(self._session):
            return unbound(lambda: self._guarded(lambda: run(self._session, given)))
        with self._lock:
            bound = self._capture(given) if self._setup.cuda_graph else None
            bound = bound or self._placed(given)
        return Bound(partial(self._run_alone, bound), bound.wait, bound.outputs, bound.graph_id != NO_GRAPH)

    def _run_alone(self, bound: Buffers) -> None:
        """Run, one thread at a time: kernels of our own share what they work in."""
        with self._lock:
            bound.run()

    def _first_opened(self, native: Choice, shapes: Mapping[str, Sequence[int]]) -> ort.InferenceSession:
        """Open as asked for and recorded; by the rules where what is recorded cannot be had here."""
        loaded, setup = self._loaded, self._setup
        wanted = setup.recorded.native if native == "auto" else native
        try:
            if wanted is True:
                self._take_kernels(shapes)
            elif wanted == "auto":
                self._take_kernels_by_rule(shapes)
            return self._open()
        except ModelError as error:
            if native is True or self._record.measured is None:
                raise
            self._record = Record(None, f"not in the setting that the file records: {error.fact}")
        self._loaded, self._notes = loaded, [self._record.note]
        self._setup = settled(replace(setup, recorded=Setting()), loaded.model, self._asked)
        return self._open()

    def _take_kernels_by_rule(self, shapes: Mapping[str, Sequence[int]]) -> None:
        """Those that the rule takes, where there are any: nobody asked for them, so it is no error where not."""
        if self._setup.provider != CUDA or not may_gain(self._loaded.model):
            return
        plain = self._loaded
        try:
            self._take_kernels(shapes, partial(by_rule, cuda_graph=self._setup.cuda_graph))
            self._plain = plain
        except ModelError as error:
            self._notes += [error.fact] if error.fact.startswith(MISSING) else []

    def _without_kernels(self, said: str) -> bool:
        """Leave kernels of our own that nobody asked for; False where there are none of those."""
        if self._plain is None:
            return False
        self._loaded, self._plain = self._plain, None
        self._setup = settled(replace(self._setup, library=None), self._loaded.model, self._asked)
        self._captured.clear()
        self.note(f"without kernels of our own: {said}")
        return True

    def _take_kernels(self, shapes: Mapping[str, Sequence[int]], find: Find = rewrite) -> None:
        own = with_kernels(self._loaded, shapes, self._place, self._setup.provider, find)
        self._loaded, self._setup = own.loaded, replace(self._setup, library=own.library)
        self._setup = settled(self._setup, self._loaded.model, self._asked)
        self.note(f"kernels of our own: {own.words}")

    def _open(self) -> ort.InferenceSession:
        """Open as asked for, without what "auto" can do without where it does not open so."""
        while True:
            try:
                return opened(self._loaded, self._setup)
            except OptionError:
                raise
            except Exception as error:  # onnxruntime's exceptions share no base class
                said = reason(error)
            if self._without_kernels(said):
                continue
            given_up, self._setup = without(self._setup, self._asked, said)
            if not given_up:
                shapes = "the shapes that are given, " if self._setup.sizes else ""
                remedy = f"check {shapes}the model, or choose another provider"
                raise ModelError(self._place, f"does not open on {self._setup.provider} ({said})", remedy)
            self._settle(given_up)
            self._notes.append(f"without {given_up}: {said}")

    def _settle(self, given_up: str) -> None:
        """What was left to us may be another without what was given up."""
        if given_up == NHWC:
            self._asked["nhwc"] = False
        self._setup = settled(self._setup, self._loaded.model, self._asked)

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

    def _given(self, feeds: Mapping[str, Any]) -> dict[str, Any]:
        return fitted(self._session, taken(feeds, self.inputs, f"feeds of {self._place}"))

    def _guarded(self, work: Callable[[], Made]) -> Made:
        try:
            return work()
        except Exception as error:  # onnxruntime's exceptions share no base class
            whole = first_line(error)
            said = reason(error)
            ours = OUR_ERRORS in whole and self._without_kernels(said)
            if not ours and not (any(name in whole for name in CONVOLUTIONS) and self._without_layout(said)):
                fact = f"does not run on these inputs ({said})"
                remedy = "give smaller ones" if NO_ROOM in whole else "check their shapes and types"
                raise ModelError(self._place, fact, remedy) from None
        self._session = self._open()
        return self._guarded(work)

    def _without_layout(self, said: str) -> bool:
        """Leave channels last that nobody asked for, which not every convolution has a kernel for; False without."""
        if not self._setup.nhwc or self._asked["nhwc"] != "auto":
            return False
        self._asked["nhwc"] = False
        self._setup = settled(self._setup, self._loaded.model, self._asked)
        self._captured.clear()
        self.note(f"without {NHWC}: {said}")
        return True

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

        def placed() -> Buffers:
            bound = buffers.bind(self._session, given)
            bound.run()
            return bound

        return self._guarded(placed)

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
            raise ModelError(self._place, f"cannot run as a CUDA graph ({reason})", "leave the graph out")
        self._notes.append(f"without a CUDA graph: {reason}")
        self._setup = replace(self._setup, cuda_graph=False)
        self._settle(GRAPH)
        self._captured.clear()
        self._session = self._open()
