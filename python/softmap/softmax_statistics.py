"""Statistics of the softmax of a row, and sums of the parts of rows that are split."""

import functools
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from softmap import _generic
from softmap._arrays import (
    DASK,
    Array,
    by_dask,
    common_library,
    common_library_of_peers,
    elementwise_by_dask,
)
from softmap._check import (
    as_array,
    as_float_array,
    as_kernel_array,
    backend_of,
    contiguous,
    host_only,
    placed,
    raise_shape,
)
from softmap.softmax import compute_dtype, read_temperature

__all__ = [
    "RowStatistics",
    "logsumexp_partial",
    "merge_partials",
    "partial_to_logsumexp",
    "row_statistics",
]


@dataclass(frozen=True)
class RowStatistics:
    """Result of :func:`row_statistics`; ``...`` stands for the shape of the rows.

    Attributes
    ----------
    logsumexp : array (...)
        log(sum(exp(z))).
    entropy : array (...)
        -sum(p log p), in nats.
    maximum : array (...)
        The largest z.
    target_log_probability : array (...) or None
        log p of the target column.
    target_rank : array (...) of int64 or None
        1 + the number of columns with a larger logit; equal logits share the better rank.
    expectation, variance : array (...) or None
        Mean and variance of the weights under p.
    error_norm : array (...) or None
        Euclidean norm of p - onehot(target), from 0 to sqrt 2.
    """

    logsumexp: Any
    entropy: Any
    maximum: Any
    target_log_probability: Any = None
    target_rank: Any = None
    expectation: Any = None
    variance: Any = None
    error_norm: Any = None


def row_statistics(
    x: ArrayLike,
    axis: int | tuple[int, ...] = -1,
    *,
    temperature: ArrayLike = 1.0,
    target: ArrayLike | None = None,
    weights: ArrayLike | None = None,
    error_norm: bool = False,
    n_threads: int | None = None,
) -> RowStatistics:
    """Log-sum-exp, entropy, maximum and more of p = softmax(x / temperature), row by row.

    Nothing of the size of `x` is allocated. A row is read twice, the second time from the cache:
    the first read is that of :func:`softmap.logsumexp`, and the terms of the second are relative to
    the maximum that it has found, so that neither cancels. A variance needs a third read, with the
    expectation known, and an error norm two more.

    Parameters
    ----------
    x : array_like
        Logits; floating, integer or bool.
    axis : int or tuple of int
        Axes that run along a row; the last one by default.
    temperature : float or array_like
        As in :func:`softmap.softmax`.
    target : int or array_like of int, optional
        Column whose log-probability and rank are wanted: one for all rows, or one a row (the shape
        of ``logsumexp(x, axis)``). In an array a value outside the row gives NaN and rank 0, so
        that -100 or -1 can mark rows without a target.
    weights : array_like (V,), optional
        A value for each column, whose expectation and variance under p are wanted.
    error_norm : bool
        Also return the norm of p - onehot(target); it needs a target.
    n_threads : int, optional
        Threads to use at most. The result does not depend on it.

    Returns
    -------
    RowStatistics
        Of the library of `x`; float32 for float16, bfloat16 and float32 input, otherwise float64.

    Raises
    ------
    TypeError, BackendMissingError
        As :func:`softmap.softmax`; also for complex numbers, and a target that is not an integer.
    ValueError
        For an axis, a temperature, a target or weights that do not fit the shape of `x`, a single
        target outside the row, and an error norm without a target.

    Notes
    -----
    With d = z - max(z) and P = sum(exp(d)), entropy = log P + sum(exp(d) abs(d)) / P: both terms
    are at least 0, so that the entropy of a confident row keeps its digits; so does the error norm,
    where the entry of the target is minus the sum of the others. A row with NaN or +inf, or of
    nothing but -inf, has NaN statistics beside its `logsumexp` and `maximum`; -inf elsewhere is a
    mask.

    Examples
    --------
    >>> import numpy as np, softmap
    >>> r = softmap.row_statistics(np.log([[1.0, 1.0, 2.0]]), target=2, weights=[0, 0, 4])
    >>> np.exp(r.target_log_probability), r.target_rank, r.expectation, r.variance
    (array([0.5]), array([1]), array([2.]), array([4.]))
    >>> bool(abs(r.entropy[0] - 1.5 * np.log(2)) < 1e-15)
    True
    >>> r = softmap.row_statistics(np.log([[2.0, 1.0, 1.0]]), target=0, error_norm=True)
    >>> r.error_norm ** 2  # 1/4 + 1/16 + 1/16
    array([0.375])
    """
    name = "row_statistics"
    if error_norm and target is None:
        raise ValueError(f"{name}: error_norm = {error_norm}, it needs a target")
    library = common_library(name, x=x, temperature=temperature, target=target, weights=weights)
    if library is DASK:
        wanted = [True] * 3 + [target is not None] * 2 + [weights is not None] * 2
        wanted.append(bool(error_norm))

        def block(rows: Array, **options: Any) -> tuple[Any, ...]:
            options |= {"weights": weights, "error_norm": error_norm, "n_threads": n_threads}
            r = row_statistics(rows, **options)
            return tuple(getattr(r, f.name) for f in fields(r) if getattr(r, f.name) is not None)

        axes = _generic.normalize_axes(name, x, axis)
        arguments = {"temperature": temperature, "target": target}
        results = iter(by_dask(name, block, x, axes, [""] * sum(wanted), rows=arguments))
        return RowStatistics(*(next(results) if given else None for given in wanted))
    a = as_kernel_array(name, "x", x)
    axes = _generic.normalize_axes(name, a, axis)
    if not axes:
        raise_shape(name, "x", a.shape, "it needs at least one axis along a row")
    rows = tuple(n for k, n in enumerate(a.shape) if k not in axes)
    n_columns = int(np.prod([a.shape[k] for k in axes]))
    t = np.asanyarray(read_temperature(name, temperature, a, axes), dtype=compute_dtype(a))
    w = None
    if weights is not None:
        w = contiguous(as_float_array(name, "weights", weights), compute_dtype(a))
        if w.shape != (n_columns,):
            raise_shape(name, "weights", w.shape, f"the rows of x have {n_columns} columns")
        w = placed(w, a)
    columns = placed(_targets(name, target, rows, n_columns), a)
    results = list(
        backend_of(a).row_statistics(a, axes, t, columns, w, bool(error_norm), n_threads)
    )
    if target is None:
        results[3:5] = None, None
    return RowStatistics(*(None if r is None else library.from_numpy(r, x) for r in results))


