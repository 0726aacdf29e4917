"""What an output of an operator holds, given the intervals of its inputs: the functions that `range_table` names."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import replace

from ampgraph.graph import Op, PrecisionGraph
from ampgraph.intervals import (
    FLOAT_LIMITS,
    INF,
    INTEGER_LIMITS,
    ZERO,
    Interval,
    Known,
    accumulated,
    between,
    greatest,
    hull,
    least,
    magnitude,
    negated,
    product,
    quotient,
    repeated,
    scaled,
    square,
    total,
)

Args = Sequence[Known]
Rule = Callable[[Op, Args, PrecisionGraph], Known]

_STEP = 1e-6  # relative; more than one rounding to float32 moves a number
_LONGEST_MEAN = 1e9  # elements summed before they are divided


def constant(lo: float, hi: float, *, integer: bool = False) -> Rule:
    """The same interval whatever the inputs."""
    interval = between(lo, hi, integer=integer)
    return lambda op, args, graph: interval


def same(op: Op, args: Args, graph: PrecisionGraph) -> Known:
    """The first input's elements."""
    return args[0] if args else None


def one_of(*slots: int, zero: bool = False) -> Rule:
    """An element of one of these inputs, or zero."""
    extra = [ZERO] if zero else []

    def rule(op: Op, args: Args, graph: PrecisionGraph) -> Known:
        return hull([*(args[slot] for slot in slots), *extra]) if max(slots) < len(args) else None

    return rule


def all_of(combine: Callable[[Args], Known]) -> Rule:
    """A function of all inputs."""
    return lambda op, args, graph: combine(args) if args else None


def unary(function: Callable[[Known], Known]) -> Rule:
    """A function of the first input."""
    return lambda op, args, graph: function(args[0]) if args else None


def binary(function: Callable[[Known, Known], Known]) -> Rule:
    """A function of two inputs; a factor on the second (torch) is not followed."""

    def rule(op: Op, args: Args, graph: PrecisionGraph) -> Known:
        return function(args[0], args[1]) if len(args) == 2 and "alpha" not in op.attributes else None

    return rule


def rising(function: Callable[[float], float], lowest: float = -INF, *, keeps_integers: bool = False) -> Rule:
    """A function that never falls from `lowest` on, and is NaN below."""

    def at(end: float) -> float:
        try:
            return float(function(max(end, lowest)))
        except OverflowError:
            return math.copysign(INF, end)

    image = between(at(-INF), at(INF))
    bounded = not image.unbounded

    def rule(op: Op, args: Args, graph: PrecisionGraph) -> Known:
        arg = args[0] if args else None
        if arg is None or (bounded and not arg.complete):
            return image
        lo, hi = at(arg.lo), at(arg.hi)
        open_end = arg.unbounded and (math.isinf(lo) or math.isinf(hi))
        return Interval(lo, hi, arg.complete, keeps_integers and arg.integer, open_end)

    return rule


def gate(floor: float, steepness: float = 1.0) -> Rule:
    """x times a gate in [0, 1]: between min(x, 0) and max(x, 0), and never under `floor` (that of steepness 1)."""

    def rule(op: Op, args: Args, graph: PrecisionGraph) -> Known:
        alpha = _number(op, "alpha", steepness)
        if len(args) != 1 or alpha <= 0:
            return None
        arg, lowest = args[0], floor / alpha
        if arg is None:
            return between(lowest, INF)
        return replace(arg, lo=max(lowest, min(arg.lo, 0.0)), hi=max(arg.hi, 0.0), integer=False)

    return rule


def exponential_unit(op: Op, args: Args, graph: PrecisionGraph) -> Known:
    """Elu, Celu and Selu: gamma * x above 0, and gamma * alpha * (exp(x) - 1) below."""
    alpha = _number(op, "alpha", 1.67326319 if op.type == "Selu" else 1.0)
    gamma = _number(op, "gamma", 1.05070102 if op.type == "Selu" else 1.0)
    if alpha <= 0 or gamma <= 0:
        return None
    rate = alpha if op.type == "Celu" else 1.0
    return rising(lambda x: gamma * (x if x > 0 else alpha * math.expm1(x / rate)))(op, args, graph)


