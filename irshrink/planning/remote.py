"""What processes that try plans do: they open the subject once, and compute what they are asked for."""

from __future__ import annotations

import threading
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import msgspec

from irshrink.errors import ToolError
from irshrink.knobs import Step
from irshrink.planning.evaluate import Job, Measured, evaluate, known
from irshrink.planning.journal import Journal
from irshrink.planning.stages import RefusedError, Stages
from irshrink.planning.subject import Subject
from irshrink.recipe import Recipe

__all__ = ["Place", "extend", "ready", "try_plan"]

_PATHS = ("calibration", "eval", "schedules")


@dataclass(frozen=True)
class Place:
    """Where a process finds a subject and its journal.

    Attributes:
        model, recipe: what :meth:`irshrink.planning.subject.Subject.open` takes, all paths absolute.
        digest: what comes of it must have.
        folder: of the journal.
    """

    model: str
    recipe: Recipe
    digest: str
    folder: str

    @classmethod
    def of(cls, subject: Subject, journal: Journal) -> Place:
        recipe = subject.recipe
        changed = {key: str(Path(path).absolute()) for key in _PATHS if (path := getattr(recipe, key))}
        if recipe.target.endswith(".toml"):
            changed["target"] = str(Path(recipe.target).absolute())
        if recipe.metric is not None and ":" in recipe.metric:
            file, _, function = recipe.metric.rpartition(":")
            changed["metric"] = f"{Path(file).absolute()}:{function}"
        return cls(
            str(subject.path.absolute()),
            msgspec.structs.replace(recipe, **changed),
            subject.digest,
            str(journal.folder.absolute()),
        )


#: By digest and folder. A process works for one search at a time; threads of it wait for each other.
_opened: dict[tuple[str, str], Stages] = {}
_lock = threading.Lock()


def ready() -> bool:
    """Whether a process is there at all."""
    return True


def extend(place: Place, steps: Sequence[Step], count: int, judged: bool) -> float:
    """Compute the stage behind the first ``count`` steps; returns seconds. A refusal is remembered there."""
    with _lock:
        stages, start = _stages(place), time.perf_counter()
        with suppress(RefusedError):
            stages.module(steps, count, judged=judged)
        return time.perf_counter() - start


def try_plan(place: Place, job: Job) -> tuple[Measured, float, bool]:
    """What is found for a plan, seconds, and whether it was known before."""
    with _lock:
        stages, start = _stages(place), time.perf_counter()
        before = known(stages, job)
        found = before or evaluate(stages.subject, stages, job)
        return found, time.perf_counter() - start, before is not None


def _stages(place: Place) -> Stages:
    """
    Raises:
        ToolError: what is here is not what the search was started with.
    """
    key = (place.digest, place.folder)
    if key not in _opened:
        if not Path(place.model).exists():
            raise ToolError(
                f"{place.model}: not there on a machine that is to try plans. All of them need the model, "
                "the data and the journal at the same paths, as on a shared disk. Or leave --cluster out."
            )
        subject = Subject.open(Path(place.model), place.recipe)
        if subject.digest != place.digest:
            raise ToolError(
                f"{place.model}: a process that is to try plans has another model, other data, or other "
                "versions of irshrink and its packages than this one. Install the same on all machines."
            )
        _opened.clear()
        _opened[key] = Stages(subject, Journal(Path(place.folder)))
    return _opened[key]
