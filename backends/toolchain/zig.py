"""The C toolchain: Clang, LLD and compiler-rt as the ``ziglang`` wheel brings them.

One wheel compiles for the host, for Linux on other processors and for every Cortex-M, needs no system
package and makes no network access. What we link for Linux needs no C library: compiler-rt is all there is.
Same sources, same bytes: paths are mapped away, debug information is left out, and environment variables that
would reach the compiler are dropped. Its cache is ``$XDG_CACHE_HOME/irshrink/zig`` (``~/.cache`` when unset);
the first link for a target fills it with compiler-rt, which takes some seconds.
"""

from __future__ import annotations

import importlib.util
import os
import re
import subprocess
import sys
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from irshrink.errors import BudgetError, ToolError
from irshrink.target import Target

#: Flags that the bytes of a result depend on; the Makefile and CMakeLists.txt of the package agree with them.
#: The arena is one array of bytes read as other types (no strict aliasing), and fused multiply-adds would
#: change float results (no contraction).
SEMANTIC_FLAGS = ("-std=gnu11", "-fno-strict-aliasing", "-ffp-contract=off", "-fno-math-errno")

#: Float vectors of NEON on 32-bit Arm flush subnormal numbers to zero, and Clang uses them for comparisons.
_NO_VECTORS = ("-fno-tree-vectorize", "-fno-tree-slp-vectorize")

_OBJECT_FLAGS = (
    "-fno-sanitize=all",
    "-fno-stack-protector",
    "-fno-unwind-tables",  # a GNU linker without unwinder must be able to take the archive
    "-fno-asynchronous-unwind-tables",
    "-ffunction-sections",
    "-fdata-sections",
    "-fomit-frame-pointer",  # one more register for inner loops
    "-g0",
)

# compiler-rt is built once for all cores of these; what it does is rare enough in our code for that.
_RUNTIME_CPU = {"aarch64": "generic+v8a+neon", "arm": "generic+v7a+neon", "x86_64": "x86_64_v3"}

# Variables that add headers, libraries or flags behind our back.
_FOREIGN = ("CPATH", "C_INCLUDE_PATH", "LIBRARY_PATH", "CFLAGS", "LDFLAGS", "SOURCE_DATE_EPOCH")

_OVERFLOW = re.compile(r"section '(.+?)' will not fit in region '(.+?)': overflowed by (\d+) bytes")


def available() -> str | None:
    """None, or why the toolchain cannot be used and what to install."""
    if importlib.util.find_spec("ziglang") is None:
        return "the C compiler is missing: pip install ziglang."
    return None


def is_bare_metal(target: Target) -> bool:
    """Whether programs for the target run without an operating system."""
    return "-freestanding-" in target.triple


def semantic_flags(target: Target) -> tuple[str, ...]:
    """Flags for any C compiler that the bytes of a result depend on."""
    processor, _, system = target.triple.partition("-")
    has_neon = processor in ("arm", "thumb") and system.startswith("linux")
    return (*SEMANTIC_FLAGS, *(_NO_VECTORS if has_neon else ()))


def compile_objects(
    sources: Sequence[Path],
    target: Target,
    folder: Path,
    *,
    include: Sequence[Path] = (),
    optimize: str = "-O2",
    flags: Sequence[str] = (),
) -> list[Path]:
    """Compile C files to ``folder/<stem>.o``, in the order given.

    Args:
        include: folders searched for headers, besides each source's own.
        optimize: one of ``-O1 -O2 -O3 -Os``.
        flags: anything more, after our own flags.

    Raises:
        ToolError: the compiler is missing or refused a source; quotes its first errors.
    """
    objects = [folder / f"{source.stem}.o" for source in sources]
    if len(set(objects)) != len(objects):
        raise ToolError(f"two C files have the same name: {', '.join(s.name for s in sources)}.")

    def compile_one(source: Path, out: Path) -> None:
        where = [source.parent, *include]
        arguments = [*_target_flags(target), *_compile_flags(target, where), optimize, *flags]
        _zig(["cc", *arguments, "-c", source.name, "-o", str(out.absolute())], cwd=source.parent)

    with ThreadPoolExecutor(os.cpu_count()) as pool:
        list(pool.map(compile_one, sources, objects))  # in order, so the first error is always the same one
    return objects


def link_firmware(
    objects: Sequence[Path],
    target: Target,
    linker_script: Path,
    out: Path,
    *,
    entry: str = "Reset_Handler",
    keep: Sequence[str] = (),
) -> None:
    """Link a bare-metal ELF; unused sections are dropped, the symbol table is kept.

    Args:
        entry: where execution starts; it and what it reaches is used.
        keep: symbols that count as used, too.

    The linker script must discard ``.debug*``, ``.ARM.exidx*`` and ``.ARM.extab*`` of compiler-rt.

    Raises:
        BudgetError: it does not fit in a memory region; the message says by how much.
        ToolError: the linker is missing or failed.
    """
    _zig(
        [
            "cc",
            *_target_flags(target),
            "-O2",
            "-fno-sanitize=all",
            "-fno-unwind-tables",
            *[str(o.absolute()) for o in objects],
            f"-Wl,-T,{linker_script.absolute()}",
            "-Wl,--gc-sections",
            f"-Wl,-e,{entry}",
            *[f"-Wl,-u,{symbol}" for symbol in keep],
            "-o",
            str(out.absolute()),
        ],
        cwd=out.parent,
        target=target,
    )


def link_library(objects: Sequence[Path], target: Target, out: Path) -> None:
    """Link objects into a shared library that needs no other library, so it loads with any C library.

    Raises:
        ToolError: the linker is missing or failed.
    """
    # zig derives the library's own name from --name; a path must not show in it
    _link_bare(
        "build-lib", ["-dynamic", "-fstrip", "--name", out.stem.removeprefix("lib")], objects, target, out
    )