def leaky(op: Op, args: Args, graph: PrecisionGraph) -> Known:
    """x above 0, a fraction of it below."""
    slope = _number(op, "alpha", 0.01)
    return rising(lambda x: x if x > 0 else slope * x)(op, args, graph) if slope > 0 else None


def _number(op: Op, name: str, default: float) -> float:
    found = op.attributes.get(name, default)
    return float(found) if isinstance(found, int | float) else default


def difference(left: Known, right: Known) -> Known:
    """left - right."""
    return total([left, negated(right)])


def multiply(op: Op, args: Args, graph: PrecisionGraph) -> Known:
    """left * right, a square where both are the same value."""
    if len(args) != 2:
        return None
    return square(args[0]) if op.inputs[0].value == op.inputs[1].value else product(args[0], args[1])


def divide(op: Op, args: Args, graph: PrecisionGraph) -> Known:
    """left / right, rounded to either side where they are integers."""
    found = quotient(args[0], args[1]) if len(args) == 2 else None
    if found is None or _dtype(op, graph) not in INTEGER_LIMITS:
        return found
    return None if found.unbounded else replace(found, lo=float(math.floor(found.lo)), hi=float(math.ceil(found.hi)))


def _dtype(op: Op, graph: PrecisionGraph) -> str:
    return graph.values[op.outputs[0].value].dtype if op.outputs[0].value else ""


def modulo(op: Op, args: Args, graph: PrecisionGraph) -> Known:
    """A remainder is smaller than its divisor; its sign is that of the divisor, or of the dividend with fmod."""
    divisor = args[1] if len(args) == 2 else None
    if divisor is None or not divisor.complete or divisor.lo <= 0:
        return None
    end = divisor.hi - 1 if _dtype(op, graph) in INTEGER_LIMITS else divisor.hi
    return between(-end if _number(op, "fmod", 0) else 0.0, end)


def power(op: Op, args: Args, graph: PrecisionGraph) -> Known:
    """x ** constant, for a positive constant."""
    base, exponent = args if len(args) == 2 else (None, None)
    if exponent is None or not exponent.complete or exponent.lo != exponent.hi:
        return None
    power = exponent.lo
    if power == 2:
        return square(base)
    if power <= 0:
        return None
    if power % 2 == 0:
        base = magnitude(base)
    elif power.is_integer() and (base is None or base.lo < 0):
        return None
    return rising(lambda x: x**power, 0.0)(op, [base], graph)


def average(op: Op, args: Args, graph: PrecisionGraph) -> Known:
    """A mean lies where its elements do, unless their sum overflows on the way."""
    arg = args[0] if args else None
    limits = FLOAT_LIMITS.get(_dtype(op, graph))
    if arg is None or not arg.complete or limits is None:
        return None
    safe = limits[0] / _LONGEST_MEAN
    lo, hi = arg.lo if arg.lo >= -safe else -INF, arg.hi if arg.hi <= safe else INF
    return Interval(lo, hi, True, False, arg.unbounded or (lo, hi) != (arg.lo, arg.hi))


def average_pool(op: Op, args: Args, graph: PrecisionGraph) -> Known:
    """A mean that padding may count in."""
    found = average(op, args, graph)
    return hull([found, ZERO]) if found and _number(op, "count_include_pad", 0) else found


def summed(op: Op, args: Args, graph: PrecisionGraph) -> Known:
    """The sum of all inputs, as their type can hold it."""
    return accumulated(args, FLOAT_LIMITS.get(_dtype(op, graph), (INF, 0.0))[0])


def mean(op: Op, args: Args, graph: PrecisionGraph) -> Known:
    """The mean of all inputs: their sum, divided."""
    return scaled(summed(op, args, graph), 1 / len(args)) if args else None


