"""SpecDec++: how long to draft, and what to accept."""

from dataclasses import dataclass
from typing import Any

import numpy as np

from softmap.systems._recipe import at, broadcast, float_rows, in_dtype, recipe, row_sum

__all__ = ["Acceptance", "acceptance", "draft_length"]


@recipe(p_accept=float_rows)
def draft_length(p_accept: Any, *, threshold: float = 0.7) -> Any:
    """How many tokens to draft before it is likely that one of them is rejected.

    The first k for which 1 - product of p_accept[: k + 1] > threshold.

    Parameters
    ----------
    p_accept : array_like (..., K)
        Predicted probabilities that each of K drafted tokens is accepted.
    threshold : float
        0.7 as in the official code.

    Returns
    -------
    length : array (...) of int64
        0 to K; K where drafting never stops.

    Notes
    -----
    Token k is the one after which the official loop stops. A NaN never stops it.

    Checked against: a plain loop.

    References
    ----------
    K. Huang, X. Guo and M. Wang, "SpecDec++: Boosting Speculative Decoding via Adaptive Candidate
    Lengths", 2024, arXiv:2405.19715; the authors' sample.py.

    Examples
    --------
    >>> from softmap.systems import specdec
    >>> specdec.draft_length([[0.9, 0.5, 0.5], [0.9, 0.9, 0.9]], threshold=0.7)  # 0.9 0.5 0.5 < 0.3
    array([2, 3])
    """
    if not p_accept.shape[-1]:
        return np.full_like(p_accept, 0, shape=p_accept.shape[:-1], dtype=np.int64)
    stop = 1 - np.cumprod(p_accept, axis=-1) > threshold
    first = stop.argmax(axis=-1)
    return np.where(at(stop, first), first, stop.shape[-1])


@dataclass(frozen=True)
class Acceptance:
    """Result of :func:`acceptance`.

    Attributes
    ----------
    probability : array (..., V)
        Of accepting each token, if it was drafted.
    rate : array (...)
        Probability of accepting whatever was drafted.
    residual : array (..., V)
        Distribution to draw from after a rejection.
    """

    probability: Any
    rate: Any
    residual: Any


@recipe(target=float_rows, draft=float_rows)
def acceptance(target: Any, draft: Any) -> Acceptance:
    """Acceptance of drafted tokens, such that the result is distributed as the target.

    probability = min(1, p / q), rate = sum of min(p, q), residual = max(p - q, 0), normalised

    Parameters
    ----------
    target, draft : array_like (..., V)
        Probabilities p of the target model and q of the draft model, such as from
        :func:`softmap.softmax`.

    Returns
    -------
    result : Acceptance of (...) places
        A token that cannot be drafted has the probability 1. Where p = q nothing is rejected, and
        `residual` is p. A negative number, as logits have, is no probability: it counts as NaN.

    Notes
    -----
    Checked against: plain loops in rational arithmetic.

    References
    ----------
    K. Huang, X. Guo and M. Wang, arXiv:2405.19715; Y. Leviathan, M. Kalman and Y. Matias, "Fast
    Inference from Transformers via Speculative Decoding", ICML 2023, arXiv:2211.17192.

    Examples
    --------
    >>> from softmap.systems import specdec
    >>> result = specdec.acceptance([0.5, 0.25, 0.25], [0.25, 0.25, 0.5])
    >>> result.probability, result.rate, result.residual
    (array([1. , 1. , 0.5]), np.float64(0.75), array([1., 0., 0.]))
    """
    p, q = (
        np.where(x < 0, in_dtype(np.nan, x), x) if (x < 0).any() else x
        for x in broadcast("specdec.acceptance", target=target, draft=draft)
    )
    ratio = p / q
    np.minimum(ratio, 1, out=ratio)
    none = q == 0
    if none.any():
        ratio[none] = np.where(p[none] >= 0, 1, np.nan)
    more = p - q
    np.maximum(more, 0, out=more)
    total = row_sum(more)
    residual = np.divide(more, total[..., None], out=more)
    same = total == 0
    if same.any():
        residual[same] = p[same]
    return Acceptance(ratio, row_sum(np.minimum(p, q)), residual)
