"""One number a row at which a monotone function of the row takes a given value."""

import functools
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from softmap import _generic
from softmap._arrays import DASK, Array, by_dask, common_library
from softmap._check import (
    as_float_array,
    as_kernel_array,
    backend_of,
    check_choice,
    contiguous,
    placed,
    raise_shape,
)

__all__ = ["row_root"]

FUNCTIONS = ("sigmoid_sum", "divergence")


def row_root(
    x: ArrayLike,
    function: str,
    target: ArrayLike,
    axis: int = -1,
    *,
    n_threads: int | None = None,
) -> Any:
    """Where a function of a number and a row takes the value `target`, row by row.

    ===========  =====================================================  ======================
    sigmoid_sum  sum(sigmoid(x + t)), in t                              0 < target < n
    divergence   KL(softmax(x / tau) || uniform) = log n - entropy      0 < target < log(n / m)
    ===========  =====================================================  ======================

    Here n is the number of columns that are not -inf, and m of those that tie for the largest.

    Parameters
    ----------
    x : array_like
        Logits; floating, integer or bool. -inf is a mask and left out.
    function : {"sigmoid_sum", "divergence"}
        The function; the first rises with t, the second falls with tau.
    target : float or array_like
        Value to be taken: one for all rows, or one a row.
    axis : int
        The axis that runs along a row.
    n_threads : int, optional
        Threads to use at most. The result does not depend on it.

    Returns
    -------
    array or scalar
        t or tau of each row, of the library of `x`; float32 for half and float32 input, otherwise
        float64. NaN where there is none: for a target out of range, and for a row with NaN or +inf,
        or of nothing but -inf. A divergence too large for the row gives tau = 0, its limit.

    Raises
    ------
    TypeError, BackendMissingError
        As :func:`softmap.softmax`.
    ValueError
        For an axis that is out of range, an unknown function, and a target of the wrong shape.

    Notes
    -----
    Newton's method inside a bracket, in float64, on the row as it lies in the cache; for the
    divergence in the logarithm of tau.

    Examples
    --------
    >>> import numpy as np, softmap
    >>> softmap.row_root([[0.0, 0.0, 0.0, -np.inf]], "sigmoid_sum", 1.5)
    array([0.])
    >>> x = np.log([1.0, 3.0])  # half of it has the odds 1 to sqrt(3)
    >>> p = softmap.softmax(x / 2)
    >>> softmap.row_root(x, "divergence", (p * np.log(2 * p)).sum()).round(12)
    np.float64(2.0)
    """
    name = "row_root"
    library = common_library(name, x=x, target=target)
    check_choice(name, "function", function, FUNCTIONS)
    more: dict[str, Any] = {"function": function, "n_threads": n_threads}
    if library is DASK:
        axes = _generic.normalize_axes(name, x, axis)
        solve = functools.partial(_solve, **more)
        return by_dask(name, solve, x, axes, [""], rows={"target": target})
    a = as_kernel_array(name, "x", x)
    return library.from_numpy(_solve(a, axis, target, **more), x)


def _solve(a: Array, axis: Any, target: Any, *, function: str, n_threads: int | None) -> Array:
    """The roots of an array in NumPy."""
    name = "row_root"
    axes = _generic.normalize_axes(name, a, axis)
    if len(axes) != 1:
        raise_shape(name, "x", a.shape, "a row runs along one axis")
    rows = tuple(n for k, n in enumerate(a.shape) if k not in axes)
    targets = as_float_array(name, "target", target).astype(np.float64)
    if targets.shape not in ((), rows):
        raise_shape(name, "target", targets.shape, f"it must be a number or have shape {rows}")
    if targets.ndim:
        targets = contiguous(targets)
    targets = placed(targets, a)
    last = np.moveaxis(a, axes[0], -1)
    roots: Array = backend_of(a).row_root(last, FUNCTIONS.index(function), targets, n_threads)
    return roots
