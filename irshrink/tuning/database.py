"""Databases of tuned schedules: readable files, one line a workload.

    format = 1
    target = "cortex-m4"
    measured = "instructions"

    [schedules]
    "ConvInt8 int8[1x8x8x64] ...": { kernel = "tile", style = "dsp", pixels = 2, channels = 2, cost = 51234 }

``kernel = "rule"`` says that what the rule chooses was the best.

The package ships one for each target it was tuned on, ``irshrink/schedules/<target>.toml``; a file that says
``like = "cortex-m4"`` stands for another target's. Users' own are read first. A shipped one says what whole
models gained by it::

    [gained]
    kws = 0.896

One that has this and no schedules says that the rule was compared with measurements, and stays.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

import msgspec

from irshrink.errors import RecipeError
from irshrink.recipe import read_toml
from irshrink.target import Target
from irshrink.validation import complaint

SHIPPED = Path(__file__).parents[1] / "schedules"

#: A schedule as plain values; ``kernel`` says whose it is, the rest are that family's own choices.
Schedule = Mapping[str, Any]
#: Says that none of the others was better than what the rule chooses.
BY_RULE: Schedule = {"kernel": "rule"}

_HEADER = """\
# Schedules that `irshrink tune` measured; `irshrink compile --schedules FILE` takes them.
"""


class Database(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Contents of a file.

    Attributes:
        format: version of the file's form.
        target: the core that was measured.
        measured: what the costs are: ``instructions``, ``cycles``, ``seconds``.
        gained: by model, what it costs tuned over what it costs by rule.
        schedules: by workload; ``cost`` beside the schedule is what was measured.
    """

    format: int = 1
    target: str
    measured: str
    gained: dict[str, float] = {}
    schedules: dict[str, dict[str, int | float | str | bool]] = {}

    def digest(self) -> str:
        """SHA-256 of its content."""
        return hashlib.sha256(database_text(self).encode("utf-8")).hexdigest()


@dataclass(frozen=True)
class Schedules:
    """What a backend goes by when it chooses kernels; where nothing is found, it chooses by rule.

    Attributes:
        given: by the name of an operator.
        databases: asked one after the other, by workload.
    """

    given: Mapping[str, Schedule] = field(default_factory=dict)
    databases: Sequence[Database] = ()

    def find(self, name: str, workload: str) -> Schedule | None:
        """The schedule of the operator ``name``, without its cost."""
        if name in self.given:
            return self.given[name]
        for database in self.databases:
            if workload in database.schedules:
                return {k: v for k, v in database.schedules[workload].items() if k != "cost"}
        return None

    def digest(self) -> str | None:
        """Of all databases; None where there are none."""
        if not self.databases:
            return None
        return hashlib.sha256("".join(d.digest() for d in self.databases).encode("ascii")).hexdigest()


def schedules_for(target: Target, file: str | Path | None = None) -> Schedules:
    """The user's database, if any, before the one that ships for the target, if any.

    Raises:
        RecipeError: see :func:`read_database`; or the file is for another target.
    """
    shipped = shipped_database(target.name)
    databases = [] if shipped is None else [shipped]
    if file is not None:
        own = read_database(Path(file))
        if own.target != target.name:
            raise RecipeError(
                f"{file}: schedules for {own.target}, not for {target.name}. Tune for this target: "
                f"irshrink tune MODEL --target {target.name} -o FILE."
            )
        databases.insert(0, own)
    return Schedules(databases=tuple(databases))


@cache
def shipped_database(target: str) -> Database | None:
    """The database that comes with irshrink for a target's name; None where there is none."""
    path = SHIPPED / f"{target}.toml"
    if not re.fullmatch(r"[\w.-]+", target) or not path.is_file():
        return None
    like = read_toml(path).get("like")
    return read_database(path) if like is None else shipped_database(str(like))


def read_database(path: Path) -> Database:
    """A database from its file.

    Raises:
        RecipeError: the file cannot be read, or is no database of this version.
    """
    values = read_toml(path)
    try:
        database = msgspec.convert(values, Database)
    except msgspec.ValidationError as e:
        raise RecipeError(f"{path}: not a database of schedules. {complaint(e, Database)}") from e
    if database.format != 1:
        raise RecipeError(
            f"{path}: a database of format {database.format}; this version of irshrink reads format 1."
        )
    return database


def database_text(database: Database) -> str:
    """The file's content: sorted, the same for the same content."""
    head = [f"{key} = {_value(getattr(database, key))}" for key in ("format", "target", "measured")]
    rows = [
        f"{_value(workload)} = {{ {', '.join(f'{k} = {_value(v)}' for k, v in schedule.items())} }}"
        for workload, schedule in sorted(database.schedules.items())
    ]
    gained = [f"{_key(model)} = {ratio}" for model, ratio in sorted(database.gained.items())]
    head += ["", "[gained]", *gained] if gained else []
    return "\n".join([_HEADER + head[0], *head[1:], "", "[schedules]", *rows]) + "\n"


def _key(name: str) -> str:
    """A TOML key."""
    return name if re.fullmatch(r"[\w-]+", name, re.ASCII) else _value(name)


def _value(value: Any) -> str:
    """A TOML value; JSON writes strings, numbers and booleans the same way."""
    return json.dumps(value, ensure_ascii=False)
