"""Cycles by kind of instruction, per core, as its manual gives them: ``irshrink/cycles/<target>.toml``.

They weight the instructions that an emulator counts. The sum is an *estimate of cycles*: wait states of
flash, caches and interrupts are left out, so it ranks kernels on a core and is no latency.
"""

from __future__ import annotations

import re
from functools import cache
from pathlib import Path

import msgspec

from irshrink.errors import RecipeError
from irshrink.recipe import read_toml
from irshrink.validation import complaint

TABLES = Path(__file__).parents[1] / "cycles"


class CycleTable(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Cycles of what takes more than one.

    Attributes:
        source: the document they are from.
        load: of one register; 1 where a load or store came right before.
        store: of one register.
        multiple: of loads and stores of several registers, beside one for each.
        refill: of the pipeline, added to a taken branch.
        divide, accumulate, multiply_long: of integer division, MLA and MLS, and products of 64 bits.
        float_accumulate: of VMLA, VMLS, VFMA and their like.
        float_divide: of VDIV and VSQRT.
    """

    source: str
    load: int = 1
    store: int = 1
    multiple: int = 1
    refill: int = 0
    divide: int = 1
    accumulate: int = 1
    multiply_long: int = 1
    float_accumulate: int = 1
    float_divide: int = 1


@cache
def cycle_table(target: str) -> CycleTable | None:
    """The table of a target's name; None where there is none.

    Raises:
        RecipeError: the file is not a table.
    """
    path = TABLES / f"{target}.toml"
    if not re.fullmatch(r"[\w.-]+", target) or not path.is_file():
        return None
    try:
        return msgspec.convert(read_toml(path), CycleTable)
    except msgspec.ValidationError as e:
        raise RecipeError(f"{path}: {complaint(e, CycleTable)}") from e
