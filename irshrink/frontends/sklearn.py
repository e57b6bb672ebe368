"""An estimator of scikit-learn that lives in the caller's process, as a file that everything else takes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from irshrink.errors import ModelError, ToolError
from irshrink.files import write_bytes


def from_sklearn(estimator: Any, path: Path | str, *, n_features: int | None = None) -> Path:
    """Convert a fitted estimator to ONNX, in this process, where its own libraries are.

    scikit-learn itself only has pickles, which irshrink never opens: this is for objects of your own.
    Pipelines may hold estimators of XGBoost and LightGBM.

    Args:
        estimator: a fitted estimator or pipeline.
        path: the .onnx file to write.
        n_features: number of columns of its input, where it does not know it.

    Returns:
        ``path``, for ``compile_model`` and every command.

    Raises:
        ToolError: skl2onnx is not installed here.
        ModelError: it cannot be converted; the cause is in the message.
        OutputError: the file cannot be written.
    """
    try:
        import skl2onnx  # noqa: F401
        import sklearn  # noqa: F401
    except ImportError as e:
        raise ToolError("skl2onnx is not installed. Install it with pip install 'irshrink[sklearn]'.") from e
    from irshrink.frontends.converters import convert_classical

    path = Path(path)
    if path.suffix != ".onnx":
        raise ModelError(f"{path}: what is written is an ONNX model. Let its name end in .onnx.")
    try:
        proto = convert_classical.convert_estimator(estimator, n_features)
    except Exception as e:  # whatever the converter of a step raises
        cause = (str(e).strip().splitlines() or [type(e).__name__])[0]
        raise ModelError(f"{type(estimator).__name__} cannot be converted to ONNX: {cause}") from e
    write_bytes(path, proto.SerializeToString(deterministic=True))
    return path


def is_xgboost(path: Path) -> bool:
    """Whether a .json or .ubj file begins as XGBoost's do."""
    with path.open("rb") as f:
        start = f.read(4096)
    return start.lstrip().startswith(b"{") and b"learner" in start


def is_lightgbm(path: Path) -> bool:
    """Whether a .txt file begins as LightGBM's do."""
    with path.open("rb") as f:
        start = f.read(64)
    return start.startswith((b"tree\nversion=", b"tree\r\nversion="))
