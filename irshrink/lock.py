"""``recipe.lock``: everything needed to get the same bytes again, and nothing else.

It holds no path and no time, so that the same build writes the same lock anywhere. Data is named by the
digest of its content. ``irshrink compile model.onnx --recipe build/recipe.lock --calibration samples.npz``
builds again and says what differs.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import msgspec

from irshrink.errors import RecipeError
from irshrink.files import sha256
from irshrink.frontends.options import reproducible_options
from irshrink.module import PassRecord
from irshrink.pipeline import Pass, options_of
from irshrink.recipe import Recipe, read_toml
from irshrink.validation import complaint

LOCK_NAME = "recipe.lock"

#: Packages whose version can change a byte of the output, or an instruction count.
PACKAGES = (
    "irshrink", "apache-tvm", "apache-tvm-ffi", "numpy", "onnx", "onnx-ir", "onnxruntime", "onnxscript",
    "pillow", "scipy", "unicorn", "ziglang",
)  # fmt: skip

#: Of data the lock has digests; time is this machine's, and no byte depends on it.
_LEFT_OUT = ("calibration", "eval", "schedules", "latency")

_HEADER = """\
# Written by irshrink. The same model and data with this file give the same bytes:
#     irshrink compile MODEL --recipe recipe.lock --calibration DATA -o build/
"""


class Lock(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Contents of a lock.

    Attributes:
        lock: version of this format.
        model_sha256: of the model as it was given: of its file, or of the names and digests of its files.
        data: SHA-256 by role: ``calibration`` and ``eval`` of the samples' content, ``weights`` of the
            model's external data, ``target`` of the user's own target or board file, ``schedules`` of the
            databases that kernels were chosen by, ``plan`` of the ``plan.json`` that the recipe comes from.
        versions: by package.
        converter: versions of what turned another framework's model into ONNX, by distribution.
        recipe: the resolved recipe without paths.
    """

    lock: int = 1
    model_sha256: str
    data: dict[str, str] = {}
    versions: dict[str, str] = {}
    converter: dict[str, str] = {}
    recipe: dict[str, Any] = {}


def make_lock(
    recipe: Recipe,
    model_sha256: str,
    data: Mapping[str, str | None],
    converter: Mapping[str, str] | None = None,
) -> Lock:
    """The lock of a build that was just made.

    Args:
        data: digest by role of samples and external weights, None where there are none.
        converter: versions of what turned the model into ONNX.
    """
    plain = recipe.to_dict(defaults=True)
    for key in _LEFT_OUT:
        plain.pop(key, None)
    plain["frontend"] = reproducible_options(recipe.frontend)
    if not plain["frontend"]:
        del plain["frontend"]
    if recipe.steps is None:
        plain["quantize"] = recipe.quantization
    digests = {role: digest for role, digest in data.items() if digest is not None}
    if recipe.metric is not None and ":" in recipe.metric:
        file, _, function = recipe.metric.rpartition(":")
        plain["metric"] = f"{Path(file).name}:{function}"
        digests["metric"] = sha256(Path(file))
    if recipe.target.endswith(".toml"):
        plain["target"] = Path(recipe.target).name
        digests["target"] = sha256(Path(recipe.target))
    return Lock(
        model_sha256=model_sha256,
        data=dict(sorted(digests.items())),
        versions=installed_versions(),
        converter=dict(sorted((converter or {}).items())),
        recipe=dict(sorted(plain.items())),
    )


def settled(recipe: Recipe, passes: Sequence[Pass], history: Sequence[PassRecord]) -> Recipe:
    """The recipe with what passes that search settled on in place of the search; else the recipe as it is.

    Args:
        passes: what the recipe stands for.
        history: what ran; such a pass has put its ``step`` into its statistics.
    """
    found = {record.name: record.stats["step"] for record in history if "step" in record.stats}
    if not any(step.name in found for step in passes):
        return recipe
    steps = tuple(found.get(one.name) or {"pass": one.name, **_given(one)} for one in passes)
    return msgspec.structs.replace(recipe, quantize=None, keep_float=(), steps=steps)


def _given(step: Pass) -> dict[str, Any]:
    """The options of a pass that are not its defaults."""
    defaults = options_of(type(step)())
    return {key: value for key, value in options_of(step).items() if value != defaults[key]}


def lock_text(lock: Lock) -> str:
    """The file's content. The format's version is written even though it is the default."""
    import tomli_w

    return _HEADER + tomli_w.dumps({"lock": lock.lock, **msgspec.to_builtins(lock)})


def read_lock(path: Path) -> Lock | None:
    """The lock in a TOML file; None when the file is an ordinary recipe.

    Raises:
        RecipeError: the file cannot be read, or a lock of another form.
    """
    values = read_toml(path)
    if "lock" not in values:
        return None
    try:
        lock = msgspec.convert(values, Lock)
    except msgspec.ValidationError as e:
        raise RecipeError(f"{path}: not a lock of this version of irshrink. {complaint(e, Lock)}") from e
    if lock.lock != 1:
        raise RecipeError(f"{path}: a lock of format {lock.lock}; this version of irshrink reads format 1.")
    return lock


def require_model(lock: Lock, path: Path, model_sha256: str) -> None:
    """Refuse to replay a lock on another model.

    Raises:
        RecipeError: the digests differ.
    """
    if lock.model_sha256 != model_sha256:
        raise RecipeError(
            f"{path}: belongs to a model with SHA-256 {lock.model_sha256[:12]}..., the one given has "
            f"{model_sha256[:12]}.... Give the same model, or write a recipe for this one."
        )


def differences(old: Lock, new: Lock) -> list[str]:
    """One sentence for each thing that differs and may change the bytes."""
    found = []
    for role in sorted({*old.data, *new.data}):
        if old.data.get(role) != new.data.get(role):
            gone = role == "plan" and role not in new.data
            how = "is missing" if gone else "differs from what the lock was made with"
            found.append(f"{_ROLES.get(role, f'the {role} data')} {how}")
    for name in sorted({*old.versions, *new.versions}):
        before, after = old.versions.get(name, "none"), new.versions.get(name, "none")
        if before != after:
            found.append(f"{name} is {after}, the lock was made with {before}")
    for name in sorted({*old.converter, *new.converter}):
        before, after = old.converter.get(name, "none"), new.converter.get(name, "none")
        if before != after:
            found.append(f"the converter's {name} is {after}, the lock was made with {before}")
    for key in sorted({*old.recipe, *new.recipe}):
        if old.recipe.get(key) != new.recipe.get(key):
            found.append(f"'{key}' was {old.recipe.get(key)}, now it is {new.recipe.get(key)}")
    return found


#: What messages call data that is not samples.
_ROLES = {
    "weights": "the model's external data",
    "target": "the target file",
    "schedules": "the database of schedules",
    "metric": "the file of the metric",
    "plan": "plan.json, the evidence of the search,",
}


def installed_versions() -> dict[str, str]:
    """Version by package, of those in :data:`PACKAGES` that are installed."""
    found = {}
    for name in PACKAGES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found
