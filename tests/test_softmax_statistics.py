"""row_statistics and partial sums, against their definitions in high precision."""

import mpmath as mp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import softmap

INF, NAN = np.inf, np.nan
DTYPES = [np.float32, np.float64]
# Relative error allowed, in units of the dtype's epsilon: a few roundings, and for sums over
# weights of both signs those of the terms.
BOUND = 6


def definition(row, target, weights):
    """The statistics of one row by their definitions, with 400 digits."""
    with mp.workdps(400):
        z = [mp.mpf(float(v)) for v in row]
        e = [mp.exp(v) if mp.isfinite(v) else mp.mpf(0) for v in z]
        total = mp.fsum(e)
        p = [v / total for v in e]
        mean = mp.fsum(a * mp.mpf(float(w)) for a, w in zip(p, weights, strict=True))
        return {
            "logsumexp": mp.log(total),
            "entropy": mp.fsum(-a * mp.log(a) for a in p if a > 0),
            "maximum": max(z),
            "target_log_probability": z[target] - mp.log(total),
            "expectation": mean,
            "variance": mp.fsum(
                a * (mp.mpf(float(w)) - mean) ** 2 for a, w in zip(p, weights, strict=True)
            ),
        }


def rows_of(kind, dtype, width):
    rng = np.random.default_rng(width)
    x = {
        "ordinary": lambda: rng.normal(size=(3, width)) * 4,
        "offset": lambda: rng.normal(size=(3, width)) * 4 + 1000,
        "confident": lambda: rng.normal(size=(3, width)) + 30 * np.eye(3, width),
        "masked": lambda: np.where(rng.random((3, width)) < 0.4, -INF, rng.normal(size=(3, width))),
        "constant": lambda: np.full((3, width), 0.3),
    }[kind]()
    x[:, 0] = np.where(np.isfinite(x[:, 0]), x[:, 0], 0.0)
    return x.astype(dtype)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("width", [1, 2, 5, 17, 130])
@pytest.mark.parametrize("kind", ["ordinary", "offset", "confident", "masked", "constant"])
def test_row_statistics_agree_with_the_definition(backend, kind, width, dtype):
    x = rows_of(kind, dtype, width)
    weights = np.linspace(1, 5, width).astype(dtype)
    r = softmap.row_statistics(x, target=0, weights=weights)
    epsilon = np.finfo(dtype).eps
    for k, row in enumerate(x):
        for name, exact in definition(row, 0, weights).items():
            # an expectation is rounded, and its square is all that is left of a variance of 0
            floor = {"logsumexp": 1.0, "variance": 25 * epsilon}.get(name, 0.0)
            allowed = BOUND * epsilon * max(abs(exact), floor) + mp.mpf("1e-300")
            assert abs(mp.mpf(float(getattr(r, name)[k])) - exact) <= allowed, name
        assert r.target_rank[k] == 1 + (row > row[0]).sum()


def test_rank_compares_the_logits_themselves(backend):
    x = np.array([[1e8, 3, 2, 1], [20, 0.1000001, 0.1, -5]], np.float32)
    assert softmap.row_statistics(x, target=[3, 2]).target_rank.tolist() == [4, 3]


def test_equal_logits_share_the_better_rank(backend):
    assert softmap.row_statistics([[2.0, 2.0, 1.0]], target=1).target_rank.tolist() == [1]


def test_target_outside_the_row_is_nan_and_rank_0(backend):
    r = softmap.row_statistics(np.zeros((3, 4)), target=[-100, 1, 4])
    assert r.target_rank.tolist() == [0, 1, 0]
    np.testing.assert_array_equal(np.isnan(r.target_log_probability), [True, False, True])


def test_undefined_rows_harm_no_other(backend):
    x = np.array([[-INF, -INF], [INF, 0], [NAN, 0], [0, 0]])
    r = softmap.row_statistics(x, target=0, weights=[1, 3])
    np.testing.assert_array_equal(r.logsumexp, [-INF, INF, NAN, np.log(2)])
    np.testing.assert_array_equal(r.maximum, [-INF, INF, NAN, 0])
    for values in (r.entropy, r.target_log_probability, r.expectation, r.variance):
        np.testing.assert_array_equal(np.isnan(values), [True, True, True, False])
    assert r.target_rank.tolist() == [0, 0, 0, 1]
    assert r.expectation[3] == 2.0
    assert r.variance[3] == 1.0


