"""A metric that the user wrote: ``--metric file.py:function``."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import dataclass, field
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from irshrink.errors import RecipeError
from irshrink.metrics.metric import Observation

#: What a function may ask for, by the names of its parameters.
_OFFERED = ("outputs", "labels", "inputs", "expected")


@dataclass
class OwnMetric:
    """What a function makes of all samples at once.

    It is called with those of these arguments that it names: ``outputs`` (arrays ``[samples, ...]`` by
    output name), ``labels`` (``[samples, ...]`` or None), ``inputs`` and ``expected`` (the float model's
    outputs), both by name. It returns a number of which more is better, or less where the function has an
    attribute ``lower_is_better = True``.
    """

    title: ClassVar[str] = "Your metric"
    share: ClassVar[bool] = False
    name: str
    function: Callable[..., Any]
    falls: bool = False
    seen: list[Observation] = field(default_factory=list)

    def add(self, seen: Observation) -> None:
        self.seen.append(seen)

    def value(self) -> float:
        first = self.seen[0]
        offered = {
            "labels": None if first.label is None else np.stack([np.asarray(s.label) for s in self.seen]),
            "outputs": {n: np.stack([s.given[n] for s in self.seen]) for n in first.given},
            "inputs": {n: np.stack([s.inputs[n] for s in self.seen]) for n in first.inputs},
            "expected": {n: np.stack([s.expected[n] for s in self.seen]) for n in first.expected},
        }
        wanted = inspect.signature(self.function).parameters
        try:
            value = float(self.function(**{name: offered[name] for name in wanted}))
        except Exception as e:
            raise RecipeError(f"metric {self.name}: {type(e).__name__}: {e}") from e
        if not np.isfinite(value):
            raise RecipeError(f"metric {self.name}: returned {value}; it must be a finite number.")
        return value


def load_function(name: str) -> Callable[..., Any]:
    """The function of ``file.py:function``. The file is run: it is the user's own.

    Raises:
        RecipeError: there is no such file or function, it cannot be run, or it asks for something else.
    """
    path, _, function = name.rpartition(":")
    if not Path(path).is_file():
        raise RecipeError(f"metric '{name}': there is no file {path}. Write --metric file.py:function.")
    spec = spec_from_file_location("irshrink_metric", path)
    if spec is None or spec.loader is None:
        raise RecipeError(f"metric '{name}': {path} is not a Python file.")
    module = module_from_spec(spec)
    try:
        spec.loader.exec_module(module)
    except Exception as e:
        raise RecipeError(f"metric '{name}': {path} cannot be run: {type(e).__name__}: {e}") from e
    found = getattr(module, function, None)
    if not callable(found):
        raise RecipeError(f"metric '{name}': {path} has no function '{function}'.")
    unknown = [p for p in inspect.signature(found).parameters if p not in _OFFERED]
    if unknown:
        raise RecipeError(
            f"metric '{name}': its parameter '{unknown[0]}' is none of {', '.join(_OFFERED)}, which are what "
            "a metric may ask for."
        )
    chosen: Callable[..., Any] = found
    return chosen
