"""The wish for weights in a Huffman code, in the metadata of their DequantizeLinear: ONNX has no such codes.

Targets that cannot decode them hold the weights as they do without.
"""

from __future__ import annotations

import onnx_ir as ir

_KEY = "irshrink.huffman"


def wish(node: ir.Node) -> None:
    """Ask for a code for what the node turns into real numbers."""
    node.metadata_props[_KEY] = "weights"


def is_wished(node: ir.Node) -> bool:
    return _KEY in node.metadata_props
