"""Adaptive inference-time compute: when to stop sampling answers, and which to drop."""

from dataclasses import dataclass
from typing import Any

import numpy as np

from softmap.softmax_statistics import row_statistics
from softmap.systems._recipe import at, beside, float_rows, integers, raise_shape, recipe, rows

__all__ = ["BestOf", "best_of_n", "keep", "score", "temperature"]


@recipe(logits=rows, token=integers)
def score(logits: Any, token: int) -> Any:
    """Probability, in the whole vocabulary, of the token that says "no, I cannot do better".

    Parameters
    ----------
    logits : array_like (..., V)
        Logits of the token after the question whether another try would be better.
    token : int
        Column of "No".

    Returns
    -------
    score : array (...)
        The higher, the better the answer at hand.

    Notes
    -----
    Against "Yes" alone it is ``softmap.systems.ptrue.p_true(logits, no, yes)``. The abstract says
    that one predefined token is generated for the probability that starting again would be better;
    the wording of the question and the softmax were not checked against the paper's text.

    Checked against: the definition in 50 digits.

    References
    ----------
    R. Manvi, A. Singh and S. Ermon, "Adaptive Inference-Time Compute: LLMs Can Predict if They Can
    Do Better, Even Mid-Generation", 2024, arXiv:2410.02725.

    Examples
    --------
    >>> import numpy as np
    >>> from softmap.systems import adaptive_compute
    >>> adaptive_compute.score(np.log([1.0, 1.0, 2.0]), 2).round(12)
    np.float64(0.5)
    """
    return np.exp(row_statistics(logits, target=token).target_log_probability)


@dataclass(frozen=True)
class BestOf:
    """Result of :func:`best_of_n`.

    Attributes
    ----------
    best : array (...) of int64
        Index of the best answer among those drawn.
    drawn : array (...) of int64
        How many answers were drawn.
    """

    best: Any
    drawn: Any


@recipe(scores=float_rows)
def best_of_n(scores: Any, *, threshold: float = np.inf) -> BestOf:
    """The best of n answers, drawn one by one until one scores `threshold` or more.

    Parameters
    ----------
    scores : array_like (..., n)
        Scores of the answers, in the order in which they are drawn; NaN never wins.
    threshold : float
        When to stop; by default all are drawn.

    Returns
    -------
    result : BestOf of (...) prompts
        Of equal scores the first. `best` is -1 where all scores are NaN.

    Notes
    -----
    The abstract has the best of n, stopping and pruning; the rules in detail were not checked
    against the paper's text.

    Checked against: a plain loop.

    References
    ----------
    R. Manvi, A. Singh and S. Ermon, arXiv:2410.02725.

    Examples
    --------
    >>> from softmap.systems import adaptive_compute
    >>> adaptive_compute.best_of_n([0.62, 0.91, 0.35, 0.95], threshold=0.9)
    BestOf(best=np.int64(1), drawn=np.int64(2))
    """
    if not scores.shape[-1]:
        raise_shape("adaptive_compute.best_of_n", "scores", scores.shape, "it needs an answer")
    n = scores.shape[-1]
    enough = scores >= threshold
    first = enough.argmax(axis=-1)
    drawn = np.where(at(enough, first), 1 + first, n)
    seen = (beside(np.arange(n), scores) < drawn[..., None]) & ~np.isnan(scores)
    values = np.where(seen, scores, -np.inf)
    best = values.argmax(axis=-1)
    unknown = np.where(seen.any(axis=-1), seen.argmax(axis=-1), -1)  # for NaN, or really -inf
    best = np.where(at(values, best) == -np.inf, unknown, best)
    return BestOf(best, drawn)


@recipe(scores=float_rows)
def keep(scores: Any, *, fraction: float) -> Any:
    """Which unfinished answers go on: the best `fraction` of them, rounded up.

    Parameters
    ----------
    scores : array_like (..., n)
        Scores of n answers in the middle of their generation.
    fraction : float
        Above 0 and at most 1.

    Returns
    -------
    mask : array (..., n) of bool
        At least one goes on, and all that tie with the last one; NaN never does.

    Notes
    -----
    The abstract has the best of n, stopping and pruning; the rules in detail were not checked
    against the paper's text.

    Checked against: a plain loop.

    References
    ----------
    R. Manvi, A. Singh and S. Ermon, arXiv:2410.02725.

    Examples
    --------
    >>> from softmap.systems import adaptive_compute
    >>> adaptive_compute.keep([0.2, 0.9, 0.5, 0.5], fraction=0.5)
    array([False,  True,  True,  True])
    """
    if not 0 < fraction <= 1:
        raise ValueError(f"adaptive_compute.keep: fraction = {fraction!r}, it must be in (0, 1]")
    if not scores.shape[-1]:
        raise_shape("adaptive_compute.keep", "scores", scores.shape, "it needs an answer")
    n = scores.shape[-1]
    unknown = np.isnan(scores)
    ordered = np.sort(np.where(unknown, -np.inf, scores) if unknown.any() else scores, axis=-1)
    share = fraction * n * (1 - 2**-51)  # 0.07 of 100 is 7, though the product is above
    return scores >= ordered[..., n - int(np.ceil(share)), None]


def temperature(n: int) -> float:
    """Temperature for the n-th answer: 1 - 2**-ceil(log2 n), so that the first one is greedy.

    Parameters
    ----------
    n : int
        Number of the answer, from 1.

    Returns
    -------
    temperature : float (scalar)
        From 0 to below 1.

    Notes
    -----
    From memory, with little confidence: that temperatures are annealed is in the abstract, the
    formula was not checked against the paper's text.

    Checked against: the integers 1 to 1025.

    References
    ----------
    R. Manvi, A. Singh and S. Ermon, arXiv:2410.02725.

    Examples
    --------
    >>> from softmap.systems import adaptive_compute
    >>> [adaptive_compute.temperature(n) for n in (1, 2, 3, 4, 5)]
    [0.0, 0.5, 0.75, 0.75, 0.875]
    """
    if not isinstance(n, (int, np.integer)):
        raise TypeError(f"adaptive_compute.temperature: n = {n!r}, it must be an integer")
    if n < 1:
        raise ValueError(f"adaptive_compute.temperature: n = {n}, it must be at least 1")
    return 1.0 - 0.5 ** (int(n) - 1).bit_length()
