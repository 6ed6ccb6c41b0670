"""Arrays of other libraries: to NumPy without a copy where that is possible, and back.

A library is known by the modules of an array's type, so that none is ever imported here.

budget: over 400 lines, because what is known of one library stands beside the others.
"""

import dataclasses
import functools
import importlib.util
import math
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from softmap import _backend
from softmap._device import BFLOAT16 as BFLOAT16
from softmap._device import Array as Array
from softmap._device import (
    DeviceArray,
    from_cupy,
    from_other,
    from_torch,
    on_cuda,
    torch_plain,
)
from softmap.errors import optional

Axes = tuple[int, ...]


@dataclass(frozen=True, eq=False)
class Library:
    """How arrays of one library are read and made."""

    to_numpy: Callable[[Any], Array]
    from_host: Callable[[Any, Any], Any]
    """Makes an array from a NumPy one, beside an array of the library."""
    on_host: Callable[[Any], bool] = lambda x: not on_cuda(x)
    weak_integers: bool = False
    """Whether integers beside floating numbers take their dtype: float32, not float64."""
    to_device: Callable[[Any], DeviceArray] = from_other
    """What `to_numpy` is, for an array on a CUDA device."""
    on_cuda: Callable[[Any], bool] = on_cuda
    from_device: Callable[[Any, Any], Any] = lambda x, like: x

    def from_cupy(self, a: Any, like: Any) -> Any:
        """Makes an array from a CuPy one, which stays on its device, or from a number."""
        if isinstance(a, np.generic):
            a = sys.modules["cupy"].asarray(a)
        if self is TORCH:
            return sys.modules["torch"].from_dlpack(a)
        return self.from_device(a, like)

    def from_numpy(self, a: Any, like: Any) -> Any:
        """Makes an array from a NumPy one, beside an array of the library on host or device."""
        if isinstance(a, DeviceArray):
            return self.from_device(a.unwrap(), like)
        return self.from_host(a, like)


def _torch_to_numpy(x: Any) -> Array:
    torch = sys.modules["torch"]
    x = torch_plain(x)
    if x.dtype is torch.bfloat16:
        bits: Array = x.view(torch.int16).numpy()
        return bits.view(BFLOAT16)
    result: Array = x.numpy()
    return result


def _torch_from_numpy(a: Any, like: Any) -> Any:
    torch = sys.modules["torch"]
    a = np.asarray(a)
    if a.dtype.kind == "V":
        return torch.from_numpy(a.view(np.int16)).view(torch.bfloat16)
    return torch.from_numpy(a)


def _jax_to_numpy(x: Any) -> Array:
    if isinstance(x, sys.modules["jax"].core.Tracer):
        raise TypeError("it is a tracer of jax.jit, grad or vmap; use jax.nn.softmax and its like")
    return np.asarray(x)


def _jax_from_numpy(a: Any, like: Any) -> Any:
    return sys.modules["jax"].device_put(np.asarray(a), next(iter(like.devices())))


def _jax_on_host(x: Any) -> bool:
    traced = isinstance(x, sys.modules["jax"].core.Tracer)
    return traced or all(device.platform == "cpu" for device in x.devices())


def _jax_on_cuda(x: Any) -> bool:
    return all(device.platform in ("gpu", "cuda") for device in x.devices())


def _array_api_from_numpy(a: Any, like: Any) -> Any:
    return like.__array_namespace__().asarray(np.asarray(a), device=like.device)


def _by_dlpack(x: Any, like: Any) -> Any:
    return like.__array_namespace__().from_dlpack(x)


def _refuse(cure: str) -> Callable[[Any], Array]:
    def to_numpy(x: Any) -> Array:
        raise TypeError(f"it is a {_name_of(type(x))}; {cure}")

    return to_numpy


def _name_of(kind: type) -> str:
    return f"{kind.__module__}.{kind.__qualname__}".removeprefix("builtins.")


def _scalar_if_0d(a: Any, like: Any) -> Any:
    return a if a.ndim else a[()]


