"""What is written and read again: comparisons as npz files and Arrow tables, fits as JSON.

One layout of comparisons serves npz and Arrow. A line is a cell (or a row, where rows are kept) of
all comparisons or of one group; a header holds the labels and what is said once.
"""

from __future__ import annotations

import dataclasses
import json
import math
import os
from collections.abc import Hashable, Iterable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from softmap._rows import Rows
from softmap.comparisons import Comparisons, collect
from softmap.diagnostics import Diagnostics, Finding
from softmap.errors import optional
from softmap.result import Estimate, Fit

VERSION = 1
_COUNTS = ("wins", "losses", "ties")
_SQUARES = (
    *("wins_squared", "losses_squared", "ties_squared"),
    *("wins_losses", "wins_ties", "losses_ties"),
)
_COVARIATE = "covariate:"
Columns = dict[str, NDArray[Any]]


def save(c: Comparisons, path: str | os.PathLike[str]) -> None:
    """`Comparisons.save`."""
    columns, header = pack(c, "Comparisons.save")
    with open(path, "wb") as file:  # savez would change the name of a path
        arrays: dict[str, Any] = {"header": np.array(json.dumps(header)), **columns}
        np.savez_compressed(file, **arrays)


def load(path: str | os.PathLike[str]) -> Comparisons:
    """`Comparisons.load`."""
    where = f"Comparisons.load: {os.fspath(path)}"
    with open(path, "rb") as file:
        try:
            with np.load(file, allow_pickle=False) as archive:
                columns = {name: archive[name] for name in archive.files}
            header = columns.pop("header").item()
        except (ValueError, EOFError, OSError, KeyError, TypeError, AttributeError):
            raise ValueError(f"{where} is not a file that Comparisons.save wrote") from None
    return unpack(columns, header, where)


def to_arrow(c: Comparisons) -> Any:
    """`Comparisons.to_arrow`."""
    pa = optional("Comparisons.to_arrow", "pyarrow", "pyarrow")
    columns, header = pack(c, "Comparisons.to_arrow")
    arrays = {}
    for name, column in columns.items():
        if name in header["labels"]:
            texts = _texts("Comparisons.to_arrow", name, header["labels"][name])
            column = pa.DictionaryArray.from_arrays(
                pa.array(column, mask=column < 0), pa.array(texts, pa.string())
            )
        arrays[name] = column
    return pa.table(arrays).replace_schema_metadata({b"softmap": json.dumps(header)})


def from_arrow(table: Any) -> Comparisons:
    """`Comparisons.from_arrow`."""
    where = "Comparisons.from_arrow"
    header = (getattr(getattr(table, "schema", None), "metadata", None) or {}).get(b"softmap")
    if header is None:
        cure = "use Comparisons.from_frame for a table of your own"
        raise ValueError(f"{where}: table is not what Comparisons.to_arrow made ({cure})")
    labels = json.loads(header)["labels"]
    columns = {}
    for name in table.column_names:
        values = table.column(name)
        if name not in labels:
            columns[name] = values.to_numpy()
            continue
        place: dict[Any, int] = {
            text: k for k, text in enumerate(_texts(where, name, labels[name]))
        }
        place[None] = -1
        columns[name] = np.array([place[x] for x in values.to_pylist()], dtype=np.int64)
    return unpack(columns, header, where)


def pack(c: Comparisons, where: str) -> tuple[Columns, dict[str, Any]]:
    """Return the lines as columns and the header."""
    parts = [c, *(part for _, part in c.groups)]
    own = c.rows.labels if c.rows is not None else {}
    stacks: dict[str, list[NDArray[Any]]] = {}
    for number, part in enumerate(parts):
        lines: Columns = {"group": np.full(_lines(part), number - 1, dtype=np.int64)}
        rows = part.rows
        if rows is None:
            lines |= {"left": part.left, "right": part.right}
            lines |= dict(zip(_COUNTS, (part.wins, part.losses, part.ties), strict=True))
            if part.squares is not None:
                lines |= dict(zip(_SQUARES, part.squares, strict=False))
        else:
            lines |= {"left": rows.left, "right": rows.right}
            for name, codes in rows.codes.items():  # among the labels of all comparisons
                place = {label: k for k, label in enumerate(own[name])}
                lines[name] = np.array([place[x] for x in rows.labels[name]], np.int64)[codes]
            lines |= dict(zip(_COUNTS, rows.amounts, strict=True))
            lines |= {_COVARIATE + name: x for name, x in rows.covariates.items()}
        for name, column in lines.items():
            stacks.setdefault(name, []).append(column)
    items = to_plain(where, c.items)
    header = {
        "version": VERSION,
        "labels": {
            "group": to_plain(where, (name for name, _ in c.groups)),
            "left": items,
            "right": items,
            **{name: to_plain(where, values) for name, values in own.items()},
        },
        "ordered": c.ordered,
        "rows": c.rows is not None,
        "parts": [
            {
                "n_rows": p.n_rows,
                "soft": p.soft,
                "width": 0 if p.squares is None else len(p.squares),
            }
            for p in parts
        ],
        "skipped": c.skipped,
    }
    return {name: np.concatenate(stack) for name, stack in stacks.items()}, header


