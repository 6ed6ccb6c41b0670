"""Reading the columns of paired comparisons: labels, outcomes, amounts."""

# budget: a little over 400 lines, as each kind of column has its own rules and its own errors

from __future__ import annotations

import itertools
import numbers
from collections.abc import Hashable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from softmap import _backend
from softmap._labels import column_of, encode, is_hashable, is_missing, sort_labels
from softmap.choices import ChoiceProbabilities

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
_MOST_COUNTED = 2**30  # items
_LARGEST_WEIGHT = 1e15  # counts beyond this are no longer exact in float64


class Column(NamedTuple):
    """A column as it was read: the value of a row is values[codes[row]], or codes[row] itself where
    values is None. One code stands for all rows.
    """

    codes: NDArray[Any]
    values: NDArray[Any] | None

    def rows(self) -> NDArray[Any]:
        """Return the value of each row."""
        return self.codes if self.values is None else self.values[self.codes]


def outcome_table(where: str, labels: Mapping[Any, Any] | None) -> dict[Hashable, float]:
    """Return the value (1, 0.5 or 0) of each known outcome; words are lower case and stripped."""
    table = dict(_OUTCOMES)
    if labels is not None and not isinstance(labels, Mapping):
        raise TypeError(
            f"{where}: labels is a {type(labels).__name__}, it must be a mapping of words"
        )
    for word, meaning in (labels or {}).items():
        value = _OUTCOMES.get(outcome_key(meaning)) if is_hashable(meaning) else None
        if value is None:
            raise ValueError(
                f"{where}: labels[{word!r}] = {meaning!r}, it must be left, right, tie, a bool, "
                "1, 0.5 or 0"
            )
        table[outcome_key(word)] = value
    return table


def outcome_key(word: Any) -> Any:
    return word.strip().lower() if isinstance(word, str) else word


def read_shares(
    where: str, outcome: Any, soft: bool, labels: Mapping[Any, Any] | None, rows: int
) -> tuple[Floats, str]:
    """Return (3, rows), the share of each row that is a win of the left, a loss, a tie, and its
    kind: "hard", "soft" (the probability that the left won) or "three" (probabilities of all).
    """
    if isinstance(outcome, ChoiceProbabilities):
        return _choices(where, outcome, labels, rows)
    if not are_words(outcome):
        p = _real(where, "outcome", outcome)
        if p.shape != (rows, 3):
            rule = f"it must be ({rows}, 3), the probabilities of left, tie and right"
            raise ValueError(f"{where}: outcome has shape {p.shape}, {rule}")
        return _normalised(where, p.T[[0, 2, 1]]), "three"
    if not soft:
        value = read_outcomes(where, outcome, labels, rows)
        return np.stack([value == 1.0, value == 0.0, value == 0.5]).astype(np.float64), "hard"
    p = _real(where, "outcome", outcome)
    if p.ndim > 1 or (p.ndim == 1 and p.size != rows):
        raise ValueError(f"{where}: left has {rows} rows and outcome has shape {p.shape}")
    p = np.broadcast_to(p, (rows,))
    bad = ~((p >= 0.0) & (p <= 1.0))
    if bad.any():
        row = int(np.argmax(bad))
        raise ValueError(f"{where}: outcome[{row}] = {p[row]}, a probability is from 0 to 1")
    return np.stack([p, 1.0 - p, np.zeros(rows)]), "soft"


def are_words(outcome: Any) -> bool:
    """Whether outcomes are one word or number a row, not probabilities of several."""
    nested = isinstance(outcome, list | tuple) and outcome and hasattr(outcome[0], "__len__")
    nested = nested and not isinstance(outcome[0], str | bytes)
    return not (
        nested or isinstance(outcome, ChoiceProbabilities) or getattr(outcome, "ndim", 1) == 2
    )


def _choices(
    where: str, found: ChoiceProbabilities, labels: Mapping[Any, Any] | None, rows: int
) -> tuple[Floats, str]:
    table = outcome_table(where, labels)
    values = [table.get(outcome_key(name)) for name in found.names]
    if None in values or len(set(values)) != len(values) or not {0.0, 1.0} <= {*values}:
        raise ValueError(
            f"{where}: outcome has the choices {', '.join(found.names)}, they must be left and "
            "right, perhaps tie (say what another name means with labels=)"
        )
    if len(found.mass) != rows:
        raise ValueError(f"{where}: left has {rows} rows and outcome has {len(found.mass)}")
    p = np.zeros((3, rows))
    for column, value in enumerate(values):
        p[(1.0, 0.0, 0.5).index(value)] = found.probabilities[:, column]
    return _normalised(where, p), "soft" if 0.5 not in values else "three"