def link_executable(objects: Sequence[Path], target: Target, linker_script: Path, out: Path) -> None:
    """Link objects, which bring their own ``_start``, into a static program; the symbol table is kept.

    The linker script must discard ``.debug*`` of compiler-rt: it holds paths of this machine.

    Raises:
        ToolError: the linker is missing or failed.
    """
    flags = ["-fno-strip", "--name", out.stem, "--script", str(linker_script.absolute())]
    _link_bare("build-exe", flags, objects, target, out)


def link_shared(
    sources: Sequence[Path],
    target: Target,
    out: Path,
    *,
    include: Sequence[Path] = (),
    optimize: str = "-O2",
    flags: Sequence[str] = (),
) -> None:
    """Compile C files into a shared library for the host.

    Raises:
        ToolError: the toolchain is missing or refused a source.
    """
    _link_hosted(sources, target, out, include, [optimize, *flags, "-shared"])


def link_program(
    sources: Sequence[Path],
    target: Target,
    out: Path,
    *,
    include: Sequence[Path] = (),
    optimize: str = "-O2",
) -> None:
    """Compile C files into a program for the host.

    Raises:
        ToolError: the toolchain is missing or refused a source.
    """
    _link_hosted(sources, target, out, include, [optimize])


def archive(objects: Sequence[Path], out: Path) -> None:
    """Write a static library; members keep the order given, and carry neither dates nor owners.

    Raises:
        ToolError: the archiver is missing or failed.
    """
    out.unlink(missing_ok=True)  # `ar r` would keep members of an older archive
    _zig(["ar", "rcsD", str(out.absolute()), *[str(o.absolute()) for o in objects]], cwd=out.parent)


def cache_folder() -> Path:
    """Where the toolchain keeps what it built before."""
    base = os.environ.get("XDG_CACHE_HOME") or str(Path.home() / ".cache")
    return Path(base) / "irshrink" / "zig"


def _link_hosted(
    sources: Sequence[Path], target: Target, out: Path, include: Sequence[Path], flags: Sequence[str]
) -> None:
    """Compile and link in one go, stripped; every source sees the headers beside all of them."""
    where = [*dict.fromkeys(source.parent for source in sources), *include]
    files = [str(source.absolute()) for source in sources]
    arguments = [*_target_flags(target), *_compile_flags(target, where), *flags, "-s"]
    _zig(["cc", *arguments, *files, "-o", str(out.absolute())], cwd=out.parent)


def _link_bare(
    command: str, flags: Sequence[str], objects: Sequence[Path], target: Target, out: Path
) -> None:
    """Objects and compiler-rt, no C library. Sections that nothing reaches are dropped."""
    files = [str(o.absolute()) for o in objects]
    cpu = _RUNTIME_CPU.get(target.triple.partition("-")[0], target.cpu)
    fixed = ["-O", "ReleaseFast", "--gc-sections", "-fno-unwind-tables", f"-femit-bin={out.absolute()}"]
    _zig([command, "-target", target.triple, f"-mcpu={cpu}", *fixed, *flags, *files], cwd=out.parent)


def _target_flags(target: Target) -> list[str]:
    return ["-target", target.triple, f"-mcpu={target.cpu}"]


def _compile_flags(target: Target, include: Sequence[Path]) -> list[str]:
    kind = "-ffreestanding" if is_bare_metal(target) else "-fPIC"
    folders = [str(folder.absolute()) for folder in include]
    return [
        *semantic_flags(target),
        *_OBJECT_FLAGS,
        kind,
        *[f"-I{folder}" for folder in folders],
        *[f"-ffile-prefix-map={folder}=." for folder in folders],
    ]


def _environment() -> dict[str, str]:
    cache = cache_folder()
    try:
        cache.mkdir(parents=True, exist_ok=True)
    except OSError as e:
        raise ToolError(
            f"{cache}: the compiler's cache cannot be created ({e.strerror}). "
            "Set XDG_CACHE_HOME to a folder that can be written."
        ) from e
    kept = {k: v for k, v in os.environ.items() if k not in _FOREIGN and not k.startswith("ZIG_")}
    return {**kept, "ZIG_GLOBAL_CACHE_DIR": str(cache), "ZIG_LOCAL_CACHE_DIR": str(cache), "NO_COLOR": "1"}


def _zig(arguments: Sequence[str], cwd: Path, target: Target | None = None) -> None:
    """Run the compiler; ``target`` lets what does not fit be told with who set the limit."""
    missing = available()
    if missing is not None:
        raise ToolError(missing)
    done = subprocess.run(
        [sys.executable, "-m", "ziglang", *arguments],
        cwd=cwd,
        env=_environment(),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        errors="replace",
        check=False,
    )
    if done.returncode == 0:
        return
    overflow = _OVERFLOW.search(done.stderr)
    if overflow is not None:
        section, region, nbytes = overflow.groups()
        limit = "" if target is None else _limit(target, region)
        raise BudgetError(
            f"the firmware does not fit in {region}{limit}: {int(nbytes):,} bytes too many, counted up to "
            f"{section}."
        )
    raise ToolError(f"zig {arguments[0]} failed:\n{_first_errors(done.stderr)}")


def _limit(target: Target, region: str) -> str:
    if region == "RAM" and target.ram_bytes is not None:
        return f", {target.limit('ram')}"
    if region == "FLASH" and target.flash_bytes is not None:
        return f", {target.limit('flash')}"
    return ""


def _first_errors(text: str, count: int = 5) -> str:
    lines = [line for line in text.splitlines() if line.strip()]
    errors = [line for line in lines if "error:" in line] or lines[-count:]
    return "\n".join(errors[:count]) or "it printed nothing."
