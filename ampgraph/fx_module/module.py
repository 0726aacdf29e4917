"""TracedModule: a module whose forward is a graph with the casts in it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, fx, nn
from torch.export import ExportedProgram
from torch.utils import _pytree as pytree

from ampgraph.errors import ModelError
from ampgraph.explain import explain
from ampgraph.fx_module.bindings import bound
from ampgraph.fx_module.body import Body, Fetch, make_body
from ampgraph.fx_module.capture import Capture, capture, rule_book
from ampgraph.fx_module.copies import Copies, Key, Wanted, is_capturing, must_show
from ampgraph.fx_module.example import Example
from ampgraph.fx_module.export import DynamicShapes, export_module
from ampgraph.fx_module.frugal import frugal
from ampgraph.fx_module.own_backward import verify_call, verify_hooks
from ampgraph.fx_module.policy import Policy
from ampgraph.fx_module.summary import summary
from ampgraph.fx_module.views import settled
from ampgraph.fx_module.widening import widened
from ampgraph.options import as_text
from ampgraph.plan import Plan
from ampgraph.quiet import quietly
from ampgraph.tracing import bind, in_turn

if TYPE_CHECKING:
    from ampgraph.api import Result

Modes = tuple[bool, ...]
Owner = tuple[Mapping[str, Any], str]  # a module's parameters or buffers, and a name among them
_SHARED = (
    "_parameters", "_buffers", "_modules", "_non_persistent_buffers_set", "_state_dict_hooks", "_state_dict_pre_hooks",
    "_load_state_dict_pre_hooks", "_load_state_dict_post_hooks",
)  # fmt: skip


@dataclass(frozen=True, eq=False)
class _Ready:
    """A body with the places in this module where its state is found: what it takes as it is, and what low."""

    capture: Capture
    body: Body
    plain: list[Owner]
    low: list[Owner]
    wanted: Wanted
    knows_autocast: bool


@dataclass(frozen=True, eq=False)
class _Wiring:
    """Where a module's state and hooks are found, looked up once for each object."""

    modules: tuple[nn.Module, ...]  # the original first: its mode and this one's are the same
    owners: dict[str, Owner]
    hooks: tuple[dict[int, Any], ...]  # of all of them
    ready: dict[tuple[Modes, torch.device], _Ready] = field(default_factory=dict)

    @property
    def device(self) -> torch.device:
        """Where the first tensor is; the CPU where there is none."""
        for owner, name in self.owners.values():
            if owner[name] is not None:
                found = owner[name].device
                assert isinstance(found, torch.device)  # what tensors have
                return found
        return torch.device("cpu")


