"""Z-loss: a loss of the standardised output of the target."""

from typing import Any

import numpy as np

from softmap._check import check_number
from softmap.pairwise import preference
from softmap.systems._recipe import (
    at,
    by_columns,
    float_rows,
    in_dtype,
    integers,
    one_a_row,
    recipe,
)

__all__ = ["loss"]


@recipe(outputs=float_rows, target=integers)
def loss(outputs: Any, target: Any, *, a: float = 1.0, b: float = 0.0) -> Any:
    """Softplus of how far the standardised output of the target is below b.

    z = (o[target] - mean(o)) / std(o), loss = log(1 + exp(a (b - z))) / a

    Parameters
    ----------
    outputs : array_like (..., C)
        o; shifting and scaling a row changes nothing.
    target : array_like of int
        True class; its shape broadcasts to (...).
    a, b : float
        Slope and place of the bend; free parameters.

    Returns
    -------
    loss : array (...)
        NaN for a target that is no class, and for a row of equal outputs, which has no scale.

    Notes
    -----
    The standard deviation is that of the population. The authors' code (factored_output_layer)
    has a = 1 and b = 0, adds 1e-12 to the standard deviation, and adds up the losses of a batch;
    `a` and `b` are from secondary sources, not checked against the paper's text.

    Checked against: the definition in 50 digits.

    References
    ----------
    A. de Brebisson and P. Vincent, "The Z-loss: a shift and scale invariant classification loss
    belonging to the Spherical Family", 2016, arXiv:1604.08859.

    Examples
    --------
    >>> import numpy as np
    >>> from softmap.systems import z_loss
    >>> np.expm1(z_loss.loss([1.0, 3.0], 1, b=1.0)).round(12)  # z = 1
    np.float64(1.0)
    """
    check_number("z_loss.loss", "a", a, positive=True)
    column = one_a_row("z_loss.loss", "target", target, outputs, "outputs")
    if not outputs.shape[-1]:
        return np.full_like(outputs, np.nan, shape=column.shape)
    o, axis = by_columns(outputs)
    n = in_dtype(outputs.shape[-1], outputs)
    # Taken off, so that equal outputs are exactly 0.
    first = o[:1].copy() if axis == 0 else o[..., :1]
    o = np.subtract(o, first, out=o) if axis == 0 else o - first
    mean = o.sum(axis=axis, keepdims=True) / n
    o -= mean
    most = np.maximum(o.max(axis=axis, keepdims=True), -o.min(axis=axis, keepdims=True))
    o /= most  # whose square is neither 0 nor infinite; equal outputs are NaN from here on
    spread = np.sqrt(np.square(o, out=o).sum(axis=axis) / n)
    first, mean, most = (x.reshape(spread.shape) for x in (first, mean, most))
    z = (at(outputs, column) - first - mean) / most / spread
    return -preference(a * (z - b), 0.0, log=True) / in_dtype(a, z)
