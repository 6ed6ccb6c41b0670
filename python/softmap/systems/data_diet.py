"""Which training examples matter: EL2N, confidence and variability."""

from dataclasses import dataclass
from typing import Any

import numpy as np

from softmap.softmax_statistics import row_statistics
from softmap.systems._recipe import integers, one_a_row, raise_shape, recipe, rows

__all__ = ["Dynamics", "dynamics", "el2n"]


@recipe(logits=rows, target=integers)
def el2n(logits: Any, target: Any) -> Any:
    """Length of the error vector: norm of softmax(z) - onehot(target).

    Parameters
    ----------
    logits : array_like (..., C)
        z, for instance of (runs, examples, classes); the paper averages the result over ten runs.
    target : array_like of int
        True class; its shape broadcasts to (...).

    Returns
    -------
    score : array (...)
        From 0 to sqrt 2; NaN for a target that is no class. float32 for half and float32 logits,
        otherwise float64.

    Notes
    -----
    The entry of the target is minus the sum of the others, so that the score of an example that is
    learned keeps its digits. Official code takes softmax minus one-hot.

    Checked against: the definition in 50 digits.

    References
    ----------
    M. Paul, S. Ganguli and G. K. Dziugaite, "Deep Learning on a Data Diet: Finding Important
    Examples Early in Training", NeurIPS 2021, arXiv:2107.07075.

    Examples
    --------
    >>> import numpy as np
    >>> from softmap.systems import data_diet
    >>> data_diet.el2n(np.log([[2.0, 1.0, 1.0]]), [0]) ** 2  # 1/4 + 1/16 + 1/16
    array([0.375])
    """
    column = one_a_row("data_diet.el2n", "target", target, logits).astype(np.int64, copy=False)
    # One row is a batch of one, whose target may be no class.
    return row_statistics(logits[None], target=column[None], error_norm=True).error_norm[0]


@dataclass(frozen=True)
class Dynamics:
    """Result of :func:`dynamics`.

    Attributes
    ----------
    confidence : array (...)
        Mean of the probability of the true class over the checkpoints.
    variability : array (...)
        Its standard deviation (of the population).
    correctness : array (...)
        Fraction of the checkpoints at which no class is more probable than the true one.
    """

    confidence: Any
    variability: Any
    correctness: Any


@recipe(None, logits=rows, target=integers)
def dynamics(logits: Any, target: Any) -> Dynamics:
    """Confidence, variability and correctness of examples over the checkpoints of a training.

    Parameters
    ----------
    logits : array_like (E, ..., C)
        Of E checkpoints and C classes.
    target : array_like of int
        True class; its shape broadcasts to (...).

    Returns
    -------
    result : Dynamics of (...) examples
        NaN for a target that is no class. The true class counts as found where it ties.

    Notes
    -----
    Checked against: plain loops in 50 digits.

    References
    ----------
    S. Swayamdipta et al., "Dataset Cartography", EMNLP 2020, arXiv:2009.10795.

    Examples
    --------
    >>> import numpy as np
    >>> from softmap.systems import data_diet
    >>> result = data_diet.dynamics(np.log([[[1.0, 3.0]], [[3.0, 1.0]]]), [1])
    >>> result.confidence.round(12), result.variability.round(12), result.correctness
    (array([0.5]), array([0.25]), array([0.5]))
    """
    name = "data_diet.dynamics"
    if logits.ndim < 2 or not len(logits):
        rule = "it must be (checkpoints, ..., classes), with a checkpoint"
        raise_shape(name, "logits", logits.shape, rule)
    column = one_a_row(name, "target", target, logits)
    r = row_statistics(logits, target=column)
    p = np.exp(r.target_log_probability)
    found = np.where(r.target_rank == 0, np.nan, r.target_rank == 1).astype(p.dtype)
    return Dynamics(p.mean(axis=0), p.std(axis=0), found.mean(axis=0))
