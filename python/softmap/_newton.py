"""The objective of a labelled fit, its maximum and its covariance."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from softmap._backend import cpu
from softmap._columns import Floats, Ints
from softmap._rows import Rows
from softmap.comparisons import Comparisons, sums
from softmap.diagnostics import connected, win_edges

_EPS = float(np.finfo(np.float64).eps)


@dataclasses.dataclass(frozen=True)
class Problem:
    """The objective. A point theta holds the n scores less the prior mean, each group of connected
    items without an anchor with mean zero (as at the maximum), then the advantage if estimated.
    """

    n: int
    link: str
    left: Ints
    right: Ints
    wins: Floats  # with half of the ties
    losses: Floats
    squares: Floats  # (6, cells): as in Comparisons
    precision: float  # of the prior, 1 / sd^2
    estimated: bool
    fixed: float  # advantage where it is not estimated
    held: Floats  # scores of the anchors less the prior mean, NaN for other items
    group: Ints  # number of the connected group of each item
    sizes: Ints  # items per group

    @property
    def free(self) -> NDArray[np.bool_]:
        """Which items are not anchors."""
        return np.isnan(self.held)

    @property
    def floating(self) -> NDArray[np.bool_]:
        """Which groups have no anchor."""
        anchors = sums(self.group, ~self.free, self.sizes.size)
        return np.equal(anchors, 0.0)

    def start(self) -> Floats:
        """Return the first point: every item at the mean of its group's anchors, or at zero."""
        anchors = ~self.free
        total = sums(self.group[anchors], self.held[anchors], self.sizes.size)
        count = sums(self.group, anchors, self.sizes.size)
        theta = np.where(self.free, (total / np.maximum(count, 1.0))[self.group], self.held)
        return np.append(theta, 0.0) if self.estimated else theta

    def terms(self, theta: Floats, wins: Floats, losses: Floats) -> tuple[Floats, Floats, Floats]:
        """Return log-likelihood, slope and curvature of each cell."""
        advantage = theta[self.n] if self.estimated else self.fixed
        d = theta[self.left] - theta[self.right] + advantage
        value, slope, curvature = np.empty_like(d), np.empty_like(d), np.empty_like(d)
        cpu().pair_terms(d, wins, losses, self.link, value, slope, curvature)
        return value, slope, curvature

    def evaluate(self, theta: Floats) -> tuple[Floats, Floats, Floats]:
        """Return the cells' log-likelihoods, the objective's gradient, the cells' curvatures."""
        value, slope, curvature = self.terms(theta, self.wins, self.losses)
        n = self.n
        gradient = sums(self.left, slope, n) - sums(self.right, slope, n)
        gradient -= self.precision * theta[:n]
        gradient[~self.free] = 0.0
        if self.estimated:
            gradient = np.append(gradient, slope.sum())
        return value, gradient, curvature

    def information(self, weight: Floats) -> Floats:
        """Return the precision of the prior plus the sum over cells of weight * x x', where x is +1
        at left, -1 at right, +1 at the advantage.
        """
        n = self.n
        matrix = np.zeros((n + self.estimated, n + self.estimated))
        matrix[self.left, self.right] = -weight  # no pair occurs twice in this order
        matrix[:n, :n] += matrix[:n, :n].T
        as_left, as_right = sums(self.left, weight, n), sums(self.right, weight, n)
        matrix[range(n), range(n)] = as_left + as_right + self.precision
        if self.estimated:
            matrix[n, :n] = matrix[:n, n] = as_left - as_right
            matrix[n, n] = weight.sum()
        return matrix

    def deflated(self, curvature: Floats) -> Floats:
        """Return the information with the common shift of each floating group made as stiff as its
        softest item, and with anchors that do not move. Shifts are eigenvectors of the information
        (eigenvalue: the precision) and the gradient has no part along them, so the Newton step does
        not change, and maximum likelihood (precision 0) or a very weak prior is no longer singular.
        """
        matrix = self.information(curvature)
        n = self.n
        softest = np.full(self.sizes.size, np.inf)
        np.minimum.at(softest, self.group, np.diag(matrix)[:n])
        shift = np.where(self.floating, softest / self.sizes, 0.0)[self.group]
        matrix[:n, :n] += shift[:, None] * (self.group[:, None] == self.group)
        anchors = np.flatnonzero(~self.free)
        matrix[anchors] = matrix[:, anchors] = 0.0
        matrix[anchors, anchors] = 1.0
        return matrix

    def centred(self, x: Floats) -> Floats:
        """Return x (n or n + 1, ...) with the mean of each floating group over the first n rows
        taken off.
        """
        order = np.argsort(self.group, kind="stable")
        starts = np.concatenate([[0], np.cumsum(self.sizes)[:-1]])
        total = np.add.reduceat(x[: self.n][order], starts, axis=0)
        x = x.copy()
        x[: self.n] -= ((total.T * self.floating) / self.sizes).T[self.group]
        return x

    def gradient_max(self, gradient: Floats) -> float:
        cell = self.wins + self.losses
        weight = sums(self.left, cell, self.n) + sums(self.right, cell, self.n)
        if self.estimated:
            weight = np.append(weight, cell.sum())
        return float(np.max(np.abs(gradient) / np.maximum(1.0, weight)))


