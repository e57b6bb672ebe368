"""Instructions a multiply-accumulate of int8 convolution tiles: what `choose_tile` is based on.

    python benchmarks/kernels.py [--target cortex-m4] [--layers pointwise64,conv16]

Sizes are known to the C compiler here, since each layer is built alone; in a network they are arguments.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path
from unittest.mock import patch

import numpy as np

from irshrink.backend import Inference
from irshrink.backends.tvm.backend import TvmBackend
from irshrink.backends.tvm.kernels.tiles import Tile
from irshrink.console import table
from irshrink.program.ops import ConvInt8, Requantization, Window
from irshrink.program.program import Port, Program, Tensor
from irshrink.program.reference.evaluate import run_program
from irshrink.target import Target, load_target

SAME = (1, 1, 1, 1)
LAYERS = {
    "pointwise8": ((48, 48, 8), 16, Window(kernel=(1, 1))),
    "pointwise64": ((25, 5, 64), 64, Window(kernel=(1, 1))),
    "pointwise256": ((3, 3, 256), 256, Window(kernel=(1, 1))),
    "conv3": ((32, 32, 3), 16, Window(kernel=(3, 3), pads=SAME)),
    "conv16": ((32, 32, 16), 16, Window(kernel=(3, 3), pads=SAME)),
    "conv64": ((8, 8, 64), 64, Window(kernel=(3, 3), pads=SAME)),
}
TILES = [Tile("dsp", p, c, u) for p, c in ((2, 2), (1, 4), (3, 2), (2, 1)) for u in (1, 2)]
PLAIN = [Tile("plain", p, c, u) for p, c in ((2, 2), (1, 4), (2, 1)) for u in (1, 2, 4)]


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--target", default="cortex-m4")
    parser.add_argument("--layers", default=",".join(LAYERS))
    options = parser.parse_args()
    target = load_target(options.target)
    names = options.layers.split(",")
    rows = []
    for tile in TILES if target.has("dsp") else PLAIN:
        rows.append((tile.suffix, *(f"{measure(name, tile, target):.2f}" for name in names)))
    print(table(rows, ("tile", *names)))


def measure(name: str, tile: Tile, target: Target) -> float:
    """Instructions a MAC of one layer with one tile; the result is checked against the reference."""
    program = layer(*LAYERS[name])
    (op,) = program.ops
    assert isinstance(op, ConvInt8)
    if tile.steps(op.weight[0].size) % tile.unroll:
        return float("nan")
    rng = np.random.default_rng(1)
    x = [rng.integers(-128, 128, port.shape).astype(np.int8) for port in program.inputs]
    expected = run_program(program, x)
    backend = TvmBackend()
    chosen = patch("irshrink.backends.tvm.kernels.convolution.choose_tile", lambda *_: tile)
    with chosen, tempfile.TemporaryDirectory() as folder:
        backend.compile(program, target, Path(folder), [Inference(x, expected)], name)
        result = backend.run(Path(folder), target, program, [x])
    np.testing.assert_array_equal(result.outputs[0][0], expected[0])
    macs = expected[0].size * op.weight[0].size
    return (result.instructions or 0) / macs


def layer(shape: tuple[int, int, int], channels: int, window: Window) -> Program:
    """One convolution with random constants."""
    rng = np.random.default_rng(0)
    height, width, depth = shape
    output = (1, *window.output(height, width), channels)
    weight = rng.integers(-127, 128, (channels, *window.kernel, depth)).astype(np.int8)
    op = ConvInt8(
        name="layer",
        origin=(),
        inputs=("x",),
        output="y",
        weight=weight,
        bias=rng.integers(-3000, 3000, channels).astype(np.int32),
        window=window,
        groups=1,
        input_zero_point=-7,
        requantization=Requantization(
            multiplier=np.full(channels, 40 / (74 * 74 * weight[0].size ** 0.5), np.float32), zero_point=5
        ),
    )
    tensors = {"x": Tensor("x", (1, *shape)), "y": Tensor("y", output)}
    return Program(tensors, [op], [Port("x", "x", (1, *shape))], [Port("y", "y", output)])


if __name__ == "__main__":
    main()
