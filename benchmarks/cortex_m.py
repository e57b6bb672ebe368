"""Instructions, flash and arena of the product's models on Cortex-M beside what others take.

    python benchmarks/cortex_m.py [--targets cortex-m4,cortex-m7] [--models kws,ic] [--gcc] [--weights int4]

Instructions are counted in the emulator: exact, the same on every machine, and not a time. ``--gcc`` builds
the same C with arm-none-eabi-gcc -O2, the compiler of the other rows, where it is installed (Debian:
gcc-arm-none-eabi). ``--weights int4`` compares builds with weights of 4 bits (w4a8) with those of 8.
"""

from __future__ import annotations

import argparse
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

from irshrink.backends.package.files import linker_script
from irshrink.backends.toolchain.zig import semantic_flags
from irshrink.backends.unicorn.firmware import GUARD_BYTES, Firmware
from irshrink.backends.unicorn.runner import EMULATION_MAIN, FIRMWARE
from irshrink.compiler import compile_model
from irshrink.console import table
from irshrink.recipe import Recipe
from irshrink.shorthands import Quantize
from irshrink.target import load_target

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

HERE = Path(__file__).parent
MODELS = HERE.parent / "models"
SAMPLES = {"lenet-5": "mnist-samples.npz", "lenet-300-100": "mnist-samples.npz"}
GCC = "arm-none-eabi-gcc"
WIDTHS: tuple[tuple[str, Quantize], ...] = (("int8", "int8"), ("int4", "w4a8"))
HEADER = ("model", "by", "instructions", "ratio", "a MAC", "flash", "code", "arena", "bound", "stack")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--targets", default="cortex-m4")
    parser.add_argument("--models", default="ad,kws,ic,vww,lenet-5,lenet-300-100")
    parser.add_argument("--float", action="store_true", help="float32 builds")
    parser.add_argument("--gcc", action="store_true", help="also build with arm-none-eabi-gcc -O2")
    parser.add_argument("--weights", choices=("int8", "int4"), default="int8")
    options = parser.parse_args()
    if options.weights == "int4":
        return compare_weights(options.targets.split(","), options.models.split(","))
    if options.gcc and shutil.which(GCC) is None:
        parser.error(f"{GCC} is not installed. Leave --gcc out, or: apt-get install gcc-arm-none-eabi")
    rivals = tomllib.loads((HERE / "rivals.toml").read_text("utf-8"))
    for target in options.targets.split(","):
        rows: list[tuple[str, ...]] = []
        for name in options.models.split(","):
            with tempfile.TemporaryDirectory() as folder:
                ours = measure(name, target, Path(folder) / "build", options.float)
                rows.append(own_row(name, ours))
                if options.gcc:
                    rows.append(gcc_row(Path(folder), target, ours))
            if not options.float:
                rows += rival_rows(rivals.get(target, {}).get(name, {}), ours)
        print(f"{target}, {'float32' if options.float else 'int8'}\n\n{table(rows, HEADER)}\n")


def compare_weights(targets: list[str], models: list[str]) -> None:
    """The same nets with weights of 8 and of 4 bits; every build is checked against the reference."""
    header = (
        "model",
        "weights",
        "instructions",
        "ratio",
        "of weights",
        "constants",
        "ratio",
        "code",
        "arena",
    )
    for target in targets:
        rows: list[tuple[str, ...]] = []
        for name in models:
            base: tuple[int, int] | None = None
            for label, quantize in WIDTHS:
                with tempfile.TemporaryDirectory() as folder:
                    report = measure(name, target, Path(folder) / "build", False, quantize)
                size, count = report["size"], report["emulation"]["instructions"]
                stored, spent = size["weights_bytes"], weights_alone(report)
                base = base or (count, stored)
                ratios = f"{count / base[0]:.3f}", f"{stored / base[1]:.3f}"
                row = (f"{count:,}", ratios[0], f"{spent:,}", f"{stored:,}", ratios[1])
                rows.append((name, label, *row, f"{size['code_bytes']:,}", f"{size['arena_bytes']:,}"))
        print(f"{target}\n\n{table(rows, header)}\n", flush=True)


