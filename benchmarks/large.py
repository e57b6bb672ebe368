"""Memory and time of a model above 2 GB: inspect, cleanup, weight-only int8, save.

    python benchmarks/large.py [--gigabytes 2.2] [--folder /tmp/large] [--keep]

Writes a stack of transformer feed-forward blocks with random weights to disk, streamed, then runs each step
in a process of its own and reads its peak from /proc: resident memory as a whole (VmHWM, which counts pages
of mapped files too), and the part that is not file pages (the highest RssAnon + RssShmem of 50 a second).
Needs three times the size on disk.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper

from irshrink.console import table

HIDDEN, WIDE = 1024, 4096
_STEPS = {
    "start (imports only)": "import irshrink.optimize, irshrink.inspect",
    "inspect": "from irshrink import cli; assert cli.run(['inspect', {model!r}]) == 0",
    "cleanup, save": (
        "from irshrink import cli; assert cli.run(['optimize', {model!r}, '-o', {clean!r}]) == 0"
    ),
    "cleanup, weights int8, save": (
        "from irshrink import cli; assert cli.run(['optimize', {model!r}, '-o', {small!r},"
        " '--pass', 'quantize-weights-int8']) == 0"
    ),
}


def write_model(folder: Path, gigabytes: float, seed: int = 0) -> Path:
    """Embedding, then blocks of MatMul, Add, Gelu, MatMul, Add; every weight lies in ``large.onnx.data``."""
    rng = np.random.default_rng(seed)
    path, nodes, tensors = folder / "large.onnx", [], []
    blocks = max(1, round(gigabytes * 1e9 / (4 * 2 * HIDDEN * WIDE)))
    with path.with_name("large.onnx.data").open("wb") as stream:

        def weight(name: str, *shape: int) -> str:
            tensor = TensorProto(name=name, data_type=TensorProto.FLOAT, dims=shape)
            tensor.data_location = TensorProto.EXTERNAL
            array = rng.standard_normal(shape, np.float32) * np.float32(0.02)
            places = {"location": "large.onnx.data", "offset": stream.tell(), "length": array.nbytes}
            for key, value in places.items():
                tensor.external_data.add(key=key, value=str(value))
            array.tofile(stream)
            tensors.append(tensor)
            return name

        nodes.append(helper.make_node("Gather", [weight("table", 8192, HIDDEN), "ids"], ["x0"]))
        for k in range(blocks):
            up, down = weight(f"up{k}", HIDDEN, WIDE), weight(f"down{k}", WIDE, HIDDEN)
            nodes += [
                helper.make_node("MatMul", [f"x{k}", up], [f"h{k}"]),
                helper.make_node("Add", [f"h{k}", weight(f"bias{k}", WIDE)], [f"b{k}"]),
                helper.make_node("Gelu", [f"b{k}"], [f"g{k}"]),
                helper.make_node("MatMul", [f"g{k}", down], [f"d{k}"]),
                helper.make_node("Identity", [f"d{k}"], [f"i{k}"]),
                helper.make_node("Add", [f"x{k}", f"i{k}"], [f"x{k + 1}"]),
            ]
    ids = helper.make_tensor_value_info("ids", TensorProto.INT64, [1, 16])
    out = helper.make_tensor_value_info(f"x{blocks}", TensorProto.FLOAT, [1, 16, HIDDEN])
    graph = helper.make_graph(nodes, "large", [ids], [out], tensors)
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10), path)
    return path


def measure(program: str) -> tuple[float, float, float]:
    """Seconds, peak resident MB, and peak resident MB without file pages, children included."""
    began = time.monotonic()
    process = subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.DEVNULL)
    total = private = 0.0
    while process.poll() is None:
        family = [process.pid, *_children(process.pid)]
        now = [_memory(pid) for pid in family]
        total = max(total, sum(one["VmRSS"] for one in now), _memory(process.pid)["VmHWM"])
        private = max(private, sum(one["RssAnon"] + one["RssShmem"] for one in now))
        time.sleep(0.02)
    if process.returncode:
        raise SystemExit(f"failed: {program}")
    return time.monotonic() - began, total, private


def _children(pid: int) -> list[int]:
    try:
        return [int(text) for text in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    except OSError:
        return []


def _memory(pid: int) -> dict[str, float]:
    """Fields of /proc/PID/status in MB; zeros when it is gone."""
    found = {"VmRSS": 0.0, "VmHWM": 0.0, "RssAnon": 0.0, "RssShmem": 0.0}
    try:
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    except OSError:
        return found
    for line in lines:
        key, _, value = line.partition(":")
        if key in found:
            found[key] = int(value.split()[0]) / 1024
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--gigabytes", type=float, default=2.2)
    parser.add_argument("--folder", type=Path, default=Path("large-model"))
    parser.add_argument("--keep", action="store_true", help="leave the models on disk")
    options = parser.parse_args()
    options.folder.mkdir(parents=True, exist_ok=True)
    model = write_model(options.folder, options.gigabytes)
    places = {name: str(options.folder / f"{name}.onnx") for name in ("clean", "small")}
    rows, base = [], (0.0, 0.0)
    for name, program in _STEPS.items():
        seconds, total, private = measure(program.format(model=str(model), **places))
        base = base if any(base) else (total, private)
        growth = (total - base[0], private - base[1])
        rows.append((name, f"{seconds:.1f}", *(f"{x:,.0f}" for x in (total, growth[0], private, growth[1]))))
    print(f"{sum(f.stat().st_size for f in options.folder.glob('large.onnx*')) / 1e9:.2f} GB")
    print(table(rows, ("step", "s", "peak MB", "growth MB", "without file pages", "growth MB")))
    for file in sorted(options.folder.iterdir()):
        print(f"  {file.name}: {os.path.getsize(file):,} bytes")
    if not options.keep:
        shutil.rmtree(options.folder)


if __name__ == "__main__":
    main()
