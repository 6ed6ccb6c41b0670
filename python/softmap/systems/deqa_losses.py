"""DeQA-Score: fidelity loss, KL loss and the distances of normal distributions."""

from dataclasses import dataclass
from typing import Any

import numpy as np

from softmap.softmax import closed_set, logsumexp
from softmap.systems._recipe import (
    beside,
    broadcast,
    float_rows,
    floats,
    raise_shape,
    recipe,
    row_dot,
)

__all__ = ["NormalGaps", "fidelity_loss", "kl_loss", "normal_gaps"]


@recipe(p=floats, target=floats)
def fidelity_loss(p: Any, target: Any) -> Any:
    """Fidelity loss 1 - sqrt(p t) - sqrt((1 - p)(1 - t)) of two probabilities of winning.

    Parameters
    ----------
    p : array_like (...)
        Predicted probability that the first image is better, by Thurstone's model
        ``softmap.preference(a, b, link="probit", variance_a=va, variance_b=vb)`` from two scores
        and variances of :func:`softmap.systems.deqa.score`; or with variances 1, the choice of the
        official training script.
    target : array_like (...)
        The same from mean opinion scores and their variances.

    Returns
    -------
    loss : array (...)
        From 0 to 1; NaN where a probability is not one.

    Notes
    -----
    Computed as half of (sqrt p - sqrt t)**2 + (sqrt(1 - p) - sqrt(1 - t))**2, which does not
    cancel. Official code adds 1e-8 under both roots and to the sum of variances: equal
    probabilities have the loss -2e-8 there, and exactly 0 here.

    Checked against: the definition in 50 digits.

    References
    ----------
    Z. You et al., "Teaching Large Language Models to Regress Accurate Image Quality Scores using
    Score Distribution", CVPR 2025, arXiv:2501.11561.

    Examples
    --------
    >>> from softmap.systems import deqa_losses
    >>> deqa_losses.fidelity_loss([1.0, 0.36, 0.5], [0.0, 0.64, 0.5]).round(12)  # 1 - 2 * 0.48
    array([1.  , 0.04, 0.  ])
    """
    p, t = broadcast("deqa_losses.fidelity_loss", p=p, target=target)
    wins, losses = np.sqrt(p) - np.sqrt(t), np.sqrt(1 - p) - np.sqrt(1 - t)
    return (wins * wins + losses * losses) / 2


@recipe(logits=float_rows, labels=float_rows)
def kl_loss(logits: Any, tokens: Any, labels: Any) -> Any:
    """Divergence of the labels from the softmax of the whole row: sum of t (log t - log p).

    Parameters
    ----------
    logits : array_like (..., V)
        Logits of the next token.
    tokens : sequence of K int
        Columns of the levels.
    labels : array_like (..., K)
        Probabilities of the levels, as from :func:`softmap.systems.deqa.soft_labels`.

    Returns
    -------
    loss : array (...)
        A label of 0 adds nothing, whatever the logit.

    Notes
    -----
    The official weights of the losses are 1 for ranking, 1 for this one, 0.05 for the next token.

    Checked against: the definition in 50 digits.

    References
    ----------
    Z. You et al., arXiv:2501.11561.

    Examples
    --------
    >>> import numpy as np
    >>> from softmap.systems import deqa_losses
    >>> deqa_losses.kl_loss(np.log([1.0, 1.0, 2.0]), [0, 1], [1.0, 0.0]) == np.log(4)
    np.True_
    """
    name = "deqa_losses.kl_loss"
    columns, _ = closed_set(name, tokens, logits.shape[-1])
    if labels.shape[-1:] != columns.shape:
        rule = f"its last axis must be {len(columns)}, the number of tokens"
        raise_shape(name, "labels", labels.shape, rule)
    try:
        np.broadcast_shapes(labels.shape[:-1], logits.shape[:-1])
    except ValueError:
        rule = f"it must broadcast with the rows of logits, of shape {logits.shape}"
        raise_shape(name, "labels", labels.shape, rule)
    log_p = logits[..., beside(columns, logits)] - logsumexp(logits, -1, keepdims=True)
    excess = np.log(labels) - log_p
    excess[np.broadcast_to(labels == 0, excess.shape)] = 0
    return row_dot(labels, excess)


@dataclass(frozen=True)
class NormalGaps:
    """Result of :func:`normal_gaps`.

    Attributes
    ----------
    kl : array (...)
        Kullback-Leibler divergence of the first from the second.
    wasserstein : array (...)
        2-Wasserstein distance.
    midpoint_divergence : array (...)
        Mean of the divergences of both from the normal distribution whose mean and variance are
        the means of theirs.
    """

    kl: Any
    wasserstein: Any
    midpoint_divergence: Any


@recipe(mean_a=floats, sd_a=floats, mean_b=floats, sd_b=floats)
def normal_gaps(mean_a: Any, sd_a: Any, mean_b: Any, sd_b: Any) -> NormalGaps:
    """Distances between the normal distributions N(mean_a, sd_a**2) and N(mean_b, sd_b**2).

    kl = log(sd_b / sd_a) + (sd_a**2 + d**2) / (2 sd_b**2) - 1/2, with d the difference of means;
    wasserstein = sqrt(d**2 + (sd_a - sd_b)**2).

    Parameters
    ----------
    mean_a, sd_a, mean_b, sd_b : array_like (...)
        Means and standard deviations, of shapes that broadcast.

    Returns
    -------
    gaps : NormalGaps of (...)
        NaN where a deviation is negative or NaN.

    Notes
    -----
    Official code calls `midpoint_divergence` the Jensen-Shannon divergence. It is none: that one is
    taken to the mixture, which is not normal. For N(3.4, 0.6**2) and N(3.6, 0.5**2) it is 0.0236,
    and this one 0.0247. Official code adds 1e-8 to the deviations.

    Checked against: numerical integration in 30 digits, of the Jensen-Shannon divergence, too.

    References
    ----------
    Z. You et al., arXiv:2501.11561; the authors' cal_distribution_gap.py.

    Examples
    --------
    >>> from softmap.systems import deqa_losses
    >>> gaps = deqa_losses.normal_gaps(0.0, 1.0, 3.0, 1.0)
    >>> gaps.kl, gaps.wasserstein, gaps.midpoint_divergence
    (np.float64(4.5), np.float64(3.0), np.float64(1.125))
    """
    ma, sa, mb, sb = broadcast("deqa_losses.normal_gaps", a=mean_a, sa=sd_a, b=mean_b, sb=sd_b)
    sa, sb = (np.where(s >= 0, s, np.nan) for s in (sa, sb))
    middle, width = (ma + mb) / 2, np.sqrt((sa * sa + sb * sb) / 2)
    both = (_kl(ma, sa, middle, width) + _kl(mb, sb, middle, width)) / 2
    return NormalGaps(_kl(ma, sa, mb, sb), np.hypot(ma - mb, sa - sb), both)


def _kl(ma: Any, sa: Any, mb: Any, sb: Any) -> Any:
    return np.log(sb / sa) + (sa * sa + (ma - mb) ** 2) / (2 * sb * sb) - 0.5
