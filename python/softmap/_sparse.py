"""Newton steps and standard errors of a labelled fit by the graph of the comparisons."""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from softmap import _backend
from softmap._columns import Floats, Ints

if TYPE_CHECKING:
    from softmap._newton import Problem, Terms

_FEW_ITEMS = 64
_MOST_DENSE = 2000  # items of a full matrix
_MOST_STEPS = 20_000  # of conjugate gradients
_PROBES = 16


class System:
    """What solves systems on the graph of these cells, made when it is needed."""

    def __init__(self, n: int, left: Ints, right: Ints) -> None:
        self._graph = (n, left, right)

    @functools.cached_property
    def compiled(self) -> Any:
        return _backend.cpu().make_system(*self._graph)


def system_of(n: int, left: Ints, right: Ints) -> System | None:
    """Return what solves systems on the graph of these cells; None where a matrix is faster."""
    if n <= _FEW_ITEMS or (n <= _MOST_DENSE and 8 * left.size > n * n):
        return None
    return System(n, left, right)


def solved(problem: Problem, terms: Terms, right: Floats, rtol: float) -> tuple[Floats, bool]:
    """Return x (k, size) with information @ x[k] = right[k], up to a common shift of each floating
    group, which x does not have; and whether it is that, not the solution of a stiffer system.

    `right` has no part along these shifts and none at anchors. What theta has beside the scores is
    eliminated last.
    """
    n, free = problem.n, problem.free
    weight, diagonal = terms.curvature, np.full(n, problem.precision)
    ends = ((problem.left, problem.right), (problem.right, problem.left))
    degree = sum(np.bincount(a, weight, n) for a, _ in ends)
    if not free.all():  # an anchor at the other end adds to the diagonal
        inner = free[problem.left] & free[problem.right]
        for end, other in ends:
            diagonal += np.bincount(end, np.where(free[other], 0.0, weight), n)
        weight, diagonal = np.where(inner, weight, 0.0), np.where(free, diagonal, 1.0)
    border, corner = _border(problem, terms)
    rows = np.vstack([right[:, :n], border])
    for ridge in (0.0, 1e-12, 1e-8, 1e-4):
        stiff = diagonal + ridge * degree
        x, steps = _backend.cpu().solve_system(
            problem.system.compiled, weight, stiff, rows, rtol, _MOST_STEPS, None
        )
        x = problem.centred(x.T).T
        inner_x, outer_x = x[: len(right)], x[len(right) :]
        if len(border):
            rest = right[:, n:] - inner_x @ border.T
            try:
                beside = np.linalg.solve(corner - border @ outer_x.T, rest.T).T
            except np.linalg.LinAlgError:
                continue
            inner_x = np.hstack([inner_x - beside @ outer_x, beside])
        ascent = (inner_x * right).sum(axis=1)
        if np.isfinite(inner_x).all() and (ascent >= 0.0).all():
            return inner_x, ridge == 0.0 and steps >= 0
    scale = np.ones(problem.size)
    scale[:n] = 1.0 / np.maximum(degree + diagonal, 1e-300)
    return scale * right, False


def _border(problem: Problem, terms: Terms) -> tuple[Floats, Floats]:
    """Return the information of what theta has beside the scores: with them, and among itself."""
    n, a, t = problem.n, problem.at_advantage, problem.at_tie
    border, corner = np.zeros((problem.size - n, n)), np.zeros((problem.size - n,) * 2)
    for at, weight in ((a, terms.curvature), (t, terms.cross)):
        if at is not None:
            border[at - n] = np.bincount(problem.left, weight, n)
            border[at - n] -= np.bincount(problem.right, weight, n)
    if a is not None:
        corner[0, 0] = terms.curvature.sum()
    if t is not None:
        corner[t - n, t - n] = terms.tie_curvature.sum()
        if a is not None:
            corner[0, 1] = corner[1, 0] = terms.cross.sum()
    border[:, ~problem.free] = 0.0
    return border, corner


def probed_variances(problem: Problem, terms: Terms, meat: Any) -> tuple[Floats, float]:
    """Return the diagonal of V = H^-1 M H^-1 (or H^-1, where meat is None), and the typical
    relative standard error of the square roots of the scores' part.

    Random vectors z of -1 and 1: the mean of z * (V @ z) is the diagonal of V (Bekas, Kokiopoulou &
    Saad, Appl. Numer. Math. 57, 2007). Always the same ones. NaN where the mean is not positive:
    what V has beside its diagonal is then too large for so few. What theta has beside the scores
    is found exactly.
    """
    n = problem.n
    random = np.random.default_rng(0)
    z = np.where(random.integers(0, 2, (_PROBES, problem.size)) == 1, 1.0, -1.0)
    x, _ = solved(problem, terms, _projected(problem, z), 1e-5)
    if meat is not None:
        y = np.stack([meat(row) for row in x])
        x, _ = solved(problem, terms, _projected(problem, y), 1e-5)
    parts = z * x
    mean = parts.mean(axis=0)
    error = parts.std(axis=0, ddof=1) / np.sqrt(_PROBES)
    positive = mean[:n] > 0.0
    relative = error[:n][positive] / mean[:n][positive]
    spread = np.sqrt(np.mean(relative**2)) if positive.any() else 0.0
    mean[:n][~positive] = np.nan
    if problem.size > n:
        unit = np.eye(problem.size - n, problem.size, n)
        x, _ = solved(problem, terms, unit, 1e-10)
        y = unit if meat is None else np.stack([meat(row) for row in x])
        mean[n:] = (x * y).sum(axis=1)
    return mean, float(0.5 * spread)


def _projected(problem: Problem, rows: Floats) -> Floats:
    rows = problem.centred(rows.T).T
    rows[:, : problem.n][:, ~problem.free] = 0.0
    return rows


def times_information(
    problem: Problem, weight: Floats, cross: Floats, tie: Floats, x: Floats
) -> Floats:
    """Return `Problem.information` times x, without the matrix."""
    n, a, t = problem.n, problem.at_advantage, problem.at_tie
    d = x[problem.left] - x[problem.right]
    if a is not None:
        d += x[a]
    flow = weight * d
    if t is not None:
        flow += cross * x[t]
    y = np.zeros(problem.size)
    y[:n] = problem.precision * x[:n]
    y[:n] += np.bincount(problem.left, flow, n) - np.bincount(problem.right, flow, n)
    if a is not None:
        y[a] = flow.sum()
    if t is not None:
        y[t] = (cross * d).sum() + tie.sum() * x[t]
    return y


def ranks_apart(scores: Floats, low: Floats, high: Floats) -> tuple[NDArray[np.int64], ...]:
    """Return rank, and the ranks left open where items differ whose intervals are apart."""
    n = scores.size
    order = np.argsort(-scores)
    equal = np.diff(scores[order], prepend=np.nan) == 0.0
    rank = np.empty(n, dtype=np.int64)
    rank[order] = 1 + np.maximum.accumulate(np.where(equal, 0, np.arange(n)))
    if np.isnan(low).all():
        return rank, np.ones(n, dtype=np.int64), np.full(n, n)
    low, high = np.where(np.isnan(low), -np.inf, low), np.where(np.isnan(high), np.inf, high)
    return (
        rank,
        1 + n - np.searchsorted(np.sort(low), high, side="right"),
        n - np.searchsorted(np.sort(high), low, side="left"),
    )
