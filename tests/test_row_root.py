"""row_root: the roots against 50 digits, where there are none, layouts, threads, errors."""

import mpmath
import numpy as np
import pytest

import softmap
from ops.softmax import DTYPES, HALF_DTYPES, ROOT_BOUND, make_row, root_value

INF, NAN = np.inf, np.nan
FUNCTIONS = ("sigmoid_sum", "divergence")
each_function = pytest.mark.parametrize("function", FUNCTIONS)


def is_root(function, row, u, target, bound):
    """The value changes sides within the bound around u."""
    size = max(1, abs(u)) if function == "sigmoid_sum" else u
    low, high = (root_value(function, row, u + s * bound * size) for s in (-1, 1))
    return (low <= target <= high) or (high <= target <= low)


@each_function
@pytest.mark.parametrize("dtype", [*DTYPES, *HALF_DTYPES])
@pytest.mark.parametrize("domain", ["ordinary", "wide", "offset", "one dominates", "descending"])
def test_row_root_is_a_root(backend, domain, dtype, function):
    for width in (2, 5, 17, 64, 65):
        row = make_row(domain, width, dtype)
        ties = int((row == row.max()).sum())
        limit = width if function == "sigmoid_sum" else np.log(width / ties)
        for share in (0.01, 0.3, 0.9):
            u = softmap.row_root(row, function, share * limit)
            assert u.dtype == (np.float64 if dtype == "float64" else np.float32)
            with mpmath.workdps(50):
                target = mpmath.mpf(float(share * limit))
                assert is_root(function, row, mpmath.mpf(float(u)), target, ROOT_BOUND[dtype]), (
                    width
                )


def test_row_root_between_plateaus(backend):
    """Newton's method goes to and fro for ever between the plateaus of the first row."""
    row = [4.496074, -3.348444, -11.198498, 6.8551182, -3.2821088, 12.761335]
    row += [-4.9999824, 6.749158, -3.6942892, 0.663087]
    for k in (2.0, 2.5, 3.0):
        t = softmap.row_root(row, "sigmoid_sum", k)
        assert (1 / (1 + np.exp(-(np.array(row) + t)))).sum() == pytest.approx(k, rel=1e-13)
    rows = np.random.default_rng(0).normal(0, 12, (20_000, 7))
    for k in (1.5, 2.0, 5.0):
        t = softmap.row_root(rows, "sigmoid_sum", k)
        with np.errstate(over="ignore"):
            total = (1 / (1 + np.exp(-(rows + t[:, None])))).sum(axis=1)
        np.testing.assert_allclose(total, k, rtol=1e-12)


@each_function
def test_row_root_where_there_is_none(backend, function):
    x = np.tile([1.0, 0.0, 1.0, -2.0], (5, 1))
    nowhere = [0.0, -1.0, NAN, INF, 4.0 if function == "sigmoid_sum" else NAN]
    assert np.isnan(softmap.row_root(x, function, nowhere)).all()
    bad = [[NAN, 0.0], [INF, 0.0], [-INF, -INF], [1e308, -1e308]]
    assert np.isnan(softmap.row_root(bad, function, 0.5)).all()
    assert softmap.row_root(np.zeros((3, 0)), function, 0.5).shape == (3,)
    assert np.isnan(softmap.row_root(np.zeros((3, 0)), function, 0.5)).all()


def test_divergence_beyond_reach_has_the_limit(backend):
    """Two tie for the largest: the divergence stays below log(4 / 2)."""
    x = [1.0, 0.0, 1.0, -2.0]
    taus = [softmap.row_root(x, "divergence", t) for t in (0.5, 0.69, np.log(2), 1.0, 50.0)]
    assert taus[0] > taus[1] > 0 == taus[2] == taus[3] == taus[4]
    assert softmap.row_root([3.0, 3.0], "divergence", 0.1) == 0


@each_function
def test_row_root_leaves_out_masks(backend, function):
    x = np.random.default_rng(0).normal(0, 2, (7, 40))
    spread = np.full((7, 90), -INF)
    spread[:, 3:83:2] = x
    want = softmap.row_root(x, function, 0.7)
    np.testing.assert_allclose(softmap.row_root(spread, function, 0.7), want, rtol=1e-13)


def test_sigmoid_sum_by_hand(backend):
    for n, target in [(4, 2.0), (8, 2.0), (3, 2.25)]:
        got = softmap.row_root(np.full(n, 5.0), "sigmoid_sum", target)
        assert got == pytest.approx(np.log(target / (n - target)) - 5, rel=1e-15)
    far = softmap.row_root([1e300, -1e300], "sigmoid_sum", 1.0)
    assert abs(far) <= 1e300
    assert softmap.row_root([600.0, -600.0], "sigmoid_sum", 1.5) == pytest.approx(600, rel=1e-14)


@each_function
def test_row_root_of_layouts_and_threads(backend, function):
    rng = np.random.default_rng(1)
    x = rng.normal(0, 3, (40, 5, 900))
    target = rng.uniform(0.1, 1.5, (40, 5))
    want = softmap.row_root(x, function, target, n_threads=1)
    np.testing.assert_array_equal(softmap.row_root(x, function, target, n_threads=3), want)
    moved = np.moveaxis(np.asfortranarray(x), 2, 0)
    np.testing.assert_array_equal(softmap.row_root(moved, function, target, 0), want)
    assert softmap.row_root(x[3, 2], function, target[3, 2]) == want[3, 2]


def test_row_root_errors():
    for message, call in [
        ("function = 'entropy', it must be one of sigmoid_sum, divergence", ("entropy", 1.0)),
        (r"target has shape \(3,\), it must be a number or have shape \(2,\)",
         ("divergence", [1.0] * 3)),
        ("axis 2 is out of range", ("divergence", 1.0, 2)),
    ]:  # fmt: skip
        with pytest.raises(ValueError, match=message):
            softmap.row_root(np.zeros((2, 4)), *call)
