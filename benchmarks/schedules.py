"""Makes the databases of schedules that irshrink ships, and compares what they give with the bare rules.

    python benchmarks/schedules.py [--targets cortex-m4,...] [--models kws,ic] [--trials 3] [--check]

Tunes every model of ``models/`` for every target, and writes ``irshrink/schedules/<target>.toml``. Stopped,
it goes on where it was: journals are in ``build/schedules/``. ``--check`` tunes nothing; it counts what each
model takes by rule and by the databases as they are, with MODEL=SAMPLES for models of your own.
"""

from __future__ import annotations

import argparse
import shutil
import sys
from pathlib import Path

from irshrink.console import table
from irshrink.recipe import Recipe
from irshrink.target import load_target
from irshrink.tune import program_of, render, tunable_backend, tune_model
from irshrink.tuning.costs import Instructions
from irshrink.tuning.database import SHIPPED, Schedules, shipped_database
from irshrink.tuning.measure import Measurer
from irshrink.tuning.session import Limits

ROOT = Path(__file__).parents[1]
SCRATCH = ROOT / "build" / "schedules"
TARGETS = "cortex-m3,cortex-m4,cortex-m55,cortex-a72,neoverse-n1,aarch64-linux-i8mm"
MODELS = "ad,kws,ic,vww"


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--targets", default=TARGETS)
    parser.add_argument("--models", default=MODELS, help="names in models/, or MODEL=SAMPLES")
    parser.add_argument("--trials", type=int, default=3, help="builds a workload")
    parser.add_argument("--check", action="store_true", help="only count, by rule and by the databases")
    options = parser.parse_args()
    models = [files(name) for name in options.models.split(",")]
    for target in options.targets.split(","):
        if options.check:
            print(f"{target}\n\n{check(target, models)}\n", flush=True)
            continue
        out = SCRATCH / f"{target}.toml"
        for model, samples in models:
            print(f"{target}, {model.stem}", file=sys.stderr, flush=True)
            recipe = Recipe(target=target, calibration=str(samples))
            facts = tune_model(model, recipe, out, Instructions(), Limits(options.trials))
            print(f"{target}, {model.stem}\n\n{render(facts)}\n", flush=True)
        shutil.copy(out, SHIPPED / f"{target}.toml")


def files(name: str) -> tuple[Path, Path]:
    """A model and its samples."""
    model, sign, samples = name.partition("=")
    if sign:
        return Path(model), Path(samples)
    return ROOT / "models" / f"{name}.onnx", ROOT / "models" / f"{name}-samples.npz"


def check(target_name: str, models: list[tuple[Path, Path]]) -> str:
    """Instructions, code and arena of every model by rule and by the shipped database."""
    target = load_target(target_name)
    backend = tunable_backend(target)
    measurer = Measurer(backend, target, Instructions())
    shipped = shipped_database(target.name)
    rows = []
    for model, samples in models:
        recipe = Recipe(target=target_name, calibration=str(samples))
        program = program_of(model, recipe, backend, target)
        rule = measurer.whole(program, Schedules())
        tuned = measurer.whole(program, Schedules(databases=[shipped] if shipped else []))
        code, arena = (rule.code_bytes, tuned.code_bytes), (rule.arena_bytes, tuned.arena_bytes)
        sizes = [f"{before:,} -> {after:,}" for before, after in (code, arena)]
        costs = (f"{rule.cost:,.0f}", f"{tuned.cost:,.0f}", f"{tuned.cost / rule.cost:.3f}")
        rows.append((model.stem, *costs, *sizes))
    return table(rows, ("model", "instructions by rule", "by database", "ratio", "code", "arena"))


if __name__ == "__main__":
    main()
