"""Batched MAP scores of small tables of paired comparisons: fit_many, score_against_anchors."""

import functools
import math
from dataclasses import dataclass
from enum import IntEnum
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from softmap._arrays import DASK, Array, common_library, lazily
from softmap._check import (
    as_float_array,
    backend_of,
    check_choice,
    check_number,
    contiguous,
    on_host,
    on_one_device,
    raise_shape,
)
from softmap._device import DeviceArray, by_library
from softmap.outcomes import (
    LINK_OF,
    TIES,
    check_ties,
    parameter,
    strength_and_error,
    with_half_ties,
)
from softmap.result import Estimate

__all__ = ["AnchorScores", "FitMany", "Status", "fit_many", "score_against_anchors"]

MAX_ITEMS = 64
LINKS = ("logit", "probit")


class Status(IntEnum):
    """What became of one problem of a batch: OK, or why its scores are not the maximum."""

    OK = 0
    """Solved to the tolerance, and checked against rounding."""
    NO_MAXIMUM = 1
    """The likelihood has no maximum: an item without a prior never lost or never won, or is not
    connected to the rest. Scores are NaN."""
    BAD_INPUT = 2
    """A negative, NaN or infinite weight, a mean that is not finite, a standard deviation that is
    negative or NaN. Scores are NaN."""
    NOT_CONVERGED = 3
    """Stopped at `max_iter`, or so badly conditioned that rounding decides. Scores are the last
    ones, standard errors NaN."""
    MISSING = 4
    """Nothing but NaN was given. Scores are NaN."""


@dataclass(frozen=True)
class FitMany:
    """Result of :func:`fit_many`; ``...`` stands for the batch shape.

    Attributes
    ----------
    scores : array (..., n)
        Maximum a posteriori scores.
    standard_errors : array (..., n) or None
        Of the scores minus their mean, from the curvature at the solution; NaN unless `status` is
        OK. None unless asked for.
    status : array (...) of int8
        A :class:`Status` for each problem.
    n_iter : array (...) of int32
        Evaluations of gradient and Hessian.
    gradient_max : array (...)
        Largest entry of the gradient where it was last evaluated, each divided by
        max(1, total weight of its item).
    first_advantage, tie_strength : Estimate or None
        Arrays (...) of values and standard errors; None unless estimated. Where a table has no
        ties the strength is the one without ties and its error NaN.
    """

    scores: Any
    standard_errors: Any
    status: Any
    n_iter: Any
    gradient_max: Any
    first_advantage: Estimate | None = None
    tie_strength: Estimate | None = None

    @property
    def converged(self) -> Any:
        """True where `status` is OK."""
        return self.status == Status.OK


@dataclass(frozen=True)
class AnchorScores:
    """Result of :func:`score_against_anchors`; ``...`` stands for the batch shape.

    Attributes
    ----------
    score : array (...)
        Score of each test item.
    standard_error : array (...) or None
        On the scale of `score`. None unless asked for.
    anchor_scores : array (..., m)
        Scores of the anchors in the fit of each test item, not rescaled.
    outside : array (...) of int8
        -1 where the test item is below all anchors, 1 where it is above all, else 0.
    status : array (...) of int8
        A :class:`Status` for each test item.
    """

    score: Any
    standard_error: Any
    anchor_scores: Any
    outside: Any
    status: Any


