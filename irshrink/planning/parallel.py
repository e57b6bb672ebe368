"""Plans tried by several processes at a time, with what they have in common computed once."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, BrokenExecutor, Executor, Future, wait
from contextlib import AbstractContextManager, ExitStack
from dataclasses import dataclass, field
from typing import Any

from irshrink.errors import ToolError
from irshrink.planning.evaluate import Job, Measured, known
from irshrink.planning.journal import key_of
from irshrink.planning.remote import Place, extend, try_plan
from irshrink.planning.stages import Stages

__all__ = ["Parallel"]

Done = Callable[[int, Measured, float, bool], None]
Pool = Callable[[int], AbstractContextManager[Executor]]


@dataclass
class Task:
    """Something for one process to do.

    Attributes:
        job: the plan, or one of those that share the stage.
        count: compute the stage behind so many steps; None for the whole evaluation.
        after: the task that must be done before.
        indices: of the jobs that an evaluation answers.
    """

    job: Job
    count: int | None
    after: Task | None
    indices: list[int] = field(default_factory=list)
    seconds: float = 0.0
    done: bool = False

    def submit(self, pool: Executor, place: Place) -> Future[Any]:
        if self.count is None:
            return pool.submit(try_plan, place, self.job)
        return pool.submit(extend, place, self.job.steps, self.count, self.job.judged)


class Parallel:
    """Tries plans in the processes of an executor, which is there from the first plan until :meth:`close`.

    Args:
        pool: makes an executor of so many processes.
        processes: how many at most; fewer after one has died, for it may have been memory that was short.
    """

    def __init__(self, stages: Stages, pool: Pool, processes: int) -> None:
        self.processes = processes
        self._stages, self._pool = stages, pool
        self._place = Place.of(stages.subject, stages.journal)
        self._held = ExitStack()
        self._executor: Executor | None = None

    def close(self) -> None:
        """End all processes, whatever they are doing."""
        self._executor = None
        self._held.close()

    def run(self, jobs: Sequence[Job], done: Done) -> list[Measured]:
        """See :class:`irshrink.planning.workers.Workers`."""
        found: dict[int, Measured] = {}
        for index, job in enumerate(jobs):
            before = known(self._stages, job)
            if before is not None:
                found[index] = before
                done(index, before, 0.0, True)
        tasks = list(self._tasks({i: job for i, job in enumerate(jobs) if i not in found}))
        while any(not task.done for task in tasks):
            if self._executor is None:
                self._executor = self._held.enter_context(self._pool(self.processes))
            try:
                self._work(self._executor, tasks, found, done)
            except BrokenExecutor as e:
                self.close()
                self.processes = self._fewer(e)
        return [found[index] for index in range(len(jobs))]

    def _fewer(self, broken: BrokenExecutor) -> int:
        if self.processes == 1:
            raise ToolError(
                "a process that tries plans died again and again. Was memory short? What was found is "
                "remembered: run it again on a machine with more."
            ) from broken
        return self.processes // 2

    def _work(
        self, executor: Executor, tasks: Sequence[Task], found: dict[int, Measured], done: Done
    ) -> None:
        """
        Raises:
            BrokenExecutor: a process has died; what is done is marked so.
        """
        running: dict[Future[Any], Task] = {}
        try:
            while any(not task.done for task in tasks):
                busy = {id(task) for task in running.values()}
                for task in tasks:
                    if not task.done and id(task) not in busy and (task.after is None or task.after.done):
                        running[task.submit(executor, self._place)] = task
                for future in wait(running, return_when=FIRST_COMPLETED).done:
                    _finish(running.pop(future), future.result(), found, done)
        finally:
            for future in running:
                future.cancel()

    def _tasks(self, jobs: dict[int, Job]) -> Iterator[Task]:
        """Stages that several plans need and nobody has, then the evaluations; each behind what it needs."""
        by_key: dict[str, Task] = {}
        evaluations: dict[str, Task] = {}
        keys = {i: self._stages.keys(job.steps, judged=job.judged) for i, job in jobs.items()}
        names = {i: key_of(list(job.steps), job.judged) for i, job in jobs.items()}
        uses = Counter(key for i in {name: i for i, name in names.items()}.values() for key in keys[i])
        for index, job in jobs.items():
            name = names[index]
            if name in evaluations:
                evaluations[name].indices.append(index)
                continue
            after: Task | None = None
            for count, key in enumerate(keys[index], 1):
                deeper = keys[index][count] if count < len(keys[index]) else None
                if uses[key] < 2 or (deeper is not None and uses[deeper] == uses[key]):
                    continue
                if key not in by_key and not self._stages.has(key):
                    by_key[key] = Task(job, count, after)
                    yield by_key[key]
                after = by_key.get(key, after)
            evaluations[name] = Task(job, None, after, [index])
        yield from evaluations.values()


def _finish(task: Task, result: Any, found: dict[int, Measured], done: Done) -> None:
    task.done = True
    if task.count is not None:
        task.seconds = float(result)
        return
    measured, seconds, reused = result
    before, seconds = task.after, float(seconds)
    while before is not None:  # whoever comes first pays for what several have in common
        seconds, before.seconds, before = seconds + before.seconds, 0.0, before.after
    for index in task.indices:
        found[index] = measured
        done(index, measured, seconds, reused or index != task.indices[0])
