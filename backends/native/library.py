"""A host build in this process, through ctypes."""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from irshrink.errors import ToolError
from irshrink.names import DEFAULT_PREFIX


class NativeLibrary:
    """A shared library with the generated API; its static arena makes it one inference at a time.

    Raises:
        ToolError: the library is missing or was built for another machine.
    """

    def __init__(self, path: Path, symbol: str = DEFAULT_PREFIX) -> None:
        try:
            self._library = ctypes.CDLL(str(path.absolute()))
        except OSError as e:
            raise ToolError(f"{path}: cannot be loaded on this machine: {e}.") from e
        self._symbol = symbol
        for kind in ("input", "output"):
            self._function(kind).restype = ctypes.c_void_p
            self._function(f"{kind}_bytes").restype = ctypes.c_size_t

    def run(self, inputs: Sequence[bytes]) -> list[bytes]:
        """One inference: bytes of every input to bytes of every output."""
        for index, data in enumerate(inputs):
            size = self._function("input_bytes")(index)
            if size != len(data):
                raise ToolError(f"input {index} takes {size} bytes, got {len(data)}.")
            ctypes.memmove(self._function("input")(index), data, size)
        if self._function("run")() != 0:
            raise ToolError(f"{self._symbol}_run reports an error.")
        return self._outputs()

    def use_threads(self, count: int, prefix: str = DEFAULT_PREFIX) -> None:
        """Run inferences on so many threads from now on; for builds with threads only.

        Raises:
            ToolError: the system makes no more threads.
        """
        got = getattr(self._library, f"{prefix}_threads")(count)
        if got != count:
            raise ToolError(f"the system made {got} of {count} threads.")

    def repeat(self, inferences: int) -> None:
        """Inferences one after the other, on the inputs that are there."""
        run = self._function("run")
        for _ in range(inferences):
            run()

    def _outputs(self) -> list[bytes]:
        outputs: list[bytes] = []
        while size := self._function("output_bytes")(len(outputs)):
            outputs.append(ctypes.string_at(self._function("output")(len(outputs)), size))
        return outputs

    def _function(self, name: str) -> Any:
        return getattr(self._library, f"{self._symbol}_{name}")
