"""Newton steps and standard errors of a labelled fit by the graph of the comparisons."""

from __future__ import annotations

import functools
import math
from collections.abc import Iterator, Sequence
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
_PROBES = 8  # at a time
_MOST_PROBES = 64
_FINE = 0.01  # an error of standard errors that needs no more probes
_DOUBTFUL = 0.2  # an error of one variance that needs its own solution
_MOST_EXACT = 64  # of these

# of each cell: of the difference of scores, of that and the tie parameter, of the latter
Weights = Sequence[Floats]


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
    n, ends = problem.n, (problem.left, problem.right)
    degree = sum(np.bincount(end, terms.curvature, n) for end in ends)
    weight, diagonal = _inner(problem, terms.curvature)
    border, corner = _border(problem, (terms.curvature, terms.cross, terms.tie_curvature))
    rows = np.vstack([right[:, :n], border]) if len(border) else right
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
        ascent = np.einsum("ki,ki->k", inner_x, right)
        if np.isfinite(inner_x).all() and (ascent >= 0.0).all():
            return inner_x, ridge == 0.0 and steps >= 0
    scale = np.ones(problem.size)
    scale[:n] = 1.0 / np.maximum(degree + diagonal, 1e-300)
    return scale * right, False


def _inner(problem: Problem, weight: Floats) -> tuple[Floats, Floats]:
    """Return the weights of pairs of which none is an anchor, and the diagonal: the prior, and the
    pairs with anchors. Anchors are by themselves.
    """
    free, diagonal = problem.free, np.full(problem.n, problem.precision)
    if free.all():
        return weight, diagonal
    for end, other in ((problem.left, problem.right), (problem.right, problem.left)):
        diagonal += np.bincount(end, np.where(free[other], 0.0, weight), problem.n)
    inner = free[problem.left] & free[problem.right]
    return np.where(inner, weight, 0.0), np.where(free, diagonal, 1.0)


def _border(problem: Problem, weights: Weights) -> tuple[Floats, Floats]:
    """Return the information of what theta has beside the scores: with them, and among itself."""
    n, a, t = problem.n, problem.at_advantage, problem.at_tie
    curvature, cross, tie = weights
    border, corner = np.zeros((problem.size - n, n)), np.zeros((problem.size - n,) * 2)
    for at, weight in ((a, curvature), (t, cross)):
        if at is not None:
            border[at - n] = np.bincount(problem.left, weight, n)
            border[at - n] -= np.bincount(problem.right, weight, n)
    if a is not None:
        corner[0, 0] = curvature.sum()
    if t is not None:
        corner[t - n, t - n] = tie.sum()
        if a is not None:
            corner[0, 1] = corner[1, 0] = cross.sum()
    border[:, ~problem.free] = 0.0
    return border, corner


