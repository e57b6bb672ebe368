"""The scale of every value: as it is written, and as each layer reads it.

Layers may work on int8 or on int16. A value has the width of what writes it; a layer of the other width
reads it through a second rounding. What belongs to a layer has its width: an activation that is fused into
it, and a run of operators that is a function of what it gives. Copies keep the width of what they copy.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field

import onnx_ir as ir

from irshrink.calibration.observers import Range
from irshrink.graph.edit import constant
from irshrink.passes.quantize.plan import Plan
from irshrink.passes.quantize.qdq import QdqWriter
from irshrink.passes.quantize.qparams import Bits, QParams, activation_qparams, fixed_qparams


def widths_of(plan: Plan, named: Callable[[ir.Node], Bits | None], usual: Bits) -> dict[ir.Node, Bits]:
    """Bits in which each node of the plan works.

    Args:
        named: what is wished for a node, if anything.
        usual: of layers without a wish. What is no layer has the fewest bits of what it reads.
    """
    widths: dict[ir.Node, Bits] = {}
    for node, rule in plan.nodes.items():
        varying = [v for _, v in plan.operands(node) if constant(v) is None]
        sources = [widths[p] for v in varying if (p := v.producer()) is not None and p in widths]
        belongs = rule.kind == "copy" or node in plan.runs or any(v in plan.inside for v in varying)
        if belongs and sources:
            widths[node] = sources[0]
        else:
            widths[node] = named(node) or (usual if rule.kind == "linear" or not sources else min(sources))
    return widths


@dataclass(frozen=True)
class _Pairs:
    """What follows a value: scales of pairs one behind the other, and who reads each (None for all)."""

    value: ir.Value
    owner: str
    steps: list[tuple[QParams, Collection[ir.Node] | None]]


@dataclass
class Scales:
    """Attributes:
    widths: see :func:`widths_of`.
    ranges: of every root whose scale is not fixed by its operator, by name.
    dead: names of values that are 0 on every sample; their scale is 1.
    """

    plan: Plan
    widths: Mapping[ir.Node, Bits]
    symmetric: bool
    ranges: Mapping[str, Range] = field(default_factory=dict)
    dead: list[str] = field(default_factory=list)

    def read(self, node: ir.Node, value: ir.Value) -> QParams:
        """Of a quantized value, as a node of the plan reads it."""
        return self._params(self.plan.root[value], self._reading(node, value))

    def is_fixed(self, root: ir.Value) -> bool:
        """Whether the scale follows from the operator that makes the value."""
        return self._fixed(root, 8) is not None

    def write(self, writer: QdqWriter) -> None:
        """Put pairs behind all values, and second pairs where readers have another width."""
        for pairs in [self._pairs(value) for value in self.plan.root]:  # all before a value is renamed
            real = pairs.value
            for params, readers in pairs.steps:
                real = writer.activation(real, params, pairs.owner, readers)

    def _pairs(self, value: ir.Value) -> _Pairs:
        root = self.plan.root[value]
        bits = self._written(root)
        given = None if value.producer() in self.plan.nodes else self.plan.nodes.keys()
        readers = dict.fromkeys(node for node in value.consumers() if node in self.plan.nodes)
        others = [node for node in readers if self._reading(node, value) != bits]
        steps: list[tuple[QParams, Collection[ir.Node] | None]] = [(self._params(root, bits), given)]
        if others:
            steps.append((self._params(root, 8 if bits == 16 else 16), others))
        return _Pairs(value, str(root.name), steps)

    def _reading(self, node: ir.Node, value: ir.Value) -> Bits:
        copies = self.plan.nodes[node].kind == "copy"
        return self._written(self.plan.root[value]) if copies else self.widths[node]

    def _written(self, root: ir.Value) -> Bits:
        """Bits of an input of the model: those of all that read it, if they agree."""
        producer = root.producer()
        if producer is not None and producer in self.widths:
            return self.widths[producer]
        readers = {self.widths[node] for node in root.consumers() if node in self.widths}
        return 16 if readers == {16} else 8

    def _params(self, root: ir.Value, bits: Bits) -> QParams:
        fixed = self._fixed(root, bits)
        if fixed is not None:
            return fixed
        found = activation_qparams(self.ranges[str(root.name)], self.symmetric, bits)
        if found is None and root.name not in self.dead:
            self.dead.append(str(root.name))
        return found or QParams(1.0, 0, bits)

    def _fixed(self, root: ir.Value, bits: Bits) -> QParams | None:
        producer = root.producer()
        if producer is None or producer not in self.plan.nodes:
            return None
        return fixed_qparams(producer.op_type, self.symmetric, bits)
