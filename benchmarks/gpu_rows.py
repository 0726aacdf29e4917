"""ampgraph against its peers on one GPU: `python -m benchmarks.gpu_rows [--only A,B] [--models DIR] [--corpus DIR]`.

Networks of benchmarks/gpu_models.py at their large batch and at batch 1, or the models of the corpus at 1 and 16. All
contenders of a network at a batch run in one process in interleaved rounds, with the same weights: float32, TF32,
ampgraph, every other converter (gpu_onnx.py), torch in half precision (gpu_torch.py). Like with like: CUDA graphs, or
with `--plain` runs without them; of each contender the faster layout of convolutions. Ampgraph runs in every setting of
a session, and tuned: the file that `convert --tune` makes in `--tune-seconds`, opened as it records. Plain runs of
small models wait for the host, and sessions that are alike differ by a tenth in it: `--openings 3` opens each thrice.

Results are added case by case to one file, so a run that is cut short keeps what it has. Networks may be measured by
several processes at a time with the same `--lock`: torch compiles side by side; what measures is alone, as tuning and
the opening of ONNX sessions do. `benchmarks.compile_ahead` before it leaves little to compile, and
`benchmarks.all_rows` starts a process a network on every GPU.

`--own-only` measures float32, TF32 and ampgraph again where the peers are kept already. Such a case is kept beside the
whole one, under a key of its own, so no row holds figures of two runs; gpu_summary.py says how they are set together.
A whole measurement of the case replaces both.

`python -m benchmarks.gpu_rows --add FILE` adds a file from another machine to the kept ones.
"""

from __future__ import annotations

import argparse
import gc
import json
import sys
import tempfile
import warnings
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import torch

from ampgraph.onnx_model.feeds import batch_axes
from ampgraph.onnx_model.run import CUDA, best_provider
from benchmarks import gpu_models, gpu_onnx, gpu_torch
from benchmarks.corpus import samples
from benchmarks.corpus_inputs import SINGLES
from benchmarks.gpu_limits import Ceilings, Work, as_json, ceilings, limits
from benchmarks.gpu_onnx import FOR_GRAPHS, OF_OURS, OURS, TUNED, Case
from benchmarks.gpu_timing import Array, Contender, Turns, relative, timed
from benchmarks.record import RESULTS, add, machine, table

BEST = "ampgraph, best setting"
_TOLERANCE = 5e-2  # relative L2: who is further off is no peer; random ResNet-50 in float16 is at 3e-2, whoever made it
OWN_ONLY = " own only"  # ends the key of a case without its peers
_LAUNCH_BOUND = 1.0  # ms a plain run: faster ones wait for the host on any GPU
_NO_PEERS = (*OF_OURS, BEST)


@dataclass(frozen=True, slots=True)
class Row:
    """One contender on one network at one batch: milliseconds, median and quartiles; error to float32.

    `sample_error`: the median of the errors that each sample has by itself, of the corpus; one whose answer hangs on a
    hair can be as far off as all others together.
    """

    contender: str
    ms: float
    low: float
    high: float
    error: float
    setting: str
    note: str = ""
    sample_error: float | None = None


def fastest(rows: Sequence[Row]) -> list[Row]:
    """Of each contender its faster setting, of ours the session's own choice and the fastest, plain and as a graph."""
    best: dict[tuple[str, bool], Row] = {}
    for row in rows:
        names = [row.contender]
        if row.contender in (OURS, FOR_GRAPHS):
            own = "default" in row.setting and "no tf32" not in row.setting
            names = [BEST, *([row.contender] if own else [])]
        for name in names:
            key = name, row.setting.startswith("graph")
            if key not in best or row.ms < best[key].ms:
                best[key] = replace(row, contender=name)
    return list(best.values())


