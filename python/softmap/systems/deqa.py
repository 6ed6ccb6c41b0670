"""DeQA-Score: five-level score with variance, soft labels from opinions."""

from dataclasses import dataclass
from typing import Any

import numpy as np

from softmap.pairwise import preference
from softmap.softmax import LevelScores, level_scores
from softmap.systems._recipe import beside, broadcast, floats, in_dtype, recipe, rows

__all__ = ["SoftLabels", "score", "soft_labels", "text_level"]

LEVELS = np.array([5.0, 4.0, 3.0, 2.0, 1.0])


@recipe(logits=rows)
def score(logits: Any, tokens: Any = None, *, open_set: bool = False) -> LevelScores:
    """Expected level from 1 to 5, and its variance.

    With p = softmax(logits[tokens]) and w = [5, 4, 3, 2, 1]: score = sum(p w), variance =
    sum(p (w - score)**2).

    Parameters
    ----------
    logits : array_like (..., 5) or (..., V)
        Logits of the words excellent, good, fair, poor, bad, in this order; or of a whole
        vocabulary, with `tokens`.
    tokens : sequence of 5 int, optional
        Columns of the five words.
    open_set : bool
        Take the probabilities from the softmax of the whole row, so that they add up to less than
        1: an option of the official evaluation.

    Returns
    -------
    result : LevelScores of (...) rows
        `score`, `variance`, `probabilities` (..., 5) and `mass`, what the whole row gives the five
        words: the natural confidence.

    Notes
    -----
    The in-level loss of the paper is max(0.01, mean(1 - mass)).

    Checked against: the definition in 50 digits.

    References
    ----------
    Z. You et al., "Teaching Large Language Models to Regress Accurate Image Quality Scores using
    Score Distribution", CVPR 2025, arXiv:2501.11561.

    Examples
    --------
    >>> import numpy as np
    >>> from softmap.systems import deqa
    >>> r = deqa.score(np.log([1.0, 3.0, 2.0, 1.0, 1.0, 8.0]), tokens=range(5))
    >>> r.score, r.variance, r.mass.round(12)
    (np.float64(3.25), np.float64(1.4375), np.float64(0.5))
    """
    closed = level_scores(logits, tokens, LEVELS, mass=True)
    if not open_set:
        return closed
    p = closed.probabilities * closed.mass[..., None]
    w = in_dtype(LEVELS, p)
    mean = closed.score * closed.mass
    return LevelScores(mean, (p * (w - mean[..., None]) ** 2).sum(axis=-1), p, closed.mass)


@dataclass(frozen=True)
class SoftLabels:
    """Result of :func:`soft_labels`.

    Attributes
    ----------
    probabilities : array (..., 5)
        Of excellent, good, fair, poor, bad.
    fallback : array (...) of bool
        Where the two levels around the mean were taken.
    """

    probabilities: Any
    fallback: Any


