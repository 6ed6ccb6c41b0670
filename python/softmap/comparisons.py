"""Paired comparisons, kept as counts: all that the paired models need to know."""

from __future__ import annotations

import dataclasses
import itertools
import numbers
from collections import defaultdict
from collections.abc import Hashable, Iterable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]

_OUTCOMES: dict[Hashable, float] = {
    **dict.fromkeys(("left", "model_a", 1), 1.0),
    **dict.fromkeys(("right", "model_b", 0), 0.0),
    **dict.fromkeys(("tie", "tie (bothbad)", "both_bad", 0.5), 0.5),
}
KNOWN_OUTCOMES = (
    "known are left, right, tie, model_a, model_b, tie (bothbad), both_bad, bool, 1, 0.5 and 0"
)
_LARGEST_WEIGHT = 1e15  # counts beyond this are no longer exact in float64


@dataclasses.dataclass(frozen=True, eq=False, repr=False)
class Comparisons:
    """Outcomes of paired comparisons between named items, immutable.

    Make one with `from_pairs` (one row per comparison), `from_matrix` (a table of wins) or
    `read_comparisons` (a file). Equal rows are added up: what is kept is one cell per ordered pair
    of items that occurs. `a + b` puts two data sets together, `sum(parts)` many; the order of the
    parts does not matter, bit for bit when no weights are given, and a + b equals b + a always.

    Attributes
    ----------
    items : tuple of n hashable labels
        Sorted, unless an order was given.
    left, right : int64 arrays (cells,)
        Indices into `items`: the item shown first and the item shown second. Sorted by left, then
        right; no pair twice. Where `ordered` is False, left < right.
    wins, losses, ties : arrays (cells,)
        How often left won, right won, nobody won: int64 counts, or float64 sums of weights.
    squares : float64 array (3, cells) or None
        Sums of squared weights of the wins, losses and ties, which robust standard errors need.
        None when every comparison has weight one.
    ordered : bool
        True where left was shown first (plays at home, speaks first). False where the order is
        unknown.
    n_rows : int
        Rows of input that were used: of `from_pairs`, of a file, non-zero entries of `from_matrix`.
    skipped : tuple of (line number, reason)
        Rows of a file that `read_comparisons(..., on_bad_row="skip")` left out: rows read are
        `n_rows + len(skipped)`.
    """

    items: tuple[Hashable, ...]
    left: Ints
    right: Ints
    wins: NDArray[Any]
    losses: NDArray[Any]
    ties: NDArray[Any]
    squares: Floats | None
    ordered: bool
    n_rows: int
    skipped: tuple[tuple[int, str], ...] = ()

    def __post_init__(self) -> None:
        for name in ("left", "right", "wins", "losses", "ties", "squares"):
            if (array := getattr(self, name)) is not None:
                array.flags.writeable = False

    @classmethod
    def from_pairs(
        cls,
        left: Iterable[Any],
        right: Iterable[Any],
        outcome: Any = "left",
        *,
        weights: Any = None,
        items: int | Sequence[Hashable] | None = None,
        labels: Mapping[Any, Any] | None = None,
    ) -> Comparisons:
        """Comparisons from one row each.

        Parameters
        ----------
        left, right : sequences (rows,)
            The item shown first and the item shown second: hashable labels of any kind that sort.
            With `items`, integers are indices into it.
        outcome : scalar or sequence (rows,), default "left"
            "left", "right" or "tie"; the arena words model_a, model_b, tie, tie (bothbad), both_bad
            (upper or lower case); a bool (left won); or 1, 0.5 (tie), 0. A scalar: for all rows.
        weights : number or sequence (rows,), optional
            Finite, from 0 to 1e15. One each by default.
        items : int n, or sequence of n different labels, optional
            All items, in the order wanted; items without comparisons are legal. An int stands for
            the labels 0 .. n-1. By default the labels that occur, sorted.
        labels : mapping of word to value, optional
            Further outcome words and what they mean: "left", "right", "tie", a bool, 1, 0.5 or 0.

        Raises
        ------
        ValueError
            An unknown outcome, a missing label (None, NaN), an item compared with itself, a weight
            that is negative, NaN or infinite, different lengths, no rows, items that repeat or that
            an index or a label is not among.
        TypeError
            Labels that cannot be hashed or sorted, something that is not a sequence.

        Examples
        --------
        >>> c = Comparisons.from_pairs(["a", "b", "a"], ["b", "c", "b"], ["left", "tie", "right"])
        >>> c
        Comparisons(3 items, 3 rows, 2 pairs, ordered)
        >>> c.items, c.wins, c.losses, c.ties
        (('a', 'b', 'c'), array([1, 0]), array([1, 0]), array([0, 1]))
        """
        where = "Comparisons.from_pairs"
        names, left_index, right_index = _indices(where, left, right, items)
        rows = left_index.size
        if rows == 0:
            raise ValueError(f"{where}: left is empty, at least one comparison is needed")
        if right_index.size != rows:
            raise ValueError(f"{where}: left has {rows} rows and right has {right_index.size}")
        same = left_index == right_index
        if same.any():
            row = int(np.argmax(same))
            raise ValueError(
                f"{where}: left[{row}] = right[{row}] = {names[left_index[row]]!r}, "
                "an item cannot be compared with itself"
            )
        value = _outcomes(where, outcome, labels, rows)
        counts = np.stack([value == 1.0, value == 0.0, value == 0.5]).astype(np.float64)
        squares = None
        if weights is not None:
            weight = _weights(where, weights, rows)
            squares = counts * weight * weight
            counts *= weight
        return collect(names, left_index, right_index, counts, squares, True, rows)

    @classmethod
    def from_matrix(
        cls, wins: Any, *, tie_counts: Any = None, items: Sequence[Hashable] | None = None
    ) -> Comparisons:
        """Comparisons from a table of wins; which item was shown first is unknown.

        Parameters
        ----------
        wins : array (n, n)
            wins[i, j] = how often item i beat item j; the diagonal is ignored. Numbers that are not
            whole are that many comparisons of weight one.
        tie_counts : array (n, n), optional
            Symmetric; each tie counts once (tie_counts[i, j] is the number of ties of i and j).
        items : sequence of n different labels, optional
            0 .. n-1 by default.

        Raises
        ------
        ValueError
            Not square, fewer than 2 items, an entry that is negative, NaN, infinite or above 1e15,
            ties that are not symmetric, no comparison at all, items that repeat or of wrong number.
        TypeError
            Entries that are not real numbers, a masked array.

        Examples
        --------
        >>> c = Comparisons.from_matrix([[0, 3], [1, 0]], items=["a", "b"])
        >>> c.wins, c.losses, c.ordered
        (array([3]), array([1]), False)
        """
        where = "Comparisons.from_matrix"
        table = _table(where, "wins", wins)
        n = len(table)
        ties = np.zeros((n, n)) if tie_counts is None else _table(where, "tie_counts", tie_counts)
        if len(ties) != n:
            raise ValueError(f"{where}: tie_counts has shape {ties.shape} and wins {table.shape}")
        uneven = np.argwhere(ties != ties.T)
        if uneven.size:
            i, j = uneven[0]
            raise ValueError(
                f"{where}: tie_counts[{i}, {j}] = {ties[i, j]:g} but tie_counts[{j}, {i}] = "
                f"{ties[j, i]:g}, tie_counts must be symmetric"
            )
        names = _names(where, n if items is None else items)
        if len(names) != n:
            raise ValueError(
                f"{where}: items has {len(names)} names and wins has shape {table.shape}"
            )
        i, j = np.triu_indices(n, 1)
        counts = np.stack([table[i, j], table[j, i], ties[i, j]])
        used = counts.any(axis=0)
        if not used.any():
            raise ValueError(f"{where}: wins holds no comparison off its diagonal")
        counts = counts[:, used]
        whole = bool((counts == np.floor(counts)).all() and counts.max() < 2.0**53)
        squares, n_rows = None if whole else counts, int(np.count_nonzero(counts))
        return collect(names, i[used], j[used], counts, squares, False, n_rows)

    def without_order(self) -> Comparisons:
        """The same comparisons, forgetting which item was shown first.

        Examples
        --------
        >>> c = Comparisons.from_pairs(["a", "b"], ["b", "a"])
        >>> c.without_order()
        Comparisons(2 items, 2 rows, 1 pair, order unknown)
        """
        cells = (self.left, self.right, self.counts, self.squares)
        return collect(self.items, *cells, False, self.n_rows, self.skipped)

    @property
    def counts(self) -> NDArray[Any]:
        """Wins, losses and ties of the cells, (3, cells)."""
        return np.stack([self.wins, self.losses, self.ties])

    @property
    def n_comparisons(self) -> int | float:
        """Number of comparisons, or the sum of their weights."""
        total: int | float = self.counts.sum().item()
        return total

    def __add__(self, other: Comparisons) -> Comparisons:
        if not isinstance(other, Comparisons):
            return NotImplemented
        items = self.items
        if items != other.items:
            items = _sorted("Comparisons.__add__", set(items) | set(other.items))
        place = {item: k for k, item in enumerate(items)}
        ordered = self.ordered and other.ordered
        # at most two cells meet in one sum, which does not depend on their order
        parts = (self, other) if ordered else (self.without_order(), other.without_order())
        moves = [np.array([place[item] for item in part.items], dtype=np.int64) for part in parts]
        left = np.concatenate([m[p.left] for m, p in zip(moves, parts, strict=True)])
        right = np.concatenate([m[p.right] for m, p in zip(moves, parts, strict=True)])
        counts = np.hstack([p.counts for p in parts])
        squares = None
        if any(part.squares is not None for part in parts):
            squares = np.hstack([p.counts if p.squares is None else p.squares for p in parts])
        n_rows = self.n_rows + other.n_rows
        skipped = tuple(sorted(self.skipped + other.skipped))
        return collect(items, left, right, counts, squares, ordered, n_rows, skipped)

    def __radd__(self, other: object) -> Comparisons:
        return self if isinstance(other, int) and other == 0 else NotImplemented

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Comparisons):
            return NotImplemented
        return all(
            np.array_equal(a, b) if isinstance(a, np.ndarray) else bool(np.all(a == b))
            for a, b in zip(self.__reduce__()[1], other.__reduce__()[1], strict=True)
        )

    __hash__ = None  # type: ignore[assignment]

    def __reduce__(self) -> tuple[type[Comparisons], tuple[Any, ...]]:
        return type(self), tuple(getattr(self, field.name) for field in dataclasses.fields(self))

    def __repr__(self) -> str:
        pairs = f"{self.left.size} pair{'s' * (self.left.size != 1)}"
        skipped = f", {len(self.skipped)} skipped" * bool(self.skipped)
        order = "ordered" if self.ordered else "order unknown"
        return (
            f"Comparisons({len(self.items)} items, {self.n_rows} rows{skipped}, {pairs}, {order})"
        )


