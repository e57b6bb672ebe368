"""Weights that become 0: how many, in which pattern, and what the others make up for."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx_ir as ir
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from irshrink.calibration.elimination import eliminate, factor
from irshrink.calibration.patches import weight_rows
from irshrink.errors import RecipeError
from irshrink.graph.edit import constant
from irshrink.graph.linear import is_linear
from irshrink.module import Module
from irshrink.passes.prune.sparse.allocation import allocated
from irshrink.passes.prune.sparse.fit import Wanted, admm, sparsegpt
from irshrink.passes.prune.sparse.pattern import Blocks, SomeOf, parse_pattern
from irshrink.pipeline import Pipeline
from irshrink.registry import make_pass
from irshrink.target import load_target
from irshrink.testing.small_net import RESIDUAL, outputs, small_net

Array = np.ndarray[Any, np.dtype[Any]]
FEW = settings(deadline=None, max_examples=20, derandomize=True)
PATTERNS = st.sampled_from(["1x1", "2x1", "1x3", "4x2"])


def wanted(seed: int, groups: int = 2, outputs: int = 4, inputs: int = 12) -> Wanted:
    """Weights, and correlated inputs."""
    rng = np.random.default_rng(seed)
    x = rng.standard_normal((groups, 40, 5)) @ rng.standard_normal((groups, 5, inputs))
    x += 0.3 * rng.standard_normal(x.shape)
    hessian = x.swapaxes(1, 2) @ x / 40 + 1e-3 * np.eye(inputs)
    return Wanted(rng.standard_normal((groups, outputs, inputs)), hessian)


def sparse(module: Module, **options: Any) -> Module:
    result = module.clone()
    Pipeline([make_pass("prune-weights", {"min_elements": 1, **options})]).run(result, load_target("host"))
    return result


def weights(module: Module) -> list[Array]:
    nodes = [node for node in module.graph if is_linear(node)]
    found = [constant(node.inputs[1]) for node in nodes]
    return [weight_rows(n, w) for n, w in zip(nodes, found, strict=True) if w is not None]


@FEW
@given(st.integers(0, 999), PATTERNS, st.floats(0, 0.99), st.booleans())
def test_as_many_blocks_go_as_were_asked_for(seed: int, text: str, share: float, each: bool) -> None:
    rng, pattern = np.random.default_rng(seed), parse_pattern(text)
    assert isinstance(pattern, Blocks)
    scores = np.square(rng.standard_normal((2, 5, 7)))
    [zeros] = allocated([scores], pattern, share, "output" if each else "layer")
    blocks = pattern.worth(zeros.keep(scores).astype(float))
    assert set(np.unique(blocks)) <= {0.0, 1.0}
    if each:
        per_row = -(-7 // pattern.inputs)
        assert ((blocks == 0).sum(axis=2) == round(share * per_row)).all()
    else:
        assert (blocks == 0).sum() == round(share * pattern.total(scores.shape))
    gone, stay = pattern.worth(scores)[blocks == 0], pattern.worth(scores)[blocks == 1]
    if not each and gone.size and stay.size:
        assert gone.max() <= stay.min()


@FEW
@given(st.integers(0, 999), st.sampled_from([(1, 2), (2, 4), (1, 4), (3, 5)]), st.integers(1, 11))
def test_n_of_m_holds_in_every_run(seed: int, pattern: tuple[int, int], inputs: int) -> None:
    scores = np.square(np.random.default_rng(seed).standard_normal((1, 3, inputs)))
    keep = SomeOf(*pattern).keep(scores)
    most, of = pattern
    for start in range(0, inputs, of):
        run = keep[:, :, start : start + of]
        assert (run.sum(axis=2) == min(most, run.shape[2])).all()


@FEW
@given(st.integers(0, 999), st.floats(0, 0.95))
def test_layers_that_compete_lose_the_share_in_all(seed: int, share: float) -> None:
    rng = np.random.default_rng(seed)
    scores = [np.square(rng.standard_normal((1, 3, n))) * size for n, size in ((4, 1.0), (9, 0.1))]
    zeros = allocated(scores, Blocks(), share, "global")
    assert sum(one.removed for one in zeros) == round(share * 39)


@pytest.mark.parametrize("method", [sparsegpt, admm])
@FEW
@given(st.integers(0, 999), st.sampled_from(["1x1", "2x2", "1:4"]), st.sampled_from([0.25, 0.5, 0.75]))
def test_fitted_weights_have_the_zeros_and_are_best_with_them(
    method: Any, seed: int, text: str, share: float
) -> None:
    asked, pattern = wanted(seed), parse_pattern(text)
    [zeros] = allocated([asked.rows], pattern, share, "layer")
    found = method(asked, zeros)
    removed = round(share * 2 * 4 * 12) if text != "1:4" else 2 * 4 * 9
    assert abs(int((found == 0).sum()) - removed) <= (0 if text != "2x2" else 3)
    keep = found != 0
    assert (asked.error(found) <= asked.error(np.where(keep, asked.rows, 0.0)) + 1e-9).all()
    np.testing.assert_array_equal(found, method(asked, zeros))


@FEW
@given(st.integers(0, 999))
def test_no_step_away_from_least_squares_is_better(seed: int) -> None:
    asked = wanted(seed)
    keep = np.asarray(np.random.default_rng(seed).random(asked.rows.shape) < 0.5)
    best = asked.on(keep)
    step = np.random.default_rng(seed + 1).standard_normal(best.shape) * keep
    assert (asked.error(best + 0.1 * step) >= asked.error(best) - 1e-12).all()
    assert (best[~keep] == 0).all()


def test_nothing_moves_when_everything_is_settled_as_wanted() -> None:
    asked = wanted(3)
    settled = eliminate(asked.rows, factor(asked.hessian), lambda column, j: column, block=5)
    np.testing.assert_allclose(settled, asked.rows)


@pytest.mark.parametrize("options", [{"method": "sparsegpt"}, {"method": "admm"}, {"method": "wanda"}])
def test_update_keeps_outputs_nearer(options: dict[str, Any]) -> None:
    net = small_net(RESIDUAL)
    plain = sparse(net, sparsity=0.5, method="magnitude")
    fitted = sparse(net, sparsity=0.5, update=True, **options)
    zeros = [int((w == 0).sum()) for w in weights(fitted)]
    assert zeros == [round(w.size / 2) for w in weights(net)]
    off = [float(np.square(outputs(one) - outputs(net)).mean()) for one in (plain, fitted)]
    assert off[1] < off[0]
    record = fitted.history[-1]
    assert record.stats["sparsity"] == pytest.approx(0.5, abs=0.01)
    changes = record.stats["layer_changes"]
    assert all(one["kind"] == "zeros" and 0 <= one["output_error"] < 1 for one in changes)


def test_the_share_of_all_layers_is_exact() -> None:
    net = small_net(RESIDUAL)
    total = sum(w.size for w in weights(net))
    for method in ("magnitude", "wanda"):
        found = sparse(net, sparsity=0.6, scope="global", method=method)
        assert sum(int((w == 0).sum()) for w in weights(found)) == round(0.6 * total)


def test_a_pattern_holds_in_every_layer() -> None:
    found = sparse(small_net(RESIDUAL), pattern="1:4", method="sparsegpt")
    for node in found.graph:
        weight = constant(node.inputs[1]) if is_linear(node) else None
        if weight is not None and weight.ndim == 4:
            channels_last = weight.transpose(0, 2, 3, 1).reshape(len(weight), -1)
            runs = channels_last[:, : channels_last.shape[1] // 4 * 4].reshape(len(weight), -1, 4)
            assert ((runs != 0).sum(axis=2) <= 1).all()


def test_other_variants_take_over_what_was_found() -> None:
    net = small_net(RESIDUAL)
    first = sparse(net, sparsity=0.5, method="sparsegpt")
    other = net.clone()
    other.calibration, other.taken_over = None, first.measured
    second = sparse(other, sparsity=0.5, method="sparsegpt")
    for a, b in zip(weights(first), weights(second), strict=True):
        np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"sparsity": 1.0}, "at least 0 and below 1"),
        ({"threshold": 0.1, "method": "wanda"}, "for the method 'magnitude' alone"),
        ({"pattern": "4:2"}, "keeps all weights"),
        ({"pattern": "two of four"}, "write 1x1 for single weights"),
        ({"pattern": "2:4", "scope": "global"}, "no threshold or scope"),
        ({"keep_dense": ["nothing"]}, "keep_dense: no node is named"),
    ],
)
def test_options_that_make_no_sense_are_refused(options: dict[str, Any], said: str) -> None:
    with pytest.raises(RecipeError, match=said):
        sparse(small_net(RESIDUAL), **options)


def test_data_is_asked_for_where_it_is_needed() -> None:
    net = small_net(RESIDUAL)
    net.calibration = None
    with pytest.raises(RecipeError, match="needs calibration data"):
        sparse(net, method="sparsegpt")
    assert isinstance(sparse(net).model, ir.Model)
