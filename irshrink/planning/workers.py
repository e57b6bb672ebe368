"""Where plans are tried: here one after the other, in several processes, or on a cluster."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, nullcontext
from pathlib import Path
from typing import Protocol

from irshrink.console import Milestone, Progress
from irshrink.planning.cluster import dask_executor
from irshrink.planning.evaluate import Job, Measured, evaluate, known
from irshrink.planning.journal import Journal, default_folder
from irshrink.planning.memory import fitting
from irshrink.planning.parallel import Parallel
from irshrink.planning.processes import cores, local_processes
from irshrink.planning.stages import Stages
from irshrink.planning.subject import Subject

__all__ = ["Done", "Workers", "workers_for"]

#: Called with the index of a job, what was found, seconds, and whether it was known before.
Done = Callable[[int, Measured, float, bool], None]


class Workers(Protocol):
    """Tries plans.

    Attributes:
        processes: how many at a time.
    """

    @property
    def processes(self) -> int: ...

    def run(self, jobs: Sequence[Job], done: Done) -> list[Measured]:
        """What was found for each job, in their order; ``done`` is called as they come.

        Raises:
            ToolError: the compiler, the emulator, or a process that tries plans failed.
        """


class Serial:
    """One after the other, in this process."""

    processes = 1

    def __init__(self, stages: Stages, progress: Progress) -> None:
        self._stages, self._progress = stages, progress

    def run(self, jobs: Sequence[Job], done: Done) -> list[Measured]:
        found = []
        for index, job in enumerate(jobs):
            start = time.perf_counter()
            before = known(self._stages, job)
            one = before or evaluate(self._stages.subject, self._stages, job, self._progress)
            found.append(one)
            done(index, one, time.perf_counter() - start, before is not None)
        return found


@contextmanager
def workers_for(
    subject: Subject,
    *,
    processes: int = 0,
    cluster: str | None = None,
    folder: Path | None = None,
    progress: Progress = lambda _: None,
) -> Iterator[Workers]:
    """What tries plans, for as long as the block lasts; what it finds does not depend on what it is.

    Args:
        processes: how many try plans at a time, on this machine; 0 for as many as there are cores, or fewer
            where memory is short.
        cluster: the address of a Dask scheduler, or ``local:N``, instead.
        folder: of the journal; by default in the user's cache.

    Raises:
        UserError: ``cluster`` is no address.
        ToolError: processes cannot be started, or the cluster does not answer.
    """
    journal = Journal(folder or default_folder(subject.digest))
    journal.tidy()
    stages, count = Stages(subject, journal), processes
    if cluster is None and not processes:
        count, why_fewer = fitting(cores(), subject)
        if why_fewer is not None:
            progress(Milestone(why_fewer))
    with ExitStack() as stack:
        workers: Workers
        if cluster is not None:
            progress(f"connecting to the cluster {cluster}")
            executor, count = stack.enter_context(dask_executor(cluster))
            workers = Parallel(stages, lambda _: nullcontext(executor), count)
        elif count > 1:
            workers = Parallel(stages, local_processes, count)
            stack.callback(workers.close)
        else:
            workers = Serial(stages, progress)
        yield workers
        journal.tidy()
