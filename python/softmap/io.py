"""Comparisons from files."""

from __future__ import annotations

import csv
import dataclasses
import math
import os
from collections.abc import Hashable, Iterator, Mapping
from typing import Any, TextIO

import numpy as np

from softmap.comparisons import KNOWN_OUTCOMES, Comparisons, collect, outcome_key, outcome_table

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
_WHERE = "read_comparisons"


def read_comparisons(
    path: str | os.PathLike[str] | TextIO,
    *,
    left: str | None = None,
    right: str | None = None,
    outcome: str | None = None,
    weights: str | None = None,
    labels: Mapping[Any, Any] | None = None,
    on_bad_row: str = "raise",
) -> Comparisons:
    """Read comparisons from a csv file (UTF-8, comma separated, the first line names the columns).

    Three forms are understood; names of columns may be written in upper or lower case and with
    spaces, dots or underscores:

    - one comparison per row: left and right (or model_a and model_b, home team and away team, home
      and away, player1 and player2, item_a and item_b), and winner, outcome or result with the
      values of `Comparisons.from_pairs`;
    - winner and loser: one comparison per row, order unknown;
    - counts: left and right as above, left_wins and right_wins (or home wins and away wins, win1
      and win2), and ties or draws if there were any: each row is that many comparisons.

    A column weight or weights holds weights. Other columns are ignored.

    Parameters
    ----------
    path : path, or open text file
    left, right, outcome, weights : str, optional
        Names of columns, for files that name them otherwise. `left` and `right` are given together.
    labels : mapping, optional
        Further outcome words and what they mean, as in `Comparisons.from_pairs`.
    on_bad_row : "raise" or "skip", default "raise"
        Whether a row that cannot be read stops the reading or is left out; `skipped` of the result
        then has its line number and the reason, and rows read = n_rows + len(skipped). Empty lines
        are no rows.

    Returns
    -------
    Comparisons

    Raises
    ------
    ValueError
        An empty file, columns that are missing, a row that cannot be read (with its line number),
        no row that can, text that is not UTF-8, an unknown `on_bad_row`.
    OSError
        A file that cannot be opened.

    Examples
    --------
    >>> import io
    >>> c = read_comparisons(io.StringIO("left,right,winner\\na,b,left\\nb,c,tie\\n"))
    >>> c
    Comparisons(3 items, 2 rows, 2 pairs, ordered)
    """
    if on_bad_row not in ("raise", "skip"):
        raise ValueError(f"{_WHERE}: on_bad_row = {on_bad_row!r}, must be raise or skip")
    if (left is None) != (right is None):
        raise ValueError(f"{_WHERE}: left = {left!r} and right = {right!r}, must be given together")
    table = outcome_table(_WHERE, labels)
    options = {"left": left, "right": right, "outcome": outcome, "weights": weights}
    if not isinstance(path, str | os.PathLike):
        return _read(path, str(getattr(path, "name", "<file>")), options, table, on_bad_row)
    with open(path, newline="", encoding="utf-8-sig") as file:
        return _read(file, os.fspath(path), options, table, on_bad_row)


@dataclasses.dataclass(frozen=True)
class _Columns:
    """Positions of the columns in a row."""

    width: int
    left: int
    right: int
    outcome: int | None
    counts: tuple[int, ...]  # of wins, losses and perhaps ties, where there is no outcome
    weights: int | None
    ordered: bool


def _read(
    file: TextIO,
    name: str,
    options: dict[str, str | None],
    table: dict[Hashable, float],
    on_bad_row: str,
) -> Comparisons:
    reader = csv.reader(file, strict=True)
    rows = _numbered(reader, name)
    _, header = next(rows, (0, None))
    if header is None:
        raise ValueError(f"{_WHERE}: {name} is empty, the first line must name the columns")
    columns = _find_columns(name, header, options)
    place: dict[str, int] = {}
    left, right, values, skipped = [], [], [], []
    for line, row in rows:
        try:
            if isinstance(row, csv.Error):
                raise ValueError(f"{row}")
            i, j, *amounts = _parse(row, columns, table)
        except ValueError as error:
            if on_bad_row == "raise":
                cure = "mend it, or leave such rows out with on_bad_row='skip'"
                raise ValueError(f"{_WHERE}: {name} line {line}: {error} ({cure})") from None
            skipped.append((line, str(error)))
            continue
        left.append(place.setdefault(i, len(place)))
        right.append(place.setdefault(j, len(place)))
        values.append(amounts)
    if not values:
        first = f", the first: line {skipped[0][0]}: {skipped[0][1]}" if skipped else ""
        n = len(skipped)
        raise ValueError(f"{_WHERE}: {name} has no row that could be read ({n} skipped{first})")
    items = tuple(sorted(place))
    rank = {item: k for k, item in enumerate(items)}
    move = np.array([rank[item] for item in place])
    *counts, weight = np.array(values, dtype=np.float64).T
    squares = None if columns.weights is None else np.stack(counts) * weight**2
    return collect(
        items,
        move[np.array(left)],
        move[np.array(right)],
        np.stack(counts) * weight,
        squares,
        columns.ordered,
        len(values),
        tuple(skipped),
    )


