"""softmax, log_softmax and logsumexp: accuracy, special values, temperature, properties."""

import functools
import itertools

import numpy as np
import pytest
import scipy.special
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

import softmap
from ops.softmax import CASES, DOMAINS, DTYPES, HALF_DTYPES, HARD_ROWS, make_row
from ulp import check_ulp

WIDTHS = (1, 2, 3, 4, 5, 7, 8, 9, 15, 16, 17, 31, 33, 64, 65, 129)
INF, NAN = np.inf, np.nan
each_case = pytest.mark.parametrize("case", CASES.values(), ids=CASES)
each_dtype = pytest.mark.parametrize("dtype", DTYPES)


@functools.cache
def expected(name, domain, width, dtype):
    row = make_row(domain, width, dtype)
    return row, CASES[name].reference(row, dtype)


def check(case, backend, row, reference, hint, **options):
    actual = getattr(softmap, case.name)(row, **options)
    assert actual.dtype == row.dtype
    bound = case.ulp[row.dtype.name]
    check_ulp(
        case.name, actual, reference, row.dtype, bound, floor=case.floor, backend=backend, hint=hint
    )


# Accuracy


@pytest.mark.parametrize("dtype", [*DTYPES, *HALF_DTYPES])
@pytest.mark.parametrize("domain", DOMAINS)
@each_case
def test_function_accuracy(backend, case, domain, dtype):
    for width in WIDTHS:
        check(case, backend, *expected(case.name, domain, width, dtype), f"{domain} {width}")


@each_dtype
@each_case
def test_function_accuracy_at_every_width(backend, case, dtype):
    for width in range(1, 130):
        check(case, backend, *expected(case.name, "ordinary", width, dtype), f"width {width}")


@each_dtype
@each_case
def test_function_accuracy_of_hard_rows(backend, case, dtype):
    for k, numbers in enumerate(HARD_ROWS[dtype]):
        row = np.array(numbers, dtype)
        check(case, backend, row, case.reference(row, dtype), f"hard row {k}")


@each_dtype
@pytest.mark.parametrize("order", ["ascending", "descending", "shuffled"])
@each_case
def test_function_accuracy_of_long_rows(backend, case, order, dtype):
    """A million elements of 61 kinds: the sum is exact, and equal elements give equal results."""
    values = np.linspace(-40, 30, 61).astype(dtype)
    counts = np.random.default_rng(5).multinomial(1 << 20, np.full(61, 1 / 61))
    kind = np.repeat(np.arange(61), counts)
    kind = {"ascending": kind, "descending": kind[::-1]}.get(
        order, np.random.default_rng(6).permutation(kind)
    )
    reference = case.reference(values, dtype, counts.tolist())
    actual = getattr(softmap, case.name)(values[kind])
    if case.name != "logsumexp":
        first = np.array([np.argmax(kind == k) for k in range(61)])
        np.testing.assert_array_equal(actual, actual[first][kind])
        actual = actual[first]
    check_ulp(f"{case.name} 2^20", actual, reference, dtype, case.ulp[dtype], backend=backend)


@each_dtype
@pytest.mark.parametrize("lead", [1, 0.7, 1.02, 1.05])
def test_function_accuracy_beside_many_tiny_terms(backend, dtype, lead):
    """The rest adds up where each of its terms is near the subnormals, or far below."""
    far = np.dtype(dtype).type(-103.2 * lead if dtype == "float32" else -744.4 * lead)
    for n in (33, 1 << 16):
        for place in (0, 20, n - 1):
            row = np.full(n, far)
            row[place] = 0
            for name in ("log_softmax", "logsumexp"):
                case = CASES[name]
                reference = case.reference([0.0, far], dtype, [1, n - 1])[:1]
                actual = np.ravel(getattr(softmap, name)(row))
                actual = actual[place] if len(actual) > 1 else actual
                bound = case.ulp[dtype]
                check_ulp(f"{name} tiny rest", actual, reference, dtype, bound, backend=backend)


@each_dtype
@pytest.mark.parametrize("temperature", [0.01, 0.7, 1.0, 3.0, 1e4])
@each_case
def test_function_accuracy_with_temperature(backend, case, temperature, dtype):
    for width in (1, 2, 5, 17, 33):
        row = make_row("ordinary", width, dtype)
        reference = case.reference(row / row.dtype.type(temperature), dtype)
        check(case, backend, row, reference, f"T = {temperature}", temperature=temperature)


