"""Where rows come from: csv, jsonl and parquet files, data frames."""

from __future__ import annotations

import collections
import csv
import dataclasses
import importlib.util
from collections.abc import Callable, Iterator
from typing import Any, TextIO

from softmap.errors import BackendMissingError, optional

# key, cells (or what is wrong with the row), how many rows are like this
Row = tuple[Any, Any, int]


@dataclasses.dataclass(frozen=True)
class Source:
    """Rows below a header.

    Attributes
    ----------
    name : str
        For messages.
    header : list of str
    rows : function of the positions of the columns that are used
        Yields rows; their cells have the positions of the header. Equal rows may come as one.
    lines : function of (key, cells)
        The numbers of the lines where such a row is.
    """

    name: str
    header: list[str]
    rows: Callable[[list[int]], Iterator[Row]]
    lines: Callable[[Any, Any], list[int]] = lambda key, _: [key]
    line: str = "line"


def csv_source(where: str, file: TextIO, name: str) -> Source:
    reader = csv.reader(file, strict=True)
    rows = _numbered(where, reader, name)
    _, header, _ = next(rows, (0, None, 0))
    if header is None:
        raise ValueError(f"{where}: {name} is empty, the first line must name the columns")
    if isinstance(header, ValueError):
        raise ValueError(f"{where}: {name} line 1: {header}")
    width = len(header)

    def checked(_: list[int]) -> Iterator[Row]:
        for line, row, times in rows:
            wrong = isinstance(row, list) and len(row) != width
            yield (
                line,
                ValueError(f"{len(row)} fields, it must be {width}") if wrong else row,
                times,
            )

    return Source(name, [cell.lstrip("\ufeff").strip() for cell in header], checked)


def _numbered(where: str, reader: Any, name: str) -> Iterator[Row]:
    """Yield (line number, row or ValueError, 1), without empty lines."""
    while True:
        try:
            row = next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            yield reader.line_num, ValueError(str(error)), 1
            continue
        except UnicodeDecodeError as error:
            raise _not_utf8(where, name, reader.line_num, error) from None
        if any(cell.strip() for cell in row):
            yield reader.line_num, row, 1


def _not_utf8(where: str, name: str, line: int, error: UnicodeDecodeError) -> ValueError:
    byte = f"{error.object[error.start]:#04x}"
    return ValueError(
        f"{where}: {name} after line {line}: byte {byte} is not UTF-8 (save the file as UTF-8)"
    )


def jsonl_source(where: str, file: TextIO, name: str) -> Source:
    """One object per line; the first one names the columns."""
    import json  # here, because csv does not need it

    def objects() -> Iterator[tuple[int, Any]]:
        line = 0
        try:
            for line, text in enumerate(file, start=1):
                if not text.strip():
                    continue
                try:
                    value = json.loads(text)
                except ValueError as error:
                    value = ValueError(f"not JSON: {str(error)[0].lower()}{str(error)[1:]}")
                else:
                    if not isinstance(value, dict):
                        value = ValueError(f"a {type(value).__name__}, it must be an object")
                yield line, value
        except UnicodeDecodeError as error:
            raise _not_utf8(where, name, line, error) from None

    lines = objects()
    ahead: list[tuple[int, Any]] = []
    header: list[str] = []
    for line, value in lines:
        ahead.append((line, value))
        if isinstance(value, dict):
            header = list(value)
            break
    if not header:
        what = f"line {ahead[0][0]}: {ahead[0][1]}" if ahead else "it is empty"
        raise ValueError(f"{where}: {name} has no object that names the columns ({what})")

    def rows(_: list[int]) -> Iterator[Row]:
        for part in (ahead, lines):
            for line, value in part:
                cells = [value.get(k) for k in header] if isinstance(value, dict) else value
                yield line, cells, 1

    return Source(name, header, rows)


