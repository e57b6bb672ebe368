"""Channel groups of whole models: a quarter of every family removed, and empty channels removed unseen.

    python benchmarks/channels.py [FOLDER] [--reasons]

Looks at the networks of models/, at those that the onnx package brings along (with random weights, which
their files leave out), and at the files of ``zoo_models.py`` and ``zoo_sequences.py`` that are in FOLDER.
For each: families of channels that can go; multiply-accumulates left when every family gives up a quarter
at random; whether all shapes are those that ONNX infers, and ONNX Runtime runs the model; and, when zeros are
planted in such channels of the original first, the largest difference that their removal makes, relative to
the largest output where that is above 1.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
from zoo_models import ZOO
from zoo_sequences import SEQUENCES

from irshrink import onnxrt
from irshrink.analyses.cost import graph_macs
from irshrink.channels.groups import ChannelGroups, channel_groups
from irshrink.channels.remove import remove_groups
from irshrink.channels.unshare import unshare_vectors
from irshrink.console import table
from irshrink.frontends.read import read_model
from irshrink.graph.edit import describe, is_op, register_constant, static_shape
from irshrink.graph.shapes import infer_shapes
from irshrink.module import Module
from irshrink.passes.cleanup import cleanup_steps
from irshrink.pipeline import Pipeline
from irshrink.samples import input_specs
from irshrink.samples.random import random_samples
from irshrink.static_shapes import fix_input_shapes
from irshrink.target import load_target
from irshrink.testing.planted import pick_groups, plant_zeros
from irshrink.verify import verify_structure

Array = np.ndarray[Any, np.dtype[Any]]

SHARE = 0.25
OURS = ("ad", "ic", "kws", "vww", "lenet-300-100", "lenet-5")
LIGHT = ("resnet50", "densenet121", "inception_v2", "shufflenet")


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("folder", type=Path, nargs="?")
    parser.add_argument(
        "--reasons", action="store_true", help="say which operators keep their channels, and why"
    )
    options = parser.parse_args()
    rows = []
    for name, path, shapes in models(options.folder):
        cells, reasons = row(path, shapes)
        rows.append((name, *cells))
        print(*rows[-1], sep=", ", flush=True)
        if options.reasons:
            print(*(f"    {line}" for line in reasons), sep="\n")
    print(table(rows, ("model", "families", "channels", "MACs, M", "left", "fall", "runs", "zeros")))


def models(folder: Path | None) -> Iterator[tuple[str, Path, Mapping[str, Sequence[int]]]]:
    for name in OURS:
        yield name, Path(__file__).parent.parent / "models" / f"{name}.onnx", {}
    light = Path(onnx.__file__).parent / "backend" / "test" / "data" / "light"
    for name in LIGHT:
        yield name, light / f"light_{name}.onnx", {}
    for net in (*ZOO, *SEQUENCES) if folder is not None else ():
        path = next(iter(sorted(folder.rglob(net.file))), None) if folder is not None else None
        if path is not None:
            yield net.name, path, net.shapes


def load(path: Path, shapes: Mapping[str, Sequence[int]]) -> Module:
    module, _ = read_model(path)
    fix_input_shapes(module, shapes)
    _fill(module.graph)
    Pipeline(list(cleanup_steps()), [], verify_structure).run(module, load_target("host"), 0)
    unshare_vectors(module.graph)
    return module


def row(path: Path, shapes: Mapping[str, Sequence[int]]) -> tuple[tuple[str, ...], list[str]]:
    module = load(path, shapes)
    groups = channel_groups(module.graph)
    before = macs(module)
    rng = np.random.default_rng(0)
    gone = np.zeros(groups.count, bool)
    for family in groups.members():
        gone[rng.permutation(family)[: int(SHARE * len(family))]] = True
    reasons = stays(groups)
    families = groups.members()
    remove_groups(module.graph, groups, gone)
    after = macs(module)
    cells = (
        str(len(families)),
        f"{sum(len(f) for f in families):,}",
        f"{before / 1e6:.2f}",
        f"{after / 1e6:.2f}",
        f"{1 - after / before:.1%}",
        "yes" if sound(module) else "NO",
        f"{planted(load(path, shapes)):.1e}",
    )
    return cells, reasons


def sound(module: Module) -> bool:
    """Whether ONNX infers the shapes that the values have, and ONNX Runtime runs the model."""
    ours = {v: static_shape(v) for node in module.graph for v in node.outputs if v.uses()}
    for value in ours:
        value.shape = None
    infer_shapes(module.model)
    same = all(static_shape(value) in (None, shape) for value, shape in ours.items())
    for value, shape in ours.items():
        value.shape = None if shape is None else ir.Shape(shape)
    return same and bool(outputs(module))


def planted(module: Module) -> float:
    """The difference that removing zeros makes."""
    groups = channel_groups(module.graph)
    gone = pick_groups(groups, np.random.default_rng(1), SHARE)
    plant_zeros(groups, gone)
    before = outputs(module)
    remove_groups(module.graph, groups, gone)
    pairs = zip(before, outputs(module), strict=True)
    return max(float(np.abs(a - b).max() / max(1.0, np.abs(a).max())) for a, b in pairs)


def stays(groups: ChannelGroups) -> list[str]:
    """Operators with weights all of whose channels stay, and the first reason."""
    free = groups.free()
    kept = [site for site in groups.writers if not free[site.groups].any()]
    return [f"{describe(site.node)}: {groups.blocked.get(int(site.groups[0]), '')}" for site in kept]


def macs(module: Module) -> int:
    return sum(count or 0 for count in graph_macs(module.graph).values())


def outputs(module: Module) -> list[Array]:
    feed = next(iter(random_samples(input_specs(module.graph), 1).feeds()))
    found = onnxrt.run(onnxrt.session(module.model, optimize=False), feed).values()
    return [np.asarray(value, np.float64) for value in found]


def _fill(graph: ir.Graph) -> None:
    """Random weights where a file has only their shapes."""
    rng = np.random.default_rng(0)
    for node in tuple(graph):
        given = ir.convenience.get_const_tensor(node.inputs[0]) if is_op(node, "ConstantOfShape") else None
        filled = node.attributes.get("value")
        if given is None or filled is None or not filled.as_tensor().dtype.is_floating_point():
            continue
        shape = tuple(int(size) for size in given.numpy())
        fan = max(1, int(np.prod(shape[1:])))
        array = (
            rng.uniform(0.5, 1.5, shape) if len(shape) == 1 else rng.standard_normal(shape) * (2 / fan) ** 0.5
        )
        old, name = node.outputs[0], str(node.outputs[0].name)
        old.name = None
        old.replace_all_uses_with(register_constant(graph, array.astype(np.float32), name))
        graph.remove(node, safe=True)


if __name__ == "__main__":
    main()