def fit_many(
    wins: ArrayLike,
    *,
    prior_sd: ArrayLike,
    prior_mean: ArrayLike = 0.0,
    losses: ArrayLike | None = None,
    tie_counts: ArrayLike | None = None,
    link: str = "logit",
    ties: str = "half",
    tie_strength: float | str = "estimate",
    first_advantage: float | str = 0.0,
    tol: float = 1e-10,
    max_iter: int = 100,
    standard_errors: bool = False,
    n_threads: int | None = None,
) -> FitMany:
    r"""Maximum a posteriori scores of many small tables of paired comparisons.

    Each table of n items is a problem of its own, which maximises

    .. math:: \sum_{i \ne j} w_{ij} \log F(s_i - s_j) - \sum_i (s_i - \mu_i)^2 / (2 \sigma_i^2)

    with F the logistic function (Bradley-Terry) or the normal distribution function (Thurstone,
    variance 1/2 for each item). Under a tie model F gives way to its probability of a win, and
    t_ij times the logarithm of its probability of a tie is added for each pair; see
    :func:`outcome_matrices`.

    Parameters
    ----------
    wins : array_like (..., n, n)
        ``wins[..., i, j]`` says how often, or with what weight or probability, i beat j. The
        diagonal is ignored. n is from 2 to 64.
    prior_sd : float or array_like (..., n)
        Standard deviations of the normal prior, in the units of the scores: one for all, one an
        item, or one an item and problem. inf leaves out the prior (maximum likelihood; scores
        add up to 0 where no item has one), 0 holds an item at its mean.
    prior_mean : float or array_like (..., n)
        Means of the prior.
    losses : array_like (..., n, n), optional
        Makes the tables ordered: ``wins[..., i, j]`` and ``losses[..., i, j]`` say how often i,
        shown first, beat j and lost to j.
    tie_counts : array_like (..., n, n), optional
        ``tie_counts[..., i, j]`` says how often i and j tied; with `losses` how often when i was
        shown first, without it symmetric, and each tie counts once.
    link : {"logit", "probit"}
        F.
    ties : {"half", "drop", "davidson", "rao-kupper", "threshold"}
        What to make of `tie_counts`: half a win and half a loss each, nothing, or a tie model,
        the first two of which go with logit and the third with probit.
    tie_strength : float or "estimate"
        Of the tie model: nu, theta or eps as in :func:`outcome_matrices`.
    first_advantage : float or "estimate"
        Added to s_i - s_j where i was shown first. Needs `losses`. Neither it nor the strength of
        ties has a prior.
    tol : float
        Converged where max abs(Newton step) <= tol * max(1, max abs(s)); the step is then taken.
    max_iter : int
        Evaluations of gradient and Hessian at most.
    standard_errors : bool
        Also return standard errors.
    n_threads : int, optional
        Threads to use at most. The result does not depend on it.

    Returns
    -------
    FitMany
        Of the library of `wins`; `scores` has its floating dtype (float64 for integers). All is
        computed in float64.

    Raises
    ------
    TypeError
        For dtypes other than numbers, masked arrays, numpy.matrix, arrays of different libraries
        and tensors that require grad.
    BackendMissingError
        For arrays on a GPU where the CUDA backend is missing.
    ValueError
        For shapes that do not fit, n outside 2 to 64, an unknown link or tie model, a tie model
        with the other link or without `tie_counts`, a `tie_strength` out of its range, a `prior_sd`
        that is a number but negative or NaN, and a `first_advantage` without `losses`.

    Notes
    -----
    A wrong value inside a batch never raises: that problem gets a status, and no problem
    influences another, down to the last bit.

    Newton's method, as many problems at once as a vector register has lanes; ordinary tables take
    steps of third order (Chebyshev). The Hessian is eliminated without a subtraction [1]_ and the
    gradient is summed without rounding, so that weights may differ by many orders of magnitude. OK
    promises that rounding moves no score by more than 1e-8 max(1, max abs(s)); float32 arrays on a
    GPU are solved in float32, to 2e-5.

    References
    ----------
    .. [1] W. K. Grassmann, M. I. Taksar and D. P. Heyman, "Regenerative analysis and steady state
       distributions for Markov chains", Operations Research 33, 1985.

    Examples
    --------
    >>> import numpy as np
    >>> from softmap.fit_many import fit_many
    >>> fit = fit_many([[0, 3, 4], [1, 0, 2], [0, 2, 0]], prior_sd=1.0)
    >>> np.round(fit.scores, 4)
    array([ 0.8189, -0.2739, -0.545 ])
    >>> bool(fit.converged)
    True
    """
    # budget: a little over 60 lines, as each argument has its own check and each result its shape
    name = "fit_many"
    library = common_library(
        name,
        wins=wins,
        prior_sd=prior_sd,
        prior_mean=prior_mean,
        losses=losses,
        tie_counts=tie_counts,
    )
    if library is DASK:
        given = {
            "wins": wins,
            "losses": losses,
            "tie_counts": tie_counts,
            "prior_sd": prior_sd,
            "prior_mean": prior_mean,
        }
        solve = functools.partial(
            fit_many,
            link=link,
            ties=ties,
            tie_strength=tie_strength,
            first_advantage=first_advantage,
            tol=tol,
            max_iter=max_iter,
            standard_errors=standard_errors,
            n_threads=n_threads,
        )
        core = {"wins": 2, "losses": 2, "tie_counts": 2, "prior_sd": 1, "prior_mean": 1}
        return lazily(name, solve, given, core)  # type: ignore[no-any-return]
    link = check_choice(name, "link", link, LINKS)
    check_ties(name, ties, link, TIES)
    model, tie = _tie_option(name, ties, tie_strength, tie_counts)
    table, n, dtype = _tables(name, "wins", wins)
    batch = table.shape[:-2]
    tables = _together(name, table, losses, tie_counts, ties)
    advantage = None
    if not (isinstance(first_advantage, str) and first_advantage == "estimate"):
        advantage = check_number(name, "first_advantage", first_advantage)
    if losses is None and advantage != 0.0:
        raise ValueError(
            f"{name}: first_advantage = {first_advantage!r} needs ordered tables (pass losses=)"
        )
    sd = _prior(name, "prior_sd", prior_sd, batch, n)
    mean = _prior(name, "prior_mean", prior_mean, batch, n)
    if sd.ndim != mean.ndim:
        whole = (math.prod(batch), n)
        sd, mean = (contiguous(np.broadcast_to(a, whole, subok=True)) for a in (sd, mean))
    _, mean, sd = on_one_device(table, mean, sd)
    scores, errors, status, n_iter, gradient, *more = backend_of(table).fit_many(
        tables,
        mean,
        sd,
        link == "probit",
        advantage,
        model,
        tie,
        check_number(name, "tol", tol, positive=True),
        _iterations(name, max_iter),
        bool(standard_errors),
        n_threads,
    )
    items = (*batch, n)
    results = (
        scores.reshape(items).astype(dtype, copy=False),
        None if errors is None else errors.reshape(items).astype(dtype, copy=False),
        *(a.reshape(batch) for a in (status, n_iter, gradient)),
    )
    estimates: list[Estimate | None] = [None, None]
    for k, (value, error) in enumerate(((more[0], more[1]), (more[2], more[3]))):
        if value is not None:
            if k == 1:
                value, error = by_library(partial(strength_and_error, ties), value, error)
            pair = (library.from_numpy(a.reshape(batch), wins) for a in (value, error))
            estimates[k] = Estimate(*pair)
    arrays = (None if a is None else library.from_numpy(a, wins) for a in results)
    return FitMany(*arrays, *estimates)