def test_row_statistics_shapes_threads_and_layout(backend):
    x = np.random.default_rng(0).normal(size=(6, 40, 500))
    t = np.random.default_rng(1).uniform(0.5, 2, size=(6, 40))
    one = softmap.row_statistics(x, temperature=t, n_threads=1)
    for n in (2, 3):
        again = softmap.row_statistics(np.asfortranarray(x), temperature=t, n_threads=n)
        np.testing.assert_array_equal(again.entropy, one.entropy)
    moved = softmap.row_statistics(np.moveaxis(x, 2, 0), 0, temperature=t)
    np.testing.assert_array_equal(moved.logsumexp, one.logsumexp)
    np.testing.assert_allclose(one.logsumexp, softmap.logsumexp(x, 2, temperature=t), rtol=1e-15)
    assert one.target_rank is None
    assert one.variance is None


@pytest.mark.parametrize(
    ("options", "error", "text"),
    [
        ({"target": 4}, ValueError, "row_statistics: target = 4, the columns are 0 to 3"),
        ({"target": 1.0}, TypeError, "row_statistics: target has dtype float64"),
        ({"target": [1, 2]}, ValueError, "row_statistics: target has shape (2,)"),
        ({"weights": [1.0]}, ValueError, "row_statistics: weights has shape (1,)"),
        (
            {"axis": ()},
            ValueError,
            "row_statistics: x has shape (3, 4), it needs at least one axis",
        ),
        ({"temperature": 0.0}, ValueError, "row_statistics: temperature = 0.0"),
    ],
)
def test_row_statistics_errors(options, error, text):
    with pytest.raises(error) as caught:
        softmap.row_statistics(np.zeros((3, 4)), **options)
    assert str(caught.value).startswith(text)


@given(
    st.lists(
        st.floats(-1e5, 1e5) | st.sampled_from([-INF, 0.0, 700.0, -700.0]), min_size=1, max_size=60
    ),
    st.integers(0, 60),
)
def test_merged_partials_are_the_sum(values, cut):
    x = np.array(values)
    parts = softmap.logsumexp_partial(x[:cut]), softmap.logsumexp_partial(x[cut:])
    m, e = softmap.merge_partials(*parts)
    whole = softmap.logsumexp(x)
    merged = softmap.partial_to_logsumexp(m, e)
    if whole == -INF:
        assert (m, e, merged) == (0.0, -INF, -INF)
    else:
        assert 1 <= m < 2
        assert e == np.floor(e)
        assert abs(merged - whole) <= 4e-16 * max(1.0, abs(whole)) * 2
    assert softmap.merge_partials(*reversed(parts)) == (m, e)


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_partial_is_exact_where_the_sum_is(backend, dtype):
    m, e = softmap.logsumexp_partial(np.zeros((3, 5000), dtype), axis=1)
    np.testing.assert_array_equal(m * 2.0**e, 5000.0)
    assert m.dtype == e.dtype == np.float64


def test_partial_specials(backend):
    x = np.array([[-INF, -INF], [INF, 0], [NAN, 0], [1e300, 0], [-1e300, -1e300]])
    m, e = softmap.logsumexp_partial(x)
    np.testing.assert_array_equal(m, [0, 1, NAN, 1, 1])
    result = softmap.partial_to_logsumexp(m, e)
    np.testing.assert_allclose(result, [-INF, INF, NAN, 1e300, -1e300], rtol=4e-16)
    merged = softmap.partial_to_logsumexp(*softmap.merge_partials((m, e), (m[::-1], e[::-1])))
    np.testing.assert_allclose(merged, [-1e300, INF, NAN, INF, -1e300], rtol=4e-16)


def test_shapes_of_partials_must_agree():
    with pytest.raises(ValueError, match="merge_partials: the shapes"):
        softmap.merge_partials((np.ones(2), np.ones(2)), (np.ones(3), np.ones(3)))
    with pytest.raises(ValueError, match="partial_to_logsumexp: the shapes"):
        softmap.partial_to_logsumexp(np.ones(2), np.ones(3))


def test_weights_with_more_axes_reduce_the_axes_of_the_product():
    a = np.arange(9.0).reshape(3, 3)
    b = np.ones((2, 3, 3))
    plain = np.log(np.sum(b * np.exp(a), axis=-1))
    np.testing.assert_allclose(softmap.logsumexp(a, -1, b=b), plain, rtol=1e-15)
    np.testing.assert_allclose(softmap.logsumexp(a, -1, where=b == 1), plain, rtol=1e-15)
    assert abs(softmap.logsumexp(0.0, b=[1.0, 2.0]) - np.log(3)) < 1e-15
