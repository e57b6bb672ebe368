"""Samples between samples, and when a model is judged on them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx_ir as ir
import pytest

from irshrink.module import Module, module_from_text
from irshrink.planning.blended import SHARE, blended, can_be_blended
from irshrink.planning.judging import Judge
from irshrink.samples import Samples, input_specs, load_samples

Array = np.ndarray[Any, np.dtype[Any]]
NET = """
<ir_version: 10, opset_import: ["" : 20]>
classifier (float[1, 4] x) => (float[1, 2] scores)
<float[4, 2] w = {3.0, -3.0, 1.0, -1.0, 0.5, -0.5, 0.1, -0.1}>
{
    scores = MatMul(x, w)
}
"""


def net(second: float = 1.0) -> Module:
    """The net, or one that takes its second input for ``second`` times what it is."""
    module = module_from_text(NET)
    weight = module.graph.initializers["w"]
    assert weight.const_value is not None
    changed = weight.const_value.numpy() * np.array([[1.0], [second], [1.0], [1.0]], np.float32)
    weight.const_value = ir.tensor(changed, name="w")
    return module


def samples(folder: Path, wrong: int, count: int = 1000, dtype: str = "float32") -> Samples:
    """Sorted by class, as the net sees it, apart from some labels."""
    x = np.random.default_rng(0).normal(0, 1, (count, 4)).astype(dtype)
    y = (x @ np.array([3.0, 1.0, 0.5, 0.1]) < 0).astype(np.int64)
    y[:wrong] = 1 - y[:wrong]
    np.savez(folder / "data.npz", x=x, y=y)
    return load_samples(folder / "data.npz", input_specs(net().graph), role="calibration")


def test_blends_lie_between_two_samples_far_from_each_other(tmp_path: Path) -> None:
    given = samples(tmp_path, 0, count=10)
    before, after = list(given.feeds()), blended(given)
    for index, one in enumerate(after):
        other = before[(index + 5) % 10]["x"]
        assert one["x"].dtype == np.float32
        np.testing.assert_allclose(one["x"], (1 - SHARE) * before[index]["x"] + SHARE * other, rtol=1e-5)
    assert can_be_blended(given)


@pytest.mark.parametrize(("wrong", "learned"), [(0, True), (2, True), (40, False)])
def test_who_knows_the_samples_by_heart_is_judged_between_them(
    tmp_path: Path, wrong: int, learned: bool
) -> None:
    judge = Judge(net(), samples(tmp_path, wrong), max_drop=0.03)
    assert judge.learned is learned
    assert judge.estimated is learned
    assert judge.judge(net()).drop == 0
    assert judge.judge(net(-1.0)).drop > 0.01


def test_nobody_is_taken_to_know_samples_without_a_budget(tmp_path: Path) -> None:
    assert not Judge(net(), samples(tmp_path, 0)).learned
