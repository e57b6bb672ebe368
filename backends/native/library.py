"""A host build in this process, through ctypes."""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from pathlib import Path

from irshrink.errors import ToolError


class NativeLibrary:
    """A shared library with the generated API; its static arena makes it one inference at a time.

    Raises:
        ToolError: the library is missing or was built for another machine.
    """

    def __init__(self, path: Path) -> None:
        try:
            self._library = ctypes.CDLL(str(path.absolute()))
        except OSError as e:
            raise ToolError(f"{path}: cannot be loaded on this machine: {e}.") from e
        for kind in ("input", "output"):
            getattr(self._library, f"model_{kind}").restype = ctypes.c_void_p
            getattr(self._library, f"model_{kind}_bytes").restype = ctypes.c_size_t

    def run(self, inputs: Sequence[bytes]) -> list[bytes]:
        """One inference: bytes of every input to bytes of every output."""
        for index, data in enumerate(inputs):
            size = self._library.model_input_bytes(index)
            if size != len(data):
                raise ToolError(f"input {index} takes {size} bytes, got {len(data)}.")
            ctypes.memmove(self._library.model_input(index), data, size)
        if self._library.model_run() != 0:
            raise ToolError("model_run reports an error.")
        return self._outputs()

    def _outputs(self) -> list[bytes]:
        outputs: list[bytes] = []
        while size := self._library.model_output_bytes(len(outputs)):
            outputs.append(ctypes.string_at(self._library.model_output(len(outputs)), size))
        return outputs
