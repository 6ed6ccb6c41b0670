"""Covariances of the scores of a labelled fit, and ranks by them."""

from __future__ import annotations

import itertools
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from softmap._columns import Floats
from softmap._newton import Problem, Terms, diagonal_scale
from softmap._rows import Rows
from softmap._sparse import probed_variances
from softmap.comparisons import sums

_CELLS = 1 << 18  # at a time


def inverse_information(problem: Problem, terms: Terms) -> Floats:
    """Return the inverse of `deflated`; anchors do not vary."""
    matrix = problem.deflated(terms)
    scale = diagonal_scale(matrix)
    v: Floats = scale[:, None] * np.linalg.inv(scale[:, None] * matrix * scale) * scale
    anchors = np.flatnonzero(~problem.free)
    v[anchors] = v[:, anchors] = 0.0
    return v


def covariance(
    problem: Problem, theta: Floats, terms: Terms, errors: str, ties: str, rows: Rows | None
) -> tuple[Floats, Floats]:
    """Return the covariance (n, n) of the centred or anchored scores, and the variances of what
    theta has beside the scores.
    """
    n, anchors = problem.n, np.flatnonzero(~problem.free)
    v = inverse_information(problem, terms)
    v = problem.centred(problem.centred(v).T)  # without the shifts of the groups
    if errors == "sandwich":
        meat = problem.information(*_meat(problem, theta, ties))
        v = v @ meat @ v
    elif errors == "cluster" and rows is not None:
        v = v @ _clustered(problem, theta, ties, rows) @ v
    variances = np.maximum(0.0, np.diag(v)[n:])
    v = v[:n, :n]
    if problem.sizes.size > 1 and problem.floating.any():
        shift = _shifts(problem)
        v = v + shift[problem.group][:, None] * (problem.group[:, None] == problem.group)
        if not anchors.size:
            v = v - v.mean(axis=0)
            v = v - v.mean(axis=1)[:, None]
    return (v + v.T) / 2.0, variances


def variances_alone(
    problem: Problem, theta: Floats, terms: Terms, errors: str, ties: str, rows: Rows | None
) -> tuple[Floats, Floats, float]:
    """Return the diagonal of what `covariance` returns, without the rest, and the typical relative
    error of its square root.
    """
    n, meat, times = problem.n, None, None
    if errors != "fisher":
        meat = _meat(problem, theta, ties)
    if errors == "cluster" and rows is not None:
        times = _times_clustered(problem, theta, ties, rows)
    found, error = probed_variances(problem, terms, meat, times)
    v = found[:n]
    v[~problem.free] = 0.0
    if problem.sizes.size > 1 and problem.floating.any():
        v = v + _shifts(problem)[problem.group]
        if problem.free.all():
            v = v - 1.0 / (problem.precision * n)
    return v, found[n:], error


def _meat(problem: Problem, theta: Floats, ties: str) -> list[Floats]:
    """Return the weights for `information` that make it the sum of the outer squares."""
    meat = [np.zeros(problem.left.size) for _ in range(1 if problem.at_tie is None else 3)]
    for start in range(0, problem.left.size, _CELLS):
        at = slice(start, start + _CELLS)
        slopes = _slopes(
            problem, theta, problem.difference(theta, problem.left[at], problem.right[at]), ties
        )
        pairs = itertools.combinations_with_replacement(slopes, 2)  # score first
        for weight, (a, b) in zip(meat, pairs, strict=False):
            weight[at] = _products(problem, at, a, b)
    zero = np.broadcast_to(0.0, problem.left.shape)
    return meat if len(meat) == 3 else [*meat, zero, zero]


def _shifts(problem: Problem) -> Floats:
    """Return the variance of the shift of each group: that of the mean of its priors."""
    floats = problem.floating
    shift = np.zeros(floats.size)
    shift[floats] = 1.0 / (problem.precision * problem.sizes[floats])
    return shift


class Slopes(NamedTuple):
    """Of one win, loss and tie at each difference, (3, cells) each: derivatives of the
    log-likelihood by the difference of scores, and by the tie parameter.
    """

    score: Floats
    tie: Floats


