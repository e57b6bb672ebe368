"""ONNX in, ONNX out: cleanup and chosen passes, nothing compiled. ``irshrink optimize``."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from irshrink.class_names import score_names
from irshrink.console import Progress, plural, size
from irshrink.errors import OutputError, RecipeError
from irshrink.external import files_of
from irshrink.frontends.read import read_model
from irshrink.instruments import CheckNumerics
from irshrink.passes.cleanup import cleanup_steps
from irshrink.pipeline import Instrument, Pass, Pipeline, Step
from irshrink.samples import Reading, Samples, input_specs, load_samples
from irshrink.samples.random import random_samples
from irshrink.soundness import require_sound
from irshrink.static_shapes import fix_input_shapes
from irshrink.target import load_target
from irshrink.verify import verify_structure

#: Samples on which ``verify`` runs the model after every pass.
_FEW = 4


def optimize_model(
    model: Path | str,
    out: Path | str,
    passes: Sequence[Pass] = (),
    *,
    cleanup: bool = True,
    shapes: Mapping[str, Sequence[int]] | None = None,
    calibration: Path | str | None = None,
    reading: Reading | None = None,
    verify: bool = False,
    seed: int = 0,
    progress: Progress = lambda _: None,
) -> dict[str, Any]:
    """Clean a model up, run passes on it, and write it as ONNX.

    Works on models of any size: weights beside the model stay in their file and are streamed into the new
    one (docs/large-models.md).

    Args:
        model: ONNX, or any format that `irshrink import` reads.
        out: the file to write; above 256 MB its weights go into ``OUT.data`` beside it.
        passes: what runs after cleanup; see :func:`irshrink.registry.make_pass`.
        cleanup: False leaves the cleanup passes out.
        shapes: static shapes of inputs; what is open otherwise stays open.
        calibration: samples for passes that look at data.
        reading: what is declared about them.
        verify: run the model after every pass that must not change its outputs, on the samples or on random
            ones.

    Returns:
        Nodes and bytes before and after, and what each pass did.

    Raises:
        UserError: the model, the samples, or the file to write; nothing was written.
    """
    path, out = Path(model), Path(out)
    _require_other(path, out)
    progress("reading the model")
    module, _ = read_model(path, progress=progress)
    notes = fix_input_shapes(module, shapes) if shapes else []
    require_sound(module)
    before = {"nodes": len(module.graph), "bytes": _bytes(path, *module.external)}
    specs = input_specs(module.graph) if calibration or verify else []
    if calibration is not None:
        known, declared = score_names(module.model), reading or Reading()
        module.calibration = load_samples(
            calibration, specs, **declared, role="calibration", class_names=known
        )
    samples = module.calibration or (random_samples(specs, _FEW, seed) if verify else None)
    steps: list[Step] = [*(cleanup_steps() if cleanup else ()), *passes]
    Pipeline(steps, _instruments(verify, samples), verify_structure, progress).run(
        module, load_target("host"), seed
    )
    progress(f"writing {out}")
    module.save(out)
    return {
        "model": str(path),
        "out": str(out),
        "before": before,
        "after": {"nodes": len(module.graph), "bytes": _bytes(*files_of(out))},
        "passes": [
            {"name": r.name, "stats": r.stats, "notes": list(r.notes)} for r in module.history if r.changed
        ],
        "notes": [*notes, *dict.fromkeys(note for r in module.history for note in r.notes)],
    }


def render(facts: Mapping[str, Any]) -> str:
    """The facts for the terminal."""
    before, after = facts["before"], facts["after"]
    lines = [
        f"{plural(before['nodes'], 'node')}, {size(before['bytes'])} -> "
        f"{plural(after['nodes'], 'node')}, {size(after['bytes'])}"
    ]
    names = dict.fromkeys(one["name"] for one in facts["passes"])
    lines.append(f"changed by: {', '.join(names) or 'nothing'}")
    lines += [f"note: {note}" for note in facts["notes"]]
    return "\n".join([*lines, f"written to {facts['out']}"])


def parse_pass(text: str) -> tuple[str, dict[str, Any]]:
    """``"quantize-weights-int8 min-elements=64"`` as name and options.

    An option that is a table is written entry by entry, ``layer-bits.Gemm=8``.

    Raises:
        RecipeError: an option without ``=``, or given twice.
    """
    name, *given = text.split()
    options: dict[str, Any] = {}
    for option in given:
        key, sign, value = option.partition("=")
        if not sign or not key:
            raise RecipeError(f"--pass '{text}': '{option}' is not an option. Write key=value.")
        table, dot, entry = key.partition(".")
        if table in options and (not dot or not isinstance(options[table], dict)):
            raise RecipeError(f"--pass '{text}': '{table}' is given twice.")
        if dot:
            options.setdefault(table, {})[entry] = _value(value)
        else:
            options[key] = _value(value)
    return name, options


def _value(text: str) -> Any:
    """A number, a truth value, or words between commas; else text."""
    if text in ("true", "false"):
        return text == "true"
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            continue
    return [_value(part) for part in text.split(",") if part] if "," in text else text


def _instruments(verify: bool, samples: Samples | None) -> list[Instrument]:
    return [CheckNumerics(samples)] if verify and samples is not None else []


def _require_other(path: Path, out: Path) -> None:
    if out.is_dir():
        raise OutputError(f"{out}: is a folder. Give the name of the ONNX file to write with -o.")
    if os.path.realpath(path) == os.path.realpath(out):
        raise OutputError(f"{out}: is the model itself. Choose another name with -o.")


def _bytes(*files: Path) -> int:
    return sum(file.stat().st_size if file.is_file() else 0 for file in files)
