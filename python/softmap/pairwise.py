"""The pairwise family: preference, preference_matrix, log_likelihood."""

import functools
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, DTypeLike

from softmap import _backend
from softmap._arrays import (
    DASK,
    Array,
    announce_write,
    common_library,
    common_library_of_peers,
    lazily,
)
from softmap._check import (
    as_float_array,
    backend_of,
    check_choice,
    check_number,
    check_out,
    contiguous,
    converted,
    empty,
    host_only,
    on_one_device,
    raise_shape,
)
from softmap.outcomes import LINK_OF, TIES, check_ties, parameter, with_half_ties

__all__ = ["LogLikelihood", "log_likelihood", "preference", "preference_matrix"]

LINKS = ("logit", "probit")


def preference(
    a: ArrayLike,
    b: ArrayLike,
    *,
    link: str = "logit",
    variance_a: ArrayLike | None = None,
    variance_b: ArrayLike | None = None,
    first_advantage: float = 0.0,
    log: bool = False,
) -> Any:
    """Probability that a beats b, or its logarithm, elementwise.

    Parameters
    ----------
    a, b : array_like
        Scores, of shapes that broadcast. float32 and float64 keep their dtype (float64 where they
        are mixed), float16 is computed in float32, integers and bool in float64; Python numbers
        take the dtype of the others.
    link : {"logit", "probit"}
        "logit": 1 / (1 + exp(-d)), Bradley and Terry [1]_; "probit": Phi(d), Thurstone [2]_. Here
        d = a - b + first_advantage.
    variance_a, variance_b : array_like, optional
        Variances of the scores, for the probit link: Phi(d / sqrt(variance_a + variance_b)). One
        that is not given is 1/2. A value that is negative or NaN gives NaN.
    first_advantage : float
        Added to the difference: what it is worth to be a.
    log : bool
        Return the logarithm of the probability, exact also where the probability itself would be
        0 or 1: with the logit link and b = 0 this is log sigmoid(a), and -softplus(-a).

    Returns
    -------
    array or scalar
        Array of the broadcast shape, of the library of the arguments; a NumPy scalar where that is
        NumPy and 0-d.

    Raises
    ------
    TypeError
        For dtypes other than real numbers, masked arrays, numpy.matrix, arrays of different
        libraries, lazy ones and tensors that require grad, and for a `log` that is no bool.
    BackendMissingError
        For arrays on a GPU where the CUDA backend is missing.
    ValueError
        For shapes that do not broadcast, an unknown link, variances with the logit link, and a
        first advantage that is not finite.

    See Also
    --------
    preference_matrix : the probabilities of all pairs.

    Notes
    -----
    Without a first advantage the smaller of P(a beats b) and P(b beats a) is computed, in full
    relative accuracy also far in the tail, and the other is 1 minus it: the two add up to 1.

    References
    ----------
    .. [1] R. A. Bradley and M. E. Terry, "Rank analysis of incomplete block designs: I. The method
       of paired comparisons", Biometrika 39, 1952.
    .. [2] L. L. Thurstone, "A law of comparative judgment", Psychological Review 34, 1927.

    Examples
    --------
    >>> import numpy as np, softmap
    >>> softmap.preference(np.log([1.0, 3.0, 9.0]), 0.0)
    array([0.5 , 0.75, 0.9 ])
    >>> softmap.preference([-40.0, 0.0, 1.0], 0.0, link="probit").round(6)
    array([0.      , 0.5     , 0.841345])
    >>> softmap.preference([-800.0, 800.0], 0.0, log=True)
    array([-800.,   -0.])
    """
    name = "preference"
    if not isinstance(log, (bool, np.bool_)):
        raise TypeError(f"{name}: log = {log!r}, it must be True or False")
    check_choice(name, "link", link, LINKS)
    advantage = check_number(name, "first_advantage", first_advantage)
    given = {"a": a, "b": b}
    if variance_a is not None or variance_b is not None:
        _refuse_variance(name, link, "variance_a" if variance_a is not None else "variance_b")
        given["variance_a"] = 0.5 if variance_a is None else variance_a
        given["variance_b"] = 0.5 if variance_b is None else variance_b
    library, like = common_library_of_peers(name, **given)
    if library is DASK:
        function = functools.partial(
            preference, link=link, first_advantage=first_advantage, log=log
        )
        return lazily(name, function, given, {})
    arrays = {key: as_float_array(name, key, value) for key, value in given.items()}
    dtype = _dtype(arrays, given)
    try:
        shape = np.broadcast_shapes(*(x.shape for x in arrays.values()))
    except ValueError:
        shapes = ", ".join(f"{key} {x.shape}" for key, x in arrays.items())
        raise ValueError(f"{name}: these shapes do not broadcast: {shapes}") from None
    # The kernel takes one number for all, or one for each.
    ready = [_contiguous(x, x.shape if x.size == 1 else shape, dtype) for x in arrays.values()]
    x, y, *variances = on_one_device(*ready)
    out = empty(shape, dtype, x)
    v, w = variances or (None, None)
    backend_of(x).preference(x, y, link, v, w, advantage, log, out, None)
    return library.from_numpy(out, like)


