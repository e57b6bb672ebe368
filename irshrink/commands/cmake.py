"""``irshrink cmake``: where the CMake function is."""

from __future__ import annotations

from pathlib import Path

import click

from irshrink.console import echo, print_json


@click.command("cmake", short_help="Print the path of the CMake function irshrink_compile().")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def cmake_command(*, as_json: bool) -> None:
    """Print the path of a CMake file to include, which defines irshrink_compile() (docs/integration.md)."""
    path = str(Path(__file__).parent.parent / "cmake" / "irshrink.cmake")
    print_json({"path": path}) if as_json else echo(path)
