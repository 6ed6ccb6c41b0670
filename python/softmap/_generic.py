"""The softmax family in plain NumPy, for what the kernels do not compute.

That is complex and long double input, and the factors, signs and `where` of logsumexp. Straight from the definitions, with the
leading term kept out of the sum.
"""

from typing import Any

import numpy as np
from numpy.exceptions import AxisError

from softmap._check import Array

Axes = tuple[int, ...]


def normalize_axes(name: str, x: Array, axis: Any) -> Axes:
    """The axes to reduce, as sorted integers from 0."""
    if axis is None:
        return tuple(range(x.ndim))
    given = axis if isinstance(axis, (tuple, list)) else (axis,)
    axes = []
    for item in given:
        try:
            k = item.__index__()
        except AttributeError:
            raise TypeError(
                f"{name}: axis = {axis!r}, it must be an integer, a tuple of integers or None"
            ) from None
        if not -x.ndim <= k < x.ndim:
            raise AxisError(f"{name}: axis {k} is out of range for x of shape {x.shape}")
        if k % x.ndim in axes:
            raise ValueError(f"{name}: axis {k} is given twice")
        axes.append(k % x.ndim)
    return tuple(sorted(axes))


def _shift(z: Array, axes: Axes) -> Array:
    """The largest real part along `axes`; 0 where that is infinite or the row is empty."""
    if any(z.shape[k] == 0 for k in axes):
        return np.zeros([1 if k in axes else n for k, n in enumerate(z.shape)], z.real.dtype)
    largest = z.real.max(axis=axes, keepdims=True)
    return np.where(np.isfinite(largest), largest, 0)


def softmax(x: Array, axes: Axes, temperature: Array) -> Array:
    with np.errstate(all="ignore"):
        z = x / temperature
        e = np.exp(z - _shift(z, axes))
        return e / e.sum(axis=axes, keepdims=True)


def log_softmax(x: Array, axes: Axes, temperature: Array) -> Array:
    with np.errstate(all="ignore"):
        z = x / temperature
        d = z - _shift(z, axes)
        return d - np.log(np.exp(d).sum(axis=axes, keepdims=True))


def logsumexp(
    a: Array, axes: Axes, b: Array | None, temperature: Array, where: Array
) -> tuple[Array, Array]:
    """Logarithm of the magnitude of sum(b exp(a / temperature)), and its sign; axes kept."""
    if a.dtype.kind in "biu":
        a = a.astype(np.float64)
    if b is not None and b.dtype.kind == "b":
        b = b.astype(a.real.dtype)
    with np.errstate(all="ignore"):
        z = a if np.all(temperature == 1) else (a / temperature).astype(a.dtype)
        factor = np.ones((), z.real.dtype) if b is None else b
        dtype = np.result_type(z, factor)
        if dtype.kind in "biu":
            dtype = np.dtype(np.float64)
        z, factor, counted = np.broadcast_arrays(z.astype(dtype), factor, where.astype(bool))
        counted = counted & (factor != 0)
        # The real part of what does not count is -inf, so that it neither leads nor adds.
        real = np.where(counted, z.real, -np.inf)
        lead = _shift(real, axes)
        size = np.exp(real - lead)
        terms = np.where(counted, factor * size, 0)
        if dtype.kind == "c":
            angle = np.where(counted & (size > 0), z.imag, 0)
            terms = terms * (np.cos(angle) + 1j * np.sin(angle))
        leading = counted & (real == lead)
        first = np.where(leading, terms, 0).sum(axis=axes, keepdims=True)
        rest = np.where(leading, 0, terms).sum(axis=axes, keepdims=True)
        return _combine(lead, first, rest)


def _combine(lead: Array, first: Array, rest: Array) -> tuple[Array, Array]:
    """Log and sign of exp(lead) (first + rest); log1p where `rest` is small beside `first`."""
    total = first + rest
    magnitude = np.abs(total)
    small = np.abs(rest) < 0.5 * np.abs(first)
    ratio = np.where(small, rest / np.where(small, first, 1), 0)
    # |1 + ratio|^2 = 1 + 2 re + |ratio|^2
    excess = 0.5 * np.log1p(2 * ratio.real + np.abs(ratio) ** 2)
    if total.dtype.kind != "c":
        excess = np.log1p(ratio)
    log = np.where(small, np.log(np.abs(first)) + excess, np.log(magnitude)) + lead
    infinite = np.isinf(magnitude)
    with_sign = np.where(magnitude > 0, magnitude, 1)
    sign = np.where(infinite, np.sign(total), total / with_sign)
    if total.dtype.kind != "c":
        sign = np.sign(total)
    return log.astype(total.real.dtype), sign.astype(total.dtype)


def signed_log(log: Array, sign: Array) -> Array:
    """log(sign exp(log)): complex where the sign is, NaN for a negative real sum."""
    if sign.dtype.kind == "c":
        return log + 1j * np.angle(sign)
    result: Array = np.where(sign < 0, np.nan, log).astype(log.dtype)
    return result
