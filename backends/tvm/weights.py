"""The constants of a program, each stored once: C text that a person can read or, where large, bytes."""

from __future__ import annotations

import hashlib
import textwrap

import numpy as np
from numpy.typing import NDArray

from irshrink.backends.package.blob import blob_files, declaration, joined
from irshrink.backends.toolchain.zig import is_bare_metal
from irshrink.backends.tvm.printer import C_TYPES, c_float
from irshrink.target import Target

WIDTH = 110
#: Bytes of weights from which on they are no C text; what fits a microcontroller stays readable.
_MOST_TEXT, _MOST_TEXT_BARE_METAL = 256 << 10, 4 << 20
_NAME = "model_weights"


class Weights:
    """Constant arrays of the model; equal contents are stored once."""

    def __init__(self) -> None:
        self._names: dict[tuple[str, str], str] = {}
        self._arrays: dict[str, NDArray[np.generic]] = {}

    def name(self, wanted: str, array: NDArray[np.generic]) -> str:
        """The C name of a constant, ``wanted`` unless the same values have a name."""
        flat = np.ascontiguousarray(array).reshape(-1)
        key = (str(flat.dtype), hashlib.sha256(flat.tobytes()).hexdigest())
        if key not in self._names:
            self._names[key] = wanted
            self._arrays[wanted] = flat
        return self._names[key]

    def files(self, target: Target) -> dict[str, str | bytes]:
        """``model_weights.h`` and, where it only points to them, the files that hold the bytes."""
        most = _MOST_TEXT_BARE_METAL if is_bare_metal(target) else _MOST_TEXT
        if sum(array.nbytes for array in self._arrays.values()) <= most:
            return {f"{_NAME}.h": _HEAD + "\n" + "\n".join(_text(n, a) for n, a in self._arrays.items())}
        little = {n: a.astype(a.dtype.newbyteorder("<")).tobytes() for n, a in self._arrays.items()}
        data, offsets = joined(little)
        lines = [_pointer(n, a, offsets[n]) for n, a in self._arrays.items()]
        return {f"{_NAME}.h": "".join([_HEAD, declaration(_NAME), "\n", *lines]), **blob_files(_NAME, data)}


_HEAD = "/* Constants of this model, in flash. */\n#include <stdint.h>\n"


def _pointer(name: str, array: NDArray[np.generic], offset: int) -> str:
    ctype = C_TYPES[str(array.dtype)]
    at = f"(const {ctype} *)(const void *)({_NAME} + {offset})"
    return f"static const {ctype} *const {name} = {at}; /* {array.size} */\n"


def _text(name: str, flat: NDArray[np.generic]) -> str:
    if flat.dtype == np.float32:
        values = [c_float(v) for v in flat.tolist()]
    else:
        values = [_literal(v) for v in flat.tolist()]
    rows = textwrap.fill(", ".join(values), WIDTH, initial_indent="    ", subsequent_indent="    ")
    ctype = C_TYPES[str(flat.dtype)]
    return f"static const {ctype} {name}[{flat.size}] __attribute__((aligned(4))) = {{\n{rows}}};\n"


def _literal(value: int) -> str:
    return "INT32_MIN" if value == -(2**31) else str(value)
