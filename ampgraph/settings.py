"""Settings: what can be chosen of a session on a GPU, and the choice that was measured, as files record it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Literal

Choice = bool | Literal["auto"]

SESSION_KEY = "ampgraph.session"  # model metadata
GRAPH, PLAIN = "as CUDA graph", "plain"
OWN_CHOICE = "the session's own choice"


@dataclass(frozen=True)
class Setting:
    """What can be chosen of a CUDA session; "auto" is the session's own rule, `bias_inside` None too.

    `native`: with kernels of our own or without.
    """

    nhwc: Choice = "auto"
    tf32: Choice = "auto"
    bias_inside: bool | None = None
    native: Choice = "auto"

    @property
    def options(self) -> dict[str, Any]:
        """The arguments of `Session` that make it so, whatever a file records."""
        return {
            "nhwc": self.nhwc,
            "tf32": self.tf32,
            "provider_options": self.provider_options,
            "native": self.native,
            "recorded": False,
        }

    @property
    def provider_options(self) -> dict[str, str]:
        """What of it is an option of onnxruntime's CUDA provider alone."""
        return {} if self.bias_inside is None else {"fuse_conv_bias": str(int(self.bias_inside))}

    @property
    def changes(self) -> int:
        """How many things it has otherwise than the session's own rule may."""
        return sum(each != "auto" for each in (self.nhwc, self.tf32, self.native)) + (self.bias_inside is not None)

    @property
    def words(self) -> str:
        """What it is, to be read."""
        said = [] if self.nhwc == "auto" else ["channels last" if self.nhwc else "channels first"]
        said += [] if self.tf32 == "auto" else ["TF32" if self.tf32 else "without TF32"]
        said += [] if self.native == "auto" else ["kernels of our own" if self.native else "no kernels of our own"]
        inside = {True: ["biases inside convolutions"], False: ["biases after convolutions"], None: []}
        return ", ".join([*said, *inside[self.bias_inside]]) or OWN_CHOICE


@dataclass(frozen=True)
class MeasuredSetting:
    """A setting that was measured to be the fastest, and on what.

    `provider`: onnxruntime's name of it. `cuda_graph`: whether runs replayed one. `shapes`: of the inputs.
    """

    setting: Setting
    device: str
    provider: str
    cuda_graph: bool
    shapes: Mapping[str, tuple[int, ...]]

    @property
    def words(self) -> str:
        """The setting and what it was measured on, in one line."""
        way = GRAPH if self.cuda_graph else PLAIN
        said = ", ".join(filter(None, (way, words_of_shapes(self.shapes))))
        return f"{self.setting.words}, as measured on {self.device} ({said})"

    def as_json(self) -> dict[str, Any]:
        """What a plan file holds of it."""
        return {
            **asdict(self.setting),
            "device": self.device,
            "provider": self.provider,
            "cuda_graph": self.cuda_graph,
            "shapes": {name: list(shape) for name, shape in self.shapes.items()},
        }

    def to_text(self) -> str:
        """What model metadata hold of it; the same for equal ones."""
        return json.dumps(self.as_json(), ensure_ascii=False, sort_keys=True)


def words_of_shapes(shapes: Mapping[str, tuple[int, ...]]) -> str:
    """Shapes of inputs, to be read: `x=1x3x48x320, k=scalar`."""
    return ", ".join(f"{name}={'x'.join(map(str, shape)) or 'scalar'}" for name, shape in shapes.items())


def from_json(content: object) -> MeasuredSetting:
    """What a file records, read back. Raises ValueError, with the place in words, for anything else."""
    if not isinstance(content, dict):
        raise ValueError("is no table of a setting")
    expected = MeasuredSetting(Setting(), "", "", False, {}).as_json()
    for key in expected.keys() ^ content.keys():
        raise ValueError(f"lacks {key!r}" if key in expected else f"holds {key!r}, which means nothing")
    for key, value in content.items():
        if not _fits(key, value):
            raise ValueError(f"has no known {key} ({json.dumps(value)})")
    shapes = {name: tuple(shape) for name, shape in content["shapes"].items()}
    setting = Setting(*(content[key] for key in ("nhwc", "tf32", "bias_inside", "native")))
    return MeasuredSetting(setting, content["device"], content["provider"], content["cuda_graph"], shapes)


def from_text(text: str) -> MeasuredSetting:
    """A setting from model metadata. Raises ValueError for what is none."""
    try:
        content = json.loads(text)
    except (ValueError, RecursionError):
        raise ValueError("is not JSON") from None
    return from_json(content)


def _fits(key: str, value: object) -> bool:
    """Whether a value is of the kind that this entry has."""
    if key in ("nhwc", "tf32", "native"):
        return value == "auto" or isinstance(value, bool)
    if key == "bias_inside":
        return value is None or isinstance(value, bool)
    if key == "cuda_graph":
        return isinstance(value, bool)
    if key == "shapes":
        return isinstance(value, dict) and all(map(_is_shape, value.values()))
    return isinstance(value, str)


def _is_shape(value: object) -> bool:
    return isinstance(value, list) and all(type(size) is int and size >= 0 for size in value)
