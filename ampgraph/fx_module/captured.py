"""Training steps as CUDA graphs: recorded once a shape, replayed with new inputs, learning rates and random numbers.

The first call of each shape runs as it is, on the recording stream: it is a real step, so warming up changes nothing
that must be put back. The second is recorded and replayed. What a graph cannot follow is looked for before every
replay: memory that moved, an optimizer's state that was loaded, settings that changed.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Hashable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from ampgraph.errors import TrainError
from ampgraph.fx_module.capturable import Rates, has_hooks, hyperparameters, verify
from ampgraph.fx_module.gradients import parameters
from ampgraph.fx_module.graph_inputs import Blank
from ampgraph.fx_module.held import Held
from ampgraph.fx_module.reading import read_types
from ampgraph.fx_module.recipe import Call, Recipe, clear, forget_checks, forward_backward, give_up, update
from ampgraph.fx_module.recorder import Recorder, Recording, failed
from ampgraph.fx_module.signature import Layout, layout, modes, verify_inputs

MOST_GRAPHS = 16  # kept at a time, for shapes and for micro-steps
_MOST_SEEN = 1024  # shapes remembered as warmed up
_MOST_CHANGES = 2  # of the optimizer's settings, before its step is left out of the graphs

Key = Hashable
Buffers = list[tuple[nn.Module, str, Tensor | None]]


class Captured:
    """Runs a recipe's calls as CUDA graphs. Between calls no gradient is left, or with accumulation only sums are."""

    def __init__(self, recipe: Recipe, recorder: Recorder, device: torch.device) -> None:
        verify(recipe.optimizer, recipe.scaler)
        self._recipe, self._recorder, self._device = recipe, recorder, device
        self._modules = list(recipe.module.modules())
        self._parameters = list(recipe.module.parameters())
        self._graphs: OrderedDict[Key, Recording[Tensor]] = OrderedDict()
        self._seen: OrderedDict[Key, None] = OrderedDict()
        self._rates, self._held = Rates(recipe.optimizer, device), Held(recipe.module, recipe.accumulate)
        self._written = [*recipe.module.parameters(), *recipe.module.buffers()]
        self._settings = hyperparameters(recipe.optimizer, recipe.scaler)
        self._changes = 0
        self._outside = has_hooks(recipe.optimizer)  # the optimizer's step follows the graphs
        self._state: Any = recipe.optimizer.state
        self._places = self._addresses()

    @property
    def count(self) -> int:
        """Graphs that are kept now."""
        return len(self._graphs)

    @property
    def steps_outside(self) -> bool:
        """Whether the optimizer's step runs after the graphs: where its settings, other than the learning rate, change
        all the time, or where it has hooks."""
        return self._outside

    def run(self, call: Call, last: bool) -> Tensor:
        """One call; the `last` of a step also steps the optimizer. Returns the loss, detached."""
        self._follow()
        if self._held.are_stale:
            self._recorder.run(self._held.refresh)
        loss = self._call(call, last)
        self._held.mark()
        return loss

    def _call(self, call: Call, last: bool) -> Tensor:
        found = layout(call)
        with_update = last and not self._outside
        key = with_update, found.key, modes(self._modules, self._parameters)
        graph = self._graphs.get(key)
        if graph is None:
            verify_inputs(found.tensors, self._device)
            if key in self._seen:
                graph = self._record(found, with_update)
                if graph is not None:
                    _put(self._graphs, key, graph, MOST_GRAPHS)
        if graph is None:
            _put(self._seen, key, None, _MOST_SEEN)
            return self._recorder.run(lambda: self._plain(call, last))
        self._graphs.move_to_end(key)
        return self._replay(graph, found.tensors, last)

    def forget(self) -> None:
        """Drop all graphs; the next calls record them again."""
        self._graphs.clear()
        self._seen.clear()
        self._rates = Rates(self._recipe.optimizer, self._device)
        self._state, self._places = self._recipe.optimizer.state, self._addresses()

    def give_up(self) -> None:
        """After a call that failed: no gradient is left, where graphs expect one there are zeros."""
        self._recorder.run(lambda: give_up(self._recipe, keep=self._keeps_gradients))

    @property
    def _keeps_gradients(self) -> bool:
        return self._outside or self._recipe.accumulate > 1

    def _plain(self, call: Call, last: bool) -> Tensor:
        with self._held.holding():
            loss = forward_backward(self._recipe, call)
        if last:
            self._update()
        return loss

    def _update(self, *, recording: bool = False) -> None:
        if not recording:
            self._rates.load()
        with self._rates.in_place(recording=recording):
            update(self._recipe)
        clear(self._recipe, keep=self._keeps_gradients)
        self._held.refresh()

    def _replay(self, graph: Recording[Tensor], tensors: Sequence[Tensor], last: bool) -> Tensor:
        if tensors:
            torch._foreach_copy_(graph.inputs, list(tensors), non_blocking=True)
        self._rates.load()
        loss = graph.replay().clone()
        torch.autograd.graph.increment_version(self._written)  # whoever keeps copies of them goes by that
        if last and self._outside:
            self._recorder.run(self._update)
        return loss

    def _record(self, found: Layout, with_update: bool) -> Recording[Tensor] | None:
        """The call as a graph, or None if the optimizer had no state yet: every replay would make it anew."""
        kinds = read_types(self._recipe, found)
        blanks = [Blank(each, dtype) for each, dtype in zip(found.tensors, kinds, strict=True)]

        def work(inputs: list[Tensor]) -> Tensor:
            calls = [found.rebuilt(inputs)]  # taken out again below: backward frees what nothing here holds
            inputs.clear()
            with self._held.holding():
                loss = forward_backward(self._recipe, calls.pop())
            if with_update:
                self._update(recording=True)
            return loss

        before = _Before(self._recipe, self._modules)
        self._rates.load()
        try:
            recording = self._recorder.record(work, blanks)
            before.verify_buffers()
        except (torch.OutOfMemoryError, TrainError):
            before.restore(self._recipe)
            raise
        except (RuntimeError, AssertionError) as error:
            before.restore(self._recipe)
            raise failed(error) from error
        if before.has_changed(self._recipe, keeps=self._keeps_gradients):
            before.restore(self._recipe)
            return None
        return recording

    def _follow(self) -> None:
        """See what has changed since the graphs were recorded."""
        settings = () if self._outside else hyperparameters(self._recipe.optimizer, self._recipe.scaler)
        if not self._outside and settings != self._settings:
            self._changes += 1
            self._settings = settings
            self._outside = self._changes > _MOST_CHANGES
            self.forget()
        elif self._state is not self._recipe.optimizer.state or self._places != self._addresses():
            self.forget()

    def _addresses(self) -> list[int]:
        return [each.data_ptr() for each in self._parameters]


