"""Kernels whose sizes are constants of their C function compute what the shared ones do."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest

from irshrink.backends.tvm import kernels
from irshrink.backends.tvm.backend import TvmBackend, choose_kernels
from irshrink.backends.tvm.functions import Functions
from irshrink.program import ops
from irshrink.program.ops import Addition
from irshrink.target import load_target
from irshrink.testing.kernels import KernelBench


def additions() -> KernelBench:
    """Three layers of two sizes."""
    bench = KernelBench()
    plain = Addition(multipliers=(2586180, 3565001), shift=22, zero_points=(3, -9), zero_point=-128)
    for n in (40, 64, 40):
        bench.add(ops.AddInt8, bench.int8(n), bench.int8(n), shape=(n,), addition=plain)
    return bench


@pytest.fixture
def specialized(monkeypatch: pytest.MonkeyPatch) -> None:
    shared = kernels.kernel_for
    monkeypatch.setattr(
        kernels, "kernel_for", lambda *given: dataclasses.replace(shared(*given), specialized=True)
    )


@pytest.mark.usefixtures("specialized")
def test_sizes_as_constants(tmp_path: Path) -> None:
    additions().check(TvmBackend(), load_target("cortex-m4"), tmp_path)


@pytest.mark.usefixtures("specialized")
def test_equal_layers_share_a_function() -> None:
    functions, program = Functions(), additions().program
    names = [functions.name(step.call) for step in choose_kernels(program, load_target("cortex-m4"))]
    assert names[0] == names[2] != names[1]
    text = functions.text()
    assert text.count("IRS_NOINLINE") == 2
    assert "= 40;" in text
