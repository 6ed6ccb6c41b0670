"""NKD: knowledge distillation with the classes beside the target normalised by themselves."""

from typing import Any

from softmap._cross_entropy import cross_entropy_rows
from softmap.systems._recipe import broadcast, float_rows, in_dtype, integers, one_a_row, recipe

__all__ = ["loss"]


@recipe(student=float_rows, teacher=float_rows, target=integers)
def loss(
    student: Any, teacher: Any, target: Any, *, gamma: float = 1.5, temperature: float = 1.0
) -> Any:
    """Normalised distillation loss of a student from its teacher.

    -t[y] log s[y] - gamma T**2 sum over i != y of u[i] log v[i]

    with t and s the softmax of teacher and student, and u and v those of their logits / T without
    the target y.

    Parameters
    ----------
    student, teacher : array_like (..., C)
        Logits.
    target : array_like of int
        True class y; its shape broadcasts to (...).
    gamma, temperature : float
        Weight of the second term, and T.

    Returns
    -------
    loss : array (...)
        NaN for a target that is no class. The average over a batch is the official loss.

    Notes
    -----
    The target is left out of both rows; official code does the same by selecting the others.

    Checked against: the definition in 50 digits.

    References
    ----------
    Z. Yang et al., "From Knowledge Distillation to Self-Knowledge Distillation: A Unified Approach
    with Normalized Loss and Customized Soft Labels", ICCV 2023, arXiv:2303.13005; the authors'
    nkd.py.

    Examples
    --------
    >>> import numpy as np
    >>> from softmap.systems import nkd
    >>> logits = np.log([2.0, 1.0, 1.0])
    >>> loss = nkd.loss(logits, logits, 0)  # log(2) / 2 + 1.5 log(2)
    >>> (loss / np.log(2)).round(12)
    np.float64(2.0)
    """
    s, t = broadcast("nkd.loss", student=student, teacher=teacher)
    y = one_a_row("nkd.loss", "target", target, s, "student and teacher")
    second, log_s, t_own = cross_entropy_rows(s, t, temperature, y)
    return in_dtype(gamma * temperature * temperature, second) * second - t_own * log_s
