"""A stand-in for CuPy and a GPU: its arrays lie in memory that only "device code" may touch.

Outside of `Memory.unlocked()` a look at an element from the host is a segmentation fault, as it is
with a real device; inside, the elements are NumPy's. `make_module` makes the module to be put into
`sys.modules`, `Kernels` lets a compiled module of the host play the CUDA module.

budget: over 400 lines, because it is one library.
"""

import contextlib
import ctypes
import math
import mmap
import types
import weakref
from importlib.machinery import ModuleSpec

import numpy as np
import pytest

SIZE = 1 << 28


class Memory:
    """Memory of all devices. A piece given back serves again where as much is asked for."""

    def __init__(self):
        self.map = mmap.mmap(-1, SIZE)
        self.start = ctypes.addressof(ctypes.c_char.from_buffer(self.map))
        self.libc = ctypes.CDLL(None, use_errno=True)
        self.graph = None  # what is captured
        self.reset()

    def take(self, n_bytes):
        """The address of that much memory, filled with what no result is."""
        size = -(-max(n_bytes, 1) // 64) * 64
        if self.free.get(size):
            address = self.free[size].pop()
        else:
            address = self.start + self.used
            self.used += size
        assert self.used <= SIZE
        self.in_use += size
        with self.unlocked():
            ctypes.memset(address, 0xA5, n_bytes)
        return address

    def give_back(self, address, n_bytes, turn):
        if turn == self.turn and not self.keeps:
            size = -(-max(n_bytes, 1) // 64) * 64
            self.free.setdefault(size, []).append(address)
            self.in_use -= size

    def _protect(self, flags):
        code = self.libc.mprotect(ctypes.c_void_p(self.start), ctypes.c_size_t(SIZE), flags)
        assert code == 0

    @contextlib.contextmanager
    def unlocked(self):
        """Stays unlocked after an exception, so that a traceback can be shown."""
        self.depth += 1
        self._protect(mmap.PROT_READ | mmap.PROT_WRITE)
        yield
        self.depth -= 1
        if self.depth == 0:
            self._protect(0)

    def begin_capture(self):
        self.graph = Graph()

    def end_capture(self):
        graph, self.graph = self.graph, None
        return graph

    @contextlib.contextmanager
    def capturing(self):
        self.begin_capture()
        yield
        self.end_capture()

    def copy_with_the_host(self):
        if self.graph:
            raise RuntimeError("cudaErrorStreamCaptureUnsupported: a copy from the host or to it")

    def do(self, step):
        """Now, and again whenever the graph is launched that is captured."""
        step()
        if self.graph:
            self.graph.steps.append(step)

    def reset(self, keeps=True):
        """Gives all memory back; with `keeps`, none of what is taken from here on."""
        self.turn = getattr(self, "turn", 0) + 1
        self.depth = self.used = self.in_use = 0
        self.free, self.keeps, self.graph = {}, keeps, None
        self._protect(0)


class Graph:
    """What was done while it was captured, to be done again."""

    def __init__(self):
        self.steps = []

    def launch(self, stream=None):
        for step in self.steps:
            step()


MEMORY = Memory()


class Pointer:
    def __init__(self, ptr, device):
        self.ptr, self.device = ptr, device


class Stream:
    """Work is done at once."""

    current = None

    def __init__(self, ptr=0x99, non_blocking=False):
        self.ptr = ptr

    def __enter__(self):
        self.before, Stream.current = Stream.current, self
        return self

    def __exit__(self, *_):
        Stream.current = self.before

    def begin_capture(self):
        MEMORY.begin_capture()

    def end_capture(self):
        return MEMORY.end_capture()

    def synchronize(self):
        pass


class Device:
    """A device; current inside a `with` block."""

    current = 0

    def __init__(self, id=None):
        self.id = Device.current if id is None else id

    def __enter__(self):
        self.before, Device.current = Device.current, self.id

    def __exit__(self, *_):
        Device.current = self.before

    def synchronize(self):
        pass

    def __repr__(self):
        return f"<CUDA Device {self.id}>"


class ndarray(np.lib.mixins.NDArrayOperatorsMixin):
    """As cupy.ndarray, as far as softmap and its tests ask."""

    def __init__(self, shape, dtype=float, memptr=None, strides=None):
        dtype, shape = np.dtype(dtype), tuple(np.atleast_1d(shape)) if np.ndim(shape) else (shape,)
        if memptr is None:
            n_bytes = math.prod(int(n) for n in shape) * dtype.itemsize
            memptr = Pointer(MEMORY.take(n_bytes), Device.current)
            weakref.finalize(memptr, MEMORY.give_back, memptr.ptr, n_bytes, MEMORY.turn)
        self.data = memptr
        buffer = (ctypes.c_char * (SIZE)).from_address(MEMORY.start)
        self.host = np.ndarray(shape, dtype, buffer, memptr.ptr - MEMORY.start, strides)

    shape = property(lambda self: self.host.shape)
    strides = property(lambda self: self.host.strides)
    dtype = property(lambda self: self.host.dtype)
    ndim = property(lambda self: self.host.ndim)
    size = property(lambda self: self.host.size)
    device = property(lambda self: Device(self.data.device))

    def _view(self, host):
        pointer = Pointer(host.ctypes.data, self.data.device)
        pointer.owner = self.data
        return ndarray(host.shape, host.dtype, pointer, host.strides)

    def __getitem__(self, key):
        key = _host(key)
        key = key if isinstance(key, tuple) else (key,)
        if any(isinstance(k, np.ndarray) for k in key):
            with MEMORY.unlocked():
                return _made(self.host[key])
        # One element is an array without axes, not a number that is read.
        return self._view(self.host[key if Ellipsis in key else (*key, ...)])

    def __setitem__(self, key, value):
        def write():
            with MEMORY.unlocked():
                self.host[_host(key)] = _host(value)

        MEMORY.do(write)

    def transpose(self, *axes):
        return self._view(self.host.transpose(*axes))

    T = property(transpose)

    def reshape(self, *shape):
        host = self.host.reshape(*shape)
        return self._view(host) if np.may_share_memory(host, self.host) else _made(host)

    def swapaxes(self, a, b):
        return self._view(self.host.swapaxes(a, b))

    def astype(self, dtype, copy=True):
        if not copy and self.dtype == dtype:
            return self
        return _computed(lambda: self.host.astype(dtype))

    def get(self):
        MEMORY.copy_with_the_host()
        with MEMORY.unlocked():
            return self.host.copy()

    def item(self):
        return self.get().item()

    def tolist(self):
        return self.get().tolist()

    def __len__(self):
        return len(self.host)

    def __bool__(self):
        return bool(self.item())

    def __float__(self):
        return float(self.item())

    def __array_ufunc__(self, ufunc, method, *inputs, out=(), **options):
        for x in inputs:
            if isinstance(x, np.ndarray):
                raise TypeError(f"Unsupported type {type(x)}")

        def compute():
            with MEMORY.unlocked():
                return getattr(ufunc, method)(*_host(inputs), out=_host(out) or None, **options)

        if not out:
            return _computed(compute)
        MEMORY.do(compute)
        return out[0]

    def __array_function__(self, function, types, arguments, options):
        """As CuPy, which has a function of the same name, and takes no arrays of NumPy."""
        if function.__name__ not in FUNCTIONS:
            raise TypeError(f"cupy has no {function.__name__}, or none that is known to do")
        if function.__name__ != "asarray":
            for x in (*arguments, *options.values()):
                if isinstance(x, np.ndarray):
                    raise TypeError(f"Unsupported type {type(x)}")
        with MEMORY.unlocked():
            made = function(*_host(arguments), **_host(options))
            return tuple(map(_made, made)) if isinstance(made, (tuple, list)) else _wrapped(made)

    def __array__(self, *_, **__):
        raise TypeError("Implicit conversion to a NumPy array is not allowed")


# Functions of NumPy that CuPy 14.2 has, with the arguments that recipes give them.
FUNCTIONS = {"argsort", "asarray", "bincount", "broadcast_arrays", "broadcast_to", "clip"}
FUNCTIONS |= {
    "cumprod",
    "einsum",
    "iscomplexobj",
    "ndim",
    "shape",
    "empty_like",
    "flatnonzero",
    "full_like",
    "median",
    "moveaxis",
    "norm",
}
FUNCTIONS |= {"ones_like", "put_along_axis", "result_type", "searchsorted", "sort", "stack", "sum"}
FUNCTIONS |= {"take", "take_along_axis", "where", "zeros_like"}


def _host(x):
    """The arrays of the host that lie under those of the device in x."""
    if isinstance(x, (tuple, list)):
        return type(x)(map(_host, x))
    if isinstance(x, dict):
        return {key: _host(value) for key, value in x.items()}
    return x.host if isinstance(x, ndarray) else x


def _wrapped(x):
    return _made(np.asarray(x)) if isinstance(x, (np.ndarray, np.generic)) else x


def _method(name):
    def apply(self, *arguments, **options):
        return _computed(lambda: getattr(self.host, name)(*arguments, **options))

    return apply


for _name in ("sum", "mean", "std", "max", "min", "argmax", "argmin", "any", "all", "copy"):
    setattr(ndarray, _name, _method(_name))
ndarray.__hash__ = None
ndarray.__module__, ndarray.__qualname__ = "cupy", "ndarray"


def _made(host):
    """An array on the current device, with the elements of one of NumPy."""
    a = ndarray(host.shape, host.dtype)
    a[...] = host
    return a


def _computed(compute):
    """An array on the current device, with the elements of what `compute` makes of memory."""
    with MEMORY.unlocked():
        a = _made(np.asarray(compute()))

    def write():
        with MEMORY.unlocked():
            a.host[...] = compute()

    MEMORY.do(write)
    return a


def _from_host(host):
    MEMORY.copy_with_the_host()
    return _made(host)


def _elementwise(function):
    def apply(*arguments):
        return _computed(lambda: function(*_host(arguments)))

    return apply


def make_module():
    """The module cupy; its `streams` are those of the devices."""
    cupy = types.ModuleType("cupy")
    cupy.__spec__ = ModuleSpec("cupy", None)
    streams = {0: Stream(0x11), 1: Stream(0x22)}
    cupy.ndarray, cupy.empty, cupy.streams = ndarray, ndarray, streams
    cupy.cuda = types.SimpleNamespace(
        Device=Device,
        Stream=Stream,
        get_current_stream=lambda id=None: (
            Stream.current or streams[Device.current if id is None else id]
        ),
        is_available=lambda: True,
        set_allocator=lambda allocator: None,
    )
    cupy.asarray = lambda a: a if isinstance(a, ndarray) else _from_host(np.asarray(a))
    cupy.ascontiguousarray = _elementwise(np.ascontiguousarray)
    cupy.full = lambda shape, value, dtype: _computed(lambda: np.full(shape, value, dtype))
    cupy.get_default_memory_pool = lambda: types.SimpleNamespace(used_bytes=lambda: MEMORY.in_use)
    cupy.where, cupy.exp = _elementwise(np.where), _elementwise(np.exp)
    cupy.asnumpy = lambda a: a.get()
    return cupy


class Again:
    """Allocates, and gives the same memory again where `n` starts anew: in a graph."""

    def __init__(self, allocate):
        self.allocate, self.made, self.n = allocate, [], 0

    def __call__(self, *wanted):
        if self.n == len(self.made):
            self.made.append(self.allocate(*wanted))
        self.n += 1
        return self.made[self.n - 1]


class Kernels:
    """A compiled module in the place of `_cuda`; a module of the CPU copies what it has made."""

    def __init__(self, module, takes_run, devices=2):
        self.module, self.takes_run, self.devices, self.calls = module, takes_run, devices, []

    def device_count(self):
        return self.devices

    def preload(self, *_):
        self.calls.append(("preload", None, None))

    def __getattr__(self, name):
        if self.takes_run and not hasattr(self.module, name):
            pytest.skip(f"{name} has no CUDA kernel (CPU_ONLY in test_surface.py)")
        kernel = getattr(self.module, name)
        if name == "check_threads":
            return kernel

        def call(*arguments):
            *given, (device, stream, allocate) = arguments
            self.calls.append((name, device, stream))
            memory, results = Again(allocate), []

            def compute():
                memory.n = 0
                with MEMORY.unlocked():
                    results.append(self._compute(kernel, given, stream, memory))

            MEMORY.do(compute)
            return results.pop()

        return call

    def _compute(self, kernel, given, stream, allocate):
        if self.takes_run:
            return kernel(*given, (0, stream, allocate))
        result = kernel(*given, None)
        if isinstance(result, (tuple, list)):
            return tuple(self._result(r, given, allocate) for r in result)
        return self._result(result, given, allocate)

    def _result(self, result, given, allocate):
        if not isinstance(result, (np.ndarray, np.generic)):
            return result
        if any(result is a for a in given):
            return result
        made = allocate(result.shape, result.dtype)
        made.view(np.ndarray)[...] = result
        return made
