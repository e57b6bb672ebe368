"""PyTorch exported programs (.pt2) to ONNX: ``convert_pytorch.py MODEL OUTPUT.onnx OPTIONS``.

Runs apart from irshrink and imports nothing of it. A .pt2 is an archive of JSON, raw weights and example
inputs, but ``torch.export.load`` also takes archives with pickles, compiled libraries, and expressions that
SymPy evaluates as Python. Everything of that kind is refused here before PyTorch sees it.
"""

from __future__ import annotations

import json
import re
import sys
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

OPSET = 20

#: What an archive of ``torch.export.save`` holds, under one folder.
_ENTRY = re.compile(
    r"[^/]+/(archive_format|archive_version|byteorder|\.data/(version|serialization_id)|models/model\.json"
    r"|data/sample_inputs/model\.pt|data/weights/(weight_\d+|model_weights_config\.json)"
    r"|data/constants/(tensor_\d+|model_constants_config\.json))"
)
#: Operators of exported graphs; what PyTorch would find as ``torch.os.system`` is not among them.
_TARGET = re.compile(
    r"torch\.ops\.(aten|prim|prims|higher_order|quantized_decomposed|torchvision)\.\w+(\.\w+)?"
    r"|torch\.sym_\w+|_operator\.\w+|math\.\w+|"
)
_UNSAFE_TARGETS = re.compile(r"torch\.ops\.aten\.(from_file|_print)\b|_operator\.(attrgetter|methodcaller)")
#: Sizes as SymPy prints them: symbols, whole numbers, arithmetic, and calls of these functions.
_SYMBOL = re.compile(r"Symbol\('\w+'(, \w+=(True|False))*\)")
_EXPRESSION = re.compile(r"[\w+\-*/%(),<>=&|~ ]*")
_FUNCTIONS = frozenset(
    {
        "", "Abs", "Add", "And", "CeilDiv", "CeilToInt", "CleanDiv", "Eq", "Equality", "FloatTrueDiv",
        "FloorDiv", "FloorToInt", "Ge", "GreaterThan", "Gt", "Identity", "IntTrueDiv", "Integer", "Le",
        "LessThan", "Lt", "Max", "Min", "Mod", "ModularIndexing", "Mul", "Ne", "Not", "Or", "Pow",
        "PowByNatural", "PythonMod", "Rational", "RoundToInt", "StrictGreaterThan", "StrictLessThan",
        "ToFloat", "TruncToInt", "Unequality", "Where", "ceiling", "floor",
    }
)  # fmt: skip
_JSON_BYTES = 1 << 30
_EXPORT = "torch.export.save(torch.export.export(model.eval(), (x,)), 'model.pt2')"


class RefusedModelError(Exception):
    """What this script does not convert, as a sentence."""


def main(model: str, output: str, options: dict[str, str]) -> None:
    """Convert the file ``model`` into ``output``; ``options`` is empty."""
    require_safe(Path(model))
    forbid_pickle()
    import torch

    program = torch.export.load(model)
    exported = torch.onnx.export(program, (), dynamo=True, opset_version=OPSET, optimize=True, verbose=False)
    if exported is None:
        raise RefusedModelError("PyTorch's exporter gave nothing.")
    name_nodes(exported.model)
    exported.save(output)  # above 2 GB with its weights in a file beside it


