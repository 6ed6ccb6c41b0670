"""CORAL and CORN: ordered classes from the logits of "more than level k"."""

from typing import Any

import numpy as np

from softmap._ordinal import ordinal_cross_entropy, ordinal_probabilities
from softmap.systems._recipe import (
    float_rows,
    floats,
    in_dtype,
    integers,
    one_a_row,
    raise_shape,
    recipe,
)

__all__ = ["coral", "corn", "cross_entropy"]


@recipe({}, False, logits=float_rows)
def coral(logits: Any) -> Any:
    """Probabilities of K levels from K - 1 logits of P(level > k) = sigmoid(z[k]).

    p[0] = 1 - c[0], p[k] = c[k - 1] - c[k], p[K - 1] = c[K - 2], with c = sigmoid(z)

    Parameters
    ----------
    logits : array_like (..., K - 1)
        z, falling along the row where the model is consistent.

    Returns
    -------
    probabilities : array (..., K)
        They add up to 1, but are negative where the logits rise: nothing is cut off.

    Notes
    -----
    Official code is the same. The number of logits above 0 is the level that CORAL predicts.

    Checked against: the definition in 50 digits.

    References
    ----------
    W. Cao, V. Mirjalili and S. Raschka, "Rank consistent ordinal regression for neural networks
    with application to age estimation", 2020, arXiv:1901.07884; ck37/coral-ordinal.

    Examples
    --------
    >>> import numpy as np
    >>> from softmap.systems import ordinal
    >>> ordinal.coral(np.log([[3.0, 1.0], [1.0, 3.0]]))
    array([[ 0.25,  0.25,  0.5 ],
           [ 0.5 , -0.25,  0.75]])
    """
    return ordinal_probabilities(logits, conditional=False)


@recipe({}, False, logits=float_rows)
def corn(logits: Any) -> Any:
    """Probabilities of K levels from K - 1 logits of P(level > k, given level >= k).

    p[k] = (1 - sigmoid(z[k])) times the product of sigmoid(z[j]) over j < k

    Parameters
    ----------
    logits : array_like (..., K - 1)
        Conditional logits z, in any order of size.

    Returns
    -------
    probabilities : array (..., K)
        At least 0, with sum 1.

    Notes
    -----
    Official code takes differences of the cumulative products, which lose the digits of small ones.

    Checked against: the definition in 50 digits.

    References
    ----------
    X. Shi, W. Cao and S. Raschka, "Deep Neural Networks for Rank-Consistent Ordinal Regression
    Based On Conditional Probabilities", 2021, arXiv:2111.08851; ck37/coral-ordinal.

    Examples
    --------
    >>> import numpy as np
    >>> from softmap.systems import ordinal
    >>> ordinal.corn(np.log([[3.0, 1.0], [1.0, 3.0]]))
    array([[0.25 , 0.375, 0.375],
           [0.5  , 0.125, 0.375]])
    """
    return ordinal_probabilities(logits, conditional=True)


@recipe({"importance": 1}, False, logits=float_rows, target=integers, importance=floats)
def cross_entropy(logits: Any, target: Any, *, importance: Any = 1.0) -> Any:
    """Ordinal cross-entropy: K - 1 binary ones, of whether the level is above k.

    loss = -sum over k of importance[k] (log sigmoid(z[k]) if target > k else log sigmoid(-z[k]))

    Parameters
    ----------
    logits : array_like (..., K - 1)
        z, as for :func:`coral`.
    target : array_like (...) of int
        True level, 0 to K - 1.
    importance : float or array_like (K - 1,)
        Weights of the K - 1 questions.

    Returns
    -------
    loss : array (...)
        NaN where the target is no level.

    Notes
    -----
    Official code writes the second case as log sigmoid(z) - z, which is NaN for z = -inf.

    Checked against: the definition in 50 digits.

    References
    ----------
    W. Cao, V. Mirjalili and S. Raschka, arXiv:1901.07884; ck37/coral-ordinal.

    Examples
    --------
    >>> import numpy as np
    >>> from softmap.systems import ordinal
    >>> loss = ordinal.cross_entropy(np.log([3.0, 1.0]), 1)  # 3/4 above 0, 1/2 not above 1
    >>> np.exp(-loss).round(12)
    np.float64(0.375)
    """
    name, n = "ordinal.cross_entropy", logits.shape[-1]
    level = one_a_row(name, "target", target, logits)
    weights = in_dtype(importance, logits)
    if weights.shape not in ((), (n,)):
        rule = f"it must be a number or have shape ({n},), one for each logit"
        raise_shape(name, "importance", weights.shape, rule)
    return ordinal_cross_entropy(logits, level, np.broadcast_to(weights, n))
