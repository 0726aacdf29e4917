"""Prepare: an exported program to one flat graph of its own, with the state of the module as inputs.

What torch.export wraps is unwrapped: regions without gradients or without autocast become plain nodes, checks of
types are dropped (a cast would trip them), constants that are copied before use are taken as they are.
"""

from __future__ import annotations

import operator
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import torch
from torch import Tensor, fx, nn
from torch._subclasses.fake_tensor import is_fake
from torch.export import ExportedProgram
from torch.export.graph_signature import ConstantArgument, InputKind, OutputKind

from ampgraph.errors import ModelError
from ampgraph.fx_module.mutation import PIN, WRITTEN, make_functional
from ampgraph.fx_module.schema import shared
from ampgraph.user_code import is_user_code

StateKind = Literal["parameter", "buffer", "constant"]

_KINDS: Mapping[InputKind, StateKind] = {
    InputKind.PARAMETER: "parameter",
    InputKind.BUFFER: "buffer",
    InputKind.CONSTANT_TENSOR: "constant",
}
_CHECKS = ("_assert_tensor_metadata", "_assert_scalar", "sym_constrain_range_for_size", "sym_constrain_range")
_MAPPED = "torch.vmap maps it, and types are the whole map's"
_AUTOCAST_OFF = "the author turned autocast off around it"


@dataclass(frozen=True, slots=True)
class State:
    """A placeholder that the module itself feeds: a parameter or buffer by its name there, or a constant."""

    name: str
    kind: StateKind
    target: str


@dataclass(frozen=True, eq=False)
class Prepared:
    """A flat graph. Its placeholders are `states` and then `inputs`, in order; nobody changes it any more."""

    graph: fx.Graph
    states: tuple[State, ...]
    inputs: tuple[str, ...]
    constants: Mapping[str, Tensor]  # by State.target


def prepare(program: ExportedProgram, module: nn.Module) -> Prepared:
    """Flatten what was exported. `module` tells which names are one parameter. Raises ModelError for what cannot be."""
    _refuse(program)
    graph, env = fx.Graph(), dict[fx.Node, Any]()
    holders = {node.name: node for node in program.graph.nodes if node.op == "placeholder"}
    states, inputs = _split(program)
    canonical = _canonical(states, module)
    own = [state for state in states if canonical[state.name] == state.name]
    named = {state.name: _place(graph, env, holders[state.name]) for state in own}
    for state in states:
        env[holders[state.name]] = env[holders[canonical[state.name]]]
    inputs = tuple(_place(graph, env, holders[name]) for name in inputs)
    states = [replace(state, name=named[state.name]) for state in own]
    result = _inline(graph, env, program.graph_module, "")
    graph.output(result)
    _refuse_lost(graph, states, program.constants)
    make_functional(graph)
    _pin_mapped(graph)
    _drop_copies_of_constants(graph, {state.name for state in states if state.kind == "constant"})
    _allow_cudnn(graph)
    kept = _without_unused(graph, states)
    constants = {state.target: program.constants[state.target] for state in kept if state.kind == "constant"}
    return Prepared(graph, kept, inputs, {name: _plain(value) for name, value in constants.items()})


def _without_unused(graph: fx.Graph, states: Sequence[State]) -> tuple[State, ...]:
    """Erase the placeholders of state that nothing reads; returns what is left."""
    holders = {node.name: node for node in graph.nodes if node.op == "placeholder"}
    used = tuple(state for state in states if holders[state.name].users)
    for state in states:
        if state not in used:
            graph.erase_node(holders[state.name])
    return used


def _refuse(program: ExportedProgram) -> None:
    for spec in program.graph_signature.input_specs:
        if spec.kind not in (*_KINDS, InputKind.USER_INPUT):
            fact = f"uses {spec.target}, a {spec.kind.name.lower().replace('_', ' ')}, which no graph can hold"
            raise ModelError("module", fact, "pass it as a tensor or a plain argument")
    for output in program.graph_signature.output_specs:
        if output.kind is not OutputKind.USER_OUTPUT:
            raise ModelError("module", f"returns a {output.kind.name}", "return tensors and plain values")


def _refuse_lost(graph: fx.Graph, states: Sequence[State], constants: Mapping[str, Any]) -> None:
    """What the tracer has lost sight of is among the constants, as a tensor that has no numbers."""
    lost = {state.name for state in states if is_fake(constants.get(state.target))}
    for node in graph.nodes:
        if node.op == "placeholder" and node.name in lost and node.users:
            place = f"module{_where(next(iter(node.users)))}"
            fact = "takes a tensor out of the tracer's sight, as .data does, and torch.func's derivatives"
            raise ModelError(place, fact, "use .detach() or torch.no_grad(), or torch.autograd outside of the module")


def _split(program: ExportedProgram) -> tuple[list[State], tuple[str, ...]]:
    states, inputs = [], []
    for spec in program.graph_signature.input_specs:
        if spec.kind in _KINDS:
            states.append(State(spec.arg.name, _KINDS[spec.kind], str(spec.target)))
        else:
            inputs.append(spec.arg.name)
    return states, tuple(inputs)


def _canonical(states: list[State], module: nn.Module) -> dict[str, str]:
    """The first placeholder of each object: tied weights are one."""
    first: dict[int | str, str] = {}
    found = {}
    for state in states:
        key = state.target if state.kind == "constant" else id(find_tensor(module, state.target))
        found[state.name] = first.setdefault(key, state.name)
    return found


def find_tensor(module: nn.Module, target: str) -> Tensor:
    """A parameter or buffer by its name."""
    path, _, name = target.rpartition(".")
    owner = module.get_submodule(path)
    found: Tensor | None = owner._parameters.get(name)
    found = owner._buffers.get(name) if found is None else found
    assert found is not None  # the exporter has seen it there
    return found