def make_problem(
    c: Comparisons,
    link: str,
    ties: str,
    advantage: float | None,
    prior_sd: float,
    anchors: Mapping[Any, float],
) -> Problem:
    """Return the objective; an `advantage` of None is estimated, `anchors` are less the mean."""
    used = 1.0 if ties == "half" else 0.0
    squares = np.zeros((6, c.left.size))
    given = c.counts if c.squares is None else c.squares
    squares[: len(given)] = given
    squares[[2, 4, 5]] *= used
    drawn = 0.5 * used * c.ties
    n = len(c.items)
    group, sizes = groups_of(n, *win_edges(c, ties)[:2])
    return Problem(
        n,
        link,
        c.left,
        c.right,
        np.ascontiguousarray(c.wins + drawn),
        np.ascontiguousarray(c.losses + drawn),
        squares,
        1.0 / float(prior_sd) ** 2,
        advantage is None,
        0.0 if advantage is None else advantage,
        np.array([anchors.get(item, np.nan) for item in c.items]),
        group,
        sizes,
    )


def groups_of(n: int, a: Ints, b: Ints) -> tuple[Ints, Ints]:
    """Return the number of the connected group of each node, and the sizes of the groups."""
    _, group, sizes = np.unique(connected(n, a, b), return_inverse=True, return_counts=True)
    return group, sizes


def newton(
    problem: Problem, start: Floats, mean: float, tol: float, max_iter: int
) -> tuple[Floats, int, bool]:
    """Return (theta, steps, converged): safeguarded Newton from this start."""
    n, free, theta = problem.n, problem.free, start
    value, gradient, curvature = problem.evaluate(theta)
    objective = value.sum() - 0.5 * problem.precision * float(theta[:n][free] @ theta[:n][free])
    for n_iter in range(1, max_iter + 1):
        step, exact = solve(problem.deflated(curvature), gradient)
        largest = float(np.max(np.abs(step)))
        slope = float(gradient @ step)
        for _ in range(60):
            trial = problem.centred(theta + step)
            value, new_gradient, curvature = problem.evaluate(trial)
            inner = trial[:n][free]
            new_objective = value.sum() - 0.5 * problem.precision * float(inner @ inner)
            noise = 8.0 * _EPS * (np.abs(value).sum() + abs(new_objective))
            # the objective is concave: before the maximum along the step it has risen; a little
            # behind it (where the objective itself is only rounding) it must not have fallen
            along = float(new_gradient @ step)
            if along >= 0.0 or (along >= -0.5 * slope and new_objective >= objective - noise):
                break
            step, slope = 0.5 * step, 0.5 * slope
        theta, gradient, objective = trial, new_gradient, new_objective
        if exact and largest <= tol * max(1.0, float(np.max(np.abs(mean + theta[:n])))):
            return theta, n_iter, True
    return theta, max_iter, False


