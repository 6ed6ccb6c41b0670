"""The objective of a labelled fit and its maximum."""

from __future__ import annotations

import dataclasses
import functools
import math
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from softmap._backend import cpu
from softmap._columns import Floats, Ints
from softmap._sparse import solved, system_of
from softmap._survey import Survey, survey
from softmap.comparisons import Comparisons, sums
from softmap.diagnostics import connected
from softmap.outcomes import LINK_OF

_EPS = float(np.finfo(np.float64).eps)


@dataclasses.dataclass(frozen=True)
class Terms:
    """Of each cell: the log-likelihood, its derivatives by the difference of the scores (slope) and
    by the tie parameter (tie_slope), and minus the second ones. The last three are 0 without a tie
    model.
    """

    value: Floats
    slope: Floats
    curvature: Floats
    tie_slope: Floats
    cross: Floats
    tie_curvature: Floats


@dataclasses.dataclass(frozen=True)
class Problem:
    """The objective. A point theta holds the n scores less the prior mean, each group of connected
    items without an anchor with mean zero (as at the maximum), then the advantage and the tie
    parameter (log nu, log theta or eps) as far as they are estimated.
    """

    n: int
    link: str
    left: Ints
    right: Ints
    amounts: NDArray[Any] | tuple[NDArray[Any], ...]  # (3, cells): wins, losses, ties
    squares: NDArray[Any] | tuple[NDArray[Any], ...]  # (3 or 6, cells): as in Comparisons
    ties: str  # as given to `fit`
    precision: float  # of the prior, 1 / sd^2
    advantage: float | None  # None where it is estimated
    tie: float | None  # the parameter, likewise
    held: Floats  # scores of the anchors less the prior mean, NaN for other items
    group: Ints  # number of the connected group of each item
    sizes: Ints  # items per group
    seen: Survey
    system: Any = None  # solves for steps by the graph; None: by a matrix

    @property
    def model(self) -> str | None:
        """The model of the ties."""
        return self.ties if self.ties in LINK_OF else None

    @property
    def dropped(self) -> bool:
        """Whether ties count nothing."""
        return self.ties == "drop"

    @property
    def tie_share(self) -> float:
        """How much of a tie is a win, and a loss."""
        return 0.5 if self.ties == "half" else 0.0

    @functools.cached_property
    def counts(self) -> Floats:
        """Wins, losses and ties as the objective has them: without a model without ties."""
        used = np.zeros((3, self.left.size))
        for k, amount in enumerate(self.amounts):
            if k < 2 and self.tie_share and self.amounts[2].any():
                np.multiply(self.amounts[2], self.tie_share, out=used[k])
                used[k] += amount
            elif k < 2 or self.model is not None:
                used[k] = amount
        return used

    @property
    def free(self) -> NDArray[np.bool_]:
        """Which items are not anchors."""
        return np.isnan(self.held)

    @property
    def floating(self) -> NDArray[np.bool_]:
        """Which groups have no anchor."""
        anchors = sums(self.group, ~self.free, self.sizes.size)
        return np.equal(anchors, 0.0)

    @property
    def well_connected(self) -> bool:
        """Whether scores alone are estimated, and conjugate gradients will need few steps."""
        many = self.n > 64 and self.left.size >= 4 * self.n
        return many and self.model is None and self.size == self.n

    @property
    def at_advantage(self) -> int | None:
        """Where the advantage is in theta."""
        return self.n if self.advantage is None else None

    @property
    def at_tie(self) -> int | None:
        """Where the tie parameter is in theta."""
        return self.n + (self.advantage is None) if self.tie is None else None

    @property
    def size(self) -> int:
        return self.n + (self.advantage is None) + (self.tie is None)

    def start(self) -> Floats:
        """Return the first point: every item at the mean of its group's anchors, or at zero, or in
        a well-connected graph where its record against equals would put it; no advantage; what
        would explain the share of ties between equals, roughly.
        """
        if self.well_connected and self.free.all():
            drawn = 0.5 + self.tie_share * self.seen.ties
            won, lost = self.seen.wins + drawn, self.seen.losses + drawn
            held = won * lost / (won + lost)  # the curvature, which the prior adds to
            score = np.log(won / lost) * (held / (held + self.precision))
            return self.centred(score if self.link == "logit" else 0.6 * score)
        anchors = ~self.free
        total = sums(self.group[anchors], self.held[anchors], self.sizes.size)
        count = sums(self.group, anchors, self.sizes.size)
        theta = np.zeros(self.size)
        theta[: self.n] = np.where(
            self.free, (total / np.maximum(count, 1.0))[self.group], self.held
        )
        if self.at_tie is not None:
            wins, losses, ties = self.counts.sum(axis=1)
            ratio = 2.0 * ties / max(wins + losses, 1e-300)
            guess = math.log(ratio) if self.model == "davidson" else math.log1p(ratio)
            theta[self.at_tie] = min(guess, 1.0 if self.model == "threshold" else 50.0)
        return theta

    def difference(self, theta: Floats, left: Ints, right: Ints) -> Floats:
        """Return by how much the left is ahead, its advantage included."""
        advantage = theta[self.n] if self.advantage is None else self.advantage
        d: Floats = theta[left] - theta[right] + advantage
        return d

    def terms(self, theta: Floats, d: Floats, counts: Floats) -> Terms:
        """Return what the counts (3, cells) at the differences d contribute."""
        if self.model is None:
            out = np.empty((3, d.size))
            cpu().pair_terms(d, *np.ascontiguousarray(counts[:2]), self.link, *out)
            zero = np.broadcast_to(0.0, d.shape)
            return Terms(out[0], out[1], out[2], zero, zero, zero)
        tie = self.tie if self.at_tie is None else float(theta[self.at_tie])
        out = np.empty((6, d.size))
        cpu().outcome_terms(d, np.ascontiguousarray(counts), self.model, tie, out)
        value, slope, tie_slope, curvature, cross, tie_curvature = out
        return Terms(value, slope, curvature, tie_slope, cross, tie_curvature)

    def evaluate(self, theta: Floats) -> tuple[Terms, Floats]:
        """Return the cells' terms and the objective's gradient."""
        terms = self.terms(theta, self.difference(theta, self.left, self.right), self.counts)
        n = self.n
        gradient = np.zeros(self.size)
        gradient[:n] = sums(self.left, terms.slope, n) - sums(self.right, terms.slope, n)
        gradient[:n] -= self.precision * theta[:n]
        gradient[:n][~self.free] = 0.0
        if self.at_advantage is not None:
            gradient[self.at_advantage] = terms.slope.sum()
        if self.at_tie is not None:
            gradient[self.at_tie] = terms.tie_slope.sum()
        return terms, gradient

    def objective(self, theta: Floats, terms: Terms) -> float:
        inner = theta[: self.n][self.free]
        return float(terms.value.sum()) - 0.5 * self.precision * float(inner @ inner)

    def information(self, weight: Floats, cross: Floats, tie: Floats) -> Floats:
        """Return the precision of the prior plus the sum over cells of weight x x', with x +1 at
        left, -1 at right, +1 at the advantage; `cross` stands for x with the tie parameter and
        `tie` for that by itself.
        """
        n, a, t = self.n, self.at_advantage, self.at_tie
        matrix = np.zeros((self.size, self.size))
        matrix[self.left, self.right] = -weight  # no pair occurs twice in this order
        matrix[:n, :n] += matrix[:n, :n].T
        as_left, as_right = sums(self.left, weight, n), sums(self.right, weight, n)
        matrix[range(n), range(n)] = as_left + as_right + self.precision
        if a is not None:
            matrix[a, :n] = matrix[:n, a] = as_left - as_right
            matrix[a, a] = weight.sum()
        if t is not None:
            column = sums(self.left, cross, n) - sums(self.right, cross, n)
            matrix[t, :n] = matrix[:n, t] = column
            matrix[t, t] = tie.sum()
            if a is not None:
                matrix[t, a] = matrix[a, t] = cross.sum()
        return matrix

    def deflated(self, terms: Terms) -> Floats:
        """Return the information with the common shift of each floating group made as stiff as its
        softest item, and with anchors that do not move. Shifts are eigenvectors of the information
        (eigenvalue: the precision) and the gradient has no part along them, so the Newton step does
        not change, and maximum likelihood (precision 0) or a very weak prior is no longer singular.
        """
        matrix = self.information(terms.curvature, terms.cross, terms.tie_curvature)
        n = self.n
        softest = np.full(self.sizes.size, np.inf)
        np.minimum.at(softest, self.group, np.diag(matrix)[:n])
        shift = np.where(self.floating, softest / self.sizes, 0.0)[self.group]
        matrix[:n, :n] += shift[:, None] * (self.group[:, None] == self.group)
        anchors = np.flatnonzero(~self.free)
        matrix[anchors] = matrix[:, anchors] = 0.0
        matrix[anchors, anchors] = 1.0
        return matrix

    def step(self, terms: Terms, gradient: Floats, rtol: float) -> tuple[Floats, bool]:
        """Return what `solve` returns for the information; by the graph to about rtol."""
        if self.system is None:
            return solve(self.deflated(terms), gradient)
        if self.size > self.n:
            rtol = min(rtol, 1e-8)
        x, exact = solved(self, terms, gradient[None], rtol)
        return x[0], exact

    def centred(self, x: Floats) -> Floats:
        """Return x (n or more, ...) with the mean of each floating group over the first n rows
        taken off.
        """
        x, n = x.copy(), self.n
        if self.sizes.size == 1:
            if self.floating[0]:
                x[:n] -= x[:n].mean(axis=0)
            return x
        order, starts = self._by_group
        total = np.add.reduceat(x[:n][order], starts, axis=0)
        x[:n] -= ((total.T * self.floating) / self.sizes).T[self.group]
        return x

    @functools.cached_property
    def _by_group(self) -> tuple[Ints, Ints]:
        """The items by group, and where each begins."""
        order = np.argsort(self.group, kind="stable")
        return order, np.cumsum(self.sizes) - self.sizes

    def gradient_max(self, gradient: Floats, used: Floats) -> float:
        """Return the largest derivative over the weight that touches it; `used`: of the items."""
        weight = np.append(used, np.full(self.size - self.n, 0.5 * used.sum()))
        return float(np.max(np.abs(gradient) / np.maximum(1.0, weight)))


