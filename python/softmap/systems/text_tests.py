"""Was this text written by that model? Log-perplexity against entropy, and perplexity answering."""

from dataclasses import dataclass
from typing import Any

import numpy as np

from softmap._cross_entropy import cross_entropy_rows
from softmap.softmax_statistics import row_statistics
from softmap.systems._recipe import (
    broadcast,
    float_rows,
    in_dtype,
    integers,
    one_a_row,
    raise_shape,
    recipe,
    rows,
)

__all__ = ["Answer", "TextStatistics", "answer", "cross_entropy_rate", "statistics"]


@dataclass(frozen=True)
class TextStatistics:
    """Result of :func:`statistics`.

    Attributes
    ----------
    log_likelihood : array (...)
        Mean of log p(token).
    entropy : array (...)
        Mean entropy of the distributions of the tokens.
    statistic : array (...)
        `log_likelihood` + `entropy`: near 0 for the model's own text.
    ratio : array (...)
        `log_likelihood` / `entropy`: near -1 for the model's own text.
    log_rank : array (...)
        Mean of the logarithm of the token's rank, a baseline.
    """

    log_likelihood: Any
    entropy: Any
    statistic: Any
    ratio: Any
    log_rank: Any


@recipe({"logits": 2, "tokens": 1}, logits=rows, tokens=integers)
def statistics(logits: Any, tokens: Any) -> TextStatistics:
    """Log-perplexity of a text against the entropy of the model that may have written it.

    Parameters
    ----------
    logits : array_like (..., L, V)
        Logits of the model at the L places of the text.
    tokens : array_like (..., L) of int
        The text: ``tokens[..., i]`` is what ``logits[..., i, :]`` predicts. A negative one, such as
        -100, is padding; one beyond the vocabulary makes what needs it NaN.

    Returns
    -------
    result : TextStatistics of (...) texts
        NaN for a text without a token.

    Notes
    -----
    `statistic` is the paper's test statistic up to its sign. Equal logits share the better rank;
    official code ranks them in the order of argsort.

    Checked against: plain loops in 50 digits.

    References
    ----------
    T. Radvand et al., "Zero-Shot Statistical Tests for LLM-Generated Text Detection using Finite
    Sample Concentration Inequalities", 2025, arXiv:2501.02406.

    Examples
    --------
    >>> import numpy as np
    >>> from softmap.systems import text_tests
    >>> result = text_tests.statistics(np.zeros((3, 4)), [0, 2, -100])
    >>> np.exp(result.log_likelihood).round(12), result.statistic.round(12), result.log_rank
    (np.float64(0.25), np.float64(0.0), np.float64(0.0))
    """
    tokens = _of_text("text_tests.statistics", "tokens", tokens, logits)
    r = row_statistics(logits, target=tokens)
    counted = tokens >= 0
    log_rank = np.log(r.target_rank.astype(r.entropy.dtype))  # -inf where there is none
    log_p, entropy, log_rank = _means(counted, r.target_log_probability, r.entropy, log_rank)
    log_rank = np.where(log_rank < 0, np.nan, log_rank).astype(entropy.dtype)
    return TextStatistics(log_p, entropy, log_p + entropy, log_p / entropy, log_rank)