# Special values


@pytest.mark.parametrize(
    ("row", "softmax", "log_softmax", "logsumexp"),
    [
        ([-INF, 0], [0, 1], [-INF, 0], 0),
        ([0, -INF, -INF, -INF, 0], [0.5, 0, 0, 0, 0.5], None, np.log(2)),
        ([-INF], [NAN], [NAN], -INF),
        ([-INF, -INF, -INF], [NAN] * 3, [NAN] * 3, -INF),
        ([INF, 0, 1], [NAN] * 3, [NAN, -INF, -INF], INF),
        ([INF, -INF], [NAN] * 2, [NAN, -INF], INF),
        ([INF, INF], [NAN] * 2, [NAN, NAN], INF),
        ([NAN, 0], [NAN] * 2, [NAN] * 2, NAN),
        ([NAN, INF, -INF], [NAN] * 3, [NAN] * 3, NAN),
        ([0, -1e30, 0, -1e30], [0.5, 0, 0.5, 0], None, np.log(2)),
        (["min", 0], [0, 1], ["min", 0], 0),
        (["min"] * 4, [0.25] * 4, [np.log(0.25)] * 4, "min"),
        ([-1e30] * 4, [0.25] * 4, [np.log(0.25)] * 4, -1e30),
        (["max"] * 4, [0.25] * 4, [np.log(0.25)] * 4, "max"),
        (["max", "min"], [1, 0], [0, -INF], "max"),
        (["max", 0], [1, 0], [0, "min"], "max"),
        (["max", -INF], [1, 0], [0, -INF], "max"),
        (["min", -INF], [1, 0], [0, -INF], "min"),
        ([-0.0], [1], [0], 0),
    ],
)
@each_dtype
def test_function_special_rows(backend, dtype, row, softmax, log_softmax, logsumexp):
    """As documented: -inf and finite masks, NaN, +inf; and the rows beside are unharmed."""
    limit = {"min": np.finfo(dtype).min, "max": np.finfo(dtype).max}
    as_array = lambda given: np.array([limit.get(v, v) for v in given], dtype)  # noqa: E731
    x = as_array(row)
    beside = np.zeros(len(row), dtype)
    for name, values in [
        ("softmax", softmax),
        ("log_softmax", log_softmax),
        ("logsumexp", [logsumexp]),
    ]:
        if values is None:
            continue
        function = getattr(softmap, name)
        tolerance = 2 * np.finfo(dtype).eps if name != "softmax" else 0
        np.testing.assert_allclose(np.ravel(function(x)), as_array(values), rtol=tolerance)
        batch = function(np.stack([beside, x, beside]), axis=1)
        np.testing.assert_array_equal(batch[1], function(x))
        np.testing.assert_array_equal(batch[::2], np.stack([function(beside)] * 2))


SPECIAL = [NAN, INF, -INF, 0.0, 1.5, -745.2, 1e30, -1e30]


@each_dtype
@each_case
def test_function_agrees_with_scipy_on_special_rows(backend, case, dtype):
    """All rows of up to three special values; finite results to a few ULP, the others exactly."""
    scipy_function = getattr(scipy.special, case.name)
    eps = np.finfo(dtype).eps
    for width in (1, 2, 3):
        x = np.array(list(itertools.product(SPECIAL, repeat=width)), dtype)
        with np.errstate(all="ignore"):
            want = np.stack([scipy_function(row) for row in x])
        got = getattr(softmap, case.name)(x, axis=1)
        np.testing.assert_allclose(got, want, rtol=8 * eps, atol=0 if width == 1 else 8 * eps)


@each_dtype
def test_softmax_of_a_single_logit_is_exactly_one(backend, dtype):
    x = np.random.default_rng(14).normal(0, 50, (2000, 1)).astype(dtype)
    np.testing.assert_array_equal(softmap.softmax(x, axis=1), 1)
    np.testing.assert_array_equal(softmap.log_softmax(x, axis=1), 0)
    np.testing.assert_array_equal(softmap.logsumexp(x, axis=1), x[:, 0])
    masked = np.pad(x, [(0, 0), (2, 3)], constant_values=-INF)
    np.testing.assert_array_equal(softmap.softmax(masked, axis=1), masked > -INF)
    np.testing.assert_array_equal(softmap.logsumexp(masked, axis=1), x[:, 0])