def preference_matrix(
    scores: ArrayLike,
    *,
    link: str = "logit",
    variance: ArrayLike | None = None,
    first_advantage: float = 0.0,
    out: Array | None = None,
    n_threads: int | None = None,
) -> Any:
    """Probability of every item to beat every other one: rows beat columns.

    Parameters
    ----------
    scores : array_like (..., n)
        Scores of n items, any number of times; dtypes as in :func:`preference`.
    link : {"logit", "probit"}
        As in :func:`preference`.
    variance : array_like, optional
        Variance of each score, for the probit link; its shape broadcasts to that of `scores`.
        Without it each is 1/2. A value that is negative or NaN makes its row and column NaN.
    first_advantage : float
        Added to every difference: entry [i, j] is then the probability that i, shown first, beats
        j.
    out : array, optional
        Where the result goes: of the library of `scores`, shape (..., n, n), floating. float16
        and bfloat16 are made from float32.
    n_threads : int, optional
        Threads to use at most. The result does not depend on it.

    Returns
    -------
    array (..., n, n)
        Of the library of `scores`. Without a first advantage, P[i, j] + P[j, i] is exactly 1 and
        the diagonal exactly 0.5.

    Raises
    ------
    TypeError, BackendMissingError, ValueError
        As :func:`preference`; also for scores without an axis and an `out` that does not fit.

    Notes
    -----
    A NaN score stays in its row and column. A difference of two infinite scores is NaN.

    Examples
    --------
    >>> import numpy as np, softmap
    >>> softmap.preference_matrix(np.log([1.0, 3.0, 9.0]))
    array([[0.5 , 0.25, 0.1 ],
           [0.75, 0.5 , 0.25],
           [0.9 , 0.75, 0.5 ]])
    """
    name = "preference_matrix"
    check_choice(name, "link", link, LINKS)
    advantage = check_number(name, "first_advantage", first_advantage)
    library = common_library(name, scores=scores, variance=variance, out=out)
    s = _scores(name, scores)
    arrays = {"scores": s}
    if variance is not None:
        _refuse_variance(name, link, "variance")
        arrays["variance"] = as_float_array(name, "variance", variance)
    dtype = _dtype(arrays, {"variance": variance})
    if variance is not None:
        try:
            np.broadcast_to(arrays["variance"], s.shape)
        except ValueError:
            rule = f"it must broadcast to the shape of scores, {s.shape}"
            raise_shape(name, "variance", arrays["variance"].shape, rule)
    s, *variances = on_one_device(*(_contiguous(x, s.shape, dtype) for x in arrays.values()))
    shape = (*s.shape, s.shape[-1])
    place = None if out is None else check_out(name, out, shape)
    kind = dtype
    if place is not None and place.dtype.itemsize == 2 and advantage == 0.0:
        kind = place.dtype
        s, *variances = (x.astype(np.float32, copy=False) for x in (s, *variances))
    direct = None if place is None else _place(place, shape, kind, [s, *variances])
    v = variances[0] if variances else None
    result = backend_of(s).preference_matrix(s, link, v, advantage, direct, n_threads)
    if place is None:
        return library.from_numpy(result, scores)
    if result is not place:
        place[...] = converted(result, place.dtype)
    announce_write(out)
    return out


@dataclass(frozen=True, eq=False)
class LogLikelihood:
    """Result of :func:`log_likelihood` with ``gradient=True`` or ``hessian=True``.

    Attributes
    ----------
    value : array (...) or scalar
        Log-likelihood.
    gradient : array (..., n)
        Its derivatives in the scores; they add up to 0.
    hessian : array (..., n, n) or None
        Its second derivatives, a negative semidefinite matrix whose rows add up to 0. None unless
        asked for.
    """

    value: Any
    gradient: Any
    hessian: Any = None


