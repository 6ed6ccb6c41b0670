"""P(True), P(IK) and yes/no scoring: how sure a model is of an answer."""

from dataclasses import dataclass
from typing import Any

from softmap.pairwise import preference
from softmap.softmax import level_scores
from softmap.systems._recipe import recipe, rows

__all__ = ["OptionProbability", "p_ik", "p_true"]


@dataclass(frozen=True)
class OptionProbability:
    """Result of :func:`p_true`.

    Attributes
    ----------
    probability : array (...)
        Of True, against False.
    mass : array (...)
        Of True and False together in the whole vocabulary.
    """

    probability: Any
    mass: Any


@recipe(logits=rows)
def p_true(logits: Any, true: Any, false: Any) -> OptionProbability:
    """Probability of the answer "True" against "False", or of yes against no.

    probability = sigmoid(z[true] - z[false]); times `mass` it is the probability of True in the
    softmax of the whole row.

    Parameters
    ----------
    logits : array_like (..., V)
        Logits of the token after "Is the proposed answer True or False?".
    true, false : int or sequence of int
        Columns of the two answers; of a sequence (yes, Yes, YES) the probabilities add up.

    Returns
    -------
    result : OptionProbability of (...) rows
        NaN where both are -inf.

    Notes
    -----
    Little mass says that the model would answer something else. The abstract has the probability
    that an answer is true; the prompt, "Is the proposed answer: (A) True (B) False", is as a later
    paper prints it (K. Tian et al., arXiv:2305.14975). The softmax over two tokens was not checked
    against the paper's text.

    Checked against: the definition in 50 digits.

    References
    ----------
    S. Kadavath et al., "Language Models (Mostly) Know What They Know", 2022, arXiv:2207.05221;
    R. Zhong et al. (meta-tuning, yes / (yes + no)), 2021, arXiv:2104.04670.

    Examples
    --------
    >>> import numpy as np
    >>> from softmap.systems import ptrue
    >>> ptrue.p_true(np.log([3.0, 1.0, 4.0]), true=0, false=1)
    OptionProbability(probability=np.float64(0.75), mass=np.float64(0.5))
    """
    r = level_scores(logits, [true, false], [1.0, 0.0], mass=True, probabilities=False)
    return OptionProbability(r.score, r.mass)


def p_ik(logit: Any) -> Any:
    """Probability that the model knows the answer, from the logit of a value head.

    sigmoid(logit)

    Parameters
    ----------
    logit : array_like (...)
        Output of the head.

    Returns
    -------
    probability : array (...)
        Accurate also far in the tails.

    Notes
    -----
    Not checked against the paper's text.

    Checked against: the logistic function in 50 digits.

    References
    ----------
    S. Kadavath et al., arXiv:2207.05221.

    Examples
    --------
    >>> import numpy as np
    >>> from softmap.systems import ptrue
    >>> ptrue.p_ik(np.log([1 / 3, 1.0, 3.0]))
    array([0.25, 0.5 , 0.75])
    """
    return preference(logit, 0.0)
