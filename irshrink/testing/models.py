"""Random small models: branches, odd layouts, and the oddities that exporters and converters produce.

Every choice is made by ``pick``, a function that returns one of a sequence: a random generator in a long
search, hypothesis in a test, which then makes the failing model smaller::

    @given(st.data())
    def test(data):
        proto = random_model(lambda options: data.draw(st.sampled_from(options)), steps=6)
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import onnx
from onnx import TensorProto

from irshrink.testing.builder import Impossible, ModelBuilder, Pick, Shape
from irshrink.testing.layers import LAYERS

Layer = Callable[[ModelBuilder, str], object]

STARTS: tuple[Shape, ...] = (
    *((1, 3, 6, 6), (1, 4, 5, 7), (1, 2, 8), (1, 6)),
    *((2, 3, 4, 4), (3, 5), (1, 1, 4, 4)),
)


def random_model(pick: Pick, steps: int = 8, layers: Sequence[Layer] = LAYERS) -> onnx.ModelProto:
    """A valid model of at most ``steps`` layers, float32, static shapes, opset 20 or 21.

    Its outputs are what nobody reads, and some values that are read too.
    """
    builder = ModelBuilder(pick)
    start = pick(STARTS)
    builder.input(start)
    if pick([True, False, False, False]):
        builder.input(pick([start, (1, 6)]))
    for _ in range(steps):
        recent = list(builder.shapes)[-3:]
        try_layer(builder, pick(layers), pick([*recent, *recent, *builder.shapes]))
    read = {name for node in builder.nodes for name in node.input}
    made = [name for node in builder.nodes for name in node.output if name in builder.shapes]
    outputs = [name for name in made if name not in read or pick([False] * 5 + [True])]
    if not outputs:
        outputs = [builder.op("Identity", "x")]
    floats = [tensor for tensor in builder.initializers if tensor.data_type == TensorProto.FLOAT]
    if floats and pick([False] * 8 + [True]):
        stored = pick(floats)
        builder.shapes[stored.name] = tuple(stored.dims)
        outputs.append(stored.name)
    model = builder.model(outputs, opset=pick([20, 20, 21]), as_inputs=pick([False] * 4 + [True]))
    return onnx.shape_inference.infer_shapes(model)


def try_layer(builder: ModelBuilder, layer: Layer, x: str) -> None:
    """Append a layer, or leave the graph as it was."""
    nodes, initializers, shapes = len(builder.nodes), len(builder.initializers), dict(builder.shapes)
    try:
        layer(builder, x)
    except Impossible:
        del builder.nodes[nodes:], builder.initializers[initializers:]
        builder.shapes = shapes
