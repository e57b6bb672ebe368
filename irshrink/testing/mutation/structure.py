"""Wrong nodes, edges, names, versions, subgraphs and functions."""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import Any

import onnx

from irshrink.testing.mutation.pick import NAMES, NUMBERS, OPERATORS, graphs, names_in, pick_node, pick_nodes


def node_operator(proto: Any, rng: random.Random, donors: Sequence[bytes]) -> None:
    node = pick_node(proto, rng)
    node.op_type = rng.choice(OPERATORS)
    if rng.random() < 0.1:
        node.domain = rng.choice(("", "ai.onnx", "ai.onnx.ml", "com.microsoft", "local", *NAMES))


def node_lost(proto: Any, rng: random.Random, donors: Sequence[bytes]) -> None:
    nodes = pick_nodes(proto, rng)
    del nodes[rng.randrange(len(nodes))]


def node_twice(proto: Any, rng: random.Random, donors: Sequence[bytes]) -> None:
    nodes = pick_nodes(proto, rng)
    copy = nodes.add()
    copy.CopyFrom(rng.choice(nodes[:-1]))
    if rng.random() < 0.6 and copy.output:
        copy.output[0] += "_"


def node_order(proto: Any, rng: random.Random, donors: Sequence[bytes]) -> None:
    """Two neighbours swapped."""
    nodes = pick_nodes(proto, rng)
    place = rng.randrange(len(nodes) - 1)
    first, second = (onnx.NodeProto.FromString(nodes[place + k].SerializeToString()) for k in (0, 1))
    nodes[place].CopyFrom(second)
    nodes[place + 1].CopyFrom(first)


def node_edges(proto: Any, rng: random.Random, donors: Sequence[bytes]) -> None:
    """Another input or output: any value, a later one for a cycle, none at all, or one more."""
    node = pick_node(proto, rng)
    ends = rng.choice((node.input, node.input, node.input, node.output))
    kind = rng.randrange(4)
    name = rng.choice(names_in(proto))
    if kind == 0 or not ends:
        ends.append(name)
    elif kind == 1:
        del ends[rng.randrange(len(ends))]
    else:
        ends[rng.randrange(len(ends))] = name


def node_foreign(proto: Any, rng: random.Random, donors: Sequence[bytes]) -> None:
    """A node of another model that reads values of this one."""
    donor = onnx.ModelProto.FromString(rng.choice(donors))
    node = rng.choice(donor.graph.node)
    host = rng.choice(graphs(proto))
    place = rng.randrange(len(host.node) + 1)
    known = [*(t.name for t in host.initializer), *(v.name for v in host.input)]
    known += [name for before in host.node[:place] for name in before.output]
    for index in range(len(node.input)):
        node.input[index] = rng.choice(known)
    for index in range(len(node.output)):
        node.output[index] = f"foreign_{rng.randrange(9999)}"
    host.node.insert(place, node)
    readers = [after for after in host.node[place + 1 :] if after.input]
    if node.output and readers and rng.random() < 0.8:
        reader = rng.choice(readers)
        reader.input[rng.randrange(len(reader.input))] = node.output[0]


def rename(proto: Any, rng: random.Random, donors: Sequence[bytes]) -> None:
    """A value, everywhere; or a node, a graph, or the model's own texts."""
    new = rng.choice(NAMES)
    if rng.random() < 0.4:
        rng.choice((pick_node(proto, rng), rng.choice(graphs(proto)))).name = new
        return
    old = rng.choice(names_in(proto))
    for graph in graphs(proto):
        for node in graph.node:
            node.input[:] = [new if name == old else name for name in node.input]
            node.output[:] = [new if name == old else name for name in node.output]
        for value in (*graph.input, *graph.output, *graph.value_info, *graph.initializer):
            value.name = new if value.name == old else value.name


def model_texts(proto: Any, rng: random.Random, donors: Sequence[bytes]) -> None:
    proto.producer_name = rng.choice(NAMES)
    proto.doc_string = rng.choice(NAMES)
    proto.metadata_props.add(key=rng.choice(NAMES), value=rng.choice(NAMES))


def opsets(proto: Any, rng: random.Random, donors: Sequence[bytes]) -> None:
    kind = rng.randrange(5)
    if kind == 0:
        proto.ir_version = rng.choice((*range(16), *NUMBERS))
    elif kind == 1 or not proto.opset_import:
        proto.opset_import.add(
            domain=rng.choice(("", "ai.onnx", "local", *NAMES)), version=rng.choice(NUMBERS)
        )
    elif kind == 2:
        del proto.opset_import[rng.randrange(len(proto.opset_import))]
    else:
        rng.choice(proto.opset_import).version = rng.choice((*range(30), *NUMBERS))


def graph_ports(proto: Any, rng: random.Random, donors: Sequence[bytes]) -> None:
    """Inputs, outputs and constants lost, doubled, or turned into each other."""
    graph = rng.choice(graphs(proto))
    field = rng.choice((graph.input, graph.output, graph.initializer, graph.value_info))
    kind = rng.randrange(4)
    if kind == 0:
        del field[rng.randrange(len(field))]
    elif kind == 1:
        field.append(rng.choice(field))
    elif kind == 2:
        graph.output.append(rng.choice((*graph.input, *graph.value_info)))
    else:
        tensor = rng.choice(graph.initializer)
        graph.input.append(onnx.helper.make_tensor_value_info(tensor.name, tensor.data_type, tensor.dims))


def subgraph(proto: Any, rng: random.Random, donors: Sequence[bytes]) -> None:
    """The graph inside an If of itself, perhaps many times over."""
    graph = proto.graph
    for _ in range(rng.choice((1, 1, 1, 2, 5, 20))):
        node = onnx.helper.make_node(
            "If", [rng.choice(names_in(proto))], [output.name for output in graph.output][:4]
        )
        inner = onnx.GraphProto(name="branch", node=graph.node, output=graph.output)
        node.attribute.extend(
            onnx.helper.make_attribute(f"{name}_branch", inner) for name in ("then", "else")
        )
        if len(inner.SerializeToString()) > 50_000:
            return
        del graph.node[:]
        graph.node.append(node)


def function(proto: Any, rng: random.Random, donors: Sequence[bytes]) -> None:
    """A node becomes a function, which may call itself, or the next of a chain that doubles each time."""
    node = pick_node(proto, rng)
    inputs, outputs = [f"i{k}" for k in range(len(node.input))], [f"o{k}" for k in range(len(node.output))]
    body = onnx.helper.make_node(node.op_type, inputs, outputs, domain=node.domain)
    body.attribute.extend(node.attribute)
    depth = rng.choice((1, 1, 2, 10, 30))
    for level in range(depth):
        last = level == depth - 1
        following = "f0" if last and rng.random() < 0.5 else f"f{level + 1}"
        calls = [onnx.helper.make_node(following, inputs, outputs, domain="local") for _ in range(2)]
        nodes = [body] if last and following != "f0" else calls
        imports = [onnx.helper.make_opsetid("", 17), onnx.helper.make_opsetid("local", 1)]
        proto.functions.append(
            onnx.helper.make_function("local", f"f{level}", inputs, outputs, nodes, imports)
        )
    node.op_type, node.domain = "f0", "local"
    del node.attribute[:]
    proto.opset_import.add(domain="local", version=1)
