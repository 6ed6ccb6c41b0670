"""Comparisons from files and data frames."""

# budget: over 400 lines, one way of each row from a file of any kind to a cell, a third of it
# docstrings

from __future__ import annotations

import collections
import dataclasses
import math
import os
from collections.abc import Hashable, Mapping, Sequence
from typing import Any, NamedTuple, TextIO

import numpy as np

from softmap._columns import (
    KNOWN_OUTCOMES,
    cure_of_outcome,
    outcome_key,
    outcome_table,
    read_codes,
    read_covariates,
)
from softmap._labels import is_missing, sort_labels
from softmap._rows import Rows
from softmap._sources import Source, csv_source, frame_source, jsonl_source, parquet_source
from softmap.comparisons import Comparisons, from_rows

# known names of columns, in lower case with every other character than a letter or digit as "_"
_SIDES = (
    ("left", "right"),
    ("model_a", "model_b"),
    ("home_team", "away_team"),
    ("home", "away"),
    ("player1", "player2"),
    ("item_a", "item_b"),
)
_OUTCOMES = ("winner", "outcome", "result")
_COUNTS = (("left_wins", "right_wins"), ("home_wins", "away_wins"), ("win1", "win2"))
_TIES = ("ties", "draws")
_WEIGHTS = ("weight", "weights")
_FORMATS = {"jsonl": "jsonl", "ndjson": "jsonl", "parquet": "parquet", "pq": "parquet"}
_WHERE = "read_comparisons"


def read_comparisons(
    path: str | os.PathLike[str] | TextIO,
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
    format: str | None = None,
    on_bad_row: str = "raise",
) -> Comparisons:
    """Read comparisons from a csv, jsonl or parquet file.

    Csv is UTF-8, comma separated, the first line names the columns; jsonl is one object per line,
    the first one names the columns. Csv and jsonl are read by the standard library, so that the
    result does not depend on what is installed; parquet by DuckDB or, without it, by pyarrow.

    Three forms are understood; names of columns may be written in upper or lower case and with
    spaces, dots or underscores:

    - one comparison per row: left and right (or model_a and model_b, home team and away team, home
      and away, player1 and player2, item_a and item_b), and winner, outcome or result with the
      values of `Comparisons.from_pairs`;
    - winner and loser: one comparison per row, order unknown;
    - counts: left and right as above, left_wins and right_wins (or home wins and away wins, win1
      and win2), and ties or draws if there were any: each row is that many comparisons.

    A column weight or weights holds weights. Other columns are ignored unless named here.

    Parameters
    ----------
    path : path, or open text file
    left, right, outcome, weights : str, optional
        Names of columns, for files that name them otherwise. `left` and `right` are given together.
    soft : bool, default False
        Whether the outcomes are probabilities that the left won.
    judges, clusters, groups : str, optional
        Names of columns, as in `Comparisons.from_pairs`. An empty group is none; in jsonl and
        parquet a list puts the row into several groups.
    covariates : sequence of str
        Names of columns of numbers.
    labels : mapping, optional
        Further outcome words and what they mean, as in `Comparisons.from_pairs`.
    format : "csv", "jsonl" or "parquet", optional
        By default what the name of the file ends with (also .ndjson and .pq), otherwise csv.
    on_bad_row : "raise" or "skip", default "raise"
        Whether a row that cannot be read stops the reading or is left out; `skipped` of the result
        then has its line number (parquet: row number from 1) and the reason, and rows read =
        n_rows + len(skipped). Empty lines are no rows.

    Returns
    -------
    Comparisons

    Raises
    ------
    ValueError
        An empty file, columns that are missing, a row that cannot be read (with its line number),
        no row that can, text that is not UTF-8, an unknown `on_bad_row` or `format`.
    BackendMissingError
        Parquet with neither DuckDB nor pyarrow.
    OSError
        A file that cannot be opened.

    Examples
    --------
    >>> import io
    >>> c = read_comparisons(io.StringIO("left,right,winner\\na,b,left\\nb,c,tie\\n"))
    >>> c
    Comparisons(3 items, 2 rows, 2 pairs, ordered)
    """
    if not isinstance(path, (str, os.PathLike)) and not hasattr(path, "read"):
        raise TypeError(
            f"{_WHERE}: path is a {type(path).__name__}, it must be a path or an open text file"
        )
    if on_bad_row not in ("raise", "skip"):
        raise ValueError(f"{_WHERE}: on_bad_row = {on_bad_row!r}, it must be raise or skip")
    if format not in (None, "csv", "jsonl", "parquet"):
        raise ValueError(f"{_WHERE}: format = {format!r}, it must be csv, jsonl or parquet")
    opened = not isinstance(path, str | os.PathLike)
    name = str(getattr(path, "name", "<file>")) if opened else os.fspath(path)  # type: ignore[arg-type]
    ending = name.rpartition(".")[2].lower()
    kind = format or _FORMATS.get(ending, "csv")
    options = _Options(
        left, right, outcome, soft, weights, judges, clusters, groups, tuple(covariates), labels
    )
    if kind == "parquet":
        if opened:
            raise ValueError(f"{_WHERE}: {name} is an open file, parquet needs the path")
        os.stat(path)  # type: ignore[arg-type]  # a file that is not there is an OSError
        return _read(_WHERE, parquet_source(_WHERE, name), options, on_bad_row)
    make = jsonl_source if kind == "jsonl" else csv_source
    if opened:
        return _read(_WHERE, make(_WHERE, path, name), options, on_bad_row)  # type: ignore[arg-type]
    with open(path, newline="", encoding="utf-8-sig") as file:  # type: ignore[arg-type]
        return _read(_WHERE, make(_WHERE, file, name), options, on_bad_row)


