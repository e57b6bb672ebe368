"""Layers in ``irshrink diff``: which differ in size, which one model does not have."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx_ir as ir

from irshrink.diff import diff_models, render
from irshrink.graph.edit import set_constant
from irshrink.module import Module
from irshrink.testing.small_net import small_net


def saved(module: Module, path: Path) -> Path:
    module.save(path)
    return path


def weights(node: ir.Node, shape: tuple[int, ...], zeros: int = 0) -> None:
    array = np.ones(shape, np.float32)
    array.reshape(-1)[:zeros] = 0
    set_constant(node, 1, array, f"{node.name}_weights")


def test_layers_that_differ_are_listed_with_their_sizes(tmp_path: Path) -> None:
    whole, changed = small_net(), small_net()
    nodes = {str(node.name): node for node in changed.graph}
    weights(nodes["node_c2"], (4, 1, 1, 1))
    nodes["node_c2"].attributes["pads"] = ir.AttrInt64s("pads", [0, 0, 0, 0])
    weights(nodes["node_y"], (4, 5), zeros=7)
    result = diff_models(saved(whole, tmp_path / "a.onnx"), saved(changed, tmp_path / "b.onnx"))
    rows = {row["layer"]: row for row in result["layers"]}
    assert set(rows) == {"node_c2", "node_y"}
    assert [rows["node_c2"][side]["macs"] for side in "ab"] == [64 * 4 * 9, 64 * 4]
    assert [rows["node_y"][side]["zeros"] for side in "ab"] == [0, 7]
    text = render(result, with_text=False)
    assert "2,304 -> 256" in text
    assert "0 -> 7" in text


def test_a_layer_that_is_gone_has_nothing_on_that_side(tmp_path: Path) -> None:
    whole, changed = small_net(), small_net()
    gone = next(node for node in changed.graph if node.name == "node_c2")
    gone.name = "other"
    result = diff_models(saved(whole, tmp_path / "a.onnx"), saved(changed, tmp_path / "b.onnx"))
    assert [(row["layer"], row["a"] is None, row["b"] is None) for row in result["layers"]] == [
        ("node_c2", False, True),
        ("other", True, False),
    ]
    assert "none -> 1x4x8x8" in render(result, with_text=False)


def test_models_of_equal_layers_list_none(tmp_path: Path) -> None:
    a, b = saved(small_net(), tmp_path / "a.onnx"), saved(small_net(seed=1), tmp_path / "b.onnx")
    result = diff_models(a, b)
    assert result["layers"] == []
    assert "zero weights" not in render(result, with_text=False)