def solve(matrix: Floats, gradient: Floats) -> tuple[Floats, bool]:
    """Return an ascent direction, and whether it is the Newton step: where the information is
    singular to rounding it is a shorter one, on which convergence is not judged. The diagonal is
    scaled to one because weights may spread widely.
    """
    scale = _scale(matrix)
    scaled = scale[:, None] * matrix * scale
    for ridge in (0.0, 1e-12, 1e-8, 1e-4):
        try:
            step = scale * np.linalg.solve(scaled + ridge * np.eye(scale.size), scale * gradient)
        except np.linalg.LinAlgError:
            continue
        if np.isfinite(step).all() and gradient @ step >= 0.0:
            return step, ridge == 0.0
    return scale * scale * gradient, False


def _scale(matrix: Floats) -> Floats:
    return 1.0 / np.sqrt(np.maximum(np.diag(matrix), 1e-300))


def covariance(
    problem: Problem, theta: Floats, curvature: Floats, errors: str, ties: str, rows: Rows | None
) -> tuple[Floats, float]:
    """Return the covariance (n, n) of the centred or anchored scores and the variance of the
    advantage.
    """
    n = problem.n
    matrix = problem.deflated(curvature)
    scale = _scale(matrix)
    v = scale[:, None] * np.linalg.inv(scale[:, None] * matrix * scale) * scale
    anchors = np.flatnonzero(~problem.free)
    v[anchors] = v[:, anchors] = 0.0
    v = problem.centred(problem.centred(v).T)  # without the shifts of the groups
    if errors == "sandwich":
        win, loss, tie = _slopes(problem, theta, problem.left, problem.right)
        products = (
            win * win,
            loss * loss,
            tie * tie,
            2 * win * loss,
            2 * win * tie,
            2 * loss * tie,
        )
        meat = problem.information((problem.squares * np.stack(products)).sum(axis=0))
        v = v @ meat @ v
    elif errors == "cluster" and rows is not None:
        v = v @ _clustered(problem, theta, ties, rows) @ v
    variance = max(0.0, float(v[n, n])) if problem.estimated else 0.0
    v = v[:n, :n]
    if problem.sizes.size > 1 and problem.floating.any():
        # the shift of a group is as uncertain as the mean of its priors
        floats = problem.floating
        shift = np.zeros(floats.size)
        shift[floats] = 1.0 / (problem.precision * problem.sizes[floats])
        v = v + shift[problem.group][:, None] * (problem.group[:, None] == problem.group)
        if not anchors.size:
            v = v - v.mean(axis=0)
            v = v - v.mean(axis=1)[:, None]
    return (v + v.T) / 2.0, variance


def _slopes(problem: Problem, theta: Floats, left: Ints, right: Ints) -> tuple[Floats, ...]:
    """Return the derivatives of the log-likelihood of one win, loss and tie of each pair."""
    advantage = theta[problem.n] if problem.estimated else problem.fixed
    d = theta[left] - theta[right] + advantage
    one, zero = np.ones_like(d), np.zeros_like(d)
    win, loss, unused = np.empty_like(d), np.empty_like(d), np.empty_like(d)
    cpu().pair_terms(d, one, zero, problem.link, unused, win, unused.copy())
    cpu().pair_terms(d, zero, one, problem.link, unused, loss, unused.copy())
    return win, loss, 0.5 * (win + loss)


def _clustered(problem: Problem, theta: Floats, ties: str, rows: Rows) -> Floats:
    """Return the precision of the prior plus G / (G - 1) times the sum over the G clusters of the
    outer square of the derivative of their log-likelihood.
    """
    n, m = problem.n, problem.n + problem.estimated
    slopes = np.stack(_slopes(problem, theta, rows.left, rows.right))
    slopes[2] *= ties == "half"
    slope = (rows.amounts * slopes).sum(axis=0)
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
        if problem.estimated:
            sides.append((base + n, slope[at]))
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
