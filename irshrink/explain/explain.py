"""The flow of ``irshrink explain``, top to bottom."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from irshrink import __version__
from irshrink.blas import one_thread
from irshrink.class_names import score_names
from irshrink.console import Progress, counted, plural
from irshrink.errors import ModelError
from irshrink.explain.causes import Cause, rank_causes
from irshrink.explain.findings import Facts
from irshrink.explain.form import Shapes, is_quantized, quantized_file, read_float, read_quantized
from irshrink.explain.layers import figures
from irshrink.explain.measure import Subject, measure
from irshrink.explain.pairs import agreeing, candidates
from irshrink.explain.points import Rounded, find_points
from irshrink.explain.score import Score
from irshrink.files import sha256
from irshrink.graph.edit import opset
from irshrink.graph.opset import raise_opset
from irshrink.samples import AudioOptions, CsvOptions, ImageOptions, input_specs, load_samples

#: The oldest IR version whose models may hold 4-bit integers.
_IR_VERSION = 10


@one_thread()
def explain_model(
    model: Path | str,
    samples: Path | str,
    *,
    floats: Path | str | None = None,
    shapes: Shapes | None = None,
    image: ImageOptions | None = None,
    csv: CsvOptions | None = None,
    audio: AudioOptions | None = None,
    most: int = 64,
    progress: Progress = lambda _: None,
) -> dict[str, Any]:
    """What quantization costs a model, layer by layer, why, and what would help.

    Args:
        model: quantized: the folder of a build, or a file of any format that `irshrink import` reads.
        samples: a file or folder as :func:`irshrink.samples.load_samples` reads it, of data as the model
            was calibrated on; labels are used.
        floats: the model that was quantized.
        shapes: static shapes of inputs.
        image, csv, audio: what is declared about the samples.
        most: use at most so many samples, at even distances.

    Returns:
        Plain data; ``irshrink/explain/schema.json`` says what it means.

    Raises:
        ModelError: a model cannot be read or run, nothing in it is quantized, or the float model is another.
        SamplesError: the samples do not fit.
    """
    path = quantized_file(Path(model))
    progress("reading the model")
    module = read_quantized(path, shapes or {})
    rounded = find_points(module.graph, str(path))
    progress("reading the samples")
    data = load_samples(
        samples,
        input_specs(module.graph),
        image=image,
        csv=csv,
        audio=audio,
        role="evaluation",
        class_names=score_names(module.model),
    ).spread(most)
    subject = Subject(rounded, data, max(module.model.ir_version, _IR_VERSION))
    if floats is not None:
        progress("reading the float model")
        subject = _with_floats(subject, opset(module.graph), Path(floats), shapes or {})
    measured = measure(subject, counted(progress, "sample"))
    facts = Facts(subject, measured)
    progress("trying what would help")
    causes = rank_causes(facts, counted(progress, "trying what would help, sample"))
    return _result(path, facts, causes, None if floats is None else Path(floats))


def _with_floats(subject: Subject, version: int, path: Path, shapes: Shapes) -> Subject:
    """The subject with those values of the float model that are the quantized model's.

    Raises:
        ModelError: the float model is none, or another.
    """
    best = subject
    for module in read_float(path, shapes):
        if is_quantized(module.graph):
            raise ModelError(f"{path}: is quantized itself. Give the float model with --float, or none.")
        raise_opset(module, version)
        found = candidates(subject.rounded, module.graph)
        matched = agreeing(subject.rounded, module.graph, found, subject.samples, subject.ir_version)
        known = {**matched, **best.known}
        if best.floats is None or len(matched) > len(best.matched):
            best = dataclasses.replace(best, floats=module.graph, matched=matched)
        best = dataclasses.replace(best, known=known)
        if len(matched) == len(subject.rounded.points):
            break
    return best


def _result(path: Path, facts: Facts, causes: Sequence[Cause], floats: Path | None) -> dict[str, Any]:
    subject, score = facts.subject, facts.measurement.score
    return {
        "format": 1,
        "irshrink": __version__,
        "model": {"name": path.name, "sha256": sha256(path) if path.is_file() else None},
        "reference": "itself" if floats is None else "float model",
        "samples": {"count": len(subject.samples), "labels": subject.samples.classes is not None},
        "score": score_data(score),
        "layers": [figures(p, facts.tally(p), p in subject.matched) for p in facts.points],
        "causes": [_cause(c, score) for c in causes],
        "notes": _notes(subject, floats),
    }


def score_data(score: Score) -> dict[str, Any]:
    return {
        "snr_db": round(score.snr_db, 2),
        "metric": score.metric,
        "value": score.value,
        "best": score.best,
        "outputs": {name: round(ratio, 2) for name, ratio in score.outputs.items()},
    }


def _cause(cause: Cause, before: Score) -> dict[str, Any]:
    finding, gain = cause.finding, cause.gain(before)
    return {
        "cause": finding.cause,
        "layer": None if finding.point is None else finding.point.name,
        "sentence": finding.sentence[0].upper() + finding.sentence[1:],
        "evidence": dict(finding.evidence),
        "gain_db": None if gain is None else round(gain, 2),
        "remedies": [
            {
                "what": tried.remedy.what,
                "recipe": None if tried.remedy.recipe is None else tried.remedy.recipe.text(),
                "after": None if tried.after is None else score_data(tried.after),
                "why_not_measured": tried.remedy.why_not,
            }
            for tried in cause.tried
        ],
    }


def _notes(subject: Subject, floats: Path | None) -> list[str]:
    rounded: Rounded = subject.rounded
    notes = []
    if floats is None:
        notes.append(
            "No float model was given: the model is compared with itself without rounding activations, so "
            "what the rounding of its weights lost is in no figure. Give it with --float."
        )
    elif len(subject.matched) < len(rounded.points):
        missing = len(rounded.points) - len(subject.matched)
        notes.append(
            f"{missing} of {plural(len(rounded.points), 'value')} {'has' if missing == 1 else 'have'} no "
            "counterpart in the float model (by name, with the same numbers up to rounding); there the layer "
            "is compared with itself in float."
        )
    folded = sum(point.low is not None for point in rounded.points)
    if folded:
        begin = "begins at 0 was" if folded == 1 else "begin at 0 were"
        notes.append(f"{plural(folded, 'grid')} that {begin} read as the ReLU of the layer.")
    return notes