def parquet_source(where: str, name: str) -> Source:
    """A parquet file by DuckDB, which counts equal rows, or by pyarrow."""
    try:
        duckdb = optional(where, "duckdb", "'softmap[files]'")
    except BackendMissingError:
        if importlib.util.find_spec("pyarrow") is None:
            raise
        return _parquet_by_pyarrow(where, name)
    connection = duckdb.connect()
    table = "read_parquet(?, file_row_number = true)"
    try:
        described = connection.execute(f"DESCRIBE SELECT * FROM {table}", [name]).fetchall()
    except duckdb.Error as error:
        raise ValueError(f"{where}: {name} cannot be read: {str(error).splitlines()[0]}") from None
    header: list[str] = [column for column, *_ in described if column != "file_row_number"]

    def quoted(position: int) -> str:
        name = header[position].replace('"', '""')
        return f'"{name}"'

    used: list[int] = []

    def rows(positions: list[int]) -> Iterator[Row]:
        used[:] = positions
        columns = ", ".join(map(quoted, positions))
        found = connection.execute(
            f"SELECT {columns}, count(*) FROM {table} GROUP BY ALL ORDER BY min(file_row_number)",
            [name],
        )
        while batch := found.fetchmany(10_000):
            for *values, times in batch:
                cells = [None] * len(header)
                for position, value in zip(positions, values, strict=True):
                    cells[position] = value
                yield None, cells, times

    def lines(_: Any, cells: list[Any]) -> list[int]:
        # a cursor of its own: the rows are still being read
        same = " AND ".join(f"{quoted(k)} IS NOT DISTINCT FROM ?" for k in used)
        query = f"SELECT file_row_number + 1 FROM {table} WHERE {same} ORDER BY 1"
        values = [name, *(cells[k] for k in used)]
        return [number for (number,) in connection.cursor().execute(query, values).fetchall()]

    return Source(name, header, rows, lines, "row")


def _parquet_by_pyarrow(where: str, name: str) -> Source:
    parquet = optional(where, "pyarrow.parquet", "pyarrow")
    try:
        table = parquet.read_table(name)
    except ValueError as error:  # ArrowInvalid is one
        raise ValueError(f"{where}: {name} cannot be read: {str(error).splitlines()[0]}") from None
    return frame_source(where, table, name)


def frame_source(where: str, df: Any, name: str) -> Source:
    """A data frame: pandas, Polars or an Arrow table."""
    if not hasattr(df, "column_names" if hasattr(df, "schema") else "columns"):
        kinds = "a pandas or Polars data frame or an Arrow table"
        if not hasattr(df, "columns"):
            raise TypeError(f"{where}: df is a {type(df).__name__}, it must be {kinds}")
    header = list(df.column_names if hasattr(df, "column_names") else df.columns)
    columns: dict[int, list[Any]] = {}

    def values(position: int) -> list[Any]:
        column = df[header[position]]
        for method in ("to_pylist", "to_list", "tolist"):
            if hasattr(column, method):
                return list(getattr(column, method)())
        raise TypeError(f"{where}: column {header[position]!r} is a {type(column).__name__}")

    def cells(row: tuple[Any, ...]) -> list[Any]:
        found = [None] * len(header)
        for position, value in zip(columns, row, strict=True):
            found[position] = value
        return found

    def rows(positions: list[int]) -> Iterator[Row]:
        columns.update((k, values(k)) for k in positions)
        try:
            different = collections.Counter(zip(*columns.values(), strict=True))
        except TypeError:  # a list, such as the groups of a row
            for row in zip(*columns.values(), strict=True):
                yield row, cells(row), 1
            return
        for row, times in different.items():
            yield row, cells(row), times

    def lines(key: tuple[Any, ...], _: Any) -> list[int]:
        table = zip(*columns.values(), strict=True)
        return [k for k, row in enumerate(table, start=1) if row == key]

    return Source(name, [str(column) for column in header], rows, lines, "row")