def _targets(name: str, target: ArrayLike | None, rows: tuple[int, ...], n_columns: int) -> Array:
    """Columns as int64: 0-d, or one a row."""
    if target is None:
        return np.array(-1, dtype=np.int64)
    columns = as_array(name, "target", target)
    if columns.dtype.kind not in "iu":
        raise TypeError(f"{name}: target has dtype {columns.dtype}, it must be integer")
    if columns.ndim == 0 and not 0 <= columns.item() < n_columns:
        raise ValueError(f"{name}: target = {columns.item()}, the columns are 0 to {n_columns - 1}")
    if columns.ndim > 0 and columns.shape != rows:
        raise_shape(name, "target", columns.shape, f"it must be an integer or have shape {rows}")
    if columns.ndim == 0:
        return np.array(columns.item(), dtype=np.int64)
    return contiguous(columns, np.int64)


def logsumexp_partial(
    x: ArrayLike, axis: int | tuple[int, ...] | None = -1, *, n_threads: int | None = None
) -> tuple[Any, Any]:
    """Sum of exponentials of one piece of a row, in a form that merges with those of other pieces.

    sum(exp(x)) = m * 2**e along `axis`. For rows that no single array holds: a vocabulary in
    shards, chunks of a file.

    Parameters
    ----------
    x : array_like
        Logits; floating, integer or bool.
    axis : int, tuple of int or None
        Axes that are summed over.
    n_threads : int, optional
        Threads to use at most. The result does not depend on it.

    Returns
    -------
    m : array or scalar, float64
        Of the library of `x`, in [1, 2); 0 for an empty sum, NaN where a NaN was.
    e : array or scalar, float64
        Integer while abs(x) is below 2**49; -inf for an empty sum, +inf where a +inf was.

    Raises
    ------
    TypeError, ValueError
        As :func:`softmap.logsumexp`.

    See Also
    --------
    merge_partials, partial_to_logsumexp

    Examples
    --------
    >>> import numpy as np, softmap
    >>> m, e = softmap.logsumexp_partial(np.zeros(12))
    >>> float(m), float(e)
    (1.5, 3.0)
    """
    name = "logsumexp_partial"
    library = common_library(name, x=x)
    if library is DASK:
        axes = _generic.normalize_axes(name, x, axis)
        function = functools.partial(logsumexp_partial, n_threads=n_threads)
        m, e = by_dask(name, function, x, axes, ["", ""])
        return m, e
    a = as_kernel_array(name, "x", x)
    axes = _generic.normalize_axes(name, a, axis)
    m, e = backend_of(a).logsumexp_partial(a, axes, n_threads)
    return library.from_numpy(m, x), library.from_numpy(e, x)


