"""Frameworks that tests and benchmarks need and irshrink does not, in the interpreters of converters."""

from __future__ import annotations

import os
import subprocess
import sys
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

from irshrink.errors import ToolError
from irshrink.frontends.frontend import Frontend
from irshrink.frontends.interpreter import VARIABLE, find_interpreter

if TYPE_CHECKING:
    import pytest


@cache
def python_with(*distributions: str) -> Path | None:
    """An interpreter that has all of ``distributions`` (``a|b``: either), None when there is none."""
    try:
        return find_interpreter(Frontend(name="", title="", extra="", needs=distributions)).path
    except ToolError:
        return None


def needs(*distributions: str) -> pytest.MarkDecorator:
    """Skip a test where no interpreter has ``distributions``."""
    import pytest

    names = " ".join(need.split("|")[0] for need in distributions)
    return pytest.mark.skipif(
        python_with(*distributions) is None,
        reason=f"needs {names}: pip install {names} (or the extra that has it) into an environment, and "
        f"name its Python in {VARIABLE}",
    )


def run_script(distribution: str, script: str, folder: Path, *arguments: str) -> None:
    """Run Python code where ``distribution`` is installed."""
    python = python_with(distribution) or Path(sys.executable)
    environment = {**os.environ, "CUDA_VISIBLE_DEVICES": "-1", "TF_CPP_MIN_LOG_LEVEL": "2"}
    command = [str(python), "-c", script, *arguments]
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