def _numbered(reader: Any, name: str) -> Iterator[tuple[int, Any]]:
    """Yield (line number, row or csv.Error), without empty lines."""
    while True:
        try:
            row = next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            yield reader.line_num, error
            continue
        except UnicodeDecodeError as error:
            byte = f"{error.object[error.start]:#04x}"
            raise ValueError(
                f"{_WHERE}: {name} after line {reader.line_num}: byte {byte} is not UTF-8 "
                "(save the file as UTF-8)"
            ) from None
        if isinstance(row, list) and any(cell.strip() for cell in row):
            yield reader.line_num, row


def _find_columns(name: str, first: Any, options: dict[str, str | None]) -> _Columns:
    if isinstance(first, csv.Error):
        raise ValueError(f"{_WHERE}: {name} line 1: {first}")
    header: list[str] = [cell.lstrip("\ufeff").strip() for cell in first]
    plain = ["".join(c if c.isalnum() else "_" for c in cell.lower()) for cell in header]

    def given(option: str) -> int | None:
        """Return the place of the column that the option names."""
        wanted = options[option]
        if wanted is None:
            return None
        if wanted not in header:
            found = ", ".join(header)
            raise ValueError(f"{_WHERE}: {option} = {wanted!r} is not in {name} (found: {found})")
        return header.index(wanted)

    def known(*groups: tuple[str, ...]) -> tuple[int, ...]:
        """Return the places of the first group of names that is there."""
        for group in groups:
            if all(word in plain for word in group):
                return tuple(plain.index(word) for word in group)
        return ()

    def missing(what: str, option: str) -> ValueError:
        found = f"found: {', '.join(header)}; name it with {option}"
        return ValueError(f"{_WHERE}: {name} has no column for {what} ({found})")

    weights = given("weights")
    if weights is None:
        weights = next(iter(known(*((word,) for word in _WEIGHTS))), None)
    left, right, outcome = given("left"), given("right"), given("outcome")
    width = len(header)
    if left is None or right is None:
        sides = known(*_SIDES)
        decided = known(("winner", "loser"))
        if not sides and decided and outcome is None:
            return _Columns(width, decided[0], decided[1], None, (), weights, False)
        if not sides:
            raise missing("the two items", "left= and right=")
        left, right = sides
    counts: tuple[int, ...] = ()
    if outcome is None:
        outcome = next(iter(known(*((word,) for word in _OUTCOMES))), None)
        counts = known(*_COUNTS)
        if outcome is not None and counts:
            raise ValueError(
                f"{_WHERE}: {name} has both outcomes ({header[outcome]}) and counts "
                f"({header[counts[0]]}), one is needed (name the outcome with outcome=)"
            )
        counts += known(*((word,) for word in _TIES)) if counts else ()
    if outcome is None and not counts:
        raise missing("the outcome", "outcome=")
    return _Columns(width, left, right, outcome, counts, weights, True)


def _parse(
    row: list[str], columns: _Columns, table: dict[Hashable, float]
) -> tuple[str, str, float, float, float, float]:
    """Return (left, right, wins, losses, ties, weight); ValueError says what is wrong."""
    if len(row) != columns.width:
        raise ValueError(f"{len(row)} fields, must be {columns.width}")
    left, right = row[columns.left].strip(), row[columns.right].strip()
    if not left or not right:
        raise ValueError(f"the name of the {'right' if left else 'left'} item is empty")
    if left == right:
        raise ValueError(f"{left!r} is compared with itself")
    weight = 1.0
    if columns.weights is not None:
        weight = _number(row[columns.weights])
        if not 0.0 <= weight <= 1e15:
            raise ValueError(f"weight = {row[columns.weights]!r}, must be a number from 0 to 1e15")
    if columns.counts:
        counts = [_number(row[k]) for k in columns.counts]
        for k, count in zip(columns.counts, counts, strict=True):
            if not (0.0 <= count < 2.0**53 and count == int(count)):
                raise ValueError(f"count = {row[k]!r}, must be a whole number, at least 0")
        wins, losses, ties = (*counts, 0.0)[:3]
        return left, right, wins, losses, ties, weight
    if columns.outcome is None:
        return left, right, 1.0, 0.0, 0.0, weight
    word = row[columns.outcome]
    value = table.get(outcome_key(word))
    if value is None:
        value = table.get(_number(word))
    if value is None:
        cure = f"say what another word means with labels={{{word!r}: 1}}, 1 = left won"
        raise ValueError(f"outcome = {word!r}, {KNOWN_OUTCOMES}; {cure}")
    return left, right, float(value == 1.0), float(value == 0.0), float(value == 0.5), weight


def _number(text: str) -> float:
    """Return the number, or NaN."""
    try:
        return float(text)
    except ValueError:
        return math.nan
