"""Comparisons one by one: what is kept where counts do not suffice."""

from __future__ import annotations

import dataclasses
from collections.abc import Hashable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from softmap._columns import Floats, Ints
from softmap._labels import sort_labels

_TURN = np.array([1, 0, 2])  # wins, losses, ties, seen from the other item
_TURN_SQUARES = np.array([1, 0, 2, 3, 5, 4])
_FACTORS = np.array([(0, 0), (1, 1), (2, 2), (0, 1), (0, 2), (1, 2)]).T  # of the squares


@dataclasses.dataclass(frozen=True, eq=False)
class Rows:
    """Comparisons one by one, in an order that depends on nothing but themselves.

    Attributes
    ----------
    left, right : int64 arrays (rows,)
    amounts : float64 array (3, rows)
        Weight times probability of a win of the left, a loss, a tie.
    codes : dict of name to int64 array (rows,)
        "judges" and "clusters", where they were given: indices into `labels` of the same name.
    labels : dict of name to sorted labels
    covariates : dict of name to float64 array (rows,)
    """

    left: Ints
    right: Ints
    amounts: Floats
    codes: dict[str, Ints]
    labels: dict[str, tuple[Hashable, ...]]
    covariates: dict[str, Floats]

    def columns(self) -> list[NDArray[Any]]:
        """Return all columns, the first being the most important to sort by."""
        rest = [*self.codes.values(), *self.covariates.values()]
        return [self.left, self.right, *self.amounts, *rest]

    def take(self, index: NDArray[Any]) -> Rows:
        """Return these rows in this order."""
        return Rows(
            self.left[index],
            self.right[index],
            self.amounts[:, index],
            {name: column[index] for name, column in self.codes.items()},
            self.labels,
            {name: column[index] for name, column in self.covariates.items()},
        )

    def __post_init__(self) -> None:
        for column in (self.amounts, *self.columns()):
            column.flags.writeable = False

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Rows):
            return NotImplemented
        named = (self.labels, [*self.covariates]) == (other.labels, [*other.covariates])
        pairs = zip(self.columns(), other.columns(), strict=named)
        return named and all(np.array_equal(a, b) for a, b in pairs)

    __hash__ = None  # type: ignore[assignment]

    def __reduce__(self) -> tuple[type[Rows], tuple[Any, ...]]:
        return type(self), tuple(getattr(self, field.name) for field in dataclasses.fields(self))


def products(amounts: Floats, width: int) -> Floats:
    """Return the squares (width, rows) of amounts (3, rows), as `Comparisons` defines them."""
    squares: Floats = amounts[_FACTORS[0, :width]] * amounts[_FACTORS[1, :width]]
    return squares


def one_way(
    left: Ints, right: Ints, counts: NDArray[Any], squares: Floats | None
) -> tuple[Ints, Ints, NDArray[Any], Floats | None]:
    """Return the same with left < right: every pair in one direction."""
    swap = left > right
    left, right = np.where(swap, right, left), np.where(swap, left, right)
    counts = np.where(swap, counts[_TURN], counts)
    if squares is not None:
        squares = np.where(swap, squares[_TURN_SQUARES[: len(squares)]], squares)
    return left, right, counts, squares


def canonical(rows: Rows, ordered: bool) -> Rows:
    """Return the rows in the order that depends on nothing but themselves."""
    if not ordered:
        sign = np.where(rows.left > rows.right, -1.0, 1.0)
        left, right, amounts, _ = one_way(rows.left, rows.right, rows.amounts, None)
        turned = {name: sign * column for name, column in rows.covariates.items()}
        rows = Rows(left, right, amounts, rows.codes, rows.labels, turned)
    codes, labels = {}, {}
    for name, column in rows.codes.items():  # labels in use only
        used, codes[name] = np.unique(column, return_inverse=True)
        labels[name] = tuple(rows.labels[name][k] for k in used)
    rows = dataclasses.replace(rows, codes=codes, labels=labels)
    return rows.take(np.lexsort(rows.columns()[::-1]))


