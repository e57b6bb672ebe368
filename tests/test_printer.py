"""Constants in C: the shortest text that reads back as the same float32."""

from __future__ import annotations

import math

import numpy as np
import pytest

from irshrink.backends.tvm.printer import c_float


@pytest.mark.parametrize("value", [0.1, 1.0, -0.0, 1e-40, 3.4e38, 12582912.0, 2.0**-23])
def test_constants_read_back_exactly(value: float) -> None:
    text = c_float(value)
    assert text.endswith("f")
    assert np.float32(text[:-1]) == np.float32(value)
    assert math.copysign(1, float(text[:-1])) == math.copysign(1, value)


def test_what_has_no_decimal_has_a_builtin() -> None:
    assert c_float(math.inf) == "__builtin_inff()"
    assert c_float(-math.inf) == "-__builtin_inff()"
    assert c_float(math.nan) == '__builtin_nanf("")'
