"""Masks of the columns that a sampler may draw: typical, top-p, top-k, min-p, epsilon."""

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
    check_number,
    contiguous,
    is_scalar,
    placed,
    raise_shape,
)
from softmap.softmax import compute_dtype, read_temperature

__all__ = ["row_filter"]

RULES = ("typical", "top_p", "top_k", "min_p", "epsilon")


def row_filter(
    x: ArrayLike,
    rule: str,
    amount: ArrayLike,
    axis: int = -1,
    *,
    temperature: ArrayLike = 1.0,
    min_keep: int = 1,
    n_threads: int | None = None,
) -> Any:
    """Which columns of each row to keep, by a rule on p = softmax(x / temperature).

    =========  ==========================================================================
    typical    columns whose -log p is nearest to the entropy, until they have `amount` [1]_
    top_p      most probable columns, until they have the probability `amount`
    top_k      the `amount` most probable columns
    min_p      columns of at least `amount` times the largest probability
    epsilon    columns of at least the probability `amount`
    =========  ==========================================================================

    Parameters
    ----------
    x : array_like
        Logits; floating, integer or bool.
    rule : {"typical", "top_p", "top_k", "min_p", "epsilon"}
        The rule.
    amount : float or array_like
        A number for all rows, or one a row: above 0 and below 1, for min_p also 1; for top_k a
        whole number from 1. In an array a value out of range keeps nothing of its row.
    axis : int
        The axis that runs along a row.
    temperature : float or array_like
        As in :func:`softmap.softmax`.
    min_keep : int
        Keep at least so many columns, in the order of the rule.
    n_threads : int, optional
        Threads to use at most. The result does not depend on it.

    Returns
    -------
    array of bool
        Of the library and the shape of `x`. Use it as ``where(mask, x, -inf)``.

    Raises
    ------
    TypeError, BackendMissingError
        As :func:`softmap.softmax`.
    ValueError
        As :func:`softmap.softmax`; also for an unknown rule, an amount that is a number and out of
        range, and a `min_keep` below 1.

    Notes
    -----
    The column that crosses the amount is kept. Equal logits are kept or left together, so that more
    than `amount` may be. -inf is a mask and never kept; nothing is kept of a row with NaN, with
    +inf, or of nothing but -inf. The typical set need not hold the most probable column.

    Nothing is sorted: the probabilities are added up by the leading bits of the rule's order, and
    only the columns that share those of the last one kept are looked at again.

    References
    ----------
    .. [1] C. Meister et al., "Locally Typical Sampling", TACL 2023, arXiv:2202.00666.

    Examples
    --------
    >>> import numpy as np, softmap
    >>> x = np.log([[0.5, 0.25, 0.15, 0.1]])
    >>> softmap.row_filter(x, "top_p", 0.7)
    array([[ True,  True, False, False]])
    >>> softmap.row_filter(x, "typical", 0.2)  # entropy 1.21, -log p 0.69 1.39 1.90 2.30
    array([[False,  True, False, False]])
    """
    name = "row_filter"
    library = common_library(name, x=x, temperature=temperature, amount=amount)
    check_choice(name, "rule", rule, RULES)
    if isinstance(min_keep, bool) or not isinstance(min_keep, (int, np.integer)) or min_keep < 1:
        raise ValueError(f"{name}: min_keep = {min_keep!r}, it must be an integer of at least 1")
    if is_scalar(amount):
        amount = _amount(name, rule, amount)
    more: dict[str, Any] = {"rule": rule, "min_keep": int(min_keep), "n_threads": n_threads}
    if library is DASK:
        columns = {"temperature": temperature, "amount": amount}
        axes = _generic.normalize_axes(name, x, axis)
        function = functools.partial(_mask, **more)
        return by_dask(name, function, x, axes, ["row"], rows=columns)
    a = as_kernel_array(name, "x", x)
    return library.from_numpy(_mask(a, axis, temperature, amount, **more), x)


def _mask(
    a: Array, axis: Any, temperature: Any, amount: Any, *, rule: str, min_keep: int, n_threads: Any
) -> Array:
    """The mask of an array in NumPy; the options are checked."""
    name = "row_filter"
    axes = _generic.normalize_axes(name, a, axis)
    if len(axes) != 1:
        raise_shape(name, "x", a.shape, "a row runs along one axis")
    rows = tuple(n for k, n in enumerate(a.shape) if k not in axes)
    kept = tuple(1 if k in axes else n for k, n in enumerate(a.shape))
    t = np.asanyarray(read_temperature(name, temperature, a, axes), dtype=compute_dtype(a))
    amounts = as_float_array(name, "amount", amount).astype(np.float64)
    if amounts.shape not in ((), rows, kept):
        raise_shape(name, "amount", amounts.shape, f"it must be a number or have shape {rows}")
    if amounts.ndim:
        amounts = contiguous(contiguous(amounts).reshape(rows))
    amounts = placed(amounts, a)
    last = np.moveaxis(a, axes[0], -1)
    mask = backend_of(a).row_filter(last, RULES.index(rule), t, amounts, min_keep, n_threads)
    return np.moveaxis(mask, -1, axes[0])


def _amount(name: str, rule: str, amount: Any) -> float:
    number = check_number(name, "amount", amount, positive=True)
    if rule == "top_k" and (number < 1 or number != int(number)):
        raise ValueError(f"{name}: amount = {amount!r}, for top_k it must be a whole number from 1")
    if rule != "top_k" and (number > 1 or (number == 1 and rule != "min_p")):
        raise ValueError(f"{name}: amount = {amount!r}, for {rule} it must be below 1")
    return number
