"""Resampled fits: how much scores and ranks vary."""

from __future__ import annotations

import dataclasses
from collections.abc import Hashable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from softmap._backend import cpu
from softmap._columns import Floats, Ints
from softmap._covariance import inverse_information
from softmap._newton import (
    Problem,
    groups_of,
    make_problem,
    newton,
)
from softmap.comparisons import Comparisons
from softmap.diagnostics import strong_components
from softmap.outcomes import NO_TIES, parameter

_WHERE = "Fit.bootstrap"
_MOST_DENSE = 1024  # scores and parameters: above, the inverse is not worth its time
_SET_BYTES = 1 << 26  # of the counts that are held at a time
_LANES = 16  # data sets


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
    if advantage == 0.0:
        c = c.without_order()  # fewer cells
    draw = _sampler(c, by, np.random.default_rng(rng))
    held = {item: score - prior_mean for item, score in anchors.items()}
    tie = None if tie_strength is None else parameter(_WHERE, ties, tie_strength)
    problem = make_problem(
        c, link, ties, advantage=advantage, tie=tie, prior_sd=prior_sd, anchors=held
    )
    best = newton(problem, problem.start(), prior_mean, 1e-8, 100)
    theta = best.theta
    options = _refit_options(problem, theta) if best.converged else None
    found = np.full((n, problem.n), np.nan)
    step = max(_LANES, _SET_BYTES // (24 * c.left.size) // _LANES * _LANES)
    for first in range(0, n, step):
        counts = draw(first, min(step, n - first))
        points = _refit(problem, options, counts)
        for k in np.flatnonzero(np.isnan(points).any(axis=1)):
            again = _with_counts(problem, counts[:, :, k])
            if again is None:
                continue
            start = again.start()
            start[: problem.n] = np.where(again.free, theta[: problem.n], again.held)
            best = newton(again, again.centred(start), prior_mean, 1e-8, 100)
            if best.converged:
                points[k] = best.theta[: problem.n]
        found[first : first + len(points)] = prior_mean + points
    return found


def _refit_options(problem: Problem, theta: Floats) -> tuple[Any, ...] | None:
    """Return what the compiled fit of many needs beside counts; None where it would be slower."""
    if problem.size > _MOST_DENSE:
        return None
    terms, _ = problem.evaluate(theta)
    inverse = inverse_information(problem, terms)
    fixed = (
        problem.link,
        problem.model,
        problem.tie,
        problem.advantage,
        problem.tie_share,
        problem.precision,
    )
    return problem.left, problem.right, fixed, problem.n, theta, inverse


def _refit(problem: Problem, options: tuple[Any, ...] | None, counts: NDArray[Any]) -> Floats:
    """Return (sets, items) scores less the prior mean; NaN where that is left to `newton`, which
    decides as well whether there is a maximum.
    """
    n_sets = counts.shape[2]
    if options is None:
        return np.full((n_sets, problem.n), np.nan)
    theta, done = cpu().refit(*options, counts, None)
    if problem.advantage is None or problem.at_tie is not None:
        wins, losses, drawn = (x.any(axis=0) for x in counts)
        if problem.advantage is None:  # a tie is a win of both
            done &= (wins | drawn) & (losses | drawn)
        if problem.at_tie is not None:
            done &= drawn & (wins | losses)
    if problem.precision == 0.0:
        done &= [_determined(problem, counts[:, :, k]) for k in range(n_sets)]
    points: Floats = problem.centred(theta.T).T[:, : problem.n]
    points[~done] = np.nan
    return points


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
    rank = _ranks(good)
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


def _ranks(scores: Floats) -> Ints:
    """Return 1 + the number of higher scores in each row."""
    order = np.argsort(-scores, axis=1)
    ordered = np.take_along_axis(scores, order, axis=1)
    higher = np.arange(scores.shape[1]) * np.ones(scores.shape, dtype=np.int64)
    higher[:, 1:][ordered[:, 1:] == ordered[:, :-1]] = 0
    rank = np.empty_like(higher)
    np.put_along_axis(rank, order, 1 + np.maximum.accumulate(higher, axis=1), axis=1)
    return rank


def _sampler(c: Comparisons, by: str, rng: np.random.Generator) -> Any:
    """Return a function of (first, n) that draws the counts (3, cells, n) of data sets first .."""
    rows = c.rows
    if by == "cluster" and (rows is None or "clusters" not in rows.codes):
        cure = "use Comparisons.from_pairs with clusters="
        raise ValueError(f"{_WHERE}: by = 'cluster', but these comparisons have none ({cure})")
    key, shape = int(rng.integers(2**64, dtype=np.uint64)), (3, c.left.size, -1)
    if rows is None:
        if c.squares is not None:
            raise ValueError(
                f"{_WHERE}: sums of weights or probabilities cannot be resampled by row (keep the "
                "rows with clusters=range(len(left)) in Comparisons.from_pairs)"
            )
        counts = c.counts.astype(np.float64).ravel()
        total = c.counts.sum()
        return lambda first, n: cpu().draw_counts(counts, total, key, first, n, None).reshape(shape)
    n_items, size = len(c.items), rows.left.size
    cell = np.searchsorted(c.left * n_items + c.right, rows.left * n_items + rows.right)
    unit = np.arange(size)
    if by == "cluster":
        unit, size = rows.codes["clusters"], len(rows.labels["clusters"])
    outcome, row = np.nonzero(rows.amounts)
    category = outcome * c.left.size + cell[row]
    order = np.argsort(category, kind="stable")
    entries = (unit[row][order], category[order], rows.amounts[outcome, row][order])
    one = np.ones(size)

    def draw(first: int, n: int) -> Floats:
        times = cpu().draw_counts(one, size, key, first, n, None)
        drawn: Floats = cpu().weigh_draws(times, *entries, 3 * c.left.size, None)
        return drawn.reshape(shape)

    return draw


def _determined(problem: Problem, counts: NDArray[Any]) -> bool:
    """Whether wins and losses tie all items to each other, or to the anchors."""
    winner, loser = _edges(problem, counts)
    node = np.arange(problem.n)
    if not problem.free.all():
        node[~problem.free] = np.argmax(~problem.free)
    label = strong_components(problem.n, node[winner], node[loser])[node]
    return bool((label == label[0]).all())


def _edges(problem: Problem, counts: NDArray[Any]) -> tuple[Ints, Ints]:
    """Return winner and loser of each kind of win that occurs; a tie is a win of each side."""
    first, second = (counts[0] > 0) | (counts[2] > 0), (counts[1] > 0) | (counts[2] > 0)
    winner = np.concatenate([problem.left[first], problem.right[second]])
    return winner, np.concatenate([problem.right[first], problem.left[second]])


def _with_counts(problem: Problem, counts: NDArray[Any]) -> Problem | None:
    """Return the objective with other counts, None where it has no unique maximum."""
    counts = np.ascontiguousarray(counts, np.int64 if counts.dtype.kind == "i" else np.float64)
    wins, losses, drawn = (bool(x.any()) for x in counts)
    if problem.advantage is None and not (drawn or (wins and losses)):
        return None
    tie = problem.tie
    if problem.model is not None and tie is None:
        if not (wins or losses):
            return None
        if not drawn:  # the strength is then that without ties
            tie = parameter(_WHERE, problem.model, NO_TIES[problem.model])
    if problem.precision == 0.0 and not _determined(problem, counts):
        return None
    group, sizes = groups_of(problem.n, *_edges(problem, counts))
    return dataclasses.replace(problem, amounts=counts, tie=tie, group=group, sizes=sizes)
