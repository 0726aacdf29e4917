"""The README's training loops, word for word, on a small network."""

import re
from pathlib import Path
from typing import Any

import torch
from torch.nn.functional import cross_entropy

import ampgraph
from tests.training import batches, network

README = Path(ampgraph.__file__).parent.parent / "README.md"
BLOCK = re.compile(r"<!-- train loop -->\n```python\n(.*?)```", re.DOTALL)


def test_they_train() -> None:
    """One after the other: the second goes on with what the first left."""
    module, loader = network(drop=0.0), batches(1) * 30
    (images, labels), before = loader[0], cross_entropy(module(loader[0][0]), loader[0][1])
    names: dict[str, Any] = {"module": module, "images": images, "loader": loader}
    blocks = BLOCK.findall(README.read_text(encoding="utf-8"))
    assert len(blocks) == 2
    for block in blocks:
        exec(compile(block, "README.md", "exec"), names)
    assert not names["scaler"].history()[-1].skipped
    assert len(names["scaler"].history()) == len(loader)
    after = cross_entropy(names["traced"](images), labels)
    assert torch.isfinite(after)
    assert after < before / 1.2
