"""A Dask cluster that tries plans: ``pip install irshrink[dask]``."""

from __future__ import annotations

import re
from collections.abc import Iterator
from concurrent.futures import Executor
from contextlib import ExitStack, contextmanager
from importlib import import_module
from importlib.util import find_spec
from logging import CRITICAL
from typing import Any

from irshrink.errors import ToolError, UserError

__all__ = ["dask_executor", "require_cluster"]

_LOCAL = re.compile(r"local:([1-9]\d{0,3})")
_SCHEDULER = re.compile(r"(\w+://)?(?!local:)[^\s/]+:\d+")
#: How long a scheduler is waited for.
_SECONDS = 30


def require_cluster(address: str) -> None:
    """
    Raises:
        UserError: no address of a scheduler.
        ToolError: Dask is not installed.
    """
    if not _LOCAL.fullmatch(address) and not _SCHEDULER.fullmatch(address):
        raise UserError(
            f"--cluster '{address}' is no cluster. Write the address of a Dask scheduler, tcp://host:8786, "
            "or local:4 for four processes of this machine."
        )
    if find_spec("distributed") is None:
        raise ToolError("a cluster needs Dask: pip install 'irshrink[dask]'.")


@contextmanager
def dask_executor(address: str) -> Iterator[tuple[Executor, int]]:
    """An executor on a cluster, and how many tasks it runs at a time.

    Args:
        address: of a scheduler, or ``local:N`` for N processes that are started and ended here.

    Raises:
        UserError, ToolError: as :func:`require_cluster`; nothing answers there, or workers are gone.
    """
    require_cluster(address)
    distributed: Any = import_module("distributed")  # has no types
    gone = (distributed.KilledWorker, distributed.comm.CommClosedError)
    with ExitStack() as stack:
        try:
            where = _local(distributed, address, stack)
            client = stack.enter_context(distributed.Client(where, timeout=_SECONDS))
        except (OSError, TimeoutError) as e:
            raise ToolError(f"--cluster {address}: no Dask scheduler answers there: {e}.") from e
        workers = len(client.nthreads())
        if not workers:
            raise ToolError(f"--cluster {address}: there are no workers. Start some: dask worker {address}.")
        try:
            # every task is a new one: what is known already is in the journal
            yield stack.enter_context(client.get_executor(pure=False, retries=2)), workers
        except gone as e:
            raise ToolError(
                f"--cluster {address}: workers that try plans die, or are gone. Was memory short? What was "
                "found is remembered: run it again."
            ) from e


def _local(distributed: Any, address: str, stack: ExitStack) -> Any:
    """A cluster of this machine where that is asked for, else the address."""
    local = _LOCAL.fullmatch(address)
    if local is None:
        return address
    cluster = distributed.LocalCluster(
        n_workers=int(local[1]),
        threads_per_worker=1,
        processes=True,
        dashboard_address=None,
        silence_logs=CRITICAL,  # errors arrive here
    )
    return stack.enter_context(cluster)
