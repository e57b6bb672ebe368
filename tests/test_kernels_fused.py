"""Vector kernels for float32 with fused sums: every bit of the reference, on any geometry."""

from __future__ import annotations

import shutil
from math import inf
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from irshrink.backends.tvm.backend import TvmBackend, choose_kernels
from irshrink.program import ops
from irshrink.program.lower.finish import with_sums
from irshrink.program.ops import Window
from irshrink.target import load_target
from irshrink.testing.kernels import KernelBench

needs_qemu = pytest.mark.skipif(
    shutil.which("qemu-aarch64") is None, reason="QEMU is not installed: apt-get install qemu-user"
)

NONE = (0, 0, 0, 0)
SAME = (1, 1, 1, 1)

#: height, width, channels in and out, and what is not a 3x3 window of stride 1 with padding.
CONVOLUTIONS: list[tuple[tuple[int, int, int, int], dict[str, Any]]] = [
    ((9, 11, 16, 16), {"low": 0.0}),
    ((9, 11, 3, 16), {"strides": (2, 2), "low": 0.0, "high": 6.0}),
    ((7, 7, 64, 64), {"high": 1.0}),
    ((5, 5, 64, 128), {"kernel": (1, 1), "pads": NONE}),
    ((6, 6, 16, 96), {"kernel": (1, 1), "pads": NONE, "strides": (2, 2)}),
    ((5, 6, 17, 17), {"kernel": (1, 1), "pads": NONE, "images": 3}),
    ((5, 6, 9, 17), {"images": 2}),
    ((8, 9, 40, 24), {"dilations": (2, 2), "pads": (2, 2, 2, 2)}),
    ((9, 5, 32, 64), {"groups": 2}),
    ((9, 5, 6, 8), {}),
    ((9, 5, 6, 3), {}),
    ((1, 1, 256, 10), {"kernel": (1, 1), "pads": NONE}),
    ((12, 5, 1, 20), {"kernel": (10, 4), "pads": (4, 1, 5, 1), "strides": (2, 2)}),
    ((9, 11, 16, 16), {"groups": 16, "low": 0.0}),
    ((9, 11, 20, 20), {"groups": 20, "strides": (2, 2), "high": 1.0}),
    ((7, 3, 37, 37), {"groups": 37, "kernel": (5, 5), "pads": (2, 2, 2, 2)}),
    ((4, 9, 8, 8), {"groups": 8, "pads": NONE}),
    ((9, 9, 33, 33), {"groups": 33, "dilations": (2, 2), "pads": (2, 2, 2, 2)}),
    ((1, 1, 16, 16), {"groups": 16}),
    ((9, 9, 16, 32), {"groups": 16}),
]


def layers() -> KernelBench:
    bench = KernelBench()
    for (height, width, ci, co), given in CONVOLUTIONS:
        options = {"images": 1, "groups": 1, "low": -inf, "high": inf, **given}
        images, groups = options["images"], options["groups"]
        kernel = options.get("kernel", (3, 3))
        places = {key: options[key] for key in ("strides", "dilations") if key in options}
        window = Window(kernel=kernel, pads=options.get("pads", SAME), **places)
        bench.add(
            ops.ConvF32, bench.f32(images, height, width, ci),
            shape=(images, *window.output(height, width), co), dtype="float32",
            weight=bench.f32(co, *kernel, ci // groups), bias=bench.f32(co),
            window=window, groups=groups, low=options["low"], high=options["high"],
        )  # fmt: skip
    bench.add(
        ops.DenseF32, bench.f32(3, 100), shape=(3, 37), dtype="float32", weight=bench.f32(37, 100),
        bias=np.full(37, -0.0, np.float32), low=-inf, high=inf,
    )  # fmt: skip
    bench.program = with_sums(bench.program, fused=True)
    return bench


@pytest.mark.parametrize("target", ["host", pytest.param("cortex-a72", marks=needs_qemu)])
def test_every_bit_of_the_reference(target: str, tmp_path: Path) -> None:
    layers().check(TvmBackend(), load_target(target), tmp_path)


def test_what_the_vectors_cover() -> None:
    steps = choose_kernels(layers().program, load_target("cortex-a72"))
    general = [step.op.name for step in steps if "fma4" not in step.call.function.name]
    assert general == ["op6", "op10", "op19"]  # two images, three channels, a channel multiplier