def summary(rows: Sequence[Row], allowed: Mapping[str, float]) -> dict[str, Any]:
    """Ours, the best peers (those whose answers are right), the ratios and the distance to the hardware's limit."""

    def least(found: list[Row]) -> Row | None:
        return min(found, key=lambda row: row.ms, default=None)

    peers = [row for row in rows if row.contender not in _NO_PEERS and row.error <= _TOLERANCE]
    best_onnx, best = least([row for row in peers if not row.contender.startswith("torch")]), least(peers)
    said: dict[str, Any] = {
        "best_onnx_peer": best_onnx and f"{best_onnx.contender}, {best_onnx.setting}",
        "best_onnx_peer_ms": best_onnx and best_onnx.ms,
        "best_peer": best and f"{best.contender}, {best.setting}",
        "best_peer_ms": best and best.ms,
    }
    for name, key in ((_ours_in(rows), "ampgraph"), (BEST, "ampgraph_best"), (TUNED, "ampgraph_tuned")):
        row = least([row for row in rows if row.contender == name])
        said[f"{key}_ms"] = row and row.ms
        said[f"{key}_to_best_peer"] = row and best and row.ms / best.ms
        said[f"{key}_to_limit"] = row.ms / allowed["limit"] if row and allowed else None
    return said


def _ours_in(rows: Sequence[Row]) -> str:
    """The contender that is ours: CUDA graphs have plans of their own."""
    graphs = any(row.contender == FOR_GRAPHS and row.setting.startswith("graph") for row in rows)
    return FOR_GRAPHS if graphs or all(row.contender != OURS for row in rows) else OURS


def measured(found: Sequence[Contender], samples: int = 1) -> list[Row]:
    """Time them all, a row a name and setting; errors are to the first, which is float32. `samples`: in each answer."""
    rows = {}
    for each, times in zip(found, timed(list(found)), strict=True):
        error, apart = relative(found[0].answer, each.answer), sample_error(found[0].answer, each.answer, samples)
        row = Row(each.name, times.median, times.low, times.high, error, each.setting, each.note, apart)
        rows[each.name, each.setting] = row
    return list(rows.values())


def sample_error(reference: Array, found: Array, samples: int) -> float | None:
    """The median error of samples by themselves; None where answers are not of so many."""
    if samples == 1 or reference.shape != found.shape or reference.size % samples:
        return None
    pairs = zip(reference.reshape(samples, -1), found.reshape(samples, -1), strict=True)
    return float(np.median([relative(one, other) for one, other in pairs]))


def line(key: str, said: Mapping[str, Any], allowed: Mapping[str, float]) -> str:
    """What matters of a case in one line."""

    def figure(name: str) -> str:
        return "-" if said[name] is None else f"{said[name]:.3g}"

    words = [
        f"{key}: ampgraph {figure('ampgraph_ms')} ms (best setting {figure('ampgraph_best_ms')}, tuned "
        f"{figure('ampgraph_tuned_ms')})",
        f"best ONNX peer {figure('best_onnx_peer_ms')} ({said['best_onnx_peer']})",
        f"best peer {figure('best_peer_ms')} ({said['best_peer']})",
        f"ours/peer {figure('ampgraph_to_best_peer')} (best setting {figure('ampgraph_best_to_best_peer')})",
    ]
    if allowed:
        parts = ", ".join(f"{name} {ms:.3g}" for name, ms in allowed.items())
        words.append(f"{figure('ampgraph_to_limit')} times the limit ({parts} ms)")
    return "; ".join(words)


def network_cases(arguments: argparse.Namespace, folder: Path) -> Iterator[Case]:
    """The networks that are asked for; inputs as torch gets them."""
    for name in gpu_models.named(arguments.only):
        path = gpu_onnx.source_path(name, arguments.models, folder)
        names = [value.name for value in onnx.load(path, load_external_data=False).graph.input]
        for size in arguments.batches.split(","):
            batch = gpu_models.row(name)[2] if size == "large" else int(size)
            arrays = [each.numpy() for each in gpu_models.inputs(name, batch)]
            feeds = dict(zip(names, arrays, strict=True))
            yield Case(name, batch, path, feeds, path.parent, arguments.modelopt, arguments.plain)


