"""Frameworks that tests and benchmarks need and irshrink does not, in the interpreters of converters."""

from __future__ import annotations

import os
import subprocess
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

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


def run_file(distribution: str, script: Path, folder: Path, *arguments: str) -> None:
    """Run a Python file in ``folder`` where ``distribution`` is installed.

    Raises:
        ToolError: it is installed nowhere, or the script fails; with what it said.
    """
    python = python_with(distribution)
    if python is None:
        raise ToolError(f"no interpreter has {distribution}. Install it, and name that Python in {VARIABLE}.")
    environment = {**os.environ, "CUDA_VISIBLE_DEVICES": "-1", "TF_CPP_MIN_LOG_LEVEL": "2"}
    command = [str(python), str(script), *arguments]
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)
    if done.returncode:
        raise ToolError(f"{script.name} failed: {done.stderr}")


#: OpenCV reads Caffe's files itself, up to its version 4.
OPENCV = "opencv-python-headless|opencv-python"

_OPENCV_SCRIPT = """
import sys, cv2, numpy as np
net = cv2.dnn.readNetFromCaffe(sys.argv[1], sys.argv[2])
outputs = []
for one in np.load("x.npy"):
    net.setInput(one[None])
    outputs.append(net.forward())
np.save("y.npy", np.concatenate(outputs))
"""


def answers_of_opencv(prototxt: Path, x: NDArray[np.float32], folder: Path) -> NDArray[np.float32]:
    """What OpenCV's importer of Caffe computes for a network with one input and one output.

    Args:
        x: samples along the first axis.
        folder: for scratch files.
    """
    np.save(folder / "x.npy", x)
    script = folder / "opencv.py"
    script.write_text(_OPENCV_SCRIPT, "utf-8")
    run_file(OPENCV, script, folder, str(prototxt), str(prototxt.with_suffix(".caffemodel")))
    answers: NDArray[np.float32] = np.load(folder / "y.npy")
    return answers
