"""Time of builds in this process."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from time import perf_counter

from irshrink.backends.native.library import NativeLibrary
from irshrink.names import DEFAULT_NAMES


def native_clock(folder: Path, inputs: Sequence[bytes], threads: int = 1) -> Callable[[int], float]:
    """Seconds of a number of inferences of the build in ``folder``, on inputs that are set once.

    Args:
        threads: on how many to run; more than one for builds with threads only.

    Raises:
        ToolError: it cannot be loaded, its first inference fails, or the system makes no more threads.
    """
    library = NativeLibrary(folder / DEFAULT_NAMES.shared)
    if threads > 1:
        library.use_threads(threads)
    library.run(inputs)

    def clock(inferences: int) -> float:
        start = perf_counter()
        library.repeat(inferences)
        return perf_counter() - start

    return clock
