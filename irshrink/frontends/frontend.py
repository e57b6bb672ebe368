"""What is known about one format before anything of its framework is imported."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from irshrink.errors import RecipeError, nearest

#: Keys of ``--frontend KEY=VALUE`` that every format with a converter takes: where and how long it runs.
COMMON_OPTIONS = {
    "python": "interpreter that has the framework (instead of $IRSHRINK_CONVERTER_PYTHON or irshrink's own)",
    "seconds": "time limit of the conversion (default 900)",
}


@dataclass(frozen=True)
class Frontend:
    """One format that a model can come in. Exactly one of ``script`` and ``reader`` is given.

    Attributes:
        name: what recipes and reports call it.
        title: what sentences call it.
        suffixes: lower case, with the dot; of files, or of folders when ``marker`` is given.
        marker: the file inside a folder that makes the folder a model, such as ``saved_model.pb``.
        claims: ``module:function`` that takes a path with one of the suffixes and says whether it is of this
            format, where a suffix alone does not tell (``.json``, ``.txt``).
        extra: the extra of irshrink that installs the converter.
        needs: distributions that the converter imports; ``a|b`` is either. Their versions are recorded.
        script: file in ``converters/``, run as ``python SCRIPT MODEL OUTPUT.onnx OPTIONS`` (see
            :mod:`irshrink.frontends.process`).
        reader: module of ours with ``read(path, options) -> onnx.ModelProto``, and optionally
            ``files(path, options) -> tuple[Path, ...]``: every file that makes up the model.
        options: help by key of ``--frontend KEY=VALUE``; ``a|b`` style choices are the reader's business.
        path_options: those of ``options`` that are paths.
    """

    name: str
    title: str
    suffixes: tuple[str, ...] = ()
    marker: str = ""
    claims: str = ""
    extra: str = ""
    needs: tuple[str, ...] = ()
    script: str = ""
    reader: str = ""
    options: Mapping[str, str] = field(default_factory=dict)
    path_options: tuple[str, ...] = ()

    def known_options(self) -> dict[str, str]:
        """Help by key of everything ``--frontend`` may say for this format."""
        return {**self.options, **(COMMON_OPTIONS if self.script else {})}

    def require_options(self, given: Mapping[str, str], path: Path) -> None:
        """Refuse keys that this format does not have.

        Raises:
            RecipeError: names the nearest key.
        """
        known = self.known_options()
        for key in given:
            if key in known:
                continue
            if not known:
                raise RecipeError(f"--frontend {key}: {path} is {self.title}, which takes no such options.")
            raise RecipeError(f"--frontend: {self.title} has no option '{key}'.{nearest(key, known)}")


@dataclass(frozen=True)
class Refusal:
    """Files that look like a model and are none that may be read.

    Attributes:
        suffixes: lower case, with the dot.
        reason: the sentence after ``path: ``; says what to do.
    """

    suffixes: tuple[str, ...]
    reason: str
