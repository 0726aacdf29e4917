"""Comparisons to encode and to print."""

import math

from ampgraph.inspection.comparison import FORMAT, Advice, Comparison, Difference


def difference(value: str = "v", **facts: object) -> Difference:
    """A difference within tolerance, but for what is said."""
    return Difference(
        **{
            "value": value, "name": value, "node": f"make {value}", "type": "Mul", "order": 0, "elements": 6,
            "relative": 1e-3, "largest": 0.5, "at": (1, 2), "reference": 2.0, "found": 2.5, "magnitude": 3.0,
            "overflowed": 0, "flushed": 0, "within": True, **facts,
        }
    )  # fmt: skip


def comparison(**facts: object) -> Comparison:
    """A comparison of a model that overflows."""
    over = difference("big", found=math.inf, overflowed=2, within=False, order=1)
    lost = difference("tiny", flushed=1, flushed_at=(0,), order=2)
    odd = difference(
        "odd", relative=math.inf, largest=math.inf, reference=math.nan, found=-math.inf, at=(), within=False, order=3,
        elements=0, mismatch="shape 2 instead of 3",
    )  # fmt: skip
    return Comparison(
        **{
            "format": FORMAT, "generator": "ampgraph 0", "reference": "a.onnx", "candidate": "b.onnx",
            "ran": "evaluator", "runtime": "float16 evaluator on the CPU", "inputs": "generated",
            "shapes": {"x": (1, 3), "n": ()}, "tolerance": 3e-2,
            "outputs": (difference("y"),), "values": (difference("v"), over, lost, odd), "unmatched": 1,
            "first_beyond": "big", "first_overflow": "big", "first_flush": "tiny", "worst": ("odd", "big", "v"),
            "within": True,
            "advice": (
                Advice("big", "float16: 1 us against 2 us", ("make big",), "ampgraph convert a.onnx --keep '^big$'"),
            ),
            "notes": ("3 values are in branches that these inputs do not take",), **facts,
        }
    )  # fmt: skip
