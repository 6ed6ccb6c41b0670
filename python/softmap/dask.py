"""Comparisons from the partitions of a Dask data frame; Dask is an optional library.

Arrays need nothing from here: the functions of `softmap` take Dask arrays themselves, and stay
lazy.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from softmap.comparisons import Comparisons
from softmap.errors import optional

__all__ = ["from_frame", "tree_sum"]


def from_frame(frame: Any, **columns: Any) -> Any:
    """Comparisons of all partitions of a Dask data frame: counted where they lie, then added up.

    Parameters
    ----------
    frame : dask.dataframe.DataFrame
        One row per comparison.
    **columns
        As in `Comparisons.from_frame`.

    Returns
    -------
    dask.delayed.Delayed
        Of `Comparisons`: call ``.compute()`` on it, or hand it to a client. Only counts travel,
        unless judges, clusters or covariates are given, of which the rows are kept.

    Raises
    ------
    BackendMissingError
        Where Dask is not installed.
    TypeError
        Where `frame` is no Dask data frame.
    ValueError
        At once for a frame without partitions; when it is computed, the errors of
        `Comparisons.from_frame`, with the number of the partition in front, and for a frame without
        a row.

    Notes
    -----
    The sum is that of :func:`tree_sum`: counts without weights are equal to those from the whole
    frame, sums of weights to 1e-12, and bit for bit the same whenever the partitions are.

    Examples
    --------
    >>> import dask.dataframe, softmap, softmap.dask  # doctest: +SKIP
    >>> frame = dask.dataframe.read_parquet("votes/*.parquet")  # doctest: +SKIP
    >>> softmap.fit(softmap.dask.from_frame(frame).compute())  # doctest: +SKIP
    """
    where = "softmap.dask.from_frame"
    delayed = optional(where, "dask", "dask[dataframe]").delayed
    if not hasattr(frame, "to_delayed") or not hasattr(frame, "columns"):
        kind = f"{type(frame).__module__}.{type(frame).__qualname__}"
        raise TypeError(f"{where}: frame is a {kind}, it must be a Dask data frame")
    part = delayed(_part, pure=False)
    return tree_sum(part(x, k, columns) for k, x in enumerate(frame.to_delayed()))


def tree_sum(parts: Iterable[Any], *, fan_in: int = 8) -> Any:
    """Sum of lazy `Comparisons`, some at a time, in an order that depends on their number only.

    Parameters
    ----------
    parts : iterable of dask.delayed.Delayed
        Of `Comparisons` each, for instance ``dask.delayed(softmap.read_comparisons)(path)``.
    fan_in : int, default 8
        How many are added at a time, at least 2.

    Returns
    -------
    dask.delayed.Delayed
        Of `Comparisons`.

    Raises
    ------
    BackendMissingError
        Where Dask is not installed.
    ValueError
        Where there is no part, and for a `fan_in` below 2.

    Examples
    --------
    >>> import dask, softmap, softmap.dask  # doctest: +SKIP
    >>> read = dask.delayed(softmap.read_comparisons)  # doctest: +SKIP
    >>> softmap.dask.tree_sum(read(path) for path in paths).compute()  # doctest: +SKIP
    """
    where = "softmap.dask.tree_sum"
    delayed = optional(where, "dask", "dask").delayed
    rest = list(parts)
    if not rest:
        raise ValueError(f"{where}: parts is empty, at least one is needed")
    if fan_in < 2:
        raise ValueError(f"{where}: fan_in = {fan_in}, it must be at least 2")
    add = delayed(_sum, pure=False)
    while len(rest) > 1:
        rest = [add(rest[k : k + fan_in]) for k in range(0, len(rest), fan_in)]
    return delayed(_checked, pure=False)(rest[0])


def _part(frame: Any, number: int, columns: dict[str, Any]) -> Comparisons | int:
    """Return the comparisons of one partition, 0 where it has no row."""
    if not len(frame):
        return 0
    try:
        return Comparisons.from_frame(frame, **columns)
    except (TypeError, ValueError) as error:
        raise type(error)(f"partition {number}: {error}") from None


def _sum(parts: list[Comparisons | int]) -> Comparisons | int:
    return sum(part for part in parts if isinstance(part, Comparisons))


def _checked(total: Comparisons | int) -> Comparisons:
    if isinstance(total, int):
        raise ValueError("softmap.dask.from_frame: frame has no rows")
    return total
