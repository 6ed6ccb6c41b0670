"""Rows that are taken many at a time: short ones, and those that lie side by side."""

import numpy as np
import pytest

import softmap
from ops.softmax import (
    CASES,
    DTYPES,
    HALF_DTYPES,
    LOGSUMEXP_OF_MAXIMUM_0_ULP,
    get_dtype,
)

INF, NAN = np.inf, np.nan
WIDTHS = (2, 3, 4, 5, 6, 7, 8, 10, 11, 12, 16, 17, 20, 33, 96, 100, 192, 193)
FUNCTIONS = [softmap.softmax, softmap.log_softmax, softmap.logsumexp]


def log_softmax_by_numpy(x):
    with np.errstate(invalid="ignore", divide="ignore"):
        z = x - x.max(axis=1, keepdims=True)
        return z - np.log(np.exp(z).sum(axis=1, keepdims=True))


def logsumexp_by_numpy(x):
    with np.errstate(invalid="ignore", divide="ignore"):
        top = x.max(axis=1)
        log = top + np.log(np.exp(x - top[:, None]).sum(axis=1))
    return np.where(np.abs(top) == INF, top, log)


NUMPY = {
    softmap.softmax: lambda x: np.exp(log_softmax_by_numpy(x)),
    softmap.log_softmax: log_softmax_by_numpy,
    softmap.logsumexp: logsumexp_by_numpy,
}
# So many rows find worse ones than tests/test_softmax_accuracy.py does, whatever the way: 2.44 ULP.
MORE_ULP_OF_MANY_ROWS = {"float32": 0, "float64": 0.5}
each_dtype = pytest.mark.parametrize("dtype", DTYPES)
every_dtype = pytest.mark.parametrize("dtype", [*DTYPES, *HALF_DTYPES])
each_function = pytest.mark.parametrize("function", FUNCTIONS, ids=lambda f: f.__name__)
each_width = pytest.mark.parametrize("width", WIDTHS)


def normal(*shape, dtype, scale=3.0):
    rng = np.random.default_rng([len(shape), *shape])
    return rng.normal(0, scale, shape).astype(get_dtype(dtype))


def bits(x):
    """The array as integers: NaN equals NaN, and -0 is not 0."""
    return np.asarray(x).view(f"u{x.itemsize}")