def extreme(pick_highest: bool) -> Rule:
    """The largest or smallest element along axes; evidence of the other end is lost."""

    def rule(op: Op, args: Args, graph: PrecisionGraph) -> Known:
        arg = args[0] if args else None
        if arg is None or arg.complete:
            return None if _is_empty(op, graph) else arg
        end = arg.hi if pick_highest else arg.lo
        return replace(arg, lo=end, hi=end)

    return rule


def _is_empty(op: Op, graph: PrecisionGraph) -> bool:
    return bool(op.inputs[0].value) and graph.values[op.inputs[0].value].elements == 0


def sum_of(function: Callable[[Known], Known]) -> Rule:
    """Reduction by addition: as many elements as the input has for each of the output's."""

    def rule(op: Op, args: Args, graph: PrecisionGraph) -> Known:
        if not args or not op.inputs[0].value or not op.outputs[0].value:
            return None
        whole, part = graph.values[op.inputs[0].value].elements, graph.values[op.outputs[0].value].elements
        return repeated(function(args[0]), whole / part if whole and part else None)

    return rule


def norm(op: Op, args: Args, graph: PrecisionGraph) -> Known:
    """The root of a sum of squares."""
    return rising(math.sqrt, 0.0)(op, [sum_of(square)(op, args, graph)], graph)


def running_sum(op: Op, args: Args, graph: PrecisionGraph) -> Known:
    """Every partial sum along an axis."""
    length = _length(op, graph, args[1] if len(args) > 1 else None)
    found = repeated(args[0], length) if args else None
    return hull([found, args[0], ZERO]) if found and not found.complete else found


def _length(op: Op, graph: PrecisionGraph, axis: Known) -> float | None:
    shape = graph.values[op.inputs[0].value].shape if op.inputs[0].value else None
    if not shape or axis is None or axis.lo != axis.hi or not -len(shape) <= axis.lo < len(shape):
        return None
    return float(shape[int(axis.lo)])


def index_along(default_axis: int) -> Rule:
    """Positions along an axis: a modelled length, so evidence."""

    def rule(op: Op, args: Args, graph: PrecisionGraph) -> Known:
        axis = _number(op, "axis", default_axis)
        length = _length(op, graph, Interval(axis, axis))
        return Interval(0.0, length - 1, complete=False, integer=True) if length else between(0.0, INF, integer=True)

    return rule


def positions(op: Op, args: Args, graph: PrecisionGraph) -> Known:
    """start, start + delta, ... short of limit; an unknown limit leaves the bound at start."""
    if len(args) != 3 or args[0] is None or args[2] is None or not args[2].complete or args[2].lo <= 0 <= args[2].hi:
        return None
    start, limit, delta = args[0], args[1] or between(-INF, INF, integer=True), args[2]
    integer = start.integer and delta.integer
    last = 1.0 if integer and limit.integer else 0.0
    lo = start.lo if delta.lo > 0 else min(start.lo, limit.lo + last)
    hi = start.hi if delta.hi < 0 else max(start.hi, limit.hi - last)
    return between(lo, hi, complete=start.complete and limit.complete, integer=integer)


def _bound(op: Op, args: Args, graph: PrecisionGraph, slot: int, name: str) -> Known:
    """A bound of Clip; at the dtype's own limit, or absent, it bounds nothing."""
    none = -INF if slot == 1 else INF
    if slot < len(op.inputs) and op.inputs[slot].value:
        found = args[slot]
    else:
        number = _number(op, name, none)
        found = Interval(number, number, integer=number.is_integer() or math.isinf(number))
    largest = FLOAT_LIMITS.get(_dtype(op, graph), (INF, 0.0))[0]
    if found is not None and slot == 1 and -INF < found.lo <= -largest:
        return replace(found, lo=-INF, unbounded=True)
    if found is not None and slot == 2 and INF > found.hi >= largest:
        return replace(found, hi=INF, unbounded=True)
    return found


def clip(op: Op, args: Args, graph: PrecisionGraph) -> Known:
    """min(max(x, low), high). Two bounds prove more than evidence of x says."""
    if not args:
        return None
    low, high = _bound(op, args, graph, 1, "min"), _bound(op, args, graph, 2, "max")
    arg = args[0]
    if arg is not None and not arg.complete and low and high and math.isfinite(low.lo) and math.isfinite(high.hi):
        arg = None
    return least([greatest([arg, low]), high])