@recipe(
    {"logits_a": 2, "logits_b": 2, "mask": 1},
    logits_a=float_rows,
    logits_b=float_rows,
    mask=integers,
)
def cross_entropy_rate(logits_a: Any, logits_b: Any, *, mask: Any = None) -> Any:
    """Mean over a text of the cross-entropy of model A under model B: -sum of p_B log p_A.

    Parameters
    ----------
    logits_a, logits_b : array_like (..., L, V)
        Logits of both models at the L places of the same text.
    mask : array_like (..., L) of bool or int, optional
        Places that count.

    Returns
    -------
    rate : array (...)
        NaN where no place counts; inf where B may write what A cannot.

    Notes
    -----
    What B gives the probability 0 adds nothing.

    Checked against: plain loops in 50 digits.

    References
    ----------
    T. Radvand et al., arXiv:2501.02406.

    Examples
    --------
    >>> import numpy as np
    >>> from softmap.systems import text_tests
    >>> rate = text_tests.cross_entropy_rate(np.log([[1.0, 3.0]]), [[0.0, -np.inf]])
    >>> np.exp(-rate).round(12)
    np.float64(0.25)
    """
    name = "text_tests.cross_entropy_rate"
    a, b = broadcast(name, logits_a=logits_a, logits_b=logits_b)
    given = np.ones_like(a, shape=()) if mask is None else mask
    counted = _of_text(name, "mask", given, a, "logits_a") != 0
    return _means(counted, cross_entropy_rows(a, b))[0]


@dataclass(frozen=True)
class Answer:
    """Result of :func:`answer`.

    Attributes
    ----------
    choice : array (...) of int64
        Option of least loss, of equal ones the first.
    loss : array (..., K)
        Mean of -log p over the tokens of each option.
    """

    choice: Any
    loss: Any


@recipe({"logits": 3, "tokens": 2}, logits=rows, tokens=integers)
def answer(logits: Any, tokens: Any) -> Answer:
    """Answer a question of K options by their perplexity.

    choice = argmin over k of the mean over the tokens t of option k of -log p(t)

    Parameters
    ----------
    logits : array_like (..., K, L, V)
        Logits at the L places of each option, as if it were the answer.
    tokens : array_like (..., K, L) of int
        The options; a negative token is padding.

    Returns
    -------
    result : Answer of (...) questions
        The loss of an option without a token is NaN, and it is not chosen; -1 where all are.

    Notes
    -----
    The mean and not the sum, so that long options are not at a disadvantage. The answering of
    Q-Bench A1 and the PPL inferencer of ChEF.

    Checked against: plain loops in 50 digits.

    References
    ----------
    Z. Shi et al., "ChEF: A Comprehensive Evaluation Framework for Standardized Assessment of
    Multimodal Large Language Models", 2023, arXiv:2311.02692; H. Wu et al. (Q-Bench),
    arXiv:2309.14181.

    Examples
    --------
    >>> import numpy as np
    >>> from softmap.systems import text_tests
    >>> logits = np.log([[[1.0, 3.0], [3.0, 1.0]], [[1.0, 1.0], [1.0, 1.0]]])
    >>> result = text_tests.answer(logits, [[0, 0], [1, -1]])  # (1/4 3/4)**(1/2) against 1/2
    >>> int(result.choice), np.exp(-2 * result.loss).round(12)
    (1, array([0.1875, 0.25  ]))
    """
    if tokens.ndim < 2:
        raise_shape("text_tests.answer", "tokens", tokens.shape, "it must be (..., options, L)")
    tokens = _of_text("text_tests.answer", "tokens", tokens, logits)
    log_p = row_statistics(logits, target=tokens).target_log_probability
    loss = -_means(tokens >= 0, log_p)[0]
    choice = np.where(np.isnan(loss), np.inf, loss).argmin(axis=-1)
    return Answer(np.where(np.isnan(loss).all(axis=-1), -1, choice), loss)


def _of_text(function: str, name: str, a: Any, logits: Any, given: str = "logits") -> Any:
    """`a` in the shape of the places of a text, of which `logits` were `given`."""
    if logits.ndim < 2:
        raise_shape(function, given, logits.shape, "it must be (..., L, V)")
    return one_a_row(function, name, a, logits, given)


def _means(counted: Any, *values: Any) -> Any:
    """Of each of the values the mean over the last axis of what counts."""
    n: Any = counted.shape[-1]
    if not counted.all():
        n = counted.sum(axis=-1, dtype=np.int32)
        values = tuple(np.where(counted, x, 0) for x in values)
    return [x.sum(axis=-1, dtype=x.dtype) / in_dtype(n, x) for x in values]
