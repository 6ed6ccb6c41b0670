"""Compare2Score: image quality from soft comparisons with a few anchors."""

from typing import Any

import numpy as np

from softmap.fit_many import AnchorScores, score_against_anchors
from softmap.softmax import level_scores
from softmap.systems._recipe import Array, broadcast, floats, host_floats, raise_shape, recipe, rows

__all__ = ["comparison_matrix", "levels", "preference", "score", "select_anchors"]

WEIGHTS = (0.0, 0.25, 0.5, 0.75, 1.0)


@recipe(mos_first=floats, std_first=floats, mos_second=floats, std_second=floats)
def levels(mos_first: Any, std_first: Any, mos_second: Any, std_second: Any) -> Any:
    """Comparative level of the second image against the first, from their opinion scores.

    With d = mos_first - mos_second and s = sqrt(std_first**2 + std_second**2), the label that the
    comparator is trained on is

    ===========  ===============  =
    inferior     d > 2 s          0
    worse        s < d <= 2 s     1
    similar      -s < d <= s      2
    better       -2 s < d <= -s   3
    superior     d <= -2 s        4
    ===========  ===============  =

    Parameters
    ----------
    mos_first, std_first, mos_second, std_second : array_like (...)
        Mean opinion scores and their standard deviations, of shapes that broadcast.

    Returns
    -------
    level : array (...) of int8
        0 to 4, as above; -1 where a number is NaN, a mean infinite or a deviation negative.

    Notes
    -----
    In print d = -2 s belongs to no level; here it is superior. Equal means are similar, also with
    both deviations 0.

    Checked against: the inequalities in exact rational arithmetic, boundaries included.

    References
    ----------
    H. Zhu et al., "Adaptive Image Quality Assessment via Teaching Large Multimodal Model to
    Compare", NeurIPS 2024, arXiv:2405.19298, training labels.

    Examples
    --------
    >>> from softmap.systems import compare2score
    >>> compare2score.levels(50, 3, [39, 40, 42, 45, 55, 59, 60], 4)  # s = 5
    array([0, 1, 1, 2, 3, 3, 4], dtype=int8)
    """
    name = "compare2score.levels"
    a, sa, b, sb = broadcast(name, a=mos_first, sa=std_first, b=mos_second, sb=std_second)
    d, s = a.astype(np.float64) - b, np.hypot(sa.astype(np.float64), sb)
    passed = [d <= 2 * s, d <= s, (d <= -s) & (d < 0), (d <= -2 * s) & (d < 0)]
    level = np.sum(np.stack(passed), axis=0, dtype=np.int8)
    return np.where((sa >= 0) & (sb >= 0) & np.isfinite(d), level, np.int8(-1))


