"""Runs builds on this machine itself: the host's, and those for Linux on the processor that is here."""

from __future__ import annotations

import platform
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import ClassVar

from irshrink.backend import Counter
from irshrink.backends.native.library import NativeLibrary
from irshrink.backends.running import Call, Run, require_built
from irshrink.cpuinfo import cpu_flags
from irshrink.names import DEFAULT_NAMES, Names
from irshrink.target import Target

#: What /proc/cpuinfo of an Arm core calls the features that targets name (Linux: arm64 ELF hwcaps).
_KERNEL_NAMES = {"neon": "asimd", "dotprod": "asimddp", "i8mm": "i8mm", "fp16": "asimdhp"}


class NativeRunner:
    """The shared library of a package, loaded into this process."""

    native: ClassVar[bool] = True

    def missing(self, target: Target) -> str | None:
        lacking = sorted(target.cpu_flags - cpu_flags())
        if not lacking:
            return None
        return f"the processor of this machine has no {', '.join(lacking)}, which the build uses"

    def build(
        self,
        folder: Path,
        target: Target,
        objects: Sequence[Path],
        optimize: str,
        names: Names = DEFAULT_NAMES,
    ) -> None:
        """The package's shared library is all that is needed."""

    def run(self, folder: Path, target: Target, call: Call, progress: Counter) -> Run:
        library = NativeLibrary(require_built(folder / call.names.shared), call.symbol)
        if target.threads > 1:
            library.use_threads(call.threads, call.names.prefix)
        try:
            return Run([library.run(x) for x in call.inputs])
        finally:
            if call.threads > 1:
                library.use_threads(1, call.names.prefix)


def is_native(target: Target) -> bool:
    """Whether this machine runs the target's builds: the host target, or 64-bit Arm Linux on such a core."""
    if target.emulation is None:
        return True
    if not target.triple.startswith("aarch64-linux-") or not _is_arm_linux():
        return False
    return {_KERNEL_NAMES[f] for f in target.features if f in _KERNEL_NAMES} <= cpu_flags()


def _is_arm_linux() -> bool:
    return sys.platform == "linux" and platform.machine() == "aarch64"
