"""The measure of accuracy: distance from the exact result in units in the last place."""

import math
from collections.abc import Iterable

import ml_dtypes
import mpmath as mp
import numpy as np

# (what, dtype, backend) -> (worst error, bound)
WORST: dict[tuple[str, str, str], tuple[float, float]] = {}


def ulp_error(actual, reference, dtype, floor=0.0):
    """Largest distance between `actual` and `reference` in units in the last place of `dtype`.

    `reference` is an mpf, or as many of them as `actual` has elements (an array of floats will do
    where these are exact). The unit is the spacing of `dtype` at the reference, at least that of
    the subnormals; with `floor`, at least the spacing at `floor`, for results that cross zero.

    NaN for NaN is 0, and so is infinity for a reference that rounds to it; any other NaN or
    infinity on one side only is infinite. The sign of zero does not count.
    """
    values = np.ravel(np.asarray(actual)).tolist()
    exact = np.ravel(reference) if isinstance(reference, Iterable) else [reference]
    assert len(values) == len(exact), f"{len(values)} values, {len(exact)} references"
    pairs = zip(values, exact, strict=True)
    with mp.workdps(800):  # mpmath rounds even a copy to the working precision
        return max(
            (_error(a, mp.mpf(r), ml_dtypes.finfo(dtype), floor) for a, r in pairs), default=0.0
        )


def _error(a, r, format, floor):
    if math.isnan(a) or mp.isnan(r):
        return 0.0 if math.isnan(a) and mp.isnan(r) else math.inf
    precision = format.nmant + 1
    if math.isinf(a) or mp.isinf(r):
        rounds_up = abs(r) >= mp.mpf(float(format.max)) + mp.ldexp(1, format.maxexp - precision - 1)
        return 0.0 if math.isinf(a) and rounds_up and (a > 0) == (r > 0) else math.inf
    size = max(abs(r), mp.mpf(floor), mp.mpf(float(format.smallest_normal)))
    return float(abs(a - r) / mp.ldexp(1, mp.mag(size) - precision))


def check_ulp(what, actual, reference, dtype, bound, *, floor=0.0, backend="", hint=""):
    """Assert that `actual` is within `bound` ULP, and note the worst for the report at the end."""
    error = ulp_error(actual, reference, dtype, floor)
    key = (what, np.dtype(dtype).name, backend)
    WORST[key] = max(WORST.get(key, (0.0, bound)), (error, bound))
    assert error <= bound, f"{what} {key[1]} {backend} {hint}: {error:.3f} ULP, bound {bound}"