def _together(
    function: str, wins: Array, losses: object, tie_counts: object, ties: str
) -> tuple[Array | None, ...]:
    """Return wins, losses and ties for the kernel, (problems, n, n) each and of one dtype."""
    tables: dict[str, Array] = {}
    for key, given in (("losses", losses), ("tie_counts", tie_counts)):
        if given is not None:
            tables[key] = _tables(function, key, given)[0]
            if tables[key].shape != wins.shape:
                raise_shape(function, key, tables[key].shape, f"wins has {wins.shape}")
    lost, tied = tables.get("losses"), tables.get("tie_counts")
    if ties not in LINK_OF:
        if ties == "half" and tied is not None:
            wins, lost = with_half_ties(wins, lost, tied)
        tied = None
    given = [wins, lost, tied]
    given = on_one_device(*given)
    dtype = np.result_type(*(a.dtype for a in given if a is not None))
    n = wins.shape[-1]
    return tuple(None if a is None else contiguous(a, dtype).reshape(-1, n, n) for a in given)


def _tie_option(
    function: str, ties: str, strength: object, tie_counts: object
) -> tuple[str, float | None]:
    """Return the tie model for the kernel, and its parameter or None where it is estimated."""
    if ties not in LINK_OF:
        if strength != "estimate":
            raise ValueError(f"{function}: tie_strength = {strength!r}, ties = {ties!r} has none")
        return "none", 0.0
    if tie_counts is None:
        raise ValueError(f"{function}: ties = {ties!r}, it needs tie_counts")
    if isinstance(strength, str) and strength == "estimate":
        return ties, None
    return ties, parameter(function, ties, strength)


