"""softmax, log_softmax, logsumexp: long rows, rows with a maximum of 0, temperatures, all halves.

Every result on every built module; the other accuracy tests are in test_softmax.py.
"""

import functools
import itertools

import ml_dtypes
import numpy as np
import pytest
import scipy.special

import softmap
from ops.softmax import (
    CASES,
    DOMAINS,
    DTYPES,
    HALF_DTYPES,
    LARGEST,
    LOGSUMEXP_OF_MAXIMUM_0_ULP,
    REPEATED_NUMBERS,
    constant_row_reference,
    get_dtype,
    make_row,
)
from ulp import check_ulp

each_case = pytest.mark.parametrize("case", CASES.values(), ids=CASES)
each_dtype = pytest.mark.parametrize("dtype", DTYPES)
every_dtype = pytest.mark.parametrize("dtype", [*DTYPES, *HALF_DTYPES])


# Constant rows, up to 2^26 elements


def constants(n_rows, dtype):
    """Numbers of all sizes: a third like logits, a third near 0, a third up to the largest."""
    rng = np.random.default_rng(n_rows)
    exponent = np.log10(LARGEST[dtype]) * rng.uniform(0, 1, n_rows)
    kind = np.arange(n_rows) % 3
    values = rng.choice([-1, 1], n_rows) * 10 ** np.where(kind == 1, -exponent, exponent)
    return np.where(kind == 0, rng.normal(0, 50, n_rows), values).astype(get_dtype(dtype))


@functools.cache
def logsumexp_references(n_rows, width, dtype):
    values = constants(n_rows, dtype)
    return [constant_row_reference("logsumexp", value, width) for value in values]


