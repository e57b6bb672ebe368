"""Plans from budgets alone, without a recipe by hand: what they give, how well they are predicted, how long.

    python benchmarks/planning.py digits --mnist FOLDER
    python benchmarks/planning.py cifar --images FILE.npz
    python benchmarks/planning.py cores
    python benchmarks/planning.py photos --photos FOLDER --efficientnet FILE.onnx
    python benchmarks/planning.py rivals [--mnist FOLDER] [--images FILE.npz]

``digits``: the smallest LeNets within 0.1 points of top-1 on Cortex-M4; MNIST's training images are searched
on, its test images judge (gzipped idx). ``cifar``: the fastest ResNet-8
within 1 point; of an .npz of x uint8 [n, 32, 32, 3] and y, images at even places are searched on, the others
judge. ``cores``: kws and vww under limits of flash and RAM; their samples are synthetic, so agreement with
the float model is what there is. ``photos``: EfficientNet-Lite0 within 1 point and 3 MB, on photos named by
their class, every other one of which judges. ``rivals``: the same budgets with pruning, ranks or bits alone.

Times are of this machine. Nothing is remembered from run to run unless ``--journal`` says where; what kills,
other processes, clusters and replays do is in benchmarks/planning_again.py.
"""

from __future__ import annotations

import argparse
import re
import shutil
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from weights import MODELS, idx

import irshrink
from irshrink.console import table
from irshrink.errors import BudgetError
from irshrink.report.forecast import pairs, rank_correlation

PHOTOS = {"mean": 127, "std": 128, "labels": "stem"}


@dataclass(frozen=True)
class Task:
    """Budgets for a model. ``keys`` are those of a recipe; ``judged`` is data that no search sees."""

    name: str
    model: Path
    keys: Mapping[str, Any]
    judged: Path | None = None


@dataclass
class Watch:
    """What a search says of its length, and how long it then takes."""

    begin: float = field(default_factory=time.perf_counter)
    estimate: float | None = None
    announced: float = 0.0
    last: float = 0.0
    lines: int = 0

    def __call__(self, step: str) -> None:
        now = time.perf_counter()
        left = re.search(r"about (\d+) (s|min) left", step)
        if step.startswith("at most") and left and self.estimate is None:
            self.estimate, self.announced = int(left[1]) * (60.0 if left[2] == "min" else 1.0), now
            print(f"  {step}", flush=True)
        if step.startswith("evaluation"):
            self.last, self.lines = now, self.lines + 1

    def rows(self) -> list[tuple[str, str]]:
        took = time.perf_counter() - self.begin
        rows = [("seconds in all", f"{took:.0f}")]
        if self.estimate is not None:
            real = self.last - self.announced
            said = f"{self.estimate:.0f} s said, {real:.0f} s taken, {real / max(self.estimate, 1):.2f} times"
            rows.append(("search, after the baseline", said))
        return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("what", choices=["digits", "cifar", "cores", "photos", "rivals"])
    for option in ("--mnist", "--images", "--photos", "--efficientnet", "--journal"):
        parser.add_argument(option, type=Path)
    parser.add_argument("--rows", nargs="*", help="names of the rows to measure; all without")
    parser.add_argument("--evaluations", type=int, help="plans to try; without, what irshrink thinks fit")
    parser.add_argument("--processes", type=int, default=0)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        for task in tasks(given, Path(name)):
            if given.rows and task.name not in given.rows:
                continue
            print(f"\n{task.name}: {' '.join(f'{k}={v}' for k, v in shown(task))}", flush=True)
            rows = rivals(task, given) if given.what == "rivals" else planned(task, given)
            print(table(rows), flush=True)


def shown(task: Task) -> list[tuple[str, Any]]:
    return [(key, value) for key, value in task.keys.items() if key not in ("calibration", "images")]


