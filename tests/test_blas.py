"""Results do not depend on how many threads linear algebra has."""

from __future__ import annotations

import os
import subprocess
import sys
from typing import Any

from threadpoolctl import threadpool_info, threadpool_limits

from irshrink.blas import one_thread

_PROGRAM = """
import hashlib
import numpy as np
from irshrink.blas import one_thread

rng = np.random.default_rng(0)
a = rng.standard_normal((2048, 256))
with one_thread():
    from scipy.linalg import cholesky
    wide = a.astype(np.float32)
    results = [a.ravel() @ a.ravel(), wide.T @ wide, cholesky(a.T @ a)]
print(hashlib.sha256(b"".join(np.ascontiguousarray(one).tobytes() for one in results)).hexdigest())
"""


def _threads() -> list[int]:
    found: list[dict[str, Any]] = threadpool_info()
    return [int(one["num_threads"]) for one in found if one["user_api"] == "blas"]


def test_numpy_and_scipy_have_one_thread_within_and_as_many_as_before_behind() -> None:
    import scipy.linalg  # noqa: F401

    with threadpool_limits(2, user_api="blas"):
        before = _threads()
        with one_thread():
            assert set(_threads()) == {1}
            with one_thread():
                pass
            assert set(_threads()) == {1}  # the inner block has not ended it
        assert _threads() == before


def test_the_bytes_are_the_same_on_one_thread_and_on_several() -> None:
    found = set()
    for threads in ("1", "2", "4"):
        environment = {**os.environ, "OPENBLAS_NUM_THREADS": threads, "OMP_NUM_THREADS": threads}
        run = [sys.executable, "-c", _PROGRAM]
        found.add(subprocess.run(run, env=environment, capture_output=True, check=True).stdout)
    assert len(found) == 1