def numbered(key: Ints, limit: int) -> tuple[Ints, Ints]:
    """Return the different keys, sorted, and the place of each key among them."""
    if limit > 4 * key.size + 65536:
        return np.unique(key, return_inverse=True)
    cells = np.flatnonzero(
        np.bincount(key, minlength=limit)
    )  # a dense table is faster than sorting
    slot = np.zeros(limit, dtype=np.int64)
    slot[cells] = np.arange(cells.size)
    return cells, slot[key]


def joined(where: str, x: Rows | None, y: Rows | None) -> Rows | None:
    """Return x and y, or x without y where `where` ends with __sub__; in no particular order."""
    if x is None and y is None:
        return None
    columns = [set() if part is None else {*part.codes, *part.covariates} for part in (x, y)]
    if x is None or y is None or columns[0] != columns[1]:
        names = ", ".join(sorted(columns[0] ^ columns[1]))
        raise ValueError(f"{where}: only one side has {names}")
    labels: dict[str, tuple[Hashable, ...]] = {}
    mine: dict[str, Ints] = {}
    others: dict[str, Ints] = {}
    for name in x.codes:
        labels[name] = sort_labels(where, {*x.labels[name], *y.labels[name]})
        place = {label: k for k, label in enumerate(labels[name])}
        for part, codes in ((x, mine), (y, others)):
            codes[name] = np.array([place[k] for k in part.labels[name]])[part.codes[name]]
    x, y = (
        dataclasses.replace(part, codes=codes, labels=labels)
        for part, codes in ((x, mine), (y, others))
    )
    both = Rows(
        np.concatenate([x.left, y.left]),
        np.concatenate([x.right, y.right]),
        np.hstack([x.amounts, y.amounts]),
        {name: np.concatenate([x.codes[name], y.codes[name]]) for name in x.codes},
        labels,
        {k: np.concatenate([x.covariates[k], y.covariates[k]]) for k in x.covariates},
    )
    return both if where.endswith("__add__") else _without(both, x.left.size)


def difference(key: Ints, have: Floats, gone: Ints, take: Floats) -> tuple[Floats, int]:
    """Return the amounts (rows, cells) that are left of `have`, whose cells have these sorted keys,
    and the key of a cell that had too little, or -1.
    """
    at = np.minimum(np.searchsorted(key, gone), max(0, key.size - 1))
    hit = key[at] == gone if key.size else np.zeros(gone.size, dtype=bool)
    strange = gone[~hit & take.any(axis=0)]
    if strange.size:
        return have, int(strange[0])
    taken = np.zeros_like(have)
    taken[:, at[hit]] = take[:, hit]
    rest: Floats = have - taken
    short = key[(rest < -1e-9 * np.maximum(have, 1.0)).any(axis=0)]
    rest[rest <= 1e-12 * have] = 0.0  # what rounding leaves of a difference of weights is nothing
    return rest, int(short[0]) if short.size else -1


def _without(both: Rows, n: int) -> Rows:
    """Return the first n rows without those that follow, each taken once."""
    table = np.vstack(both.columns())
    order = np.lexsort((np.arange(table.shape[1]), *table[::-1]))
    new = np.ones(order.size, dtype=bool)
    new[1:] = (np.diff(table[:, order], axis=1) != 0).any(axis=0)
    kind = np.empty(order.size, dtype=np.int64)
    kind[order] = np.cumsum(new) - 1
    taken = np.bincount(kind[n:], minlength=kind.max(initial=-1) + 1)
    there = np.bincount(kind[:n], minlength=taken.size)
    if (taken > there).any():
        raise ValueError("Comparisons.__sub__: a row is retracted that is not there")
    ordinal = np.arange(order.size) - np.flatnonzero(new)[kind[order]]  # within its kind
    rank = np.empty(order.size, dtype=np.int64)
    rank[order] = ordinal
    return both.take(np.flatnonzero(rank[:n] >= taken[kind[:n]]))
