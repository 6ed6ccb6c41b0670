"""Whether beats go round in circles, more than chance would make them."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Hashable
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from softmap._check import check_choice
from softmap._columns import Floats, Ints
from softmap._newton import make_problem, newton
from softmap.comparisons import Comparisons, check_comparisons, sums
from softmap.diagnostics import Finding
from softmap.result import expected_shares

_MOST_WEDGES = 500_000  # pairs of pairs that are looked at, to see whether the third pair met
_MOST_SIMULATED = 20_000  # triples
_DRAWS = 1_000_000  # of pairs, in all simulations together
_PRIOR_SD = 10.0  # that of `fit`
_ERRORS = 4.0  # beyond what is expected, as for the other findings


@dataclasses.dataclass(frozen=True)
class Intransitivity:
    """Result of `intransitivity`.

    Attributes
    ----------
    share : float
        Share of cyclic triples among the decided ones; NaN where no triple is decided.
    expected, spread : float
        Mean and standard deviation of `share` over simulated data of the same size in which nothing
        but chance makes cycles.
    strength : float
        Mean over the triples of how clear each cycle is; 0 for a triple that is none.
    excess : float
        `strength` minus its mean over the simulated data, in standard deviations of these.
    n_triples : int
        Decided triples that were counted.
    sampling_error : float
        Standard error of `share` from counting a sample of the triples; 0 where all were counted.
    n_simulations : int
    worst : tuple of 3 items, or ()
        The clearest cycle: the first beats the second, this the third, and this the first.
    significant : bool
        Whether `strength` is more than four standard deviations above its mean, and above all
        simulated ones.
    """

    share: float
    expected: float
    spread: float
    strength: float
    excess: float
    n_triples: int
    sampling_error: float
    n_simulations: int
    worst: tuple[Hashable, ...]
    significant: bool

    @property
    def findings(self) -> tuple[Finding, ...]:
        """The finding "intransitive", or none."""
        if not self.significant:
            return ()
        a, b, c = self.worst
        text = (
            f"beats go in circles: {a} beats {b}, {b} beats {c} and {c} beats {a}; "
            f"{100 * self.share:.3g}% of the triples do so, and chance would make it "
            f"{100 * self.expected:.3g}% (one score an item cannot describe that)"
        )
        return (Finding("intransitive", text, self.worst),)


def intransitivity(
    comparisons: Comparisons, *, link: str = "logit", rng: Any = 0
) -> Intransitivity:
    """Say whether more triples of items are cyclic than chance would make.

    An item beats another one where it won more of their comparisons (by weight; ties aside). Of
    three items that all met, and none of which is even with another, the triple is cyclic where
    each beats one and loses to one. A cycle is as clear as its closest pair: the smallest of the
    three leads abs(sum of w x) / sqrt(sum of w**2), with weights w and x = +1 or -1, in standard
    deviations of a fair coin.

    Chance makes cycles among items that are close, so that the count is compared with simulated
    data: the same pairs, as many comparisons and ties each, won with the probabilities of a fitted
    model, which has one score an item.

    Parameters
    ----------
    comparisons : Comparisons
    link : "logit" or "probit", default "logit"
        Of the fitted model.
    rng : int or numpy Generator, default 0
        For the simulations, and for the sample of triples.

    Returns
    -------
    Intransitivity
        `findings` has one with the code "intransitive" where the cycles are more than chance.

    Raises
    ------
    ValueError
        Unknown `link`.

    Notes
    -----
    All triples are counted while there are no more than 500,000 pairs of pairs with an item in
    common, all of them of items of larger number; beyond, a sample of so many of these, which has
    each triple with the same probability. The simulations look at 20,000 triples at most.

    The fitted scores are drawn together before they serve, to the spread that is left of theirs
    when their errors are taken off (Paule and Mandel): errors spread scores, and scores that are
    apart make fewer cycles. A first advantage is estimated where the order is known. Weighted
    comparisons are simulated as (sum of w)**2 / (sum of w**2) equal ones, and a probability as one
    vote.

    References
    ----------
    M. G. Kendall and B. Babington Smith, On the method of paired comparisons, Biometrika 31 (1940).
    R. C. Paule and J. Mandel, Consensus values and weighting factors, J. Res. NBS 87 (1982).

    Examples
    --------
    >>> import softmap
    >>> hands = ["rock", "paper", "scissors"]
    >>> votes = softmap.Comparisons.from_matrix([[0, 1, 9], [9, 0, 1], [1, 9, 0]], items=hands)
    >>> found = softmap.intransitivity(votes)
    >>> found.share, found.worst
    (1.0, ('rock', 'scissors', 'paper'))
    >>> found.significant, round(found.expected, 1)
    (True, 0.2)
    """
    check_comparisons("intransitivity", comparisons)
    check_choice("intransitivity", "link", link, ("logit", "probit"))
    rng = np.random.default_rng(rng)
    cells = _cells_of(comparisons)
    triples, sampled = _triples(len(comparisons.items), cells, rng)
    lead = cells.leads(cells.lead)
    strength, decided = _cycles(lead[triples])
    n_decided = int(decided.sum())
    if not n_decided:
        nan = math.nan
        return Intransitivity(nan, nan, nan, nan, nan, 0, 0.0, 0, (), False)
    share = float(np.count_nonzero(strength) / n_decided)
    worst = triples[:, np.argmax(strength)]
    if triples.shape[1] > _MOST_SIMULATED:
        part = rng.choice(triples.shape[1], _MOST_SIMULATED, replace=False)
        triples, strength = triples[:, part], strength[part]
    shares, strengths = _simulated(comparisons, cells, triples, link, rng)
    mean, sd = strengths.mean(), strengths.std()
    beyond = float(strength.mean() - mean)
    excess = beyond / sd if sd else math.copysign(math.inf, beyond) if beyond else 0.0
    return Intransitivity(
        share,
        float(np.nanmean(shares)),
        float(np.nanstd(shares)),
        float(strength.mean()),
        float(excess),
        n_decided,
        math.sqrt(share * (1.0 - share) / n_decided) if sampled else 0.0,
        shares.size,
        _named(comparisons.items, cells, worst, lead[worst]) if share else (),
        bool(excess > _ERRORS and strength.mean() > strengths.max()),
    )


class _Cells(NamedTuple):
    """What was decided between two items, one of them shown first. A pair has two cells at most."""

    left: Ints
    right: Ints
    pair: Ints
    """Index into `low` and `high`."""
    lead: Floats
    """Weight of the wins of the left minus that of its losses."""
    weight: Floats
    """Weight of both."""
    squares: Floats
    """Sum of the squared weights."""
    ties: Floats
    low: Ints
    high: Ints
    """Of each pair, sorted: low < high."""

    def leads(self, lead: Floats) -> Floats:
        """Return, for each pair, how far the lower item is ahead, in standard deviations."""
        n = self.low.size
        total = sums(self.pair, np.where(self.left < self.right, lead, -lead), n)
        return total / np.sqrt(sums(self.pair, self.squares, n))


def _cells_of(c: Comparisons) -> _Cells:
    weight = (c.wins + c.losses).astype(np.float64)
    squares = weight
    if c.squares is not None:  # of a row: that of its win plus its loss
        squares = c.squares[0] + c.squares[1] + (2.0 * c.squares[3] if len(c.squares) > 3 else 0.0)
    at = np.flatnonzero(squares > 0.0)
    left, right, n = c.left[at], c.right[at], len(c.items)
    key, pair = np.unique(
        np.minimum(left, right) * n + np.maximum(left, right), return_inverse=True
    )
    lead = (c.wins - c.losses).astype(np.float64)
    ties = c.ties.astype(np.float64)
    return _Cells(left, right, pair, lead[at], weight[at], squares[at], ties[at], key // n, key % n)


def _triples(n: int, cells: _Cells, rng: np.random.Generator) -> tuple[Ints, bool]:
    """Return the pairs (i, j), (j, k) and (i, k) of triples i < j < k that all met, and whether
    these are a sample.
    """
    low, high = cells.low, cells.high
    later = np.searchsorted(low, low, side="right") - np.arange(low.size) - 1
    ends = np.cumsum(later)  # of the pairs of pairs whose lowest item is the same
    total = int(ends[-1]) if ends.size else 0
    sampled = total > _MOST_WEDGES
    wedge = rng.integers(0, total, _MOST_WEDGES) if sampled else np.arange(total)
    first = np.searchsorted(ends, wedge, side="right")
    second = first + 1 + wedge - (ends[first] - later[first])
    wanted, key = high[first] * n + high[second], low * n + high
    third = np.searchsorted(key, wanted)
    met = key[np.minimum(third, key.size - 1)] == wanted if key.size else third > 0
    return np.stack([first[met], third[met], second[met]]), sampled


def _cycles(leads: Floats) -> tuple[Floats, NDArray[np.bool_]]:
    """Return how clear the cycle of each triple is, 0 where there is none, and which are decided;
    leads (3, triples) are those of i over j, j over k and i over k.
    """
    a, b, c = leads[0], leads[1], -leads[2]
    forward, backward = np.minimum(np.minimum(a, b), c), -np.maximum(np.maximum(a, b), c)
    return np.maximum(np.maximum(forward, backward), 0.0), (a != 0.0) & (b != 0.0) & (c != 0.0)


def _simulated(
    c: Comparisons, cells: _Cells, triples: Ints, link: str, rng: np.random.Generator
) -> tuple[Floats, Floats]:
    """Return the share of cycles and their mean strength, of each simulation."""
    used, index = np.unique(triples, return_inverse=True)
    index = index.reshape(triples.shape)
    place = np.full(cells.low.size, -1)
    place[used] = np.arange(used.size)
    at = np.flatnonzero(place[cells.pair] >= 0)
    kept: dict[str, Any] = {name: getattr(cells, name)[at] for name in cells._fields[:7]}
    kept |= {"pair": place[cells.pair[at]], "low": cells.low[used], "high": cells.high[used]}
    some = cells._replace(**kept)
    p = _probabilities(c, some, link)
    votes = np.maximum(np.rint(some.weight**2 / some.squares), 1.0).astype(np.int64)
    shares, strengths = [], []
    for _ in range(int(np.clip(_DRAWS // votes.size, 100, 1000))):
        lead = some.weight / votes * (2.0 * rng.binomial(votes, p) - votes)
        strength, decided = _cycles(some.leads(lead)[index])
        n_decided = np.count_nonzero(decided)
        shares.append(np.count_nonzero(strength) / n_decided if n_decided else math.nan)
        strengths.append(strength.mean())
    return np.array(shares), np.array(strengths)


def _probabilities(c: Comparisons, cells: _Cells, link: str) -> Floats:
    """Return the probability that the left wins a decided comparison, by scores that are drawn
    together.
    """
    n = len(c.items)
    both = c.ordered and c.wins.any() and c.losses.any()
    advantage = None if both else 0.0  # None: estimated
    problem = make_problem(
        c, link, "half", advantage=advantage, tie=0.0, prior_sd=_PRIOR_SD, anchors={}
    )
    theta = newton(problem, problem.start(), 0.0, 1e-6, 100).theta
    curvature = problem.evaluate(theta)[0].curvature
    information = sums(c.left, curvature, n) + sums(c.right, curvature, n) + _PRIOR_SD**-2
    s = theta[:n] * _shrinkage(theta[:n], 1.0 / information)
    first = float(theta[n]) if both else 0.0
    p = expected_shares(s[cells.left] - s[cells.right] + first, link).win
    # A tie is half a win in the fit, and stays a tie in the simulation.
    p = 0.5 + (p - 0.5) * (cells.weight + cells.ties) / cells.weight
    clipped: Floats = np.clip(p, 0.0, 1.0)
    return clipped


def _shrinkage(scores: Floats, noise: Floats) -> Floats:
    """Return sqrt(v / (v + noise)) with the v for which the sum of score**2 / (v + noise) is the
    number of scores minus one: the variance of the true scores, by Paule and Mandel.
    """
    squares = (scores - scores.mean()) ** 2
    low, high = 0.0, float(squares.sum()) + 1e-300
    for _ in range(60):
        middle = (low + high) / 2.0
        if (squares / (middle + noise)).sum() > scores.size - 1:
            low = middle
        else:
            high = middle
    factors: Floats = np.sqrt(low / (low + noise))
    return factors


def _named(
    items: tuple[Hashable, ...], cells: _Cells, triple: Ints, leads: Floats
) -> tuple[Hashable, ...]:
    """Return the items of a cycle, each of which beats the next one."""
    i, j, k = cells.low[triple[0]], cells.high[triple[0]], cells.high[triple[1]]
    order = (i, j, k) if leads[0] > 0.0 else (i, k, j)
    return tuple(items[x] for x in order)