def _normalised(where: str, p: Floats) -> Floats:
    total = p.sum(axis=0)
    bad = ~((p >= 0.0).all(axis=0) & (np.abs(total - 1.0) <= 1e-6))
    if bad.any():
        row = int(np.argmax(bad))
        shown = ", ".join(f"{x:.6g}" for x in p[[0, 2, 1], row])
        raise ValueError(
            f"{where}: outcome[{row}] = ({shown}), probabilities of left, tie and right cannot be "
            "negative and add up to 1"
        )
    shares: Floats = p / total
    return shares


def read_codes(where: str, name: str, values: Any, rows: int) -> tuple[Ints, tuple[Any, ...]]:
    """Return the codes (rows,) and the sorted labels of a column in which none may be missing."""
    values = column_of(where, name, values)
    if len(values) != rows:
        raise ValueError(f"{where}: left has {rows} rows and {name} has {len(values)}")
    codes, different = encode(where, name, values)
    for k, label in enumerate(different):
        if is_missing(label):
            row = int(np.argmax(codes == k))
            raise ValueError(f"{where}: {name}[{row}] = {label!r}, every row needs one")
    names = sort_labels(where, different)
    place = {label: k for k, label in enumerate(names)}
    return np.array([place[x] for x in different], dtype=np.int64)[codes], names


def read_covariates(where: str, covariates: Mapping[str, Any], rows: int) -> dict[str, Floats]:
    if not isinstance(covariates, Mapping):
        kind = type(covariates).__name__
        raise TypeError(f"{where}: covariates is a {kind}, it must be a mapping of name to numbers")
    columns = {}
    for name in sorted(covariates):
        x = _real(where, f"covariates[{name!r}]", covariates[name])
        if x.shape != (rows,):
            raise ValueError(f"{where}: left has {rows} rows and {name} has shape {x.shape}")
        if not np.isfinite(x).all():
            row = int(np.argmin(np.isfinite(x)))
            raise ValueError(f"{where}: covariates[{name!r}][{row}] = {x[row]}, it must be finite")
        columns[name] = x
    return columns


def read_groups(where: str, groups: Any, rows: int) -> tuple[tuple[Hashable, ...], Any]:
    """Return the sorted names of the groups, and a column of the number of the group of each row,
    or a list of the rows of each group. A row of no group has a number behind the last one.
    """
    if isinstance(groups, Mapping):
        members: dict[Hashable, Any] = {}
        for name, chosen in groups.items():
            mask = np.asarray(chosen)
            if mask.dtype != np.bool_ or mask.shape != (rows,):
                raise ValueError(
                    f"{where}: groups[{name!r}] has dtype {mask.dtype} and shape {mask.shape}, "
                    f"it must be bool, ({rows},)"
                )
            members[name] = np.flatnonzero(mask)
        present = [name for name in members if not is_missing(name) and members[name].size]
        names = sort_labels(where, present)
        return names, [members[name] for name in names]
    values = column_of(where, "groups", groups)
    if len(values) != rows:
        raise ValueError(f"{where}: left has {rows} rows and groups has {len(values)}")
    codes, different = encode(where, "groups", values)
    names = sort_labels(where, [name for name in different if not is_missing(name)])
    place = {name: k for k, name in enumerate(names)}
    number = [len(names) if is_missing(x) else place[x] for x in different]
    return names, Column(codes, np.array(number, dtype=np.int64))


def members_of(groups: tuple[tuple[Hashable, ...], Any] | None) -> list[tuple[Hashable, Ints]]:
    """Return name and rows of each of the groups that `read_groups` returned."""
    if groups is None:
        return []
    names, rows = groups
    if isinstance(rows, Column):
        number = rows.rows()
        order = np.argsort(number, kind="stable")
        ends = np.searchsorted(number[order], np.arange(len(names) + 1))
        rows = [order[start:end] for start, end in itertools.pairwise(ends)]
    return list(zip(names, rows, strict=True))


