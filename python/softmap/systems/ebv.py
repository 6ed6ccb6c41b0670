"""Equiangular Basis Vectors: classes as fixed directions of a sphere."""

from typing import Any

import numpy as np

from softmap.softmax import log_softmax
from softmap.systems._recipe import float_rows, floats, raise_shape, recipe

__all__ = ["log_probabilities"]


@recipe({"basis": 2}, features=float_rows, basis=floats)
def log_probabilities(features: Any, basis: Any, *, temperature: float) -> Any:
    """Log-probabilities of classes: log softmax of the cosines with their directions.

    log_softmax(cos(f, b[k]) / temperature) over k

    Parameters
    ----------
    features : array_like (..., d)
        f, of any length but 0.
    basis : array_like (K, d)
        b, one direction a class, of any length but 0.
    temperature : float
        Divides the cosines.

    Returns
    -------
    log_probabilities : array (..., K)
        The loss of a class is minus its entry, the prediction the argmax. NaN for a feature of
        length 0.

    Notes
    -----
    Official code (EBV_ImageNet.py) normalises both and divides by 0.07. The paper's text was not
    checked.

    Checked against: the definition in 50 digits.

    References
    ----------
    Y. Shen, X. Sun and X.-S. Wei, "Equiangular Basis Vectors", CVPR 2023, arXiv:2303.11637.

    Examples
    --------
    >>> import numpy as np
    >>> from softmap.systems import ebv
    >>> log_p = ebv.log_probabilities([0.0, 2.0], [[1.0, 0.0], [0.0, 5.0]], temperature=0.5)
    >>> bool(abs(log_p[1] - log_p[0] - 2) < 1e-15)  # cosines 0 and 1
    True
    """
    if features.shape[-1:] != basis.shape[1:] or basis.ndim != 2:
        rule = f"features of shape {features.shape} need (classes, {features.shape[-1:]})"
        raise_shape("ebv.log_probabilities", "basis", basis.shape, rule)
    # By the largest component first, whose square may be out of range.
    f, b = (a / np.linalg.norm(a, np.inf, axis=-1, keepdims=True) for a in (features, basis))
    f, b = (a / np.linalg.norm(a, axis=-1, keepdims=True) for a in (f, b))
    return log_softmax(f @ b.T, -1, temperature=temperature)
