"""Values that nothing but functions of one value reads, and these functions."""

from __future__ import annotations

from collections import Counter
from functools import partial
from typing import Any

import numpy as np
import onnx_ir as ir

from irshrink.calibration.curves import Functions
from irshrink.graph.edit import constant
from irshrink.module import Module
from irshrink.passes.quantize.plan import Plan
from irshrink.passes.quantize.rules import POINTS

Array = np.ndarray[Any, np.dtype[Any]]


def functions_behind(module: Module, plan: Plan) -> dict[str, Functions]:
    """By name of the value: what becomes of it where it is next rounded.

    Values whose scale others share are left out, and outputs of the model.
    """
    shared = Counter(plan.root.values())
    found: dict[str, Functions] = {}
    for root in plan.roots():
        ends = [] if shared[root] > 1 or root.is_graph_input() else _ends(root, plan)
        if ends:
            names = tuple(str(end.name) for end in ends)
            found[str(root.name)] = Functions(names, partial(_evaluated, module, root, ends))
    return found


def _ends(value: ir.Value, plan: Plan) -> list[ir.Value]:
    """The rounded results of all that reads ``value``; none if some is no function of it alone."""
    known, reading = {value}, set()
    ends = []
    for node in plan.nodes:
        varying = [v for v in node.inputs if v is not None and constant(v) is None]
        if node.op_type not in POINTS or not varying or not known.issuperset(varying):
            continue
        if any(array.size != 1 for v in node.inputs if (array := constant(v)) is not None):
            continue
        reading.add(node)
        (output,) = node.outputs
        if output in plan.inside:
            known.add(output)
        else:
            ends.append(output)
    whole = all(reading.issuperset(v.consumers()) and not v.is_graph_output() for v in known)
    return ends if whole else []


def _evaluated(module: Module, value: ir.Value, ends: list[ir.Value], points: Array) -> Array:
    """[ends, points], by ONNX Runtime."""
    from irshrink import onnxrt

    part = ir.convenience.extract(module.graph, [value], ends)
    for one in (*part.inputs, *(output for node in part for output in node.outputs)):
        one.shape = None
    session = onnxrt.session(ir.Model(part, ir_version=module.model.ir_version), optimize=False)
    outputs = onnxrt.run(session, {str(value.name): points.astype(np.float32)})
    return np.stack([outputs[str(end.name)].reshape(-1) for end in ends])
