"""The unit that passes work on: one ONNX graph, its samples and what was done to it.

``onnx_ir.Model`` is the only mutable graph. It is cloned once at the entrance (:func:`load_module`
owns what it loads) and changed in place from then on.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import onnx_ir as ir

from irshrink.calibration.measured import Measured
from irshrink.class_names import drop_zipmaps, index_class_names
from irshrink.errors import ModelError, NativeError
from irshrink.external import map_weights, require_external_data
from irshrink.files import why_no_file
from irshrink.graph.shapes import proto_without_weights
from irshrink.isolation.client import StepError, call
from irshrink.sparse_initializers import make_dense
from irshrink.vetting import PROTOBUF_LIMIT, vet

if TYPE_CHECKING:
    from irshrink.samples import Samples

Array = np.ndarray[Any, np.dtype[Any]]


@dataclass(frozen=True)
class PassRecord:
    """One run of one pass, as the report tells it."""

    name: str
    changed: bool
    seconds: float
    options: dict[str, Any]
    stats: dict[str, Any]
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Original:
    """A model as it was before passes took things away from it: what repairs compare with.

    Attributes:
        module: that model; values keep their names when a model shrinks.
        kept: for values that lost channels the indices that are left, by name: one array for each axis, None
            for an axis that is whole.
    """

    module: Module
    kept: dict[str, tuple[Array | None, ...]] = field(default_factory=dict)

    def without(self, left: Mapping[str, tuple[Array | None, ...]]) -> Original:
        """The same after values lost more: of what was left of them, the indices that are left now."""
        kept = dict(self.kept)
        for name, axes in left.items():
            before = kept.get(name, (None,) * len(axes))
            kept[name] = tuple(
                old if new is None else new if old is None else old[new]
                for old, new in zip(before, axes, strict=True)
            )
        return Original(self.module, kept)

    def restricted(self, name: str, array: Array) -> Array:
        """Of a value of the original, the part that is left."""
        for axis, left in enumerate(self.kept.get(name, ())):
            array = array if left is None else np.take(array, left, axis)
        return array


@dataclass
class Module:
    """A model under transformation.

    Attributes:
        model: the graph; static shapes, one opset domain plus ``com.microsoft`` if the input had it.
        calibration: samples that lossy passes may look at, or None.
        history: the passes that ran, in order.
        source: the file the model came from, for messages.
        external: the files beside it that held weights, sorted.
        measured: what calibration found on this module.
        taken_over: what it found on another variant of the model, used in place of the samples.
        original: the model before the first pass that made it smaller, for repairs; None before that.
    """

    model: ir.Model
    calibration: Samples | None = None
    history: list[PassRecord] = field(default_factory=list)
    source: Path | None = None
    external: tuple[Path, ...] = ()
    measured: Measured = field(default_factory=Measured)
    taken_over: Measured | None = None
    original: Original | None = None

    @property
    def graph(self) -> ir.Graph:
        return self.model.graph

    def clone(self) -> Module:
        """A copy whose graph may be changed. Weights are shared: passes replace them, never write."""
        copy = self.model.clone()
        copy.meta.update(self.model.meta)  # clone() drops them
        return Module(
            copy,
            self.calibration,
            list(self.history),
            self.source,
            self.external,
            taken_over=self.taken_over,
            original=self.original,
        )

    def keep_original(self) -> Original:
        """Remember the model as it is now, unless an earlier pass did so, and return what is remembered."""
        if self.original is None:
            self.original = Original(self.clone())
        return self.original

    def text(self) -> str:
        """The graph in ONNX's textual syntax, weights abbreviated; what dumps and differences show."""
        from irshrink.graph.text import model_text

        return model_text(self.model)

    def to_proto(self) -> Any:
        """The model as ``onnx.ModelProto``; weights that lie beside it are references to their files."""
        return ir.to_proto(self.model)

    def save(self, path: Path) -> None:
        """Write the model as one file, or where that is large with its weights in ``NAME.data`` beside it.

        Raises:
            OutputError: the folder cannot be written, or the model's own weights would be overwritten.
        """
        from irshrink.save import save_model

        save_model(self.model, path)


