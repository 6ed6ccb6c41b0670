"""Arrays on CUDA devices, without a look at their elements.

A `DeviceArray` tells NumPy's half of softmap what it needs to know of such an array: dtype, shape,
strides and address. What needs the elements is left to a kernel or to the array's own library,
through the few functions of an adapter. No library is imported for its own arrays.
"""

import contextlib
import ctypes
import functools
import importlib
import sys
from collections.abc import Callable
from types import ModuleType
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

from softmap import _backend
from softmap.errors import BackendMissingError

Array = NDArray[Any]
Shape = tuple[int, ...]

# bfloat16 where the package that gives NumPy this dtype is not needed: the bits, named.
BFLOAT16 = np.dtype([("bfloat16", "u2")])

# All addresses from 1 on as one buffer, so that NumPy makes an array of any of them.
_ADDRESSES: Any = (ctypes.c_char * (sys.maxsize - 1)).from_address(1)


class DeviceArray(np.ndarray[Any, np.dtype[Any]]):
    """What is known on the host of an array on a device; whoever asks for elements gets an error.

    Views (of other axes or shapes) are made as of any array.
    """

    adapter: "Adapter"
    owner: Any  # the array of the library
    layout: tuple[Shape, Shape]  # shape and strides of `owner`, which starts where this starts

    __array_ufunc__ = None  # type: ignore[assignment]

    def __array_finalize__(self, source: Any) -> None:
        if isinstance(source, DeviceArray):
            self.adapter, self.owner, self.layout = source.adapter, source.owner, source.layout

    def unwrap(self) -> Any:
        """The array of the library, with the axes that this has."""
        if (self.shape, self.strides) == self.layout:
            return self.owner
        return self.adapter.strided(self.owner, self.shape, self.strides)

    def astype(self, dtype: DTypeLike, *_: Any, **__: Any) -> "DeviceArray":  # type: ignore[override]
        """In another dtype; the same array where it has it."""
        dtype = np.dtype(dtype)
        if dtype == self.dtype:
            return self
        return self.adapter.wrap(self.adapter.cast(self.unwrap(), dtype), dtype)

    def contiguous(self) -> "DeviceArray":
        """In C order; the same array where it is."""
        if self.flags.c_contiguous:
            return self
        return self.adapter.wrap(self.adapter.contiguous(self.unwrap()), self.dtype)

    def item(self) -> Any:  # type: ignore[override]
        """The one number that this holds. Waits for the device."""
        return self.unwrap().item()

    def __setitem__(self, key: Any, value: Any) -> None:
        """Write to all of it, in the dtype that it has."""
        self.unwrap()[...] = value.unwrap() if isinstance(value, DeviceArray) else value

    def __repr__(self) -> str:
        return f"DeviceArray({self.shape}, {self.dtype})"


class Adapter:
    """What the arrays of one library on one device are asked for."""

    name: str

    def __init__(self, device: int):
        self.device = device
        self.xp: ModuleType = sys.modules[self.name]

    def wrap(self, x: Any, dtype: np.dtype[Any] | None = None) -> DeviceArray:
        """An array of the library, which stays its owner, as NumPy sees it."""
        address, strides, own_dtype = self.look(x)
        dtype = own_dtype if dtype is None else dtype
        shape = tuple(x.shape)
        offset = max(address - 1, 0)  # an empty array may have no address
        a = np.ndarray.__new__(DeviceArray, shape, dtype, _ADDRESSES, offset, strides)
        a.adapter, a.owner, a.layout = self, x, (shape, a.strides)
        return a

    def allocate(self, shape: Any, dtype: DTypeLike) -> DeviceArray:
        """Fresh memory in C order, from the pool of the library."""
        dtype, shape = np.dtype(dtype), tuple(shape)
        return self.wrap(self.empty(shape, dtype), dtype)

    def put(self, a: Array) -> DeviceArray:
        """A copy of a NumPy array. Where a few numbers are all the same, none is copied from the
        host, so that it works while a graph is captured.
        """
        alike = 0 < a.size <= 64 and bool((a == a.flat[0]).all())
        made = self.full(a.shape, a.flat[0].item(), a.dtype) if alike else self.from_host(a)
        return self.wrap(made, a.dtype)

    def look(self, x: Any) -> tuple[int, Shape, np.dtype[Any]]:
        """Address, strides in bytes, dtype."""
        raise NotImplementedError

    def stream(self) -> int:
        """The current stream, as a number."""
        raise NotImplementedError

    def as_stream_of(self, cupy: Any) -> contextlib.AbstractContextManager[Any]:
        """Inside it, CuPy works on the current stream of this library."""
        return contextlib.nullcontext()

    def empty(self, shape: Shape, dtype: np.dtype[Any]) -> Any:
        raise NotImplementedError

    def full(self, shape: Shape, value: Any, dtype: np.dtype[Any]) -> Any:
        raise NotImplementedError

    def from_host(self, a: Array) -> Any:
        raise NotImplementedError

    def cast(self, x: Any, dtype: np.dtype[Any]) -> Any:
        raise NotImplementedError

    def contiguous(self, x: Any) -> Any:
        raise NotImplementedError

    def strided(self, x: Any, shape: Shape, strides: Shape) -> Any:
        """A view of x from its first element on; strides in bytes."""
        raise NotImplementedError