@each_dtype
def test_function_empty(backend, dtype):
    for shape, axis in [((0,), None), ((0, 3), 1), ((0, 3), 0), ((3, 0), 1), ((2, 0, 3), (0, 1))]:
        x = np.empty(shape, dtype)
        for function in (softmap.softmax, softmap.log_softmax):
            assert function(x, axis).shape == shape
            assert function(x, axis).dtype == dtype
        want = np.full(np.sum(x, axis=axis).shape, -INF, dtype)
        np.testing.assert_array_equal(softmap.logsumexp(x, axis), want)


# Temperature


@each_dtype
@each_case
def test_temperature_is_one_division(backend, case, dtype):
    """Bit for bit the function of x / T: never a reciprocal, and never in another precision."""
    function = getattr(softmap, case.name)
    x = np.random.default_rng(7).normal(0, 20, (50, 33)).astype(dtype)
    each = np.random.default_rng(8).uniform(0.1, 9, 50).astype(dtype)
    for t in (0.3, 0.7, 3, np.float32(1.7), np.array(0.9), 12345.678):
        want = function(x / np.dtype(dtype).type(t), axis=1)
        np.testing.assert_array_equal(function(x, axis=1, temperature=t), want)
    want = function(x / each[:, None], axis=1)
    for t in (each, each[:, None], each.astype("f8"), each.tolist(), each.astype(">f8")):
        np.testing.assert_array_equal(function(x, axis=1, temperature=t), want)


@each_case
def test_temperature_has_the_shape_of_the_reduction(backend, case):
    function = getattr(softmap, case.name)
    x = np.random.default_rng(9).normal(size=(2, 3, 4))
    for axis in [0, 1, -1, (0, 2), (2, 1), (0, 1, 2), None, ()]:
        reduced = softmap.logsumexp(x, axis)
        t = np.random.default_rng(10).uniform(0.5, 2, np.shape(reduced))
        kept = t.reshape(softmap.logsumexp(x, axis, keepdims=True).shape)
        want = function(x / kept, axis)
        np.testing.assert_array_equal(function(x, axis, temperature=t), want)
        np.testing.assert_array_equal(function(x, axis, temperature=kept), want)


@pytest.mark.parametrize("dtype", [*DTYPES, "float16", "int64", "longdouble"])
@each_case
def test_bad_temperature_makes_its_row_nan(backend, case, dtype):
    function = getattr(softmap, case.name)
    x = np.random.default_rng(11).normal(0, 5, (6, 9)).astype(dtype)
    got = function(x, axis=1, temperature=[0.0, 2.0, -1.0, NAN, INF, 1.0])
    bad = [True, False, True, True, True, False]
    np.testing.assert_array_equal(np.isnan(got).reshape(6, -1).all(axis=1), bad)
    np.testing.assert_allclose(got[1], function(x[1], temperature=2.0), rtol=1e-15)
    np.testing.assert_allclose(got[5], function(x[5]), rtol=1e-15)


@pytest.mark.parametrize("options", [{"b": 2.0}, {"return_sign": True}, {"where": [True, False]}])
def test_bad_temperature_makes_its_row_nan_in_every_logsumexp(options):
    x = np.array([[1.0, 2], [3, 4], [5, 6], [7, 8]])
    got = softmap.logsumexp(x, axis=1, temperature=[-1.0, 0.0, NAN, 1.0], **options)
    got = got[0] if options.get("return_sign") else got
    np.testing.assert_array_equal(np.isnan(got), [True, True, True, False])


@each_dtype
def test_temperature_beyond_the_dtype_gives_the_limit(backend, dtype):
    x = np.array([1, 2], dtype)
    np.testing.assert_array_equal(softmap.softmax(x, temperature=1e-200), [0, 1])
    np.testing.assert_array_equal(softmap.softmax(x, temperature=1e200), [0.5, 0.5])
    np.testing.assert_array_equal(softmap.softmax(x, temperature=5e-324), [0, 1])