def corpus_cases(arguments: argparse.Namespace, folder: Path) -> Iterator[Case]:
    """The real models; at batch 1 alone where no batch is free. Errors are on the same samples at every batch."""
    for path in sorted(arguments.corpus.glob("*.onnx")):
        if not any(each in path.stem for each in arguments.only.split(",")):
            continue
        found = samples(path, arguments.corpus)
        axes = batch_axes(onnx.load(path, load_external_data=False), found[0])
        many = {name: np.concatenate([each[name] for each in found], axis) for name, axis in axes.items()}
        made = arguments.models or folder, arguments.modelopt
        yield Case(path.stem, 1, path, found[0], *made, runs_plain=True, samples=tuple(found))
        if axes:
            yield Case(path.stem, len(found), path, {**found[0], **many}, *made, runs_plain=True)


def contenders(case: Case, made: list[gpu_onnx.Made], arguments: argparse.Namespace, turns: Turns) -> list[Contender]:
    """All of a case: of the corpus, which torch does not have, both plain runs and CUDA graphs."""
    found = list(gpu_onnx.contenders(case, made, turns, arguments.plain, arguments.provider))
    if arguments.corpus is not None and not arguments.plain and arguments.provider != "cpu":
        plain = list(gpu_onnx.contenders(case, made, turns, plain=True, provider=arguments.provider))
        waits_for_host = bool(plain) and plain[0].sampler()() < _LAUNCH_BOUND
        for _ in range(arguments.openings - 1 if waits_for_host else 0):
            plain += gpu_onnx.contenders(case, made, turns, plain=True, provider=arguments.provider)
        found += plain
    if arguments.corpus is None and torch.cuda.is_available() and not arguments.own_only:
        compiled = gpu_torch.COMPILED[: 1 + arguments.max_autotune]
        modes = () if arguments.plain or arguments.no_compile else compiled
        try:
            found += gpu_torch.contenders(case.network, case.batch, modes, turns)
        except torch.cuda.OutOfMemoryError as error:
            print(f"{case.network} torch: {str(error)[:200]}", flush=True)
    return found


def run_case(
    case: Case, key: str, arguments: argparse.Namespace, turns: Turns, reached: Ceilings | None
) -> Ceilings | None:
    """Measure one case, print and keep it. Returns the GPU's ceilings, measured once in a process."""
    made = _made(case, arguments, turns)
    found = contenders(case, made, arguments, turns)
    with turns.alone():
        if reached is None and torch.cuda.is_available():
            reached = ceilings()
        rows = measured(found, SINGLES if arguments.corpus is not None else 1)
    work = next((each.work for each in made if each.work), None)
    allowed = limits(work, reached) if work and reached else {}
    best = fastest(rows)
    said = summary(best, allowed)
    cells = [[row.contender, row.ms, row.error, row.setting] for row in sorted(best, key=lambda row: row.ms)]
    print(table(["contender", "ms", "error", "setting"], cells))
    print(line(key, said, allowed), flush=True)
    kept = _kept(case, said, rows, made) | _limits_kept(work, reached, allowed)
    add(arguments.result, {key: kept}, arguments.result_dir, stale([key]))
    return reached


def _made(case: Case, arguments: argparse.Namespace, turns: Turns) -> list[gpu_onnx.Made]:
    """Everybody's model, ours tuned last: that takes the GPU's time."""
    made = gpu_onnx.prepared(case, arguments.own_only)
    if arguments.without_tune or arguments.plain:
        return made
    return [*made, gpu_onnx.tuned(case, arguments.tune_seconds, arguments.provider, turns)]


def stale(keys: Iterable[str]) -> list[str]:
    """What a later measurement of whole cases stands for too: those of ours alone."""
    return [f"{key}{OWN_ONLY}" for key in keys if not key.endswith(OWN_ONLY)]


def _kept(case: Case, said: Mapping[str, Any], rows: list[Row], made: list[gpu_onnx.Made]) -> dict[str, Any]:
    failures = {each.title: each.failure for each in made if each.failure}
    known = {"network": case.network, "batch": case.batch, "machine": machine(), "torch": torch.__version__}
    modelled = {each.title: dict(each.modelled) for each in made if each.modelled}
    return {
        **known,
        "summary": said,
        "not_there": failures,
        "modelled": modelled,
        "rows": [asdict(row) for row in rows],
    }


