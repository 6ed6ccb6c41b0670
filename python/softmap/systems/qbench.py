"""Q-Bench and Q-Bench+: quality from the logits of two words, or of two groups of words."""

from typing import Any

import numpy as np

from softmap._check import check_choice
from softmap.softmax import closed_set, level_scores
from softmap.systems._recipe import beside, recipe, row_sum, rows, whole

__all__ = ["score"]


@recipe(logits=rows)
def score(
    logits: Any, good: Any, poor: Any, *, temperature: float = 100.0, synonyms: str = "logits"
) -> Any:
    """Probability of the word "good" against the word "poor", as the next token.

    softmax([z[good], z[poor]] / temperature)[0] = sigmoid((z[good] - z[poor]) / temperature)

    Parameters
    ----------
    logits : array_like (..., V)
        Logits of the next token.
    good, poor : int or sequence of int
        Columns of the two words. A sequence holds synonyms.
    temperature : float
        100 as in the official code; the papers print none, which is 1.
    synonyms : {"logits", "probabilities"}
        What of synonyms adds up. Their logits as in Q-Bench+, which with groups of unequal size is
        no longer the same for logits that are shifted; or their probabilities, which with equal
        logits puts the larger group ahead.

    Returns
    -------
    score : array (...)
        From 0 to 1; float32 for half and float32 logits, otherwise float64. Equal logits give 1/2.

    Notes
    -----
    The temperature does not change the order of images, but the linear correlation with opinions.
    Of a word of several tokens only the first one is scored. Q-Bench+ asks which of two images is
    better in the same way. The sums of logits, of [good, high, fine] against [poor, low, bad], are
    equation 2 and figure 5 of Q-Bench+, which is read from the text of the paper, equation 1 being
    the score of two words; its rankings are by the two words alone.

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
    >>> qbench.score(logits, good=[0, 1], poor=[2, 3], temperature=1).round(12)  # 27 / (27 + 2)
    np.float64(0.931034482759)
    >>> qbench.score(logits, good=[0, 1], poor=[2, 3], temperature=1, synonyms="probabilities")
    np.float64(0.8)
    """
    name = "qbench.score"
    check_choice(name, "synonyms", synonyms, ("logits", "probabilities"))
    if synonyms == "logits" and np.size(good) + np.size(poor) > 2:
        closed_set(name, [good, poor], logits.shape[-1])
        words = [logits[..., beside(np.atleast_1d(words), logits)] for words in (good, poor)]
        logits = np.stack([row_sum(whole(z)) for z in words], axis=-1)
        good, poor = 0, 1
    words = [good, poor]
    return level_scores(
        logits, words, [1.0, 0.0], temperature=temperature, probabilities=False
    ).score