def log_likelihood(
    scores: ArrayLike,
    wins: ArrayLike,
    *,
    losses: ArrayLike | None = None,
    tie_counts: ArrayLike | None = None,
    link: str = "logit",
    ties: str | None = None,
    tie_strength: float | None = None,
    first_advantage: float = 0.0,
    gradient: bool = False,
    hessian: bool = False,
    n_threads: int | None = None,
) -> Any:
    """Log-likelihood of scores, given how often each item beat each other one.

    The sum over i != j of wins[i, j] log F(d) + losses[i, j] log F(-d), where
    d = scores[i] - scores[j] + first_advantage and F is the link. Under a tie model F(d) and F(-d)
    give way to its probabilities of win and loss at d, and tie_counts[i, j] log tie(d) is added;
    see :func:`outcome_matrices`.

    Parameters
    ----------
    scores : array_like (..., n)
        Scores of n items; dtypes as in :func:`preference`. The arithmetic is always in float64.
    wins : array_like (..., n, n)
        ``wins[i, j]``: how often i beat j, as counts, weights or probabilities. The diagonal is
        ignored. Batch axes broadcast against those of `scores`.
    losses : array_like (..., n, n), optional
        Makes the tables ordered: ``wins[i, j]`` and ``losses[i, j]`` are how often i, shown first,
        beat and lost to j. Without it the order is unknown.
    tie_counts : array_like (..., n, n), optional
        ``tie_counts[i, j]``: how often i and j tied; with `losses` how often when i was shown
        first, without it symmetric, and each tie counts once. Needs `ties`.
    link : {"logit", "probit"}
        As in :func:`preference`; with the probit link each score has variance 1/2.
    ties : {"half", "drop", "davidson", "rao-kupper", "threshold"}, optional
        What to make of `tie_counts`: half a win and half a loss each, nothing, or a tie model.
    tie_strength : float, optional
        Of the tie model, as in :func:`outcome_matrices`.
    first_advantage : float
        What it is worth to be shown first; with ordered tables only.
    gradient : bool
        Return the derivatives in the scores, too.
    hessian : bool
        Return the gradient and the second derivatives, too.
    n_threads : int, optional
        Threads to use at most. The result does not depend on it.

    Returns
    -------
    array, scalar or LogLikelihood
        An array of the batch shape, of the library of the arguments (a NumPy scalar where that is
        NumPy and 0-d); with `gradient` or `hessian` a :class:`LogLikelihood`.

    Raises
    ------
    TypeError, BackendMissingError
        As :func:`preference`.
    ValueError
        For shapes that do not fit, an unknown link or tie model, a tie model with the other link,
        `tie_counts` without `ties`, and a first advantage without `losses`.

    Notes
    -----
    A weight of 0 contributes exactly 0, whatever the scores. A negative or NaN weight, a NaN score
    or, without `losses`, an asymmetric `tie_counts` makes the result of that problem NaN and leaves
    the others as they are.

    Examples
    --------
    >>> import numpy as np, softmap
    >>> wins = np.array([[0, 3], [1, 0]])
    >>> result = softmap.log_likelihood(np.log([3.0, 1.0]), wins, gradient=True)
    >>> round(float(np.exp(result.value)), 6)  # 0.75**3 * 0.25
    0.105469
    >>> result.gradient  # the maximum
    array([0., 0.])
    """
    # budget: a little over 60 lines, as each argument has its own check and each result its shape
    name = "log_likelihood"
    check_choice(name, "link", link, LINKS)
    advantage = check_number(name, "first_advantage", first_advantage)
    if losses is None and advantage != 0:
        raise ValueError(
            f"{name}: first_advantage = {advantage}, it needs losses: without them nobody knows "
            "who was shown first"
        )
    model = _tie_model(name, ties, tie_counts, tie_strength, link)
    given = {"scores": scores, "wins": wins, "losses": losses, "tie_counts": tie_counts}
    library, like = common_library_of_peers(name, **given)
    s = _scores(name, scores)
    tables = {key: x for key, x in given.items() if key != "scores" and x is not None}
    arrays = {key: as_float_array(name, key, x) for key, x in tables.items()}
    n = s.shape[-1]
    for key, table in arrays.items():
        if table.shape[-2:] != (n, n):
            raise_shape(name, key, table.shape, f"its last two axes must be ({n}, {n})")
    try:
        batch = np.broadcast_shapes(s.shape[:-1], *(x.shape[:-2] for x in arrays.values()))
    except ValueError:
        shapes = ", ".join(f"{key} {x.shape}" for key, x in {"scores": s, **arrays}.items())
        raise ValueError(f"{name}: these shapes do not broadcast: {shapes}") from None
    dtype = _dtype({"scores": s, **arrays}, {})
    s, *ready = on_one_device(
        _contiguous(s, (*batch, n), dtype),
        *(_contiguous(x, (*batch, n, n), dtype) for x in arrays.values()),
    )
    named = dict(zip(arrays, ready, strict=True))
    won, lost, tied = (named.get(key) for key in ("wins", "losses", "tie_counts"))
    assert won is not None
    derivatives = bool(gradient or hessian)
    if hessian:
        host_only(name, "hessian=True", "wins", s)
    if model is not None and tied is not None:
        value = empty(batch, dtype, s)
        slopes = empty((*batch, n), dtype, s) if derivatives else None
        backend_of(s).outcome_likelihood(
            s, (won, lost, tied), *model, advantage, value, slopes, n_threads
        )
    else:
        if ties == "half" and tied is not None:
            won, lost = with_half_ties(won, lost, tied)
        tied = None
        value, slopes = backend_of(s).log_likelihood(
            s, won, lost, link, advantage, derivatives, n_threads
        )
    second = None
    if hessian:
        second = _hessian(s, (won, lost, tied), link, model, advantage)
        second[np.isnan(value)] = np.nan
    parts = (None if a is None else library.from_numpy(a, like) for a in (value, slopes, second))
    result = LogLikelihood(*parts)
    return result if derivatives else result.value


