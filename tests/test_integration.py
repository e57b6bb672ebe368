"""What other people's builds take in: the CMake function, and JUnit reports."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path
from xml.etree import ElementTree

import pytest

from irshrink.cli import run
from irshrink.errors import BudgetError, ModelError
from irshrink.module import module_from_text
from irshrink.report.junit import junit_of_error

NET = """<ir_version: 9, opset_import: ["" : 20]>
net (float[1,4] x) => (float[1,3] y)
<float[4,3] w = {0.1,0.2,0.3,0.4,0.5,0.6,0.7,0.8,0.9,1.0,-1.1,-1.2}> { y = MatMul(x, w) }"""

PROJECT = """cmake_minimum_required(VERSION 3.16)
project(app C)
execute_process(COMMAND irshrink cmake OUTPUT_VARIABLE helpers OUTPUT_STRIP_TRAILING_WHITESPACE)
include(${helpers})
irshrink_compile(tiny-net MODEL net.onnx TARGET host %s)
add_executable(app main.c)
target_link_libraries(app PRIVATE tiny-net)
"""

MAIN = """#include "tiny_net.h"
int main(void) { return tiny_net_run ? 0 : 1; }
"""


@pytest.fixture
def net(tmp_path: Path) -> Path:
    module_from_text(NET).save(tmp_path / "net.onnx")
    return tmp_path


def cases(file: Path) -> dict[str, str | None]:
    """Tests by name, with the message of those that failed."""
    found = {}
    for case in ElementTree.parse(file).getroot():
        failure = case.find("failure")
        found[case.attrib["name"]] = None if failure is None else failure.attrib["message"]
    return found


def test_a_build_that_keeps_its_promises(net: Path) -> None:
    arguments = ["compile", f"{net}/net.onnx", "-t", "cortex-m0", "--flash", "64K", "--max-size", "1M"]
    assert run([*arguments, "-o", f"{net}/out", "--junit", f"{net}/junit.xml"]) == 0
    assert cases(net / "junit.xml") == dict.fromkeys(("build", "bytes", "flash", "size"))


def test_a_missed_budget_is_a_failed_test(net: Path) -> None:
    arguments = ["compile", f"{net}/net.onnx", "-t", "cortex-m0", "--flash", "100", "-o", f"{net}/out"]
    assert run([*arguments, "--junit", f"{net}/junit.xml"]) == 2
    [(name, message)] = cases(net / "junit.xml").items()
    assert name == "flash"
    assert "100" in str(message)
    assert not (net / "out").exists()


def test_an_error_that_is_no_budget_fails_the_build() -> None:
    assert '<testcase classname="irshrink.m" name="build">' in junit_of_error(ModelError("broken <x>"), "m")
    assert 'name="accuracy"' in junit_of_error(BudgetError("accuracy: falls"), "m")
    assert 'name="plan"' in junit_of_error(BudgetError("no plan keeps the budgets"), "m")


@pytest.mark.long
@pytest.mark.skipif(shutil.which("cmake") is None, reason="CMake is not installed")
def test_the_cmake_function_compiles_once_and_stops_at_a_budget(net: Path) -> None:
    (net / "main.c").write_text(MAIN)
    commands = str(Path(sys.executable).parent)
    environment = {**os.environ, "PATH": f"{commands}{os.pathsep}{os.environ['PATH']}"}

    def cmake(*arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            ["cmake", *arguments], cwd=net, env=environment, capture_output=True, text=True, check=False
        )

    (net / "CMakeLists.txt").write_text(PROJECT % "")
    first = cmake("-S", ".", "-B", "build")
    assert first.returncode == 0, first.stderr
    assert "irshrink: compiling net.onnx" in first.stdout
    assert cmake("--build", "build").returncode == 0
    assert "compiling" not in cmake("-S", ".", "-B", "build").stdout
    (net / "CMakeLists.txt").write_text(PROJECT % "MAX_SIZE 10")
    missed = cmake("-S", ".", "-B", "build")
    assert missed.returncode != 0
    assert "size: the ONNX model takes" in missed.stderr