def _limits_kept(work: Work | None, reached: Ceilings | None, allowed: Mapping[str, float]) -> dict[str, Any]:
    if work is None or reached is None:
        return {}
    return {"work": as_json(work), "ceilings": as_json(reached), "limits_ms": dict(allowed)}


def _key(case: Case, arguments: argparse.Namespace) -> str:
    plain, own = " plain" if arguments.plain else "", OWN_ONLY if arguments.own_only else ""
    return f"{case.network} b{case.batch}{plain}{own}"


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--models", type=Path, help="folder of models; what is made of them goes there too")
    parser.add_argument("--modelopt", type=Path, help="folder of benchmarks/modelopt_stripped.py")
    parser.add_argument("--corpus", type=Path, help="real models instead (benchmarks/fetch_corpus.py)")
    parser.add_argument("--only", default="", help="comma-separated substrings of the networks")
    parser.add_argument("--batches", default="large,1")
    parser.add_argument("--plain", action="store_true", help="runs without CUDA graphs")
    parser.add_argument(
        "--openings", type=int, default=1, metavar="N", help="of each for plain runs of the corpus under 1 ms"
    )
    parser.add_argument("--own-only", action="store_true", help="float32, TF32 and ours, where peers are kept already")
    parser.add_argument("--without-tune", action="store_true", help="without what `convert --tune` makes")
    parser.add_argument("--tune-seconds", type=float, default=25.0, metavar="S", help="of the GPU to tune a case in")
    parser.add_argument("--no-compile", action="store_true", help="without torch.compile")
    parser.add_argument("--max-autotune", action="store_true", help="torch.compile in that mode too")
    parser.add_argument("--provider", default="cuda", help="cpu: to try the benchmark itself")
    parser.add_argument("--lock", type=Path, help="a file's path: the same for all processes on this GPU")
    parser.add_argument("--prepare", action="store_true", help="only make the files that --models keeps")
    parser.add_argument("--missing", action="store_true", help="only cases that the result does not have")
    parser.add_argument("--result", default="gpu_rows")
    parser.add_argument("--result-dir", type=Path, default=RESULTS)
    parser.add_argument("--add", type=Path, nargs="*", default=[], help="results to add to the kept ones, and stop")
    return parser


def _done(arguments: argparse.Namespace) -> frozenset[str]:
    path = arguments.result_dir / f"{arguments.result}.json"
    return frozenset(json.loads(path.read_text())["figures"]) if path.exists() and arguments.missing else frozenset()


def main() -> None:
    """Measure case by case; or add files of other runs."""
    arguments = _parser().parse_args()
    for file in arguments.add:
        figures = json.loads(file.read_text())["figures"]
        print(add(arguments.result, figures, arguments.result_dir, stale(figures)))
    if arguments.add:
        return
    if arguments.provider == "cuda" and best_provider() != CUDA:
        sys.exit("onnxruntime's CUDA provider does not open here: no row would have one of ours")
    warnings.simplefilter("ignore")
    done, turns = _done(arguments), Turns(arguments.lock)
    reached: Ceilings | None = None
    with tempfile.TemporaryDirectory() as scratch:
        cases = corpus_cases if arguments.corpus is not None else network_cases
        for case in cases(arguments, Path(scratch)):
            key = _key(case, arguments)
            if key in done:
                continue
            if arguments.prepare:
                made = _made(case, arguments, turns)
                print(key, *(f"{each.title}: {each.failure or each.note}" for each in made), sep="; ", flush=True)
                continue
            try:
                reached = run_case(case, key, arguments, turns, reached)
            except Exception as error:  # one case's fault is no other's
                print(f"{key}: {type(error).__name__}: {str(error)[:300]}", flush=True)
            gc.collect()
            if torch.cuda.is_available():
                torch.cuda.empty_cache()


if __name__ == "__main__":
    main()
