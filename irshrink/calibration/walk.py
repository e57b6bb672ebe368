"""From layer to layer through a model that changes on the way.

A method that settles one layer after the other wants what the next layer reads *now*, with all layers before
it as they have become. Running the model from its inputs for every layer would cost the square of its depth;
here all samples stop in front of each layer, and go on from there. What is kept is the values that are alive
at that point, in int8 where the graph has them in int8; where that is too much memory they stay behind, at
the last point that was not, and that way is gone again.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import onnx_ir as ir

from irshrink.graph.edit import is_constant, is_op

if TYPE_CHECKING:
    from irshrink.module import Module
    from irshrink.samples import Samples

Array = np.ndarray[Any, np.dtype[Any]]

#: Bytes that one walk keeps of all samples together.
KEPT_BYTES = 192 * 2**20


class LayerWalk:
    """All samples on their way through one model.

    Args:
        module: its graph may change behind the layer that was read last, not before.
        optimize: let ONNX Runtime fuse operators; without, QDQ pairs are computed as they are written, on
            every machine alike.
        kept_bytes: see :data:`KEPT_BYTES`.
    """

    def __init__(
        self, module: Module, samples: Samples, *, optimize: bool = True, kept_bytes: int = KEPT_BYTES
    ) -> None:
        self._module, self._samples = module, samples
        self._optimize, self._limit = optimize, kept_bytes
        self._places = {node: index for index, node in enumerate(module.graph)}
        self._fixed = _fixed(module.graph)
        self._kept: list[dict[str, Array]] = [{} for _ in range(len(samples))]
        self._at: tuple[ir.Value, ...] = ()

    def read(self, node: ir.Node | None) -> Iterator[Array]:
        """The first input of ``node``, for one sample after the other; the walk then stands before ``node``.

        Nodes are asked for in the order of the graph, each after the last iteration has ended; at the end of
        all None, for the first output of the model.

        Raises:
            ModelError: ONNX Runtime cannot run the model.
        """
        wanted = self._module.graph.outputs[0] if node is None else node.inputs[0]
        assert wanted is not None, "layers have a first input"
        return (found[str(wanted.name)] for found in self.read_values(node, (wanted,)))

    def read_values(self, node: ir.Node | None, wanted: Sequence[ir.Value]) -> Iterator[dict[str, Array]]:
        """As :meth:`read`, of any values that are computed from what is alive before ``node``, by name.

        Raises:
            ModelError: ONNX Runtime cannot run the model.
        """
        from irshrink import onnxrt

        alive = () if node is None else tuple(v for v in self.alive(node) if not v.is_graph_input())
        computed = [
            v for v in dict.fromkeys((*wanted, *alive)) if v not in self._at and not v.is_graph_input()
        ]
        session = self._session(computed) if computed else None
        typed = all(value.type is not None for value in alive)  # ONNX Runtime asks for it
        moved: list[dict[str, Array]] | None = [] if typed else None
        used = 0
        for feeds, kept in zip(self._samples.feeds(), self._kept, strict=True):
            found = {**self._defaults(), **feeds, **kept}
            if session is not None:
                given = {one.name for one in session.get_inputs()}
                found |= onnxrt.run(session, {name: found[name] for name in found if name in given})
            yield {str(value.name): found[str(value.name)] for value in wanted}
            if moved is not None:
                moved.append({str(v.name): found[str(v.name)] for v in alive})
                used += sum(array.nbytes for array in moved[-1].values())
                moved = moved if used <= self._limit else None
        if moved is not None:
            self._kept, self._at = moved, alive

    def alive(self, node: ir.Node) -> tuple[ir.Value, ...]:
        """What ``node`` and those behind it read of those before it; of a dequantized value the integers."""
        here = self._places[node]
        alive: dict[ir.Value, None] = {}
        for other, place in self._places.items():
            if place < here:
                continue
            for value in other.inputs:
                if value is not None and self._is_before(value, here) and value not in self._fixed:
                    alive[_stored(value)] = None
        return tuple(alive)

    def _is_before(self, value: ir.Value, place: int) -> bool:
        producer = value.producer()
        return value.is_graph_input() if producer is None else self._places.get(producer, place) < place

    def _session(self, outputs: Sequence[ir.Value]) -> Any:
        """An ONNX Runtime session from where the samples stand to ``outputs``."""
        from irshrink import onnxrt

        graph = self._module.graph
        inputs = [*(value for value in graph.inputs), *self._at]
        part = ir.convenience.extract(graph, inputs, outputs)
        model = ir.Model(part, ir_version=self._module.model.ir_version)
        return onnxrt.session(model, optimize=self._optimize)

    def _defaults(self) -> dict[str, Array]:
        """Inputs that have a value when none is given."""
        inputs = {str(v.name): v.const_value for v in self._module.graph.inputs}
        return {name: tensor.numpy() for name, tensor in inputs.items() if tensor is not None}


def _fixed(graph: ir.Graph) -> set[ir.Value]:
    """What is computed from constants alone, as dequantized weights are."""
    fixed: set[ir.Value] = set()
    for node in graph:
        if all(value is None or value in fixed or is_constant(value) for value in node.inputs):
            fixed.update(node.outputs)
    return fixed


def _stored(value: ir.Value) -> ir.Value:
    """Behind a DequantizeLinear the integers that it reads."""
    producer = value.producer()
    source = producer.inputs[0] if is_op(producer, "DequantizeLinear") and producer is not None else None
    return value if source is None else source
