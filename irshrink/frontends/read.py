"""The door for commands: a model of any format in, a module out."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from pathlib import Path

import onnx_ir as ir

from irshrink.class_names import CLASSES, COLUMNS
from irshrink.console import Progress
from irshrink.errors import ModelError
from irshrink.external import load_weights
from irshrink.frontends.convert import ImportedModel, import_model
from irshrink.frontends.detect import why_onnx
from irshrink.frontends.table import ONNX
from irshrink.module import Module, load_module


def read_model(
    path: Path | str, options: Mapping[str, str] | None = None, progress: Progress = lambda _: None
) -> tuple[Module, ImportedModel]:
    """Read a model of any format (docs/frontends.md).

    Args:
        options: ``--frontend KEY=VALUE`` as a dictionary.

    Returns:
        The module, and where it came from. For converted models ``ImportedModel.path`` is gone by then.

    Raises:
        ModelError, RecipeError, ToolError: see :func:`irshrink.frontends.convert.import_model` and
            :func:`irshrink.module.load_module`.
    """
    path = Path(path)
    with tempfile.TemporaryDirectory(prefix="irshrink-import-") as folder:
        imported = import_model(path, Path(folder), options)
        if imported.frontend is ONNX:
            return _load_onnx(path), imported
        progress("reading the converted model")
        try:
            module = load_module(imported.path)
        except ModelError as e:
            reason = str(e).removeprefix(f"{imported.path}: ")
            title = imported.frontend.title
            raise ModelError(f"{path}: what was converted from {title} cannot be used: {reason}") from e
        load_weights(module.model)
    module.source, module.external = path, ()
    forget_the_converter(module.model)
    return module, imported


def _load_onnx(path: Path) -> Module:
    try:
        return load_module(path)
    except ModelError as e:
        if not why_onnx(path):
            raise
        raise ModelError(f"{e}{why_onnx(path)}") from e


def forget_the_converter(model: ir.Model) -> None:
    """Drop what converters write about themselves, in place: comments, stack traces with paths, times.

    What stays decides the numbers, or names a layer or a class. The same model then gives the same bytes
    anywhere.
    """
    for key in [key for key in model.metadata_props if not key.startswith((CLASSES, COLUMNS))]:
        del model.metadata_props[key]
    model.doc_string = None
    for graph in model.graphs():
        graph.doc_string = None
        graph.metadata_props.clear()
        for node in graph:
            node.doc_string = None
            node.metadata_props.clear()
        made = (value for node in graph for value in node.outputs)
        for value in (*graph.inputs, *graph.outputs, *made, *graph.initializers.values()):
            value.doc_string = None
            value.metadata_props.clear()
