"""Trying a plan: the steps are run on the model, and what comes out is measured."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import msgspec

from irshrink.blas import one_thread
from irshrink.changes import STATS_KEY
from irshrink.console import Progress, counted
from irshrink.errors import BudgetError, OutputError, PassError, UserError
from irshrink.knobs import Step
from irshrink.module import Module
from irshrink.planning.footprint import footprint
from irshrink.planning.journal import key_of
from irshrink.planning.judging import Grounds
from irshrink.planning.plan import Figures
from irshrink.planning.stages import RefusedError, Stages, made
from irshrink.planning.subject import Subject

__all__ = ["Job", "Measured", "evaluate", "known"]


@dataclass(frozen=True)
class Job:
    """A plan to be tried.

    Attributes:
        steps: of a recipe.
        judged: False asks only what it takes, with few samples to fit to.
    """

    steps: tuple[Step, ...]
    judged: bool = True


class Measured(msgspec.Struct, frozen=True, kw_only=True):
    """What a plan gives; the same wherever and whenever it is tried.

    Attributes:
        figures: None where a pass refused, for the reason ``failed``. Without judging, ``drop`` and ``loss``
            are 0.
        spread: standard error of the drop.
        estimated: the drop is estimated without counting answers (:class:`irshrink.planning.judging.Judge`
            says when).
        learned: on what lies between samples, because the original knows these by heart.
        failed: the sentence of the pass that refused.
        layers: what was decided for single layers.
        metric, title, share: what accuracy is.
        original: the original's accuracy.
    """

    figures: Figures | None
    spread: float = 0.0
    estimated: bool = False
    learned: bool = False
    failed: str | None = None
    layers: tuple[dict[str, Any], ...] = ()
    metric: str = ""
    title: str = ""
    share: bool = True
    original: float = 0.0


def known(stages: Stages, job: Job) -> Measured | None:
    """What was found when the plan was tried before."""
    subject, journal = stages.subject, stages.journal
    try:
        plain = journal.get("judges", _judge_key(subject)) if job.judged else None
        if job.judged and plain is None:
            return None  # nothing was judged yet
        grounds = None if plain is None else msgspec.convert(plain, Grounds)
        found = journal.get("evaluations", _key(subject, job, grounds))
        return None if found is None else msgspec.convert(found, Measured)
    except msgspec.ValidationError:
        return None


def _judge_key(subject: Subject) -> str:
    return key_of(subject.digest, "judge")


def _key(subject: Subject, job: Job, grounds: Grounds | None) -> str:
    """The name of an evaluation. Budgets share those that are judged in the same way for them."""
    recipe = subject.recipe
    way = None if grounds is None else grounds.way(subject.held, recipe.max_drop, recipe.relative_drop)
    return key_of(subject.digest, list(job.steps), job.judged, way)


@one_thread()
def evaluate(subject: Subject, stages: Stages, job: Job, progress: Progress = lambda _: None) -> Measured:
    """Try a plan, and remember it in the journal.

    Raises:
        RecipeError: a step names an unknown pass or option.
        OutputError: the journal, or what is built to be measured, cannot be written.
        ToolError: the compiler or the emulator failed.
        InternalError: a pass raised, or left a broken graph.
    """
    found = known(stages, job)
    if found is not None:
        return found
    found = _tried(subject, stages, job, progress)
    grounds = subject.judge.grounds if job.judged else None
    if grounds is not None:
        stages.journal.put("judges", _judge_key(subject), msgspec.to_builtins(grounds))
    key = _key(subject, job, grounds)
    stages.journal.put("evaluations", key, msgspec.to_builtins(found))
    stages.journal.say("evaluation", key)
    return found


def _tried(subject: Subject, stages: Stages, job: Job, progress: Progress) -> Measured:
    stages.keys(job.steps)  # unknown passes and options are the caller's fault, not the plan's
    try:
        module = stages.module(job.steps, judged=job.judged, progress=progress)
        figures, parts = footprint(subject, stages.journal, module, progress)
    except OutputError:
        raise  # a full disk says nothing about the plan
    except (RefusedError, UserError, BudgetError, PassError) as e:  # one plan less, which the report says
        return _described(subject, Measured(figures=None, failed=str(e)), job)
    spread = 0.0
    if job.judged:
        say = counted(progress, "judging, sample")
        verdict = subject.judge.judge(stages.module(job.steps, _decided(job.steps)), say)
        figures = msgspec.structs.replace(figures, drop=verdict.drop, loss=verdict.loss)
        spread = verdict.spread
    return _described(subject, Measured(figures=figures, spread=spread, layers=_layers(module, parts)), job)


def _decided(steps: Sequence[Step]) -> int:
    """How many steps decide what the model answers: those behind only say how it is stored.

    Models whose weights are unpacked for every inference are slow in ONNX Runtime.
    """
    lossy = [number for number, step in enumerate(made(steps), 1) if step.lossy]
    return max(lossy, default=0)


def _described(subject: Subject, found: Measured, job: Job) -> Measured:
    if not job.judged:
        return found
    judge = subject.judge
    return msgspec.structs.replace(
        found,
        estimated=judge.estimated,
        learned=judge.learned,
        metric=judge.metric,
        title=judge.title,
        share=judge.share,
        original=judge.original,
    )


def _layers(module: Module, parts: Mapping[str, float]) -> tuple[dict[str, Any], ...]:
    """What passes say that they decided, by layer, in their order, and what it costs now."""
    rows: dict[str, dict[str, Any]] = {}
    for record in module.history:
        for change in record.stats.get(STATS_KEY, ()):
            row = rows.setdefault(change["layer"], {"name": change["layer"], "op_type": change["op_type"]})
            if change["kind"] is not None:
                row.setdefault("changes", []).append(_change(record.name, change))
        for one in record.stats.get("layer_decisions", ()):
            row = rows.setdefault(one["name"], {"name": one["name"], "op_type": one["op_type"]})
            row |= {key: value for key, value in one.items() if key not in ("name", "op_type")}
    for name, cost in parts.items():
        rows.setdefault(name, {"name": name})["cost"] = cost
    return tuple(row for row in rows.values() if len(row) > 2)


def _change(by: str, change: Mapping[str, Any]) -> dict[str, Any]:
    kept: Sequence[str] = ("kind", "detail", "score", "output_error")
    return {"pass": by, **{key: change[key] for key in kept if change[key] is not None}}
