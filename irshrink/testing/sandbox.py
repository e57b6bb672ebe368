"""Hostile inputs in a child process that may fail, but is stopped when it hangs and cannot write elsewhere.

Linux only: a child is forked with everything imported, limited in memory, and shut into one folder
(:mod:`irshrink.isolation.confine`).
"""

from __future__ import annotations

import os
import resource
import select
import signal
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from irshrink.isolation.confine import confine_writes


@dataclass(frozen=True)
class Outcome:
    """Of one case: ``ok``, ``refused``, ``crash`` or ``hang``, and a line that says what happened."""

    case: int
    kind: str
    text: str = ""


def run_cases(
    cases: Sequence[int],
    check: Callable[[int], tuple[str, str]],
    folder: Path,
    *,
    seconds: float = 10.0,
    memory: int = 4 << 30,
) -> Iterator[Outcome]:
    """Run ``check`` on every case, in children that each take as many as they survive.

    Args:
        check: returns kind and text; an exception is a crash.
        folder: the only one that a child may write to.
        seconds: a case that takes longer is a hang: of processor time, since other processes may take the
            rest, or ten times as long by the clock.
        memory: bytes of address space, beyond what is mapped already.
    """
    todo = list(cases)
    while todo:
        finished = 0
        for outcome in _one_child(todo, check, folder, seconds, memory):
            finished += 1
            yield outcome
        todo = todo[finished:]


def _one_child(
    cases: Sequence[int],
    check: Callable[[int], tuple[str, str]],
    folder: Path,
    seconds: float,
    memory: int,
) -> Iterator[Outcome]:
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(reader)
        _child(cases, check, folder, memory, writer)
    os.close(writer)
    with os.fdopen(reader, "rb") as stream:
        for case in cases:
            ready = _wait(stream, child, seconds)
            line = stream.readline() if ready else b""
            if line:
                kind, _, text = line.decode("utf-8", "replace").rstrip("\n").partition(" ")
                yield Outcome(case, kind, text)
                continue
            if not ready:
                os.kill(child, signal.SIGKILL)
            _, status = os.waitpid(child, 0)
            yield Outcome(
                case, *(("crash", _death(status)) if ready else ("hang", f"more than {seconds:g} s"))
            )
            return
    os.waitpid(child, 0)


def _wait(stream: IO[bytes], child: int, seconds: float) -> bool:
    """Whether the child answers in time."""
    start = _processor_seconds(child)
    for _ in range(10):
        ready, _, _ = select.select([stream], [], [], seconds)
        if ready:
            return True
        if _processor_seconds(child) - start > seconds:
            return False
    return False


def _processor_seconds(pid: int) -> float:
    """Of a process and its children, those that have ended included."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    except OSError:
        return 0.0
    own = sum(int(field) for field in fields[11:15]) / os.sysconf("SC_CLK_TCK")
    return own + sum(_processor_seconds(int(one)) for one in children)


def _death(status: int) -> str:
    if os.WIFSIGNALED(status):
        return f"signal {signal.Signals(os.WTERMSIG(status)).name}"
    return f"exit code {os.waitstatus_to_exitcode(status)}"


def _child(
    cases: Sequence[int], check: Callable[[int], tuple[str, str]], folder: Path, memory: int, writer: int
) -> None:
    """Never returns."""
    try:
        silence = os.open(os.devnull, os.O_RDWR)
        for stream in (1, 2):
            os.dup2(silence, stream)
        _limit_memory(memory)
        confine_writes(folder)
        for case in cases:
            try:
                kind, text = check(case)
            except BaseException as e:
                kind, text = "crash", f"{type(e).__name__}: {e}"
            line = f"{kind} {' '.join(text.split())}"[:4000]
            os.write(writer, line.encode("utf-8", "replace") + b"\n")
    finally:
        os._exit(0)


def _limit_memory(memory: int) -> None:
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    limit = pages * resource.getpagesize() + memory
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
