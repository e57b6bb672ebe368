"""The C functions of a model: every kernel once, or once for each layer whose sizes it knows."""

from __future__ import annotations

import textwrap
from dataclasses import dataclass, field

from irshrink.backends.tvm.kernels.call import KernelCall
from irshrink.backends.tvm.printer import NO_BREAK, print_function
from irshrink.backends.tvm.tir import Parameter

WIDTH = 110

#: Headers that come along when a kernel calls one of their functions: name -> prefix of the functions.
HEADERS = {
    "math": "irs_math_",
    "integers": "irs_int_",
    "q31": "irs_q31_",
    "wide": "irs_wide_",
    "neon": "irs_neon_",
    "x86": "irs_x86_",
    "mve": "irs_mve_",
    "mve_rows": "irs_helium_",
    "mve_lanes": "irs_lanes_",
    "dsp": "irs_dsp_",
    "planes": "irs_planes_",
    "nibbles": "irs_nibble_",
    "packed": "irs_packed_",
    "shared": "irs_shared_",
    "halves": "irs_half_",
    "float16": "irs_f16_",
    "neon_halves": "irs_halves_",
}
#: Headers that others include.
_INCLUDED = {"neon_halves": "neon", "nibbles": "dsp"}


@dataclass
class Functions:
    """Kernels in the order of their first call; ask :meth:`name` once for every call.

    With ``threaded``, kernels whose work threads may share take two further arguments (:meth:`shared`).
    """

    threaded: bool = False
    _texts: dict[str, str] = field(default_factory=dict)
    _versions: dict[str, list[tuple[int | float, ...]]] = field(default_factory=dict)

    def name(self, call: KernelCall) -> str:
        """What the function for ``call`` is called in C."""
        function = call.function
        if not call.specialized:
            if function.name not in self._texts:
                self._texts[function.name] = print_function(function, threaded=self.threaded)
            return function.name
        sizes = dict(_sizes(call))
        versions = self._versions.setdefault(function.name, [])
        key = tuple(sizes.values())
        if key not in versions:
            versions.append(key)
        name = f"{function.name}_v{versions.index(key)}"
        if name not in self._texts:
            self._texts[name] = print_function(function, name, sizes, threaded=self.threaded)
        return name

    def shared(self, call: KernelCall) -> bool:
        """Whether the C function for ``call`` ends with the arguments ``share`` and ``shares``."""
        return self.threaded and call.function.shared

    def text(self) -> str:
        """The definitions of all functions asked for."""
        texts = [_wrap_signature(text) for text in self._texts.values()]
        return "/* The kernels of this model, generated from TIR. */\n\n" + "\n".join(texts)

    def headers(self) -> list[str]:
        """Names of the headers that the functions call, and of those that these include."""
        texts = self._texts.values()
        called = [name for name, prefix in HEADERS.items() if any(prefix in text for text in texts)]
        included = {_INCLUDED.get(name) for name in called}
        return [name for name in HEADERS if name in called or name in included]


def remaining(call: KernelCall, parameter: Parameter) -> bool:
    """Whether ``parameter`` is still an argument of the C function for ``call``."""
    return parameter.pointer or not call.specialized or parameter.name in call.varying


def wrap(text: str, indent: str) -> str:
    """Lines of at most ``WIDTH``, broken at spaces; a no-break space stays on its line."""
    wrapped = textwrap.fill(
        text, WIDTH, subsequent_indent=indent, break_long_words=False, break_on_hyphens=False
    )
    return wrapped.replace(NO_BREAK, " ")


def _sizes(call: KernelCall) -> list[tuple[str, int | float]]:
    pairs = zip(call.function.parameters, call.arguments, strict=True)
    fixed = [(p, a) for p, a in pairs if not p.pointer and p.name not in call.varying]
    return [(p.name, a) for p, a in fixed if isinstance(a, int | float)]


def _wrap_signature(text: str) -> str:
    lines = text.split("\n")
    at = next(i for i, line in enumerate(lines) if line.startswith("IRS_NOINLINE"))
    lines[at] = wrap(lines[at], " " * 4)
    return "\n".join(lines)
