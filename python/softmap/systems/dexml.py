"""Dual encoders for extreme classification: the decoupled softmax."""

from dataclasses import dataclass
from typing import Any

import numpy as np

from softmap.softmax import logsumexp
from softmap.systems._recipe import broadcast, float_rows, integers, recipe

__all__ = ["Decoupled", "decoupled_softmax"]


@dataclass(frozen=True)
class Decoupled:
    """Result of :func:`decoupled_softmax`.

    Attributes
    ----------
    log_probabilities : array (..., L)
        Of each positive label against the negatives; NaN for the negatives.
    loss : array (...)
        Minus their mean.
    """

    log_probabilities: Any
    loss: Any


@recipe(scores=float_rows, positives=integers)
def decoupled_softmax(scores: Any, positives: Any, *, temperature: float = 0.05) -> Decoupled:
    """Softmax of each positive label against the negatives only, not against other positives.

    log P[j] = s[j] - log(exp(s[j]) + sum over negatives of exp(s)), with s = scores / temperature

    Parameters
    ----------
    scores : array_like (..., L)
        Scores of L labels, such as cosines.
    positives : array_like (..., L) of bool or int
        Which labels are right.
    temperature : float
        Divides the scores.

    Returns
    -------
    result : Decoupled of (...) rows
        The loss of a row without a positive is NaN, that without a negative 0.

    Notes
    -----
    Official code adds -100 to the positives instead of leaving them out, so that a positive whose
    score is 100 above the negatives leaks in.

    Checked against: the definition in 50 digits.

    References
    ----------
    N. Gupta et al., "Dual-Encoders for Extreme Multi-Label Classification", ICLR 2024,
    arXiv:2310.10636; the authors' losses.py.

    Examples
    --------
    >>> import numpy as np
    >>> from softmap.systems import dexml
    >>> scores = np.log([3.0, 1.0, 1.0])
    >>> result = dexml.decoupled_softmax(scores, [True, False, True], temperature=1)
    >>> np.exp(result.log_probabilities).round(12)  # 3 / (3 + 1) and 1 / (1 + 1)
    array([0.75,  nan, 0.5 ])
    """
    s, right = broadcast("dexml.decoupled_softmax", scores=scores, positives=positives != 0)
    s = s / np.asarray(temperature, dtype=s.dtype)
    negatives = logsumexp(np.where(right, -np.inf, s), -1, keepdims=True)
    log_p = np.where(right, -np.logaddexp(0, negatives - s), np.nan)
    total = np.where(right, log_p, 0).sum(axis=-1)
    return Decoupled(log_p, -total / right.sum(axis=-1).astype(s.dtype))
