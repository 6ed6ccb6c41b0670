"""The measure itself."""

import math

import mpmath as mp
import numpy as np
import pytest

from ulp import WORST, check_ulp, ulp_error

FLOATS = [np.float16, np.float32, np.float64]


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("value", [1.0, 1.5, 0.75, -3.0, 1000.0, 2.0**-14])
def test_ulp_error_counts_spacings(dtype, value):
    v = dtype(value)
    up = np.nextafter(v, dtype(np.copysign(np.inf, value)))
    assert ulp_error(v, mp.mpf(value), dtype) == 0
    assert ulp_error(up, mp.mpf(value), dtype) == 1
    with mp.workdps(50):
        middle = (mp.mpf(value) + mp.mpf(float(up))) / 2
    assert ulp_error(v, middle, dtype) == 0.5


@pytest.mark.parametrize("dtype", FLOATS)
def test_ulp_error_agrees_with_spacing(dtype):
    rng = np.random.default_rng(1)
    values = np.exp(rng.uniform(-9, 9, 200)).astype(dtype)
    off = (values + 3 * np.spacing(values)).astype(dtype)
    exact = [mp.mpf(float(v)) for v in values]
    inside = np.spacing(off) == np.spacing(values)  # not across a power of two
    assert inside.sum() > 100
    for k in np.flatnonzero(inside):
        assert ulp_error(off[k], exact[k], dtype) == 3
    assert ulp_error(off[inside], [exact[k] for k in np.flatnonzero(inside)], dtype) == 3


@pytest.mark.parametrize("dtype", FLOATS)
def test_ulp_error_of_subnormals_and_zero(dtype):
    tiny = np.finfo(dtype).smallest_subnormal
    assert ulp_error(dtype(0), mp.mpf(float(tiny)), dtype) == 1
    assert ulp_error(dtype(3 * tiny), mp.mpf(float(tiny)), dtype) == 2
    assert ulp_error(tiny, mp.mpf(0), dtype) == 1
    assert ulp_error(dtype(0), mp.mpf(float(tiny)) / 4, dtype) == 0.25
    assert ulp_error(dtype(-0.0), mp.mpf(0), dtype) == 0


def test_ulp_error_keeps_all_digits_of_the_reference():
    with mp.workdps(700):
        r = 1 + mp.exp(-600)
    assert ulp_error(1.0, r, np.float64) == pytest.approx(math.exp(-600) * 2**52, abs=0)


@pytest.mark.parametrize("dtype", FLOATS)
def test_ulp_error_of_nan_and_infinity(dtype):
    nan, inf, one = dtype(np.nan), dtype(np.inf), dtype(1)
    largest = mp.mpf(float(np.finfo(dtype).max))
    assert ulp_error(nan, mp.nan, dtype) == 0
    assert ulp_error(inf, mp.inf, dtype) == ulp_error(-inf, -mp.inf, dtype) == 0
    assert ulp_error(inf, 2 * largest, dtype) == 0
    for actual, reference in [
        (nan, 1), (one, mp.nan), (inf, 1), (one, mp.inf), (inf, -mp.inf), (nan, mp.inf),
        (inf, mp.nan), (inf, largest), (-inf, 2 * largest),
    ]:  # fmt: skip
        assert ulp_error(actual, reference, dtype) == math.inf


def test_ulp_error_floor_sets_the_smallest_unit():
    assert ulp_error(np.float64(2.0**-52), mp.mpf(0), np.float64, floor=1) == 1
    assert ulp_error(np.float64(4 + 2.0**-50), mp.mpf(4), np.float64, floor=1) == 1
    assert ulp_error(np.float32(2.0**-20), mp.mpf(0), np.float32, floor=8) == 1


def test_ulp_error_takes_the_worst_element():
    a = np.array([[1.0, 2.0], [3.0, 4.0]])
    assert ulp_error(a, [1, 2, 3, mp.mpf(4) + 2 * mp.ldexp(1, -50)], np.float64) == 2
    assert ulp_error(np.empty(0), [], np.float64) == 0
    with pytest.raises(AssertionError, match="4 values, 3 references"):
        ulp_error(a, [1, 2, 3], np.float64)


def test_check_ulp_fails_above_the_bound_and_keeps_the_worst(monkeypatch):
    monkeypatch.setattr("ulp.WORST", seen := {})
    check_ulp("f", 1.0 + 2.0**-52, mp.mpf(1), np.float64, 2, backend="base")
    check_ulp("f", 1.0, mp.mpf(1), np.float64, 2, backend="base")
    assert seen == {("f", "float64", "base"): (1.0, 2)}
    with pytest.raises(AssertionError, match=r"f float64 base row 3: 4\.000 ULP, bound 2"):
        check_ulp("f", 1 + 2.0**-50, mp.mpf(1), np.float64, 2, backend="base", hint="row 3")
    assert WORST is not seen