def weights_alone(report: dict[str, Any]) -> int:
    """Bytes of the weights of all layers, without biases, multipliers and tables."""
    layers = (layer for layer in report["layers"] if layer["op"] in ("ConvInt8", "DenseInt8"))
    return sum(layer["weights_bytes"] - 8 * layer["output_shape"][-1] for layer in layers)


def measure(
    name: str, target: str, out: Path, as_float: bool, quantize: Quantize | None = None
) -> dict[str, Any]:
    """The report of a build of one model."""
    samples = MODELS / SAMPLES.get(name, f"{name}-samples.npz")
    recipe = Recipe(
        target=target, calibration=None if as_float else str(samples), test_inputs=1, quantize=quantize
    )
    return compile_model(MODELS / f"{name}.onnx", recipe, out)


def gcc_row(folder: Path, target_name: str, ours: dict[str, Any]) -> tuple[str, ...]:
    """The same C by GCC, in the same emulator; its answer has to be the same, too."""
    target, build, image = load_target(target_name), folder / "build", folder / "gcc.elf"
    port = build / "port" / "cortex-m"
    (folder / "link.ld").write_text(linker_script(target, guard_bytes=GUARD_BYTES))
    flags = [*target.gcc_flags, "-O2", *semantic_flags(target), "-ffunction-sections", "-fdata-sections"]
    places = [f"-I{build / 'src'}", f"-I{port}", "-nostartfiles", f"-Wl,-T,{folder / 'link.ld'}"]
    sources = [str(build / "src" / "model.c"), str(port / "startup.c"), str(EMULATION_MAIN)]
    subprocess.run([GCC, *flags, *places, "-Wl,--gc-sections", *sources, "-o", str(image)], check=True)
    firmware, other = Firmware(image, target), Firmware(build / FIRMWARE, target)
    # of all bytes below 64 any four are a float32, too
    x = [np.random.default_rng(0).integers(0, 64, n, np.uint8).tobytes() for n in firmware.input_bytes]
    result = firmware.run(x)
    if result.outputs != other.run(x).outputs:
        raise SystemExit(f"{target_name}: GCC's build of {build} answers something else")
    count, macs = result.instructions or 0, ours["model"]["macs"]
    sizes = firmware.elf.sizes
    rate = f"{count / macs:.2f}"
    ratio = f"{count / ours['emulation']['instructions']:.2f}"
    return ("", "irshrink, GCC", f"{count:,}", ratio, rate, f"{sizes.flash:,}", f"{sizes.code:,}", "", "", "")


def own_row(name: str, report: dict[str, Any]) -> tuple[str, ...]:
    size, instructions = report["size"], report["emulation"]["instructions"]
    rate = f"{instructions / report['model']['macs']:.2f}"
    keys = ("flash_bytes", "code_bytes", "arena_bytes", "arena_lower_bound_bytes", "stack_bytes")
    return (name, "irshrink", f"{instructions:,}", "1.00", rate, *(f"{size[key]:,}" for key in keys))


def rival_rows(rivals: dict[str, Any], ours: dict[str, Any]) -> list[tuple[str, ...]]:
    """One row a rival; the ratio is its instructions over ours."""
    rows = []
    for by, figures in rivals.items():
        if not isinstance(figures, dict):
            continue
        count = figures["instructions"]
        ratio = count / ours["emulation"]["instructions"]
        rate = count / ours["model"]["macs"]
        sizes = [f"{figures[k]:,}" if k in figures else "-" for k in ("flash", "code", "arena")]
        rows.append(("", by, f"{count:,}", f"{ratio:.2f}", f"{rate:.2f}", *sizes, "-", "-"))
    return rows


if __name__ == "__main__":
    main()
