"""What a saved file declares: nothing that its reader infers, everything else."""

from __future__ import annotations

from pathlib import Path

import onnx
import pytest

from irshrink.module import load_module, module_from_text
from irshrink.passes.cleanup import cleanup_steps
from irshrink.pipeline import Pipeline
from irshrink.target import load_target

MODELS = Path(__file__).parents[1] / "models"


def saved(text: str, folder: Path) -> onnx.ModelProto:
    path = folder / "model.onnx"
    module_from_text(text).save(path)
    return onnx.load(path)


def test_what_inference_finds_is_not_written(tmp_path: Path) -> None:
    proto = saved(
        """<ir_version: 8, opset_import: ["" : 17]>
        g (float[N, 4] x) => (float[N, 2] y)
           <float[4, 2] w = {1, 2, 3, 4, 5, 6, 7, 8}>
        {
           a = Relu (x)
           y = MatMul (a, w)
        }""",
        tmp_path,
    )
    assert not proto.graph.value_info
    assert [tensor.name for tensor in proto.graph.initializer] == ["w"]


def test_what_only_the_file_knows_is_written(tmp_path: Path) -> None:
    proto = saved(
        """<ir_version: 8, opset_import: ["" : 17, "com.example" : 1]>
        g (float[1, 4] x) => (float[1, 4] y)
           <float[1, 4] a, float[1, 4] b>
        {
           a = com.example.Own (x)
           b = Relu (a)
           y = Relu (b)
        }""",
        tmp_path,
    )
    assert [info.name for info in proto.graph.value_info] == ["a", "b"]


def test_subgraphs_too(tmp_path: Path) -> None:
    proto = saved(
        """<ir_version: 8, opset_import: ["" : 17]>
        g (float[2] x, bool c) => (float[2] y)
        {
           y = If (c) <
              then_branch = t () => (float[2] u) { r = Neg (x) u = Relu (r) },
              else_branch = e () => (float[2] v) { v = Identity (x) }
           >
        }""",
        tmp_path,
    )
    (node,) = proto.graph.node
    assert not any(attribute.g.value_info for attribute in node.attribute)


@pytest.mark.parametrize("name", ["ad", "ic", "kws", "lenet-300-100", "lenet-5", "vww"])
def test_no_file_is_larger_than_it_came(name: str, tmp_path: Path) -> None:
    module = load_module(MODELS / f"{name}.onnx")
    Pipeline(cleanup_steps()).run(module, load_target("host"))
    module.save(tmp_path / "clean.onnx")
    assert (tmp_path / "clean.onnx").stat().st_size <= (MODELS / f"{name}.onnx").stat().st_size
