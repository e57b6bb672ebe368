"""What layers and models take on a target: predicted before anything is compiled, beside what was counted.

    python benchmarks/costs.py [--targets cortex-m4,cortex-m7] [--models kws,ic,vww,ad] [--random 8]
    python benchmarks/costs.py --queries        how many questions about a layer are answered in a second

Predicted is what :func:`irshrink.costs.service.costs_for` says of the float model; counted is what the
emulator executes for the build of its int8 form. ``--random`` nets are of the kinds of kws, ic and vww, and
have from 8 to 64 channels by chance. Measurements that predictions stand on are kept in the user's cache;
``--fresh`` starts without any. Instructions are no time.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import onnx
import onnx_ir as ir
from onnx import helper, numpy_helper

from irshrink.backend import Inference
from irshrink.console import table
from irshrink.costs.service import TargetCosts, costs_for
from irshrink.frontends.read import read_model
from irshrink.module import Module
from irshrink.passes.cleanup import cleanup_steps
from irshrink.pipeline import Pipeline
from irshrink.program.lower import lower_for
from irshrink.registry import make_pass
from irshrink.samples import input_specs, load_samples
from irshrink.samples.random import random_samples
from irshrink.target import Target, load_target, with_memory
from irshrink.tuning.tasks import random_inputs
from irshrink.usable import usable_backend

MODELS = Path(__file__).parents[1] / "models"
FLASH, RAM = 16 << 20, 16 << 20
HEADER = ("net", "predicted", "counted", "off", "stated", "weights off", "arena off", "plan, s")
Layers = list[tuple[str, str]]


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--targets", default="cortex-m4")
    parser.add_argument("--models", default="kws,ic,vww,ad")
    parser.add_argument("--random", type=int, default=8, metavar="N", help="nets with channels by chance")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--fresh", action="store_true", help="do without what was measured before")
    parser.add_argument("--queries", action="store_true")
    options = parser.parse_args()
    for name in options.targets.split(","):
        with tempfile.TemporaryDirectory() as folder:
            target = load_target(name)
            quantize = [make_pass("quantize-int8", {"method": "minmax"})]
            costs = costs_for(target, quantize=quantize, folder=Path(folder) if options.fresh else None)
            if options.queries:
                queries(costs, target)
                continue
            compare(costs, target, [n for n in options.models.split(",") if n], options.random, options.seed)


def compare(costs: TargetCosts, target: Target, models: list[str], count: int, seed: int) -> None:
    """A line a net, and how far off the worst and the mean of them are."""
    rows, errors = [], []
    for name, module in nets(models, count, seed):
        Pipeline(cleanup_steps()).run(module, target)
        begin = time.perf_counter()
        costs.of_module(module)
        measuring = time.perf_counter() - begin
        begin = time.perf_counter()
        found = costs.of_module(module)
        seconds = time.perf_counter() - begin
        counted, weights, arena = built(module, target, costs)
        assert found.cost is not None
        off = found.cost.amount / counted - 1
        errors.append(abs(off))
        rows.append(
            (
                name,
                f"{found.cost.amount:,.0f}",
                f"{counted:,}",
                f"{100 * off:+.2f} %",
                f"{100 * found.cost.error:.2f} %",
                f"{100 * (found.weights_bytes / weights - 1):+.2f} %",
                f"{found.arena_bytes - arena:+,} B",
                f"{seconds:.2f}",
            )
        )
        print(f"{name}: the first question took {measuring:.1f} s", flush=True)
    print(f"\n{target.name}\n{table(rows, HEADER)}")
    print(f"off by {100 * np.mean(errors):.2f} % in the mean, {100 * np.max(errors):.2f} % at most\n")


def built(module: Module, target: Target, costs: TargetCosts) -> tuple[int, int, int]:
    """Instructions, bytes of weights and bytes of arena of the real build."""
    roomy = with_memory(target, FLASH, RAM)
    Pipeline(costs.quantize).run(module, roomy)
    program = lower_for(module, roomy)
    backend, inputs = usable_backend(roomy), random_inputs(program, 0)
    with tempfile.TemporaryDirectory() as folder:
        artifact = backend.compile(program, roomy, Path(folder), [Inference(inputs, [])], "net")
        run = backend.run(Path(folder), roomy, artifact.program, [inputs])
    assert run.instructions is not None
    return run.instructions, sum(c.weights_bytes for c in artifact.costs), artifact.plan.nbytes


def nets(models: list[str], count: int, seed: int) -> Iterator[tuple[str, Module]]:
    """The product's models with their samples, then nets by chance."""
    for name in models:
        module, _ = read_model(MODELS / f"{name}.onnx")
        samples = MODELS / f"{name}-samples.npz"
        module.calibration = load_samples(samples, input_specs(module.graph), role="calibration").spread(8)
        yield name, module
    rng = np.random.default_rng(seed)
    for number in range(count):
        kind = ("separable", "residual", "deep")[number % 3]
        module = Module(ir.from_proto(Net(rng).build(kind)))
        module.calibration = random_samples(input_specs(module.graph), 8)
        yield f"{kind} {number}", module


