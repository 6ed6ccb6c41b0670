"""row_statistics and partial sums, against their definitions in high precision."""

import dataclasses

import mpmath as mp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import softmap
from ops.softmax import DTYPES, HALF_DTYPES, STATISTICS, get_dtype
from ulp import check_ulp

INF, NAN = np.inf, np.nan


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


@pytest.mark.parametrize("dtype", [*DTYPES, *HALF_DTYPES])
@pytest.mark.parametrize("width", [1, 2, 5, 17, 130, 256, 257])
@pytest.mark.parametrize("kind", ["ordinary", "offset", "confident", "masked", "constant"])
def test_row_statistics_accuracy(backend, kind, width, dtype):
    x = rows_of(kind, get_dtype(dtype), width)
    computed = "float32" if dtype in HALF_DTYPES else dtype
    weights = np.linspace(1, 5, width).astype(computed)
    r = softmap.row_statistics(x, target=0, weights=weights, error_norm=True)
    for k, row in enumerate(x):
        for part, exact in STATISTICS.reference(row, 0, weights, computed).items():
            actual = getattr(r, part)[k]
            assert actual.dtype == computed
            check_ulp(
                f"row_statistics.{part}", actual, exact, computed, STATISTICS.ulp[part][computed],
                floor=STATISTICS.floor(part, weights, computed), backend=backend,
                hint=f"{kind} {width} {dtype}",
            )  # fmt: skip
        assert r.target_rank[k] == 1 + (row > row[0]).sum()


@pytest.mark.parametrize("temperature", [1.0, 0.7])
@pytest.mark.parametrize("width", [256, 257, 1000])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_row_statistics_accuracy_of_many_rows(backend, dtype, width, temperature):
    """Against the next wider type."""
    wide = np.longdouble if dtype == "float64" else np.float64
    unsure = float(np.finfo(wide).nmant <= np.finfo(dtype).nmant)
    n_rows = 60 if backend.startswith("cuda") else 1000
    x = np.random.default_rng(0).normal(0, 3, (n_rows, width)).astype(dtype)
    weights = np.linspace(1, 5, width).astype(dtype)
    r = softmap.row_statistics(x, weights=weights, temperature=temperature)
    z = (x / np.array(temperature, dtype)).astype(wide)
    e = np.exp(z - z.max(axis=1, keepdims=True))
    p = e / e.sum(axis=1, keepdims=True)
    mean = (p * weights).sum(axis=1)
    variance = (p * (weights - mean[:, None]) ** 2).sum(axis=1)
    wanted = {"entropy": -(p * np.log(p)).sum(axis=1), "expectation": mean, "variance": variance}
    for part, want in wanted.items():
        error = np.abs(getattr(r, part) - want) / np.spacing(want.astype(dtype))
        assert error.max() <= STATISTICS.ulp[part][dtype] + unsure, part


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("n", [100_000, 1 << 20])
def test_row_statistics_accuracy_of_long_rows(backend, n, dtype):
    """Elements of 61 kinds, so that the exact sums are short ones; weights of 3 kinds."""
    values = np.linspace(-40, 3, 61).astype(dtype)
    kind = np.random.default_rng(n).integers(0, 61, n)
    weights = (np.arange(n) % 3 + 1).astype(dtype)
    counts = np.zeros((61, 3), int)
    np.add.at(counts, (kind, np.arange(n) % 3), 1)
    r = softmap.row_statistics(values[kind], weights=weights)
    with mp.workdps(60):
        e = [mp.exp(mp.mpf(float(v))) for v in values]
        each = [[int(c) * t for c in row] for row, t in zip(counts, e, strict=True)]
        total = mp.fsum(map(mp.fsum, each))
        lse = mp.log(total)
        entropy = mp.fsum(
            mp.fsum(t) / total * (lse - mp.mpf(float(v))) for t, v in zip(each, values, strict=True)
        )
        share = [mp.fsum(t[j] for t in each) / total for j in range(3)]
        mean = mp.fsum((j + 1) * share[j] for j in range(3))
        variance = mp.fsum(share[j] * (j + 1 - mean) ** 2 for j in range(3))
    exact = {"logsumexp": lse, "entropy": entropy, "expectation": mean, "variance": variance}
    for part, reference in exact.items():
        bound = STATISTICS.ulp[part][dtype]
        what = f"row_statistics.{part}, long"
        check_ulp(what, getattr(r, part), reference, dtype, bound, backend=backend, hint=n)
    for n_threads in (1, 2, 3):
        again = softmap.row_statistics(values[kind], weights=weights, n_threads=n_threads)
        assert (again.entropy, again.variance) == (r.entropy, r.variance)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("width", [2, 10, 130, 256, 257, 3000])