class TracedModule(nn.Module):
    """The module that `ampgraph.trace` returns. Parameters, buffers and submodules are the original's own objects.

    `train()`, `eval()` and modes of single submodules (a frozen batch normalization) choose among captured graphs; a
    combination that was not seen yet is captured when it is first called. Forward hooks that submodules had when they
    were traced are part of the graph; hooks on the traced module run as on any.
    """

    def __init__(self, original: nn.Module, example: Example, policy: Policy, dynamic_shapes: DynamicShapes) -> None:
        super().__init__()
        for name in _SHARED:
            self.__dict__[name] = original.__dict__[name]
        self.__dict__["_original"] = original
        self._example, self._policy, self._dynamic_shapes = example, policy, dynamic_shapes
        self._captures: dict[Modes, Capture] = {}
        self._bodies: dict[tuple[Modes, torch.device], Body] = {}
        self._copies = Copies()
        self._wiring: _Wiring | None = None
        self._hooks = _keys(self._wired().hooks)

    # Running

    def forward(self, *args: Any, **kwargs: Any) -> Any:  # noqa: ANN401
        """Run the graph of the present modes. Raises ModelError for arguments unlike the example's."""
        wiring = self._wiring or self._wired()
        key = self._modes(), wiring.device
        ready = wiring.ready.get(key) or self._prepare(*key)
        interface = ready.capture.interface
        flat = interface.flatten(bind(self.original, args, kwargs) if kwargs else (args, kwargs))
        state = _held(ready.plain)
        if ready.capture.losses and torch.is_grad_enabled():
            verify_call(self.original, ready.capture.losses, ready.capture.trained, flat)
        aside = _undisturbed(ready, key[1])
        if aside is None:  # by far the most calls: a context takes longer to enter than a small op
            results = ready.body.run(*state, *self._low(ready), *flat)
        else:
            with aside:
                results = ready.body.run(*state, *self._low(ready), *flat)
        return results[0] if interface.returns_one else pytree.tree_unflatten(results, interface.out_spec)

    def _low(self, ready: _Ready) -> Sequence[Tensor]:
        """The copies of parameters that a body takes, after all else of its state."""
        sources, copies = _held(ready.low), self._copies
        if torch.compiler.is_compiling():
            return [copies.take_one(key, source) for key, source in zip(ready.wanted.keys, sources, strict=True)]
        if must_show(self):
            return copies.take_shown(ready.wanted, sources)
        return copies.take(ready.wanted, sources, keep=not is_capturing())

    def _wired(self) -> _Wiring:
        if self._wiring is None:
            owners: dict[str, Owner] = {}
            for path, module in self.named_modules():
                prefix = f"{path}." if path else ""
                for holder in (module._parameters, module._buffers):
                    owners.update((f"{prefix}{name}", (holder, name)) for name in holder)
            others = [each for each in self.modules() if each is not self]
            modules = (self.original, *others)
            self._wiring = _Wiring(modules, owners, tuple(found for each in modules for found in _hooks(each)))
        return self._wiring

    def _modes(self) -> Modes:
        wiring = self._wiring or self._wired()
        if not torch.compiler.is_compiling() and _keys(wiring.hooks) != self._hooks:
            raise _unforeseen(self.original)
        return tuple([module.training for module in wiring.modules])

    def _device(self) -> torch.device:
        return self._wired().device

    @torch.compiler.disable  # type: ignore[untyped-decorator]
    def _prepare(self, modes: Modes, device: torch.device) -> _Ready:
        """What runs in these modes there, captured if it was not."""
        with in_turn():
            capture = self._captures.get(modes) or self._capture(modes)
            body = self._bodies.get((modes, device)) or self._body(modes, device)
        owners = self._wired().owners
        places = {each: _place(each, body, owners) for each in body.fetches}
        plain = [place for each, place in places.items() if each.dtype is None]
        low = [place for each, place in places.items() if each.dtype is not None]
        wanted = Wanted([(each.target, each.dtype) for each in places if each.dtype is not None])
        knows = torch.amp.is_autocast_available(device.type)
        ready = _Ready(capture, body, plain, low, wanted, knows)
        self._wired().ready[modes, device] = ready
        return ready

    @torch.compiler.disable  # type: ignore[untyped-decorator]
    def _body(self, modes: Modes, device: torch.device) -> Body:
        body = bound(frugal(settled(widened(make_body(self._captures[modes], device)))))
        self._bodies[modes, device] = body
        return body

    # Capturing

    @torch.compiler.disable  # type: ignore[untyped-decorator]
    def _capture(self, modes: Modes) -> Capture:
        """Capture the module in its present modes."""
        arguments = self._example.arguments(self._device())
        with quietly():
            found = capture(self.original, arguments, self._policy, self._dynamic_shapes)
        self._captures[modes] = found
        return found

    def capture(self) -> TracedModule:
        """Capture the present modes now rather than at the next call. Raises ModelError as `trace` does."""
        key = self._modes(), self._device()
        if key not in self._wired().ready:
            self._prepare(*key)
        return self

    @property
    def training(self) -> bool:
        """The mode of the module that was traced, whichever of the two it is set on."""
        return self.original.training

    @training.setter
    def training(self, mode: bool) -> None:
        if "_original" in self.__dict__:  # not yet while nn.Module sets itself up
            self.original.training = mode

    @property
    def original(self) -> nn.Module:
        """The module that was traced."""
        found = self.__dict__["_original"]
        assert isinstance(found, nn.Module)  # set when the module was made
        return found

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> TracedModule:
        """Move parameters and buffers. Raises ModelError where that would change their type."""
        if fn(torch.zeros(1, device=self._device())).dtype is not torch.float32:
            fact = "keeps its parameters in float32, and they were asked to change type"
            raise ModelError("traced module", fact, "ask for a low precision with trace(module, ..., precision=...)")
        super()._apply(fn, recurse)  # type: ignore[no-untyped-call]
        self._copies.release()
        self._wiring = None
        for modes in self._captures:
            self._prepare(modes, self._device())
        return self

    def read_types(self, *args: Any, **kwargs: Any) -> list[tuple[Any, torch.dtype]]:  # noqa: ANN401
        """Each argument that may come in a lower type than the example's, since the present graph does nothing with it
        but cast it to that type; with that type. The arguments may be the tensors or anything that stands for them.
        """
        flat = pytree.tree_leaves(bind(self.original, args, kwargs))
        inputs = self.captured.interface.inputs
        return [(given, each.low) for given, each in zip(flat, inputs, strict=False) if each.low is not None]

    # Copies of parameters

    def refresh_copies(self) -> None:
        """Renew the held copies of all parameters that captured graphs take low: in place, by few kernels.

        For a training step that is captured as CUDA graphs: refresh once after each optimizer step, run every
        micro-step under `held_copies`. Also to be called after parameters were written through `parameter.data`.
        """
        self.capture()
        self._copies.refresh(self._low_state())

    def held_copies(self) -> AbstractContextManager[None]:
        """A context in which forwards take the copies of the last `refresh_copies`, whatever the parameters are now.

        Gradients still reach the float32 parameters.
        """
        return self._copies.holding()

    def release_copies(self) -> None:
        """Free the memory of all copies; they are made anew when they are needed."""
        self._copies.release()

    def _low_state(self) -> Iterator[tuple[Key, Tensor]]:
        owners, device = self._wired().owners, self._device()
        seen: set[Key] = set()
        for modes in self._captures:
            body = self._bodies.get((modes, device)) or self._body(modes, device)
            for fetch in body.fetches:
                key = (fetch.target, fetch.dtype)
                if fetch.dtype is not None and fetch.kind != "constant" and key not in seen:
                    seen.add(key)  # type: ignore[arg-type]
                    owner, name = owners[fetch.target]
                    yield (fetch.target, fetch.dtype), owner[name]

    # Showing

    @property
    def captured(self) -> Capture:
        """Graph, judgement, costs and plan of the present modes."""
        return self.capture()._captures[self._modes()]

    @property
    def plan(self) -> Plan:
        """Every decision of the present modes with its precision and reason, and every cast."""
        return self.captured.plan

    @property
    def graph(self) -> fx.Graph:
        """The graph of the present modes, casts included. Parameters and buffers are its first inputs."""
        return self.captured.written

    @property
    def code(self) -> str:
        """The Python code of the graph."""
        return str(fx.GraphModule({}, self.graph).code)

    def print_readable(self, print_output: bool = True) -> str:
        """The graph as code with types, shapes and the lines of source it comes from; printed unless told otherwise."""
        module = fx.GraphModule({}, self.graph, "TracedModule")
        return str(module.print_readable(print_output=print_output))

    def explain(self, node: str) -> str:
        """Why a node is in its precision. Raises OptionError for an unknown name, with close ones."""
        return explain(self.captured, as_text("node", node), rule_book(self._policy))

    def summary(self) -> str:
        """What became of the module: nodes by precision, casts, what stayed float32 and why."""
        return summary(type(self.original).__name__, self.captured)

    def _repr_html_(self) -> str:
        from ampgraph.inspection.inspect import inspect

        return inspect(self)._repr_html_()

    def extra_repr(self) -> str:
        """Precision and objective."""
        return f"precision={self._policy.precision}, objective={self._policy.objective}"

    # Elsewhere

    def export(self) -> ExportedProgram:
        """The traced module in its present modes as an exported program, without casts."""
        arguments = self._example.arguments(self._device())
        return export_module(self.original, arguments, self._dynamic_shapes).program

    def to_onnx(self, destination: str | Path | None = None, **options: Any) -> Result:  # noqa: ANN401
        """Export the weights as they are now, in the precisions that were decided here, and verify what was made.

        The module is exported in evaluation mode and goes through `ampgraph.convert`: what this plan has in float32
        stays float32 there. `options` are those of `convert`. Returns its result.
        """
        from ampgraph.exporting import export_traced

        return export_traced(self, destination, **options)

    def __deepcopy__(self, memo: dict[int, Any]) -> TracedModule:
        """A copy with parameters of its own; captured graphs are shared, hooks on the traced module stay behind."""
        import copy

        twin = TracedModule(copy.deepcopy(self.original, memo), self._example, self._policy, self._dynamic_shapes)
        memo[id(self)] = twin
        twin._captures, twin._bodies = dict(self._captures), dict(self._bodies)
        twin._hooks = self._hooks
        for modes in twin._captures:
            twin._prepare(modes, twin._device())
        return twin

    def __reduce__(self) -> Any:  # noqa: ANN401
        remedy = "save traced.state_dict(), or the module that was traced, and trace again"
        raise ModelError("traced module", "holds graphs, which do not pickle", remedy)