def read_frame(
    df: Any,
    *,
    left: str | None,
    right: str | None,
    outcome: str | None,
    soft: bool,
    weights: str | None,
    judges: str | None,
    clusters: str | None,
    groups: str | None,
    covariates: Sequence[str],
    labels: Mapping[Any, Any] | None,
) -> Comparisons:
    """`Comparisons.from_frame`."""
    where = "Comparisons.from_frame"
    options = _Options(
        left, right, outcome, soft, weights, judges, clusters, groups, tuple(covariates), labels
    )
    return _read(where, frame_source(where, df, "df"), options, "raise")


@dataclasses.dataclass(frozen=True)
class _Options:
    """What the caller says about the columns."""

    left: str | None
    right: str | None
    outcome: str | None
    soft: bool
    weights: str | None
    judges: str | None
    clusters: str | None
    groups: str | None
    covariates: tuple[str, ...]
    labels: Mapping[Any, Any] | None


@dataclasses.dataclass(frozen=True)
class _Columns:
    """Positions of the columns in a row."""

    left: int
    right: int
    outcome: int | None
    counts: tuple[int, ...]  # of wins, losses and perhaps ties, where there is no outcome
    weights: int | None
    ordered: bool
    soft: bool
    groups: int | None
    codes: dict[str, int]  # judges and clusters
    covariates: dict[str, int]

    def used(self) -> list[int]:
        places = (self.left, self.right, self.outcome, self.weights, self.groups, *self.counts)
        named = (*self.codes.values(), *self.covariates.values())
        return sorted({k for k in (*places, *named) if k is not None})


def _read(where: str, source: Source, options: _Options, on_bad_row: str) -> Comparisons:
    if (options.left is None) != (options.right is None):
        raise ValueError(
            f"{where}: left = {options.left!r} and right = {options.right!r}, "
            "they must be given together"
        )
    table = outcome_table(where, options.labels)
    columns = _find_columns(where, source, options)
    parsed, times, skipped = [], [], []
    for key, row, n in source.rows(columns.used()):
        try:
            if isinstance(row, ValueError):
                raise row
            parsed.append(_parse(row, columns, table))
            times.append(n)
        except ValueError as error:
            lines = source.lines(key, row)
            if on_bad_row == "raise":
                cure = "mend it, or leave such rows out with on_bad_row='skip'"
                cure = f" ({cure})" if where == _WHERE else ""
                place = f"{source.name} {source.line} {lines[0]}"
                raise ValueError(f"{where}: {place}: {error}{cure}") from None
            skipped += [(line, str(error)) for line in lines]
    skipped.sort()
    if not parsed:
        first = f", the first: {source.line} {skipped[0][0]}: {skipped[0][1]}" if skipped else ""
        n = len(skipped)
        raise ValueError(
            f"{where}: {source.name} has no row that could be read ({n} skipped{first})"
        )
    return _build(where, columns, parsed, np.array(times), tuple(skipped))


