"""Time of builds in this process."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from time import perf_counter

from irshrink.backends.native.library import NativeLibrary
from irshrink.names import DEFAULT_NAMES


def native_clock(folder: Path, inputs: Sequence[bytes]) -> Callable[[int], float]:
    """Seconds of a number of inferences of the build in ``folder``, on inputs that are set once.

    Raises:
        ToolError: it cannot be loaded, or its first inference fails.
    """
    library = NativeLibrary(folder / DEFAULT_NAMES.shared)
    library.run(inputs)

    def clock(inferences: int) -> float:
        start = perf_counter()
        library.repeat(inferences)
        return perf_counter() - start

    return clock