def test_error_norm_accuracy(backend, width, dtype):
    """Of a learned row, down to the subnormals, and of one that is far off; masks count for 0."""
    tail = {"float32": 103.0, "float64": 745.0}[dtype]
    rng = np.random.default_rng(width)
    leads = np.array([0.0, 1.0, 20.0, 0.6 * tail, 0.85 * tail, 0.97 * tail, 2 * tail])
    x = rng.normal(0, 1, (len(leads), width))
    target = rng.integers(0, width, len(leads))
    x[np.arange(len(leads)), target] += leads
    x[:, (target[1] + 1) % width] = np.where(np.arange(len(leads)) % 2, -INF, 0.5)
    x[np.arange(len(leads)), target] = leads
    x = np.concatenate([x, x]).astype(dtype)
    target = np.concatenate([target, (target + 1) % width])  # learned rows, and what is none
    r = softmap.row_statistics(x, target=target, error_norm=True)
    for k, row in enumerate(x):
        exact = STATISTICS.reference(row, target[k], np.ones(width), dtype)["error_norm"]
        check_ulp(
            "row_statistics.error_norm", r.error_norm[k], exact, dtype,
            STATISTICS.ulp["error_norm"][dtype], backend=backend, hint=f"{k} {width}",
        )  # fmt: skip
    assert r.error_norm[6] == 0 < r.error_norm[13]
    alone = softmap.row_statistics(x[:7], target=target[:7])
    assert alone.error_norm is None
    np.testing.assert_array_equal(alone.entropy, r.entropy[:7])


def test_error_norm_needs_a_target(backend):
    with pytest.raises(ValueError, match="row_statistics: error_norm = True, it needs a target"):
        softmap.row_statistics(np.zeros((2, 3)), error_norm=True)
    r = softmap.row_statistics(np.zeros((4, 3)), target=[-1, 3, 1, 0], error_norm=True)
    np.testing.assert_array_equal(np.isnan(r.error_norm), [True, True, False, False])
    np.testing.assert_allclose(r.error_norm[2:], np.sqrt(2 / 3), rtol=1e-15)


def test_rank_is_exact_beyond_the_integers_of_float32(backend):
    x = np.ones((1 << 24) + 4, np.float32)
    x[5] = 0
    assert softmap.row_statistics(x, target=5).target_rank == (1 << 24) + 4


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
    r = softmap.row_statistics(x, target=0, weights=[1, 3], error_norm=True)
    np.testing.assert_array_equal(r.logsumexp, [-INF, INF, NAN, np.log(2)])
    np.testing.assert_array_equal(r.maximum, [-INF, INF, NAN, 0])
    for values in (
        r.entropy, r.target_log_probability, r.expectation, r.variance, r.error_norm
    ):  # fmt: skip
        np.testing.assert_array_equal(np.isnan(values), [True, True, True, False])
    assert r.target_rank.tolist() == [0, 0, 0, 1]
    assert r.expectation[3] == 2.0
    assert r.variance[3] == 1.0


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("n", [1, 2, 5, 16, 17, 63, 64])
def test_rows_of_a_block_do_not_touch_each_other(backend, n, dtype):
    """Short rows are taken many at a time, in every layout; each gets what it gets alone."""
    rng = np.random.default_rng(n)
    x = rng.normal(0, 3, (45, n)).astype(dtype)
    x[3], x[7, 0], x[11, -1], x[20, 0], x[21] = -INF, NAN, INF, np.finfo(dtype).max, 1.0
    t = rng.uniform(0.5, 2, 45).astype(dtype)
    t[[5, 6]] = 0, NAN
    target, w = rng.integers(-1, n + 1, 45), rng.normal(size=n)
    fields = [f.name for f in dataclasses.fields(softmap.RowStatistics)]
    alone = []
    for i in range(45):
        own = slice(i, i + 1)
        options = {"temperature": t[own], "target": target[own], "weights": w, "error_norm": True}
        alone.append(softmap.row_statistics(x[own], **options))
    reversed_rows = np.ascontiguousarray(x[:, ::-1])[:, ::-1]
    for layout in (x, np.asfortranarray(x), np.repeat(x, 2, axis=1)[:, ::2], reversed_rows):
        many = softmap.row_statistics(
            layout, temperature=t, target=target, weights=w, error_norm=True
        )
        for name in fields:
            want = np.concatenate([getattr(one, name) for one in alone])
            np.testing.assert_array_equal(getattr(many, name), want, err_msg=name)


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


def test_partial_of_a_long_row_does_not_depend_on_the_number_of_threads(backend):
    x = np.random.default_rng(4).normal(0, 9, 300_000).astype(np.float32)
    want = softmap.logsumexp_partial(x, n_threads=1)
    for n_threads in (2, 3):
        assert softmap.logsumexp_partial(x, n_threads=n_threads) == want
    exact = softmap.logsumexp(x.astype(np.float64))
    np.testing.assert_allclose(softmap.partial_to_logsumexp(*want), exact, rtol=4e-16)


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