def probed_variances(
    problem: Problem, terms: Terms, meat: Weights | None, times_meat: Any = None
) -> tuple[Floats, float]:
    """Return the diagonal of V = H^-1 M H^-1, and the typical relative standard error of the square
    roots of the scores' part. M is the information with the weights `meat`, or what `times_meat`
    multiplies by, which `meat` is then near to; H where both are None.

    Random vectors z of -1 and 1: the mean of z * (V @ z) is the diagonal of V (Bekas, Kokiopoulou &
    Saad, Appl. Numer. Math. 57, 2007). Of V - A it scatters far less, with an A near to V whose
    diagonal is known: the series of V by neighbours. Always the same vectors, and more until they
    tell the errors to a percent. The items of which they tell least are then solved for, as many
    as `_MOST_EXACT`; NaN where there are more, and what the probes tell is no more than half
    certain. What theta has beside the scores is found exactly.
    """
    n, random = problem.n, np.random.default_rng(0)
    bread = (terms.curvature, terms.cross, terms.tie_curvature)
    apart = meat is not None
    times = times_meat or functools.partial(times_information, problem, meat or bread)
    near = functools.partial(_near, problem, terms.curvature, (meat or bread)[0])

    # no variance by themselves: anchors, and who met nobody
    alone = ~problem.free | (problem.floating & (problem.sizes == 1))[problem.group]
    along, known = near(problem.free[None].astype(np.float64))
    known += _of_means(problem, along[0])
    count, total, squares, spread = 0, np.zeros(n), np.zeros(n), math.inf
    while count < _MOST_PROBES and spread > _FINE:
        signs = random.integers(0, 2, (_PROBES, problem.size), dtype=np.int8)
        z = np.where(signs == 1, 1.0, -1.0)
        x = _inverted(problem, terms, z, 1e-5)
        if apart:
            x = _inverted(problem, terms, times(x), 1e-5)
        x = x[:, :n] - _projected(problem, near(_projected(problem, z[:, :n]))[0])
        x *= z[:, :n]
        total += x.sum(axis=0)
        squares += np.einsum("ki,ki->i", x, x)
        count += _PROBES
        mean = total / count
        error = np.sqrt(np.maximum(squares / count - mean * mean, 0.0) / (count - 1.0))
        mean += known
        mean[alone] = error[alone] = 0.0
        spread = _spread(mean, error)
    doubtful = np.flatnonzero(~alone & ~(error < _DOUBTFUL * mean))
    share = np.where(mean > 0.0, error / np.maximum(mean, 1e-300), np.inf)[doubtful]
    for some in _batches(doubtful[np.argsort(-share, kind="stable")][:_MOST_EXACT]):
        unit = np.zeros((some.size, problem.size))
        unit[range(some.size), some] = 1.0
        x = _inverted(problem, terms, unit, 1e-6)
        y = times(x) if apart else _projected(problem, unit)
        mean[some], error[some] = (x * y).sum(axis=1), 0.0
    if doubtful.size:
        spread = _spread(mean, error)
    mean[~alone & ~(error < 0.5 * mean)] = np.nan
    if problem.size == n:
        return mean, spread
    unit = np.eye(problem.size - n, problem.size, n)
    x, _ = solved(problem, terms, unit, 1e-10)
    y = times(x) if apart else unit
    return np.append(mean, (x * y).sum(axis=1)), spread


def _spread(mean: Floats, error: Floats) -> float:
    """Return the typical relative error of the square roots of what is positive."""
    positive = mean > 0.0
    relative = error[positive] / mean[positive]
    return 0.5 * float(np.sqrt(np.mean(relative**2))) if positive.any() else 0.0


def _batches(items: Ints) -> Iterator[Ints]:
    return (items[k : k + _PROBES] for k in range(0, items.size, _PROBES))


def _inverted(problem: Problem, terms: Terms, rows: Floats, rtol: float) -> Floats:
    """Return the inverse information times the rows; NaN where that is not found."""
    x, exact = solved(problem, terms, _projected(problem, rows), rtol)
    return x if exact else np.full_like(x, np.nan)


def _near(problem: Problem, weight: Floats, meat: Floats, z: Floats) -> tuple[Floats, Floats]:
    """Return A times the rows of z, and the diagonal of A."""
    prior = np.full(problem.n, problem.precision)
    h = _inner(problem, weight)
    az, known = _backend.cpu().expand_system(problem.system.compiled, *h, meat, prior, z)
    return az, known


def _of_means(problem: Problem, along: Floats) -> Floats:
    """Return what the diagonal of a matrix gains where the means of the floating groups are taken
    off its rows and columns, from what it makes of a vector of ones.
    """
    size = problem.sizes
    total = np.bincount(problem.group, along, size.size)
    gain: Floats = (total / size**2)[problem.group] - 2.0 * along / size[problem.group]
    return np.where(problem.floating[problem.group], gain, 0.0)


def _projected(problem: Problem, rows: Floats) -> Floats:
    rows = problem.centred(rows.T).T
    rows[:, : problem.n][:, ~problem.free] = 0.0
    return rows


def times_information(problem: Problem, weights: Weights, x: Floats) -> Floats:
    """Return the rows of x times `Problem.information`, without the matrix; not at anchors."""
    n, prior = problem.n, np.full(problem.n, problem.precision)
    inner = np.ascontiguousarray(x[:, :n])
    y = _backend.cpu().times_system(problem.system.compiled, weights[0], prior, inner, None)
    if problem.size == n:
        return np.asarray(y)
    border, corner = _border(problem, weights)
    y += x[:, n:] @ border
    return np.hstack([y, inner @ border.T + x[:, n:] @ corner])


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
