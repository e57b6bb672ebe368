"""Where a drop is exactly what is allowed."""

from __future__ import annotations

import pytest

from irshrink.budgets import compared, exceeds


@pytest.mark.parametrize(
    ("drop", "limit", "over"),
    [
        (0.9934 - 0.9924, 0.001, False),  # ten answers of 10,000 as a float64 has them
        (0.9934 - 0.9923, 0.001, True),
        (0.3 - 0.2, 0.1, False),
        (0.0, 0.0, False),
        (1e-4, 0.0, True),
        (-0.01, 0.0, False),
    ],
)
def test_roundings_keep_a_budget(drop: float, limit: float, over: bool) -> None:
    assert exceeds(drop, limit) is over


def test_only_drops_have_a_standard_error() -> None:
    assert compared("drop", 0.01, 0.002) == pytest.approx(0.012)
    assert compared("flash_bytes", 10.0, 0.002) == 10.0
