"""Range reads scalars, as its specification says; some exporters give it tensors of shape [1].

ONNX Runtime runs that as long as it cannot infer the shape, and refuses the model once a cleaner graph lets
it. A Squeeze in front is right for both; where the input turns out to be a scalar it disappears again.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import onnx_ir as ir

from irshrink.graph.edit import Names, insert_before, is_op, rank
from irshrink.module import Module
from irshrink.pipeline import Context, PassResult


@dataclass(frozen=True)
class SqueezeRangeInputs:
    """Put a Squeeze before the inputs of Range that are not known to be scalars."""

    name: ClassVar[str] = "squeeze-range-inputs"
    lossy: ClassVar[bool] = False

    def run(self, module: Module, ctx: Context) -> PassResult:
        ranges = [node for node in module.graph.all_nodes() if is_op(node, "Range")]
        names = Names(module.graph) if ranges else None
        squeezed = sum(_squeeze(node, names) for node in ranges)
        return PassResult(squeezed > 0, stats={"squeezed": squeezed})


def _squeeze(node: ir.Node, names: Names | None) -> int:
    count = 0
    for index, value in enumerate(tuple(node.inputs)):
        if value is None or rank(value) == 0:
            continue
        scalar = insert_before(node, "Squeeze", [value], names=names).outputs[0]
        scalar.type, scalar.shape = value.type, ir.Shape([])
        node.replace_input_with(index, scalar)
        count += 1
    return count
