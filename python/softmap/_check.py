"""Checks of arguments, shared by all families: shapes, dtypes, options, and readable errors."""

import math
from collections.abc import Callable
from typing import Any, NoReturn

import numpy as np
from numpy.typing import DTypeLike

from softmap import _backend, _runtime
from softmap._arrays import BFLOAT16, NUMPY, TORCH, library_of, place_of
from softmap._arrays import Array as Array
from softmap._device import DeviceArray, Kernels, no_kernel
from softmap.errors import BackendMissingError


def _read(function: str, name: str, x: object) -> Array:
    """`x` as an ndarray, in the memory of `x` where its library allows; it may be on a device."""
    if isinstance(x, DeviceArray):
        return x
    if isinstance(x, np.ma.MaskedArray):
        raise TypeError(
            f"{function}: {name} is a masked array, whose mask would be ignored; pass a plain "
            "array (for logits, -inf is the mask)"
        )
    if isinstance(x, np.matrix):
        raise TypeError(f"{function}: {name} is a numpy.matrix; pass numpy.asarray({name})")
    library = library_of(x)
    read: Callable[[Any], Array] = library.to_numpy
    if not library.on_host(x):
        if _backend.cuda() is None or not library.on_cuda(x):
            raise _no_backend(function, name, x)
        read = library.to_device
    try:
        return read(x)
    except BackendMissingError as error:
        raise BackendMissingError(f"{function}: {name} {error}") from None
    except (TypeError, ValueError, RuntimeError, BufferError, AttributeError) as error:
        raise TypeError(f"{function}: {name} cannot be read as an array ({error})") from None


def _no_backend(function: str, name: str, x: object) -> BackendMissingError:
    missing = "no CUDA backend" if _backend.cuda() is None else "no backend for it"
    build = "install a CUDA build or " if _backend.cuda() is None else ""
    cure = f"{name}.cpu()" if library_of(x) is TORCH else f"cupy.asnumpy({name})"
    return BackendMissingError(
        f"{function}: {name} is on {place_of(x)} and this installation has {missing}; {build}pass "
        f"a host array, e.g. {cure}"
    )


def host_only(function: str, what: str, name: str, *arrays: object) -> None:
    """Raise where an array is on a device: `what` has no CUDA kernel."""
    if any(isinstance(a, DeviceArray) for a in arrays):
        raise no_kernel(function, what, name)


def backend_of(*arrays: object) -> Any:
    """The compiled functions for these arrays: the module of the CPU, or that of their device."""
    for a in arrays:
        if isinstance(a, DeviceArray):
            return Kernels(a.adapter)
    return _backend.cpu()


def empty(shape: tuple[int, ...], dtype: DTypeLike, *beside: object) -> Array:
    """Fresh memory on the device of `beside`, or on the host."""
    for a in beside:
        if isinstance(a, DeviceArray):
            return a.adapter.allocate(shape, dtype)
    fresh: Array = _runtime.empty(shape, np.dtype(dtype))
    return fresh


def contiguous(a: Array, dtype: DTypeLike | None = None) -> Array:
    """`a` in C order and in that dtype, on host or device."""
    if isinstance(a, DeviceArray):
        return (a if dtype is None else a.astype(dtype)).contiguous()
    return np.ascontiguousarray(a, dtype)


def on_host(a: Array) -> Array:
    """A small array of constants, in the memory of the host; waits for the device of another."""
    return np.array(a.unwrap().tolist(), a.dtype) if isinstance(a, DeviceArray) else a


def placed(a: Array, x: Array) -> Array:
    """`a` as a kernel takes it beside `x`: an array where x is, one number on the host."""
    if isinstance(a, DeviceArray) and a.ndim == 0:
        return np.array(a.item(), a.dtype)
    if not isinstance(x, DeviceArray) or isinstance(a, DeviceArray) or a.ndim == 0:
        return a
    return x.adapter.put(a)


def on_one_device(*arrays: Any) -> list[Any]:
    """The arrays, those of the host copied to the device of the others, if there is one."""
    device = next((a for a in arrays if isinstance(a, DeviceArray)), None)
    if device is None:
        return list(arrays)
    return [device.adapter.put(a) if type(a) is np.ndarray else a for a in arrays]


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
    if a.dtype == dtype:
        return a
    if isinstance(a, DeviceArray):
        return a.astype(dtype)
    with np.errstate(all="ignore"):
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
    if _shares_entries(a):
        raise ValueError(
            f"{function}: out has strides {a.strides} in shape {a.shape}, its entries must lie "
            "apart; give it memory of its own, such as a copy"
        )
    if isinstance(a, DeviceArray):
        return a
    if a is not out and a.size and not np.may_share_memory(a, _read(function, "out", out)):
        raise TypeError(f"{function}: out is a view that cannot be written to in place")
    return a


def _shares_entries(a: Array) -> bool:
    """True for a view in which entries lie in each other's memory, as after expand or broadcast."""
    reach = a.dtype.itemsize
    for stride, n in sorted(zip(map(abs, a.strides), a.shape, strict=True)):
        if n > 1 and stride < reach:
            return a.size > 0
        reach += stride * (n - 1)
    return False


def plural(n: float, noun: str) -> str:
    """As in 1 item, 2 items."""
    return f"{n:.10g} {noun}{'s' * (n != 1)}"


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
