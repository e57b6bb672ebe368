"""A build that was never made, for tests of what reports say of one."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from irshrink.backend import Artifact, Choices, MemoryPlan, OpCost, RunResult, Slot
from irshrink.module import PassRecord
from irshrink.program.ops import (
    ConvInt8,
    DenseInt8,
    Dequantize,
    MaxPool,
    Requantization,
    SoftmaxF32,
    Window,
)
from irshrink.program.program import Port, Program, Quantization, Tensor
from irshrink.report.report import AccuracyFacts, BuildFacts, DataFacts, ModelFacts, VariantFacts
from irshrink.target import load_target

SCALED = Quantization(0.0235, -3)


def facts(
    target: str = "cortex-m4", accuracy: AccuracyFacts | None = None, mismatched: int = 0
) -> BuildFacts:
    """Five layers, of which the last runs in float.

    Args:
        mismatched: output bytes that differ from the reference.
    """
    hardware = load_target(target)
    emulated = hardware.emulation is not None
    program = _program()
    names = [op.name for op in program]
    return BuildFacts(
        model=ModelFacts("kws", "a" * 64, 104405, 24908, 41),
        target=hardware,
        history=_history(),
        variants=[VariantFacts(
            name=None,
            compressed_sha256="c" * 64,
            compressed_bytes=41234,
            compressed_nodes=60,
            artifact=Artifact(
                folder=Path("/nowhere"),
                target=hardware,
                program=program,
                plan=_plan(),
                costs=tuple(OpCost(name, f"kernel_{name}", 640, 0) for name in names[:2]),
                code_bytes=5210,
                weights_bytes=26512,
                flash_bytes=31900,
                ram_bytes=1900,
                choices=Choices(1, 0, 1) if emulated else None,
            ),
            run=RunResult(
                [], 1_234_567 if emulated else None, 312 if emulated else None,
                dict.fromkeys(names, 1000) if emulated else {},
            ),
            run_inputs=4,
            mismatched_bytes=mismatched,
            compared_bytes=192,
        )],
        accuracy=accuracy,
        data={"calibration": DataFacts(64, "b" * 64)},
        notes=["the open batch dimension was set to 1"],
        recipe={"target": target, "quantize": "int8", "seed": 0},
    )  # fmt: skip


def example_graph() -> list[dict[str, Any]]:
    """The graph of :func:`facts` before it was quantized, as :func:`irshrink.report.graph.graph_rows` has it,
    with a branch and a layer that another one computes.
    """

    def row(
        name: str, *op_types: str, inputs: Sequence[int], size: tuple[int, int, list[int]]
    ) -> dict[str, Any]:
        nbytes, macs, shape = size
        nodes = [name, *(f"{name}_{op.lower()}" for op in op_types[1:])]
        return {"name": name, "nodes": nodes, "op_types": list(op_types), "inputs": list(inputs)} | {
            "bytes": nbytes, "macs": macs, "output_shape": shape,
        }  # fmt: skip

    return [
        row("/conv", "Conv", "Relu", inputs=[], size=(640, 9216, [1, 16, 8, 8])),
        row("/pool", "MaxPool", inputs=[0], size=(0, 0, [1, 16, 4, 4])),
        row("/side", "Conv", inputs=[0], size=(1088, 4096, [1, 16, 4, 4])),
        row("/add", "Add", "Flatten", inputs=[1, 2], size=(0, 0, [1, 256])),
        row("/fc", "Gemm", "Softmax", inputs=[3], size=(10_280, 2560, [1, 10])),
        row("/late", "Add", inputs=[0, 4], size=(0, 0, [1, 10])),
    ]


def _program() -> Program:
    tensors = {
        "x": Tensor("x", (1, 8, 8, 1), "int8", SCALED),
        "a": Tensor("a", (1, 8, 8, 16), "int8", SCALED),
        "b": Tensor("b", (1, 4, 4, 16), "int8", SCALED),
        "c": Tensor("c", (1, 10), "int8", SCALED),
        "d": Tensor("d", (1, 10), "float32"),
        "y": Tensor("y", (1, 10), "float32"),
    }
    scale = Requantization(multiplier=np.ones(1, np.float32), zero_point=0)
    ops = [
        ConvInt8(
            name="conv", origin=("/conv", "/relu"), inputs=("x",), output="a", groups=1, input_zero_point=0,
            weight=np.zeros((16, 3, 3, 1), np.int8), bias=np.zeros(16, np.int32),
            window=Window(kernel=(3, 3), pads=(1, 1, 1, 1)), requantization=scale,
        ),
        MaxPool(name="pool", origin=("/pool",), inputs=("a",), output="b", window=Window(kernel=(2, 2))),
        DenseInt8(
            name="fc", origin=("/fc",), inputs=("b",), output="c", requantization=scale,
            weight=np.zeros((10, 256), np.int8), bias=np.zeros(10, np.int32),
        ),
        Dequantize(name="dq", origin=("/dq",), inputs=("c",), output="d", scale=0.0235, zero_point=-3),
        SoftmaxF32(name="softmax", origin=("/soft<max>",), inputs=("d",), output="y"),
    ]  # fmt: skip
    return Program(
        tensors, ops, [Port("input", "x", (1, 1, 8, 8))], [Port("probabilities", "y", (1, 10))],
        notes=["everything but the softmax runs in integers"],
        float_reasons={"/soft<max>": "kept float by the recipe"},
    )  # fmt: skip


def _plan() -> MemoryPlan:
    slots = (
        Slot("x", 1024, 64, 0, 0),
        Slot("a", 0, 1024, 0, 1),
        Slot("conv.workspace", 1088, 300, 0, 0),
        Slot("b", 1024, 256, 1, 2),
        Slot("c", 0, 10, 2, 3),
        Slot("d", 12, 40, 3, 4),
        Slot("y", 52, 40, 4, 4),
    )
    return MemoryPlan(slots, 1388, 1380, {})


def _history() -> list[PassRecord]:
    return [
        PassRecord("fold-constants", True, 0.125, {}, {"folded": np.int64(2)}),
        PassRecord("fold-batchnorm", False, 0.25, {}, {}),
        PassRecord(
            "quantize-int8", True, 1.5, {"keep_float": ("/soft*",)}, {"clip": float("inf")}, ("one <note>",)
        ),
    ]
