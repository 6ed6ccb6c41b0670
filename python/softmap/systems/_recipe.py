"""What the recipes share: arrays of any library come in, and go out as they came."""

import concurrent.futures
import functools
import inspect
import re
from collections.abc import Callable, Collection, Mapping
from types import MappingProxyType
from typing import Any, NoReturn, ParamSpec, TypeVar

import numpy as np

from softmap import _runtime
from softmap._arrays import (
    CUPY,
    DASK,
    Array,
    arrays_in,
    common_library_of_peers,
    lazily,
    library_of,
    with_arrays,
)
from softmap._check import (
    as_array,
    as_float_array,
    as_kernel_array,
    check_number,
    converted,
    empty,
    host_only,
    raise_shape,
)
from softmap._device import DeviceArray, by_cupy

__all__ = [
    "Array",
    "at",
    "beside",
    "broadcast",
    "by_columns",
    "float_rows",
    "floats",
    "host_floats",
    "in_dtype",
    "integers",
    "one_a_row",
    "raise_shape",
    "recipe",
    "row_dot",
    "row_sum",
    "rows",
    "sum_of_few",
    "whole",
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


def host_floats(function: str, name: str, x: object) -> Array:
    """For what is computed on the host only."""
    a = floats(function, name, x)
    host_only(function, "it", name, a)
    return a


def integers(function: str, name: str, x: object) -> Array:
    a = as_array(function, name, x)
    if a.dtype.kind not in "biu":
        raise TypeError(f"{function}: {name} has dtype {a.dtype}, it must be integer or bool")
    return a


def recipe(
    core: Mapping[str, int] | None = MappingProxyType({}),
    blocks: bool = True,
    /,
    **readers: Reader,
) -> Callable[[Callable[P, R]], Callable[P, R]]:
    """Make a function of NumPy arrays one of arrays of any library.

    `readers` says for each array argument how it is read; None stays None where it is the default.
    NaN and infinite results are values here, so that nothing warns. Arrays on a device come as
    CuPy's, to which NumPy's functions hand on what they are given. Dask arrays stay lazy: `core` is
    the number of last axes of an argument that belong to one problem, where that is not 1 for rows
    and 0 for others. It is None where problems are not apart, so that all data are needed at once.
    What is annotated as a float must be a number, finite or +inf. Without `blocks` they are not
    dealt out to threads: a recipe that is one call of a kernel.
    """

    def decorate(function: Callable[P, R]) -> Callable[P, R]:
        name = f"{function.__module__.rpartition('.')[2]}.{function.__name__}"
        signature = inspect.signature(function)
        axes = {k: int(read in (rows, float_rows)) for k, read in readers.items()} | dict(
            core or {}
        )
        numbers = [k for k, p in signature.parameters.items() if p.annotation is float]
        needed = [k for k in readers if signature.parameters[k].default is not None]

        @functools.wraps(function)
        def call(*args: P.args, **kwargs: P.kwargs) -> R:
            try:
                bound = signature.bind(*args, **kwargs)
            except TypeError as error:
                raise TypeError(f"{name}: {error}") from None
            for k in numbers:
                number = bound.arguments.get(k, np.inf)
                if not (isinstance(number, (float, np.floating)) and number == np.inf):
                    check_number(name, k, number)
            for k in needed:
                if bound.arguments.get(k, 0) is None:
                    raise TypeError(f"{name}: {k} = None, it must be an array or a number")
            given = {k: v for k, v in bound.arguments.items() if k in readers and v is not None}
            library, like = common_library_of_peers(name, **given)
            if library is DASK and core is not None:
                rest = {k: v for k, v in bound.arguments.items() if k not in given}
                result: R = lazily(name, functools.partial(call, **rest), given, axes)
                return result
            for key, value in given.items():
                bound.arguments[key] = readers[key](name, key, value)
            device = next((a for a in bound.arguments.values() if isinstance(a, DeviceArray)), None)
            try:
                with np.errstate(all="ignore"):
                    if device is not None:
                        found = by_cupy(name, function, bound.arguments, device)
                    else:
                        own = {k: axes[k] for k in given}
                        found = _by_blocks(function, bound, own, blocks and core is not None)
            except (TypeError, ValueError) as error:
                _raise_as(name, signature.parameters, error)
            back = library.from_numpy if device is None else library.from_cupy
            return with_arrays(found, (back(part, like) for part in arrays_in(found)))  # type: ignore[no-any-return]

        return call

    return decorate


def _raise_as(name: str, arguments: Collection[str], error: TypeError | ValueError) -> NoReturn:
    """Raise the error of a function that the recipe calls as one of the recipe.

    Where it speaks of an argument that the recipe does not have, it is said whose that is.
    """
    text = str(error)
    inner, colon, rule = text.partition(": ")
    named = colon and re.fullmatch(r"[\w.]+", inner) and inner != name
    if not named or type(error) not in (TypeError, ValueError):
        raise error
    mine = re.split(r"\W", rule, maxsplit=1)[0] in arguments
    raise type(error)(f"{name}: {rule if mine else text}") from error


# Numbers of the largest argument in a block: what a recipe makes on its way stays in a near cache.
_BLOCK = 1 << 18


def _by_blocks(
    function: Callable[..., R], bound: inspect.BoundArguments, core: dict[str, int], apart: bool
) -> R:
    """The function of many problems, a block of them at a time, on as many threads as are set.

    They run along the first axis of the arguments that have the most axes besides their own of one
    problem, `core`.
    """
    arrays = {k: bound.arguments[k] for k in core}
    n_axes = max((a.ndim - core[k] for k, a in arrays.items()), default=0)
    if not apart or n_axes <= 0:
        return function(*bound.args, **bound.kwargs)
    along = [k for k, a in arrays.items() if a.ndim - core[k] == n_axes and a.shape[0] != 1]
    size = max((arrays[k].size for k in along), default=0)
    # What all problems share is worked on anew for each block, which must not cost more than they.
    if size <= _BLOCK or any(a.size > _BLOCK for k, a in arrays.items() if k not in along):
        return function(*bound.args, **bound.kwargs)
    n = arrays[along[0]].shape[0] if along else 0
    step = max(1, _BLOCK * n // size)
    if step >= n or any(arrays[k].shape[0] != n for k in along):
        return function(*bound.args, **bound.kwargs)

    def block(first: int) -> R:
        part = inspect.BoundArguments(bound.signature, bound.arguments.copy())
        for k in along:
            part.arguments[k] = arrays[k][first : first + step]
        with np.errstate(all="ignore"):
            return function(*part.args, **part.kwargs)

    def put(first: int, found: R) -> None:
        for whole, part in zip(made, arrays_in(found), strict=True):
            whole[first : first + step] = part

    try:
        head = block(0)
        made = [empty((n, *a.shape[1:]), a.dtype) for a in arrays_in(head)]
        put(0, head)
        rest, n_threads = range(step, n, step), _runtime.num_threads()
        if n_threads == 1:
            for first in rest:
                put(first, block(first))
        else:
            with concurrent.futures.ThreadPoolExecutor(n_threads) as pool:
                list(pool.map(lambda first: put(first, block(first)), rest))
    except (TypeError, ValueError):
        return function(*bound.args, **bound.kwargs)  # its error speaks of the whole
    result: R = with_arrays(head, iter(made))
    return result


def beside(a: Any, x: Any) -> Any:
    """A NumPy array where x lies."""
    return np.asarray(a, like=x) if library_of(x) is CUPY else a


def in_dtype(value: Any, x: Any) -> Any:
    """A number or an array in the dtype of x, and where x lies."""
    if isinstance(value, (int, float, np.generic)):
        return x.dtype.type(value)
    return beside(value.astype(x.dtype, copy=False), x)


def whole(x: Any) -> Any:
    """Halves in float32, ready for arithmetic."""
    return converted(x, np.float32) if x.dtype.itemsize == 2 else x


def broadcast(function: str, **arrays: Array) -> tuple[Array, ...]:
    """The arrays in one shape, or an error that names them."""
    try:
        return np.broadcast_arrays(*arrays.values())
    except ValueError:
        shapes = ", ".join(f"{name} {a.shape}" for name, a in arrays.items())
        raise ValueError(f"{function}: these shapes do not broadcast: {shapes}") from None


def one_a_row(function: str, name: str, a: Array, logits: Array, given: str = "logits") -> Array:
    """`a` in the shape of the rows of `logits`, which is called `given` in the error."""
    shape = logits.shape[:-1]
    try:
        return np.broadcast_to(a, shape)
    except ValueError:
        raise_shape(function, name, a.shape, f"it must broadcast to {shape}, the rows of {given}")


# NumPy's loops along a last axis of a few elements take a call a row; einsum has none. It adds
# up one by one, though, which long rows should not be.
_SHORT = 64


def row_sum(x: Array) -> Any:
    """Sum over the last axis."""
    return x.sum(axis=-1) if x.shape[-1] > _SHORT else np.einsum("...k->...", x)


def row_dot(x: Array, y: Array) -> Any:
    """Sum of the products over the last axis."""
    return (x * y).sum(axis=-1) if x.shape[-1] > _SHORT else np.einsum("...k,...k->...", x, y)


def sum_of_few(x: Array, weights: Array) -> Any:
    """Sum of the products over a last axis of a few, whose columns are taken one by one."""
    if not len(weights):
        return np.zeros_like(x, shape=x.shape[:-1])
    total = x[..., 0] * weights[0]
    for k in range(1, len(weights)):
        total = total + x[..., k] * weights[k]
    return total


def by_columns(x: Array) -> tuple[Array, int]:
    """A copy of short rows column by column, along which NumPy is quick; and the axis of a row."""
    n = x.shape[-1]
    if n > _SHORT:
        return x, -1
    return x.reshape(-1, n).T.copy().reshape(n, *x.shape[:-1]), 0


def at(x: Array, column: Array) -> Any:
    """The entry of x in one column a row; NaN where it has no such column."""
    n = x.shape[-1]
    if n == 0:
        return np.full_like(x, np.nan, shape=x.shape[:-1])
    column = column.astype(np.int64, copy=False)
    first = beside(np.arange(0, x.size, n), x).reshape(column.shape)
    value = np.take(x, first + np.clip(column, 0, n - 1))
    inside = (column >= 0) & (column < n)
    return value if inside.all() else np.where(inside, value, np.nan).astype(value.dtype)
