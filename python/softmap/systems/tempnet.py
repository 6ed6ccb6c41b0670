"""TempNet: a temperature for each row, by distributionally robust optimisation."""

from typing import Any

import numpy as np

from softmap.row_root import row_root
from softmap.softmax_statistics import row_statistics
from softmap.systems._recipe import floats, in_dtype, integers, recipe, rows

__all__ = ["robust_loss", "temperature"]


@recipe(logits=rows, rho=floats)
def temperature(logits: Any, rho: Any, *, lowest: float = 0.01) -> Any:
    """Temperature that minimises the robust loss of a row: KL(softmax(z / tau) || uniform) = rho.

    It is the root of log(sum(exp(z / tau))) + rho - log V - E[z] / tau, E over softmax(z / tau).

    Parameters
    ----------
    logits : array_like (..., V)
        z; -inf is left out, also of V.
    rho : float or array_like (...)
        Radius of the ball of distributions, above 0.
    lowest : float
        Where the root is below this, or none is (rho >= log V - log of the number of columns that
        tie for the largest), the temperature is this.

    Returns
    -------
    temperature : array (...)
        NaN for a row with NaN or +inf, and for a rho that is not above 0.

    Notes
    -----
    What the network of the paper learns to predict. Official code takes 10 steps of Newton with a
    floor under the curvature, from the network's temperature.

    Checked against: the root in 50 digits.

    References
    ----------
    Z.-H. Qiu et al., "To Cool or not to Cool? Temperature Network Meets Large Foundation Models via
    DRO", ICML 2024, arXiv:2404.04575; the authors' tempnet.py.

    Examples
    --------
    >>> from softmap.systems import tempnet
    >>> tempnet.temperature([[2.0, 0.5, -1.0, 1.0, 0.0], [1.0, 1.0, 1.0, 1.0, 1.0]], 0.2).round(6)
    array([1.503659, 0.01    ])
    """
    tau = row_root(logits, "divergence", rho)
    return np.maximum(tau, in_dtype(lowest, tau))


@recipe(logits=rows, target=integers, temperature=floats)
def robust_loss(logits: Any, target: Any, temperature: Any, *, rho: float) -> Any:
    """Robust loss of a row: tau CE(z / tau, target) + (rho - log V) tau.

    Parameters
    ----------
    logits : array_like (..., V)
        z.
    target : array_like (...) of int
        True column.
    temperature : float or array_like (...)
        tau, for instance from the network.
    rho : float
        Radius of the ball.

    Returns
    -------
    loss : array (...)
        NaN for a target that is no column and for a temperature that is not above 0.

    Notes
    -----
    V counts all columns here, as in the official code.

    Checked against: the definition in 50 digits.

    References
    ----------
    Z.-H. Qiu et al., arXiv:2404.04575; the authors' tempnet.py.

    Examples
    --------
    >>> import numpy as np
    >>> from softmap.systems import tempnet
    >>> loss = tempnet.robust_loss(np.log([[3.0, 1.0]]), [0], 1.0, rho=np.log(2))
    >>> np.exp(-loss).round(12)
    array([0.75])
    """
    log_p = row_statistics(logits, temperature=temperature, target=target).target_log_probability
    tau = in_dtype(temperature, log_p)
    return tau * (in_dtype(rho - np.log(logits.shape[-1]), log_p) - log_p)