def _build(
    where: str,
    columns: _Columns,
    parsed: list[_Parsed],
    times: Any,
    skipped: tuple[tuple[int, str], ...],
) -> Comparisons:
    items = sort_labels(where, {x for row in parsed for x in (row.left, row.right)})
    place = {item: k for k, item in enumerate(items)}
    n = len(parsed)
    left = np.array([place[row.left] for row in parsed])
    right = np.array([place[row.right] for row in parsed])
    shares = np.array([row.shares for row in parsed], dtype=np.float64)
    weight = np.array([row.weight for row in parsed])
    codes = {}
    for k, name in enumerate(columns.codes):
        codes[name] = read_codes(where, name, [row.codes[k] for row in parsed], n)
    given = {name: [r.covariates[k] for r in parsed] for k, name in enumerate(columns.covariates)}
    rows = Rows(
        left,
        right,
        shares.T * weight,
        {name: found for name, (found, _) in codes.items()},
        {name: labels for name, (_, labels) in codes.items()},
        read_covariates(where, given, n),
    )
    members = collections.defaultdict(list)
    for k, row in enumerate(parsed):
        for group in dict.fromkeys(row.groups):
            members[group].append(k)
    groups = [(name, np.array(members[name])) for name in sort_labels(where, members)]
    width = 6 if columns.soft else 3 * (columns.weights is not None)
    lines = times
    if columns.counts:  # so many wins, losses and ties, each of this weight
        rows = dataclasses.replace(
            rows.take(np.repeat(np.arange(n), 3)),
            amounts=np.tile(np.eye(3), n) * np.repeat(weight, 3),
        )
        lines = np.outer(times, [1, 0, 0]).ravel()
        times = (shares.astype(np.int64) * times[:, None]).ravel()
        groups = [(name, (3 * at[:, None] + np.arange(3)).ravel()) for name, at in groups]
    state = (width, columns.ordered, columns.soft, skipped)
    return from_rows(items, rows, *state, groups=groups, times=times, lines=lines)


def _find_columns(where: str, source: Source, options: _Options) -> _Columns:
    header, name = source.header, source.name
    plain = ["".join(c if c.isalnum() else "_" for c in cell.lower()) for cell in header]

    def given(option: str, wanted: str | None) -> int | None:
        return _given(where, source, option, wanted)

    def known(*groups: tuple[str, ...]) -> tuple[int, ...]:
        """Return the places of the first group of names that is there."""
        for group in groups:
            if all(word in plain for word in group):
                return tuple(plain.index(word) for word in group)
        return ()

    def missing(what: str, option: str) -> ValueError:
        found = f"found: {', '.join(header)}; name it with {option}"
        return ValueError(f"{where}: {name} has no column for {what} ({found})")

    weights = given("weights", options.weights)
    if weights is None:
        weights = next(iter(known(*((word,) for word in _WEIGHTS))), None)
    left, right = given("left", options.left), given("right", options.right)
    outcome = given("outcome", options.outcome)
    counts: tuple[int, ...] = ()
    ordered = True
    decided = known(("winner", "loser"))
    if left is None or right is None:
        sides = known(*_SIDES)
        if not sides and decided and outcome is None:
            sides, ordered = decided, False
        if not sides:
            raise missing("the two items", "left= and right=")
        left, right = sides
    if ordered and outcome is None:
        outcome = next(iter(known(*((word,) for word in _OUTCOMES))), None)
        counts = known(*_COUNTS)
        if outcome is not None and counts:
            raise ValueError(
                f"{where}: {name} has both outcomes ({header[outcome]}) and counts "
                f"({header[counts[0]]}), one is needed (name the outcome with outcome=)"
            )
        counts += known(*((word,) for word in _TIES)) if counts else ()
        if outcome is None and not counts:
            raise missing("the outcome", "outcome=")
    if options.soft and outcome is None:
        raise missing("the probability that the left won", "outcome=")
    places = {word: given(word, getattr(options, word)) for word in ("judges", "clusters")}
    wanted = {word: given("covariates", word) for word in options.covariates}
    return _Columns(
        left,
        right,
        outcome,
        counts,
        weights,
        ordered,
        options.soft,
        given("groups", options.groups),
        {word: place for word, place in places.items() if place is not None},
        {word: place for word, place in wanted.items() if place is not None},
    )