def tasks(given: argparse.Namespace, scratch: Path) -> Iterator[Task]:
    if given.what in ("digits", "rivals") and given.mnist:
        data, judged = mnist(given.mnist, scratch)
        keys = {"target": "cortex-m4", "objective": "smallest", "max_drop": "0.1%", "calibration": data}
        for net in ("lenet-300-100", "lenet-5"):
            yield Task(net, MODELS / f"{net}.onnx", keys, judged)
    if given.what in ("cifar", "rivals") and given.images:
        data, judged = cifar(given.images, scratch)
        keys = {"target": "cortex-m4", "objective": "fastest", "max_drop": "1%", "calibration": data}
        yield Task("ic", MODELS / "ic.onnx", keys, judged)
    if given.what == "cores":
        for name, limits in CORES.items():
            net = name.split(",")[0]
            data = MODELS / f"{net}-samples.npz"
            keys = {"target": "cortex-m4", "metric": "agreement", "calibration": data, **limits}
            yield Task(name, MODELS / f"{net}.onnx", keys)
    if given.what == "photos":
        data, judged = photos(given.photos, scratch)
        keys = {"target": "host", "max_drop": "1%", "max_size": 3_000_000, "images": PHOTOS}
        yield Task("efficientnet-lite0", given.efficientnet, {**keys, "calibration": data}, judged)


CORES: Mapping[str, dict[str, Any]] = {
    "kws": {"flash": "32K", "ram": "12K"},
    "vww": {"ram": "48K"},
    "vww, which cannot be": {"flash": "4K"},
}


def mnist(folder: Path, scratch: Path) -> tuple[Path, Path]:
    """Training images and test images; pixels / 255."""
    found = []
    for kind in ("train", "t10k"):
        x, y = idx(folder / f"{kind}-images-idx3-ubyte.gz"), idx(folder / f"{kind}-labels-idx1-ubyte.gz")
        pixels = x[:, np.newaxis].astype(np.float32) / np.float32(255)
        found.append(scratch / f"mnist-{kind}.npz")
        np.savez(found[-1], input=pixels, y=y.astype(np.int64))
    return found[0], found[1]


def cifar(file: Path, scratch: Path) -> tuple[Path, Path]:
    """Images at even and at odd places; (pixels - 128) / 128. Files of test sets are sorted by class."""
    with np.load(file) as data:
        x, y = (data["x"].astype(np.float32) - 128) / 128, data["y"].astype(np.int64)
    found = [scratch / f"cifar-{name}.npz" for name in ("searched", "judged")]
    for first, path in enumerate(found):
        np.savez(path, input=x[first::2], y=y[first::2])
    return found[0], found[1]


def photos(folder: Path, scratch: Path) -> tuple[Path, Path]:
    """Every other photo, and those between."""
    found = [scratch / f"photos-{name}" for name in ("searched", "judged")]
    for first, place in enumerate(found):
        place.mkdir()
        for file in sorted(folder.glob("*.jpg"))[first::2]:
            shutil.copy(file, place)
    return found[0], found[1]


def planned(task: Task, given: argparse.Namespace) -> list[tuple[str, str]]:
    """One search and build: what came out, beside plain int8."""
    watch = Watch()
    with tempfile.TemporaryDirectory() as scratch:
        journal = given.journal or Path(scratch, "journal")
        keys = {**task.keys, "eval": task.judged, "evaluations": given.evaluations}
        try:
            report = irshrink.compile(
                task.model, Path(scratch, "out"), processes=given.processes, journal=journal,
                progress=watch, **keys,
            )  # fmt: skip
        except BudgetError as e:
            return [("no build, exit code 2", str(e)), *watch.rows()]
        told = watch.rows()
        data = {key: task.keys[key] for key in ("target", "calibration", "images") if key in task.keys}
        plain = irshrink.compile(task.model, Path(scratch, "int8"), **data)
    return [*figures(report, plain), *forecasts(report), *told]


