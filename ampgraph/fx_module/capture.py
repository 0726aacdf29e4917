"""Capture: one graph of a module, in one set of modes: traced, lifted, judged, decided, planned, written, checked."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import chain
from typing import Any

import torch
from torch import Tensor, fx, nn
from torch._guards import detect_fake_mode
from torch.export import ExportedProgram

from ampgraph.cost import price
from ampgraph.costs import Costs
from ampgraph.decide import decide
from ampgraph.devices import device_named
from ampgraph.errors import OptionError
from ampgraph.fx_module.apply import apply, is_cast
from ampgraph.fx_module.calls import Expected, Interface, dimensions
from ampgraph.fx_module.export import DynamicShapes, export_module
from ampgraph.fx_module.fakes import settle
from ampgraph.fx_module.lift import Holdings, lift
from ampgraph.fx_module.own_backward import Lost, names_of_trained, verify_kept
from ampgraph.fx_module.policy import Policy
from ampgraph.fx_module.prepare import Prepared, constant_inputs, find_tensor, prepare
from ampgraph.fx_module.verify import verify_applied
from ampgraph.graph import PrecisionGraph
from ampgraph.judge import judge
from ampgraph.judgement import Category, Judgement
from ampgraph.laws import verify
from ampgraph.plan import Plan, make_plan
from ampgraph.precision import Precision
from ampgraph.ranges import propagate
from ampgraph.rulebook import RuleBook, load_builtin, with_user_file
from ampgraph.tracing import Arguments
from ampgraph.training import price_training
from ampgraph.wishes import Wishes


@dataclass(frozen=True, eq=False)
class Capture:
    """A graph with its casts, and all that was decided about it. Holds no parameter: those are inputs of the graph.

    `written`: the graph that runs; `prepared`: the same before anything was decided.
    """

    prepared: Prepared
    interface: Interface
    written: fx.Graph
    graph: PrecisionGraph
    judgement: Judgement
    costs: Costs
    plan: Plan
    device: torch.device
    policy: Policy
    notes: tuple[str, ...] = ()
    losses: tuple[Lost, ...] = ()  # where no gradient came when it was traced
    trained: frozenset[str] = frozenset()  # the parameters that got a gradient then

    def __deepcopy__(self, memo: dict[int, object]) -> Capture:
        """Nothing in a capture changes, so copies of a module share it."""
        return self


def capture(module: nn.Module, arguments: Arguments, policy: Policy, dynamic_shapes: DynamicShapes) -> Capture:
    """Walk the whole road for a module as it is now. The module is left as it was."""
    traced = export_module(module, arguments, dynamic_shapes)
    verify_kept(module, traced.losses)
    prepared = prepare(traced.program, module)
    interface = _interface(traced.program, prepared, traced.asked)
    settle(prepared.graph)
    tensors = held_tensors(prepared, module)
    holdings = Holdings.of(prepared.states, tensors)
    graph = lift(prepared.graph, holdings, policy.precision)
    wishes = Wishes(policy.keep, policy.low, _low_interface(graph, policy.io))
    judgement = judge(graph, rule_book(policy), propagate(graph), policy.precision, None, wishes)
    costs = _priced(graph, judgement, policy)
    plan = make_plan(graph, judgement, costs, decide(graph, judgement, costs), policy.objective)
    verify(graph, judgement, plan, costs)
    written = apply(prepared.graph, graph, plan)
    verify_applied(written, graph, plan, holdings)
    interface = interface.retyped([plan.choices.get(f"input:{name}") for name in prepared.inputs])
    interface = interface.read_low(_read_low(written, prepared.inputs))
    notes = (*traced.notes, *judgement.notes)
    device, trained = device_of(module), names_of_trained(dict(module.named_parameters()))
    decided = (graph, judgement, costs, plan)
    return Capture(prepared, interface, written, *decided, device, policy, notes, traced.losses, trained)


def rule_book(policy: Policy) -> RuleBook:
    """The built-in rules with the user's over them."""
    return with_user_file(load_builtin(), policy.rules) if policy.rules else load_builtin()


def held_tensors(prepared: Prepared, module: nn.Module) -> Mapping[str, Tensor]:
    """The tensors of the state placeholders, by placeholder."""
    return {
        state.name: prepared.constants[state.target] if state.kind == "constant" else find_tensor(module, state.target)
        for state in prepared.states
    }


def device_of(module: nn.Module) -> torch.device:
    """Where a module lives; the CPU where it holds nothing."""
    held: Iterator[Tensor] = chain(module.parameters(), module.buffers())
    return next((tensor.device for tensor in held), torch.device("cpu"))


def _priced(graph: PrecisionGraph, judgement: Judgement, policy: Policy) -> Costs:
    device = device_named(policy.device)
    if policy.objective in ("training", "speed"):
        verdicts = judgement.verdicts.items()
        worth = [key for key, verdict in verdicts if verdict.legal and verdict.category is Category.ALLOW]
        return price_training(graph, device, policy.precision, worth if policy.objective == "training" else ())
    categories = {key: str(verdict.category) for key, verdict in judgement.verdicts.items()}
    objective = "memory" if policy.objective == "memory" else "coverage"
    return price(graph, objective, device, policy.precision, categories)  # type: ignore[arg-type]


def _low_interface(graph: PrecisionGraph, io: str) -> frozenset[str]:
    if io == "keep":
        return frozenset()
    names = {d.op for d in graph.decisions.values() if d.kind != "op" and d.present is Precision.FLOAT32}
    chosen = names if io == "low" else {name for name in names if re.search(io, name)}
    if not chosen and io != "low":
        raise OptionError(f"io {io!r}", "names no float32 input or output", f"choose among {sorted(names)}")
    return frozenset(chosen)


def _read_low(written: fx.Graph, inputs: Iterable[str]) -> dict[str, torch.dtype]:
    """The types of inputs that the graph casts, all to one type, and reads in no other way."""
    holders = [node for node in written.nodes if node.op == "placeholder" and node.name in set(inputs)]
    only = [node for node in holders if _is_only_cast(node)]
    casts = {node.name: {user.kwargs["dtype"] for user in node.users if is_cast(user)} for node in only}
    return {name: next(iter(types)) for name, types in casts.items() if len(types) == 1}


def _is_only_cast(node: fx.Node) -> bool:
    """Whether nothing but casts reads its numbers; asking for a size reads none."""
    readers = [user for user in node.users if user.target is not torch.ops.aten.sym_size.int]
    return bool(readers) and all(map(is_cast, readers))


def _interface(program: ExportedProgram, prepared: Prepared, asked: tuple[Any, ...]) -> Interface:
    values = dict(constant_inputs(program))
    holders = {node.name: node for node in prepared.graph.nodes if node.op == "placeholder"}
    inputs = []
    for place, name in enumerate(prepared.inputs):
        val = holders[name].meta.get("val")
        if place in values or not isinstance(val, Tensor):
            inputs.append(Expected(name, value=values.get(place, val)))
        else:
            inputs.append(Expected(name, val.dtype, dimensions(val)))
    spec = program.call_spec
    assert spec.in_spec is not None  # set by every export
    assert spec.out_spec is not None
    return Interface(spec.in_spec, spec.out_spec, tuple(inputs), _guards(holders.values()), asked)


def _guards(holders: Iterable[fx.Node]) -> tuple[Any, ...]:
    """What torch assumed of the free sizes."""
    mode = detect_fake_mode([val for node in holders if isinstance(val := node.meta.get("val"), Tensor)])
    environment = mode.shape_env if mode is not None else None
    return tuple(guard.expr for guard in environment.guards) if environment is not None else ()