def _given(where: str, source: Source, option: str, wanted: str | None) -> int | None:
    """Return the place of the column that the option names."""
    if wanted is None:
        return None
    if wanted not in source.header:
        found = f"(found: {', '.join(source.header)})"
        raise ValueError(f"{where}: {option} = {wanted!r} is not in {source.name} {found}")
    return source.header.index(wanted)


class _Parsed(NamedTuple):
    """One row."""

    left: Hashable
    right: Hashable
    shares: tuple[float, float, float]  # of wins, losses, ties; or their counts
    weight: float
    groups: list[Hashable]
    codes: list[Hashable]
    covariates: list[float]


def _parse(row: Sequence[Any], columns: _Columns, table: dict[Hashable, float]) -> _Parsed:
    """Return what the row says; ValueError says what is wrong."""
    left = _label(row[columns.left], "name of the left item")
    right = _label(row[columns.right], "name of the right item")
    if left == right:
        raise ValueError(f"{left!r} is compared with itself")
    weight = 1.0
    if columns.weights is not None:
        weight = _number(row[columns.weights])
        if not 0.0 <= weight <= 1e15:
            raise ValueError(
                f"weight = {row[columns.weights]!r}, it must be a number from 0 to 1e15"
            )
    group = "" if columns.groups is None else row[columns.groups]
    group = group if isinstance(group, list | tuple) else [group]
    covariates = []
    for name, k in columns.covariates.items():
        covariates.append(_number(row[k]))
        if not math.isfinite(covariates[-1]):
            raise ValueError(f"{name} = {row[k]!r}, it must be a finite number")
    return _Parsed(
        left,
        right,
        _shares(row, columns, table),
        weight,
        [_label(x, "group") for x in group if not (is_missing(x) or x == "")],
        [_label(row[k], name.removesuffix("s")) for name, k in columns.codes.items()],
        covariates,
    )


def _shares(
    row: Sequence[Any], columns: _Columns, table: dict[Hashable, float]
) -> tuple[float, float, float]:
    if columns.counts:
        counts = [_number(row[k]) for k in columns.counts]
        for k, count in zip(columns.counts, counts, strict=True):
            if not (0.0 <= count < 2.0**53 and count == int(count)):
                raise ValueError(f"count = {row[k]!r}, it must be a whole number, at least 0")
        wins, losses, ties = (*counts, 0.0)[:3]
        return wins, losses, ties
    if columns.outcome is None:
        return 1.0, 0.0, 0.0
    word = row[columns.outcome]
    if columns.soft:
        p = _number(word)
        if not 0.0 <= p <= 1.0:
            raise ValueError(f"outcome = {word!r}, it must be a probability from 0 to 1")
        return p, 1.0 - p, 0.0
    value = None
    if isinstance(word, Hashable):
        value = table.get(outcome_key(word))
    if value is None:
        value = table.get(_number(word))
    if value is None:
        raise ValueError(f"outcome = {word!r}, {KNOWN_OUTCOMES}; {cure_of_outcome(word)}")
    return float(value == 1.0), float(value == 0.0), float(value == 0.5)


def _label(value: Any, what: str) -> Hashable:
    label = value.strip() if isinstance(value, str) else value
    if is_missing(label) or label == "":
        raise ValueError(f"the {what} is empty")
    if isinstance(label, str | int | float):
        return label
    raise ValueError(f"the {what} is {label!r}, it must be text or a number")


def _number(value: Any) -> float:
    """Return the number, or NaN."""
    try:
        return float(value)
    except (TypeError, ValueError):
        return math.nan
