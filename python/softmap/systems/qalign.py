"""Q-Align: the expected level of a rating from the logits of five words."""

from typing import Any

from softmap.softmax import level_scores
from softmap.systems._recipe import recipe, rows

__all__ = ["score"]


@recipe(logits=rows)
def score(logits: Any, tokens: Any = None, *, levels: Any = (1.0, 0.75, 0.5, 0.25, 0.0)) -> Any:
    """Expected level: sum of softmax(logits[tokens]) * levels.

    Parameters
    ----------
    logits : array_like (..., 5) or (..., V)
        Logits of the words excellent, good, fair, poor, bad, in this order; or of a whole
        vocabulary, with `tokens`.
    tokens : sequence of 5 int, optional
        Columns of the five words.
    levels : array_like (5,)
        1 to 0 as the official scorer; the README of the authors has 5 to 1.

    Returns
    -------
    score : array (...)
        float32 for half and float32 logits, otherwise float64; NaN where all five are -inf.

    Notes
    -----
    The derivative in logit k is p[k] (levels[k] - score). :func:`softmap.systems.deqa.score` also
    gives the variance and the probability of the five words in the whole vocabulary.

    Checked against: the definition in 50 digits.

    References
    ----------
    H. Wu et al., "Q-Align: Teaching LMMs for Visual Scoring via Discrete Text-Defined Levels",
    ICML 2024, arXiv:2312.17090.

    Examples
    --------
    >>> import numpy as np
    >>> from softmap.systems import qalign
    >>> qalign.score(np.log([1.0, 3.0, 2.0, 1.0, 1.0]))  # (4 + 9 + 4 + 1) / 32
    np.float64(0.5625)
    """
    return level_scores(logits, tokens, levels, probabilities=False).score
