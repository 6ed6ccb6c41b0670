"""Dual encoders for extreme classification: decoupled softmax and soft top-k."""

from dataclasses import dataclass
from typing import Any

import numpy as np

from softmap._check import check_number
from softmap.pairwise import preference
from softmap.row_root import row_root
from softmap.softmax import logsumexp
from softmap.systems._recipe import broadcast, float_rows, in_dtype, integers, recipe, row_sum

__all__ = ["Decoupled", "SoftTopK", "decoupled_softmax", "soft_top_k"]


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


@recipe({"positives": 1}, scores=float_rows, positives=integers)
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
    check_number("dexml.decoupled_softmax", "temperature", temperature, positive=True)
    s, right = broadcast("dexml.decoupled_softmax", scores=scores, positives=positives != 0)
    s = s / in_dtype(temperature, s)
    negatives = logsumexp(np.where(right, -np.inf, s), -1, keepdims=True)
    log_p = np.where(right, preference(s, negatives, log=True), np.nan)
    total = row_sum(np.where(right, log_p, 0))
    return Decoupled(log_p, -total / row_sum(right.astype(s.dtype)))


@dataclass(frozen=True)
class SoftTopK:
    """Result of :func:`soft_top_k`.

    Attributes
    ----------
    probabilities : array (..., L)
        How much each label is among the k best; they add up to k.
    shift : array (...)
        t.
    """

    probabilities: Any
    shift: Any


@recipe(scores=float_rows)
def soft_top_k(
    scores: Any, *, k: float = 5.0, alpha: float = 2.0, temperature: float = 0.05
) -> SoftTopK:
    """Smooth membership in the k best: q = sigmoid(alpha (s + t)), with t such that sum(q) = k.

    Parameters
    ----------
    scores : array_like (..., L)
        Scores of L labels; s = scores / temperature. -inf is left out.
    k : float
        Above 0 and below the number of labels.
    alpha : float
        How sharp the edge is.
    temperature : float
        Divides the scores.

    Returns
    -------
    result : SoftTopK of (...) rows
        NaN where k is out of range.

    Notes
    -----
    The loss is minus the mean of log q over the right labels. The derivative of q in s is
    alpha (diag(w) - w w' / sum(w)), with w = q (1 - q). Official code takes 32 bisections.

    Checked against: the root in 50 digits.

    References
    ----------
    N. Gupta et al., arXiv:2310.10636; the authors' topk_utils.py.

    Examples
    --------
    >>> from softmap.systems import dexml
    >>> result = dexml.soft_top_k([4.0, 1.0, 3.0, -2.0, 0.0], k=2, temperature=1)
    >>> result.probabilities.round(4), result.shift.round(4)
    (array([9.820e-01, 1.191e-01, 8.807e-01, 3.000e-04, 1.800e-02]), np.float64(-2.0007))
    """
    check_number("dexml.soft_top_k", "alpha", alpha, positive=True)
    check_number("dexml.soft_top_k", "temperature", temperature, positive=True)
    s = in_dtype(alpha / temperature, scores) * scores
    shift = row_root(s, "sigmoid_sum", k)
    q = preference(s + shift[..., None], 0.0)
    return SoftTopK(q, shift / in_dtype(alpha, s))