def _real(where: str, name: str, values: Any, cure: str = "leave masked rows out") -> Floats:
    if isinstance(values, np.ma.MaskedArray):
        raise TypeError(f"{where}: {name} is a masked array ({cure})")
    if isinstance(values, np.matrix):
        raise TypeError(f"{where}: {name} is a numpy.matrix (pass numpy.asarray({name}))")
    try:
        array = np.asarray(values)
    except ValueError:  # rows of different lengths
        raise ValueError(f"{where}: {name} has rows of different lengths") from None
    if array.dtype.kind not in "biuf":
        raise TypeError(f"{where}: {name} has dtype {array.dtype}, it must be real numbers")
    return array.astype(np.float64)


def outcome_column(where: str, outcome: Any, labels: Mapping[Any, Any] | None, rows: int) -> Column:
    """Return 1.0, 0.5 or 0.0 per row, or plain numbers that are still to be checked."""
    table = outcome_table(where, labels)
    if isinstance(outcome, np.ndarray) and outcome.dtype.kind == "c":
        raise TypeError(
            f"{where}: outcome has dtype {outcome.dtype}, it must be words or real numbers"
        )
    scalar = outcome is None or isinstance(outcome, str | bytes | numbers.Number | np.generic)
    values = [outcome] if scalar else column_of(where, "outcome", outcome)
    if not scalar and len(values) != rows:
        raise ValueError(f"{where}: left has {rows} rows and outcome has {len(values)}")
    if labels is None and isinstance(values, np.ndarray) and values.dtype.kind in "biuf":
        return Column(values, None)
    codes, different = encode(where, "outcome", values)
    value = np.array([table.get(outcome_key(word), np.nan) for word in different])
    for code in np.flatnonzero(np.isnan(value)):
        row, word = int(np.argmax(codes == code)), different[code]
        place = "outcome" if scalar else f"outcome[{row}]"
        raise _unknown_outcome(where, place, word)
    return Column(codes, value)


def read_outcomes(where: str, outcome: Any, labels: Mapping[Any, Any] | None, rows: int) -> Floats:
    """Return 1.0, 0.5 or 0.0 per row."""
    value = outcome_column(where, outcome, labels, rows).rows()
    unknown = ~((value == 1) | (value == 0) | (value == 0.5))
    if unknown.any():
        row = int(np.argmax(unknown))
        raise _unknown_outcome(where, f"outcome[{row}]", value[row].item())
    return np.broadcast_to(value.astype(np.float64), (rows,))


def cure_of_outcome(word: Any) -> str:
    """What to do about an outcome that is not known; it may be the name of the winner."""
    return (
        f"say what another word means with labels={{{word!r}: 1}}, 1 = left won; "
        "for names of winners pass winner == left"
    )


def _unknown_outcome(where: str, place: str, word: Any) -> ValueError:
    return ValueError(f"{where}: {place} = {word!r}, {KNOWN_OUTCOMES} ({cure_of_outcome(word)})")


def read_weights(where: str, weights: Any, rows: int) -> Floats:
    array = _real(where, "weights", weights)
    if array.ndim > 1 or (array.ndim == 1 and array.size != rows):
        raise ValueError(f"{where}: left has {rows} rows and weights has shape {array.shape}")
    weight = np.broadcast_to(array, (rows,))
    _check_amounts(where, "weights", weight)
    return weight


def labels_of_table(where: str, name: str, values: Any) -> list[Hashable] | None:
    """Return the labels of a frame that has the same for rows and columns; None without labels."""
    rows: Any = getattr(values, "index", None)
    columns: Any = getattr(values, "columns", None)
    if not hasattr(rows, "equals") or not hasattr(columns, "tolist"):
        return None
    if not rows.equals(columns):
        raise ValueError(
            f"{where}: {name} is labelled differently along rows and columns, so that it is not "
            "clear which items they are (order them alike, or pass its values and items)"
        )
    labels: list[Hashable] = columns.tolist()
    return labels


def read_table(where: str, name: str, values: Any) -> Floats:
    """Return a square table of finite amounts with a zero diagonal."""
    array = _real(where, name, values, f"pass {name}.filled(0)")
    if array.ndim != 2 or array.shape[0] != array.shape[1] or len(array) < 2:
        raise ValueError(
            f"{where}: {name} has shape {array.shape}, it must be (n, n) with n at least 2"
        )
    table = array.copy()
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