@recipe(mos=floats, std=floats)
def soft_labels(
    mos: Any,
    std: Any,
    *,
    low: float,
    high: float,
    density: str = "pdf",
    min_std: float = 0.2,
    max_shift: float = 0.1,
) -> SoftLabels:
    """Probabilities of five levels from the mean and the standard deviation of opinions.

    On the scale from 1 to 5, m = 4 (mos - low) / (high - low) + 1 and s = 4 std / (high - low).
    With q[x] = N(x; m, s) at the levels x, A = sum(q), B = sum(x q),

    p[x] = max(alpha q[x] + (1 - alpha A) / 5, 0), alpha = (m - 3) / (B - 3 A)

    so that p has sum 1 and mean m where nothing is cut off. Where s < min_std, or the mean of p is
    more than max_shift from m, the two levels around m share the probability, with mean m.

    Parameters
    ----------
    mos, std : array_like (...)
        Mean opinion scores and standard deviations, of shapes that broadcast.
    low, high : float
        Ends of the scale of opinions.
    density : {"pdf", "mass"}
        q is the density at x (KonIQ, KADID) or the mass from x - 1/2 to x + 1/2 (SPAQ).
    min_std, max_shift : float
        When to fall back on two levels.

    Returns
    -------
    labels : SoftLabels of (..., 5)
        NaN where a mean is not from `low` to `high` or a deviation is negative or NaN.

    Notes
    -----
    Official code adds 1e-9 to the denominator of alpha, so that m = 3 exactly gives the uniform
    label, with variance 2; here m = 3 has the limit of its neighbours. Its two-level labels are off
    by 1e-8 where these are exact. As there, a label that was cut off at 0 adds up to a little more
    than 1.

    Checked against: a plain loop in 50 digits, and the official arithmetic away from m = 3.

    References
    ----------
    Z. You et al., arXiv:2501.11561, soft labels; the authors' gen_soft_label.py.

    Examples
    --------
    >>> from softmap.systems import deqa
    >>> labels = deqa.soft_labels([50.0, 81.25], [25.0, 1.0], low=0, high=100)
    >>> labels.probabilities.round(4)
    array([[0.0426, 0.2478, 0.4192, 0.2478, 0.0426],
           [0.25  , 0.75  , 0.    , 0.    , 0.    ]])
    >>> labels.fallback
    array([False,  True])
    """
    name = "deqa.soft_labels"
    if density not in ("pdf", "mass"):
        raise ValueError(f"{name}: density = {density!r}, it must be one of pdf, mass")
    if not high > low:
        raise ValueError(f"{name}: high = {high!r}, it must be above low = {low!r}")
    mos, std = broadcast(name, mos=mos, std=std)
    dtype = np.result_type(mos, std)
    levels = in_dtype(LEVELS, mos.astype(np.float64))
    m = 4 * (mos.astype(np.float64)[..., None] - low) / (high - low) + 1
    s = 4 * std.astype(np.float64)[..., None] / (high - low)
    q = _density(m, s, levels, density)
    alpha = (m - 3) / (q @ (levels - 3))[..., None]
    close = abs(m - 3) < 1e-4  # alpha is even and smooth around m = 3, where it is 0 / 0
    beside = _density(3 + 1e-4, s[close][:, None], levels, density)
    alpha[close] = 1e-4 / (beside @ (levels - 3))
    p = np.maximum(alpha * q + (1 - alpha * q.sum(axis=-1, keepdims=True)) / 5, 0)
    shift = abs((p @ levels)[..., None] - m)
    good = (m >= 1) & (m <= 5) & (s >= 0)
    fallback = (good & ((s < min_std) | ~(shift <= max_shift)))[..., 0]
    p[fallback] = np.maximum(1 - abs(m[fallback] - levels), 0)
    p[~good[..., 0]] = np.nan
    return SoftLabels(p.astype(dtype, copy=False), fallback)


def _density(m: Any, s: Any, levels: Any, density: str) -> Any:
    if density == "pdf":
        return np.exp(-(((levels - m) / s) ** 2) / 2) / (s * np.sqrt(2 * np.pi))
    above, below = (preference((levels + h - m) / s, 0.0, link="probit") for h in (0.5, -0.5))
    return above - below


@recipe(mos=floats)
def text_level(mos: Any, *, low: float, high: float) -> Any:
    """Level from 1 (bad) to 5 (excellent): fifths of the scale, closed above.

    Parameters
    ----------
    mos : array_like (...)
        Mean opinion scores.
    low, high : float
        Ends of the scale of opinions.

    Returns
    -------
    level : array (...) of int8
        1 to 5; 0 where a score is not from `low` to `high`.

    Notes
    -----
    Official code widens each fifth by 1e-8 on both sides and takes the lowest that fits.

    Checked against: exact rational arithmetic.

    References
    ----------
    Z. You et al., arXiv:2501.11561; the authors' gen_soft_label.py.

    Examples
    --------
    >>> from softmap.systems import deqa
    >>> deqa.text_level([0, 20, 20.5, 60, 61, 100, 101], low=0, high=100)
    array([1, 1, 2, 3, 4, 5, 0], dtype=int8)
    """
    edges = low + (high - low) * np.arange(1, 5) / 5
    level = (1 + np.searchsorted(beside(edges, mos), mos)).astype(np.int8)
    return np.where((mos >= low) & (mos <= high), level, np.int8(0))
