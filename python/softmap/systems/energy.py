"""Out-of-distribution scores: energy, AbeT, maximum softmax probability."""

from typing import Any

import numpy as np

from softmap.softmax import logsumexp
from softmap.softmax_statistics import row_statistics
from softmap.systems._recipe import float_rows, floats, in_dtype, recipe, rows

__all__ = ["abet", "energy", "msp"]


@recipe(logits=float_rows, temperature=floats)
def energy(logits: Any, *, temperature: Any = 1.0) -> Any:
    """Energy of a row of logits: -T log(sum(exp(z / T))).

    Parameters
    ----------
    logits : array_like (..., C)
        z.
    temperature : float or array_like (...)
        T, one number or one for each row.

    Returns
    -------
    energy : array (...)
        Low for what is like the training data. float32 for half and float32 logits, otherwise
        float64.

    Notes
    -----
    Official code of AbeT reports minus this, and sums exponentials without taking the largest off
    first, which overflows in float32 where z / T is above 88.

    Checked against: the definition in 50 digits.

    References
    ----------
    W. Liu et al., "Energy-based Out-of-distribution Detection", NeurIPS 2020, arXiv:2010.03759.

    Examples
    --------
    >>> import numpy as np
    >>> from softmap.systems import energy
    >>> np.exp(-energy.energy(np.log([[1.0, 3.0]]))).round(12)
    array([4.])
    """
    lse = logsumexp(logits, -1, temperature=temperature)
    return -in_dtype(temperature, lse) * lse


@recipe(cosines=float_rows, temperature=floats)
def abet(cosines: Any, temperature: Any) -> Any:
    """Energy without the factor in front, for a learned temperature: -log(sum(exp(cos / T))).

    Parameters
    ----------
    cosines : array_like (..., C)
        Cosines of the feature with the classes.
    temperature : array_like (...)
        T of each row, as the network gives it: from 0 to 1.

    Returns
    -------
    score : array (...)
        Low for what is like the training data; NaN where T is not above 0.

    Notes
    -----
    The factor T would work against the score, for T is large where the data are strange. GODIN's
    score is -T alone. Official code reports minus this, adds 1e-12 to T, and overflows in float32
    where cos / T is above 88.

    Checked against: the definition in 50 digits.

    References
    ----------
    W. LeVine et al., "Out-of-Distribution Detection with Ablated Learned Temperature Energy",
    2024, arXiv:2401.12129.

    Examples
    --------
    >>> import numpy as np
    >>> from softmap.systems import energy
    >>> energy.abet([[0.5, 0.5], [0.5, 0.5]], [0.5, 0.25]) + np.log(2)
    array([-1., -2.])
    """
    return -logsumexp(cosines, -1, temperature=temperature)


@recipe(logits=rows)
def msp(logits: Any) -> Any:
    """Maximum softmax probability.

    Parameters
    ----------
    logits : array_like (..., C)
        Logits of a classifier.

    Returns
    -------
    score : array (...)
        High for what is like the training data.

    Notes
    -----
    Computed as exp(max(z) - logsumexp(z)).

    Checked against: the definition in 50 digits.

    References
    ----------
    D. Hendrycks and K. Gimpel, "A Baseline for Detecting Misclassified and Out-of-Distribution
    Examples in Neural Networks", ICLR 2017, arXiv:1610.02136.

    Examples
    --------
    >>> import numpy as np
    >>> from softmap.systems import energy
    >>> energy.msp(np.log([[1.0, 3.0], [1.0, 1.0]])).round(12)
    array([0.75, 0.5 ])
    """
    r = row_statistics(logits)
    return np.exp(r.maximum - r.logsumexp)