def read_items(
    where: str, left: Any, right: Any, items: int | Sequence[Hashable] | None
) -> tuple[tuple[Hashable, ...], Column, Column]:
    """Return the names of the items and the column of the index of each row's left and right among
    them; integers that are indices already are still to be checked.
    """
    sides = [("left", column_of(where, "left", left)), ("right", column_of(where, "right", right))]
    if items is not None:
        names = read_names(where, items)
        one, other = (_look_up(where, side, values, names) for side, values in sides)
        return names, one, other
    pairs = [encode(where, side, values) for side, values in sides]
    for (side, _), (code, labels) in zip(sides, pairs, strict=True):
        for k, label in enumerate(labels):
            if is_missing(label):
                row = int(np.argmax(code == k))
                raise ValueError(f"{where}: {side}[{row}] = {label!r}, an item needs a label")
    names = sort_labels(where, set(pairs[0][1]) | set(pairs[1][1]))
    place = {item: k for k, item in enumerate(names)}
    one, other = (
        Column(code, np.array([place[x] for x in labels], dtype=np.int64)) for code, labels in pairs
    )
    return names, one, other


def _look_up(where: str, side: str, values: Any, names: tuple[Hashable, ...]) -> Column:
    """Return indices into names: integers are indices already, other labels are looked up."""
    if isinstance(values, list) and all(type(x) is int for x in values):
        values = np.array(values)
    if not len(values) or (isinstance(values, np.ndarray) and values.dtype.kind in "iu"):
        return Column(np.asarray(values), None)
    place = {item: k for k, item in enumerate(names)}
    codes, different = encode(where, side, values)
    found = [-1 if is_missing(x) else place.get(x, -1) for x in different]
    index = np.array(found, dtype=np.int64)
    for code in np.flatnonzero(index < 0):
        row = int(np.argmax(codes == code))
        label, n = different[code], len(names)
        raise ValueError(f"{where}: {side}[{row}] = {label!r} is not among the {n} items")
    return Column(codes, index)


def count_cells(
    columns: Sequence[Column], rows: int, n: int, groups: tuple[Column, int] | None = None
) -> tuple[Ints, ...] | None:
    """Return left, right, wins, losses and ties of the pairs that occur among rows of left, right
    and outcome, sorted; None where a row is not in order. With the column of a group of each row,
    and their number: of each group, left being group * n + item.
    """
    if n * (1 if groups is None else groups[1]) > _MOST_COUNTED:
        return None
    given = []
    for k, (codes, values) in enumerate([*columns, *(() if groups is None else groups[:1])]):
        places = values
        if values is not None:
            places = (2 * values if k == 2 else values).astype(np.int32)
        if codes.dtype.kind == "f" or codes.dtype.itemsize == 2:
            codes = codes.astype(np.float64, copy=False)
        elif codes.dtype.kind == "b" or (codes.dtype.char == "B" and k == 2):
            codes = codes.view(np.int8)
        elif codes.dtype.char not in "bil":
            codes = codes.astype(np.int64)
        given.append((np.ascontiguousarray(codes), places))
    grouped = None if groups is None else (given.pop(), groups[1])
    cells: tuple[Ints, ...] | None
    cells = _backend.cpu().count_pairs(*given, rows, n, None, grouped)
    return cells


def read_index(where: str, side: str, column: Column, n: int) -> Ints:
    """Return the indices of a column, all of them below n."""
    index = column.rows()
    bad = (index < 0) | (index >= n)
    if bad.any():
        row = int(np.argmax(bad))
        raise ValueError(f"{where}: {side}[{row}] = {index[row]}, an index must be in 0..{n - 1}")
    return index.astype(np.int64)


def read_names(where: str, items: int | Sequence[Hashable]) -> tuple[Hashable, ...]:
    if isinstance(items, numbers.Integral):
        if items < 1 or isinstance(items, bool):
            raise ValueError(f"{where}: items = {items}, it must be at least 1")
        return tuple(range(int(items)))
    values = column_of(where, "items", items)
    if not len(values):
        raise ValueError(f"{where}: items is empty, it must name at least 1")
    codes, names = encode(where, "items", values)
    if len(names) != len(values):
        row = int(np.flatnonzero(np.diff(np.maximum.accumulate(codes), prepend=-1) == 0)[0])
        raise ValueError(
            f"{where}: items[{row}] = {values[row]!r} is there twice, items must differ"
        )
    integer = [isinstance(x, int) and not isinstance(x, bool) for x in names]
    for k, name in enumerate(names):
        if is_missing(name):
            raise ValueError(f"{where}: items[{k}] = {name!r}, an item needs a label")
        if integer[k] and name != k and where.endswith("pairs"):
            raise ValueError(
                f"{where}: items[{k}] = {name!r} is an integer, so integers in left and right "
                "could be indices or names (leave items out, or use strings)"
            )
    return tuple(names)