def pad(op: Op, args: Args, graph: PrecisionGraph) -> Known:
    """Elements of the input, and a constant around them."""
    if op.attributes.get("mode", "constant") != "constant":
        return args[0]
    if len(op.inputs) > 2 and op.inputs[2].value:
        return hull([args[0], args[2]])
    number = _number(op, "value", 0.0)
    return hull([args[0], Interval(number, number, integer=number.is_integer())])


def filled(op: Op, args: Args, graph: PrecisionGraph) -> Known:
    """One constant throughout."""
    number = _number(op, "value", 0.0)
    return Interval(number, number, integer=number.is_integer())


def interpolate(op: Op, args: Args, graph: PrecisionGraph) -> Known:
    """Nearest and linear interpolation stay among their samples; samples outside may be a constant."""
    if "cubic" in str(op.attributes.get("mode", "")):
        return None
    outside = None
    if op.attributes.get("coordinate_transformation_mode") == "tf_crop_and_resize":
        outside = _number(op, "extrapolation_value", 0.0)
    elif op.type == "GridSample" and op.attributes.get("padding_mode", "zeros") == "zeros":
        outside = 0.0
    return args[0] if outside is None else hull([args[0], Interval(outside, outside)])


def scatter(op: Op, args: Args, graph: PrecisionGraph) -> Known:
    """Elements of the data and of the updates, where those replace and are not added."""
    return hull([args[0], args[2]]) if op.attributes.get("reduction", "none") == "none" and len(args) > 2 else None


def dropout(op: Op, args: Args, graph: PrecisionGraph) -> Known:
    """The identity, unless it may be training."""
    training = args[2] if len(args) > 2 and op.inputs[2].value else ZERO
    return args[0] if training and training.hi == 0 else None


def uniform(op: Op, args: Args, graph: PrecisionGraph) -> Known:
    """Drawn between two attributes."""
    return Interval(_number(op, "low", 0.0), _number(op, "high", 1.0))


def dequantize(op: Op, args: Args, graph: PrecisionGraph) -> Known:
    """(x - zero point) * scale."""
    zero_point = args[2] if len(args) > 2 and op.inputs[2].value else ZERO
    if args[0] is None or zero_point is None or not op.inputs[0].value:
        return None
    found = product(difference(args[0], zero_point), args[1])
    return found and replace(found, integer=False)


def cell(op: Op, args: Args, graph: PrecisionGraph) -> Known:
    """The hidden state of a recurrent cell: products of a gate and a tanh; a GRU's mixes with its initial state."""
    if "activations" in op.attributes:
        return None
    unit = Interval(-1.0, 1.0)
    initial = args[5] if op.type == "GRU" and len(args) > 5 and op.inputs[5].value else unit
    return hull([unit, initial])


def rounding(function: Callable[[float], int]) -> Rule:
    """To a whole number nearby; ends that are no integers may sit on either side of a step."""

    def at(end: float, sign: int) -> float:
        return float(function(end + sign * _STEP * abs(end))) if math.isfinite(end) else end

    def rule(op: Op, args: Args, graph: PrecisionGraph) -> Known:
        arg = args[0] if args else None
        if arg is None or arg.integer:
            return arg
        return replace(arg, lo=at(arg.lo, -1), hi=at(arg.hi, 1), integer=True)

    return rule


def cast(op: Op, args: Args, graph: PrecisionGraph) -> Known:
    """A float out of an integer's range converts to anything, so only bounded ones are followed there."""
    dtype, arg = _dtype(op, graph), args[0] if args else None
    if arg is None or dtype in FLOAT_LIMITS or arg.integer:
        return arg
    if dtype not in INTEGER_LIMITS or math.isinf(arg.lo) or math.isinf(arg.hi) or not arg.complete:
        return None
    return rounding(math.trunc)(op, args, graph)