@recipe(None, mos=host_floats, std=host_floats)
def select_anchors(
    mos: Any,
    std: Any,
    *,
    n_intervals: int = 5,
    per_interval: int = 1,
    intervals: str = "width",
) -> Any:
    """Images on whose quality people agree, spread over the range of quality.

    The range is cut into intervals, and of each the images of least standard deviation are taken.

    Parameters
    ----------
    mos, std : array_like (n,)
        Mean opinion score and standard deviation of each image. A deviation of 0 is the least one:
        leave out images for which it only says that it is not known.
    n_intervals, per_interval : int
        alpha and beta of the paper.
    intervals : {"width", "count"}
        How "intervals" is read: of equal width, closed on the left and the last one on both sides,
        or of equal numbers of images (the first ones one larger where n is no multiple).

    Returns
    -------
    anchors : array (m,) of int64
        Indices of the anchors, interval by interval from the lowest, within one by deviation. Of
        equal deviations the first image is taken. An interval with fewer images gives what it has,
        an empty one nothing: m is at most ``n_intervals * per_interval``.

    Raises
    ------
    ValueError
        For a number that is not finite, a negative deviation, and counts below 1.

    Notes
    -----
    The paper takes 5 anchors, one an interval. It does not say which reading of "interval" it has.
    Arrays of the host only: it is done once, on few numbers, and says which images to run next.

    Checked against: a plain loop over the intervals.

    References
    ----------
    H. Zhu et al., arXiv:2405.19298, selection of anchors.

    Examples
    --------
    >>> from softmap.systems import compare2score
    >>> mos, std = [0, 1, 2, 3, 10], [3, 2, 2, 4, 5]
    >>> compare2score.select_anchors(mos, std, n_intervals=2)  # 0 to 5 and 5 to 10
    array([1, 4])
    >>> compare2score.select_anchors(mos, std, n_intervals=2, intervals="count")
    array([1, 3])
    """
    name = "compare2score.select_anchors"
    if mos.ndim != 1 or mos.shape != std.shape or not len(mos):
        raise_shape(name, "mos", mos.shape, f"it must be (n,) as std, which is {std.shape}")
    if intervals not in ("width", "count"):
        raise ValueError(f"{name}: intervals = {intervals!r}, it must be one of width, count")
    if min(n_intervals, per_interval) < 1:
        raise ValueError(f"{name}: n_intervals and per_interval must be at least 1")
    good = np.isfinite(mos) & np.isfinite(std) & (std >= 0)
    for i in np.flatnonzero(~good)[:1]:
        what = f"mos[{i}] = {mos[i]}, std[{i}] = {std[i]}"
        raise ValueError(f"{name}: {what}, they must be finite and std at least 0")
    if intervals == "count":
        parts = np.array_split(np.argsort(mos, kind="stable"), n_intervals)
        interval = np.empty(len(mos), np.int64)
        interval[np.concatenate(parts)] = np.repeat(range(n_intervals), [len(p) for p in parts])
    else:
        edges = np.linspace(mos.min(), mos.max(), n_intervals + 1)
        interval = np.searchsorted(edges[1:-1], mos, side="right")
    order = np.lexsort((std, interval))  # stable: the first of equal ones
    first = np.searchsorted(interval[order], interval[order])
    return order[np.arange(len(order)) - first < per_interval]


@recipe(logits=rows)
def preference(logits: Any, *, tokens: Any = None, temperature: float = 100.0) -> Any:
    """Probability that the second image of a prompt beats the first, from five-level logits.

    softmax(logits / temperature) @ [0, 0.25, 0.5, 0.75, 1]

    Parameters
    ----------
    logits : array_like (..., 5) or (..., V)
        Logits of the words inferior, worse, similar, better, superior, in this order; or of a whole
        vocabulary, with `tokens`.
    tokens : sequence of 5 int, optional
        Columns of the five words.
    temperature : float
        100 as in the official code; the paper prints none, which is 1.

    Returns
    -------
    preference : array (...)
        float32 for half and float32 logits, otherwise float64; NaN for a row with NaN.

    Notes
    -----
    The official prompt shows the anchor first, so that this is P(test image beats anchor). Its
    arithmetic is IEEE half without a maximum subtracted, in steps of 2.4e-4 to 4.9e-4 near 1/2.
    With temperature 100 ordinary logits all give weights near 1/2; the anchor matrix that the
    authors publish has entries (1e-9) that only a temperature near 1 can give.

    Checked against: 50-digit softmax.

    References
    ----------
    H. Zhu et al., arXiv:2405.19298, soft comparison; the authors' q_align/evaluate/scorer.py.

    Examples
    --------
    >>> import numpy as np
    >>> from softmap.systems import compare2score
    >>> compare2score.preference(np.log([1, 1, 2, 2, 2]), temperature=1)  # (1/4 + 1 + 3/2 + 2) / 8
    np.float64(0.59375)
    """
    return level_scores(logits, tokens, WEIGHTS, temperature=temperature, probabilities=False).score


