"""One thread for linear algebra, because results must not depend on how many processors a machine has.

BLAS libraries split sums and factorizations among threads: a dot product, a Gram matrix in float32, a
Cholesky factor have other last bits on two threads than on one. What is decided by them then differs, too.
Several plans are tried at a time by processes instead.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

__all__ = ["one_thread"]

_lock = threading.Lock()
#: What restores the number of threads, and how many blocks are waiting for that.
_limits: list[Any] = []
_depth = 0


@contextmanager
def one_thread() -> Iterator[None]:
    """NumPy and SciPy compute with one thread within the block, or the function that it decorates."""
    _enter()
    try:
        yield
    finally:
        _leave()


def _enter() -> None:
    global _depth  # noqa: PLW0603 - of the process, as the number of threads is
    with _lock:
        _depth += 1
        if _depth > 1:
            return
        import scipy.linalg  # noqa: F401 - has a library of its own, which must be there to be limited
        from threadpoolctl import threadpool_limits

        _limits.append(threadpool_limits(1, user_api="blas"))


def _leave() -> None:
    global _depth  # noqa: PLW0603
    with _lock:
        _depth -= 1
        if _depth == 0:
            _limits.pop().restore_original_limits()
