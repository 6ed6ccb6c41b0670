"""The softmax family: softmax, log_softmax, logsumexp, level_scores."""

import functools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy import ndarray
from numpy.typing import ArrayLike, DTypeLike

from softmap import _backend, _generic
from softmap._arrays import (
    BFLOAT16,
    DASK,
    NUMPY,
    Array,
    announce_write,
    by_dask,
    by_its_library,
    common_library,
    is_left_to_its_library,
    library_of,
    refuse_lazy_out,
)
from softmap._check import (
    as_array,
    as_float_array,
    as_kernel_array,
    backend_of,
    check_dtype,
    check_number,
    check_out,
    contiguous,
    converted,
    host_only,
    is_kernel_dtype,
    is_scalar,
    on_host,
    placed,
    raise_shape,
)
from softmap._device import DeviceArray

__all__ = ["LevelScores", "level_scores", "log_softmax", "logsumexp", "softmax"]

Axis = int | tuple[int, ...] | None


def softmax(
    x: ArrayLike,
    axis: Axis = None,
    *,
    temperature: ArrayLike = 1.0,
    out: Array | None = None,
    dtype: DTypeLike | None = None,
    n_threads: int | None = None,
) -> Any:
    """Softmax: exp(z) / sum(exp(z)) along `axis`, with z = x / temperature.

    Parameters
    ----------
    x : array_like
        Logits of any shape, of NumPy or another array library. float32 and float64 are computed as
        they are, float16 and bfloat16 in float32, integers and bool in float64.
    axis : int, tuple of int or None
        Axes that are summed over; None (default) means all of them.
    temperature : float or array_like
        Divides the logits before anything else, by one division each. A number, finite and above
        0, or an array of the shape of ``logsumexp(x, axis)`` (also with the reduced axes kept as
        1), of which a value that is not finite and above 0 makes its row NaN.
    out : array, optional
        Where the result goes: of the library and the shape of `x`, floating. It may be `x` itself.
    dtype : dtype, optional
        The result is converted to it; by default that of `x` (float64 for integers and bool).
    n_threads : int, optional
        Threads to use at most. The result does not depend on it.

    Returns
    -------
    array or scalar
        Array of the library and the shape of `x`: a torch tensor for a torch tensor, a lazy Dask
        array for a Dask array; a NumPy array for lists and data frames, a NumPy scalar where that
        is 0-d.

    Raises
    ------
    TypeError
        For dtypes other than numbers, masked arrays, numpy.matrix, arrays of different libraries,
        tensors that require grad and tracers.
    BackendMissingError
        For options that need the CUDA backend where it is missing: without it an array on a GPU is
        left to its own library, which knows no `out` and no `dtype`.
    ValueError
        For an axis out of range or given twice, a temperature that is a number but not finite
        and above 0, or one that has the wrong shape, and an `out` that does not fit.

    Notes
    -----
    The sum is one of (mantissa, exponent) pairs [1]_, so no maximum is subtracted and no
    exponential overflows. -inf is a mask and gives exactly 0; NaN stays in its row; a row of
    nothing but -inf, or with a +inf, is NaN; an empty `x` gives an empty array.

    References
    ----------
    .. [1] M. Dukhan and A. Ablavatski, "Two-Pass Softmax Algorithm", 2020, arXiv:2001.04438,
       algorithm 3.

    Examples
    --------
    >>> import numpy as np, softmap
    >>> softmap.softmax(np.log([1.0, 2.0, 5.0]))
    array([0.125, 0.25 , 0.625])
    """
    if dtype is None and type(x) is ndarray and _is_plain(temperature):
        result = _backend.cpu().softmax(x, axis, temperature, out, n_threads)
        if result is not NotImplemented:
            return result
    return _map("softmax", x, axis, temperature, out, dtype, n_threads)