def _plain(value: object) -> Tensor:
    if not isinstance(value, Tensor):
        raise ModelError("module", f"holds a constant of type {type(value).__name__}", "make it a tensor or a buffer")
    return value.detach()


def _place(graph: fx.Graph, env: dict[fx.Node, Any], node: fx.Node) -> str:
    """Copy a placeholder; torch may choose another name."""
    new = graph.placeholder(node.name)
    new.meta = dict(node.meta)
    env[node] = new
    return new.name


# Regions


def _inline(graph: fx.Graph, env: dict[fx.Node, Any], owner: fx.GraphModule, pin: str) -> Any:  # noqa: ANN401
    """Copy the nodes of a graph module behind those that are there; returns what it returns."""
    for node in owner.graph.nodes:
        if node.op == "output":
            return fx.node.map_arg(node.args[0], env.__getitem__)
        if node.op == "call_function" and not _is_check(node):
            env[node] = _copy(graph, env, owner, node, pin)
            continue
        if node.op == "get_attr":
            env[node] = getattr(owner, str(node.target))
            if isinstance(env[node], Tensor):
                raise ModelError("module", f"holds the tensor {node.target} inside a region", "register it as a buffer")
    return None


def _is_check(node: fx.Node) -> bool:
    return getattr(node.target, "__name__", "").partition(".")[0] in _CHECKS


def _copy(graph: fx.Graph, env: dict[fx.Node, Any], owner: fx.GraphModule, node: fx.Node, pin: str) -> Any:  # noqa: ANN401
    name = getattr(node.target, "__name__", "")
    if node.target is operator.getitem and isinstance(env[node.args[0]], tuple | list):  # type: ignore[index]
        return env[node.args[0]][node.args[1]]  # type: ignore[index]
    if name == "wrap_with_set_grad_enabled":
        return _without_gradients(graph, env, node, pin)
    if name == "wrap_with_autocast" and node.args[2] is False:
        return _region(graph, env, node.args[4], node.args[5:], pin or _AUTOCAST_OFF)
    if isinstance(node.target, torch._ops.HigherOrderOperator):
        fact = f"uses {name}{_where(node)}, whose branches no cast can reach"
        raise ModelError("module", fact, "leave that part outside of what is traced")
    new = graph.node_copy(node, env.__getitem__)
    if pin:
        new.meta[PIN] = pin
    return new


def _where(node: fx.Node) -> str:
    """The last line of the user's code in a node's stack trace."""
    found = re.findall(r'File "([^"]+)", line (\d+)', str(node.meta.get("stack_trace") or ""))
    lines = [f" at {file}:{line}" for file, line in found if is_user_code(file)]
    return lines[-1] if lines else ""


def _region(graph: fx.Graph, env: dict[fx.Node, Any], holder: Any, given: tuple[Any, ...], pin: str) -> Any:  # noqa: ANN401
    body = env[holder]
    inner = [node for node in body.graph.nodes if node.op == "placeholder"]
    mapped = fx.node.map_arg(given, env.__getitem__)
    scope = dict(zip(inner, mapped, strict=True))
    return _inline(graph, scope, body, pin)


def _without_gradients(graph: fx.Graph, env: dict[fx.Node, Any], node: fx.Node, pin: str) -> Any:  # noqa: ANN401
    before = graph.call_function(torch.is_grad_enabled)
    graph.call_function(torch._C._set_grad_enabled, (node.args[0],))
    result = _region(graph, env, node.args[1], node.args[2:], pin)
    graph.call_function(torch._C._set_grad_enabled, (before,))
    return result


# Small things


def _drop_copies_of_constants(graph: fx.Graph, constants: set[str]) -> None:
    """`torch.tensor(...)` in a forward is a constant, a copy and a detach; where nobody writes it is the constant.

    Whoever is handed the result of a forward may write it.
    """
    for node in list(graph.nodes):
        if node.op != "call_function" or WRITTEN in node.meta or _is_returned(node):
            continue
        source = node.args[0] if node.args else None
        is_constant = isinstance(source, fx.Node) and source.op == "placeholder" and source.name in constants
        if is_constant and node.target in (torch.ops.aten.lift_fresh_copy.default, torch.ops.aten.detach.default):
            node.replace_all_uses_with(source)
            graph.erase_node(node)


def _is_returned(node: fx.Node) -> bool:
    """Whether the graph returns the memory of a value."""
    return any(user.op == "output" or (node in shared(user) and _is_returned(user)) for user in node.users)


def _pin_mapped(graph: fx.Graph) -> None:
    """Leave what `torch.vmap` maps in its types: its tensors cannot be asked anything outside of the map."""
    depth = 0
    for node in graph.nodes:
        name = getattr(node.target, "__name__", "")
        depth += name == "_vmap_increment_nesting"
        if depth and node.op == "call_function":
            node.meta.setdefault(PIN, _MAPPED)
        depth -= name == "_vmap_decrement_nesting"


def _allow_cudnn(graph: fx.Graph) -> None:
    """Traced on a machine without it, a graph would refuse cuDNN for ever."""
    for node in graph.nodes:
        if node.target is torch.ops.aten.batch_norm.default:
            node.update_arg(8, True)


def constant_inputs(program: ExportedProgram) -> Iterator[tuple[int, Any]]:
    """Places of the inputs that are no tensors, with the value that they are fixed to."""
    given = (spec.arg for spec in program.graph_signature.input_specs if spec.kind is InputKind.USER_INPUT)
    return ((place, arg.value) for place, arg in enumerate(given) if isinstance(arg, ConstantArgument))
