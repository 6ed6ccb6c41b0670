"""RealQA: a number read from the logits of its digits."""

from dataclasses import dataclass
from typing import Any

import numpy as np

from softmap.softmax import level_scores
from softmap.systems._recipe import host_floats, in_dtype, raise_shape, recipe, rows, sum_of_few

__all__ = ["DigitScores", "score"]


@dataclass(frozen=True)
class DigitScores:
    """Result of :func:`score`.

    Attributes
    ----------
    value : array (...)
        Expected number.
    variance : array (...)
        Its variance, with the digits independent.
    residual : array (...)
        `value` without what the most probable digit of each place adds (NCM* of the paper).
    digits : array (..., D)
        Expected digit of each place.
    """

    value: Any
    variance: Any
    residual: Any
    digits: Any


@recipe({"logits": 2}, logits=rows)
def score(logits: Any, tokens: Any = None, *, place_values: Any = (1.0, 0.1, 0.01)) -> DigitScores:
    """Expected number: sum over the places of place value times expected digit (NCM).

    p = softmax over the ten digits of each place, E = sum of k p[k], value = sum of place * E

    Parameters
    ----------
    logits : array_like (..., D, 10) or (..., D, V)
        Logits of the digits 0 to 9 at the D places of the answer; or of a whole vocabulary, with
        `tokens`. Leave out places that are no digits, such as the point.
    tokens : sequence of 10 int, optional
        Columns of the digits.
    place_values : array_like (D,)
        What one is worth at each place; for two digits before the point (10, 1, 0.1, 0.01).

    Returns
    -------
    result : DigitScores of (...) answers
        float32 for half and float32 logits, otherwise float64.

    Notes
    -----
    The expected number need not be near the one that is generated: digits are read one by one, and
    nothing carries over. Of equally probable digits the smaller is left out of `residual`. The
    official code reads the final score from the generated text; this value is logged.

    Checked against: a plain loop in 50 digits.

    References
    ----------
    M. Li et al., "Next Token Is Enough: Realistic Image Quality and Aesthetic Scoring with
    Multimodal Large Language Model", 2025; the authors' modeling_qwen2_vl.py.

    Examples
    --------
    >>> import numpy as np
    >>> from softmap.systems import realqa
    >>> logits = np.full((3, 10), -np.inf)  # 7 or 8, then 5, then 0
    >>> logits[0, [7, 8]], logits[1, 5], logits[2, 0] = np.log([3.0, 1.0]), 0.0, 0.0
    >>> result = realqa.score(logits)
    >>> result.value, result.variance.round(12), result.residual, result.digits
    (np.float64(7.75), np.float64(0.1875), np.float64(2.0), array([7.25, 5.  , 0.  ]))
    """
    places = host_floats("realqa.score", "place_values", place_values).astype(np.float64)
    if places.ndim != 1:
        raise_shape("realqa.score", "place_values", places.shape, "it must be one-dimensional")
    if not np.isfinite(places).all():
        raise ValueError(f"realqa.score: place_values = {place_values!r}, they must be finite")
    if places.shape != logits.shape[-2:-1] or logits.ndim < 2:
        rule = f"its last axis but one must be {places.size}, the number of place values"
        raise_shape("realqa.score", "logits", logits.shape, rule)
    digits = level_scores(logits, tokens, np.arange(10.0), probabilities=False, mode=True)
    places = in_dtype(places, digits.score)
    rest = digits.score - digits.mode * digits.mode_probability
    value, residual = (sum_of_few(part, places) for part in (digits.score, rest))
    return DigitScores(value, sum_of_few(digits.variance, places**2), residual, digits.score)
