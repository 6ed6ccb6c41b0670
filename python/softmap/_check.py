"""Checks of arguments, shared by all families: shapes, dtypes, options, and readable errors."""

import math
from typing import Any, NoReturn

import numpy as np
from numpy.typing import DTypeLike

from softmap import _backend
from softmap._arrays import BFLOAT16, NUMPY, library_of
from softmap._arrays import Array as Array


def _read(function: str, name: str, x: object) -> Array:
    """`x` as an ndarray, in the memory of `x` where its library allows."""
    if isinstance(x, np.ma.MaskedArray):
        raise TypeError(
            f"{function}: {name} is a masked array, whose mask would be ignored; pass a plain "
            "array (for logits, -inf is the mask)"
        )
    if isinstance(x, np.matrix):
        raise TypeError(f"{function}: {name} is a numpy.matrix; pass numpy.asarray({name})")
    library = library_of(x)
    if not library.on_host(x):
        _backend.cuda(function, name)
    try:
        return library.to_numpy(x)
    except (TypeError, ValueError, RuntimeError, BufferError, AttributeError) as error:
        raise TypeError(f"{function}: {name} cannot be read as an array ({error})") from None


def as_array(function: str, name: str, x: object) -> Array:
    """Return `x` as a native, aligned ndarray of a boolean, integer, real or complex dtype."""
    a = _read(function, name, x)
    if a.dtype.kind not in "biufc" and not is_kernel_dtype(a.dtype):
        raise TypeError(
            f"{function}: {name} has dtype {a.dtype}, it must be boolean, integer or floating"
        )
    if not a.dtype.isnative or not a.flags.aligned:
        a = a.astype(a.dtype.newbyteorder("="))
    return a


def as_float_array(function: str, name: str, x: object) -> Array:
    """Return `x` as a native, aligned ndarray of float32 or float64.

    float16 and bfloat16 become float32; integers, bool and long double float64; complex raises.
    """
    a = as_kernel_array(function, name, x)
    return converted(a, np.float32) if a.dtype.itemsize == 2 else a


def as_kernel_array(function: str, name: str, x: object) -> Array:
    """Return `x` as a native, aligned ndarray of float64, float32, float16 or bfloat16.

    Integers, bool and long double become float64; complex raises.
    """
    a = as_array(function, name, x)
    if a.dtype.kind == "c":
        raise TypeError(f"{function}: {name} has dtype {a.dtype}, it must be real")
    return a if is_kernel_dtype(a.dtype) else a.astype(np.float64)


def is_kernel_dtype(dtype: np.dtype[Any]) -> bool:
    """Whether the softmax kernels read `dtype` as it is."""
    return dtype.char in "dfe" or dtype.name == "bfloat16" or dtype == BFLOAT16


def converted(a: Any, dtype: DTypeLike) -> Any:
    """`a` in another dtype; what is beyond its range is 0 or infinity, without a warning."""
    with np.errstate(all="ignore"):
        if a.dtype == dtype:
            return a
        if a.dtype == BFLOAT16:  # the upper half of a float32
            a = (a["bfloat16"].astype(np.uint32) << 16).view(np.float32)
        if dtype == BFLOAT16:  # to nearest, ties to even
            bits = a.astype(np.float32).view(np.uint32)
            upper = np.where(np.isnan(a), 0x7FC0, (bits + 0x7FFF + (bits >> 16 & 1)) >> 16)
            return upper.astype(np.uint16).view(BFLOAT16)
        return a.astype(dtype, copy=False)


def check_dtype(function: str, dtype: Any, x: Array) -> np.dtype[Any] | None:
    """Return `dtype`, of NumPy or another library, if results for `x` can be converted to it."""
    if dtype is None:
        return None
    wanted: np.dtype[Any]
    try:
        wanted = np.dtype(dtype)
    except TypeError as error:
        name = str(dtype).rpartition(".")[2]  # as in torch.float32
        if type(dtype).__module__ == "builtins" or name not in (*np.sctypeDict, "bfloat16"):
            raise TypeError(f"{function}: dtype = {dtype!r}, it is not a dtype ({error})") from None
        wanted = BFLOAT16 if name == "bfloat16" else np.dtype(name)
    if wanted.kind == "c" and x.dtype.kind == "c":
        return wanted
    if wanted.kind != "f" and not is_kernel_dtype(wanted):
        raise TypeError(f"{function}: dtype = {dtype!r}, it must be floating")
    if x.dtype.kind == "c":
        raise TypeError(f"{function}: dtype = {dtype!r}, the result for complex input is complex")
    return wanted


def check_out(function: str, out: object, shape: tuple[int, ...]) -> Array:
    """Return `out` as an ndarray that shares its memory, if a result of `shape` fits there."""
    if library_of(out) is NUMPY and not isinstance(out, np.ndarray):
        raise TypeError(f"{function}: out is a {type(out).__name__}, it must be a floating array")
    a = _read(function, "out", out)
    if not (a.dtype.kind in "fc" or is_kernel_dtype(a.dtype)):
        raise TypeError(f"{function}: out has dtype {a.dtype}, it must be floating")
    if a.shape != shape:
        raise_shape(function, "out", a.shape, f"it must have shape {shape}")
    if not a.flags.writeable:
        raise ValueError(f"{function}: out is read-only")
    if a is not out and a.size and not np.may_share_memory(a, _read(function, "out", out)):
        raise TypeError(f"{function}: out is a view that cannot be written to in place")
    return a


def check_choice(function: str, name: str, value: object, choices: tuple[str, ...]) -> str:
    """Return `value` if it is one of `choices`."""
    if isinstance(value, str) and value in choices:
        return value
    raise ValueError(f"{function}: {name} = {value!r}, it must be one of {', '.join(choices)}")


def check_number(function: str, name: str, value: object, *, positive: bool = False) -> float:
    """Return `value` as a finite float, above 0 where `positive`."""
    rule = "finite and above 0" if positive else "finite"
    if not is_scalar(value) or isinstance(value, (bool, str, bytes)) or np.iscomplexobj(value):  # type: ignore[arg-type]
        raise TypeError(f"{function}: {name} = {value!r}, it must be a number")
    try:
        number = float(value)  # type: ignore[arg-type]
    except OverflowError:
        number = math.inf
    except (TypeError, ValueError):
        raise TypeError(f"{function}: {name} = {value!r}, it must be a number") from None
    if not math.isfinite(number) or (positive and number <= 0):
        raise ValueError(f"{function}: {name} = {value!r}, it must be {rule}")
    return number


def is_scalar(value: object) -> bool:
    """Whether `value` has no axes; a ragged list has some."""
    try:
        return np.ndim(value) == 0  # type: ignore[arg-type]
    except ValueError:
        return False


def raise_shape(function: str, name: str, shape: tuple[int, ...], rule: str) -> NoReturn:
    """Raise the ValueError for an array of the wrong shape."""
    raise ValueError(f"{function}: {name} has shape {shape}, {rule}")
