"""Every target on small models: built, run or emulated, and every byte compared with the reference.

    python benchmarks/targets.py [--targets cortex-a72,neoverse-n1] [--models kws,ic] [--inputs 32] [--float]

Prints exact instructions of one inference. QEMU is needed for Linux and Cortex-M55 (Debian: apt-get install
qemu-user qemu-system-arm); what cannot run here is built and shown as NOT RUN.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path

import numpy as np

from irshrink import load_build
from irshrink.backend import Inference
from irshrink.backends.tvm.backend import TvmBackend
from irshrink.compiler import compile_model
from irshrink.console import table
from irshrink.execute import mismatches
from irshrink.ports import encode_inputs
from irshrink.program.lower.finish import for_target
from irshrink.program.ops import ConvF32, DenseF32, MatMulF32
from irshrink.program.program import Program
from irshrink.program.reference.evaluate import run_program
from irshrink.recipe import Recipe
from irshrink.samples import InputSpec, load_samples
from irshrink.target import load_target, target_names

MODELS = Path(__file__).parent.parent / "models"
SAMPLES = {"lenet-5": "mnist-samples.npz", "lenet-300-100": "mnist-samples.npz"}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--targets", default=",".join(target_names()))
    parser.add_argument(
        "--models", default="kws,ic", help="names in models/, or paths with X-samples.npz beside X.onnx"
    )
    parser.add_argument("--inputs", type=int, default=32)
    parser.add_argument("--float", action="store_true", help="float32 builds")
    options = parser.parse_args()
    models = options.models.split(",")
    rows, wrong = [], 0
    with tempfile.TemporaryDirectory() as scratch:
        tests = {name: prepared(name, options.float, options.inputs, Path(scratch)) for name in models}
        for target in options.targets.split(","):
            cells = []
            for name in models:
                text, differing = measure(*tests[name], target, Path(scratch) / f"{target}-{Path(name).stem}")
                cells.append(text)
                wrong += differing
            rows.append((target, *cells))
            print(f"{target}: {', '.join(cells)}", file=sys.stderr)
    print(f"{'float32' if options.float else 'int8'}, {options.inputs} inputs\n")
    print(table(rows, ("target", *(f"{name}: bytes equal, instructions" for name in models))))
    sys.exit(1 if wrong else 0)


def prepared(name: str, as_float: bool, inputs: int, scratch: Path) -> tuple[Program, list[Inference]]:
    """The program of a model, and what the reference answers to samples."""
    path = Path(name) if name.endswith(".onnx") else MODELS / f"{name}.onnx"
    samples = path.with_name(SAMPLES.get(name, f"{path.stem}-samples.npz"))
    recipe = Recipe(target="host", calibration=None if as_float else str(samples), test_inputs=1)
    compile_model(path, recipe, scratch / path.stem)
    program = load_build(scratch / path.stem).program
    specs = [InputSpec(port.name, port.shape, np.dtype("float32")) for port in program.inputs]
    feeds = load_samples(samples, specs, role="input").spread(inputs).feeds()
    values = [encode_inputs(program, one) for one in feeds]
    return program, [Inference(x, run_program(program, x)) for x in values]


def measure(program: Program, tests: list[Inference], name: str, folder: Path) -> tuple[str, int]:
    """One cell of the table, and how many bytes differ."""
    backend, target = TvmBackend(), load_target(name)
    own = for_target(program, target)
    if any(isinstance(op, ConvF32 | DenseF32 | MatMulF32) for op in own.ops):
        program = own
        tests = [Inference(test.inputs, run_program(own, list(test.inputs))) for test in tests]
    folder.mkdir()
    backend.compile(program, target, folder, tests[:1], folder.name)
    why_not = backend.unrunnable(target)
    if why_not is not None:
        return f"NOT RUN: {why_not}", 0
    run = backend.run(folder, target, program, [t.inputs for t in tests])
    compared, differing = mismatches([list(t.outputs) for t in tests], run.outputs)
    count = "native" if run.native else f"{run.instructions:,}" if run.instructions else "not counted"
    return f"{compared - differing} of {compared}, {count}", differing


if __name__ == "__main__":
    main()