def unpack(columns: Columns, text: str | bytes, where: str) -> Comparisons:
    """Return the comparisons of these lines and this header."""
    header = json.loads(text)
    if header["version"] > VERSION:
        version = header["version"]
        raise ValueError(f"{where} has version {version}, this softmap reads up to {VERSION}")
    labels = {name: from_plain(values) for name, values in header["labels"].items()}
    parts = []
    for number, state in enumerate(header["parts"]):
        chosen = columns["group"] == number - 1
        lines = {name: column[chosen] for name, column in columns.items()}
        place, amounts = (lines["left"], lines["right"]), np.stack([lines[k] for k in _COUNTS])
        rows, squares, width = None, None, state["width"]
        if header["rows"]:
            names = [name for name in ("judges", "clusters") if name in lines]
            rows = Rows(
                *place,
                amounts.astype(np.float64),
                {name: lines[name] for name in names},
                {name: labels[name] for name in names},
                {
                    name.removeprefix(_COVARIATE): column
                    for name, column in lines.items()
                    if name.startswith(_COVARIATE)
                },
            )
            squares = np.empty((width, 0)) if width else None
        elif width:
            squares = np.stack([lines[name] for name in _SQUARES[:width]])
        state = (header["ordered"], state["soft"], state["n_rows"])
        parts.append(collect(labels["left"], *place, amounts, squares, *state, rows=rows))
    skipped = tuple((line, reason) for line, reason in header["skipped"])
    groups = tuple(zip(labels["group"], parts[1:], strict=True))
    return dataclasses.replace(parts[0], skipped=skipped, groups=groups)


def fit_to_json(fit: Fit) -> str:
    """`Fit.to_json`."""
    document: dict[str, Any] = {"softmap": "fit", "version": VERSION}
    for field in dataclasses.fields(fit):
        value = getattr(fit, field.name)
        if field.name == "items":
            value = to_plain("Fit.to_json", value)
        elif field.name == "anchors":
            value = [[*to_plain("Fit.to_json", [item]), score] for item, score in value]
        elif field.name == "anchor":
            value = None if value is None else to_plain("Fit.to_json", [value])
        elif field.name == "comparisons":
            continue
        elif field.name == "diagnostics":
            value = dataclasses.asdict(value)
        elif isinstance(value, Estimate):
            value = [value.value, value.standard_error]
        elif isinstance(value, np.ndarray):
            value = value.tolist()
        document[field.name] = value
    return json.dumps(_finite(document), allow_nan=False)


def fit_from_json(text: str) -> Fit:
    """`Fit.from_json`."""
    where = "Fit.from_json: text"
    try:
        document = json.loads(text)
        kind, version = document.pop("softmap"), document.pop("version")
    except (ValueError, KeyError, AttributeError, TypeError):
        kind, version = None, 0
    if kind != "fit":
        raise ValueError(f"{where} is not what Fit.to_json wrote")
    if version > VERSION:
        raise ValueError(f"{where} has version {version}, this softmap reads up to {VERSION}")
    for name, value in document.items():
        if name == "items":
            document[name] = from_plain(value)
        elif name == "anchors":
            document[name] = tuple((from_plain([item])[0], score) for item, score in value)
        elif name == "anchor" and value is not None:
            document[name] = from_plain(value)[0]
        elif name in ("first_advantage", "tie_strength") and value is not None:
            document[name] = Estimate(*_numbers(value))
        elif name == "diagnostics":
            document[name] = _diagnostics(value)
        elif isinstance(value, list):
            document[name] = np.array(_numbers(value))
        elif value == "inf":
            document[name] = math.inf
    return Fit(**document)


def _diagnostics(value: dict[str, Any]) -> Diagnostics:
    findings = tuple(
        Finding(f["code"], f["text"], from_plain(f["items"])) for f in value.pop("findings")
    )
    plain: dict[str, Any] = {
        k: from_plain(v) if isinstance(v, list) else v for k, v in value.items()
    }
    return Diagnostics(findings, **plain)


def _finite(value: Any) -> Any:
    """Return value with null for NaN and "inf" for infinity."""
    if isinstance(value, dict):
        return {key: _finite(entry) for key, entry in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(entry) for entry in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None if math.isnan(value) else "inf"
    return value


def _numbers(value: Any) -> Any:
    if isinstance(value, list):
        return [_numbers(entry) for entry in value]
    return {None: math.nan, "inf": math.inf}.get(value, value)


def to_plain(where: str, labels: Iterable[Any]) -> list[Any]:
    """Return the labels as JSON has them; tuples become lists."""
    plain: list[Any] = []
    for label in labels:
        if isinstance(label, tuple):
            plain.append(to_plain(where, label))
        elif isinstance(label, str | int | float):
            plain.append(label)
        else:
            kind = type(label).__name__
            raise TypeError(
                f"{where}: label {label!r} is a {kind}, it must be str, int, float, bool or tuple"
            )
    return plain


def from_plain(labels: Iterable[Any]) -> tuple[Hashable, ...]:
    """Return the labels that `to_plain` was given."""
    return tuple(from_plain(label) if isinstance(label, list) else label for label in labels)


def _lines(c: Comparisons) -> int:
    return int(c.left.size if c.rows is None else c.rows.left.size)


def _texts(where: str, name: str, labels: list[Any]) -> list[str]:
    texts = [str(label) for label in labels]
    if len(set(texts)) != len(texts):
        twice = next(text for text in texts if texts.count(text) > 1)
        raise ValueError(f"{where}: two labels of {name} are written {twice!r}")
    return texts
