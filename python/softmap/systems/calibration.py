"""Temperature scaling: one temperature for a data set, by the likelihood of its labels."""

import math
from typing import Any

import numpy as np

from softmap.softmax import compute_dtype
from softmap.softmax_statistics import row_statistics
from softmap.systems._recipe import integers, recipe, rows

__all__ = ["temperature"]


@recipe(None, logits=rows, target=integers)
def temperature(logits: Any, target: Any) -> Any:
    """Temperature at which the labels are most likely: least mean of -log softmax(z / T)[target].

    The derivative of the mean loss in log T is the mean entropy minus the mean loss, so that both
    are equal at the minimum: a calibrated model is as often surprised as it expects to be.

    Parameters
    ----------
    logits : array_like (..., C)
        z, of data that the model was not trained on.
    target : array_like (...) of int
        True columns; a row whose target is no column does not count.

    Returns
    -------
    temperature : array (scalar)
        float32 for half and float32 logits, otherwise float64. 0 where the largest logit is always
        right, inf where a uniform guess is best, NaN where a row that counts has NaN or +inf, or
        none counts.

    Notes
    -----
    Each step reads all rows once. The authors' code (not checked) takes 50 steps of
    L-BFGS from 1.5.

    Checked against: the minimum in 30 digits.

    References
    ----------
    C. Guo et al., "On Calibration of Modern Neural Networks", ICML 2017, arXiv:1706.04599.

    Examples
    --------
    >>> import numpy as np
    >>> from softmap.systems import calibration
    >>> logits = np.array([[4.0, 0.0]] * 4)  # right three times of four: log 3 = 4 / T
    >>> (4 / calibration.temperature(logits, [0, 0, 1, 0]) / np.log(3)).round(9)
    np.float64(1.0)
    """
    counted = (target >= 0) & (target < logits.shape[-1])

    def slope(log_t: float) -> float:
        r = row_statistics(logits, temperature=math.exp(log_t), target=target)
        excess = r.entropy.astype(np.float64) + r.target_log_probability
        return float(np.where(counted, excess, 0).sum() / counted.sum())

    dtype = compute_dtype(logits)
    at_low = at_high = slope(0.0)
    if math.isnan(at_low):
        return dtype(np.nan)
    low = high = 0.0
    while at_low >= 0 and low > -64:
        low, at_low = 2 * low - 1, slope(2 * low - 1)
    while at_high <= 0 and high < 64:
        high, at_high = 2 * high + 1, slope(2 * high + 1)
    if not at_low < 0 < at_high:
        return dtype(0.0 if not at_low < 0 else np.inf)
    middle, side = math.inf, 0
    for _ in range(100):  # regula falsi; an end that stays counts half (Illinois)
        last, middle = middle, (low * at_high - high * at_low) / (at_high - at_low)
        here = slope(middle)
        if here == 0 or abs(middle - last) < 1e-10:
            break
        if here < 0:
            low, at_low, at_high = middle, here, at_high / (2 if side < 0 else 1)
        else:
            high, at_high, at_low = middle, here, at_low / (2 if side > 0 else 1)
        side = -1 if here < 0 else 1
    return dtype(math.exp(middle))