NUMPY = Library(np.asarray, _scalar_if_0d)
TORCH = Library(
    _torch_to_numpy,
    _torch_from_numpy,
    on_host=lambda x: bool(x.is_cpu),
    weak_integers=True,
    to_device=from_torch,
    on_cuda=lambda x: bool(x.is_cuda),
)
JAX = Library(
    _jax_to_numpy,
    _jax_from_numpy,
    on_host=_jax_on_host,
    weak_integers=True,
    on_cuda=_jax_on_cuda,
    from_device=_by_dlpack,
)
CUPY = Library(
    _refuse("call cupy.asnumpy on it"),
    _scalar_if_0d,
    on_host=lambda x: False,
    to_device=from_cupy,
    on_cuda=lambda x: True,
)
DASK = Library(_refuse("call .compute() on it"), _scalar_if_0d, on_host=lambda x: True)
OTHER = Library(_refuse("call numpy.asarray on it"), _scalar_if_0d)

_BY_MODULE = {
    "numpy": NUMPY,
    "torch": TORCH,
    "jax": JAX,
    "jaxlib": JAX,
    "cupy": CUPY,
    "dask.array": DASK,
    "tensorflow": OTHER,
    "mlx": OTHER,
}


@functools.cache
def _array_api(module: str) -> Library:
    return Library(np.from_dlpack, _array_api_from_numpy, from_device=_by_dlpack)


@functools.lru_cache(maxsize=256)
def _library_of_type(kind: Any) -> Library:
    for base in kind.__mro__ if hasattr(kind, "shape") else ():
        parts = base.__module__.split(".")
        library = _BY_MODULE.get(parts[0]) or _BY_MODULE.get(".".join(parts[:2]))
        if library:
            return library
    if hasattr(kind, "__array_namespace__"):
        return _array_api(kind.__module__.partition(".")[0])
    return NUMPY


def library_of(x: Any) -> Library:
    """The library of `x`: NumPy's for everything that is no array of another one."""
    kind: Any = type(x)
    return _library_of_type(kind)


def common_library(function: str, **arguments: Any) -> Library:
    """The library of the first argument, which is that of the others, too.

    Numbers, lists and NumPy arrays go with every library, except as `out`.
    """
    (first, x), *rest = arguments.items()
    library = library_of(x)
    for name, y in rest:
        other = library_of(y)
        if other is NUMPY and (name != "out" or y is None or library is NUMPY):
            continue
        if other is not library:
            what = [f"a {_name_of(type(z))}" for z in (x, y)]
        else:
            what = [f"on {place_of(z)}" for z in (x, y)]
        if what[0] != what[1] and (other is not library or library is not JAX):
            raise TypeError(f"{function}: {first} is {what[0]} but {name} is {what[1]}")
    return library


def place_of(x: Any) -> str:
    """The device of an array, as torch writes it."""
    if library_of(x) is CUPY:
        return f"cuda:{getattr(x.device, 'id', x.device)}"
    return str(getattr(x, "device", "a GPU"))


def is_left_to_its_library(x: Any) -> bool:
    """Whether nothing here can compute with an array on a device, but its own library might."""
    library = library_of(x)
    if library not in (TORCH, JAX, CUPY):
        return False
    if _backend.cuda() is None or not library.on_cuda(x) or "complex" in str(x.dtype):
        return True
    return library is JAX and importlib.util.find_spec("cupy") is None


def common_library_of_peers(function: str, **arguments: Any) -> tuple[Library, Any]:
    """The library of arguments of which none is the first, and an array of it.

    Numbers, lists and NumPy arrays go with every library.
    """
    ordered = sorted(arguments.items(), key=lambda item: library_of(item[1]) is NUMPY)
    return common_library(function, **dict(ordered)), ordered[0][1]


def announce_write(out: Any) -> None:
    """Tell the library of `out` that its elements have changed, for its gradients' sake."""
    if library_of(out) is TORCH and not out.is_inference():
        sys.modules["torch"].autograd.graph.increment_version(out)


def by_its_library(function: str, x: Any, axes: Axes, temperature: Any, keepdims: bool) -> Any:
    """softmax, log_softmax or logsumexp of an array on a device, by the array's own library."""
    library = library_of(x)
    if np.ndim(temperature) > 0:
        kept = tuple(1 if k in axes else n for k, n in enumerate(x.shape))
        if library is TORCH:
            temperature = sys.modules["torch"].asarray(temperature, device=x.device)
        elif library is CUPY:
            temperature = sys.modules["cupy"].asarray(temperature)
        temperature = temperature.reshape(kept)
    if library is TORCH:
        return _by_torch(function, x, axes, temperature, keepdims)
    options = {"keepdims": keepdims} if function == "logsumexp" else {}
    if library is JAX:
        jax = sys.modules["jax"]
        module = jax.scipy.special if options else jax.nn
    else:
        module = optional(function, "cupyx.scipy.special", "cupy-cuda13x")
    return getattr(module, function)(x / temperature, axis=axes, **options)


