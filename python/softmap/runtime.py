"""Threads, array libraries, and what this installation is made of."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np

from softmap import _backend, _runtime
from softmap._arrays import DASK, is_left_to_its_library, library_of
from softmap._check import as_array
from softmap._device import DeviceArray
from softmap.errors import BackendMissingError

__all__ = ["info", "preload", "release_memory", "set_num_threads", "supports", "threads"]


def _check_count(function: str, n: object) -> int:
    if isinstance(n, bool) or not hasattr(n, "__index__"):
        raise TypeError(f"{function}: n = {n!r}, it must be an integer")
    count = int(n.__index__())
    if not 1 <= count < 4096:
        raise ValueError(f"{function}: n = {count}, it must be between 1 and 4095")
    return count


def set_num_threads(n: int | None) -> None:
    """Set how many threads a call uses at most.

    Stronger than this is the argument ``n_threads`` of a call; weaker, in this order, are the
    environment variables ``SOFTMAP_NUM_THREADS`` and ``OMP_NUM_THREADS`` and the number of
    processors that this process may use. No result depends on it. The environment is read at
    import, where a ``SOFTMAP_NUM_THREADS`` that is not an integer between 1 and 4095 is a
    ValueError.

    Parameters
    ----------
    n : int or None
        At least 1; None goes back to the environment's choice.

    Raises
    ------
    TypeError, ValueError
        For anything but an integer of at least 1.

    Examples
    --------
    >>> import softmap
    >>> softmap.set_num_threads(1)
    >>> softmap.info()["threads"]
    1
    >>> softmap.set_num_threads(None)
    """
    _runtime.set_num_threads(0 if n is None else _check_count("set_num_threads", n))


@contextmanager
def threads(n: int) -> Iterator[None]:
    """Use at most `n` threads inside a ``with`` block; see :func:`set_num_threads`.

    Parameters
    ----------
    n : int
        At least 1. The setting holds for the whole process while the block runs.

    Raises
    ------
    TypeError, ValueError
        For anything but an integer of at least 1.

    Examples
    --------
    >>> import softmap
    >>> with softmap.threads(1):
    ...     softmap.info()["threads"]
    1
    """
    count = _check_count("threads", n)
    before = _runtime.get_set_threads()
    _runtime.set_num_threads(count)
    try:
        yield
    finally:
        _runtime.set_num_threads(before)


def release_memory() -> int:
    """Give the memory that is kept for coming results back to the system.

    Results of 1 MiB and more come from a pool of blocks, which keeps what is freed for the next
    result of nearly the same size: a fresh large array costs more in page faults than the softmax
    that fills it. The pool keeps at most ``SOFTMAP_POOL_BYTES`` (environment; 0 turns it off), by
    default the smaller of 512 MiB and an eighth of the memory that the process may use. The
    environment is read at import, where anything but a number of bytes is a ValueError.

    Returns
    -------
    int
        Bytes given back. Memory of arrays that are alive stays theirs.

    Examples
    --------
    >>> import numpy as np, softmap
    >>> y = softmap.softmax(np.zeros((1024, 1024)), axis=1)
    >>> del y
    >>> softmap.release_memory() >= 8 * 1024 * 1024
    True
    """
    return _runtime.release_memory()


def preload() -> None:
    """Import the compiled modules now that calls would import when they first need them.

    Before a server forks its workers, so that these share the modules' memory and the first call
    of each is as fast as the next. No thread is started and no memory is taken for results. Where
    the CUDA backend sees a GPU, its kernels are loaded on the current device: after that, calls may
    be captured in a CUDA graph. CUDA itself does not survive a fork; fork before, or spawn.

    Raises
    ------
    ImportError
        Where ``SOFTMAP_BACKEND`` names a backend that cannot run here.

    Examples
    --------
    >>> import sys, softmap
    >>> softmap.preload()
    >>> f"softmap.{softmap.info()['backend']}" in sys.modules
    True
    """
    _backend.cpu()
    cuda = _backend.cuda()
    if cuda is not None and cuda.device_count():
        cuda.preload()


def info() -> dict[str, Any]:
    """Versions, backends and threads, to be pasted into a bug report.

    Returns
    -------
    dict
        ``softmap``, ``numpy``, ``python``, ``platform``: versions and system; ``backend``: the
        module in use; ``backends``: those in this installation; ``runnable``: those that this
        processor can run; ``cuda``: how many GPUs the CUDA backend sees, None where there is no
        such backend; ``threads``: how many a call uses at most.

    Raises
    ------
    ImportError
        Where ``SOFTMAP_BACKEND`` names a backend that cannot run here.

    Examples
    --------
    >>> import softmap
    >>> softmap.info()["backend"] in ("_cpu_base", "_cpu_avx2", "_cpu_avx512")
    True
    """
    import platform  # here, as they take longer to import than softmap

    from softmap._version import __version__

    return {
        "softmap": __version__,
        "numpy": np.__version__,
        "python": platform.python_version(),
        "platform": platform.platform(),
        "backend": _backend.cpu().__name__.rpartition(".")[2],
        "backends": _backend.built(),
        "runnable": [name for name in _backend.built() if _runtime.supports(name)],
        "cuda": _cuda_info(),
        "threads": _runtime.num_threads(),
    }


def _cuda_info() -> int | None:
    cuda = _backend.cuda()
    return None if cuda is None else int(cuda.device_count())


# What each operation can do besides real arrays of the host: complex ones, Dask's, those on a GPU.
_OPERATIONS = {
    "softmax": "complex dask device",
    "log_softmax": "complex dask device",
    "logsumexp": "complex dask device",
    "level_scores": "dask",
    "row_filter": "dask",
    "row_root": "dask",
    "row_statistics": "dask",
    "logsumexp_partial": "dask",
    "preference": "dask",
    "preference_matrix": "",
    "log_likelihood": "",
    "fit_many": "dask",
    "score_against_anchors": "dask",
}


def supports(x: object, operation: str = "softmax") -> bool:
    """Whether an operation takes `x` as its main argument, as it is.

    Parameters
    ----------
    x : object
        An array of any library, a list, a data frame.
    operation : str
        Name of a public function of arrays, such as "softmax", "level_scores" or "fit_many".

    Returns
    -------
    bool
        False where the call would raise a TypeError or a BackendMissingError for the kind of `x`:
        its library, its device or its dtype. Its shape is not looked at.

    Raises
    ------
    ValueError
        For the name of no such operation.

    Examples
    --------
    >>> import numpy as np, softmap
    >>> softmap.supports(np.zeros(5)), softmap.supports(np.ma.zeros(5)), softmap.supports("abc")
    (True, False, False)
    >>> softmap.supports(np.zeros(5, complex), "level_scores")
    False
    """
    if operation not in _OPERATIONS:
        names = ", ".join(_OPERATIONS)
        raise ValueError(f"supports: operation = {operation!r}, it must be one of {names}")
    can = _OPERATIONS[operation].split()
    library = library_of(x)
    a: Any = x
    if library is DASK:
        if "dask" not in can:
            return False
        a = np.empty(0, a.dtype)
    elif not library.on_host(x) and is_left_to_its_library(x):
        return "device" in can
    try:
        a = as_array("supports", "x", a)
        if isinstance(a, DeviceArray):
            return a.dtype.kind != "c" and hasattr(_backend.cuda(), operation)
        return a.dtype.kind != "c" or "complex" in can
    except (TypeError, BackendMissingError):
        return False
