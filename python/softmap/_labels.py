"""Labels of any kind: reading a column of them, numbering them, sorting them."""

from __future__ import annotations

import itertools
from collections.abc import Hashable, Iterable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from softmap import _backend


def column_of(where: str, name: str, values: Any) -> Any:
    """Return a column as a NumPy array of numbers or text, as an Arrow array, or as a list."""
    if isinstance(values, str | bytes | Mapping) or not isinstance(values, Iterable):
        raise TypeError(f"{where}: {name} = {values!r}, it must be a sequence")
    if getattr(values, "ndim", 1) != 1:
        raise ValueError(f"{where}: {name} has shape {values.shape}, must have one axis")  # type: ignore[attr-defined]
    if isinstance(getattr(values, "dtype", None), np.dtype) and hasattr(values, "to_numpy"):
        values = values.to_numpy()  # a column of a data frame that NumPy holds
    if isinstance(values, np.ndarray) and not isinstance(values, np.ma.MaskedArray):
        return values if values.dtype.kind in "biufSU" else list(values.tolist())
    if hasattr(values, "__arrow_c_stream__"):
        return values
    if hasattr(values, "tolist"):
        return list(values.tolist())
    return values if isinstance(values, list) else list(values)


def encode(where: str, name: str, values: Any) -> tuple[NDArray[Any], list[Any]]:
    """Return codes and the different values of a column, values[k] == different[codes[k]]."""
    if isinstance(values, np.ndarray):
        if values.dtype.kind in "iuSU" and values.dtype.itemsize:
            codes, first = _backend.cpu().encode_fixed(np.ascontiguousarray(values))
            return codes, values[first].tolist()
        values = values.tolist()
    if not isinstance(values, list):
        found = _backend.cpu().encode_arrow(values.__arrow_c_stream__())
        if found is not None:
            return found[0], found[1]
        values = list(values.tolist() if hasattr(values, "tolist") else values)
    try:
        codes, different = _backend.cpu().encode_objects(values)
    except TypeError:
        row = len([*itertools.takewhile(is_hashable, values)])
        raise TypeError(f"{where}: {name}[{row}] = {values[row]!r} cannot be hashed") from None
    return codes, [x.item() if isinstance(x, np.generic) else x for x in different]


def is_hashable(value: Any) -> bool:
    try:
        hash(value)
    except TypeError:
        return False
    return True


def is_missing(label: Any) -> bool:
    try:
        return label is None or bool(label != label)
    except TypeError:  # a missing value that does not compare
        return True


def sort_labels(where: str, labels: Iterable[Any]) -> tuple[Hashable, ...]:
    labels = list(labels)
    try:
        return tuple(sorted(labels))
    except TypeError:
        kinds = " and ".join(sorted({type(label).__name__ for label in labels}))
        raise TypeError(
            f"{where}: labels of type {kinds} do not sort (pass items= in the order wanted)"
        ) from None