def log_softmax(
    x: ArrayLike,
    axis: Axis = None,
    *,
    temperature: ArrayLike = 1.0,
    out: Array | None = None,
    dtype: DTypeLike | None = None,
    n_threads: int | None = None,
) -> Any:
    """Logarithm of the softmax: z - log(sum(exp(z))) along `axis`, with z = x / temperature.

    Accurate also where the softmax rounds to 1 or to 0: the largest element gets
    -log1p(sum of the others), which does not cancel.

    Parameters
    ----------
    x, axis, temperature, out, dtype, n_threads
        As in :func:`softmax`.

    Returns
    -------
    array or scalar
        Array of the library and the shape of `x`, as in :func:`softmax`.

    Raises
    ------
    TypeError, BackendMissingError, ValueError
        As :func:`softmax`.

    Notes
    -----
    -inf gives -inf beside a finite element, and NaN where the row holds nothing else. A +inf gives
    NaN in its own place and -inf for the rest of the row, as in SciPy.

    Examples
    --------
    >>> import numpy as np, softmap
    >>> softmap.log_softmax(np.array([0.0, -40.0]))
    array([-4.24835426e-18, -4.00000000e+01])
    """
    if dtype is None and type(x) is ndarray and _is_plain(temperature):
        result = _backend.cpu().log_softmax(x, axis, temperature, out, n_threads)
        if result is not NotImplemented:
            return result
    return _map("log_softmax", x, axis, temperature, out, dtype, n_threads)


