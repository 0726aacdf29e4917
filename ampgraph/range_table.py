"""Which rule tells the range of which operator's outputs; an operator without a row says nothing."""

from __future__ import annotations

import math

from ampgraph import range_rules as rules
from ampgraph.intervals import INF, ONE, greatest, hull, least, magnitude, negated, quotient, square, total
from ampgraph.range_rules import Rule


def _logarithm(x: float) -> float:
    """ln x, -inf at 0."""
    return math.log(x) if x > 0 else -INF


def _softplus(x: float) -> float:
    """ln(1 + exp x)."""
    return max(x, 0.0) + math.log1p(math.exp(-abs(x)))


def _logistic(x: float) -> float:
    """1 / (1 + exp -x)."""
    return 1 / (1 + math.exp(-x)) if x > -700 else 0.0


_UNIT = rules.constant(0.0, 1.0)
_SYMMETRIC = rules.constant(-1.0, 1.0)
_COUNT = rules.constant(0.0, INF, integer=True)

# (op types, rules of the outputs in order; further outputs are unknown)
_ROWS: tuple[tuple[str, *tuple[Rule, ...]], ...] = (
    (
        "Identity Reshape Transpose Slice Expand Tile Squeeze Unsqueeze Flatten Gather GatherElements GatherND "
        "Compress DepthToSpace SpaceToDepth ReverseSequence Upsample aten.view aten.reshape aten._unsafe_view "
        "aten.permute aten.transpose aten.t aten.expand aten.slice aten.select aten.unsqueeze aten.squeeze aten.clone "
        "aten.contiguous aten.alias aten.detach aten.embedding aten.flatten aten.repeat",
        rules.same,
    ),
    ("MaxPool GlobalMaxPool Unique", rules.same, _COUNT),
    ("TopK", rules.same, rules.index_along(-1)),
    ("Cast CastLike", rules.cast),
    ("Dropout", rules.dropout),
    ("Softmax Hardmax HardSigmoid aten._softmax aten.softmax Bernoulli HannWindow HammingWindow", _UNIT),
    ("Sigmoid aten.sigmoid", rules.rising(_logistic)),
    ("Tanh aten.tanh", rules.rising(math.tanh)),
    ("Erf aten.erf", rules.rising(math.erf)),
    ("Sin Cos aten.sin aten.cos", _SYMMETRIC),
    ("Softsign", rules.rising(lambda x: x / (1 + abs(x)) if math.isfinite(x) else math.copysign(1, x))),
    ("Sign aten.sign", rules.constant(-1.0, 1.0, integer=True)),
    ("Atan", rules.rising(math.atan)),
    ("Asin", rules.constant(-1.5708, 1.5708)),
    ("Acos", rules.constant(0.0, 3.1416)),
    ("Acosh", rules.rising(math.acosh, 1.0)),
    ("Asinh", rules.rising(math.asinh)),
    ("Sinh", rules.rising(math.sinh)),
    ("LogSoftmax aten._log_softmax", rules.constant(-INF, 0.0)),
    ("Relu aten.relu", rules.rising(lambda x: max(x, 0.0), keeps_integers=True)),
    ("Exp aten.exp", rules.rising(math.exp)),
    ("Log aten.log", rules.rising(_logarithm, 0.0)),
    ("Sqrt aten.sqrt", rules.rising(math.sqrt, 0.0)),
    ("Softplus", rules.rising(_softplus)),
    ("Gelu com.microsoft.Gelu aten.gelu", rules.gate(-0.17005)),
    ("HardSwish", rules.gate(-0.37501)),
    ("Mish", rules.gate(-0.30885)),
    ("Swish aten.silu", rules.gate(-0.27847)),
    ("com.microsoft.QuickGelu", rules.gate(-0.27847, 1.702)),
    ("Elu Celu Selu", rules.exponential_unit),
    ("LeakyRelu", rules.leaky),
    ("ThresholdedRelu", rules.gate(0.0)),
    ("Abs aten.abs", rules.unary(magnitude)),
    ("Neg aten.neg", rules.unary(negated)),
    ("Reciprocal aten.reciprocal", rules.unary(lambda arg: quotient(ONE, arg))),
    ("Floor", rules.rounding(math.floor)),
    ("Ceil", rules.rounding(math.ceil)),
    ("Round", rules.rounding(round)),
    ("Add aten.add", rules.binary(lambda left, right: total([left, right]))),
    ("Sub aten.sub", rules.binary(rules.difference)),
    ("Mul aten.mul", rules.multiply),
    ("Div", rules.divide),
    ("Mod", rules.modulo),
    ("Pow", rules.power),
    ("Min aten.minimum", rules.all_of(least)),
    ("Max aten.maximum", rules.all_of(greatest)),
    ("Sum", rules.summed),
    ("Mean", rules.mean),
    ("Clip", rules.clip),
    ("Where aten.where", rules.one_of(1, 2)),
    ("Concat", rules.all_of(hull)),
    ("Pad", rules.pad),
    ("Trilu", rules.one_of(0, zero=True)),
    ("MaxRoiPool RoiAlign MaxUnpool", rules.one_of(0, zero=True)),
    ("Resize GridSample", rules.interpolate),
    ("Scatter ScatterElements ScatterND", rules.scatter),
    ("OneHot", lambda op, args, graph: args[2] if len(args) > 2 else None),
    ("ConstantOfShape", rules.filled),
    ("EyeLike", rules.constant(0.0, 1.0, integer=True)),
    ("RandomUniform RandomUniformLike", rules.uniform),
    ("Range", rules.positions),
    ("Shape Size NonZero", _COUNT),
    ("ArgMax ArgMin", rules.index_along(0)),
    ("ReduceMax aten.amax", rules.extreme(True)),
    ("ReduceMin aten.amin", rules.extreme(False)),
    ("ReduceMean GlobalAveragePool", rules.average),
    ("AveragePool", rules.average_pool),
    ("ReduceSum", rules.sum_of(lambda arg: arg)),
    ("ReduceL1", rules.sum_of(magnitude)),
    ("ReduceSumSquare", rules.sum_of(square)),
    ("ReduceL2", rules.norm),
    ("CumSum", rules.running_sum),
    ("DequantizeLinear com.microsoft.DequantizeLinear", rules.dequantize),
    ("LSTM GRU RNN", rules.cell),
)

RULES: dict[str, tuple[Rule, ...]] = {name: tuple(row) for names, *row in _ROWS for name in names.split()}
EVERY_OUTPUT = frozenset({"Split", "aten.split", "aten.chunk", "aten.unbind"})  # each holds elements of the first input