def add_special_rows(x):
    """Rows that no common reference suits, among others that stay as they are."""
    n, width = len(x), x.shape[1]
    x[5 % n], x[13 % n] = NAN, -INF
    x[8 % n, width // 2] = INF
    x[9 % n] += 300 if x.dtype.itemsize > 2 else 60
    x[10 % n] -= 700 if x.dtype.itemsize > 2 else 60
    x[11 % n, 1:] = -INF


@each_width
@every_dtype
@each_function
def test_rows_do_not_depend_on_how_many_there_are(backend, function, dtype, width):
    x = normal(70, width, dtype=dtype)
    add_special_rows(x)
    want = bits(function(x, axis=1))
    for first, last in ((0, 1), (5, 6), (9, 11), (0, 15), (3, 20), (1, 70), (64, 70)):
        np.testing.assert_array_equal(bits(function(x[first:last], axis=1)), want[first:last])
    for row in (0, 5, 8, 9, 10, 11, 69):
        np.testing.assert_array_equal(bits(np.asarray(function(x[row]))), want[row])


@each_width
@each_dtype
@each_function
def test_rows_do_not_depend_on_special_rows_beside(backend, function, dtype, width):
    x = normal(64, width, dtype=dtype)
    want = bits(function(x, axis=1))
    beside = x.copy()
    add_special_rows(beside)
    got = bits(function(beside, axis=1))
    same = np.all(bits(x) == bits(beside), axis=1)
    assert 50 <= same.sum() < 64
    np.testing.assert_array_equal(got[same], want[same])


@each_width
@each_dtype
@each_function
def test_rows_of_any_size_in_any_order(backend, function, dtype, width):
    """Stretches that one reference suits, others where each row wants its own or none does."""
    rng = np.random.default_rng(width)
    x = normal(400, width, dtype=dtype)
    x[100:200] += 1e3 * rng.normal(size=(100, 1)).astype(dtype)
    x[170:300][rng.random((130, width)) < 0.7] = -INF
    x[300:330, 0] = rng.choice([NAN, 1e30, -1e30], 30)
    if function is not softmap.log_softmax:  # where SciPy has a rule of its own
        x[330:340, 0] = INF
    got = function(x, axis=1)
    want = NUMPY[function](x.astype(np.longdouble))
    np.testing.assert_allclose(got, want, rtol=1e-5 if dtype == "float32" else 1e-13, atol=1e-30)
    order = rng.permutation(400)
    np.testing.assert_array_equal(bits(function(x[order], axis=1)), bits(got)[order])


@pytest.mark.parametrize("width", [2, 5, 7, 16, 20, 128, 192])
@every_dtype
@each_function
def test_rows_do_not_depend_on_where_they_lie(backend, function, dtype, width):
    """Rows one after the other, side by side, or apart: with and without a temperature a row.

    More than 16 numbers that lie side by side are added up in another order.
    """
    x = normal(41, width, dtype=dtype)
    t = np.linspace(0.5, 2, 41)
    side = np.asfortranarray(x)
    apart = np.zeros((41, width + 3), x.dtype)
    apart[:, 1:-2] = x
    for options in ({}, {"temperature": 0.7}, {"temperature": t}):
        want = bits(function(x, axis=1, **options))
        np.testing.assert_array_equal(bits(function(apart[:, 1:-2], axis=1, **options)), want)
        beside = bits(function(side, axis=1, **options))
        if width > 16:
            want = beside
        np.testing.assert_array_equal(beside, want)
        got = function(np.ascontiguousarray(x.T), axis=0, **options)
        np.testing.assert_array_equal(bits(np.ascontiguousarray(got.T)), want)


@each_width
@each_dtype
def test_quotients_that_overflow(backend, dtype, width):
    """x / temperature beyond the largest number, in some rows of many."""
    x = normal(40, width, dtype=dtype)
    big = np.finfo(dtype).max / 2
    x[3], x[4] = -big, big
    x[5], x[5, 1] = 0, big
    got = softmap.softmax(x, axis=1, temperature=1e-3)
    np.testing.assert_allclose(got[3:5], np.full((2, width), 1 / width), rtol=1e-6)
    np.testing.assert_array_equal(got[5], np.arange(width) == 1)
    for row in range(40):
        np.testing.assert_array_equal(got[row], softmap.softmax(x[row], temperature=1e-3))


@pytest.mark.parametrize("shape", [(1_000_000, 5), (300_000, 20), (40_000, 128), (2500, 2000)])
@pytest.mark.parametrize("function", FUNCTIONS[:2], ids=lambda f: f.__name__)
def test_result_does_not_depend_on_alignment(backend, function, shape):
    """Results that go past the caches, to any place within a line, and into x itself."""
    x = normal(*shape, dtype="float32")
    want = function(x, axis=1, n_threads=1)
    memory = np.full(x.size + 18, NAN, np.float32)
    for offset in (0, 1, 12, 15):
        memory[:] = NAN
        out = memory[1 + offset :][: x.size].reshape(shape)
        function(x, axis=1, out=out)
        np.testing.assert_array_equal(out, want)
        assert np.isnan(memory[: 1 + offset]).all()
        assert np.isnan(memory[1 + offset + x.size :]).all()
    out[:] = x
    function(out, axis=1, out=out)
    np.testing.assert_array_equal(out, want)


@each_dtype
@pytest.mark.parametrize("width", [2, 3, 5, 6, 8, 9, 16, 20, 33, 128])
def test_log_accuracy_of_many_short_rows(backend, width, dtype):
    """The reference has 11 bits more than float64."""
    wide = np.longdouble if dtype == "float64" else np.float64
    unsure = float(np.finfo(wide).nmant <= np.finfo(dtype).nmant)  # no wider type here
    rng = np.random.default_rng(width)
    x = (rng.choice([0.5, 3.0, 20.0], (4000, 1)) * rng.normal(size=(4000, width))).astype(dtype)
    x -= x.max(axis=1, keepdims=True)
    e = np.exp(x.astype(wide))
    first = np.argmax(x, axis=1)[:, None]
    np.put_along_axis(e, first, 0, axis=1)
    excess = np.log1p(e.sum(axis=1, keepdims=True))

    def worst(got, want):
        normal = np.abs(want) > np.finfo(dtype).tiny
        unit = np.spacing(np.abs(want).astype(dtype))
        return (np.abs(got - want)[normal] / unit[normal]).max()

    bound = LOGSUMEXP_OF_MAXIMUM_0_ULP[dtype] + MORE_ULP_OF_MANY_ROWS[dtype]
    # Kernels for a GPU subtract the maximum: 2.57 was found.
    bound = max(bound, 3) if backend.startswith("cuda") else bound
    assert worst(softmap.logsumexp(x, axis=1)[:, None], excess) <= bound + unsure
    bound = CASES["log_softmax"].ulp[dtype]
    assert worst(softmap.log_softmax(x, axis=1), x - excess) <= bound + unsure


# Side by side

LAST_BITS = {"float64": 50, "float32": 21, "float16": 9, "bfloat16": 6}


def check_columns(x, dtype):
    """Against the definition along axis 0, in the next wider type."""
    wide = np.longdouble if dtype == "float64" else np.float64
    unsure = float(np.finfo(wide).nmant <= np.finfo(dtype).nmant)
    top = x.max(axis=0).astype(wide)
    below = x.astype(wide) - top
    others = below.copy()
    others[x.argmax(axis=0), np.arange(x.shape[1])] = -INF
    excess = np.log1p(np.exp(others).sum(axis=0))

    def worst(got, want, floor=0.0):
        normal = np.abs(want) > np.finfo(dtype).tiny
        unit = np.spacing(np.maximum(np.abs(want[normal]), floor).astype(dtype))
        return (np.abs(got - want)[normal] / unit).max(initial=0)

    got, want = softmap.softmax(x, axis=0), np.exp(below - excess)
    assert worst(got, want) <= CASES["softmax"].ulp[dtype] + unsure
    assert (got[want <= np.finfo(dtype).tiny] <= np.finfo(dtype).tiny).all()
    log = softmap.log_softmax(x, axis=0)
    assert worst(log, below - excess) <= CASES["log_softmax"].ulp[dtype] + unsure
    bound = CASES["logsumexp"].ulp[dtype] + unsure
    assert worst(softmap.logsumexp(x, axis=0), top + excess, 1.0) <= bound


@pytest.mark.parametrize("order", ["random", "ascending", "descending"])
@pytest.mark.parametrize("scale", [1.0, 30.0, 400.0])
@pytest.mark.parametrize("width", [17, 150, 1003])
@each_dtype
def test_columns_accuracy(backend, dtype, width, scale, order):
    x = normal(width, 37, dtype=dtype, scale=scale)
    if order != "random":
        x = np.sort(x, axis=0)[:: 1 if order == "ascending" else -1].copy()
    check_columns(x, dtype)
    middle = np.stack([x, x[::-1]])
    for function in FUNCTIONS:
        np.testing.assert_array_equal(function(middle, axis=1)[0], function(x, axis=0))


@pytest.mark.parametrize("width", [17, 192])
@each_dtype
def test_many_columns_accuracy(backend, dtype, width):
    """Sums of few large numbers, where the order of the additions shows."""
    rng = np.random.default_rng(2)
    check_columns(rng.normal(0, 30, (width, 4096)).astype(dtype), dtype)


@each_dtype
def test_columns_with_one_ahead_accuracy(backend, dtype):
    """The largest is 0, or the sum near 1: there the logarithm has digits of its own."""
    x = normal(203, 500, dtype=dtype, scale=2.0)
    x -= np.linspace(0, 80, 500).astype(dtype)
    x[np.arange(500) % 203, np.arange(500)] = 0
    check_columns(x, dtype)
    got = softmap.logsumexp(x, axis=0)
    others = np.where(x == 0, -INF, x).astype(np.longdouble)
    want = np.log1p(np.exp(others).sum(axis=0))
    error = np.abs(got - want) / np.spacing(want.astype(dtype))
    assert error.max() <= LOGSUMEXP_OF_MAXIMUM_0_ULP[dtype] + MORE_ULP_OF_MANY_ROWS[dtype] + 0.5
    lse = np.log(np.exp(x.astype(np.longdouble)).sum(axis=0))
    check_columns((x - lse).astype(dtype), dtype)


@every_dtype
def test_columns_with_special_values(backend, dtype):
    """As along rows; the other columns keep their bits, whatever is beside."""
    x = normal(700, 50, dtype=dtype)
    before = {function: function(x, axis=0) for function in FUNCTIONS}
    x[699, 3], x[0, 8], x[:, 20] = NAN, INF, -INF
    x[1:, 21], x[:300, 22] = -INF, -INF
    x[:, 23] = np.array(x[:, 23], np.float64) * 0 - 3e4
    x[[0, 300], 24] = NAN
    x[[1, 9], 25] = INF
    got = softmap.softmax(x, axis=0)
    for column in (3, 8, 20, 24, 25):
        assert np.isnan(got[:, column].astype(np.float64)).all()
    assert got[0, 21] == 1
    assert (got[1:, 21] == 0).all()
    assert (got[:300, 22] == 0).all()
    np.testing.assert_array_equal(got[:, 23], np.array(1 / 700).astype(x.dtype))
    others = [c for c in range(50) if c not in (3, 8, *range(20, 26))]
    for function, want in before.items():
        result = function(x, axis=0)
        np.testing.assert_array_equal(bits(result)[..., others], bits(want)[..., others])
        by_rows = function(np.ascontiguousarray(x.T), axis=1).T
        for column in (3, 8, 20, 21, 23, 24, 25):
            a, b = (np.asarray(r[..., column], np.float64) for r in (result, by_rows))
            np.testing.assert_allclose(a, b, rtol=2.0 ** -LAST_BITS[dtype], atol=0)
        if function is not softmap.logsumexp:
            out = x.copy()
            function(out, axis=0, out=out)
            np.testing.assert_array_equal(bits(out), bits(result))


@each_dtype
def test_columns_do_not_depend_on_place_and_threads(backend, dtype):
    x = normal(600, 2100, dtype=dtype)
    t = np.linspace(0.5, 2, 2100).astype(dtype)
    for function in FUNCTIONS:
        want = function(x, axis=0, n_threads=1)
        np.testing.assert_array_equal(function(x, axis=0, n_threads=3), want)
        np.testing.assert_array_equal(function(x[:, 5:90], axis=0), want[..., 5:90])
        got = function(x, axis=0, temperature=t)
        np.testing.assert_array_equal(got, function(x / t, axis=0))
        if function is softmap.logsumexp:
            continue
        for room in (np.zeros((600, 2117), dtype), np.zeros((2117, 600), dtype).T):
            function(x, axis=0, out=room[:, 9:-8])
            np.testing.assert_array_equal(room[:, 9:-8], want)