def _slopes(problem: Problem, theta: Floats, d: Floats, ties: str) -> Slopes:
    score, tie = np.zeros((2, 3, d.size))
    for outcome in range(2 if problem.model is None else 3):
        counts = np.zeros((3, d.size))
        counts[outcome] = 1.0
        terms = problem.terms(theta, d, counts)
        score[outcome], tie[outcome] = terms.slope, terms.tie_slope
    if problem.at_tie is None:  # not asked for, and infinite where nothing ever ties
        tie[:] = 0.0
    if ties == "half":
        score[2] = 0.5 * (score[0] + score[1])
    return Slopes(score, tie)


def _products(problem: Problem, at: slice, a: Floats, b: Floats) -> Floats:
    """Return the sum over comparisons of (amounts @ a) (amounts @ b), from the sums of the products
    of the amounts of win, loss and tie, of these cells.
    """
    total = np.zeros(a.shape[1])
    pairs = ((0, 0), (1, 1), (2, 2), (0, 1), (0, 2), (1, 2))
    for product, (j, k) in zip(problem.squares, pairs, strict=False):  # the last three: if soft
        if problem.dropped and k == 2:
            continue
        total += product[at] * (a[j] * b[k] if j == k else a[j] * b[k] + a[k] * b[j])
    return total


def _times_clustered(problem: Problem, theta: Floats, ties: str, rows: Rows) -> Any:
    """Return what multiplies rows by `_clustered`, without the matrix."""
    n, a, t = problem.n, problem.at_advantage, problem.at_tie
    d = problem.difference(theta, rows.left, rows.right)
    slopes = _slopes(problem, theta, d, ties)
    slope, tie_slope = ((rows.amounts * x).sum(axis=0) for x in slopes)
    cluster, total = rows.codes["clusters"], len(rows.labels["clusters"])

    def times_row(x: Floats) -> Floats:
        along = x[rows.left] - x[rows.right]
        if a is not None:
            along += x[a]
        along *= slope
        if t is not None:
            along += tie_slope * x[t]
        scale = total / (total - 1.0) * sums(cluster, along, total)[cluster]
        flow = scale * slope
        y = np.zeros(problem.size)
        y[:n] = sums(rows.left, flow, n) - sums(rows.right, flow, n) + problem.precision * x[:n]
        if a is not None:
            y[a] = flow.sum()
        if t is not None:
            y[t] = (scale * tie_slope).sum()
        return y

    return lambda x: np.stack([times_row(row) for row in x])


def _clustered(problem: Problem, theta: Floats, ties: str, rows: Rows) -> Floats:
    """Return the precision of the prior plus G / (G - 1) times the sum over the G clusters of the
    outer square of the derivative of their log-likelihood.
    """
    n, m = problem.n, problem.size
    d = problem.difference(theta, rows.left, rows.right)
    slopes = _slopes(problem, theta, d, ties)
    slope, tie_slope = ((rows.amounts * x).sum(axis=0) for x in slopes)
    cluster = rows.codes["clusters"]
    order = np.argsort(cluster, kind="stable")
    total = len(rows.labels["clusters"])
    step = max(1, 4_000_000 // m)  # clusters at a time
    bounds = np.searchsorted(cluster[order], np.arange(0, total + step, step))
    meat = np.zeros((m, m))
    for block, (start, end) in enumerate(itertools.pairwise(bounds)):
        at = order[start:end]
        base = (cluster[at] - block * step) * m
        count = min(step, total - block * step)
        sides = [(base + rows.left[at], slope[at]), (base + rows.right[at], -slope[at])]
        if problem.at_advantage is not None:
            sides.append((base + problem.at_advantage, slope[at]))
        if problem.at_tie is not None:
            sides.append((base + problem.at_tie, tie_slope[at]))
        scores = sum(sums(key, amount, count * m) for key, amount in sides)
        scores = np.reshape(scores, (count, m))
        meat += scores.T @ scores
    meat *= total / (total - 1.0)
    meat[range(n), range(n)] += problem.precision
    return meat


def ranks(scores: Floats, v: Floats, quantile: float) -> tuple[NDArray[np.int64], ...]:
    """Return rank, rank_low and rank_high as `Fit` defines them."""
    lead = scores - scores[:, None]  # [i, j]: by how much j is ahead of i
    margin = quantile * np.sqrt(np.maximum(np.diag(v) + np.diag(v)[:, None] - 2.0 * v, 0.0))
    return (
        1 + np.count_nonzero(lead > 0.0, axis=1),
        1 + np.count_nonzero(lead > margin, axis=1),
        scores.size - np.count_nonzero(-lead > margin, axis=1),
    )
