"""A network of PyTorch that lives in the caller's process, as a file that everything else takes."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

from irshrink.errors import ModelError, ToolError
from irshrink.files import write_bytes


def from_torch(
    module: Any, example_inputs: tuple[Any, ...], path: Path | str, *, dynamic_shapes: Any = None
) -> Path:
    """Export a ``torch.nn.Module`` as a .pt2 file, which ``compile_model`` and every command take.

    Args:
        module: the network in evaluation mode, or a ``torch.export.ExportedProgram``.
        example_inputs: one tensor for each argument of ``forward``; their shapes become the model's.
        path: the .pt2 file to write.
        dynamic_shapes: as for ``torch.export.export``, where sizes stay open.

    Returns:
        ``path``.

    Raises:
        ToolError: PyTorch is not installed here.
        ModelError: the network is in training mode, or PyTorch cannot export it; the cause is in the message.
        OutputError: the file cannot be written.
    """
    try:
        import torch
    except ImportError as e:
        raise ToolError("PyTorch is not installed. Install it with pip install 'irshrink[pytorch]'.") from e
    path = Path(path)
    if path.suffix != ".pt2":
        raise ModelError(f"{path}: an exported program of PyTorch ends in .pt2. Name it so.")
    program = module
    if not isinstance(module, torch.export.ExportedProgram):
        program = _exported(torch, module, example_inputs, dynamic_shapes)
    with tempfile.TemporaryDirectory(prefix="irshrink-torch-") as folder:
        file = Path(folder) / "model.pt2"  # the archive holds its own name: the same bytes wherever it goes
        torch.export.save(program, file)
        write_bytes(path, file.read_bytes())
    return path


def _exported(torch: Any, module: Any, example_inputs: tuple[Any, ...], dynamic_shapes: Any) -> Any:
    name = type(module).__name__
    if not isinstance(module, torch.nn.Module):
        raise ModelError(f"from_torch takes a torch.nn.Module, this is a {name}.")
    if module.training:
        raise ModelError(
            f"{name} is in training mode, where Dropout and BatchNorm compute something else. Call .eval()."
        )
    try:
        return torch.export.export(module, tuple(example_inputs), dynamic_shapes=dynamic_shapes)
    except Exception as e:  # whatever forward() raises
        cause = (str(e).strip().splitlines() or [type(e).__name__])[0]
        raise ModelError(f"PyTorch cannot export {name}: {cause}") from e
