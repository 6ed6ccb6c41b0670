"""Q-Bench and Q-Bench+: quality from the logits of two words, or of two groups of words."""

from typing import Any

from softmap.softmax import level_scores
from softmap.systems._recipe import recipe, rows

__all__ = ["score"]


@recipe(logits=rows)
def score(logits: Any, good: Any, poor: Any, *, temperature: float = 100.0) -> Any:
    """Probability of the word "good" against the word "poor", as the next token.

    softmax([z[good], z[poor]] / temperature)[0] = sigmoid((z[good] - z[poor]) / temperature)

    Parameters
    ----------
    logits : array_like (..., V)
        Logits of the next token.
    good, poor : int or sequence of int
        Columns of the two words. Of a sequence, which holds synonyms, the probabilities add up: the
        softmax is over the union, so that with equal logits the larger group is ahead.
    temperature : float
        100 as in the official code; the papers print none, which is 1.

    Returns
    -------
    score : array (...)
        From 0 to 1; float32 for half and float32 logits, otherwise float64. Equal logits give 1/2.

    Notes
    -----
    The temperature does not change the order of images, but the linear correlation with opinions.
    Of a word of several tokens only the first one is scored. Q-Bench+ asks which of two images is
    better in the same way. Official code (a3_assessment_all.py, and the README) was read; the
    temperature and the groups of synonyms of the papers were not checked against their text.

    Checked against: the logistic function of the difference in 50 digits.

    References
    ----------
    H. Wu et al., "Q-Bench: A Benchmark for General-Purpose Foundation Models on Low-level Vision",
    ICLR 2024, arXiv:2309.14181; Z. Zhang et al. (Q-Bench+), 2024, arXiv:2402.07116.

    Examples
    --------
    >>> import numpy as np
    >>> from softmap.systems import qbench
    >>> logits = np.log([3.0, 9.0, 1.0, 2.0])
    >>> qbench.score(logits, good=0, poor=2, temperature=1)
    np.float64(0.75)
    >>> qbench.score(logits, good=[0, 1], poor=[2, 3], temperature=1)  # 12 / 15
    np.float64(0.8)
    """
    return level_scores(logits, [good, poor], [1.0, 0.0], temperature=temperature).score
