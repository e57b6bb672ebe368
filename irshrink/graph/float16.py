"""The wish for float16 arithmetic, in the model's metadata: no operator of ONNX says it without other types.

``irshrink.float16`` is a JSON list of the nodes that stay float32. Targets without such arithmetic compute
in float32 all the same.
"""

from __future__ import annotations

import json
from collections.abc import Iterable

import onnx_ir as ir

_KEY = "irshrink.float16"


def wish(model: ir.Model, keep: Iterable[str]) -> None:
    """Ask for float16 arithmetic in all nodes but those named."""
    model.metadata_props[_KEY] = json.dumps(sorted(keep))


def kept(model: ir.Model) -> frozenset[str] | None:
    """The names of nodes that stay float32; None where there is no such wish, or none that can be read."""
    try:
        names = json.loads(model.metadata_props[_KEY])
    except (KeyError, ValueError, RecursionError):
        return None
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        return None
    return frozenset(names)
