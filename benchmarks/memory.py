"""The arena and its price: instructions with and without operators that take turns.

    python benchmarks/memory.py [--target cortex-m4] [--models kws,ic,vww]

Instructions are counted in the emulator: exact, the same on every machine, and not a time.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path
from typing import Any, Literal

from irshrink.compiler import compile_model
from irshrink.console import table
from irshrink.recipe import Recipe

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

HERE = Path(__file__).parent
MODELS = HERE.parent / "models"
SAMPLES = {"lenet-5": "mnist-samples.npz", "lenet-300-100": "mnist-samples.npz"}
HEADER = ("model", "--memory", "arena", "lower bound", "best of others", "instructions", "more", "code")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--target", default="cortex-m4")
    parser.add_argument("--models", default="ad,kws,ic,vww,lenet-5")
    options = parser.parse_args()
    rivals = tomllib.loads((HERE / "rivals.toml").read_text("utf-8")).get(options.target, {})
    rows: list[tuple[str, ...]] = []
    for name in options.models.split(","):
        arenas = [r["arena"] for r in rivals.get(name, {}).values() if isinstance(r, dict) and "arena" in r]
        fast, small = (measure(name, options.target, memory) for memory in ("fast", "small"))
        for memory, report in (("fast", fast), ("small", small)):
            size, count = report["size"], report["emulation"]["instructions"]
            more = 100 * (count / fast["emulation"]["instructions"] - 1)
            keys = (size["arena_bytes"], size["arena_lower_bound_bytes"])
            best = f"{min(arenas):,}" if arenas else "-"
            figures = (
                *(f"{k:,}" for k in keys),
                best,
                f"{count:,}",
                f"{more:+.1f} %",
                f"{size['code_bytes']:,}",
            )
            rows.append((name, memory, *figures))
    print(table(rows, HEADER))


def measure(name: str, target: str, memory: Literal["fast", "small"]) -> dict[str, Any]:
    """The report of a build of one model."""
    samples = MODELS / SAMPLES.get(name, f"{name}-samples.npz")
    recipe = Recipe(target=target, calibration=str(samples), test_inputs=1, memory=memory)
    with tempfile.TemporaryDirectory() as folder:
        return compile_model(MODELS / f"{name}.onnx", recipe, Path(folder) / "build")


if __name__ == "__main__":
    main()