def _by_torch(function: str, x: Any, axes: Axes, temperature: Any, keepdims: bool) -> Any:
    """torch's functions take one axis: all axes are merged, as the last one."""
    torch = sys.modules["torch"]
    z = (x if x.is_floating_point() else x.double()) / temperature
    last = tuple(range(-len(axes), 0))
    z = z.movedim(axes, last)
    rows = z.shape[: z.ndim - len(axes)]
    result = getattr(torch, function)(z.reshape(*rows, math.prod(z.shape[len(rows) :])), -1)
    if function != "logsumexp":
        return result.reshape(z.shape).movedim(last, axes)
    kept = [1 if k in axes else n for k, n in enumerate(x.shape)]
    return result.reshape(kept) if keepdims else result


def refuse_lazy_out(function: str, out: Any) -> None:
    if out is not None:
        raise TypeError(f"{function}: out is given, but the result for a Dask array is lazy")


def by_dask(
    name: str,
    function: Callable[..., Any],
    x: Any,
    axes: Axes,
    outputs: Sequence[str],
    *,
    columns: dict[str, Any] | None = None,
    rows: dict[str, Any] | None = None,
    keepdims: bool = False,
    **sizes: int,
) -> Any:
    """Lazy results of `function` for a Dask array, block by block, with the rows along `axes`.

    `columns` are arguments that broadcast to the shape of `x`, `rows` such of its shape without
    `axes`. `outputs` names for each result the axes that it has besides those of the rows: "" for
    none, "row" for `axes`, otherwise one of `sizes`.
    """
    for k in axes:
        if len(x.chunks[k]) > 1:
            raise ValueError(
                f"{name}: axis {k} is split into {len(x.chunks[k])} chunks and a row must lie in "
                f"one; call .rechunk({{{k}: -1}}) on the array"
            )
    da = sys.modules["dask.array"]
    columns, rows = columns or {}, rows or {}
    fixed = {k: v for k, v in {**columns, **rows}.items() if _is_number(v)}
    arrays = {key: value for key, value in columns.items() if key not in fixed}
    n_columns = 1 + len(arrays)
    if arrays:
        x, *others = da.broadcast_arrays(x, *arrays.values())
        arrays = dict(zip(arrays, (a.rechunk(x.chunks) for a in others), strict=True))
    for key, value in rows.items():
        if key not in fixed:
            arrays[key] = _dask_rows(name, key, value, x, axes)
    last = tuple(range(-len(axes), 0))

    def block(first: Array, *others: Array) -> Any:
        return function(first, axis=last, **dict(zip(arrays, others, strict=True)), **fixed)

    core = ",".join(f"row{k}" for k in axes)
    inputs = [f"({core})"] * n_columns + ["()"] * (len(arrays) + 1 - n_columns)
    shapes = [f"({core if output == 'row' else output})" for output in outputs]
    places = {"row": axes, "": ()}
    # Of one row: the dtypes of the results, and the errors that need no data.
    row_shape = tuple(x.shape[k] for k in axes)
    sample = [np.broadcast_to(np.ones((), a.dtype), row_shape) for a in (x, *arrays.values())]
    sample[n_columns:] = [np.ones((), a.dtype) for a in sample[n_columns:]]
    results = block(*sample)
    single = not isinstance(results, tuple)
    empty = [np.empty(0, r.dtype) for r in ((results,) if single else results)]
    result = da.apply_gufunc(
        block,
        f"{','.join(inputs)}->{','.join(shapes)}",
        x,
        *arrays.values(),
        axes=[axes] * n_columns
        + [()] * (len(inputs) - n_columns)
        + [places.get(output, (-1,)) for output in outputs],
        meta=empty[0] if single else tuple(empty),
        output_sizes=sizes,
    )
    if not keepdims:
        return result
    return da.expand_dims(result, axes) if single else [da.expand_dims(r, axes) for r in result]


def _dask_rows(name: str, argument: str, value: Any, x: Any, axes: Axes) -> Any:
    """`value` as a Dask array, with the shape and the chunks of x without `axes`."""
    a = sys.modules["dask.array"].asarray(value)
    kept = tuple(1 if k in axes else n for k, n in enumerate(x.shape))
    reduced = tuple(n for k, n in enumerate(x.shape) if k not in axes)
    if a.shape not in ((), kept, reduced):
        rule = f"it must be a number or have shape {reduced}"
        raise ValueError(f"{name}: {argument} has shape {a.shape}, {rule}")
    if a.ndim == 0:
        return a
    return a.reshape(reduced).rechunk(tuple(c for k, c in enumerate(x.chunks) if k not in axes))


