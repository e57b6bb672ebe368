"""Models as they run fastest in ONNX Runtime, for judging them on many samples.

Its kernels read weights of 8 bits. Those of 2 or 4 bits it would turn into floats for every sample anew.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx_ir as ir
from onnx_ir.passes.common import RemoveUnusedNodesPass

from irshrink.graph.edit import is_op, register_constant, replace_value
from irshrink.module import Module
from irshrink.program.lower.constants import Constants

__all__ = ["unpack"]

Array = np.ndarray[Any, np.dtype[Any]]


def unpack(module: Module) -> None:
    """Make of weights what ONNX Runtime would make of them for each sample; results stay the same."""
    graph, constants = module.graph, Constants()
    for node in [node for node in graph if is_op(node, "DequantizeLinear")]:
        stored, made = node.inputs[0], node.outputs[0]
        integers = constants.array(stored)
        if stored is None or stored.dtype is None or integers is None or made.is_graph_output():
            continue
        if stored.dtype.itemsize < 1:
            real = constants.array(made)
            if real is not None:
                _replace(graph, made, real.astype(np.float32))
        elif not stored.is_initializer():
            _replace(graph, stored, integers.astype(stored.dtype.numpy()))
    RemoveUnusedNodesPass()(module.model)


def _replace(graph: ir.Graph, value: ir.Value, array: Array) -> None:
    """Have a constant read instead of what a node makes."""
    name, value.name = str(value.name), None
    replace_value(value, register_constant(graph, array, name))