def collect(
    items: tuple[Hashable, ...],
    left: Ints,
    right: Ints,
    counts: NDArray[Any],
    squares: Floats | None,
    ordered: bool,
    n_rows: int,
    skipped: tuple[tuple[int, str], ...] = (),
) -> Comparisons:
    """Add up rows of counts (3, rows) (wins, losses, ties) into one cell per pair.

    Eight parameters: it is the only constructor, everything that is stored passes here.
    """
    if not ordered:  # every pair in one direction
        swap = left > right
        left, right = np.where(swap, right, left), np.where(swap, left, right)
        turn = np.where(swap, np.array([[1], [0], [2]]), np.array([[0], [1], [2]]))
        counts = np.take_along_axis(counts, turn, axis=0)
        squares = None if squares is None else np.take_along_axis(squares, turn, axis=0)
    n = len(items)
    key = left * n + right
    if n * n <= 4 * key.size + 65536:  # a dense table is faster than sorting
        cells = np.flatnonzero(np.bincount(key, minlength=n * n))
        slot = np.zeros(n * n, dtype=np.int64)
        slot[cells] = np.arange(cells.size)
        slot = slot[key]
    else:
        cells, slot = np.unique(key, return_inverse=True)

    dtype = np.int64 if squares is None else np.float64
    wins, losses, ties = (sums(slot, row, cells.size).astype(dtype) for row in counts)
    squared = None
    if squares is not None:
        squared = np.stack([sums(slot, row, cells.size) for row in squares])
    return Comparisons(
        items, cells // n, cells % n, wins, losses, ties, squared, ordered, n_rows, skipped
    )