def merge_partials(a: tuple[Any, Any], b: tuple[Any, Any]) -> tuple[Any, Any]:
    """Sum of two partial sums (m, e), elementwise.

    Parameters
    ----------
    a, b : tuple of two array_like
        Results of :func:`logsumexp_partial` or of this function; shapes that broadcast.

    Returns
    -------
    m, e : array or scalar, float64
        The sum, of the library of the arguments, in the same form. The addition commutes; merge in
        a fixed order where the last bit matters.

    Raises
    ------
    TypeError
        For anything but two pairs of numbers or arrays.

    Examples
    --------
    >>> import softmap
    >>> m, e = softmap.merge_partials((1.5, 3.0), (1.0, 2.0))
    >>> float(m), float(e)
    (1.0, 4.0)
    """
    name = "merge_partials"
    for argument, given in (("a", a), ("b", b)):
        if not isinstance(given, tuple) or len(given) != 2:
            raise TypeError(f"{name}: {argument} is a {type(given).__name__}, it must be (m, e)")
    parts = {"a[0]": a[0], "a[1]": a[1], "b[0]": b[0], "b[1]": b[1]}
    library, like = common_library_of_peers(name, **parts)
    if library is DASK:
        m, e = elementwise_by_dask(lambda *p: merge_partials(p[:2], p[2:]), 2, *a, *b)
        return m, e
    m_a, e_a, m_b, e_b = (_double(name, k, part) for k, part in parts.items())
    _check_together(name, a_m=m_a, a_e=e_a, b_m=m_b, b_e=e_b)
    with np.errstate(invalid="ignore"):
        top = np.maximum(e_a, e_b)
        finite = np.isfinite(top)
        m = _scaled(m_a, e_a, top, finite) + _scaled(m_b, e_b, top, finite)
        mantissa, exponent = np.frexp(m)  # in [1/2, 1)
        m = np.where(finite, mantissa * 2, np.where(top == np.inf, 1.0, m_a + m_b))
        e = np.where(finite, top + (exponent - 1), top)
    return library.from_numpy(m, like), library.from_numpy(e, like)


def _double(function: str, name: str, x: ArrayLike) -> Array:
    a = as_float_array(function, name, x)
    host_only(function, "it", name, a)
    return a.astype(np.float64)


def _check_together(function: str, **arrays: Array) -> None:
    """Raise where the shapes do not broadcast."""
    try:
        np.broadcast_shapes(*(a.shape for a in arrays.values()))
    except ValueError:
        shapes = ", ".join(str(a.shape) for a in arrays.values())
        raise ValueError(f"{function}: the shapes {shapes} do not broadcast together") from None


def _scaled(m: Array, e: Array, top: Array, finite: Array) -> Array:
    """m * 2**(e - top), 0 where that is far below; m itself where `top` is not finite."""
    shift = np.where(finite, np.maximum(e - top, -2000.0), 0.0)
    return np.ldexp(m, shift.astype(np.int32))


def partial_to_logsumexp(m: ArrayLike, e: ArrayLike) -> Any:
    """Logarithm of a partial sum: log(m * 2**e).

    Parameters
    ----------
    m, e : array_like
        Result of :func:`logsumexp_partial` or :func:`merge_partials`.

    Returns
    -------
    array or scalar, float64
        Of the library of `m`; -inf for an empty sum, NaN where a NaN was, +inf where a +inf was.

    Raises
    ------
    TypeError
        For anything but numbers.

    Examples
    --------
    >>> import numpy as np, softmap
    >>> parts = [softmap.logsumexp_partial(part) for part in (np.arange(5.0), np.arange(5.0, 9.0))]
    >>> whole = softmap.partial_to_logsumexp(*softmap.merge_partials(*parts))
    >>> bool(abs(whole - softmap.logsumexp(np.arange(9.0))) < 1e-14)
    True
    """
    library, like = common_library_of_peers("partial_to_logsumexp", m=m, e=e)
    if library is DASK:
        return elementwise_by_dask(partial_to_logsumexp, 1, m, e)
    mantissa = _double("partial_to_logsumexp", "m", m)
    exponent = _double("partial_to_logsumexp", "e", e)
    _check_together("partial_to_logsumexp", m=mantissa, e=exponent)
    with np.errstate(divide="ignore", invalid="ignore"):
        result = np.where(
            np.isfinite(exponent), exponent * np.log(2.0) + np.log(mantissa), exponent
        )
    return library.from_numpy(np.where(np.isnan(mantissa), np.nan, result), like)