def figures(report: Mapping[str, Any], plain: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Of a build, beside the float model and plain int8."""
    size, accuracy = report["size"], report["accuracy"]
    unit = 100 if accuracy["share"] else 1
    before, after = (accuracy[key] * unit for key in ("original", "compiled"))
    rows = [
        ("weights", _less(size["float_weights_bytes"], size["weights_bytes"], "B in float")),
        ("ONNX file", _less(report["model"]["bytes"], report["model"]["compressed_bytes"], "B as given")),
        (
            f"{accuracy['metric']} on {accuracy['samples']:,} samples",
            f"{before:.2f} -> {after:.2f}, {before - after:.2f} points lost ({accuracy['source']})",
        ),
        ("flash", _less(plain["size"]["flash_bytes"], size["flash_bytes"], "B in plain int8")),
        ("arena", _less(plain["size"]["arena_bytes"], size["arena_bytes"], "B in plain int8")),
        ("RAM and stack", f"{size['ram_bytes'] + (size['stack_bytes'] or 0):,} B"),
    ]
    executed = [one["emulation"]["instructions"] for one in (plain, report)]
    if all(executed):
        rows.append(("instructions", _less(executed[0], executed[1], "in plain int8")))
    macs = [one["model"]["macs"] for one in (plain, report)]
    return [*rows, ("multiply-accumulates", _less(macs[0], macs[1], "in plain int8"))]


def forecasts(report: Mapping[str, Any]) -> list[tuple[str, str]]:
    """How well drops of all plans that were tried, and instructions, were predicted."""
    plan = report["plan"]
    if plan is None:
        return [("search", "none: int8 keeps the budgets")]
    chosen, known = plan["evaluations"][plan["chosen"]], pairs(plan, "drop")
    levels = ", ".join(f"{k['knob']} {_label(k)}" for k in plan["knobs"] if k["chosen"])
    rank = rank_correlation(known)
    rows = [
        ("plan", levels or "the model as it is"),
        ("tried", f"{len(plan['evaluations'])} plans, judged on {plan['judged_on']:,} samples"),
        ("drop there", f"{100 * chosen['figures']['drop']:.2f} +- {100 * chosen['spread']:.2f} points"),
        (
            "rank correlation",
            f"{'-' if rank is None else f'{rank:.3f}'} of predicted and measured drops of {len(known)} plans",
        ),
    ]
    executed, predicted = report["emulation"]["instructions"], chosen["figures"]["cost"]
    if executed and plan["cost_unit"] == "instructions":
        off = 100 * (predicted - executed) / executed
        rows.append(("instructions", f"{predicted:,.0f} planned, {executed:,} emulated: {off:+.1f} %"))
    off_by = [abs(p - m) / m for p, m in pairs(plan, "cost") if m]
    if off_by:
        worst = f"{100 * max(off_by):.1f} % at most, {100 * float(np.median(off_by)):.1f} % in the median"
        rows.append((f"{plan['cost_unit']} before trying", f"off by {worst}"))
    return rows


def _label(knob: Mapping[str, Any]) -> str:
    return f"({knob['options'][knob['chosen'] - 1]['label']})"


def _less(before: float, after: float, of: str) -> str:
    return f"{after:,} of {before:,} {of}: {before / after:.2f} times less"


def rivals(task: Task, given: argparse.Namespace) -> list[tuple[str, ...]]:
    """The plan beside those of one technique alone, which are searched under the same budgets."""
    rows: list[tuple[str, ...]] = [("searched", "weights, B", "flash, B", "instructions", "drop, points")]
    with tempfile.TemporaryDirectory() as scratch:
        journal = given.journal or Path(scratch, "journal")
        names: Sequence[str] = ()
        for rival, prefixes in RIVALS.items():
            knobs = [name for name in names if name.startswith(prefixes)]
            if names and not knobs:
                rows.append((rival, "no such knob", "", "", ""))
                continue
            try:
                report = irshrink.compile(
                    task.model, Path(scratch, "out"), processes=given.processes, journal=journal,
                    **{**task.keys, "evaluations": given.evaluations, "knobs": knobs, "eval": task.judged},
                )  # fmt: skip
            except BudgetError as e:
                rows.append((rival, str(e).partition(". ")[0], "", "", ""))
                continue
            names = names or [knob["knob"] for knob in report["plan"]["knobs"]]
            size, accuracy = report["size"], report["accuracy"]
            lost = 100 * (accuracy["original"] - accuracy["compiled"])
            counts = size["weights_bytes"], size["flash_bytes"], report["emulation"]["instructions"]
            rows.append((rival, *(f"{count:,}" for count in counts), f"{lost:.2f}"))
    return rows


#: What is searched, by how the names of knobs begin; int8 is in all of them.
RIVALS: Mapping[str, tuple[str, ...]] = {
    "everything": ("",),
    "pruning alone": ("prune-",),
    "ranks alone": ("low-rank",),
    "bits alone": ("quantize-",),
}


if __name__ == "__main__":
    main()
