"""What watches a pipeline."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import numpy as np
import pytest

from irshrink.errors import OutputError, PassError
from irshrink.graph.edit import set_constant
from irshrink.instruments import CheckNumerics, DiffText, Dump, Progress, difference
from irshrink.module import Module, module_from_text
from irshrink.pipeline import Context, PassResult, Pipeline
from irshrink.registry import make_pass
from irshrink.samples import input_specs
from irshrink.samples.random import random_samples
from irshrink.target import load_target

HOST = load_target("host")


def model() -> Module:
    return module_from_text("""<ir_version: 9, opset_import: ["" : 20]>
    g (float[1, 4] x) => (float[1, 4] y, int64[1, 1] best)
       <float two = {2}>
    {
       t = Mul (x, two)
       i = Identity (t)
       y = Relu (i)
       best = ArgMax <axis = 1> (i)
    }""")


@dataclass(frozen=True)
class Scale:
    """Sets the factor of the model."""

    factor: float

    name: ClassVar[str] = "scale"
    lossy: ClassVar[bool] = False

    def run(self, module: Module, ctx: Context) -> PassResult:
        set_constant(module.graph[0], 1, np.float32(self.factor), "two")
        return PassResult(True)


@dataclass(frozen=True)
class LossyScale(Scale):
    """The same, and says so."""

    name: ClassVar[str] = "lossy-scale"
    lossy: ClassVar[bool] = True


def check(module: Module) -> CheckNumerics:
    return CheckNumerics(random_samples(input_specs(module.graph), 3))


def test_the_first_pass_that_changes_an_output_is_named() -> None:
    module = model()
    steps = [make_pass("eliminate-identity"), Scale(2.1), Scale(5.0)]
    with pytest.raises(PassError) as info:
        Pipeline(steps, [check(module)]).run(module, HOST)
    message = str(info.value)
    assert message.startswith("pass 'scale' changed output 'y' at random sample ")
    assert "off by " in message
    assert message.endswith("(passes before it: eliminate-identity)")


def test_rounding_is_allowed() -> None:
    module = model()
    Pipeline([Scale(2.000001)], [check(module)]).run(module, HOST)


def test_lossy_passes_may_change_and_start_anew() -> None:
    module = model()
    Pipeline([LossyScale(3.0), Scale(3.0)], [check(module)]).run(module, HOST)
    with pytest.raises(PassError, match="pass 'scale' changed output 'y'"):
        Pipeline([LossyScale(4.0), Scale(3.0)], [check(module)]).run(module, HOST)


def test_integers_must_be_equal() -> None:
    module = model()
    with pytest.raises(PassError, match=r"changed output '(y|best)'"):
        Pipeline([Scale(-2.0)], [check(module)]).run(module, HOST)
    assert difference(np.array([1, 2, 3]), np.array([1, 5, 6]), 100.0) == "2 of 3 elements differ"


def test_what_cancellation_leaves_is_not_compared_digit_by_digit() -> None:
    """The mean of a normalized row is 0 but for roundings, which another order of the sums changes."""
    module = module_from_text("""<ir_version: 9, opset_import: ["" : 20]> g (float[4, 9] x) => (float[4, 1] y)
        <int64[1] last = {-1}, float two = {2.0}, float epsilon = {0.001}>
        {
           mean = ReduceMean (x, last)
           d = Sub (x, mean)
           square = Pow (d, two)
           variance = ReduceMean (square, last)
           v = Add (variance, epsilon)
           deviation = Sqrt (v)
           normalized = Div (d, deviation)
           y = ReduceMean (normalized, last)
        }""")
    Pipeline([make_pass("recognize-layernorm")], [check(module)]).run(module, HOST)
    assert module.history[-1].changed


@pytest.mark.parametrize(
    ("new", "reason"),
    [
        ([1.0, np.nan], None),
        ([1.05, np.nan], None),
        ([1.2, np.nan], "off by 0.2"),
        ([1.0, 2.0], "off by inf"),
        ([np.inf, np.nan], "off by inf"),
        ([1.0], "float64[2] became float64[1]"),
    ],
)
def test_difference(new: list[float], reason: str | None) -> None:
    assert difference(np.array([1.0, np.nan]), np.array(new), 0.1) == reason


def test_dump_writes_the_graph_after_every_change(tmp_path: Path) -> None:
    steps = [make_pass("fuse-casts"), make_pass("eliminate-identity"), make_pass("eliminate-identity")]
    Pipeline(steps, [Dump(tmp_path / "dumps")]).run(model(), HOST)
    files = sorted(path.name for path in (tmp_path / "dumps").iterdir())
    assert files == ["000-input.txt", "002-eliminate-identity.txt"]
    assert "Identity" not in (tmp_path / "dumps" / files[1]).read_text()


def test_dump_into_a_file_is_an_error_of_the_user(tmp_path: Path) -> None:
    (tmp_path / "dumps").write_text("")
    with pytest.raises(OutputError, match="cannot be written"):
        Pipeline([make_pass("fuse-casts")], [Dump(tmp_path / "dumps")]).run(model(), HOST)


def test_diff_shows_what_changed() -> None:
    lines: list[str] = []
    steps = [make_pass("fuse-casts"), make_pass("eliminate-identity")]
    Pipeline(steps, [DiffText(lines.append)]).run(model(), HOST)
    (text,) = lines
    assert "+++ after eliminate-identity" in text
    assert "-   i = Identity (t)" in text


def test_progress_says_what_runs() -> None:
    said: list[str] = []
    Pipeline([make_pass("fuse-casts"), make_pass("fuse-clips")], [Progress(said.append)]).run(model(), HOST)
    assert said == ["fuse-casts", "fuse-clips"]