def logsumexp(
    a: ArrayLike,
    axis: Axis = None,
    b: ArrayLike | None = None,
    keepdims: bool = False,
    return_sign: bool = False,
    *,
    temperature: ArrayLike = 1.0,
    where: ArrayLike = True,
    dtype: DTypeLike | None = None,
    n_threads: int | None = None,
) -> Any:
    """Logarithm of the sum of exponentials: log(sum(b * exp(z))) along `axis`, z = a / temperature.

    Parameters
    ----------
    a : array_like
        Exponents, any shape; complex is allowed.
    axis : int, tuple of int or None
        Axes that are summed over; None (default) means all of them.
    b : array_like, optional
        Factors of the exponentials, of a shape that broadcasts with `a`; may be negative or zero.
        Where one of `a` and `b` is integer, dtypes combine as in the library of `a`.
    keepdims : bool
        Keep the reduced axes with length 1.
    return_sign : bool
        Return (log of the magnitude of the sum, its sign) instead.
    temperature : float or array_like
        As in :func:`softmax`. The result is LSE(a / T), not T LSE(a / T).
    where : array_like of bool
        Elements that count; it broadcasts with `a`.
    dtype : dtype, optional
        The result is converted to it.
    n_threads : int, optional
        Threads to use at most. The result does not depend on it.

    Returns
    -------
    array or scalar
        Of the library of `a`, with its shape without `axis`. A negative sum gives NaN unless
        `return_sign`.
    sgn : array or scalar
        Only with `return_sign`: 1, 0 or -1; a complex number of magnitude 1 for a complex sum.

    Raises
    ------
    TypeError, BackendMissingError, ValueError
        As :func:`softmax`; without the CUDA backend, `b`, `where` and `return_sign` need it, too.

    Notes
    -----
    An empty sum is -inf; a row of -inf is -inf; one +inf gives +inf. The element that leads is kept
    out of the sum where it stands alone, so that ``logsumexp([0, -40])`` keeps all its digits.

    Examples
    --------
    >>> import numpy as np, softmap
    >>> float(softmap.logsumexp(np.log([1.0, 2.0, 5.0])) - np.log(8.0))
    0.0
    """
    simple = b is None and where is True and not return_sign
    if simple and dtype is None and type(a) is ndarray and _is_plain(temperature):
        result = _backend.cpu().logsumexp(a, axis, bool(keepdims), temperature, n_threads)
        if result is not NotImplemented:
            return result
    # budget: over 60 lines, as SciPy's options each have a path of their own
    name = "logsumexp"
    library = common_library(name, a=a, b=b, temperature=temperature, where=where)
    if library is DASK:
        function = functools.partial(
            logsumexp, return_sign=return_sign, dtype=dtype, n_threads=n_threads
        )
        result = by_dask(
            name,
            function,
            a,
            _generic.normalize_axes(name, a, axis, "a"),
            [""] * (1 + bool(return_sign)),
            columns={"b": b, "where": where},
            rows={"temperature": temperature},
            keepdims=keepdims,
        )
        return tuple(result) if return_sign else result
    if simple and dtype is None and not library.on_host(a) and is_left_to_its_library(a):
        return _by_its_library(name, "a", a, axis, temperature, bool(keepdims))
    x = as_array(name, "a", a)
    if not simple or not _is_native(x):
        host_only(name, f"dtype {x.dtype}" if simple else "b, where or return_sign", "a", x)
    factors = None if b is None else _factors("b", b, x)
    counted = _factors("where", where, x)
    if not simple:  # the axes are those of the whole product
        shapes = [x.shape, counted.shape, () if factors is None else factors.shape]
        x = np.broadcast_to(x, np.broadcast_shapes(*shapes))
    if simple and dtype is None and _is_plain(temperature):
        result = backend_of(x).logsumexp(x, axis, bool(keepdims), temperature, n_threads)
        if result is not NotImplemented:
            return library.from_numpy(result, a)
    axes = _generic.normalize_axes(name, x, axis, "a")
    wanted = check_dtype(name, dtype, x)
    if simple and _is_native(x):
        y = _wide_enough(as_kernel_array(name, "a", x), wanted)
        t = read_temperature(name, temperature, y, axes)
        result = backend_of(y).logsumexp(y, axes, bool(keepdims), t, n_threads)
        return library.from_numpy(result if wanted is None else converted(result, wanted), a)
    _backend.cpu().check_threads(name, n_threads)
    t = read_temperature(name, temperature, x, axes, keepdims=True)
    if is_kernel_dtype(x.dtype) and x.dtype.itemsize == 2:  # halves are computed in float32
        if wanted is None and (factors is None or factors.dtype in (np.bool_, x.dtype)):
            wanted = x.dtype
        x = converted(x, np.float32)
    if factors is not None:
        if factors.dtype == BFLOAT16:
            factors = converted(factors, np.float32)
        if library.weak_integers:
            x, factors = _without_integers(x, factors)
    log_sum, direction = _generic.logsumexp(x, axes, factors, t, counted)
    if not keepdims:
        log_sum, direction = log_sum.squeeze(axis=axes), direction.squeeze(axis=axes)
    sign = _generic.sign_of(direction) if return_sign else None
    log_sum = log_sum if return_sign else _generic.signed_log(log_sum, direction)
    if wanted is not None:
        log_sum = converted(log_sum, wanted)
    result = library.from_numpy(log_sum, a)
    return (result, library.from_numpy(sign, a)) if return_sign else result


@dataclass(frozen=True)
class LevelScores:
    """Result of :func:`level_scores`; ``...`` stands for the batch shape of the logits.

    Attributes
    ----------
    score : array (...)
        Expected level.
    variance : array (...)
        Variance of the level.
    probabilities : array (..., K) or None
        p, the softmax over the closed set with synonyms added up; None where not asked for, as
        all below.
    mass : array (...) or None
        Probability of the closed set in the softmax of the whole row.
    mode, mode_probability : array (...) or None
        Level of the most probable member, ``levels[argmax(p)]``, and its probability, ``max(p)``.
    """

    score: Any
    variance: Any
    probabilities: Any = None
    mass: Any = None
    mode: Any = None
    mode_probability: Any = None