class _Before:
    """What recording must leave as it was: nothing runs while it is recorded, but Python does."""

    def __init__(self, recipe: Recipe, modules: Sequence[nn.Module]) -> None:
        self._buffers: Buffers = [(m, name, each) for m in modules for name, each in m._buffers.items()]
        self._state = {key: dict(value) for key, value in recipe.optimizer.state.items()}
        self._grads = [(each, each.grad) for each in parameters(recipe.optimizer)]

    def has_changed(self, recipe: Recipe, *, keeps: bool) -> bool:
        """Whether the optimizer got state, or a gradient that outlives the call, in memory that replays write anew."""
        state = recipe.optimizer.state
        grown = len(state) != len(self._state) or any(_differs(state[key], self._state[key]) for key in self._state)
        return grown or (keeps and any(each.grad is not grad for each, grad in self._grads))

    def verify_buffers(self) -> None:
        """Raise TrainError where the module puts a new tensor in a buffer's place, which a replay cannot do."""
        for module, name, buffer in self._buffers:
            if module._buffers.get(name) is not buffer:
                place = f"buffer {name} of {type(module).__name__}"
                raise TrainError(place, "is replaced in forward", "write into it (copy_, add_), or use capture=False")

    def restore(self, recipe: Recipe) -> None:
        """Undo what Python did."""
        for module, name, buffer in self._buffers:
            module._buffers[name] = buffer
        state = recipe.optimizer.state
        for key in list(state):
            if key not in self._state:
                del state[key]
            else:
                state[key] = self._state[key]
        for owner, grad in self._grads:
            owner.grad = grad
        forget_checks(recipe)


def _differs(new: dict[str, Any], old: dict[str, Any]) -> bool:
    return new.keys() != old.keys() or any(
        new[name] is not value for name, value in old.items() if isinstance(new[name], Tensor) or value is None
    )


def _put(kept: OrderedDict[Key, Any], key: Key, value: Any, most: int) -> None:  # noqa: ANN401
    kept[key] = value
    kept.move_to_end(key)
    if len(kept) > most:
        kept.popitem(last=False)