def lazily(
    name: str, function: Callable[..., Any], given: dict[str, Any], core: dict[str, int]
) -> Any:
    """`function(**given)` where some are Dask arrays: its result, with lazy arrays in it.

    The last `core` axes of an array, 0 by default, make one problem and must lie in one chunk; the
    axes before them broadcast. What the results of one problem look like is seen from one of ones,
    which also finds the errors that need no data.
    """
    da = sys.modules["dask.array"]
    lazy = {k: da.asarray(v) for k, v in given.items() if np.ndim(v) or library_of(v) is DASK}
    fixed = {key: value for key, value in given.items() if key not in lazy}
    sample, signature, labelled = {}, [], []
    for key, a in lazy.items():
        first = max(0, a.ndim - core.get(key, 0))
        for k in range(first, a.ndim):
            if len(a.chunks[k]) > 1:
                raise ValueError(
                    f"{name}: axis {k} of {key} is split into {len(a.chunks[k])} chunks and must "
                    f"lie in one; call .rechunk({{{k}: -1}}) on the array"
                )
        one = np.zeros if a.dtype.kind in "biu" else np.ones  # 0 is a column of every row
        sample[key] = one(a.shape[first:], a.dtype)
        inner = [f"{key}{k}" for k in range(first, a.ndim)]
        signature.append(f"({','.join(inner)})")
        labelled += [a, [*range(-first, 0), *inner]]
    result = function(**sample, **fixed)
    parts = [np.asarray(part) for part in arrays_in(result)]
    sizes = {f"out{p}_{k}": n for p, part in enumerate(parts) for k, n in enumerate(part.shape)}
    outputs = [
        f"({','.join(f'out{p}_{k}' for k in range(part.ndim))})" for p, part in enumerate(parts)
    ]

    def block(*blocks: Array) -> Any:
        found = arrays_in(function(**dict(zip(lazy, blocks, strict=True)), **fixed))
        return tuple(found) if len(parts) > 1 else found[0]

    metas = tuple(np.empty(0, part.dtype) for part in parts)
    made = da.apply_gufunc(
        block,
        f"{','.join(signature)}->{','.join(outputs)}",
        *da.core.unify_chunks(*labelled)[1],
        output_sizes=sizes,
        meta=metas if len(parts) > 1 else metas[0],
    )
    return with_arrays(result, iter(made if len(parts) > 1 else [made]))


def arrays_in(result: Any) -> list[Any]:
    """The arrays in a result: itself, or those in a tuple or a dataclass, in order."""
    if _is_array(result):
        return [result]
    inner = _inner(result)
    return [] if inner is None else [a for part in inner.values() for a in arrays_in(part)]


def with_arrays(result: Any, arrays: Iterator[Any]) -> Any:
    """`result` with other arrays in the places of its own."""
    if _is_array(result):
        return next(arrays)
    inner = _inner(result)
    if inner is None:
        return result
    changed = {key: with_arrays(part, arrays) for key, part in inner.items()}
    if isinstance(result, tuple):
        return tuple(changed.values())
    return dataclasses.replace(result, **changed)


def _is_array(x: Any) -> bool:
    return isinstance(x, (np.ndarray, np.generic)) or library_of(x) is CUPY


def _inner(result: Any) -> dict[str, Any] | None:
    if isinstance(result, tuple):
        return {str(k): part for k, part in enumerate(result)}
    if dataclasses.is_dataclass(result) and not isinstance(result, type):
        return {f.name: getattr(result, f.name) for f in dataclasses.fields(result)}
    return None


def elementwise_by_dask(function: Callable[..., Any], n_outputs: int, *arrays: Any) -> Any:
    """Lazy results of an elementwise function, of shapes that broadcast."""
    signature = f"{','.join(['()'] * len(arrays))}->{','.join(['()'] * n_outputs)}"
    dtypes = float if n_outputs == 1 else (float,) * n_outputs
    return sys.modules["dask.array"].apply_gufunc(
        function, signature, *arrays, output_dtypes=dtypes
    )


def _is_number(value: Any) -> bool:
    return library_of(value) is not DASK and np.ndim(value) == 0