def level_scores(
    logits: ArrayLike,
    tokens: Sequence[int] | Sequence[Sequence[int]] | Array | None,
    levels: ArrayLike,
    *,
    temperature: ArrayLike = 1.0,
    mass: bool = False,
    probabilities: bool = True,
    mode: bool = False,
    out: Array | None = None,
    n_threads: int | None = None,
) -> LevelScores:
    """Expected level under the softmax of a closed set of columns.

    ``p = softmax(logits[..., tokens] / temperature)``, ``score = sum(p * levels)``,
    ``variance = sum(p * (levels - score)**2)``: the five-level score of Q-Align and DeQA-Score, the
    two-word score of Q-Bench and the soft comparison of Compare2Score.

    Parameters
    ----------
    logits : array_like (..., V)
        Rows of logits, for instance of the next token over a vocabulary of V.
    tokens : sequence of K int, sequence of K sequences of int, or None
        Columns of the closed set; a sequence in place K holds synonyms, whose probabilities add up.
        None where the logits already are the K columns.
    levels : array_like (K,)
        Value of each member of the closed set.
    temperature : float or array_like (...)
        Divides the logits; a number or one for each row.
    mass : bool
        Also return how much probability the whole row gives the closed set. The row is then read
        once, as by :func:`logsumexp`; otherwise only the columns of the closed set are.
    probabilities : bool
        Also return the probabilities, which take the most memory of all results.
    mode : bool
        Also return the level of the most probable member, ``levels[argmax(p)]``, and its
        probability.
    out : array (...), optional
        Where the scores go.
    n_threads : int, optional
        Threads to use at most. The result does not depend on it.

    Returns
    -------
    LevelScores
        Of the library of `logits`; float32 for half and float32 logits, otherwise float64.

    Raises
    ------
    TypeError, BackendMissingError, ValueError
        As :func:`softmax`; also for a token that is out of range or given twice, and for `levels`
        of another length than `tokens`.

    Notes
    -----
    A row whose closed set is all -inf, or that holds a NaN there, is NaN; the others are unharmed.
    Of members that are equally probable the mode is the first.

    References
    ----------
    H. Wu et al., "Q-Align", 2023, arXiv:2312.17090; H. Zhu et al., "Adaptive Image Quality
    Assessment via Teaching Large Multimodal Model to Compare", 2024, arXiv:2405.19298.

    Examples
    --------
    >>> import numpy as np, softmap
    >>> r = softmap.level_scores(np.log([[1.0, 2.0, 5.0, 8.0]]), tokens=[0, 1, 2], levels=[1, 2, 3])
    >>> r.score, r.probabilities
    (array([2.5]), array([[0.125, 0.25 , 0.625]]))
    """
    name = "level_scores"
    library = common_library(
        name, logits=logits, tokens=tokens, levels=levels, temperature=temperature, out=out
    )
    if library is DASK:
        refuse_lazy_out(name, out)
        options: dict[str, Any] = {"mass": mass, "probabilities": probabilities, "mode": mode}
        wanted = ["score", "variance", *(part for part, given in options.items() if given)]
        wanted += ["mode_probability"] * bool(mode)

        def block(rows: Array, axis: Axis, temperature: Any) -> tuple[Any, ...]:
            r = level_scores(
                rows, tokens, levels, temperature=temperature, n_threads=n_threads, **options
            )
            return tuple(getattr(r, part) for part in wanted)

        rows = {"temperature": temperature}
        axes = _generic.normalize_axes(name, logits, -1, "logits")
        outputs = ["level" if part == "probabilities" else "" for part in wanted]
        found = by_dask(name, block, logits, axes, outputs, rows=rows, level=np.size(levels))
        return LevelScores(**dict(zip(wanted, found, strict=True)))
    x = as_kernel_array(name, "logits", logits)
    if x.ndim == 0:
        raise_shape(name, "logits", x.shape, "it needs at least one axis")
    values = np.ascontiguousarray(on_host(as_float_array(name, "levels", levels)), np.float64)
    if values.ndim != 1:
        raise_shape(name, "levels", values.shape, "it must be one-dimensional")
    if not np.isfinite(values).all():
        k = int(np.flatnonzero(~np.isfinite(values))[0])
        raise ValueError(f"{name}: levels[{k}] = {values[k]}, it must be finite")
    flat, start = closed_set(name, tokens, x.shape[-1])
    if len(flat) == 0:
        raise ValueError(f"{name}: tokens is empty, the closed set needs at least one member")
    if len(start) - 1 != len(values):
        raise ValueError(
            f"{name}: levels has length {len(values)} but tokens has {len(start) - 1} members"
        )
    t = np.asanyarray(read_temperature(name, temperature, x, (x.ndim - 1,)), dtype=compute_dtype(x))
    score, *results = backend_of(x).level_scores(
        x, flat, start, values, t, bool(mass), bool(probabilities), bool(mode), n_threads
    )
    if out is not None:
        place = check_out(name, out, score.shape)
        place[...] = converted(score, place.dtype)
        announce_write(out)
    return LevelScores(
        library.from_numpy(score, logits) if out is None else out,
        *(None if r is None else library.from_numpy(r, logits) for r in results),
    )


