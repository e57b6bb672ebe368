"""Initializers that a file stores as ONNX's sparse tensors, made dense: what is read here knows no others."""

from __future__ import annotations

from math import prod
from typing import Any

import numpy as np

from irshrink.errors import ModelError
from irshrink.vetting import Parts

#: Bytes of all that become dense: a small file must not ask for any amount of memory.
LARGEST = 1 << 28


def make_dense(proto: Any) -> None:
    """Turn the sparse initializers of a ``ModelProto`` and its subgraphs into plain ones, in place.

    Raises:
        ModelError: half a sentence about the one that is too large, or whose places are not inside of it.
    """
    import onnx

    total = 0
    for graph in Parts(proto).graphs:
        for sparse in graph.sparse_initializer:
            name, dims = sparse.values.name, list(sparse.dims)
            if any(part.data_location == part.EXTERNAL for part in (sparse.values, sparse.indices)):
                raise ModelError(f"the sparse initializer '{name}' lies in another file; only dense ones may")
            values = onnx.numpy_helper.to_array(sparse.values)
            total += prod(dims) * values.dtype.itemsize
            if total > LARGEST:
                raise ModelError(f"the sparse initializer '{name}' of shape {dims} is too large to be dense")
            places = _flat(onnx.numpy_helper.to_array(sparse.indices), dims)
            if places is None or places.shape != values.shape:
                raise ModelError(f"the sparse initializer '{name}' has places that its shape {dims} has not")
            dense = np.zeros(prod(dims), values.dtype)
            dense[places] = values
            graph.initializer.append(onnx.numpy_helper.from_array(dense.reshape(dims), name))
        del graph.sparse_initializer[:]


def _flat(indices: Any, dims: list[int]) -> Any:
    """Places in a flat array, from [numbers] or [numbers, axes]; None where one is outside."""
    limits = [prod(dims)] if indices.ndim == 1 else dims
    columns = indices.reshape(len(indices), -1)
    if columns.shape[1] != len(limits) or (columns < 0).any() or (columns >= np.array(limits)).any():
        return None
    return columns[:, 0] if indices.ndim == 1 else np.ravel_multi_index(tuple(columns.T), dims)
