"""What the recipes share: arrays of any library come in, and go out as they came."""

import functools
import inspect
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any, ParamSpec, TypeVar

import numpy as np

from softmap._arrays import (
    DASK,
    Array,
    arrays_in,
    common_library_of_peers,
    lazily,
    with_arrays,
)
from softmap._check import as_array, as_float_array, as_kernel_array, host_only, raise_shape

__all__ = [
    "Array",
    "at",
    "broadcast",
    "float_rows",
    "floats",
    "integers",
    "raise_shape",
    "recipe",
    "row_dot",
    "row_sum",
    "rows",
    "softplus",
    "with_at",
]

P = ParamSpec("P")
R = TypeVar("R")
Reader = Callable[[str, str, Any], Array]

# How an argument is read: rows go to a primitive as they are, also halves; floats are float32 or
# float64, ready for arithmetic.
floats = as_float_array


def rows(function: str, name: str, x: object) -> Array:
    return _with_an_axis(function, name, as_kernel_array(function, name, x))


def float_rows(function: str, name: str, x: object) -> Array:
    return _with_an_axis(function, name, as_float_array(function, name, x))


def _with_an_axis(function: str, name: str, a: Array) -> Array:
    if a.ndim == 0:
        raise_shape(function, name, a.shape, "it needs at least one axis")
    return a


def integers(function: str, name: str, x: object) -> Array:
    a = as_array(function, name, x)
    if a.dtype.kind not in "biu":
        raise TypeError(f"{function}: {name} has dtype {a.dtype}, it must be integer or bool")
    return a


def recipe(
    core: Mapping[str, int] | None = MappingProxyType({}), /, **readers: Reader
) -> Callable[[Callable[P, R]], Callable[P, R]]:
    """Make a function of NumPy arrays one of arrays of any library.

    `readers` says for each array argument how it is read; None stays None. NaN and infinite
    results are values here, so that nothing warns. Dask arrays stay lazy: `core` is the number of
    last axes of an argument that belong to one problem, where that is not 1 for rows and 0 for
    others. It is None where problems are not apart, so that all data are needed at once.
    """

    def decorate(function: Callable[P, R]) -> Callable[P, R]:
        name = f"{function.__module__.rpartition('.')[2]}.{function.__name__}"
        signature = inspect.signature(function)
        axes = {k: int(read in (rows, float_rows)) for k, read in readers.items()} | dict(
            core or {}
        )

        @functools.wraps(function)
        def call(*args: P.args, **kwargs: P.kwargs) -> R:
            bound = signature.bind(*args, **kwargs)
            given = {k: v for k, v in bound.arguments.items() if k in readers and v is not None}
            library, like = common_library_of_peers(name, **given)
            if library is DASK and core is not None:
                rest = {k: v for k, v in bound.arguments.items() if k not in given}
                result: R = lazily(name, functools.partial(call, **rest), given, axes)
                return result
            for key, value in given.items():
                bound.arguments[key] = readers[key](name, key, value)
                host_only(name, "it", key, bound.arguments[key])
            with np.errstate(all="ignore"):
                found = function(*bound.args, **bound.kwargs)
            returned = (library.from_numpy(part, like) for part in arrays_in(found))
            return with_arrays(found, returned)  # type: ignore[no-any-return]

        return call

    return decorate


def broadcast(function: str, **arrays: Array) -> tuple[Array, ...]:
    """The arrays in one shape, or an error that names them."""
    try:
        return np.broadcast_arrays(*arrays.values())
    except ValueError:
        shapes = ", ".join(f"{name} {a.shape}" for name, a in arrays.items())
        raise ValueError(f"{function}: these shapes do not broadcast: {shapes}") from None


# NumPy's loops along a last axis of a few elements take a call a row; einsum has none. It adds
# up one by one, though, which long rows should not be.
_SHORT = 64


def row_sum(x: Array) -> Any:
    """Sum over the last axis."""
    return x.sum(axis=-1) if x.shape[-1] > _SHORT else np.einsum("...k->...", x)


def row_dot(x: Array, y: Array) -> Any:
    """Sum of the products over the last axis."""
    return (x * y).sum(axis=-1) if x.shape[-1] > _SHORT else np.einsum("...k,...k->...", x, y)


def at(x: Array, column: Array) -> Any:
    """The entry of x in one column a row; NaN where it has no such column."""
    n = x.shape[-1]
    if n == 0:
        return np.full(x.shape[:-1], np.nan, x.dtype)
    found = np.take_along_axis(x, np.clip(column, 0, n - 1)[..., None], axis=-1)[..., 0]
    return np.where((column >= 0) & (column < n), found, np.nan).astype(x.dtype, copy=False)


def with_at(x: Array, column: Array, value: float) -> Array:
    """A copy of x with `value` in one column a row."""
    copy = x.copy()
    if x.shape[-1] == 0:
        return copy
    np.put_along_axis(copy, np.clip(column, 0, x.shape[-1] - 1)[..., None], value, axis=-1)
    return copy


def softplus(x: Array) -> Any:
    """log(1 + exp(x)), as logaddexp(0, x), which is not vectorised."""
    return np.maximum(x, 0) + np.log1p(np.exp(-abs(x)))