def check_constant_rows(case, backend, width, n_rows, dtype):
    values = constants(n_rows, dtype)
    function, results = getattr(softmap, case.name), []
    per_batch = max(1, (1 << 20) // width)
    for k in range(0, n_rows, per_batch):
        x = np.repeat(values[k : k + per_batch, None], width, axis=1)
        if case.name == "logsumexp":
            results.append(function(x, axis=1))
        else:
            function(x, axis=1, out=x)
            assert (x == x[:, :1]).all()
            results.append(np.unique(x[:, 0]))  # whatever the number is, the result is the same
    actual = np.concatenate(results)
    if case.name == "logsumexp":
        references = logsumexp_references(n_rows, width, dtype)
    else:
        references = [constant_row_reference(case.name, 0.0, width)] * len(actual)
    check_ulp(
        f"{case.name} of equal numbers", actual, references, dtype, case.ulp[dtype],
        floor=case.floor, backend=backend, hint=f"width {width}",
    )  # fmt: skip


@every_dtype
@each_case
def test_function_accuracy_of_a_thousand_constant_rows(backend, case, dtype):
    for width in (1, 2, 3, 5, 10, 17, 33, 100, 1000, 4096):
        check_constant_rows(case, backend, width, 1000, dtype)


@each_dtype
@pytest.mark.parametrize(
    ("width", "n_rows"), [(1 << 14, 100), (1 << 16, 30), (70_001, 30), (1 << 20, 3), (1 << 24, 1)]
)
@each_case
def test_function_accuracy_of_long_rows_of_equal_numbers(backend, case, width, n_rows, dtype):
    check_constant_rows(case, backend, width, n_rows, dtype)


@each_dtype
@each_case
def test_function_accuracy_of_long_rows_of_2_to_the_26(backend, case, dtype):
    """Where a plain float32 sum is off by 1e-3."""
    check_constant_rows(case, backend, 1 << 26, 1, dtype)


# logsumexp of rows whose maximum is exactly 0


@every_dtype
@pytest.mark.parametrize("domain", sorted(DOMAINS.keys() - {"huge"}))
def test_logsumexp_accuracy_where_the_maximum_is_0(backend, domain, dtype):
    """No floor: the result has all its digits however small it is."""
    case = CASES["logsumexp"]
    for width in (1, 2, 3, 5, 9, 16, 33, 130):
        row = make_row(domain, width, dtype)
        row = np.where(row == row.max(), 0, row - row.max()).astype(row.dtype)
        actual = softmap.logsumexp(row)
        check_ulp(
            "logsumexp, maximum 0", actual, case.reference(row, dtype), dtype,
            LOGSUMEXP_OF_MAXIMUM_0_ULP[dtype], backend=backend, hint=f"{domain} {width}",
        )  # fmt: skip
        if width == 1:
            assert actual == 0


# Temperature: the exact function of the rounded quotient


@every_dtype
@pytest.mark.parametrize("domain", ["ordinary", "wide", "one dominates", "huge"])
@each_case
def test_function_accuracy_with_a_temperature_a_row(backend, case, domain, dtype):
    rng = np.random.default_rng(3)
    for width in (1, 2, 5, 33):
        x = np.stack([make_row(domain, width, dtype, seed) for seed in range(8)])
        computed = np.float32 if dtype in HALF_DTYPES else x.dtype
        t = (10 ** rng.uniform(-1, 3, len(x))).astype(computed)
        with np.errstate(over="ignore"):
            z = x.astype(computed) / t[:, None]
        got = getattr(softmap, case.name)(x, axis=1, temperature=t)
        assert got.dtype == x.dtype
        for k in np.flatnonzero(np.isfinite(z).all(axis=1)):
            check_ulp(
                f"{case.name}, temperature", got[k], case.reference(z[k], dtype), dtype,
                case.ulp[dtype], floor=case.floor, backend=backend, hint=f"{domain} {width} {t[k]}",
            )  # fmt: skip


# Half types: every number there is


def half_ulp(actual, reference, dtype):
    """As ulp_error, for float64 references that are good enough to find the worst of many."""
    format = ml_dtypes.finfo(get_dtype(dtype))
    size = np.maximum(np.abs(reference), float(format.smallest_normal))
    spacing = np.exp2(np.floor(np.log2(size)) - format.nmant)
    same = np.isinf(actual.astype(np.float64)) & (np.abs(reference) > float(format.max))
    with np.errstate(invalid="ignore"):
        return np.where(same, 0, np.abs(actual.astype(np.float64) - reference) / spacing)


@pytest.mark.parametrize("dtype", HALF_DTYPES)
@each_case
def test_half_accuracy_of_all_numbers_beside_0(backend, case, dtype):
    """[0, x] for each finite x: at most one neighbour off, and subnormal results are kept."""
    bits = np.arange(1 << 16, dtype=np.uint16)
    infinity = np.array(np.inf, get_dtype(dtype)).view(np.uint16)
    x = bits[bits & 0x7FFF < infinity].view(get_dtype(dtype))
    wide = x.astype(np.float64)
    with np.errstate(over="ignore", under="ignore"):
        want = {
            "softmax": [scipy.special.expit(-wide), scipy.special.expit(wide)],
            "log_softmax": [-np.logaddexp(0, wide), -np.logaddexp(0, -wide)],
            "logsumexp": [np.logaddexp(0, wide)],
        }[case.name]
    got = getattr(softmap, case.name)(np.stack([np.zeros_like(x), x], axis=1), axis=1)
    for column, reference in enumerate(want):
        actual = got if got.ndim == 1 else got[:, column]
        error = half_ulp(actual, reference, dtype)
        worst = int(np.argmax(error))
        exact = case.reference([0.0, wide[worst]], dtype)[column]
        check_ulp(
            f"{case.name} of [0, x]", actual[worst], exact, dtype, case.ulp[dtype],
            backend=backend, hint=f"[0, {wide[worst]}][{column}]",
        )  # fmt: skip
        tiny = (np.abs(reference) < float(ml_dtypes.finfo(x.dtype).smallest_normal)) & (
            np.abs(reference) > float(ml_dtypes.finfo(x.dtype).smallest_subnormal)
        )
        assert tiny.any()
        assert (actual[tiny] != 0).all()


# Search


def search_rows(rng, n_rows, width, dtype):
    scale = 10 ** rng.uniform(-2, 1.5, (n_rows, 1))
    return (rng.normal(0, 1, (n_rows, width)) * scale + rng.normal(0, 20, (n_rows, 1))).astype(
        dtype
    )


def wide_reference(name, z):
    """The definition, in the next wider format."""
    top = z.max(axis=1, keepdims=True)
    first = np.argmax(z, axis=1)[:, None]
    e = np.exp(z - top)
    np.put_along_axis(e, first, 0, axis=1)
    excess = np.log1p(e.sum(axis=1, keepdims=True))
    np.put_along_axis(e, first, 1, axis=1)
    if name == "softmax":
        return e / e.sum(axis=1, keepdims=True)
    return (z - top) - excess if name == "log_softmax" else top + excess


@pytest.mark.nightly
@each_dtype
@each_case
def test_function_accuracy_of_the_worst_of_many_rows(backend, case, dtype):
    """Rows at random: those that look worst in the next wider format, measured exactly."""
    wider = np.float64 if dtype == "float32" else np.longdouble
    if np.finfo(wider).nmant < np.finfo(dtype).nmant + 8:
        pytest.skip("no wider format on this platform")
    rng = np.random.default_rng(11)
    for width in (2, 3, 4, 5, 8, 13, 16, 24):
        x = search_rows(rng, 50_000, width, dtype)
        got = np.reshape(getattr(softmap, case.name)(x, axis=1), (len(x), -1))
        want = wide_reference(case.name, x.astype(wider))
        size = np.maximum(np.abs(want), max(case.floor, float(np.finfo(dtype).smallest_normal)))
        error = np.abs(got - want) / size
        for k in np.argsort(error.max(axis=1))[-20:]:
            check_ulp(
                case.name, got[k], case.reference(x[k], dtype), dtype, case.ulp[dtype],
                floor=case.floor, backend=backend, hint=f"search, width {width}, {x[k].tolist()}",
            )  # fmt: skip


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("name", ["softmax", "log_softmax"])
def test_function_accuracy_of_repeated_numbers(backend, name, dtype):
    """A register of a row holds one number in all lanes, whatever their width; also in columns."""
    case, function = CASES[name], getattr(softmap, name)
    for numbers in REPEATED_NUMBERS[dtype]:
        for lanes, times in itertools.product((2, 4, 8, 16), (1, 2, 13)):
            row = np.tile(np.repeat(np.array(numbers, dtype), lanes), times)
            exact = case.reference(numbers, dtype, counts=[lanes * times] * len(numbers))
            bound = case.ulp[dtype]
            got = function(row)[: lanes * len(numbers) : lanes]
            check_ulp(name, got, exact, dtype, bound, backend=backend, hint=f"{lanes} x {times}")
            columns = np.tile(np.repeat(np.array(numbers, dtype), lanes)[:, None], (times, 40))
            got = function(columns, axis=0)[: lanes * len(numbers) : lanes, 5]
            check_ulp(name, got, exact, dtype, bound, backend=backend, hint=f"columns, {lanes}")


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("width", [2, 3, 5, 6, 8, 9, 16, 20, 33, 64, 96, 128, 192])
def test_softmax_accuracy_of_many_short_rows(backend, width, dtype):
    """Rows that are taken many at a time; the reference has 11 bits more than float64."""
    wide = np.longdouble if dtype == "float64" else np.float64
    unsure = float(np.finfo(wide).nmant <= np.finfo(dtype).nmant)  # no wider type here
    rng = np.random.default_rng(width)
    scale = rng.choice([0.5, 3.0, 20.0], (4000, 1))
    x = (scale * rng.normal(size=(4000, width))).astype(dtype)
    result = softmap.softmax(x, -1)
    exact = np.exp(x.astype(wide) - x.max(axis=1, keepdims=True).astype(wide))
    exact /= exact.sum(axis=1, keepdims=True)
    normal = exact > np.finfo(dtype).tiny
    error = np.abs(result - exact)[normal] / np.spacing(exact.astype(dtype))[normal]
    assert error.max() <= CASES["softmax"].ulp[dtype] + unsure
    for start, stop in ((0, 17), (3, 20), (1983, 2083)):  # whatever the other rows are
        np.testing.assert_array_equal(softmap.softmax(x[start:stop], -1), result[start:stop])
