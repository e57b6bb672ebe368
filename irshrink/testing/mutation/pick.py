"""What mutations choose from: places in a model, and values at the edges of what anyone expects."""

from __future__ import annotations

import random
from typing import Any

import onnx

from irshrink.vetting import Parts

#: Sizes at the edges of what fits a type, and zero, which someone divides by.
NUMBERS = (
    0, 1, 2, 3, 4, 5, 7, 8, 16, 63, 64, 127, 255, 1000, 65535, 65536, -1, -2, -3, -128, 2**20, 2**24,
    2**31 - 1, 2**31, 2**32, 2**32 + 1, 2**40, 2**62, 2**63 - 1, -(2**31), -(2**63),
)  # fmt: skip
FLOATS = (0.0, -0.0, 1.0, -1.0, 1e-45, 1e-38, 1e38, 3.5e38, -1e38, 0.5, 1e300, float("inf"), float("-inf"))
#: Names that end a string, a comment, a line or a path where someone forgot to escape them.
NAMES = (
    "", " ", "x", "a b", "*/ #error ", '"; system("true"); "', "$(touch pwned)", "`touch pwned`",
    "../../pwned", "/tmp/pwned", "a\nb", "a\\\nb", "%s%n%d", "<script>alert(1)</script>",
    "\u202egnp.exe", "é" * 20, "x" * 5000,
    "int", "main", "NULL", "a;b", "-o", "\x1b[2J", "\x00", "'", "\\", "{}", "{{ 7*7 }}", "??/",
)  # fmt: skip
PLACES = (
    "w.bin", "../w.bin", "/etc/passwd", "/dev/zero", "/proc/self/mem", "", ".", "..", "./w.bin",
    "sub/../w.bin", "missing.bin", "m.onnx", "link.bin", "w.bin\x00", "//w.bin", "~/w.bin",
    "\\\\host\\share", "fifo", "folder",
)  # fmt: skip
OPERATORS: tuple[str, ...] = tuple(sorted({schema.name for schema in onnx.defs.get_all_schemas()}))


def graphs(proto: Any) -> list[Any]:
    found: list[Any] = []
    queue = [proto.graph]
    while queue and len(found) < 50:
        graph = queue.pop()
        found.append(graph)
        for node in graph.node:
            queue += [a.g for a in node.attribute if a.HasField("g")]
    return found


def pick_nodes(proto: Any, rng: random.Random) -> Any:
    places: list[Any] = [graph for graph in graphs(proto) if graph.node]
    places += [function for function in proto.functions if function.node]
    return rng.choice(places).node


def pick_node(proto: Any, rng: random.Random) -> Any:
    return rng.choice(pick_nodes(proto, rng))


def pick_attribute(proto: Any, rng: random.Random) -> Any:
    nodes = [node for graph in graphs(proto) for node in graph.node if node.attribute]
    return rng.choice(rng.choice(nodes).attribute)


def pick_tensor(proto: Any, rng: random.Random) -> Any:
    return rng.choice(Parts(proto).tensors)


def pick_value(proto: Any, rng: random.Random) -> Any:
    graph = rng.choice(graphs(proto))
    return rng.choice([*graph.input, *graph.output, *graph.value_info])


def names_in(proto: Any) -> list[str]:
    graph = proto.graph
    names = [n for node in graph.node for n in (*node.input, *node.output)]
    return [*names, *(t.name for t in graph.initializer), *(v.name for v in graph.input), ""]
