"""Time of builds in this process."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from time import perf_counter

from irshrink.backends.native.library import NativeLibrary
from irshrink.names import DEFAULT_NAMES, Names


def native_clock(
    folder: Path,
    inputs: Sequence[bytes],
    threads: int = 1,
    *,
    names: Names = DEFAULT_NAMES,
    variant: int = 0,
) -> Callable[[int], float]:
    """Seconds of a number of inferences of the build in ``folder``, on inputs that are set once.

    Args:
        threads: on how many to run; more than one for builds with threads only.
        names, variant: what it was compiled with, and which of those.

    Raises:
        ToolError: it cannot be loaded, its first inference fails, or the system makes no more threads.
    """
    library = NativeLibrary(folder / names.shared, names.symbols[variant])
    if threads > 1:
        library.use_threads(threads, names.prefix)
    library.run(inputs)

    def clock(inferences: int) -> float:
        start = perf_counter()
        library.repeat(inferences)
        return perf_counter() - start

    return clock