def _unforeseen(module: nn.Module) -> ModelError:
    """What hooks are told that came or went after tracing, which a graph does not follow."""
    if any(kind.__name__ == "FSDPModule" for each in module.modules() for kind in type(each).__mro__):
        fact = "has a submodule that fully_shard has spread, and one graph that needs all parameters at once"
        return ModelError("traced module", fact, "call fully_shard on the traced module alone, as a whole")
    verify_hooks(module)
    fact = "holds a module that has other forward hooks than when it was traced, which are part of the graph"
    return ModelError("traced module", fact, "trace again with the hooks it should have, or hook the traced module")


def _place(fetch: Fetch, body: Body, owners: Mapping[str, Owner]) -> Owner:
    return (body.constants, fetch.target) if fetch.kind == "constant" else owners[fetch.target]


def _held(places: Sequence[Owner]) -> list[Any]:
    try:
        return [owner[name] for owner, name in places]
    except KeyError as error:
        fact = f"no longer holds a parameter or buffer {error} that it was traced with (a parametrization replaces one)"
        raise ModelError("traced module", fact, "trace again with what it should have") from None


def _hooks(module: nn.Module) -> tuple[dict[int, Any], ...]:
    return module._forward_hooks, module._forward_pre_hooks, module._backward_hooks, module._backward_pre_hooks


def _keys(hooks: Sequence[dict[int, Any]]) -> tuple[tuple[int, ...], ...]:
    """What hooks are registered under, of which no two are alike: nothing where there are none."""
    return tuple(map(tuple, hooks)) if any(hooks) else ()


def _undisturbed(ready: _Ready, device: torch.device) -> AbstractContextManager[Any] | None:
    """Autocast would cast again what the graph has cast; a region without gradients must not outlive an error."""
    if torch._C._is_any_autocast_enabled() and ready.knows_autocast and torch.is_autocast_enabled(device.type):
        return torch.autocast(device.type, enabled=False)
    return torch.set_grad_enabled(torch.is_grad_enabled()) if ready.body.switches_gradients else None