def require_safe(path: Path) -> None:
    """Refuse an archive with anything that could run when it is loaded.

    Raises:
        RefusedModelError: names it.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            for name in archive.namelist():
                if _ENTRY.fullmatch(name) is None:
                    raise RefusedModelError(
                        f"the archive holds '{name[:80]}', which is no part of an exported program of "
                        f"PyTorch 2.9 or later. Save it again: {_EXPORT}."
                    )
            for info in archive.infolist():
                if info.filename.endswith(".json"):
                    _require_plain(_json(archive, info))
    except (zipfile.BadZipFile, UnicodeDecodeError, json.JSONDecodeError, RecursionError) as e:
        raise RefusedModelError("the archive is damaged. Save it again with torch.export.save.") from e


def _json(archive: zipfile.ZipFile, info: zipfile.ZipInfo) -> Any:
    if info.file_size > _JSON_BYTES:
        raise RefusedModelError(f"'{info.filename}' in the archive is larger than 1 GB.")
    return json.loads(archive.read(info))


def _require_plain(content: Any) -> None:
    for key, value in _entries(content):
        if key == "use_pickle" and value is True:
            raise RefusedModelError(
                "the archive keeps tensors as pickles, which can run any code, so irshrink never loads them. "
                "Export the model with plain dense tensors on the CPU."
            )
        if not isinstance(value, str):
            continue
        if key == "target" and (_TARGET.fullmatch(value) is None or _UNSAFE_TARGETS.match(value)):
            raise RefusedModelError(
                f"the graph calls '{value[:80]}', which is no operator of PyTorch's graphs."
            )
        if key == "expr_str" and not _is_size(value):
            raise RefusedModelError(
                f"a size in the graph is written as '{value[:80]}', which is no expression."
            )


def _is_size(text: str) -> bool:
    text = _SYMBOL.sub("s", text)
    called = set(re.findall(r"(\w*)\s*\(", text))
    return _EXPRESSION.fullmatch(text) is not None and called <= _FUNCTIONS


def _entries(content: Any) -> Iterator[tuple[str, Any]]:
    """Every key of every object, with its value, by a stack of its own: depth is the file's choice."""
    stack = [content]
    while stack:
        item = stack.pop()
        if isinstance(item, dict):
            yield from item.items()
            stack.extend(item.values())
        elif isinstance(item, list):
            stack.extend(item)


def forbid_pickle() -> None:
    """Let PyTorch read tensors alone: it falls back to unpickling anything when that fails."""
    import pickle

    import torch

    load = torch.load

    def load_tensors(*arguments: Any, **options: Any) -> Any:
        return load(*arguments, **{**options, "weights_only": True})

    def refuse(*arguments: Any, **options: Any) -> Any:
        raise RefusedModelError(
            "the archive holds a pickle, which can run any code, so irshrink never loads it."
        )

    torch.load = load_tensors
    torch._C._pickle_load_obj = refuse
    pickle.loads = pickle.load = refuse


def name_nodes(model: Any) -> None:
    """Call every node ``module/operator`` with the path of the module it was traced in, in place.

    The exporter records the path; a fused Conv and BatchNorm is called after the Conv, by its weight. What
    stands in the outermost ``forward`` is called after the traced operation.
    """
    taken: set[str] = set()
    for node in model.graph:
        layer = _weight_owner(node) or _module_path(node)
        base = f"{layer}/{node.op_type}" if layer else str(node.op_type)
        name, number = base, 0
        while name in taken:
            number += 1
            name = f"{base}_{number}"
        taken.add(name)
        node.name = name


def _module_path(node: Any) -> str:
    import ast

    recorded = node.metadata_props.get("pkg.torch.onnx.name_scopes", "[]")
    try:
        scopes = [str(scope) for scope in ast.literal_eval(recorded)]
    except (ValueError, SyntaxError):
        return ""
    return next((scope for scope in (*scopes[-2:-1], *scopes[-1:]) if scope), "")


def _weight_owner(node: Any) -> str:
    if node.op_type not in ("Conv", "ConvTranspose", "Gemm") or len(node.inputs) < 2:
        return ""
    weight = node.inputs[1]
    name = str(weight.name) if weight is not None and weight.is_initializer() else ""
    return name.removesuffix(".weight") if name.endswith(".weight") else ""


if __name__ == "__main__":
    try:
        main(sys.argv[1], sys.argv[2], json.loads(sys.argv[3]))
    except RefusedModelError as refusal:
        sys.exit(f"error: {refusal}")
