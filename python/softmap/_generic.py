"""The softmax family in plain NumPy, for what the kernels do not compute.

That is complex and long double input, and the factors, signs and `where` of logsumexp. Straight
from the definitions, with the leading term kept out of the sum.
"""

from typing import Any

import numpy as np
from numpy.exceptions import AxisError

from softmap._check import Array

Axes = tuple[int, ...]


def normalize_axes(name: str, x: Any, axis: Any, argument: str = "x") -> Axes:
    """The axes to reduce, as sorted integers from 0."""
    if axis is None:
        return tuple(range(x.ndim))
    given = axis if isinstance(axis, (tuple, list)) else (axis,)
    axes = []
    for item in given:
        try:
            k = item.__index__()
        except (AttributeError, TypeError):
            raise TypeError(
                f"{name}: axis = {axis!r}, it must be an integer, a tuple of integers or None"
            ) from None
        if not -x.ndim <= k < x.ndim:
            raise AxisError(f"{name}: axis {k} is out of range for {argument} of shape {x.shape}")
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
        z = (x / temperature).astype(x.dtype)
        e = np.exp(z - _shift(z, axes))
        result: Array = e / e.sum(axis=axes, keepdims=True)
        return result


def log_softmax(x: Array, axes: Axes, temperature: Array) -> Array:
    with np.errstate(all="ignore"):
        z = (x / temperature).astype(x.dtype)
        d = z - _shift(z, axes)
        e = np.exp(d)
        leading = d == 0  # kept out of the sum, whose rest may be small beside it
        first = np.where(leading, e, 0).sum(axis=axes, keepdims=True)
        rest = np.where(leading, 0, e).sum(axis=axes, keepdims=True)
        log = np.log(first + rest)
        if z.dtype.kind != "c":
            log = np.where(first > 0, np.log(first) + np.log1p(rest / first), log)
        result: Array = d - log
        return result


def logsumexp(
    a: Array, axes: Axes, b: Array | None, temperature: Array, where: Array
) -> tuple[Array, Array]:
    """Logarithm of the magnitude of sum(b exp(a / temperature)), and the sum's direction.

    The direction is some multiple of the sum by a number above 0; the axes are kept.
    """
    if a.dtype.kind in "biu":
        a = a.astype(np.float64)
    if b is None or b.dtype.kind == "b":
        b = np.ones((), a.real.dtype) if b is None else b.astype(a.real.dtype)
    with np.errstate(all="ignore"):
        z = a if np.all(temperature == 1) else (a / temperature).astype(a.dtype)
        z, b, counted = np.broadcast_arrays(z.astype(np.result_type(z, b)), b, where.astype(bool))
        counted = counted & (b != 0)
        # The real part of what does not count is -inf, so that it neither leads nor adds.
        real = np.where(counted, z.real, -np.inf).astype(z.real.dtype)
        lead = _shift(real, axes)
        size = np.exp(real - lead)
        terms = np.where(counted, b * size, 0)
        if z.dtype.kind == "c":
            angle = np.where(counted & (size > 0), z.imag, 0)
            terms = terms * (np.cos(angle) + 1j * np.sin(angle))
            # Beside an infinite element only the definition itself says what the phase is.
            plain = np.where(counted, np.exp(z), 0)
            if b.dtype.kind == "c":
                plain = plain * b
            else:  # inf times a real factor has no imaginary part, as a complex product would
                plain.real, plain.imag = plain.real * b, plain.imag * b
            terms = np.where((real == np.inf).any(axis=axes, keepdims=True), plain, terms)
        leading = counted & (real == lead)
        first = np.where(leading, terms, 0).sum(axis=axes, keepdims=True)
        rest = np.where(leading, 0, terms).sum(axis=axes, keepdims=True)
        log, total = _log_of_sum(first, rest)
        return (lead + log).astype(z.real.dtype), total.astype(z.dtype)


def _log_of_sum(first: Array, rest: Array) -> tuple[Array, Array]:
    """Log of |first + rest|, by log1p where `rest` is small beside `first`; and the sum."""
    total = first + rest
    small = np.abs(rest) < 0.5 * np.abs(first)
    ratio = np.where(small, rest / np.where(small, first, 1), 0)
    if total.dtype.kind == "c":  # |1 + r|^2 = 1 + 2 re r + |r|^2
        excess = 0.5 * np.log1p(2 * ratio.real + np.abs(ratio) ** 2)
        whole = np.log(total).real
    else:
        excess, whole = np.log1p(ratio), np.log(np.abs(total))
    return np.where(small, np.log(np.abs(first)) + excess, whole), total


def signed_log(log: Array, direction: Array) -> Array:
    """Logarithm of the sum itself: complex where the sum is, NaN where it is real and negative."""
    if direction.dtype.kind == "c":
        result = np.empty(log.shape, direction.dtype)
        result.real, result.imag = log, np.angle(direction)
        return result
    return np.where(direction < 0, np.nan, log).astype(log.dtype)


def sign_of(direction: Array) -> Array:
    """-1, 0 or 1; for a complex sum the number of magnitude 1 (or 0) that points the same way."""
    if direction.dtype.kind != "c":
        return np.sign(direction)
    with np.errstate(all="ignore"):
        finite = np.isfinite(direction)
        unit = np.where(finite, direction, np.exp(1j * np.angle(direction)))
        magnitude = np.abs(unit)
        return (unit / np.where(magnitude == 0, 1, magnitude)).astype(direction.dtype)
