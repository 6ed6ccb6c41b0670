"""Checks of arguments, shared by all families: shapes, dtypes, options, and readable errors."""

import math
from typing import Any, NoReturn

import numpy as np
from numpy.typing import NDArray

from softmap import _backend

Array = NDArray[Any]

_OTHER_LIBRARIES = ("torch", "cupy", "jax", "jaxlib", "dask", "tensorflow", "mlx", "ndonnx")


def _refuse_kind(function: str, name: str, x: object) -> None:
    """Raise for array kinds whose meaning would be lost in a plain ndarray."""
    kind = type(x)
    if isinstance(x, np.ma.MaskedArray):
        raise TypeError(
            f"{function}: {name} is a masked array, whose mask would be ignored; pass a plain "
            "array (for logits, -inf is the mask)"
        )
    if isinstance(x, np.matrix):
        raise TypeError(f"{function}: {name} is a numpy.matrix; pass numpy.asarray({name})")
    if isinstance(x, (np.ndarray, np.generic)):
        return
    if hasattr(x, "__cuda_array_interface__"):
        _backend.cuda(function, name)
    library = kind.__module__.partition(".")[0]
    if library in _OTHER_LIBRARIES or hasattr(x, "__array_namespace__"):
        raise TypeError(
            f"{function}: {name} is a {kind.__module__}.{kind.__qualname__}, which this version "
            f"does not take; pass numpy.asarray({name})"
        )


def as_array(function: str, name: str, x: object) -> Array:
    """Return `x` as a native, aligned ndarray of a boolean, integer, real or complex dtype."""
    _refuse_kind(function, name, x)
    try:
        a = np.asarray(x)
    except (ValueError, TypeError) as error:
        raise TypeError(f"{function}: {name} cannot be read as an array ({error})") from None
    if a.dtype.kind not in "biufc" and a.dtype.name != "bfloat16":
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
    return a.astype(np.float32) if a.dtype.itemsize == 2 else a


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
    return dtype.name in ("float64", "float32", "float16", "bfloat16")


def check_choice(function: str, name: str, value: object, choices: tuple[str, ...]) -> str:
    """Return `value` if it is one of `choices`."""
    if isinstance(value, str) and value in choices:
        return value
    raise ValueError(f"{function}: {name} = {value!r}, it must be one of {', '.join(choices)}")


def check_number(function: str, name: str, value: object, *, positive: bool = False) -> float:
    """Return `value` as a finite float, above 0 where `positive`."""
    rule = "finite and above 0" if positive else "finite"
    if isinstance(value, (bool, str, bytes)) or np.ndim(value) != 0:  # type: ignore[arg-type]
        raise TypeError(f"{function}: {name} = {value!r}, it must be a number")
    try:
        number = float(value)  # type: ignore[arg-type]
    except (TypeError, ValueError):
        raise TypeError(f"{function}: {name} = {value!r}, it must be a number") from None
    if not math.isfinite(number) or (positive and number <= 0):
        raise ValueError(f"{function}: {name} = {value!r}, it must be {rule}")
    return number


def raise_shape(function: str, name: str, shape: tuple[int, ...], rule: str) -> NoReturn:
    """Raise the ValueError for an array of the wrong shape."""
    raise ValueError(f"{function}: {name} has shape {shape}, {rule}")