@recipe({"preferences": 1, "anchors": 2}, preferences=floats, anchors=floats)
def comparison_matrix(preferences: Any, anchors: Any) -> Any:
    """Tables of the anchors and one test image each: rows beat columns, the test image is last.

    Parameters
    ----------
    preferences : array_like (..., m)
        P(test image beats anchor k), as from :func:`preference`.
    anchors : array_like (m, m)
        ``anchors[i, j]`` = P(anchor i beats anchor j).

    Returns
    -------
    table : array (..., m + 1, m + 1)
        ``anchors`` with a last row ``preferences``, a last column ``1 - preferences`` and 1/2 in
        the corner, for :func:`softmap.fit_many`.

    Notes
    -----
    As in the official code. The paper prints the transposed placement.

    Checked against: the placement, entry by entry.

    References
    ----------
    H. Zhu et al., arXiv:2405.19298, inference; the authors' q_align/evaluate/scorer.py.

    Examples
    --------
    >>> from softmap.systems import compare2score
    >>> compare2score.comparison_matrix([0.75, 0.25], [[0.5, 0.125], [0.875, 0.5]])
    array([[0.5  , 0.125, 0.25 ],
           [0.875, 0.5  , 0.75 ],
           [0.75 , 0.25 , 0.5  ]])
    """
    p, m = preferences, preferences.shape[-1] if preferences.ndim else 0
    if anchors.shape != (m, m):
        rule = f"preferences of {m} anchors need ({m}, {m})"
        raise_shape("compare2score.comparison_matrix", "anchors", anchors.shape, rule)
    table: Array = np.full_like(
        p, 0.5, shape=(*p.shape[:-1], m + 1, m + 1), dtype=np.result_type(p, anchors)
    )
    table[..., :m, :m], table[..., m, :m], table[..., :m, m] = anchors, p, 1 - p
    return table


def score(
    logits: Any,
    anchors: Any,
    *,
    tokens: Any = None,
    temperature: float = 100.0,
    link: str = "logit",
    standard_errors: bool = False,
    n_threads: int | None = None,
) -> AnchorScores:
    """Score images from 0 to 100 by the logits of their comparisons with the anchors.

    :func:`preference`, then the maximum a posteriori scores of the m anchors and the image,

    max over s of sum over i != j of c[i, j] log F(s[i] - s[j]) - sum of s**2 / 2

    with c the :func:`comparison_matrix`, then the lowest of the m + 1 scores to 0 and the highest
    to 100.

    Parameters
    ----------
    logits : array_like (..., m, 5) or (..., m, V)
        For each image and anchor the logits of :func:`preference`, the anchor shown first. An
        anchor with NaN among its logits counts as one that the image was not compared with.
    anchors : array_like (m, m)
        ``anchors[i, j]`` = P(anchor i beats anchor j).
    tokens : sequence of 5 int, optional
        Columns of the five words, in the order inferior to superior.
    temperature : float
        100 as in the official code, 1 as in the paper.
    link : {"logit", "probit"}
        F: logistic as in the official code, or normal as in the paper.
    standard_errors : bool
        Also return standard errors, which take each soft comparison for one observation.
    n_threads : int, optional
        Threads to use at most. The result does not depend on it.

    Returns
    -------
    result : AnchorScores of (...) images
        Of :func:`softmap.score_against_anchors`: `score`, `anchor_scores` (not rescaled), `outside`
        and `status`. With `outside` 1 or -1 the score is exactly 100 or 0, whatever the margin.

    Notes
    -----
    The official code stops Adam (rate 0.1) from a random start after 100 steps, or 50 in its
    evaluation of data sets. For preferences 0.8, 0.62, 0.5, 0.45, 0.2 against the published anchors
    the maximum is 55.1655 (logit) or 55.4380 (probit), Adam's results are 55.11 and 50.90, with
    another random start 55.36 and 53.88. The code also floors the argument of the logarithm at
    1e-6, which changes nothing at the maximum.

    Checked against: 50-digit Newton on the published anchors.

    References
    ----------
    H. Zhu et al., arXiv:2405.19298, inference; the authors' q_align/evaluate/scorer.py (100 steps)
    and IQA_dataset_eval.py (50).

    Examples
    --------
    >>> import numpy as np
    >>> from softmap.systems import compare2score
    >>> anchors = np.array([[0.5, 0.2, 0.05], [0.8, 0.5, 0.3], [0.95, 0.7, 0.5]])
    >>> similar_to_all = np.zeros((1, 3, 5))
    >>> compare2score.score(similar_to_all, anchors).score.round(2)
    array([53.61])
    """
    preferences = preference(logits, tokens=tokens, temperature=temperature)
    return score_against_anchors(
        preferences,
        anchors,
        link=link,
        rescale=(0, 100),
        standard_errors=standard_errors,
        n_threads=n_threads,
    )
