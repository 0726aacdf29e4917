"""Rule: what is numerically true of an operator, or of a pattern of operators, with its reason and its examples."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from ampgraph.judgement import Category

Scalar = int | float | str
Within = tuple[float, float] | Literal["exact-integers"]


@dataclass(frozen=True, slots=True)
class Match:
    """A condition on one attribute: present and, where `values` is not empty, equal to one of them."""

    attribute: str
    values: tuple[Scalar, ...] = ()


@dataclass(frozen=True, slots=True)
class Operand:
    """A condition on one input: a constant whose elements all equal one of `values`."""

    slot: int
    values: tuple[float, ...]


@dataclass(frozen=True, slots=True)
class Step:
    """One op of a chain. The step before enters through input `slot`, through any where it is None."""

    ops: tuple[str, ...]
    slot: int | None = None
    squares: bool = False  # multiplies a value by itself, raises it to the power 2, or squares by name
    constant_at_most: float | None = None  # has a constant operand c with 0 < |c| <= this: an epsilon
    attributes: tuple[Match, ...] = ()
    marks: bool = True  # False: context only, the rule says nothing of this op


@dataclass(frozen=True, slots=True)
class Example:
    """A graph in ONNX text, and the precision that values of it take under the objective `coverage`."""

    graph: str
    expect: Mapping[str, str] = field(hash=False)


@dataclass(frozen=True, slots=True)
class Rule:
    """A claim about `ops`, or about the marked ops of a `chain`; the other keys narrow where it applies, or refine it.

    `unless_within`: the rule is silent where the first input and every float operand and result are proven inside.
    `only_after` (judge evaluates it): an infer op stays float32 unless each of its float inputs is a constant, comes
    through clear and infer ops from ops of that category and constants alone, or is proven within +-`small` (0: no
    proof counts).
    `saturates` (judge): a constant beyond the format's range is clamped to its ends without changing the result.
    `precise_slots` (judge): constants in these input slots must survive conversion element by element.
    `constant_error` (judge): relative L2 error that rounding a constant may have; 0: twice the unit roundoff.
    `summands` (judge): names of inputs that are only added: there a constant may lose 5 %, and all that is
    lost among subnormal numbers, where the result is rounded as coarsely.
    `large_constants` (judge): the kernel computes in float32 inside, so constants do no harm while they are finite.
    """

    name: str
    category: Category
    why: str
    source: str
    ops: tuple[str, ...] = ()
    chain: tuple[Step, ...] = ()
    dialect: str = ""
    min_version: int = 0
    max_version: int = 0
    variables: tuple[str, ...] = ()
    attributes: tuple[Match, ...] = ()
    constants: tuple[Operand, ...] = ()
    input_dtype: tuple[str, ...] = ()
    outputs: tuple[int, ...] = ()
    unless_within: Within | None = None
    only_after: Category | None = None
    small: float = 0.0
    saturates: bool = False
    precise_slots: tuple[int, ...] = ()
    large_constants: bool = False
    constant_error: float = 0.0
    summands: tuple[str, ...] = ()
    examples: tuple[Example, ...] = ()
    place: str = ""  # file and line it was read from
    user: bool = False

    @property
    def narrowed(self) -> bool:
        """Whether the rule speaks of only some uses of its ops."""
        versions = self.min_version or self.max_version
        selects = self.attributes or self.constants or self.input_dtype or self.outputs or self.unless_within
        return bool(self.chain or self.dialect or versions or selects or self.variables)

    @property
    def precedence(self) -> tuple[bool, int, bool, str]:
        """Sort key, the winner first: the user's, deny chains, narrowed ones, plain ones; then deny; then by name."""
        denies = self.category is Category.DENY
        rank = 0 if self.chain and denies else 1 if self.narrowed else 2
        return (not self.user, rank, not denies, self.name)

    @property
    def named_ops(self) -> tuple[str, ...]:
        """Every op the rule names, those of its chain included."""
        return self.ops + tuple(op for step in self.chain for op in step.ops)
