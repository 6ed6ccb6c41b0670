"""Paired comparisons, kept as counts: all that the paired models need to know."""

# budget: over 400 lines, for one class, most of it docstrings, and its one constructor, `collect`

from __future__ import annotations

import collections
import dataclasses
import itertools
import os
from collections.abc import Hashable, Iterable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from softmap._check import plural
from softmap._columns import (
    Column,
    Floats,
    Ints,
    are_words,
    count_cells,
    labels_of_table,
    members_of,
    outcome_column,
    read_codes,
    read_covariates,
    read_groups,
    read_index,
    read_items,
    read_names,
    read_shares,
    read_table,
    read_weights,
)
from softmap._labels import sort_labels
from softmap._rows import Rows, canonical, difference, joined, numbered, one_way, products

_MOST_ROWS = 10**8  # that are kept one by one


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
    squares : float64 array (3, cells), (6, cells) or None
        Sums of squared weights of the wins, losses and ties, which robust standard errors need.
        None when every comparison has weight one. With probabilities the squares of weight times
        probability, and three more rows: the sums of products of win and loss, win and tie, loss
        and tie.
    soft : bool
        True where some outcomes are probabilities that the left won, in which ties are hidden.
    ordered : bool
        True where left was shown first (plays at home, speaks first). False where the order is
        unknown.
    n_rows : int
        Rows of input that were used: of `from_pairs`, of a file, non-zero entries of `from_matrix`.
    skipped : tuple of (line number, reason)
        Rows of a file that `read_comparisons(..., on_bad_row="skip")` left out: rows read are
        `n_rows + len(skipped)`.
    rows : Rows or None
        The comparisons one by one, kept where judges, clusters or covariates were given.
    groups : tuple of (name, Comparisons)
        Those of each group, sorted by name, with the same items.
    """

    items: tuple[Hashable, ...]
    left: Ints
    right: Ints
    wins: NDArray[Any]
    losses: NDArray[Any]
    ties: NDArray[Any]
    squares: Floats | None
    ordered: bool
    soft: bool
    n_rows: int
    skipped: tuple[tuple[int, str], ...] = ()
    rows: Rows | None = None
    groups: tuple[tuple[Hashable, Comparisons], ...] = ()

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
        soft: bool = False,
        weights: Any = None,
        judges: Any = None,
        clusters: Any = None,
        groups: Any = None,
        covariates: Mapping[str, Any] | None = None,
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
            Also (rows, 3) probabilities of left, tie and right, or `ChoiceProbabilities` of them.
        soft : bool, default False
            Whether `outcome` is the probability, from 0 to 1, that the left won: 0.5 is then no
            tie, and such data are fitted with ties="half" only.
        weights : number or sequence (rows,), optional
            Finite, from 0 to 1e15. One each by default.
        judges, clusters : sequences (rows,), optional
            Who decided, and which rows depend on each other (votes of one person, answers to one
            question): labels of any kind that sort. With clusters `fit` gives errors that are
            robust against that.
        groups : sequence (rows,), or mapping of name to bool array (rows,), optional
            For `fit_groups`. A label of None puts the row into no group; in a mapping groups may
            overlap.
        covariates : mapping of name to numbers (rows,), optional
            Carried for models that use them: differences, left minus right, so that their sign
            changes where the two are exchanged.
        items : int n, or sequence of n different labels, optional
            All items, in the order wanted; items without comparisons are legal. An int stands for
            the labels 0 .. n-1. By default the labels that occur, sorted.
        labels : mapping of word to value, optional
            Further outcome words and what they mean: "left", "right", "tie", a bool, 1, 0.5 or 0.

        Raises
        ------
        ValueError
            An unknown outcome, a missing label (None, NaN), an item compared with itself, a weight
            that is negative, NaN or infinite, probabilities out of their range, different lengths,
            no rows, items that repeat or that an index or a label is not among.
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
        names, *sides = read_items(where, left, right, items)
        n_rows, n_right = (column.codes.size for column in sides)
        if n_rows == 0:
            raise ValueError(f"{where}: left is empty, at least one comparison is needed")
        if n_right != n_rows:
            raise ValueError(f"{where}: left has {n_rows} rows and right has {n_right}")
        grouped = None if groups is None else read_groups(where, groups, n_rows)
        plain = all(x is None for x in (weights, judges, clusters, covariates)) and not soft
        if plain and are_words(outcome):
            columns = (*sides, outcome_column(where, outcome, labels, n_rows))
            if (counted := _counted(names, columns, grouped)) is not None:
                return counted
        left_index, right_index = (
            read_index(where, side, column, len(names))
            for side, column in zip(("left", "right"), sides, strict=True)
        )
        same = left_index == right_index
        if same.any():
            row = int(np.argmax(same))
            raise ValueError(
                f"{where}: left[{row}] = right[{row}] = {names[left_index[row]]!r}, "
                "an item cannot be compared with itself"
            )
        amounts, kind = read_shares(where, outcome, soft, labels, n_rows)
        if weights is not None:
            amounts = amounts * read_weights(where, weights, n_rows)
        given = {"judges": judges, "clusters": clusters}
        read = {k: read_codes(where, k, v, n_rows) for k, v in given.items() if v is not None}
        return from_rows(
            names,
            Rows(
                left_index,
                right_index,
                amounts,
                {name: codes for name, (codes, _) in read.items()},
                {name: labels for name, (_, labels) in read.items()},
                read_covariates(where, covariates or {}, n_rows),
            ),
            6 if kind != "hard" else 3 * (weights is not None),
            True,
            kind == "soft",
            groups=members_of(grouped),
        )

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
            0 .. n-1 by default; of a pandas frame its index, which must equal its columns. They
            name the rows and columns in their order, whatever the labels of a frame.

        Raises
        ------
        ValueError
            Not square, fewer than 2 items, an entry that is negative, NaN, infinite or above 1e15,
            ties that are not symmetric, no comparison at all, items that repeat or of wrong number,
            frames whose rows and columns are labelled differently.
        TypeError
            Entries that are not real numbers, a masked array.

        Examples
        --------
        >>> c = Comparisons.from_matrix([[0, 3], [1, 0]], items=["a", "b"])
        >>> c.wins, c.losses, c.ordered
        (array([3]), array([1]), False)
        """
        where = "Comparisons.from_matrix"
        if items is None:
            items = labels_of_table(where, "wins", wins)
            of_ties = labels_of_table(where, "tie_counts", tie_counts)
            if items is None:
                items = of_ties
            elif of_ties is not None and of_ties != items:
                raise ValueError(f"{where}: wins and tie_counts are labelled differently")
        table = read_table(where, "wins", wins)
        n = len(table)
        ties = (
            np.zeros((n, n)) if tie_counts is None else read_table(where, "tie_counts", tie_counts)
        )
        if len(ties) != n:
            raise ValueError(f"{where}: tie_counts has shape {ties.shape} and wins {table.shape}")
        uneven = np.argwhere(ties != ties.T)
        if uneven.size:
            i, j = uneven[0]
            raise ValueError(
                f"{where}: tie_counts[{i}, {j}] = {ties[i, j]:g} but tie_counts[{j}, {i}] = "
                f"{ties[j, i]:g}, tie_counts must be symmetric"
            )
        names = read_names(where, n if items is None else items)
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
        return collect(names, i[used], j[used], counts, squares, False, False, n_rows)

    @classmethod
    def from_frame(
        cls,
        df: Any,
        *,
        left: str | None = None,
        right: str | None = None,
        outcome: str | None = None,
        soft: bool = False,
        weights: str | None = None,
        judges: str | None = None,
        clusters: str | None = None,
        groups: str | None = None,
        covariates: Sequence[str] = (),
        labels: Mapping[Any, Any] | None = None,
    ) -> Comparisons:
        """Comparisons from a data frame: pandas, Polars or an Arrow table.

        Columns are found by name as `read_comparisons` finds them, or given; the other parameters
        are those of `read_comparisons`. A row that cannot be read is an error that names it.

        Examples
        --------
        >>> import pandas
        >>> df = pandas.DataFrame({"left": ["x", "y"], "right": ["y", "z"], "winner": [1, 0.5]})
        >>> Comparisons.from_frame(df)
        Comparisons(3 items, 2 rows, 2 pairs, ordered)
        """
        from softmap.io import read_frame

        return read_frame(
            df,
            left=left,
            right=right,
            outcome=outcome,
            soft=soft,
            weights=weights,
            judges=judges,
            clusters=clusters,
            groups=groups,
            covariates=covariates,
            labels=labels,
        )

    def without_order(self) -> Comparisons:
        """The same comparisons, forgetting which item was shown first.

        Examples
        --------
        >>> c = Comparisons.from_pairs(["a", "b"], ["b", "a"])
        >>> c.without_order()
        Comparisons(2 items, 2 rows, 1 pair, order unknown)
        """
        return self._onto(self.items, False)

    def among(self, items: Sequence[Hashable]) -> Comparisons:
        """The same comparisons with these items, in this order.

        Items without comparisons may come and go; ValueError where one with comparisons is missing.

        Examples
        --------
        >>> Comparisons.from_pairs(["a"], ["b"], items=["a", "b", "c"]).among(["b", "a"]).items
        ('b', 'a')
        """
        where = "Comparisons.among"
        names = read_names(where, items)
        known = {*names}
        lost = [self.items[k] for k in compared_items(self) if self.items[k] not in known]
        if lost:
            raise ValueError(f"{where}: {lost[0]!r} has comparisons and is not among the items")
        return self._onto(names, self.ordered)

    @property
    def counts(self) -> NDArray[Any]:
        """Wins, losses and ties of the cells, (3, cells)."""
        return np.stack([self.wins, self.losses, self.ties])

    @property
    def n_comparisons(self) -> int | float:
        """Number of comparisons, or the sum of their weights."""
        total: int | float = sum(x.sum() for x in (self.wins, self.losses, self.ties)).item()
        return total

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write everything to a file of NumPy's npz format (version 1 of the layout).

        Items, judges, clusters and groups must be str, int, float, bool or tuples of these;
        otherwise TypeError.
        """
        from softmap import exchange

        exchange.save(self, path)

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> Comparisons:
        """Read what `save` wrote, equal to it bit for bit. ValueError for another file."""
        from softmap import exchange

        return exchange.load(path)

    def to_arrow(self) -> Any:
        """Return a `pyarrow.Table`: a line per pair, or per row where rows are kept.

        Columns: group (null: all comparisons), left, right, wins, losses, ties, then what there is
        of squares, judges, clusters and covariates. Metadata hold the rest, so that `from_arrow`
        gives back an equal object.
        """
        from softmap import exchange

        return exchange.to_arrow(self)

    @classmethod
    def from_arrow(cls, table: Any) -> Comparisons:
        """Return what `to_arrow` made a table of; for other tables see `from_frame`."""
        from softmap import exchange

        return exchange.from_arrow(table)

    def _onto(self, items: tuple[Hashable, ...], ordered: bool) -> Comparisons:
        """Return the same comparisons among these items, and without order if so."""
        if items == self.items and ordered == self.ordered:
            return self
        place = {item: k for k, item in enumerate(items)}
        move = np.array([place.get(item, -1) for item in self.items], dtype=np.int64)
        groups = tuple((name, part._onto(items, ordered)) for name, part in self.groups)
        rows = self.rows
        if rows is not None:
            rows = dataclasses.replace(rows, left=move[rows.left], right=move[rows.right])
        return collect(
            items,
            move[self.left],
            move[self.right],
            self.counts,
            self.squares,
            ordered,
            self.soft,
            self.n_rows,
            self.skipped,
            rows,
            groups,
        )

    def __add__(self, other: Comparisons) -> Comparisons:
        if not isinstance(other, Comparisons):
            return NotImplemented
        items = self.items
        if items != other.items:
            items = sort_labels("Comparisons.__add__", set(items) | set(other.items))
        ordered = self.ordered and other.ordered
        a, b = self._onto(items, ordered), other._onto(items, ordered)
        mine, others = dict(a.groups), dict(b.groups)
        names = sort_labels("Comparisons.__add__", set(mine) | set(others))
        groups = tuple(
            (x, mine[x] + others[x] if x in mine and x in others else mine.get(x) or others[x])
            for x in names
        )
        squares = None
        width = max(a._width, b._width)
        if width:
            squares = np.hstack([part._squares(width) for part in (a, b)])
        # at most two cells meet in one sum, which does not depend on their order
        return collect(
            items,
            np.concatenate([a.left, b.left]),
            np.concatenate([a.right, b.right]),
            np.hstack([a.counts, b.counts]),
            squares,
            ordered,
            self.soft or other.soft,
            self.n_rows + other.n_rows,
            tuple(sorted(self.skipped + other.skipped)),
            joined("Comparisons.__add__", a.rows, b.rows),
            groups,
        )

    def __sub__(self, other: Comparisons) -> Comparisons:
        """Retract comparisons that were added before: (a + b) - b has the cells of a.

        The items stay. ValueError where more is retracted than there is.
        """
        if not isinstance(other, Comparisons):
            return NotImplemented
        where = "Comparisons.__sub__"
        used = np.concatenate([other.left, other.right])
        strange = {other.items[k] for k in np.unique(used)} - {*self.items}
        if strange:
            raise ValueError(f"{where}: {min(strange, key=str)!r} is not among the items")
        if self.ordered and not other.ordered:
            raise ValueError(f"{where}: the order is known, but not in what is retracted")
        other = other._onto(self.items, self.ordered)
        a = self
        n, width = len(a.items), max(a._width, other._width)
        key, gone = a.left * n + a.right, other.left * n + other.right
        have, take = (np.vstack([c.counts, c._squares(width)]) for c in (a, other))
        rest, short = difference(key, have.astype(np.float64), gone, take)
        if short >= 0:
            pair = f"{a.items[short // n]!r} and {a.items[short % n]!r}"
            raise ValueError(f"{where}: more comparisons of {pair} are retracted than there are")
        kept = rest[:3].any(axis=0)
        mine, others = dict(a.groups), dict(other.groups)
        if missing := set(others) - set(mine):
            raise ValueError(f"{where}: {min(missing, key=str)!r} is not among the groups")
        groups = [(x, mine[x] - others[x] if x in others else mine[x]) for x in mine]
        skipped = collections.Counter(a.skipped) - collections.Counter(other.skipped)
        return collect(
            a.items,
            a.left[kept],
            a.right[kept],
            rest[:3, kept],
            rest[3:, kept] if width else None,
            a.ordered,
            a.soft,
            a.n_rows - other.n_rows,
            tuple(sorted(skipped.elements())),
            joined("Comparisons.__sub__", a.rows, other.rows),
            tuple((x, part) for x, part in groups if part.n_rows),
        )

    @property
    def _width(self) -> int:
        return 0 if self.squares is None else len(self.squares)

    def _squares(self, width: int) -> Floats:
        """Return the squares with this many rows."""
        squares = self.counts if self.squares is None else self.squares
        missing = max(0, width - len(squares))
        return np.pad(squares, ((0, missing), (0, 0)))[:width]

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
        sizes = [(len(self.items), "item"), (self.n_rows, "row"), (self.left.size, "pair")]
        items, rows, pairs = (plural(n, noun) for n, noun in sizes)
        skipped = f", {len(self.skipped)} skipped" * bool(self.skipped)
        order = "ordered" if self.ordered else "order unknown"
        return f"Comparisons({items}, {rows}{skipped}, {pairs}, {order})"


def compared_items(c: Comparisons) -> Ints:
    """Return the indices of the items that have comparisons, sorted."""
    used = np.zeros(len(c.items), dtype=np.bool_)
    used[c.left] = used[c.right] = True
    return np.flatnonzero(used)


def collect(
    items: tuple[Hashable, ...],
    left: Ints,
    right: Ints,
    counts: NDArray[Any],
    squares: Floats | None,
    ordered: bool,
    soft: bool,
    n_rows: int,
    skipped: tuple[tuple[int, str], ...] = (),
    rows: Rows | None = None,
    groups: tuple[tuple[Hashable, Comparisons], ...] = (),
) -> Comparisons:
    """Add up rows of counts (3, rows) (wins, losses, ties) into one cell per pair. Where `rows` are
    given the cells are theirs.

    Eleven parameters: it is the only constructor, everything that is stored passes here.
    """
    if rows is not None:
        rows = canonical(rows, ordered)
        left, right, counts = rows.left, rows.right, rows.amounts
        squares = None if squares is None else products(counts, len(squares))
    elif not ordered:  # every pair in one direction
        left, right, counts, squares = one_way(left, right, counts, squares)
    n = len(items)
    key = left * n + right
    cells, slot = numbered(key, n * n)
    dtype = np.int64 if squares is None else np.float64
    wins, losses, ties = (sums(slot, row, cells.size).astype(dtype) for row in counts)
    squared = None
    if squares is not None:
        squared = np.stack([sums(slot, row, cells.size) for row in squares])
    place = (cells // n, cells % n)
    return Comparisons(
        items, *place, wins, losses, ties, squared, ordered, soft, n_rows, skipped, rows, groups
    )


def from_rows(
    items: tuple[Hashable, ...],
    rows: Rows,
    width: int,
    ordered: bool,
    soft: bool,
    skipped: tuple[tuple[int, str], ...] = (),
    groups: Iterable[tuple[Hashable, Ints]] = (),
    times: Ints | None = None,
    lines: Ints | None = None,
) -> Comparisons:
    """Collect rows, each so many times and standing for so many lines of input; `width` is the
    number of rows of the squares, `groups` are the members of each group. Rows are kept where they
    have more than counts.
    """
    one = np.ones(rows.left.size, dtype=np.int64)
    n_times = one if times is None else times
    n_lines = n_times if lines is None else lines

    def part(at: Any, inner: tuple[tuple[Hashable, Comparisons], ...] = ()) -> Comparisons:
        chosen, repeats = rows.take(at), n_times[at]
        kept = None
        if rows.codes or rows.covariates:
            if repeats.sum() > _MOST_ROWS:
                raise ValueError(
                    f"Comparisons: {repeats.sum()} rows are too many to keep with judges, clusters "
                    f"or covariates, at most {_MOST_ROWS} (leave these columns out)"
                )
            kept = chosen.take(np.repeat(np.arange(repeats.size), repeats))
        counts = chosen.amounts * repeats
        squares = products(chosen.amounts, width) * repeats if width else None
        cells = (chosen.left, chosen.right, counts, squares)
        return collect(items, *cells, ordered, soft, int(n_lines[at].sum()), (), kept, inner)

    whole = part(slice(None), tuple((name, part(at)) for name, at in groups))
    return dataclasses.replace(whole, skipped=skipped)


def _counted(
    items: tuple[Hashable, ...],
    columns: Sequence[Column],
    grouped: tuple[tuple[Hashable, ...], Any] | None,
) -> Comparisons | None:
    """Count rows of left, right and outcome that have nothing else, and the rows of each group;
    None where a row is not in order.
    """
    n_rows, n = columns[0].codes.size, len(items)
    cells = count_cells(columns, n_rows, n)
    if cells is None:
        return None
    groups: list[tuple[Hashable, Comparisons]] = []
    if grouped is not None and isinstance(grouped[1], Column):
        names, number = grouped
        parts = count_cells(columns, n_rows, n, (number, len(names) + 1))
        if parts is None:
            return None
        ends = np.searchsorted(parts[0], n * np.arange(len(names) + 1))
        for k, (start, end) in enumerate(itertools.pairwise(ends)):
            left, *rest = (x[start:end].copy() for x in parts)
            groups.append((names[k], _counts_of(items, (left - n * k, *rest))))
    else:
        for name, at in members_of(grouped):
            some = [x._replace(codes=x.codes[at]) if x.codes.size == n_rows else x for x in columns]
            if (part := _counted(items, some, None)) is not None:
                groups.append((name, part))
    return dataclasses.replace(_counts_of(items, cells), groups=tuple(groups))


def _counts_of(items: tuple[Hashable, ...], cells: Sequence[Ints]) -> Comparisons:
    """Return the comparisons of counted cells: left, right, wins, losses and ties."""
    left, right, wins, losses, ties = cells
    n_rows = int(wins.sum() + losses.sum() + ties.sum())
    return Comparisons(items, left, right, wins, losses, ties, None, True, False, n_rows)


def sums(index: Ints, amounts: NDArray[Any], n: int) -> Floats:
    """Return (n,): the sum of the amounts that have each index."""
    return np.bincount(index, weights=amounts, minlength=n).astype(np.float64, copy=False)


def check_comparisons(function: str, value: object) -> None:
    """Raise unless it is Comparisons."""
    if not isinstance(value, Comparisons):
        kind, cure = type(value).__name__, "make one with Comparisons.from_pairs"
        raise TypeError(f"{function}: comparisons is a {kind}, it must be Comparisons ({cure})")
