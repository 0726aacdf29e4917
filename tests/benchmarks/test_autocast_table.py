"""The table of our casts beside autocast's: complete, current, and every difference has its reason."""

import pytest
import torch

from ampgraph.judgement import Category
from benchmarks import autocast_table

PINNED = torch.__version__.startswith("2.13.0")


@pytest.mark.skipif(not PINNED, reason="the table is of the pinned torch's lists")
def test_the_table_is_current(capsys: pytest.CaptureFixture[str]) -> None:
    assert autocast_table.main(["--check"]) == 0, "run python -m benchmarks.autocast_table --write"
    assert autocast_table.main(["--help"]) == 2
    assert "usage" in capsys.readouterr().err


def test_the_lists_are_read_whole() -> None:
    lists = autocast_table.autocast_lists()
    assert len(lists) > 100
    assert {lists[op] for op in ("conv2d", "softmax", "cross", "norm")} == {"low", "float32", "widest"}
    assert lists["binary_cross_entropy"] == "refused"


def test_every_op_has_a_rule_and_every_difference_a_reason() -> None:
    for row in autocast_table.rows():
        assert row.rule.category is not Category.UNKNOWN
        assert len(row.rule.why) > 20
        assert row.difference or (row.autocast, row.rule.category) in autocast_table.SAME


def test_products_and_losses_are_as_autocast_has_them() -> None:
    """What most of a training step is made of does not differ."""
    found = {row.op: row.difference for row in autocast_table.rows()}
    for op in ("aten.conv2d", "aten.linear", "aten.matmul", "aten.bmm", "aten.scaled_dot_product_attention"):
        assert not found[op]
    for op in ("aten.nll_loss", "aten.mse_loss", "aten.kl_div", "aten.sum", "aten.exp", "aten.log", "aten.cumsum"):
        assert not found[op]