class Net:
    """A net whose layers have from 8 to 64 channels by chance."""

    def __init__(self, rng: np.random.Generator) -> None:
        self.rng = rng
        self.nodes: list[onnx.NodeProto] = []
        self.weights: list[onnx.TensorProto] = []

    def build(self, kind: str) -> onnx.ModelProto:
        shape = {"separable": [1, 1, 49, 10], "residual": [1, 3, 32, 32], "deep": [1, 3, 48, 48]}[kind]
        value, channels = self.conv("x", shape[1], self.some(), 3, stride=2)
        for index in range(int(self.rng.integers(3, 6))):
            if kind == "residual":
                inner, width = self.conv(value, channels, self.some(), 3)
                other, _ = self.conv(inner, width, channels, 3, relu=False)
                value = self.op("Relu", [self.op("Add", [other, value])])
            else:
                stride = 2 if kind == "deep" and index % 2 else 1
                value, _ = self.conv(value, channels, channels, 3, stride=stride, depthwise=True)
            value, channels = self.conv(value, channels, self.some(), 1)
        pooled = self.op("Flatten", [self.op("GlobalAveragePool", [value])])
        classes = int(self.rng.integers(2, 20))
        dense = [self.constant(classes, channels), self.constant(classes)]
        result = self.op("Softmax", [self.op("Gemm", [pooled, *dense], transB=1)])
        graph = helper.make_graph(
            self.nodes,
            kind,
            [helper.make_tensor_value_info("x", onnx.TensorProto.FLOAT, shape)],
            [helper.make_tensor_value_info(result, onnx.TensorProto.FLOAT, [1, classes])],
            self.weights,
        )
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
        return onnx.shape_inference.infer_shapes(model)

    def some(self) -> int:
        return int(self.rng.integers(8, 65))

    def conv(
        self,
        value: str,
        inputs: int,
        outputs: int,
        kernel: int,
        *,
        stride: int = 1,
        depthwise: bool = False,
        relu: bool = True,
    ) -> tuple[str, int]:
        weights = self.constant(outputs, 1 if depthwise else inputs, kernel, kernel)
        made = self.op(
            "Conv",
            [value, weights, self.constant(outputs)],
            kernel_shape=[kernel] * 2,
            pads=[kernel // 2] * 4,
            strides=[stride] * 2,
            group=inputs if depthwise else 1,
        )
        return (self.op("Relu", [made]) if relu else made), outputs

    def op(self, op_type: str, inputs: list[str], **attributes: object) -> str:
        name = f"{op_type.lower()}{len(self.nodes)}"
        self.nodes.append(helper.make_node(op_type, inputs, [name], name=name, **attributes))
        return name

    def constant(self, *shape: int) -> str:
        name = f"w{len(self.weights)}"
        scale = (2 / max(1, int(np.prod(shape[1:])))) ** 0.5 if len(shape) > 1 else 0.1
        array = (self.rng.standard_normal(shape) * scale).astype(np.float32)
        self.weights.append(numpy_helper.from_array(array, name))
        return name


def queries(costs: TargetCosts, target: Target) -> None:
    """Questions about every even number of channels of a layer of kws, asked twice."""
    module, _ = read_model(MODELS / "kws.onnx")
    Pipeline(cleanup_steps()).run(module, target)
    conv = [node for node in module.graph if node.op_type == "Conv"][2]
    costs.of_channels(conv, inputs=8, outputs=8)
    sizes = [(i, o) for i in range(2, 65, 2) for o in range(2, 65, 2)]
    for when in ("new", "known"):
        begin = time.perf_counter()
        for inputs, outputs in sizes:
            costs.of_channels(conv, inputs=inputs, outputs=outputs)
        seconds = time.perf_counter() - begin
        print(f"{target.name}: {len(sizes) / seconds:,.0f} {when} questions a second")


if __name__ == "__main__":
    main()