@each_dtype
def test_temperature_of_quotients_that_overflow(backend, dtype):
    """x / T beyond the largest number still separates equal logits from smaller ones."""
    big = np.finfo(dtype).max / 2
    x = np.array([[big, big, -big], [1, 1, 0]], dtype)
    np.testing.assert_array_equal(
        softmap.softmax(x, axis=1, temperature=1e-10), [[0.5, 0.5, 0]] * 2
    )
    logs = softmap.log_softmax(x, axis=1, temperature=1e-10)
    np.testing.assert_allclose(logs[:, :2], -np.log(2), rtol=2 * np.finfo(dtype).eps)
    assert softmap.logsumexp(x[0], temperature=1e-10) == INF
    mask = np.array([0, np.finfo(dtype).min, 0, -INF], dtype)
    np.testing.assert_array_equal(softmap.softmax(mask, temperature=0.01), [0.5, 0, 0.5, 0])


# Properties

# Eighths, so that a shift by an integer is exact; no difference leaves the normal numbers.
logits = st.builds(
    lambda dtype, eighths: (eighths / 8).astype(dtype),
    st.sampled_from(DTYPES),
    hnp.arrays("i2", hnp.array_shapes(max_dims=3, max_side=9), elements=st.integers(-160, 160)),
)


@given(x=logits, data=st.data())
def test_softmax_is_shift_invariant_and_permutation_equivariant(backend, x, data):
    shift = data.draw(st.integers(-1000, 1000))
    order = np.random.default_rng(data.draw(st.integers(0, 99))).permutation(x.shape[-1])
    rtol = 2 * CASES["softmax"].ulp[x.dtype.name] * np.finfo(x.dtype).eps
    p = softmap.softmax(x, axis=-1)
    np.testing.assert_allclose(softmap.softmax(x + x.dtype.type(shift), axis=-1), p, rtol)
    np.testing.assert_allclose(softmap.softmax(x[..., order], axis=-1), p[..., order], rtol)


@given(x=logits)
def test_softmax_sums_to_one(backend, x):
    p = softmap.softmax(x, axis=-1)
    assert (p >= 0).all()
    assert (p <= 1).all()
    bound = CASES["softmax"].ulp[x.dtype.name] * np.finfo(x.dtype).eps
    np.testing.assert_allclose(p.sum(axis=-1, dtype=np.float64), 1, atol=bound)


@given(x=logits)
def test_log_softmax_is_x_minus_logsumexp(backend, x):
    lse = softmap.logsumexp(x, axis=-1, keepdims=True).astype(np.float64)
    logs = softmap.log_softmax(x, axis=-1)
    assert (logs <= 0).all()
    atol = 150 * np.finfo(x.dtype).eps
    np.testing.assert_allclose(logs, x - lse, rtol=0, atol=atol)
    np.testing.assert_allclose(np.exp(logs), softmap.softmax(x, axis=-1), rtol=atol)


@given(x=logits)
def test_logsumexp_lies_between_its_bounds(backend, x):
    lse = softmap.logsumexp(x, axis=-1)
    top = x.max(axis=-1)
    assert (lse >= top).all()
    assert (lse <= top + np.log(x.shape[-1]) + 60 * np.finfo(x.dtype).eps).all()


@pytest.mark.parametrize(
    "shape", [(300, 1000), (70_000, 5), (3, 1 << 16), (1 << 18,), (64, 33, 65)]
)
@each_dtype
@each_case
def test_function_does_not_depend_on_the_number_of_threads(backend, case, dtype, shape):
    function = getattr(softmap, case.name)
    x = np.random.default_rng(12).normal(0, 10, shape).astype(dtype)
    for axis in {0, -1}:
        want = function(x, axis, n_threads=1)
        for n_threads in (1, 2, 3, 8):
            np.testing.assert_array_equal(function(x, axis, n_threads=n_threads), want)


@each_dtype
@each_case
def test_function_of_a_row_does_not_depend_on_other_rows(backend, case, dtype):
    function = getattr(softmap, case.name)
    x = np.random.default_rng(13).normal(0, 10, (40, 37)).astype(dtype)
    want = function(x, axis=1)[7]
    x[:7], x[8:] = NAN, 1e30
    np.testing.assert_array_equal(function(x, axis=1)[7], want)