def module_from_text(text: str) -> Module:
    """Parse ONNX's textual syntax (``onnx.parser``) into a module; shapes are inferred."""
    import onnx

    proto = onnx.parser.parse_model(text)
    return Module(ir.from_proto(onnx.shape_inference.infer_shapes(proto)))


def load_module(path: Path | str) -> Module:
    """Read and check an ONNX file. Weights that lie beside it stay there and are mapped when read.

    The file may come from anywhere: sizes and places are checked before any library works on it
    (docs/security.md).

    Raises:
        ModelError: the file is missing, truncated, not ONNX, breaks the specification, or refers to
            external data that is not there or not in its folder.
    """
    path = Path(path)
    proto = _parse(path)
    try:
        vet(proto)
        make_dense(proto)
    except ModelError as e:
        raise ModelError(f"{path}: {e}. Export it again.") from e
    require_external_data(proto, path)
    try:
        call("check-file", os.fsencode(path.absolute()))
    except StepError as e:
        text = " ".join(str(e).replace("==> Context: Bad node spec for node.", "at").split()).rstrip(".")
        raise ModelError(f"{path}: breaks the ONNX specification: {text}. Export it again.") from e
    except NativeError as e:
        raise ModelError(f"{path}: {e} Export it again.") from e
    try:
        drop_zipmaps(proto)
        model = ir.from_proto(proto)
        index_class_names(model)
        proto_without_weights(model)  # what can be read but neither copied nor written is found out here
    except Exception as e:  # a wrong attribute can raise anything from inside the library
        raise ModelError(f"{path}: cannot be read: {e.__cause__ or e}. Export it again.") from e
    external = map_weights(model, path.parent)
    _number_same_names(model)
    _open_what_is_not_known(model)
    for value in (*model.graph.inputs, *model.graph.outputs):
        if value.type is None:
            raise ModelError(f"{path}: '{value.name}' has a type that is not known here. Export it again.")
    return Module(model, source=path, external=external)


def _parse(path: Path) -> Any:
    """The file as ``onnx.ModelProto``, not checked at all."""
    import google.protobuf.message
    import onnx

    if not path.is_file():
        raise ModelError(f"{path}: {why_no_file(path)}. Give the path of an ONNX model.")
    if path.stat().st_size > PROTOBUF_LIMIT:
        raise ModelError(
            f"{path}: is larger than the 2 GB that an ONNX file may have. Export it with external data."
        )
    try:
        proto = onnx.ModelProto.FromString(path.read_bytes())
    except (google.protobuf.message.DecodeError, UnicodeDecodeError, ValueError) as e:
        raise ModelError(
            f"{path}: not a readable ONNX model (truncated download, or another format?). "
            "Export it again, or check that the file is complete."
        ) from e
    if not proto.graph.node:
        raise ModelError(f"{path}: not an ONNX model, or one without any node.")
    return proto


def _number_same_names(model: ir.Model) -> None:
    """Give nodes of one name a number each: ONNX's checker lets them pass, ONNX Runtime does not."""
    from irshrink.graph.edit import free_name

    nodes = [node for node in model.graph.all_nodes() if node.name]
    taken = {node.name for node in nodes}
    seen: set[str | None] = set()
    for node in nodes:
        if node.name in seen:
            node.name = free_name(str(node.name), taken)
            taken.add(node.name)
        seen.add(node.name)


def _open_what_is_not_known(model: ir.Model) -> None:
    """Some exporters write -1 where others leave a dimension open, and type 0 where others say nothing."""
    for graph in model.graphs():
        made = (value for node in graph for value in node.outputs)
        for value in (*graph.inputs, *graph.outputs, *made):
            if value.shape is not None and any(isinstance(d, int) and d < 0 for d in value.shape):
                dims = [None if isinstance(d, int) and d < 0 else d for d in value.shape]
                value.shape = ir.Shape(dims)
            if isinstance(value.type, ir.TensorType) and value.type.dtype == ir.DataType.UNDEFINED:
                value.type = None
            if value.type is None:
                value.shape = None
