"""Testing a backend's kernels: operators side by side in one program, compared with the reference.

Building costs more than running, so a bench holds many operators::

    bench = KernelBench()
    x = bench.int8(1, 8, 8, 4)
    bench.add(MaxPool, x, shape=(1, 4, 4, 4), window=Window(kernel=(2, 2), strides=(2, 2)))
    bench.check(backend, load_target("cortex-m4"), tmp_path)
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from math import inf
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from irshrink.backend import Backend, Inference, RunResult
from irshrink.program.ops import Addition, ConvInt8, Op, Window
from irshrink.program.program import Port, Program, Tensor
from irshrink.program.reference.evaluate import run_program
from irshrink.target import Target

Array = NDArray[Any]

#: Floats where roundings, saturations and signs of zero go wrong first.
EXTREMES = np.array(
    [
        *(np.nan, inf, -inf, -0.0, 0.0, 1e38, -1e38, 1e-40, -1e-40, 0.25, -0.75, 1.0, -1.0, 0.625, -0.625),
        *(4.0, -10.0, -87.33654, -87.33655, 88.72283, 88.722835, 8388607.5, 8388608.0, -8388609.0),
        *(3e9, -(2.0**31)),
    ],
    np.float32,
)


class KernelBench:
    """A program of independent operators ``op0, op1...`` and one set of inputs for it."""

    def __init__(self, seed: int = 0) -> None:
        self.rng = np.random.default_rng(seed)
        self.program = Program({}, [], [], [])
        self.values: list[Array] = []

    def int8(self, *shape: int) -> Array:
        """Random values, both ends of the range among them."""
        x = self.rng.integers(-128, 128, shape).astype(np.int8)
        x[self.rng.random(shape) < 0.1] = -128
        x[self.rng.random(shape) < 0.1] = 127
        return x

    def int16(self, *shape: int) -> Array:
        """Random values, both ends of the range among them."""
        x = self.rng.integers(-(2**15), 2**15, shape).astype(np.int16)
        x[self.rng.random(shape) < 0.1] = -(2**15)
        x[self.rng.random(shape) < 0.1] = 2**15 - 1
        return x

    def f32(self, *shape: int) -> Array:
        """Normal values of deviation 3."""
        return (self.rng.standard_normal(shape) * 3).astype(np.float32)

    def of(self, dtype: str, *shape: int) -> Array:
        """:meth:`int8` or :meth:`f32`."""
        return self.int8(*shape) if dtype == "int8" else self.f32(*shape)

    def add(
        self,
        operator: type[Op],
        *inputs: Array,
        shape: tuple[int, ...],
        dtype: str = "int8",
        constants: tuple[int, ...] = (),
        **fields: Any,
    ) -> None:
        """One operator with inputs and an output of its own.

        Args:
            inputs: their values.
            shape, dtype: of the output.
            constants: numbers of the inputs that are constants of the program.
            fields: the operator's own.
        """
        number, names = len(self.program.ops), []
        for i, value in enumerate(inputs):
            names.append(f"x{number}_{i}")
            self.program.tensors[names[-1]] = Tensor(names[-1], value.shape, str(value.dtype))
            if i in constants:
                self.program.constants[names[-1]] = value
                continue
            self.program.inputs.append(Port(names[-1], names[-1], value.shape))
            self.values.append(value)
        y = f"y{number}"
        self.program.tensors[y] = Tensor(y, shape, dtype)
        self.program.outputs.append(Port(y, y, shape))
        self.program.ops.append(
            operator(name=f"op{number}", origin=(), inputs=tuple(names), output=y, **fields)
        )

    def convolution(
        self,
        size: tuple[int, int],
        channels: tuple[int, int],
        window: Window,
        fields: Callable[..., Mapping[str, Any]],
        *,
        groups: int = 1,
        residual: bool = False,
    ) -> None:
        """A ConvInt8 on an image of a size.

        Args:
            channels: of its input and its output.
            fields: gives the operator's own for a shape of weights.
            residual: whether something is added to its output.
        """
        ci, co = channels
        shape = (1, *window.output(*size), co)
        inputs = [self.int8(1, *size, ci)]
        more = {**fields(co, *window.kernel, ci // groups), "groups": groups}
        if residual:
            inputs.append(self.int8(*shape))
            more["residual"] = Addition(
                multipliers=(1 << 19, -777_777), shift=20, zero_points=(3, -9), zero_point=7
            )
        self.add(ConvInt8, *inputs, shape=shape, window=window, input_zero_point=-5, **more)

    def check(
        self, backend: Backend, target: Target, folder: Path, threads: Sequence[int] = (1,)
    ) -> RunResult:
        """Build, run, and compare every byte of every output; any NaN equals any other.

        Args:
            threads: numbers of threads to run on, one run each; at most those of the target.

        Returns:
            The first run.

        Raises:
            AssertionError: names the target, the operator and the first differences.
        """
        wanted = run_program(self.program, self.values)
        vector = Inference(self.values, wanted)
        program = backend.compile(self.program, target, folder, [vector], "kernels").program
        results = []
        for count in threads:
            more: dict[str, Any] = {"threads": count} if target.threads > 1 else {}
            results.append(backend.run(folder, target, program, [self.values], **more))
            for op, a, b in zip(self.program.ops, results[-1].outputs[0], wanted, strict=True):
                message = f"{target.name}, threads {count}: {op}"
                np.testing.assert_array_equal(_bits(a), _bits(b), err_msg=message)
        return results[0]


def _bits(x: Array) -> Array:
    if x.dtype.kind != "f":
        return x
    return np.where(np.isnan(x), x.dtype.type(np.nan), x).view(f"int{x.dtype.itemsize * 8}")
