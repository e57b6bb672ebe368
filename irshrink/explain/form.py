"""Reading models for explain: one form of every quantized graph, and no number in it changed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import onnx_ir as ir

from irshrink.artifact import MODEL_NAME
from irshrink.errors import UserError
from irshrink.frontends.read import read_model
from irshrink.graph.opset import raise_opset
from irshrink.graph.shapes import infer_shapes
from irshrink.module import Module
from irshrink.passes.cleanup import cleanup_steps
from irshrink.pipeline import Pipeline, Step
from irshrink.registry import make_pass
from irshrink.soundness import require_sound
from irshrink.static_shapes import fix_input_shapes
from irshrink.target import load_target

_FORM = (
    *("remove-initializers-from-inputs", "inline-functions", "raise-opset", "qoperator-to-qdq"),
    *("eliminate-dead-code", "infer-shapes"),
)
#: ONNX's own QuantizeLinear has 4-bit and 16-bit integers since this opset. ONNX Runtime has an operator of
#: its own for models of older ones, the same otherwise.
_ALL_INTEGERS = 21
_MICROSOFT = "com.microsoft"

Shapes = Mapping[str, Sequence[int]]


def quantized_file(path: Path) -> Path:
    """The model of a build, or the file itself.

    Raises:
        UserError: a folder that is no build, or one with several models.
    """
    if not path.is_dir() or not _is_build(path):
        return path
    if (path / MODEL_NAME).is_file():
        return path / MODEL_NAME
    variants = sorted(file.name for file in path.glob("model_*.onnx"))
    raise UserError(f"{path}: holds {', '.join(variants)}. Give one of these files.")


def read_quantized(path: Path, shapes: Shapes) -> Module:
    """A quantized model as QDQ.

    Raises:
        ModelError: it cannot be read.
    """
    module = _read(path, shapes, [make_pass(name) for name in _FORM])
    contributed = [n for n in module.graph if n.domain == _MICROSOFT and n.op_type in _QDQ]
    if contributed:
        raise_opset(module, _ALL_INTEGERS)
        for node in module.graph:
            if node.domain == _MICROSOFT and node.op_type in _QDQ:
                node.domain = ""
        infer_shapes(module.model)
    return module


def read_float(path: Path, shapes: Shapes) -> list[Module]:
    """A float model cleaned up, as irshrink quantizes it, and as it is, as others may have.

    Raises:
        ModelError: it cannot be read.
    """
    plain = [make_pass(name) for name in _FORM]
    return [_read(path, shapes, cleanup_steps()), _read(path, shapes, plain)]


def is_quantized(graph: ir.Graph) -> bool:
    return any(node.op_type == "DequantizeLinear" for node in graph)


_QDQ = ("QuantizeLinear", "DequantizeLinear")


def _is_build(path: Path) -> bool:
    return (path / MODEL_NAME).is_file() or any(path.glob("model_*.onnx"))


def _read(path: Path, shapes: Shapes, steps: Sequence[Step]) -> Module:
    module, _ = read_model(path)
    fix_input_shapes(module, shapes)
    require_sound(module)
    return Pipeline(steps).run(module, load_target("host"))