def _hessian(
    s: Array,
    tables: tuple[Array | None, ...],
    link: str,
    model: tuple[str, float] | None,
    advantage: float,
) -> Array:
    """Second derivatives: curvature moves from the pairs to the diagonal, as it does in a graph."""
    n = s.shape[-1]
    wide = s.astype(np.float64)
    d = wide[..., :, None] - wide[..., None, :] + advantage
    counts = np.zeros((3, *d.shape))
    for count, table in zip(counts, tables, strict=True):
        if table is not None:
            count[...] = np.where(np.eye(n, dtype=bool), 0.0, table)
    if model is None:
        out = np.empty((3, *d.shape))
        _backend.cpu().pair_terms(d, counts[0], counts[1], link, *out)
        curvature = out[2]
    else:
        if tables[1] is None:  # without an order a tie stands twice and counts once
            counts[2] *= 0.5
        out = np.empty((6, *d.shape))
        _backend.cpu().outcome_terms(d, counts, *model, out)
        curvature = out[3]
    result: Array = curvature + np.swapaxes(curvature, -1, -2)
    result[..., np.eye(n, dtype=bool)] = -result.sum(axis=-1)
    return result.astype(s.dtype)


def _tie_model(
    function: str, ties: str | None, tie_counts: object, strength: object, link: str
) -> tuple[str, float] | None:
    """Return the tie model and its parameter, None where there is no model."""
    if ties is None:
        if tie_counts is not None:
            raise ValueError(f"{function}: tie_counts is given, it needs ties (such as 'half')")
        return None
    check_ties(function, ties, link, TIES)
    if tie_counts is None:
        raise ValueError(f"{function}: ties = {ties!r}, it needs tie_counts")
    if ties in LINK_OF:
        return ties, parameter(function, ties, strength)
    if strength is not None:
        raise ValueError(f"{function}: tie_strength = {strength!r}, ties = {ties!r} has none")
    return None


def _scores(function: str, scores: ArrayLike) -> Array:
    s = as_float_array(function, "scores", scores)
    if s.ndim == 0:
        raise_shape(function, "scores", (), "it needs an axis of items")
    return s


def _refuse_variance(function: str, link: str, name: str) -> None:
    if link != "probit":
        raise ValueError(f"{function}: {name} is given, it belongs to link='probit'")


def _dtype(arrays: dict[str, Array], given: dict[str, Any]) -> np.dtype[Any]:
    """float32 where all but Python numbers are, otherwise float64."""
    known = {x.dtype for key, x in arrays.items() if type(given.get(key)) not in (int, float, bool)}
    return np.dtype(np.float32 if known == {np.dtype(np.float32)} else np.float64)


def _contiguous(x: Array, shape: tuple[int, ...], dtype: DTypeLike) -> Array:
    return contiguous(np.broadcast_to(x, shape, subok=True), dtype)


def _place(
    place: Array | None, shape: tuple[int, ...], dtype: np.dtype[Any], inputs: list[Array]
) -> Array:
    """Return `place` if the kernel can write to it, or a new array whose content it can take."""
    fits = place is not None and place.dtype == dtype and place.flags.carray
    if place is None or not fits or any(np.may_share_memory(place, x) for x in inputs):
        return empty(shape, dtype, *inputs)
    return place