def sums(index: Ints, amounts: NDArray[Any], n: int) -> Floats:
    """Return (n,): the sum of the amounts that have each index."""
    return np.bincount(index, weights=amounts, minlength=n).astype(np.float64, copy=False)


def outcome_table(where: str, labels: Mapping[Any, Any] | None) -> dict[Hashable, float]:
    """Return the value (1, 0.5 or 0) of each known outcome; words are lower case and stripped."""
    table = dict(_OUTCOMES)
    for word, meaning in (labels or {}).items():
        value = _OUTCOMES.get(outcome_key(meaning)) if _is_hashable(meaning) else None
        if value is None:
            raise ValueError(
                f"{where}: labels[{word!r}] = {meaning!r}, must be left, right, tie, a bool, "
                "1, 0.5 or 0"
            )
        table[outcome_key(word)] = value
    return table


def outcome_key(word: Any) -> Any:
    return word.strip().lower() if isinstance(word, str) else word


def _outcomes(where: str, outcome: Any, labels: Mapping[Any, Any] | None, rows: int) -> Floats:
    """Return 1.0, 0.5 or 0.0 per row."""
    table = outcome_table(where, labels)
    scalar = outcome is None or isinstance(outcome, str | bytes | numbers.Number | np.generic)
    values = [outcome] if scalar else _as_list(where, "outcome", outcome)
    if not scalar and len(values) != rows:
        raise ValueError(f"{where}: left has {rows} rows and outcome has {len(values)}")
    if not scalar and labels is None and getattr(outcome, "dtype", None) == np.bool_:
        return np.asarray(outcome, dtype=np.float64)
    codes, different = _factorize(where, "outcome", values)
    meaning = [table.get(outcome_key(word), np.nan) for word in different]
    value = np.array(meaning, dtype=np.float64)[codes]
    unknown = np.isnan(value)
    if unknown.any():
        row = int(np.argmax(unknown))
        word = values[row]
        place = "outcome" if scalar else f"outcome[{row}]"
        raise ValueError(
            f"{where}: {place} = {word!r}, {KNOWN_OUTCOMES} "
            f"(say what another word means with labels={{{word!r}: 1}}, 1 = left won)"
        )
    return np.broadcast_to(value, (rows,))