@functools.cache
def _of_torch(dtype: Any) -> np.dtype[Any]:
    name = str(dtype).removeprefix("torch.")
    return BFLOAT16 if name == "bfloat16" else np.dtype(name)


class _Stream:
    """A stream by its handle, as the CUDA stream protocol wants it."""

    def __init__(self, handle: int):
        self.handle = handle

    def __cuda_stream__(self) -> tuple[int, int]:
        return 0, self.handle


def as_cupy_stream(cupy: Any, handle: int, device: int) -> contextlib.AbstractContextManager[Any]:
    """CuPy's stream of that handle: by the protocol if there is one, else an ExternalStream."""
    by_protocol = getattr(cupy.cuda.Stream, "from_external", None)
    stream: contextlib.AbstractContextManager[Any] = (
        by_protocol(_Stream(handle)) if by_protocol else cupy.cuda.ExternalStream(handle, device)
    )
    return stream


@functools.cache
def _to_torch(dtype: np.dtype[Any]) -> Any:
    return getattr(sys.modules["torch"], "bfloat16" if dtype == BFLOAT16 else dtype.name)


class Torch(Adapter):
    """Tensors of torch."""

    name = "torch"

    def __init__(self, device: Any):
        super().__init__(device.index)
        self.where = device

    def look(self, x: Any) -> tuple[int, Shape, np.dtype[Any]]:
        dtype = _of_torch(x.dtype)
        return x.data_ptr(), tuple(dtype.itemsize * n for n in x.stride()), dtype

    def stream(self) -> int:
        return int(self.xp.cuda.current_stream(self.where).cuda_stream)

    def as_stream_of(self, cupy: Any) -> contextlib.AbstractContextManager[Any]:
        return as_cupy_stream(cupy, self.stream(), self.device)

    def empty(self, shape: Shape, dtype: np.dtype[Any]) -> Any:
        return self.xp.empty(shape, dtype=_to_torch(dtype), device=self.where)

    def full(self, shape: Shape, value: Any, dtype: np.dtype[Any]) -> Any:
        return self.xp.full(shape, value, dtype=_to_torch(dtype), device=self.where)

    def from_host(self, a: Array) -> Any:
        return self.xp.tensor(a, device=self.where)

    def cast(self, x: Any, dtype: np.dtype[Any]) -> Any:
        return x.to(_to_torch(dtype))

    def contiguous(self, x: Any) -> Any:
        return x.contiguous()

    def strided(self, x: Any, shape: Shape, strides: Shape) -> Any:
        size = x.element_size()
        return x.as_strided(shape, tuple(n // size for n in strides), x.storage_offset())


class CuPy(Adapter):
    """Arrays of CuPy, whose functions work on the current device."""

    name = "cupy"

    def look(self, x: Any) -> tuple[int, Shape, np.dtype[Any]]:
        return x.data.ptr, x.strides, x.dtype

    def stream(self) -> int:
        return int(self.xp.cuda.get_current_stream(self.device).ptr)

    def empty(self, shape: Shape, dtype: np.dtype[Any]) -> Any:
        with self.xp.cuda.Device(self.device):
            return self.xp.empty(shape, dtype)

    def full(self, shape: Shape, value: Any, dtype: np.dtype[Any]) -> Any:
        with self.xp.cuda.Device(self.device):
            return self.xp.full(shape, value, dtype)

    def from_host(self, a: Array) -> Any:
        with self.xp.cuda.Device(self.device):
            return self.xp.asarray(a)

    def cast(self, x: Any, dtype: np.dtype[Any]) -> Any:
        with self.xp.cuda.Device(self.device):
            return x.astype(dtype)

    def contiguous(self, x: Any) -> Any:
        with self.xp.cuda.Device(self.device):
            return self.xp.ascontiguousarray(x)

    def strided(self, x: Any, shape: Shape, strides: Shape) -> Any:
        return self.xp.ndarray(shape, x.dtype, x.data, strides)


class Kernels:
    """The functions of the CUDA module for one call, as the CPU modules have them.

    Results are made by the library of the arguments, and the work is put on its current stream:
    both stand in the place of the number of threads.
    """

    def __init__(self, adapter: Adapter):
        self._adapter = adapter

    def __getattr__(self, name: str) -> Callable[..., Any]:
        kernel = getattr(_backend.cuda(), name, None)
        if kernel is None:
            raise no_kernel(name, "it", "x")
        adapter = self._adapter

        def call(*arguments: Any) -> Any:
            own: dict[int, DeviceArray] = {}
            plain = [_plain(a, own) for a in arguments[:-1]]
            result = kernel(*plain, (adapter.device, adapter.stream(), adapter.allocate))
            return own.get(id(result), result)

        return call


def _plain(a: Any, own: dict[int, DeviceArray]) -> Any:
    """`a` for the bindings, which look at exact types; `own` finds it again."""
    if isinstance(a, tuple):
        return tuple(_plain(item, own) for item in a)
    if not isinstance(a, DeviceArray):
        return a
    view = a.view(np.ndarray)
    own[id(view)] = a
    return view


def from_torch(x: Any) -> DeviceArray:
    """A tensor on a CUDA device."""
    if x.layout is not sys.modules["torch"].strided:
        raise TypeError(f"it is {x.layout}; call .to_dense() on it")
    a = Torch(x.device).wrap(torch_plain(x))
    if x.is_conj() or x.is_neg():  # a copy, in which a result would be lost
        a.flags.writeable = False
    return a


def from_cupy(x: Any) -> DeviceArray:
    """An array of CuPy."""
    return CuPy(x.device.id).wrap(x)


def from_other(x: Any) -> DeviceArray:
    """An array that DLPack or __cuda_array_interface__ describe, shared with CuPy."""
    cupy = _import_cupy(f"is a {type(x).__qualname__} on a GPU, which is shared with CuPy")
    return from_cupy(cupy.from_dlpack(x) if hasattr(x, "__dlpack__") else cupy.asarray(x))


def _import_cupy(why: str) -> ModuleType:
    try:
        return importlib.import_module("cupy")
    except ImportError:
        raise BackendMissingError(f"{why}; pip install cupy-cuda13x") from None


def by_cupy(
    name: str, function: Callable[..., Any], arguments: dict[str, Any], device: DeviceArray
) -> Any:
    """function(**arguments), the arrays among them as CuPy's on one device and its stream."""
    cupy = _import_cupy(f"{name}: arrays on a GPU are computed with by CuPy")
    adapter = device.adapter

    def as_cupy(a: Any) -> Any:
        if isinstance(a, np.ndarray) and not isinstance(a, DeviceArray):
            return cupy.asarray(a)
        if not isinstance(a, DeviceArray):
            return a
        if a.adapter.device != adapter.device:
            places = f"cuda:{adapter.device} and cuda:{a.adapter.device}"
            raise TypeError(f"{name}: its arrays are on {places}")
        owner = (a.astype(np.float32) if a.dtype == BFLOAT16 else a).unwrap()  # CuPy has none
        return owner if isinstance(adapter, CuPy) else cupy.from_dlpack(owner)

    with cupy.cuda.Device(adapter.device), adapter.as_stream_of(cupy):
        return function(**{key: as_cupy(a) for key, a in arguments.items()})


def torch_plain(x: Any) -> Any:
    """The tensor with neither a gradient nor a pending conjugation or change of sign."""
    torch = sys.modules["torch"]
    if x.requires_grad:
        if torch.is_grad_enabled():
            raise TypeError("it requires grad, which the result would lose; call .detach() on it")
        x = x.detach()
    if torch.autograd.forward_ad.unpack_dual(x).tangent is not None:
        raise TypeError("it has a forward gradient, which the result would lose")
    return x.resolve_conj().resolve_neg()


def on_cuda(x: Any) -> bool:
    """Whether x lies on a CUDA device, as far as DLPack or __cuda_array_interface__ tell."""
    if type(x) is np.ndarray:
        return False
    if hasattr(x, "__cuda_array_interface__"):
        return True
    kind = getattr(x, "__dlpack_device__", None)
    return kind is not None and int(kind()[0]) in (2, 13)  # kDLCUDA, kDLCUDAManaged


def no_kernel(function: str, what: str, name: str) -> BackendMissingError:
    """The error for what only the CPU computes."""
    return BackendMissingError(
        f"{function}: {what} has no CUDA kernel; pass host arrays, e.g. cupy.asnumpy({name}) or "
        f"{name}.cpu()"
    )


def by_library(function: Callable[..., Any], *arrays: Any) -> Any:
    """function(xp, *arrays), which may be on a device: xp is NumPy or the arrays' own library."""
    device = next((a for a in arrays if isinstance(a, DeviceArray)), None)
    if device is None:
        return function(np, *arrays)
    adapter = device.adapter
    result = function(
        adapter.xp, *(a.unwrap() if isinstance(a, DeviceArray) else a for a in arrays)
    )
    if isinstance(result, tuple):
        return tuple(None if x is None else adapter.wrap(x) for x in result)
    return adapter.wrap(result)
