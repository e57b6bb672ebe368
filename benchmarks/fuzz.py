"""Hostile models against the whole compiler: what must never crash, hang, or write where it should not.

    python benchmarks/fuzz.py --cases 100000 --jobs 2 --state fuzz-state
    python benchmarks/fuzz.py --replay 4711              # one case, with its traceback

Every case is a small model mutated by a seed of its own (irshrink/testing/mutation), taken through loading,
checks, shape inference, cleanup, saving and lowering, and some of them to C, in a forked child that has
10 seconds, 4 GB and one folder (irshrink/testing/sandbox.py). A refusal is a ``UserError``; everything else
that is raised, every signal and every file outside the output folder is a crash. Findings are appended to
``STATE/findings.jsonl``; a run that was stopped goes on where it was.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import tempfile
import time
import traceback
from collections import Counter
from pathlib import Path

from fuzz_seeds import seeds

from irshrink import onnxrt
from irshrink.backends.tvm import kernels
from irshrink.backends.tvm.backend import plan_program
from irshrink.backends.tvm.emit import emit_sources
from irshrink.errors import IrshrinkError, UserError
from irshrink.files import write
from irshrink.module import Module, load_module
from irshrink.passes.cleanup import cleanup_steps
from irshrink.pipeline import Pipeline
from irshrink.program.lower import lower, unsupported
from irshrink.registry import make_pass
from irshrink.samples import input_specs
from irshrink.samples.random import random_samples
from irshrink.soundness import require_sound
from irshrink.static_shapes import fix_input_shapes
from irshrink.target import load_target
from irshrink.testing.mutation import mutate
from irshrink.testing.sandbox import Outcome, run_cases
from irshrink.verify import verify_structure

BATCH = 500
#: Slow to import, so every child has them from the start.
WARM = (onnxrt, kernels)
#: One case in so many is also quantized, and one is also written as C.
QUANTIZED, AS_C = 20, 100


class Bench:
    """One folder for one child after the other, and the check that runs in them."""

    def __init__(self, folder: Path, models: list[bytes], seed: int) -> None:
        self.folder, self._models, self._seed = folder, models, seed
        self._place, self._out, temporary = folder / "model", folder / "out", folder / "tmp"
        for path in (self._place, temporary, self._place / "sub", self._place / "folder"):
            path.mkdir(parents=True)
        (self._place / "w.bin").write_bytes(bytes(range(256)) * 64)
        (self._place / "link.bin").symlink_to("/etc/hostname")
        os.mkfifo(self._place / "fifo")
        self._before = self._listing()
        os.environ["TMPDIR"] = str(temporary)
        tempfile.tempdir = str(temporary)

    def model(self, case: int) -> bytes:
        number = self._seed * 2**40 + case
        return mutate(self._models[number * 2654435761 % 2**32 % len(self._models)], self._models, number)

    def check(self, case: int) -> tuple[str, str]:
        self._out.mkdir(exist_ok=True)
        path = self._place / "m.onnx"
        path.write_bytes(self.model(case))
        stages: list[str] = []
        try:
            pipeline(path, self._out, case, stages)
            kind, text = "ok", stages[-1]
        except UserError as e:
            kind, text = "refused", f"{stages[-1]}: {e}"
        except Exception as e:
            kind, text = "crash", f"{stages[-1]}: {_signature(e)}"
        path.unlink()
        for file in self._out.iterdir():
            file.unlink()
        if self._listing() != self._before:
            return "crash", f"wrote beside the model: {sorted(set(self._listing()) ^ set(self._before))}"
        return kind, text

    def _listing(self) -> list[str]:
        return sorted(name for part in ("model", "tmp") for name in os.listdir(self.folder / part))


def pipeline(path: Path, out: Path, case: int, stages: list[str]) -> None:
    """Everything that compiling does short of building; the current stage is the last of ``stages``."""
    target = load_target("host")
    stages.append("load")
    module = load_module(path)
    stages.append("shapes")
    fix_input_shapes(module, {})
    stages.append("soundness")
    require_sound(module)
    stages.append("cleanup")
    Pipeline(cleanup_steps(), verify=verify_structure).run(module, target)
    stages.append("save")
    module.text()
    module.save(out / "model.onnx")
    stages.append("lower")
    refused = unsupported(module)
    if refused:
        stages.append("unsupported")
        return
    if case % QUANTIZED == 0:
        stages.append("quantize")
        _quantize(module)
    stages.append("lower")
    program = lower(module)
    if case % AS_C == 0:
        stages.append("C")
        for name, content in emit_sources([plan_program(program, target)], target, "fuzzed").items():
            write(out / name, content)
    stages.append("done")


def _quantize(module: Module) -> None:
    module.calibration = random_samples(input_specs(module.graph), 2)
    Pipeline([make_pass("quantize-int8")], verify=verify_structure).run(module, load_target("host"))


def _signature(error: Exception) -> str:
    """Type, message and the innermost line of ours."""
    cause: BaseException = error
    while isinstance(cause, IrshrinkError) and cause.__cause__ is not None:
        cause = cause.__cause__
    frames = list(traceback.extract_tb(cause.__traceback__))
    ours = [f for f in frames if "site-packages" not in f.filename] or frames
    where = f"{Path(ours[-1].filename).name}:{ours[-1].lineno}" if ours else "?"
    return f"{type(cause).__name__} at {where}: {str(error)[:300]}"


def _worker(job: int, options: argparse.Namespace, models: list[bytes]) -> None:
    """Every ``jobs``-th batch; progress and findings in files of its own."""
    state: Path = options.state
    progress, findings = state / f"progress-{job}.json", state / f"findings-{job}.jsonl"
    done = json.loads(progress.read_text()) if progress.exists() else {"next": options.start, "counts": {}}
    counts = Counter(done["counts"])
    deadline = time.monotonic() + options.minutes * 60
    with tempfile.TemporaryDirectory(prefix="irshrink-fuzz-") as scratch:
        bench = Bench(Path(scratch), models, options.seed)
        for start in range(done["next"], options.start + options.cases, BATCH):
            if start // BATCH % options.jobs != job:
                continue
            if time.monotonic() > deadline:
                break
            cases = range(start, min(start + BATCH, options.start + options.cases))
            for outcome in run_cases(cases, bench.check, bench.folder, seconds=options.seconds):
                counts[_label(outcome)] += 1
                if outcome.kind in ("crash", "hang"):
                    with findings.open("a") as stream:
                        stream.write(json.dumps(vars(outcome)) + "\n")
            progress.write_text(json.dumps({"next": start + BATCH, "counts": counts}))


def _label(outcome: Outcome) -> str:
    return (
        f"{outcome.kind} {outcome.text.partition(':')[0]}"
        if outcome.kind in ("ok", "refused")
        else outcome.kind
    )


def _summary(state: Path) -> str:
    counts: Counter[str] = Counter()
    for file in sorted(state.glob("progress-*.json")):
        counts.update(json.loads(file.read_text())["counts"])
    lines = [f"{sum(counts.values()):,} cases", *(f"  {n:8,} {label}" for label, n in counts.most_common())]
    found: Counter[str] = Counter()
    examples: dict[str, list[int]] = {}
    for file in sorted(state.glob("findings-*.jsonl")):
        for line in file.read_text().splitlines():
            one = json.loads(line)
            key = f"{one['kind']}: {one['text'][:160]}"
            found[key] += 1
            examples.setdefault(key, []).append(one["case"])
    lines += [f"{n:6} {key}  {examples[key][:4]}" for key, n in found.most_common()]
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--cases", type=int, default=100_000)
    parser.add_argument("--start", type=int, default=0, help="number of the first case")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--seconds", type=float, default=10.0, help="a case that takes longer is a hang")
    parser.add_argument("--minutes", type=float, default=1e9, help="stop after so long; run again to go on")
    parser.add_argument("--models", type=Path, help="a folder with further ONNX files to start from")
    parser.add_argument("--state", type=Path, default=Path("fuzz-state"))
    parser.add_argument("--replay", type=int, metavar="CASE", help="run one case here, with its traceback")
    options = parser.parse_args()
    models = seeds(options.models)
    if options.replay is not None:
        _replay(options, models)
        return
    options.state.mkdir(parents=True, exist_ok=True)
    began = time.monotonic()
    fork = multiprocessing.get_context("fork")
    workers = [fork.Process(target=_worker, args=(job, options, models)) for job in range(options.jobs)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    print(f"{len(models):,} seeds, {time.monotonic() - began:.0f} s")
    print(_summary(options.state))


def _replay(options: argparse.Namespace, models: list[bytes]) -> None:
    with tempfile.TemporaryDirectory() as scratch:
        bench = Bench(Path(scratch) / "bench", models, options.seed)
        path = Path(scratch) / "bench" / "model" / "m.onnx"
        path.write_bytes(bench.model(options.replay))
        kept = Path(f"case-{options.replay}.onnx")
        kept.write_bytes(path.read_bytes())
        print(f"wrote {kept}")
        stages: list[str] = []
        out = Path(scratch) / "out"
        out.mkdir()
        try:
            pipeline(path, out, options.replay, stages)
        finally:
            print(" -> ".join(stages))


if __name__ == "__main__":
    main()
