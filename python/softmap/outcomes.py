"""Comparisons that may end in a tie: the models, their strengths, outcome_matrices."""

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from softmap._arrays import Array, common_library
from softmap._check import (
    as_float_array,
    backend_of,
    check_choice,
    check_number,
    contiguous,
    empty,
    raise_shape,
)
from softmap._device import by_library

__all__ = ["OutcomeMatrices", "outcome_matrices"]

# The link of each model, and the strength without ties. The kernels take log nu, log theta and eps.
LINK_OF = {"davidson": "logit", "rao-kupper": "logit", "threshold": "probit"}
NO_TIES = {"davidson": 0.0, "rao-kupper": 1.0, "threshold": 0.0}
TIES = ("half", "drop", *LINK_OF)
SYMBOL = {"davidson": "nu", "rao-kupper": "theta", "threshold": "eps"}


@dataclass(frozen=True, eq=False)
class OutcomeMatrices:
    """Result of :func:`outcome_matrices`.

    Attributes
    ----------
    win : array (..., n, n)
        ``win[i, j]``: probability that i, shown first, beats j.
    tie : array (..., n, n)
        ``tie[i, j]``: probability of a tie. What is left is the probability that j beats i.
    """

    win: Any
    tie: Any


def outcome_matrices(
    scores: ArrayLike,
    *,
    ties: str,
    tie_strength: float,
    first_advantage: float = 0.0,
    n_threads: int | None = None,
) -> OutcomeMatrices:
    """Probabilities of win and tie for all pairs of items: rows meet columns.

    With d = scores[i] - scores[j] + first_advantage, win : loss : tie are in the proportions

    ============  ===================  ===================  =================================
    ties          win                  loss                 tie
    ============  ===================  ===================  =================================
    davidson      exp(d / 2)           exp(-d / 2)          nu
    rao-kupper    1/(1+theta exp(-d))  1/(1+theta exp(d))   1 - win - loss
    threshold     Phi(d - eps)         Phi(-d - eps)        Phi(d + eps) - Phi(d - eps)
    ============  ===================  ===================  =================================

    Parameters
    ----------
    scores : array_like (..., n)
        Scores of n items, any number of times; float32 keeps its dtype, float16 gives float32,
        integers and bool float64. The arithmetic is in float64.
    ties : {"davidson", "rao-kupper", "threshold"}
        The model: Davidson [1]_ (equation 2.5), Rao and Kupper [2]_ (equation 2.3), Thurstone's
        with a threshold [3]_. The first two go with the logit link, the third with probit.
    tie_strength : float
        nu >= 0, theta >= 1 or eps >= 0. The least value means that nothing ends in a tie.
    first_advantage : float
        What it is worth to be shown first, as i is.
    n_threads : int, optional
        Threads to use at most. The result does not depend on it.

    Returns
    -------
    OutcomeMatrices
        Its `win` and `tie` are (..., n, n), of the library of `scores`.

    Raises
    ------
    TypeError
        For dtypes other than real numbers, masked arrays, numpy.matrix, lazy ones and tensors that
        require grad.
    BackendMissingError
        For arrays on a GPU where the CUDA backend is missing.
    ValueError
        For scores without an axis, an unknown model, and a number out of its range.

    Notes
    -----
    NaN stays in its row and column. Small probabilities keep their relative accuracy in both tails.

    References
    ----------
    .. [1] R. R. Davidson, "On extending the Bradley-Terry model to accommodate ties in paired
       comparison experiments", JASA 65, 1970.
    .. [2] P. V. Rao and L. L. Kupper, "Ties in paired-comparison experiments: a generalization of
       the Bradley-Terry model", JASA 62, 1967.
    .. [3] W. A. Glenn and H. A. David, "Ties in paired-comparison experiments using a modified
       Thurstone-Mosteller model", Biometrics 16, 1960.

    Examples
    --------
    Scores log 4 and log 1: wins, losses and ties are as 2 : 1/2 : nu.

    >>> import numpy as np, softmap
    >>> p = softmap.outcome_matrices(np.log([4.0, 1.0]), ties="davidson", tie_strength=2.5)
    >>> p.win.round(6)
    array([[0.222222, 0.4     ],
           [0.1     , 0.222222]])
    >>> p.tie.round(6)
    array([[0.555556, 0.5     ],
           [0.5     , 0.555556]])
    """
    name = "outcome_matrices"
    check_choice(name, "ties", ties, tuple(LINK_OF))
    t = parameter(name, ties, tie_strength)
    advantage = check_number(name, "first_advantage", first_advantage)
    library = common_library(name, scores=scores)
    s = as_float_array(name, "scores", scores)
    if s.ndim == 0:
        raise_shape(name, "scores", (), "it needs an axis of items")
    s = contiguous(s)
    win, tie = (empty((*s.shape, s.shape[-1]), s.dtype, s) for _ in range(2))
    backend_of(s).outcome_matrices(s, ties, t, advantage, win, tie, n_threads)
    return OutcomeMatrices(library.from_numpy(win, scores), library.from_numpy(tie, scores))


def parameter(function: str, ties: str, strength: object) -> float:
    """Return what the kernels take for a given strength: log nu, log theta or eps."""
    least, symbol = NO_TIES[ties], SYMBOL[ties]
    rule = f"it must be a finite number, {symbol} >= {least:g}"
    if strength is None or isinstance(strength, (bool, str)):
        raise TypeError(f"{function}: tie_strength = {strength!r}, {rule}")
    value = check_number(function, "tie_strength", strength)
    if not least <= value < math.inf:
        raise ValueError(f"{function}: tie_strength = {strength!r}, {rule}")
    if ties == "threshold":
        return value
    return math.log(value) if value > 0.0 else -math.inf


def strength_of(ties: str, t: Any) -> Any:
    """Return the strength of a kernel's parameter t."""
    return t if ties == "threshold" else np.exp(t)


def strength_slope(ties: str, t: Any) -> Any:
    """Return its derivative by t."""
    return np.ones_like(t) if ties == "threshold" else np.exp(t)


def strength_and_error(ties: str, xp: Any, t: Any, error: Any) -> tuple[Any, Any]:
    """Return both of the strength, from arrays of the library xp with those of t."""
    if ties == "threshold":
        return t, error
    with np.errstate(over="ignore"):  # the last t of a fit that did not converge may be large
        return xp.exp(t), error * xp.exp(t)


def check_ties(function: str, ties: object, link: str, allowed: tuple[str, ...]) -> str:
    """Return `ties` if it is allowed and goes with the link."""
    name = check_choice(function, "ties", ties, allowed)
    if LINK_OF.get(name, link) != link:
        raise ValueError(f"{function}: ties = {name!r}, it belongs to link={LINK_OF[name]!r}")
    return name


def with_half_ties(wins: Array, losses: Array | None, ties: Array) -> tuple[Array, Array | None]:
    """Return the tables with half of each tie as a win and half as a loss. Without an order the
    table of ties must be symmetric: NaN where it is not.
    """

    def add(xp: Any, wins: Any, losses: Any, ties: Any) -> tuple[Any, Any]:
        half = 0.5 * ties
        if losses is not None:
            return wins + half, losses + half
        return wins + xp.where(ties == ties.swapaxes(-1, -2), half, math.nan), None

    result: tuple[Array, Array | None] = by_library(add, wins, losses, ties)
    return result
