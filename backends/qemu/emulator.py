"""QEMU as a program of this machine: where it is, what it is told, and what to install."""

from __future__ import annotations

import re
import shutil
import subprocess
from functools import cache
from pathlib import Path

from irshrink.errors import InternalError
from irshrink.target import Emulation, Target


def missing(target: Target) -> str | None:
    """None, or that QEMU is not here and the command that changes it."""
    emulation = emulation_of(target)
    if shutil.which(_program(emulation)) is not None:
        return None
    return (
        f"{_program(emulation)} is not installed. On Debian and Ubuntu: apt-get install {package(emulation)}."
    )


def package(emulation: Emulation) -> str:
    """The package of Debian and Ubuntu that has the program."""
    return "qemu-user" if emulation.emulator == "qemu-user" else _program(emulation)


def command(target: Target, image: Path, *, plugin: str | None = None) -> list[str]:
    """The command that runs an image on inputs.

    Args:
        plugin: QEMU's ``-plugin`` argument.
    """
    emulation = emulation_of(target)
    plugins = [] if plugin is None else ["-plugin", plugin]
    if emulation.emulator == "qemu-user":
        # the argument says: inputs from outside, not the test vectors
        return [_program(emulation), "-cpu", emulation.cpu, *plugins, str(image), "inputs"]
    return [
        *(_program(emulation), "-M", f"{emulation.machine}", "-cpu", emulation.cpu),
        *("-display", "none", "-monitor", "none", "-serial", "none"),
        *("-semihosting-config", "enable=on,target=native", *plugins, "-kernel", str(image)),
    ]


@cache
def version(program: str) -> tuple[int, int]:
    """Major and minor version of an installed program; (0, 0) when it does not say."""
    done = subprocess.run([program, "--version"], capture_output=True, text=True, check=False)
    found = re.search(r"version (\d+)\.(\d+)", done.stdout)
    return (int(found[1]), int(found[2])) if found else (0, 0)


def emulation_of(target: Target) -> Emulation:
    if target.emulation is None:
        raise InternalError(f"target '{target.name}' is not emulated.")
    return target.emulation


def _program(emulation: Emulation) -> str:
    assert emulation.program is not None  # the target's file was checked
    return emulation.program
