"""Loops that threads share, and the C they print as."""

from __future__ import annotations

import itertools

import pytest

from irshrink.backends.tvm.functions import Functions
from irshrink.backends.tvm.kernels.call import Input, KernelCall, Output
from irshrink.backends.tvm.printer import print_function
from irshrink.backends.tvm.tir import (
    Function,
    TirFunction,
    first_of_share,
    read,
    remainder,
    scalars,
    select,
    write,
)


def copy(name: str = "copy", shared: bool = True, joined: bool = False) -> TirFunction:
    with Function(name, "y = x.") as f:
        x, y, n = f.parameters(read("x", "int8"), write("y", "int8"), *scalars("n"))
        loop = f.share("i", n, remainder(n, 4) != 0 if joined else 0) if shared else f.loop("i", n)
        with loop as i:
            if shared:
                f.bind("begun", select(first_of_share(i), 1, 2))
            f.store(y, i, x[i])
    return f.result


def test_a_shared_loop_is_a_plain_one_for_one_thread() -> None:
    text = print_function(copy(joined=True))
    assert "for (int32_t i = 0; i < n; ++i) {" in text
    assert "begun = i == 0 ? 1 : 2;" in text
    assert "share" not in text


def test_a_shared_loop_is_one_part_for_several() -> None:
    text = print_function(copy(joined=True), threaded=True)
    assert "int32_t n, int32_t share, int32_t shares)" in text
    assert "i_begin = irs_share(n, n % 4 != 0, share, shares);" in text
    assert "i_end = irs_share(n, n % 4 != 0, share + 1, shares);" in text
    assert "for (int32_t i = i_begin; i < i_end; ++i) {" in text
    assert "begun = i == i_begin ? 1 : 2;" in text


def test_a_kernel_without_shared_loops_takes_no_share() -> None:
    assert "share" not in print_function(copy(shared=False), threaded=True)


@pytest.mark.parametrize(("threaded", "shared"), [*itertools.product((False, True), repeat=2)])
def test_what_is_called_with_a_share(threaded: bool, shared: bool) -> None:
    call = KernelCall(copy(shared=shared), (Input(), Output(), 3))
    functions = Functions(threaded=threaded)
    functions.name(call)
    assert functions.shared(call) == (threaded and shared) == ("irs_share(" in functions.text())