def score_against_anchors(
    preferences: ArrayLike,
    anchors: ArrayLike,
    *,
    link: str = "logit",
    prior_sd: float = 1.0,
    rescale: tuple[float, float] | None = None,
    anchors_fixed: bool = False,
    standard_errors: bool = False,
    n_threads: int | None = None,
) -> AnchorScores:
    """Score test items by their comparisons with a few anchors, as Compare2Score does [1]_.

    Each test item and the m anchors make a table of m + 1 items, whose maximum a posteriori scores
    are those of :func:`fit_many`.

    Parameters
    ----------
    preferences : array_like (..., m)
        P(test item beats anchor k), from 0 to 1; NaN where the two were not compared.
    anchors : array_like (m, m)
        ``anchors[i, j]`` = P(anchor i beats anchor j), or any weight. The diagonal is ignored.
    link : {"logit", "probit"}
        As in :func:`fit_many`.
    prior_sd : float
        Standard deviation of the normal prior, with mean 0, of each score.
    rescale : (float, float), optional
        Map the lowest of the m + 1 scores to the first number and the highest to the second, as
        Compare2Score does with (0, 100). An item outside the anchors then always gets the end
        of the scale: see `outside`.
    anchors_fixed : bool
        Fit the anchors by themselves, once, and hold them there. By default they move with each
        test item.
    standard_errors : bool
        Also return standard errors: of the test item's score minus the mean of the m + 1 scores;
        with `anchors_fixed` of its score; with `rescale` of its rescaled score (first order, NaN
        where the item is outside the anchors).
    n_threads : int, optional
        Threads to use at most. The result does not depend on it.

    Returns
    -------
    AnchorScores
        `score`, `standard_error` and `anchor_scores` have the floating dtype of `preferences`.

    Raises
    ------
    TypeError
        For dtypes other than numbers, masked arrays, numpy.matrix, arrays of different libraries
        and tensors that require grad.
    BackendMissingError
        For arrays on a GPU where the CUDA backend is missing.
    ValueError
        For shapes that do not fit, m outside 1 to 63, a weight of `anchors` that is not finite and
        at least 0, a `prior_sd` that is not above 0, and an unknown link.

    Notes
    -----
    A row of nothing but NaN has the status MISSING, a row with a number outside 0 to 1 BAD_INPUT.

    Scores are within 1e-9 max(1, max abs(s)) of the maximum where the tables are ordinary (the
    weights of each item at most some thousands of 1 / prior_sd**2), else as in :func:`fit_many`.
    Newton's method starts from the scores of the anchors by themselves, and takes one step more
    where standard errors are asked for.

    References
    ----------
    .. [1] H. Zhu et al., "Adaptive Image Quality Assessment via Teaching Large Multimodal Model to
       Compare", NeurIPS 2024.

    Examples
    --------
    >>> import numpy as np
    >>> from softmap.fit_many import score_against_anchors
    >>> anchors = np.array([[0.5, 0.2, 0.05], [0.8, 0.5, 0.3], [0.95, 0.7, 0.5]])
    >>> result = score_against_anchors([[0.9, 0.6, 0.4], [1, 1, 1]], anchors, rescale=(0, 100))
    >>> np.round(result.score, 2)
    array([ 81.6, 100. ])
    >>> result.outside
    array([0, 1], dtype=int8)
    """
    # budget: a little over 60 lines, as each argument has its own check and each result its shape
    name = "score_against_anchors"
    library = common_library(name, preferences=preferences, anchors=anchors)
    if library is DASK:
        score = functools.partial(
            score_against_anchors,
            link=link,
            prior_sd=prior_sd,
            rescale=rescale,
            anchors_fixed=anchors_fixed,
            standard_errors=standard_errors,
            n_threads=n_threads,
        )
        given = {"preferences": preferences, "anchors": anchors}
        return lazily(name, score, given, {"preferences": 1, "anchors": 2})  # type: ignore[no-any-return]
    rows = as_float_array(name, "preferences", preferences)
    table = contiguous(as_float_array(name, "anchors", anchors), np.float64)
    if anchors_fixed:
        table = on_host(table)
    if table.ndim != 2 or table.shape[0] != table.shape[1]:
        raise_shape(name, "anchors", table.shape, "it must be square, (m, m)")
    m = table.shape[0]
    if not 1 <= m < MAX_ITEMS:
        raise_shape(name, "anchors", table.shape, f"m must be from 1 to {MAX_ITEMS - 1}")
    if rows.ndim < 1 or rows.shape[-1] != m:
        raise_shape(
            name, "preferences", rows.shape, f"its last axis must be {m}, as anchors has {m}"
        )
    if not isinstance(table, DeviceArray):  # there it shows in the status
        off_diagonal = ~np.eye(m, dtype=bool)
        for i, j in np.argwhere(off_diagonal & ~((table >= 0) & np.isfinite(table)))[:1]:
            raise ValueError(
                f"{name}: anchors[{i}, {j}] = {table[i, j]}, weights must be finite and at least 0"
            )
    sd = _positive_sd(name, prior_sd)
    check_choice(name, "link", link, LINKS)
    batch = rows.shape[:-1]
    mean, sds = np.zeros(m + 1), np.full(m + 1, sd)
    status_of_all = Status.OK
    if anchors_fixed:
        alone = _fit_anchors(table, sd, link)
        status_of_all = Status(alone.status)
        mean[:m], sds[:m] = np.nan_to_num(alone.scores), 0.0
    _, *constants = on_one_device(rows, table, mean, sds)
    score, error, anchor_scores, outside, status = backend_of(rows).score_against_anchors(
        contiguous(rows).reshape(-1, m),
        *constants,
        link == "probit",
        1e-10,
        100,
        _range(name, rescale),
        not anchors_fixed,
        bool(standard_errors),
        n_threads,
    )
    if status_of_all != Status.OK:
        status[:], outside[:] = status_of_all, 0
        for a in (score, error, anchor_scores):
            if a is not None:
                a[:] = np.nan
    results = (
        score.reshape(batch),
        None if error is None else error.reshape(batch),
        anchor_scores.reshape(*batch, m),
        outside.reshape(batch),
        status.reshape(batch),
    )
    return AnchorScores(
        *(None if a is None else library.from_numpy(a, preferences) for a in results)
    )


