"""Processes of this machine that try plans.

They are spawned, so that nothing of this one is shared, and end with it, however it ends: each watches a pipe
that this process holds open.
"""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Iterator
from concurrent.futures import BrokenExecutor, Executor, ProcessPoolExecutor
from contextlib import contextmanager
from multiprocessing import get_context
from multiprocessing.connection import Connection

from irshrink.errors import ToolError
from irshrink.planning.remote import ready

__all__ = ["cores", "local_processes"]


def cores() -> int:
    """How many processors this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


@contextmanager
def local_processes(count: int) -> Iterator[Executor]:
    """An executor of ``count`` processes; they are gone when the block ends, whatever they are doing.

    Raises:
        ToolError: processes cannot be started.
    """
    context = get_context("spawn")
    watched, held = context.Pipe(duplex=False)
    pool = ProcessPoolExecutor(count, mp_context=context, initializer=_begin, initargs=(watched,))
    try:
        try:
            pool.submit(ready).result()
        except BrokenExecutor as e:
            raise ToolError(
                "processes that try plans cannot be started. In a script of your own, call this below "
                "if __name__ == '__main__':, because each process reads the script again; or ask for one "
                "process."
            ) from e
        yield pool
    finally:
        held.close()  # which is what they watch
        pool.shutdown(wait=True, cancel_futures=True)
        watched.close()


def _begin(watched: Connection) -> None:
    """In a new process: leave Ctrl-C to the one that started it, and end when that has closed the pipe."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_end_with, args=(watched,), daemon=True).start()


def _end_with(watched: Connection) -> None:
    try:
        watched.recv()
    except (EOFError, OSError):
        os._exit(1)
