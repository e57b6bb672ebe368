"""Passes and backends by name."""

from __future__ import annotations

from importlib.metadata import EntryPoint

import pytest

from irshrink import registry
from irshrink.errors import RecipeError
from irshrink.passes.fold_constants import FoldConstants
from irshrink.registry import backend_table, make_pass, pass_class, pass_table


def test_options_are_converted_and_spelled_with_dashes_or_underscores() -> None:
    for key in ("max-growth-bytes", "max_growth_bytes"):
        assert make_pass("fold-constants", {key: 7}) == FoldConstants(max_growth_bytes=7)


def test_an_unknown_pass_names_the_nearest() -> None:
    with pytest.raises(RecipeError, match=r"unknown pass 'fold-constant'. Did you mean 'fold-constants'\?"):
        make_pass("fold-constant")


def test_an_unknown_option_names_the_nearest() -> None:
    with pytest.raises(
        RecipeError, match=r"pass 'raise-opset' has no option 'minimun'. Did you mean 'minimum'\?"
    ):
        make_pass("raise-opset", {"minimun": 17})


@pytest.mark.parametrize("value", ["17", 17.5, None])
def test_an_option_of_the_wrong_type(value: object) -> None:
    with pytest.raises(RecipeError, match="pass 'raise-opset': minimum: Expected `int`"):
        make_pass("raise-opset", {"minimum": value})


def test_an_option_out_of_range() -> None:
    with pytest.raises(RecipeError, match="pass 'raise-opset': minimum must be 17 to 23, not 3"):
        make_pass("raise-opset", {"minimum": 3})


def test_every_entry_of_the_tables_loads() -> None:
    for name in pass_table():
        assert pass_class(name).name == name
    assert backend_table()


def test_a_name_that_is_taken_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    twin = EntryPoint("fold-constants", "elsewhere:FoldConstants", "irshrink.passes")
    monkeypatch.setattr(registry, "entry_points", lambda group: [twin])
    pass_table.cache_clear()
    try:
        with pytest.raises(RecipeError, match=r"'fold-constants' of irshrink\.passes is registered twice"):
            pass_table()
    finally:
        pass_table.cache_clear()