def _tables(function: str, name: str, x: object) -> tuple[Array, int, np.dtype[Any]]:
    """Return `x` as C-contiguous square tables, their number of items and their dtype."""
    a = as_float_array(function, name, x)
    if a.ndim < 2 or a.shape[-1] != a.shape[-2]:
        raise_shape(function, name, a.shape, "the last two axes must be equal")
    n = a.shape[-1]
    if not 2 <= n <= MAX_ITEMS:
        raise_shape(function, name, a.shape, f"the last two axes must be from 2 to {MAX_ITEMS}")
    return contiguous(a), n, a.dtype


def _prior(function: str, name: str, x: object, batch: tuple[int, ...], n: int) -> Array:
    """Return `x` as float64: (n,) for all problems, or (problems, n)."""
    if isinstance(x, (int, float)):
        if name == "prior_sd" and not x >= 0:
            raise ValueError(f"{function}: prior_sd = {x!r}, it cannot be negative or NaN")
        return np.full(n, x, dtype=np.float64)
    a = as_float_array(function, name, x).astype(np.float64)
    try:
        whole = np.broadcast_to(a, (*batch, n), subok=True)
    except ValueError:
        raise_shape(function, name, a.shape, f"it must broadcast to {(*batch, n)}")
    if a.ndim < 2:
        return contiguous(np.broadcast_to(a, n, subok=True))
    return contiguous(whole).reshape(-1, n)


def _iterations(function: str, max_iter: object) -> int:
    if isinstance(max_iter, bool) or not isinstance(max_iter, (int, np.integer)):
        raise TypeError(f"{function}: max_iter = {max_iter!r}, it must be an integer")
    if max_iter < 1:
        raise ValueError(f"{function}: max_iter = {max_iter!r}, it must be at least 1")
    return min(int(max_iter), 2**31 - 1)


def _positive_sd(function: str, prior_sd: object) -> float:
    if isinstance(prior_sd, (float, np.floating)) and prior_sd == np.inf:
        return float(prior_sd)
    return check_number(function, "prior_sd", prior_sd, positive=True)


def _range(function: str, rescale: tuple[float, float] | None) -> tuple[float, float] | None:
    if rescale is None:
        return None
    try:
        low, high = rescale
    except (TypeError, ValueError):
        raise ValueError(
            f"{function}: rescale = {rescale!r}, it must be (low, high) or None"
        ) from None
    bounds = check_number(function, "rescale[0]", low), check_number(function, "rescale[1]", high)
    if not math.isfinite(bounds[1] - bounds[0]):
        raise ValueError(f"{function}: rescale = {rescale!r}, high - low must be finite")
    return bounds


def _fit_anchors(table: Array, sd: float, link: str) -> FitMany:
    """Fit the anchors without a test item; a single one stays at the mean of its prior."""
    if len(table) > 1:
        return fit_many(table, prior_sd=sd, link=link)
    return FitMany(np.zeros(1), None, Status.OK, 0, 0.0)
