"""Levels from the logits of "above level k": definitions, edges, lengths, layouts, threads."""

import mpmath as mp
import numpy as np
import pytest

import softmap
from ops import pairwise as ops
from softmap._ordinal import ordinal_cross_entropy, ordinal_probabilities

each_dtype = pytest.mark.parametrize("dtype", [np.float32, np.float64])
each_model = pytest.mark.parametrize("conditional", [False, True])
LENGTHS = [*range(1, 20), 31, 33, 63, 64, 65, 129, 1100]


def logits(n_rows, n, dtype=np.float64, seed=0):
    return np.random.default_rng([seed, n]).normal(1, 3, (n_rows, n)).astype(dtype)


@each_dtype
@each_model
def test_probabilities_against_the_definition(backend, dtype, conditional):
    eps = np.finfo(dtype).eps
    for n in (1, 2, 3, 4, 9, 17, 40):
        z = logits(5, n, dtype)
        z[0], z[1] = z[0] * 10, z[1] - 20  # also where probabilities are small
        for row, got in zip(z, ordinal_probabilities(z, conditional=conditional), strict=True):
            want = ops.ordinal_probabilities(row, conditional)
            for k, (p, exact) in enumerate(zip(got, want, strict=True)):
                if conditional or k in (0, n):
                    bound = ops.ORDINAL_BOUNDS["product"] * (k + 1) * exact
                    bound += np.finfo(dtype).tiny / eps
                else:
                    bound = ops.ORDINAL_BOUNDS["difference"]
                assert abs(mp.mpf(float(p)) - exact) <= bound * eps, (n, k)


@each_dtype
def test_cross_entropy_against_the_definition(backend, dtype):
    rng = np.random.default_rng(1)
    for n in (1, 2, 4, 9, 17, 40):
        z, weights = logits(n + 1, n, dtype), rng.uniform(0, 2, n).astype(dtype)
        z[0] *= 20
        got = ordinal_cross_entropy(z, np.arange(n + 1), weights)
        assert got.dtype == dtype
        for level, row in enumerate(z):
            terms = [
                mp.mpf(float(w)) * ops.log_sigmoid(mp.mpf(float(x)) * (1 if level > k else -1))
                for k, (w, x) in enumerate(zip(weights, row, strict=True))
            ]
            exact = -mp.fsum(terms)
            bound = ops.ORDINAL_BOUNDS["loss"] * np.finfo(dtype).eps * exact
            assert abs(mp.mpf(float(got[level])) - exact) <= bound


@each_model
def test_a_row_is_the_same_in_any_company(backend, conditional):
    """Rows are computed some together, registers across their ends."""
    for n in LENGTHS:
        z = logits(75, n, np.float32)
        together = ordinal_probabilities(z, conditional=conditional)
        losses = ordinal_cross_entropy(z, np.arange(75) % (n + 1), np.ones(n, np.float32))
        assert together.shape == (75, n + 1)
        np.testing.assert_allclose(together.sum(-1), 1, rtol=1e-5)
        for i in (0, 1, 37, 74):
            alone = ordinal_probabilities(z[i], conditional=conditional)
            np.testing.assert_array_equal(together[i], alone)
            level = np.array(i % (n + 1))
            loss = ordinal_cross_entropy(z[i], level, np.ones(n, np.float32))
            np.testing.assert_array_equal(losses[i], loss)


@each_model
def test_threads_and_layouts_change_nothing(backend, conditional):
    z = logits(60_000, 4, np.float32)
    want = ordinal_probabilities(z, conditional=conditional)
    level, weights = np.arange(60_000) % 5, np.ones(4, np.float32)
    loss = ordinal_cross_entropy(z, level, weights)
    with softmap.threads(3):
        np.testing.assert_array_equal(ordinal_probabilities(z, conditional=conditional), want)
        np.testing.assert_array_equal(ordinal_cross_entropy(z, level, weights), loss)
    turned = np.asfortranarray(z)[::-1]
    got = ordinal_probabilities(turned, conditional=conditional)
    np.testing.assert_array_equal(got, want[::-1])


@each_model
def test_infinite_logits_and_nan_stay_where_they_are(backend, conditional):
    inf, nan = np.inf, np.nan
    z = np.array([[inf, inf, -inf], [-inf, -inf, -inf], [inf, inf, inf], [0.0, nan, 0.0]])
    p = ordinal_probabilities(np.repeat(z, 9, axis=0), conditional=conditional)[::9]
    np.testing.assert_array_equal(p[:3], [[0, 0, 1, 0], [1, 0, 0, 0], [0, 0, 0, 1]])
    assert p[3, 0] == 0.5
    assert np.isnan(p[3, 1])
    loss = ordinal_cross_entropy(z, np.array([2, 0, 3, 1]), np.ones(3))
    np.testing.assert_array_equal(loss, [0, 0, 0, nan])
    loss = ordinal_cross_entropy(z[[0, 3]], np.array([3, 1]), np.array([1.0, 0.0, 1.0]))
    np.testing.assert_array_equal(loss, [inf, 2 * np.log(2)])  # a weight of 0 is no question


def test_levels_that_are_none_and_rows_of_nothing(backend):
    z = logits(4, 3)
    loss = ordinal_cross_entropy(z, np.array([-1, 3, 4, -100]), np.ones(3))
    assert np.isnan(loss).tolist() == [True, False, True, True]
    for conditional in (False, True):
        np.testing.assert_array_equal(
            ordinal_probabilities(np.zeros((3, 0)), conditional=conditional), np.ones((3, 1))
        )
        nothing = ordinal_probabilities(np.zeros((0, 3)), conditional=conditional)
        assert nothing.shape == (0, 4)
    loss = ordinal_cross_entropy(np.zeros((2, 0)), np.array([0, 1]), np.ones(0))
    np.testing.assert_array_equal(loss, [0, np.nan])
