"""From block to block through a quantized graph; see the package."""

from __future__ import annotations

import importlib
from collections.abc import Sequence
from typing import Any

import numpy as np
import onnx_ir as ir

from irshrink.calibration.walk import LayerWalk
from irshrink.errors import ToolError
from irshrink.graph.edit import describe
from irshrink.module import Module
from irshrink.passes.quantize.reconstruct.blocks import Block, blocks, nodes_between
from irshrink.passes.quantize.reconstruct.learn import learn
from irshrink.passes.quantize.reconstruct.operators import why_unknown
from irshrink.passes.quantize.rounding.layer import Layer, write_weights
from irshrink.pipeline import Context
from irshrink.samples import Samples

Array = np.ndarray[Any, np.dtype[Any]]


def require_torch() -> Any:
    """PyTorch.

    Raises:
        ToolError: it is not installed.
    """
    try:
        return importlib.import_module("torch")
    except ImportError as e:
        raise ToolError(
            "quantize-int8: reconstruct_steps needs PyTorch. "
            "Install irshrink[pytorch], or leave the option out."
        ) from e


def reconstruct(
    reference: Module, module: Module, layers: Sequence[Layer], samples: Samples, steps: int, ctx: Context
) -> int:
    """Learn the integers of all blocks, in order.

    Args:
        reference: the float model.
        module: the quantized one; the integers of weights are changed, nothing else.
        steps: of gradient descent, for each block.

    Returns:
        How many blocks came closer to the float model; the others stay as they were.

    Raises:
        ToolError: there is no PyTorch.
        ModelError: ONNX Runtime cannot run one of the models.
    """
    torch = require_torch()
    before, behind = LayerWalk(module, samples, optimize=False), LayerWalk(reference, samples)
    found = blocks(module.graph, before, layers)
    better = 0
    for index, block in enumerate(found):
        ctx.progress(f"reconstructing block {index + 1:,} of {len(found):,}")
        nodes = nodes_between(module.graph, block.source, block.result(module.graph))
        reason = _why_not(block, nodes)
        if reason is not None:
            ctx.note(f"the block from {describe(block.layers[0].node)} is not reconstructed: {reason}")
            continue
        given = np.concatenate(list(before.read(block.layers[0].node)))
        wanted = np.concatenate(list(behind.read(None if block.stop is None else block.stop.original)))
        learned = learn(torch, block, nodes, block.result(module.graph), given, wanted, steps, index)
        if learned is None:
            continue
        better += 1
        for layer, integers in zip(block.layers, learned, strict=True):
            write_weights(layer, integers)
    return better


def _why_not(block: Block, nodes: Sequence[ir.Node]) -> str | None:
    """Why a block cannot be computed over a batch of samples, half a sentence, or None."""
    for value in (block.source, nodes[-1].outputs[0]):
        if value.shape is None or value.shape.rank() < 2 or value.shape[0] != 1:
            return f"the first axis of '{value.name}' does not count samples"
    return next((reason for node in nodes if (reason := why_unknown(node)) is not None), None)
