"""int8 dense layers: a pointwise convolution whose pixels are the rows of the input."""

from __future__ import annotations

from irshrink.backends.tvm.kernels.call import Constant, Input, KernelCall, Output
from irshrink.backends.tvm.kernels.convolution import convolution
from irshrink.backends.tvm.kernels.epilogue import Epilogue, epilogue_arguments
from irshrink.backends.tvm.kernels.sharing import shares_blocks
from irshrink.backends.tvm.kernels.tiles import Tile, choose_tile, stored_weights, tile_candidates
from irshrink.program.ops import DenseInt8
from irshrink.program.program import Program
from irshrink.target import Target


def candidates(op: DenseInt8, program: Program, target: Target) -> list[Tile]:
    """The tiles a dense layer can be computed with."""
    channels, depth = op.weight.shape
    return tile_candidates(target, program.tensors[op.output].elements // channels, channels, depth)


def select_dense(op: DenseInt8, program: Program, target: Target, schedule: Tile | None = None) -> KernelCall:
    """The direct convolution kernel on one row of ``M`` pixels with ``K`` channels."""
    channels, depth = op.weight.shape
    pixels = program.tensors[op.output].elements // channels
    tile = schedule or choose_tile(target, pixels, channels, depth)
    by_blocks = shares_blocks(target, -(-pixels // tile.pixels), -(-channels // tile.channels))
    packed, form = stored_weights(op.weight[None], tile, op.weight_bits)
    arguments = (
        Input(0),
        Constant("weight", packed, 8 if form == "bytes" else 4),
        Constant("bias", op.bias),
        *epilogue_arguments(op.requantization, channels),
        Output(),
        *(pixels, channels, channels, tile.steps(depth), depth),
    )
    return KernelCall(
        function=convolution(tile, False, Epilogue.of(op.requantization), by_blocks=by_blocks, form=form),
        arguments=arguments,
        overread_bytes=tile.overread(depth),
        schedule=tile,
    )
