"""The unit that passes work on: one ONNX graph, its samples and what was done to it.

``onnx_ir.Model`` is the only mutable graph. It is cloned once at the entrance (:func:`load_module`
owns what it loads) and changed in place from then on.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from math import ceil, prod
from pathlib import Path
from typing import TYPE_CHECKING, Any

import onnx_ir as ir

from irshrink.errors import ModelError

if TYPE_CHECKING:
    from irshrink.samples import Samples


@dataclass(frozen=True)
class PassRecord:
    """One run of one pass, as the report tells it."""

    name: str
    changed: bool
    seconds: float
    options: dict[str, Any]
    stats: dict[str, Any]
    notes: tuple[str, ...] = ()


@dataclass
class Module:
    """A model under transformation.

    Attributes:
        model: the graph; static shapes, one opset domain plus ``com.microsoft`` if the input had it.
        calibration: samples that lossy passes may look at, or None.
        history: the passes that ran, in order.
        source: the file the model came from, for messages.
        external: the files beside it that held weights, sorted.
    """

    model: ir.Model
    calibration: Samples | None = None
    history: list[PassRecord] = field(default_factory=list)
    source: Path | None = None
    external: tuple[Path, ...] = ()

    @property
    def graph(self) -> ir.Graph:
        return self.model.graph

    def clone(self) -> Module:
        """A copy whose graph may be changed. Weights are shared: passes replace them, never write."""
        copy = self.model.clone()
        copy.meta.update(self.model.meta)  # clone() drops them
        return Module(copy, self.calibration, list(self.history), self.source, self.external)

    def text(self) -> str:
        """The graph in ONNX's textual syntax, weights abbreviated; what dumps and differences show."""
        from irshrink.graph.text import model_text

        return model_text(self.model)

    def to_proto(self) -> Any:
        """The model as ``onnx.ModelProto``."""
        return ir.to_proto(self.model)

    def save(self, path: Path) -> None:
        """Write the model as one file, complete or not at all."""
        from irshrink.files import write_bytes

        write_bytes(path, self.to_proto().SerializeToString(deterministic=True))


def module_from_text(text: str) -> Module:
    """Parse ONNX's textual syntax (``onnx.parser``) into a module; shapes are inferred."""
    import onnx

    proto = onnx.parser.parse_model(text)
    return Module(ir.from_proto(onnx.shape_inference.infer_shapes(proto)))


def load_module(path: Path | str) -> Module:
    """Read and check an ONNX file, with the weights that lie beside it.

    Raises:
        ModelError: the file is missing, truncated, not ONNX, breaks the specification, or refers to
            external data that is not there.
    """
    import google.protobuf.message
    import onnx

    path = Path(path)
    if path.is_dir():
        raise ModelError(f"{path}: is a folder. Give the path of an ONNX model.")
    if not path.is_file():
        raise ModelError(f"{path}: no such file. Give the path of an ONNX model.")
    try:
        proto = onnx.load(path, load_external_data=False)
    except (google.protobuf.message.DecodeError, UnicodeDecodeError, ValueError) as e:
        raise ModelError(
            f"{path}: not a readable ONNX model (truncated download, or another format?). "
            "Export it again, or check that the file is complete."
        ) from e
    if not proto.graph.node:
        raise ModelError(f"{path}: not an ONNX model, or one without any node.")
    _require_external_data(proto, path)
    try:
        onnx.checker.check_model(str(path))
    except onnx.checker.ValidationError as e:
        text = " ".join(str(e).replace("==> Context: Bad node spec for node.", "at").split()).rstrip(".")
        raise ModelError(f"{path}: breaks the ONNX specification: {text}. Export it again.") from e
    try:
        model = ir.load(path)
        external = _external_files(model)
        model = ir.external_data.load_to_model(model)
    except (ir.serde.SerdeError, ValueError, TypeError) as e:
        raise ModelError(f"{path}: cannot be read: {e.__cause__ or e}. Export it again.") from e
    _number_same_names(model)
    _open_negative_sizes(model)
    return Module(model, source=path, external=external)


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


def _open_negative_sizes(model: ir.Model) -> None:
    """Some exporters write -1 where others leave a dimension open."""
    for graph in model.graphs():
        made = (value for node in graph for value in node.outputs)
        for value in (*graph.inputs, *graph.outputs, *made):
            if value.shape is not None and any(isinstance(d, int) and d < 0 for d in value.shape):
                dims = [None if isinstance(d, int) and d < 0 else d for d in value.shape]
                value.shape = ir.Shape(dims)


def _external_files(model: ir.Model) -> tuple[Path, ...]:
    tensors = (value.const_value for graph in model.graphs() for value in graph.initializers.values())
    return tuple(sorted({Path(tensor.path) for tensor in tensors if isinstance(tensor, ir.ExternalTensor)}))


def _require_external_data(proto: Any, path: Path) -> None:
    """Name the first missing or short external data file before anything reads it."""
    from onnx.external_data_helper import uses_external_data

    for tensor in proto.graph.initializer:
        if not uses_external_data(tensor):
            continue
        info = {entry.key: entry.value for entry in tensor.external_data}
        file = path.parent / info.get("location", "")
        if not file.is_file():
            raise ModelError(
                f"{path}: the weights of '{tensor.name}' are in '{info.get('location', '')}', "
                "which is not beside the model. Copy that file next to it."
            )
        end = _end(tensor, info, path)
        if file.stat().st_size < end:
            raise ModelError(
                f"{path}: '{file.name}' has {file.stat().st_size} bytes, but '{tensor.name}' ends at {end}. "
                "The external data file is truncated; copy it again."
            )


def _end(tensor: Any, info: dict[str, str], path: Path) -> int:
    """Where the data of a tensor ends in its file: at least where its shape says, whatever is declared."""
    numbers = [info.get(key, "0") for key in ("offset", "length")]
    if not all(number.isdecimal() for number in numbers):
        raise ModelError(
            f"{path}: offset '{numbers[0]}' and length '{numbers[1]}' of the data of '{tensor.name}' "
            "must be numbers. Export it again."
        )
    needed = ceil(ir.DataType(tensor.data_type).itemsize * prod(tensor.dims))
    return int(numbers[0]) + max(int(numbers[1]), int(needed))
