"""What a C package calls its files, functions and macros: a prefix, and a word more a variant of shapes."""

from __future__ import annotations

import re
from dataclasses import dataclass

from irshrink.errors import RecipeError

DEFAULT_PREFIX = "model"
#: ``NAME_OUTPUT_0_ZERO_POINT`` and the like stay below the 63 characters that C compilers tell apart.
_LONGEST = 32

#: Headers that programs include beside the package's, or that lie beside it.
_TAKEN = re.compile(
    r"""assert|complex|ctype|errno|fenv|float|inttypes|iso646|limits|locale|math|setjmp|signal|stdalign|stdarg
    |stdatomic|stdbool|stddef|stdint|stdio|stdlib|stdnoreturn|string|tgmath|threads|time|uchar|wchar|wctype
    |unistd|pthread|sched|semihosting|startup|port|test_main|test_vector|main|irshrink|irs""",
    re.VERBOSE | re.IGNORECASE,
)


@dataclass(frozen=True)
class Names:
    """The names in a package.

    Attributes:
        prefix: begins the names of files, functions (``model_run``) and macros (``MODEL_ARENA_BYTES``).
        variants: words behind the prefix in the functions of each variant of shapes (``model_320x320_run``);
            empty where there is one set of shapes, whose functions have the prefix alone.
    """

    prefix: str = DEFAULT_PREFIX
    variants: tuple[str, ...] = ()

    @property
    def symbols(self) -> tuple[str, ...]:
        """What the functions of each variant begin with, ``_`` left out; one at least."""
        return tuple(f"{self.prefix}_{name}" for name in self.variants) or (self.prefix,)

    @property
    def header(self) -> str:
        """In ``src``."""
        return f"{self.prefix}.h"

    @property
    def library(self) -> str:
        """CMake's name of the library, and the base of its files' names."""
        return f"irshrink_{self.prefix}"

    @property
    def shared(self) -> str:
        """The shared library in a package."""
        return f"lib/lib{self.library}.so"

    @property
    def archive(self) -> str:
        """The static library in a package for another machine."""
        return f"lib/lib{self.library}.a"

    @property
    def loader(self) -> str:
        """The Python file in a package."""
        return f"{self.library}.py"

    @property
    def test_program(self) -> str:
        """The test of a package for Linux on another machine."""
        return f"bin/{self.prefix}_test"

    def defines(self) -> list[str]:
        """Compiler flags for C files that are written for any package: the header, and the functions as a
        list ``MODEL_VARIANTS(X)`` of ``X(symbol, MACRO)``.
        """
        rows = " ".join(f"X({symbol}, {symbol.upper()})" for symbol in self.symbols)
        return [f'-DMODEL_HEADER="{self.header}"', f"-DMODEL_VARIANTS(X)={rows}"]


#: Of a package for which nobody chose names.
DEFAULT_NAMES = Names()


def api(symbol: str) -> tuple[str, ...]:
    """The functions of one variant: what a program can call."""
    ends = ("run", "run_in", "input", "output", "input_in", "output_in", "input_bytes", "output_bytes")
    return tuple(f"{symbol}_{end}" for end in ends)


def require_prefix(prefix: str) -> None:
    """
    Raises:
        RecipeError: it is no C identifier, or one that C programs have other uses for.
    """
    if re.fullmatch(r"[A-Za-z][A-Za-z0-9_]*", prefix) is None or prefix.endswith("_"):
        raise RecipeError(
            f"prefix '{prefix}' is not a name in C. Write letters, digits and _, a letter first, such as kws "
            "for kws.h and kws_run()."
        )
    if len(prefix) > _LONGEST:
        raise RecipeError(f"prefix '{prefix}' has {len(prefix)} characters; at most {_LONGEST} are allowed.")
    if _TAKEN.fullmatch(prefix) is not None:
        raise RecipeError(f"prefix '{prefix}' is taken: {prefix}.h is another header. Choose another name.")
