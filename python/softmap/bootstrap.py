"""Resampled fits: how much scores and ranks vary."""

from __future__ import annotations

import dataclasses
from collections.abc import Hashable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from softmap._columns import Floats, Ints
from softmap._newton import Problem, groups_of, make_problem, newton, used_counts
from softmap.comparisons import Comparisons, sums
from softmap.diagnostics import strong_components
from softmap.outcomes import NO_TIES, parameter

_WHERE = "Fit.bootstrap"


@dataclasses.dataclass(frozen=True, repr=False)
class Bootstrap:
    """What `Fit.bootstrap` returns.

    Attributes
    ----------
    items : tuple of labels
    scores : (n, items)
        Of each resampled data set, in the units of the fit; NaN where it had no maximum.
    standard_errors : (items,)
        Standard deviations of `scores`.
    low, high : (items,)
        Percentile intervals at the level of the fit.
    rank_low, rank_high : (items,)
        Ranks between which the item was in that share of the data sets.
    n_failed : int
        Data sets that had no maximum or did not converge.
    """

    items: tuple[Hashable, ...]
    scores: Floats
    standard_errors: Floats
    low: Floats
    high: Floats
    rank_low: Ints
    rank_high: Ints
    n_failed: int

    def __repr__(self) -> str:
        failed = f", {self.n_failed} failed" * bool(self.n_failed)
        return f"Bootstrap({len(self.scores)} of {len(self.items)} items{failed})"


def bootstrap(
    c: Comparisons,
    scores: Floats,
    *,
    link: str,
    ties: str,
    advantage: float | None,
    tie_strength: float | None,
    prior_sd: float,
    prior_mean: float,
    anchors: dict[Hashable, float],
    n: int,
    by: str,
    rng: Any,
) -> Floats:
    """Return (n, items) scores in units of the link, NaN where there is no maximum."""
    if by not in ("row", "cluster"):
        raise ValueError(f"{_WHERE}: by = {by!r}, it must be row or cluster")
    if not (isinstance(n, int) and n >= 2):
        raise ValueError(f"{_WHERE}: n = {n!r}, it must be an integer from 2")
    draw = _resampler(c, by, np.random.default_rng(rng))
    held = {item: score - prior_mean for item, score in anchors.items()}
    tie = None if tie_strength is None else parameter(_WHERE, ties, tie_strength)
    problem = make_problem(
        c, link, ties, advantage=advantage, tie=tie, prior_sd=prior_sd, anchors=held
    )
    found = np.full((n, scores.size), np.nan)
    for k in range(n):
        counts = used_counts(draw(), ties)
        again = _with_counts(problem, counts)
        if again is None:
            continue
        start = again.start()
        start[: scores.size] = np.where(again.free, scores - prior_mean, again.held)
        point, _, converged = newton(again, again.centred(start), prior_mean, 1e-8, 100)
        if converged:
            found[k] = prior_mean + point[: scores.size]
    return found


def summarise(items: tuple[Hashable, ...], scores: Floats, level: float) -> Bootstrap:
    """Return the statistics of (n, items) scores."""
    good = scores[~np.isnan(scores).any(axis=1)]
    if len(good) < 2:
        raise ValueError(
            f"{_WHERE}: {len(scores) - len(good)} of {len(scores)} resampled data sets have no "
            "maximum (fit with a finite prior_sd)"
        )
    tail = 0.5 * (1.0 - level)
    low, high = np.quantile(good, [tail, 1.0 - tail], axis=0)
    rank = np.array([1 + np.searchsorted(np.sort(-row), -row) for row in good])
    best = np.quantile(rank, tail, axis=0, method="lower")
    worst = np.quantile(rank, 1.0 - tail, axis=0, method="higher")
    return Bootstrap(
        items,
        scores,
        good.std(axis=0, ddof=1),
        low,
        high,
        best.astype(np.int64),
        worst.astype(np.int64),
        len(scores) - len(good),
    )


def _resampler(c: Comparisons, by: str, rng: np.random.Generator) -> Any:
    """Return a function that draws (3, cells) counts."""
    rows = c.rows
    if by == "cluster" and (rows is None or "clusters" not in rows.codes):
        cure = "use Comparisons.from_pairs with clusters="
        raise ValueError(f"{_WHERE}: by = 'cluster', but these comparisons have none ({cure})")
    if rows is None:
        if c.squares is not None:
            raise ValueError(
                f"{_WHERE}: sums of weights or probabilities cannot be resampled by row (keep the "
                "rows with clusters=range(len(left)) in Comparisons.from_pairs)"
            )
        counts = c.counts
        total = int(counts.sum())
        return lambda: rng.multinomial(total, counts.ravel() / total).reshape(counts.shape)
    n = len(c.items)
    cell = np.searchsorted(c.left * n + c.right, rows.left * n + rows.right)
    unit, size = np.arange(rows.left.size), rows.left.size
    if by == "cluster":
        unit, size = rows.codes["clusters"], len(rows.labels["clusters"])

    def draw() -> NDArray[Any]:
        times = rng.multinomial(size, np.full(size, 1.0 / size))[unit]
        return np.stack([sums(cell, times * amount, c.left.size) for amount in rows.amounts])

    return draw


def _with_counts(problem: Problem, counts: Floats) -> Problem | None:
    """Return the objective with other counts, None where it has no unique maximum."""
    drawn = counts[2] > 0.0
    first, second = (counts[0] > 0.0) | drawn, (counts[1] > 0.0) | drawn
    decided = counts[:2].any(axis=1)
    if problem.advantage is None and not (first.any() and second.any()):
        return None
    tie = problem.tie
    if problem.model is not None and tie is None:
        if not decided.any():
            return None
        if not drawn.any():  # the strength is then that without ties
            tie = parameter(_WHERE, problem.model, NO_TIES[problem.model])
    winner = np.concatenate([problem.left[first], problem.right[second]])
    loser = np.concatenate([problem.right[first], problem.left[second]])
    if problem.precision == 0.0:
        node = np.arange(problem.n)
        if not problem.free.all():
            node[~problem.free] = np.argmax(~problem.free)
        label = strong_components(problem.n, node[winner], node[loser])[node]
        if (label != label[0]).any():
            return None
    group, sizes = groups_of(problem.n, winner, loser)
    return dataclasses.replace(problem, counts=counts, tie=tie, group=group, sizes=sizes)
