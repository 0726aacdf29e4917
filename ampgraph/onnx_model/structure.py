"""If, Loop, Scan and SequenceMap: which slots of the op and of its bodies are one decision."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

from onnx import NodeProto

from ampgraph.graph import Slot, Value
from ampgraph.onnx_model.links import attribute_of
from ampgraph.onnx_model.schema import Signature
from ampgraph.onnx_model.types import Type
from ampgraph.precision import Precision

UNKNOWN_REPEATS = 8.0
BRANCH_SHARE = 0.5
UNKNOWN_TYPE = "the type of what it reads or makes is not known"


@dataclass(frozen=True, slots=True)
class Structure:
    """Variables of a structural op. A state has one name outside and inside; "" marks a slot that is no decision."""

    kind: str
    states: int = 0  # loop-carried values
    scans: int = 0  # scanned inputs
    offset: int = 0  # op inputs before the states: Loop's trip count and condition, Scan-8's lengths
    body_offset: int = 0  # body inputs before the states: Loop's counter and condition
    body_output_offset: int = 0  # body outputs before the states: Loop's condition
    pin: str = ""
    admits: frozenset[Precision] = frozenset()  # by the schema, of states, branches and scanned values alike
    blind: frozenset[str] = frozenset()  # variables of which one slot's type is not known

    def pin_of(self, variable: str) -> str:
        """Why a variable cannot move; "" when it can."""
        return self.pin or (UNKNOWN_TYPE if variable in self.blind else "")

    def knowing(self, incoming: Sequence[Type], outgoing: Sequence[Type]) -> Structure:
        """The structure with the variables pinned whose types outside the bodies are not all known."""
        slots = [(self.input_variable(i), known) for i, known in enumerate(incoming)]
        slots += [(self.output_variable(i), known) for i, known in enumerate(outgoing)]
        return replace(self, blind=frozenset(name for name, known in slots if not known.dtype and known.kind))

    def input_variable(self, index: int) -> str:
        """Variable of op input `index`."""
        if self.kind == "SequenceMap":
            return f"in_{index}"
        return self._named(index - self.offset)

    def output_variable(self, index: int) -> str:
        """Variable of op output `index`."""
        if self.kind in ("If", "SequenceMap"):
            return f"out_{index}"
        return f"state_{index}" if index < self.states else f"out_{index - self.states}"

    def body_input_variable(self, index: int) -> str:
        """Variable of body input `index`."""
        if self.kind == "SequenceMap":
            return f"in_{index}"
        return self._named(index - self.body_offset)

    def body_output_variable(self, index: int) -> str:
        """Variable of body output `index`."""
        index -= self.body_output_offset
        return "" if index < 0 else self.output_variable(index)

    def type_into_body(self, index: int, outer: list[Type]) -> Type:
        """The type that body input `index` takes from outside, when the body does not declare one."""
        position = index - self.body_offset + self.offset
        if self.kind == "If" or index < self.body_offset or position >= len(outer):
            return Type("")
        known = outer[position]
        if self.kind == "SequenceMap":
            return Type(known.dtype)
        return Type(known.dtype, known.kind, known.shape if index - self.body_offset < self.states else None)

    def repeats(
        self, constant_of: Callable[[Slot], float | None], inputs: tuple[Slot, ...], values: Mapping[str, Value]
    ) -> float:
        """How often a body runs for one run of the op: a constant trip count, a known scan length, else a guess."""
        if self.kind == "If":
            return BRANCH_SHARE
        if self.kind == "Loop" and inputs and inputs[0].value:
            count = constant_of(inputs[0])
            return UNKNOWN_REPEATS if count is None or not 0 < count < 1e6 else count
        if self.kind == "Scan" and self.scans and len(inputs) > self.offset + self.states:
            shape = getattr(values.get(inputs[self.offset + self.states].value), "shape", None)
            return float(shape[0]) if shape and shape[0] > 0 else UNKNOWN_REPEATS
        return UNKNOWN_REPEATS

    def _named(self, index: int) -> str:
        if index < 0:
            return ""
        return f"state_{index}" if index < self.states else f"scan_{index - self.states}"


def structure_of(node: NodeProto, schema: Signature | None) -> Structure | None:
    """The structure of a control-flow op; None for every other op."""
    if node.domain not in ("", "ai.onnx"):
        return None
    structure = _structure(node)
    values = schema.outputs[-1].type if structure and schema and schema.outputs else ""
    admits = schema.admits.get(values, frozenset()) if schema else frozenset()
    return replace(structure, admits=admits) if structure else None


def _structure(node: NodeProto) -> Structure | None:
    if node.op_type == "If":
        return Structure("If")
    if node.op_type == "Loop":
        return Structure("Loop", states=len(node.input) - 2, offset=2, body_offset=2, body_output_offset=1)
    if node.op_type == "SequenceMap":
        return Structure("SequenceMap", pin="a sequence admits no cast")
    if node.op_type == "Scan":
        scanned = attribute_of(node, "num_scan_inputs")
        scans = scanned.i if scanned else 0
        body = attribute_of(node, "body")
        extra = len(node.input) - len(body.g.input) if body else 0  # opset 8 begins with sequence lengths
        return Structure("Scan", states=len(node.input) - scans - extra, scans=scans, offset=extra)
    return None
