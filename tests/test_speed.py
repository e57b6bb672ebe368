"""Budgets of what an inference takes: instructions where an emulator counts them, time on this machine."""

from __future__ import annotations

import json
from pathlib import Path
from xml.etree import ElementTree

import pytest

from irshrink.cli import run
from irshrink.errors import RecipeError
from irshrink.lock import make_lock
from irshrink.module import module_from_text
from irshrink.recipe import make_recipe, parse_time
from irshrink.speed import seconds_of

NET = """<ir_version: 9, opset_import: ["" : 20]>
net (float[1,4] x) => (float[1,3] y)
<float[4,3] w = {0.1,0.2,0.3,0.4,0.5,0.6,0.7,0.8,0.9,1.0,-1.1,-1.2}> { y = MatMul(x, w) }"""


@pytest.fixture
def net(tmp_path: Path) -> Path:
    module_from_text(NET).save(tmp_path / "net.onnx")
    return tmp_path


def compiled(net: Path, target: str, *options: str) -> int:
    junit = ["--junit", f"{net}/junit.xml"]
    return run(["compile", f"{net}/net.onnx", "-t", target, "-o", f"{net}/out", *junit, *options])


def failed(net: Path) -> dict[str, bool]:
    suite = ElementTree.parse(net / "junit.xml").getroot()
    return {case.attrib["name"]: case.find("failure") is not None for case in suite}


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("20ms", 0.02), ("500 us", 0.0005), ("1.5s", 1.5), ("0.02", 0.02), (".5 ms", 0.0005)],
)
def test_times(text: str, seconds: float) -> None:
    assert parse_time(text, "latency") == pytest.approx(seconds)
    assert make_recipe({"target": "host", "latency": text}).latency == pytest.approx(seconds)


@pytest.mark.parametrize(("text", "said"), [("20 h", "is not a time. Write 20ms"), ("0", "positive time")])
def test_no_times(text: str, said: str) -> None:
    with pytest.raises(RecipeError, match=said):
        make_recipe({"target": "host", "latency": text})


def test_a_build_within_its_instructions(net: Path) -> None:
    assert compiled(net, "cortex-m0", "--instructions", "10k") == 0
    assert failed(net)["instructions"] is False


def test_too_many_instructions(net: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert compiled(net, "cortex-m0", "--instructions", "10") == 2
    said = capsys.readouterr().err
    assert "instructions: an inference executes" in said
    assert "more than the 10 allowed" in said
    assert failed(net) == {"instructions": True}
    assert not (net / "out").exists()


def test_nothing_counts_the_instructions_of_this_machine(
    net: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert compiled(net, "host", "--instructions", "1M") == 1
    assert "nothing counts the instructions of target host" in capsys.readouterr().err


def test_an_emulator_tells_no_latency(net: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert compiled(net, "cortex-m4", "--latency", "20ms") == 1
    assert "an emulator tells no latency. Give --instructions 3M" in capsys.readouterr().err


def test_latency_on_this_machine(net: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Measured with every prefix and variant, told, and in no file of the build."""
    assert compiled(net, "host", "--latency", "10s", "--prefix", "tiny", "--json") == 0
    assert json.loads(capsys.readouterr().out)["latency_seconds"] > 0
    assert failed(net)["latency"] is False
    report = json.loads((net / "out" / "report.json").read_text())
    assert report["latency_seconds"] is None
    assert "latency" not in report["recipe"]
    assert compiled(net, "host", "--latency", "10s") == 0
    assert "one inference on this machine" in capsys.readouterr().out


def test_too_slow(net: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert compiled(net, "host", "--latency", "0.001us") == 2
    assert "latency: an inference takes" in capsys.readouterr().err
    assert failed(net) == {"latency": True}
    assert not (net / "out").exists()


def test_a_lock_knows_no_time() -> None:
    recipe = make_recipe({"target": "host", "latency": "20ms"})
    assert "latency" not in make_lock(recipe, "0" * 64, {}).recipe


def test_seconds_are_the_median_of_turns() -> None:
    taken = iter([1e-4] * 3 + [0.05, 9.0, 0.06, 0.04, 0.05, 0.05, 7.0, 0.05, 0.05])
    assert seconds_of(lambda _: next(taken)) == pytest.approx(0.05 / 500)