def _weights(where: str, weights: Any, rows: int) -> Floats:
    array = np.asarray(weights)
    if array.dtype.kind not in "biuf":
        raise TypeError(f"{where}: weights has dtype {array.dtype}, must be real numbers")
    if array.ndim > 1 or (array.ndim == 1 and array.size != rows):
        raise ValueError(f"{where}: left has {rows} rows and weights has shape {array.shape}")
    weight = np.broadcast_to(array.astype(np.float64), (rows,))
    _check_amounts(where, "weights", weight)
    return weight


def _table(where: str, name: str, values: Any) -> Floats:
    """Return a square table of finite amounts with a zero diagonal."""
    if isinstance(values, np.ma.MaskedArray):
        raise TypeError(f"{where}: {name} is a masked array (pass {name}.filled(0))")
    array = np.array(values)
    if array.dtype.kind not in "biuf":
        raise TypeError(f"{where}: {name} has dtype {array.dtype}, must be real numbers")
    if array.ndim != 2 or array.shape[0] != array.shape[1] or len(array) < 2:
        raise ValueError(
            f"{where}: {name} has shape {array.shape}, must be (n, n) with n at least 2"
        )
    table = array.astype(np.float64)
    np.fill_diagonal(table, 0.0)
    _check_amounts(where, name, table)
    return table


def _check_amounts(where: str, name: str, amounts: Floats) -> None:
    bad = ~((amounts >= 0.0) & (amounts <= _LARGEST_WEIGHT))
    if bad.any():
        index = [int(k) for k in np.argwhere(bad)[0]]
        value = float(amounts[tuple(index)])
        rule = "cannot be negative" if value < 0 else "must be finite and at most 1e15"
        raise ValueError(f"{where}: {name}{index} = {value!r}, {name} {rule}")


def _indices(
    where: str, left: Any, right: Any, items: int | Sequence[Hashable] | None
) -> tuple[tuple[Hashable, ...], Ints, Ints]:
    """Return the names of the items and the index of each row's left and right among them."""
    sides = (("left", left), ("right", right))
    if items is not None:
        names = _names(where, items)
        codes = [_look_up(where, side, values, names) for side, values in sides]
        return names, codes[0], codes[1]
    pairs = [_factorize(where, side, _as_list(where, side, values)) for side, values in sides]
    for (side, _), (code, labels) in zip(sides, pairs, strict=True):
        for k, label in enumerate(labels):
            if _is_missing(label):
                row = int(np.argmax(code == k))
                raise ValueError(f"{where}: {side}[{row}] = {label!r}, an item needs a label")
    names = _sorted(where, set(pairs[0][1]) | set(pairs[1][1]))
    place = {item: k for k, item in enumerate(names)}
    moves = [np.array([place[x] for x in labels], dtype=np.int64)[code] for code, labels in pairs]
    return names, moves[0], moves[1]


