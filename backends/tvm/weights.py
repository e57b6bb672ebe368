"""The constants of a program, each stored once: C text that a person can read or, where large, bytes."""

from __future__ import annotations

import hashlib
import re
import textwrap

import numpy as np
from numpy.typing import NDArray

from irshrink.backends.package.blob import blob_files, declaration, joined
from irshrink.backends.toolchain.zig import is_bare_metal
from irshrink.backends.tvm.printer import C_TYPES, c_float
from irshrink.names import DEFAULT_NAMES, Names, api
from irshrink.target import Target

WIDTH = 110
#: Bytes of weights from which on they are no C text; what fits a microcontroller stays readable.
_MOST_TEXT, _MOST_TEXT_BARE_METAL = 256 << 10, 4 << 20

#: Words that mean something else where constants are used: C's keywords, and what the templates define.
_RESERVED = re.compile(
    r"""auto|break|case|char|const|continue|default|do|double|else|enum|extern|float|for|goto|if|inline|int|long
    |register|restrict|return|short|signed|sizeof|static|struct|switch|typedef|union|unsigned|void|volatile
    |while|asm|typeof|arena|index|names|AT|NULL""",
    re.VERBOSE,
)


class Weights:
    """Constant arrays of the model; equal contents are stored once."""

    def __init__(self, names: Names = DEFAULT_NAMES) -> None:
        self._file = f"{names.prefix}_weights"
        self._taken = {self._file, f"{names.prefix}_arena", *(f for s in names.symbols for f in api(s))}
        self._names: dict[tuple[str, str], str] = {}
        self._arrays: dict[str, NDArray[np.generic]] = {}

    def name(self, wanted: str, array: NDArray[np.generic]) -> str:
        """The C name of a constant, ``wanted`` unless the same values have a name."""
        flat = np.ascontiguousarray(array).reshape(-1)
        flat = flat.view(np.int16) if flat.dtype == np.float16 else flat
        key = (str(flat.dtype), hashlib.sha256(flat.tobytes()).hexdigest())
        if key not in self._names:
            name = self._names[key] = self._free(wanted)
            self._arrays[name] = flat
        return self._names[key]

    def _free(self, wanted: str) -> str:
        """``wanted``, with a number behind it where it is another constant's or C's own."""
        wanted = f"c_{wanted}" if wanted.startswith("irs_") else wanted  # as functions of the kernels begin
        name, count = wanted, 1
        while name in self._arrays or _RESERVED.fullmatch(name) or name in self._taken:
            count += 1
            name = f"{wanted}_{count}"
        return name

    def files(self, target: Target) -> dict[str, str | bytes]:
        """``<prefix>_weights.h`` and, where it only points to them, the files that hold the bytes."""
        name = self._file
        most = _MOST_TEXT_BARE_METAL if is_bare_metal(target) else _MOST_TEXT
        if sum(array.nbytes for array in self._arrays.values()) <= most:
            return {f"{name}.h": _HEAD + "\n" + "\n".join(_text(n, a) for n, a in self._arrays.items())}
        little = {n: a.astype(a.dtype.newbyteorder("<")).tobytes() for n, a in self._arrays.items()}
        data, offsets = joined(little)
        lines = [_pointer(n, a, f"{name} + {offsets[n]}") for n, a in self._arrays.items()]
        return {f"{name}.h": "".join([_HEAD, declaration(name), "\n", *lines]), **blob_files(name, data)}


_HEAD = "/* Constants of this model, in flash. */\n#include <stdint.h>\n"


def _pointer(name: str, array: NDArray[np.generic], place: str) -> str:
    ctype = C_TYPES[str(array.dtype)]
    at = f"(const {ctype} *)(const void *)({place})"
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
