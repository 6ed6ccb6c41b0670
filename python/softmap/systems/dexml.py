"""Dual encoders for extreme classification: decoupled softmax and soft top-k."""

from dataclasses import dataclass
from typing import Any

import numpy as np

from softmap._check import check_number
from softmap.pairwise import preference
from softmap.row_root import row_root
from softmap.softmax import logsumexp
from softmap.systems._recipe import broadcast, float_rows, in_dtype, integers, recipe

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
        Which labels are right: those above 0, so that -1 may stand for wrong.
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
    name = "dexml.decoupled_softmax"
    check_number(name, "temperature", temperature, positive=True)
    if positives.dtype != bool:
        positives = positives > 0
    s, right = broadcast(name, scores=scores, positives=positives)
    s = np.divide(s, in_dtype(temperature, s), out=np.empty_like(s, order="C"))
    label = np.flatnonzero(right)  # few: only these are worked on one by one
    row = label // max(s.shape[-1], 1)
    own = np.take(s, label)
    s.reshape(-1)[label] = -np.inf
    negatives = logsumexp(s, -1).reshape(-1)
    own = preference(own, np.take(negatives, row), log=True)
    s[...] = np.nan
    s.reshape(-1)[label] = own
    total, n_right = (np.bincount(row, w, negatives.size) for w in (own, None))
    loss = in_dtype(-total / n_right, s).reshape(s.shape[:-1])
    return Decoupled(s, loss)


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
        NaN for a row that has no more than k labels beside its -inf.

    Raises
    ------
    ValueError
        For a k that is out of range.

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
    name, n = "dexml.soft_top_k", scores.shape[-1]
    check_number(name, "alpha", alpha, positive=True)
    check_number(name, "temperature", temperature, positive=True)
    if not check_number(name, "k", k, positive=True) < n:
        raise ValueError(f"{name}: k = {k}, it must be below the number of labels, {n}")
    s = in_dtype(alpha / temperature, scores) * scores
    shift = row_root(s, "sigmoid_sum", k)
    q = preference(s + shift[..., None], 0.0)
    return SoftTopK(q, shift / in_dtype(alpha, s))