def _look_up(where: str, side: str, values: Any, names: tuple[Hashable, ...]) -> Ints:
    """Return indices into names: integers are indices already, other labels are looked up."""
    n = len(names)
    array = values
    if not isinstance(values, np.ndarray):
        values = _as_list(where, side, values)
        array = np.asarray(values if all(type(x) is int for x in values) else ["label"])
    if (array.dtype.kind in "iu" and array.ndim == 1) or not len(values):
        bad = (array < 0) | (array >= n)
        if bad.any():
            row = int(np.argmax(bad))
            raise ValueError(
                f"{where}: {side}[{row}] = {array[row]}, an index must be in 0..{n - 1}"
            )
        return np.array(array, dtype=np.int64)
    values = _as_list(where, side, values)
    place = {item: k for k, item in enumerate(names)}
    codes, different = _factorize(where, side, values)
    found = [-1 if _is_missing(x) else place.get(x, -1) for x in different]
    index = np.array(found, dtype=np.int64)[codes]
    if (index < 0).any():
        row = int(np.argmax(index < 0))
        raise ValueError(f"{where}: {side}[{row}] = {values[row]!r} is not among the {n} items")
    return index


def _names(where: str, items: int | Sequence[Hashable]) -> tuple[Hashable, ...]:
    if isinstance(items, numbers.Integral):
        if items < 1 or isinstance(items, bool):
            raise ValueError(f"{where}: items = {items}, must be at least 1")
        return tuple(range(int(items)))
    values = _as_list(where, "items", items)
    codes, names = _factorize(where, "items", values)
    if len(names) != len(values):
        row = int(np.flatnonzero(np.diff(np.maximum.accumulate(codes), prepend=-1) == 0)[0])
        raise ValueError(
            f"{where}: items[{row}] = {values[row]!r} is there twice, items must differ"
        )
    integer = [isinstance(x, int) and not isinstance(x, bool) for x in names]
    for k, name in enumerate(names):
        if _is_missing(name):
            raise ValueError(f"{where}: items[{k}] = {name!r}, an item needs a label")
        if integer[k] and name != k and where.endswith("pairs"):
            raise ValueError(
                f"{where}: items[{k}] = {name!r} is an integer, so integers in left and right "
                "could be indices or names (leave items out, or use strings)"
            )
    return tuple(names)


def _as_list(where: str, name: str, values: Any) -> list[Any]:
    if isinstance(values, str | bytes | Mapping) or not isinstance(values, Iterable):
        raise TypeError(f"{where}: {name} = {values!r}, must be a sequence")
    if getattr(values, "ndim", 1) != 1:
        raise ValueError(f"{where}: {name} has shape {values.shape}, must have one axis")  # type: ignore[attr-defined]
    if hasattr(values, "tolist"):
        return list(values.tolist())
    return list(values)


def _factorize(where: str, name: str, values: list[Any]) -> tuple[Ints, list[Any]]:
    """Return codes and the different values, values[k] == different[codes[k]]."""
    place: defaultdict[Any, int] = defaultdict(itertools.count().__next__)  # numbers what is new
    try:
        codes = np.fromiter(map(place.__getitem__, values), dtype=np.int64, count=len(values))
    except TypeError:
        row = len([*itertools.takewhile(_is_hashable, values)])
        raise TypeError(f"{where}: {name}[{row}] = {values[row]!r} cannot be hashed") from None
    return codes, [x.item() if isinstance(x, np.generic) else x for x in place]


def _is_hashable(value: Any) -> bool:
    try:
        hash(value)
    except TypeError:
        return False
    return True


def _is_missing(label: Any) -> bool:
    try:
        return label is None or bool(label != label)
    except TypeError:  # a missing value that does not compare
        return True


def _sorted(where: str, labels: Iterable[Any]) -> tuple[Hashable, ...]:
    labels = list(labels)
    try:
        return tuple(sorted(labels))
    except TypeError:
        kinds = " and ".join(sorted({type(label).__name__ for label in labels}))
        raise TypeError(
            f"{where}: labels of type {kinds} do not sort (pass items= in the order wanted)"
        ) from None