def _map(
    name: str,
    x: ArrayLike,
    axis: Axis,
    temperature: ArrayLike,
    out: Array | None,
    dtype: DTypeLike | None,
    n_threads: int | None,
) -> Any:
    """softmax and log_softmax for everything that the compiled entry does not take as it is."""
    library = common_library(name, x=x, temperature=temperature, out=out)
    if library is DASK:
        refuse_lazy_out(name, out)
        function = functools.partial(
            {"softmax": softmax, "log_softmax": log_softmax}[name], dtype=dtype, n_threads=n_threads
        )
        axes = _generic.normalize_axes(name, x, axis)
        return by_dask(name, function, x, axes, ["row"], rows={"temperature": temperature})
    if not library.on_host(x) and is_left_to_its_library(x) and out is None and dtype is None:
        return _by_its_library(name, "x", x, axis, temperature, False)
    a = as_array(name, "x", x)
    if not _is_native(a):
        host_only(name, f"dtype {a.dtype}", "x", a)
    kernel = getattr(backend_of(a), name)
    if dtype is None and out is None and _is_plain(temperature):
        result = kernel(a, axis, temperature, None, n_threads)
        if result is not NotImplemented:
            return library.from_numpy(result, x)
    axes = _generic.normalize_axes(name, a, axis)
    wanted = check_dtype(name, dtype, a)
    place: Any = None if out is None else check_out(name, out, a.shape)
    if _is_native(a):
        y = _wide_enough(as_kernel_array(name, "x", a), wanted if out is None else place.dtype)
        t = read_temperature(name, temperature, y, axes)
        result = kernel(y, axes, t, place, n_threads)
        if result is NotImplemented:
            result = kernel(y, axes, t, None, n_threads)
    else:
        _backend.cpu().check_threads(name, n_threads)
        t = read_temperature(name, temperature, a, axes, keepdims=True)
        result = getattr(_generic, name)(a, axes, t)
    if out is None:
        return library.from_numpy(result if wanted is None else converted(result, wanted), x)
    if result is not place:
        place[...] = converted(result, place.dtype)
    announce_write(out)
    return out


def _by_its_library(
    name: str, argument: str, x: Any, axis: Axis, temperature: Any, keepdims: bool
) -> Any:
    """The result for an array on a device that no kernel is for, from its own library."""
    axes = _generic.normalize_axes(name, x, axis, argument)
    if is_scalar(temperature):
        temperature = check_number(name, "temperature", temperature, positive=True)
    return by_its_library(name, x, axes, temperature, keepdims)


def _is_plain(temperature: object) -> bool:
    """True for a valid temperature that the compiled entry takes as it is."""
    return type(temperature) is float and 0.0 < temperature < math.inf


def _is_native(x: Array) -> bool:
    """True for dtypes that the kernels compute, possibly after a conversion without loss."""
    return x.dtype.kind in "biu" or is_kernel_dtype(x.dtype)