def make_problem(
    c: Comparisons,
    link: str,
    ties: str,
    *,
    advantage: float | None,
    tie: float | None,
    prior_sd: float,
    anchors: Mapping[Any, float],
    seen: Survey | None = None,
) -> Problem:
    """Return the objective; an `advantage` or `tie` parameter of None is estimated, `anchors` are
    less the mean. `seen`: the survey, where it was made.
    """
    counts = (c.wins, c.losses, c.ties)
    n = len(c.items)
    seen = seen or survey(c, ties)
    group, sizes = seen.groups()
    held = np.full(n, np.nan)
    if anchors:
        held[:] = [anchors.get(item, np.nan) for item in c.items]
    return Problem(
        n,
        link,
        c.left,
        c.right,
        counts,
        counts if c.squares is None else c.squares,
        ties,
        1.0 / float(prior_sd) ** 2,
        advantage,
        tie if ties in LINK_OF else 0.0,
        held,
        group,
        sizes,
        seen,
        system_of(n, c.left, c.right),
    )


def groups_of(n: int, a: Ints, b: Ints) -> tuple[Ints, Ints]:
    """Return the number of the connected group of each node, and the sizes of the groups."""
    label = connected(n, a, b)
    sizes = np.bincount(label, minlength=n)
    number = np.cumsum(sizes > 0) - 1
    return number[label], sizes[sizes > 0]


