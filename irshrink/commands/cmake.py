"""``irshrink cmake``: where the CMake function is."""

from __future__ import annotations

from pathlib import Path

import click

from irshrink.console import echo


@click.command("cmake", short_help="Print the path of the CMake function irshrink_compile().")
def cmake_command() -> None:
    """Print the path of a CMake file to include, which defines irshrink_compile() (docs/integration.md)."""
    echo(str(Path(__file__).parent.parent / "cmake" / "irshrink.cmake"))