def _wide_enough(x: Array, wanted: np.dtype[Any] | None) -> Array:
    """Halves in float32 where the result is kept in more, so that nothing rounds it to a half."""
    halves = x.dtype.itemsize == 2 and wanted is not None and wanted.itemsize > 2
    return converted(x, np.float32) if halves else x


def _factors(argument: str, given: ArrayLike, x: Array) -> Array:
    """`b` or `where` of logsumexp, checked to broadcast with `a`."""
    factors = as_array("logsumexp", argument, given)
    try:
        np.broadcast_shapes(factors.shape, x.shape)
    except ValueError:
        rule = f"it must broadcast with a of shape {x.shape}"
        raise_shape("logsumexp", argument, factors.shape, rule)
    return factors


def _without_integers(x: Array, y: Array) -> tuple[Array, Array]:
    """Integers beside floating or complex numbers, in the precision of those."""
    if x.dtype.kind in "biu" and y.dtype.kind in "fc":
        return x.astype(y.real.dtype), y
    if y.dtype.kind in "biu" and x.dtype.kind in "fc":
        return x, y.astype(x.real.dtype)
    return x, y


def read_temperature(
    name: str, temperature: ArrayLike, x: Array, axes: tuple[int, ...], keepdims: bool = False
) -> Any:
    """A checked float, or an array of x's dtype and the shape of the reduction (contiguous)."""
    kept = tuple(1 if k in axes else n for k, n in enumerate(x.shape))
    reduced = tuple(n for k, n in enumerate(x.shape) if k not in axes)
    limits = np.finfo(compute_dtype(x))  # as good as what lies beyond
    if is_scalar(temperature):
        number = check_number(name, "temperature", temperature, positive=True)
        number = min(max(number, float(limits.smallest_subnormal)), float(limits.max))
        return np.full(kept, number) if keepdims else number
    t = as_float_array(name, "temperature", temperature)
    if t.shape not in (kept, reduced):
        raise_shape(name, "temperature", t.shape, f"it must be a number or have shape {reduced}")
    if not isinstance(t, DeviceArray):  # there the kernel looks at the values
        t = np.where(np.isfinite(t) & (t > 0), t, np.nan)
        t = np.clip(t, limits.smallest_subnormal, limits.max)
    t = contiguous(contiguous(t).reshape(kept if keepdims else reduced), compute_dtype(x))
    return placed(t, x)


def compute_dtype(x: Array) -> type[np.floating[Any]]:
    """What the kernels compute in for the dtype of `x`."""
    return np.float32 if is_kernel_dtype(x.dtype) and x.dtype.itemsize < 8 else np.float64


def closed_set(name: str, tokens: Any, n_columns: int) -> tuple[Array, Array]:
    """All token ids in one array, and where each member's ids start in it."""
    if tokens is None:
        return np.arange(n_columns, dtype=np.intp), np.arange(n_columns + 1, dtype=np.intp)
    if library_of(tokens) is not NUMPY:
        tokens = on_host(as_array(name, "tokens", tokens))
    if not hasattr(tokens, "__iter__"):
        raise TypeError(f"{name}: tokens = {tokens!r}, it must be a list of token ids or None")
    groups = [np.atleast_1d(np.asarray(member)) for member in tokens]
    start = np.cumsum([0] + [len(g) for g in groups], dtype=np.intp)
    seen: set[int] = set()
    for k, group in enumerate(groups):
        if group.dtype.kind not in "iu" or group.ndim != 1 or len(group) == 0:
            raise TypeError(
                f"{name}: tokens[{k}] = {tokens[k]!r}, it must be a token id or a list of them"
            )
        for token in group.tolist():
            if not 0 <= token < n_columns:
                raise ValueError(
                    f"{name}: tokens[{k}] = {token}, the ids of logits with {n_columns} columns "
                    f"are 0 to {n_columns - 1}"
                )
            if token in seen:
                raise ValueError(f"{name}: tokens[{k}] = {token}, it is given twice")
            seen.add(token)
    flat = np.concatenate(groups) if groups else np.empty(0)
    return flat.astype(np.intp), start