class Maximum(NamedTuple):
    """Where Newton's method ended; what it knows of the objective there, or None."""

    theta: Floats
    n_iter: int
    converged: bool
    log_likelihood: float | None = None
    gradient: Floats | None = None


def newton(problem: Problem, start: Floats, mean: float, tol: float, max_iter: int) -> Maximum:
    """Safeguarded Newton from this start."""
    n_before = 0
    if problem.well_connected:
        found, n_before, done, *known = cpu().newton_pairs(
            (problem.left, problem.right, *problem.amounts),
            problem.tie_share,
            problem.link,
            problem.advantage,
            problem.precision,
            (problem.free, problem.group, problem.floating),
            (mean, tol, max_iter),
            start,
            None,
        )
        start = problem.centred(found)
        if done or n_before >= max_iter:
            return Maximum(start, n_before, done, *known)
    n, theta, at_tie = problem.n, start, problem.at_tie
    positive = at_tie is not None and problem.model != "davidson"
    terms, gradient = problem.evaluate(theta)
    objective = problem.objective(theta, terms)
    first = float(np.linalg.norm(gradient))
    for n_iter in range(n_before + 1, max_iter + 1):
        # the nearer to the maximum, the more exactly: steps converge faster than linearly
        rtol = 0.1 * min(1.0, max(1e-7, float(np.linalg.norm(gradient)) / max(first, 1e-300)))
        step, exact = problem.step(terms, gradient, rtol)
        sizes = np.abs(step)
        if positive and at_tie is not None:  # counts in proportion, and stays above a quarter
            sizes[at_tie] /= min(1.0, theta[at_tie])
            if step[at_tie] < -0.75 * theta[at_tie]:
                step = step * (-0.75 * theta[at_tie] / step[at_tie])
        largest = float(np.max(sizes))
        slope = float(gradient @ step)
        for _ in range(60):
            trial = problem.centred(theta + step)
            terms, new_gradient = problem.evaluate(trial)
            new_objective = problem.objective(trial, terms)
            noise = 8.0 * _EPS * (np.abs(terms.value).sum() + abs(new_objective))
            # the objective is concave: before the maximum along the step it has risen; a little
            # behind it (where the objective itself is only rounding) it must not have fallen
            along = float(new_gradient @ step)
            if along >= 0.0 or (along >= -0.5 * slope and new_objective >= objective - noise):
                break
            step, slope = 0.5 * step, 0.5 * slope
        theta, gradient, objective = trial, new_gradient, new_objective
        if exact and largest <= tol * max(1.0, float(np.max(np.abs(mean + theta[:n])))):
            return Maximum(theta, n_iter, True)
    return Maximum(theta, max_iter, False)


def solve(matrix: Floats, gradient: Floats) -> tuple[Floats, bool]:
    """Return an ascent direction, and whether it is the Newton step: where the information is
    singular to rounding it is a shorter one, on which convergence is not judged. The diagonal is
    scaled to one because weights may spread widely.
    """
    scale = diagonal_scale(matrix)
    scaled = scale[:, None] * matrix * scale
    for ridge in (0.0, 1e-12, 1e-8, 1e-4):
        try:
            step = scale * np.linalg.solve(scaled + ridge * np.eye(scale.size), scale * gradient)
        except np.linalg.LinAlgError:
            continue
        if np.isfinite(step).all() and gradient @ step >= 0.0:
            return step, ridge == 0.0
    return scale * scale * gradient, False


def diagonal_scale(matrix: Floats) -> Floats:
    """Return what makes the diagonal one, from both sides."""
    return 1.0 / np.sqrt(np.maximum(np.diag(matrix), 1e-300))
