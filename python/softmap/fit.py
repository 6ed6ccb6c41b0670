"""Scores of many items from one set of comparisons: MAP or maximum likelihood, with errors."""

from __future__ import annotations

import dataclasses
import math
import numbers
import warnings
from typing import Any

import numpy as np
from numpy.typing import NDArray

from softmap._backend import cpu
from softmap._columns import Floats
from softmap.comparisons import Comparisons, sums
from softmap.diagnostics import (
    Diagnostics,
    Finding,
    connected,
    diagnose,
    listed,
    rising_advantage,
    win_edges,
)
from softmap.errors import DataWarning, NoMaximumError
from softmap.result import Estimate, Fit, normal_quantile

MAX_ITEMS = 2000
_EPS = float(np.finfo(np.float64).eps)


def fit(
    comparisons: Comparisons,
    *,
    link: str = "logit",
    ties: str = "half",
    first_advantage: float | str = 0.0,
    prior_sd: float = 10.0,
    prior_mean: float = 0.0,
    level: float = 0.95,
    errors: str = "sandwich",
    tol: float = 1e-10,
    max_iter: int = 100,
    on_trouble: str = "warn",
) -> Fit:
    """Fit one score per item to paired comparisons.

    Maximises over the scores s (and over the advantage a of the first position, if estimated)

        sum over ordered pairs (i first, j second) of
            (wins_ij + ties_ij / 2) log F(d_ij) + (losses_ij + ties_ij / 2) log F(-d_ij)
        - sum over items of (s_i - prior_mean)^2 / (2 prior_sd^2)

    with d_ij = s_i - s_j + a, and F the logistic function (Bradley-Terry) or the normal
    distribution function (Thurstone). The objective is concave. Newton's method from equal scores,
    a step halved while it passes the maximum along itself without raising the objective; dense, for
    at most 2,000 items.

    Parameters
    ----------
    comparisons : Comparisons
    link : "logit" or "probit", default "logit"
    ties : "half" or "drop", default "half"
        A tie is half a win for each side, or is left out.
    first_advantage : float or "estimate", default 0.0
        Added to the first item's score: a fixed number, or estimated (without a prior). Needs
        comparisons whose order is known.
    prior_sd : float, default 10.0
        Standard deviation of the normal prior of each score, in units of the scores. The default is
        weak on purpose. `inf` is maximum likelihood: scores sum to zero.
    prior_mean : float, default 0.0
        Mean of that prior, and so of the fitted scores. Without effect where prior_sd is inf.
    level : float, default 0.95
        Of the intervals and rank ranges.
    errors : "sandwich" or "fisher", default "sandwich"
        Covariance from the observed information H (minus the second derivatives of the objective):
        "fisher" is H^-1; "sandwich" is H^-1 M H^-1 with M the sum over comparisons of weight^2
        times the outer square of the derivative of the comparison's log-likelihood, plus the
        information of the prior (so that an item without comparisons has the error of its prior).
        The sandwich stays right where a weight is not a number of independent trials (a tie as two
        half wins makes "fisher" too wide), but needs data: it is too small for an item that has
        only won, only lost or only tied. Standard errors are of centred scores: C V C with
        C = I - 11'/n.
    tol : float, default 1e-10
        Converged when no entry of a Newton step exceeds tol * max(1, max |s|).
    max_iter : int, default 100
    on_trouble : "warn", "raise" or "ignore", default "warn"
        What happens when the data do not determine the ranking by themselves, so that the prior
        does (groups that never met, items without a loss or without a win), or when the fit did not
        converge: one `DataWarning`, issued or raised. `Fit.diagnostics` has the findings always.

    Returns
    -------
    Fit

    Raises
    ------
    NoMaximumError
        With prior_sd=inf: some group of items never lost to, or never met, the others, or the
        advantage cannot be told from the scores. With any prior: the advantage is to be estimated
        and no comparison was won from one of the two positions. Decided before iterating.
    ValueError
        An option out of its range, more than 2,000 items, first_advantage for comparisons without
        order.
    TypeError
        Something else than `Comparisons`.
    DataWarning
        With on_trouble="raise".

    References
    ----------
    R. A. Bradley and M. E. Terry, Rank analysis of incomplete block designs, Biometrika 39 (1952).
    L. L. Thurstone, A law of comparative judgment, Psychological Review 34 (1927).
    H. White, Maximum likelihood estimation of misspecified models, Econometrica 50 (1982).

    Examples
    --------
    a beat b in 3 of 4: the difference is log(3 / 1) = 1.0986, with variance 1 / (4 * 3/4 * 1/4).

    >>> c = Comparisons.from_matrix([[0, 3], [1, 0]], items=["a", "b"])
    >>> both = fit(c, prior_sd=float("inf")).compare("a", "b")
    >>> f"{both.difference:.4f} {both.standard_error:.4f} {both.probability:.4f}"
    '1.0986 1.1547 0.7500'
    """
    # a little over 60 lines: each option and each field of the result has its own
    _check_choices(link=link, ties=ties, errors=errors, on_trouble=on_trouble)
    _check_numbers(prior_sd, prior_mean, level, tol, max_iter)
    estimated, fixed = _check_comparisons(comparisons, first_advantage)
    diagnostics = _require_maximum(comparisons, ties, estimated, prior_sd)
    problem = _problem(comparisons, link, ties, estimated, fixed, prior_sd)
    mean = 0.0 if prior_sd == math.inf else float(prior_mean)
    theta, n_iter, converged = _newton(problem, mean, tol, max_iter)
    if not converged:
        diagnostics = _with_finding(diagnostics, _not_converged(n_iter))
    _report(diagnostics, on_trouble)
    n, quantile = problem.n, normal_quantile(level)
    value, gradient, curvature = problem.evaluate(theta)
    covariance, variance = _covariance(problem, theta, curvature, errors)
    scores, error = mean + theta[:n], np.sqrt(np.maximum(np.diag(covariance), 0.0))
    advantage = None if fixed == 0.0 else Estimate(fixed, 0.0)
    if estimated:
        advantage = Estimate(float(theta[n]), math.sqrt(variance))
    rank, rank_low, rank_high = _ranks(scores, covariance, quantile)
    games, wins, n_ties, win_rate = _tallies(comparisons, ties)
    return Fit(
        items=comparisons.items,
        scores=scores,
        standard_errors=error,
        low=scores - quantile * error,
        high=scores + quantile * error,
        rank=rank,
        rank_low=rank_low,
        rank_high=rank_high,
        games=games,
        wins=wins,
        n_ties=n_ties,
        win_rate=win_rate,
        link=link,
        ties=ties,
        prior_sd=float(prior_sd),
        prior_mean=mean,
        level=float(level),
        log_likelihood=float(value.sum()),
        first_advantage=advantage,
        converged=converged,
        n_iter=n_iter,
        gradient_max=problem.gradient_max(gradient),
        diagnostics=diagnostics,
        errors=errors,
        covariance=covariance,
        n_comparisons=comparisons.n_comparisons,
        unit="logits" if link == "logit" else "probits",
    )


@dataclasses.dataclass(frozen=True)
class _Problem:
    """The objective. A point theta holds the n scores less the prior mean, each group of connected
    items with mean zero (as at the maximum), then the advantage if it is estimated.
    """

    n: int
    link: str
    left: NDArray[np.int64]
    right: NDArray[np.int64]
    wins: Floats  # with half of the ties
    losses: Floats
    squares: Floats  # (3, cells): sums of squared weights of wins, losses and ties
    precision: float  # of the prior, 1 / sd^2
    estimated: bool
    fixed: float  # advantage where it is not estimated
    group: NDArray[np.int64]  # number of the connected group of each item
    sizes: NDArray[np.int64]  # items per group

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
        """Return the information with the common shift of each group made as stiff as its softest
        item. Shifts are eigenvectors of the information (eigenvalue: the precision) and the
        gradient has no part along them, so the Newton step does not change, and maximum likelihood
        (precision 0) or a very weak prior is no longer singular.
        """
        matrix = self.information(curvature)
        n = self.n
        softest = np.full(self.sizes.size, np.inf)
        np.minimum.at(softest, self.group, np.diag(matrix)[:n])
        shift = (softest / self.sizes)[self.group]
        matrix[:n, :n] += shift[:, None] * (self.group[:, None] == self.group)
        return matrix

    def centred(self, x: Floats) -> Floats:
        """Return x (n or n + 1, ...) with each group's mean over the first n rows taken off."""
        order = np.argsort(self.group, kind="stable")
        starts = np.concatenate([[0], np.cumsum(self.sizes)[:-1]])
        total = np.add.reduceat(x[: self.n][order], starts, axis=0)
        x = x.copy()
        x[: self.n] -= (total.T / self.sizes).T[self.group]
        return x

    def gradient_max(self, gradient: Floats) -> float:
        cell = self.wins + self.losses
        weight = sums(self.left, cell, self.n) + sums(self.right, cell, self.n)
        if self.estimated:
            weight = np.append(weight, cell.sum())
        return float(np.max(np.abs(gradient) / np.maximum(1.0, weight)))


def _problem(
    c: Comparisons, link: str, ties: str, estimated: bool, fixed: float, prior_sd: float
) -> _Problem:
    used = 1.0 if ties == "half" else 0.0
    squares = (c.counts if c.squares is None else c.squares) * np.array([[1.0], [1.0], [used]])
    drawn = 0.5 * used * c.ties
    n = len(c.items)
    winner, loser, _ = win_edges(c, ties)
    label = connected(n, winner, loser)
    _, group, sizes = np.unique(label, return_inverse=True, return_counts=True)
    wins, losses = np.ascontiguousarray(c.wins + drawn), np.ascontiguousarray(c.losses + drawn)
    precision = 1.0 / float(prior_sd) ** 2
    return _Problem(
        n, link, c.left, c.right, wins, losses, squares, precision, estimated, fixed, group, sizes
    )


def _newton(problem: _Problem, mean: float, tol: float, max_iter: int) -> tuple[Floats, int, bool]:
    """Return (theta, steps, converged): safeguarded Newton from equal scores."""
    n = problem.n
    theta = np.zeros(n + problem.estimated)
    value, gradient, curvature = problem.evaluate(theta)
    objective = value.sum()
    for n_iter in range(1, max_iter + 1):
        step, exact = _solve(problem.deflated(curvature), gradient)
        largest = float(np.max(np.abs(step)))
        slope = float(gradient @ step)
        for _ in range(60):
            trial = problem.centred(theta + step)
            value, new_gradient, curvature = problem.evaluate(trial)
            new_objective = value.sum() - 0.5 * problem.precision * float(trial[:n] @ trial[:n])
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


def _solve(matrix: Floats, gradient: Floats) -> tuple[Floats, bool]:
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


def _covariance(
    problem: _Problem, theta: Floats, curvature: Floats, errors: str
) -> tuple[Floats, float]:
    """Return the covariance (n, n) of the centred scores and the variance of the advantage."""
    n = problem.n
    matrix = problem.deflated(curvature)
    scale = _scale(matrix)
    v = scale[:, None] * np.linalg.inv(scale[:, None] * matrix * scale) * scale
    v = problem.centred(problem.centred(v).T)  # without the shifts of the groups
    if errors == "sandwich":
        one, zero = np.ones(problem.left.size), np.zeros(problem.left.size)
        win, loss = problem.terms(theta, one, zero)[1], problem.terms(theta, zero, one)[1]
        slopes = np.stack([win, loss, 0.5 * (win + loss)])
        meat = (problem.squares * slopes**2).sum(axis=0)
        v = v @ problem.information(meat) @ v
    variance = max(0.0, float(v[n, n])) if problem.estimated else 0.0
    v = v[:n, :n]
    if problem.sizes.size > 1:  # the shift of a group is as uncertain as the mean of its priors
        shift = 1.0 / (problem.precision * problem.sizes)
        v = v + shift[problem.group][:, None] * (problem.group[:, None] == problem.group)
        v = v - v.mean(axis=0)
        v = v - v.mean(axis=1)[:, None]
    return (v + v.T) / 2.0, variance


def _ranks(scores: Floats, v: Floats, quantile: float) -> tuple[NDArray[np.int64], ...]:
    """Return rank, rank_low and rank_high as `Fit` defines them."""
    lead = scores - scores[:, None]  # [i, j]: by how much j is ahead of i
    margin = quantile * np.sqrt(np.maximum(np.diag(v) + np.diag(v)[:, None] - 2.0 * v, 0.0))
    return (
        1 + np.count_nonzero(lead > 0.0, axis=1),
        1 + np.count_nonzero(lead > margin, axis=1),
        scores.size - np.count_nonzero(-lead > margin, axis=1),
    )


def _tallies(c: Comparisons, ties: str) -> tuple[NDArray[Any], ...]:
    """Return games, wins, n_ties (of the dtype of the cells) and win_rate per item."""
    n = len(c.items)

    def total(as_left: NDArray[Any], as_right: NDArray[Any]) -> NDArray[Any]:
        return sums(c.left, as_left, n) + sums(c.right, as_right, n)

    wins, n_ties = total(c.wins, c.losses), total(c.ties, c.ties)
    games = total(c.wins + c.losses + c.ties, c.wins + c.losses + c.ties)
    part, whole = (wins + 0.5 * n_ties, games) if ties == "half" else (wins, games - n_ties)
    rate = np.divide(part, whole, out=np.full(n, np.nan), where=whole > 0.0)
    kind = c.wins.dtype
    return games.astype(kind), wins.astype(kind), n_ties.astype(kind), rate


def _require_maximum(c: Comparisons, ties: str, estimated: bool, prior_sd: float) -> Diagnostics:
    """Raise NoMaximumError where there is none; return the diagnostics, with a finding where only
    the prior tells the advantage from the scores.
    """
    found = diagnose(c, ties=ties)
    proper = math.isfinite(prior_sd)
    if not proper and not found.strongly_connected:
        reasons = "; ".join(finding.text for finding in found.findings)
        raise NoMaximumError(
            f"fit: prior_sd = inf, no unique maximum exists: {reasons} (give a finite prior_sd)"
        )
    if not estimated:
        return found
    winner, loser, place = win_edges(c, ties)
    for side, word in ((1, "first"), (-1, "second")):
        if side not in place:  # no prior holds the advantage back
            raise NoMaximumError(
                f"fit: first_advantage = 'estimate', no maximum exists: the {word} item never won, "
                f"in comparisons of {listed(c.items)} (give a number)"
            )
    if not found.strongly_connected:
        return found
    n = len(c.items)
    up, down = rising_advantage(n, winner, loser, place), rising_advantage(n, winner, loser, -place)
    move = up if up is not None else down
    if move is None:
        return found
    moved = tuple(c.items[k] for k in np.flatnonzero(move < move.max()))
    text = f"first_advantage can {'rise' if up is not None else 'fall'} without bound"
    if up is not None and down is not None:
        text = "first_advantage cannot be told from the scores"
    text += f", together with a shift of {listed(moved)} against the rest"
    if proper:
        return _with_finding(found, Finding("first_advantage", text, moved))
    raise NoMaximumError(
        f"fit: prior_sd = inf, no unique maximum exists: {text} "
        "(give a finite prior_sd, or first_advantage as a number)"
    )


def _with_finding(found: Diagnostics, finding: Finding) -> Diagnostics:
    return dataclasses.replace(found, findings=(*found.findings, finding))


def _not_converged(n_iter: int) -> Finding:
    text = f"not converged in {n_iter} Newton steps, the scores are not final (raise max_iter)"
    return Finding("not_converged", text)


def _report(diagnostics: Diagnostics, on_trouble: str) -> None:
    if diagnostics.findings and on_trouble != "ignore":
        message = DataWarning("fit: " + "; ".join(diagnostics.sentences()))
        if on_trouble == "raise":
            raise message
        warnings.warn(message, stacklevel=3)  # of the caller of fit


def _check_comparisons(comparisons: Comparisons, first_advantage: Any) -> tuple[bool, float]:
    """Return whether the advantage is estimated, and its fixed value."""
    if not isinstance(comparisons, Comparisons):
        kind = type(comparisons).__name__
        cure = "make one with Comparisons.from_pairs"
        raise TypeError(f"fit: comparisons is a {kind}, must be Comparisons ({cure})")
    if (n := len(comparisons.items)) > MAX_ITEMS:
        raise ValueError(f"fit: comparisons has {n} items, must be at most {MAX_ITEMS}")
    if not comparisons.n_comparisons > 0:
        raise ValueError("fit: all weights of these comparisons are 0")
    estimated = isinstance(first_advantage, str) and first_advantage == "estimate"
    number = isinstance(first_advantage, numbers.Real) and not isinstance(first_advantage, bool)
    if not estimated and not (number and math.isfinite(first_advantage)):
        raise ValueError(
            f"fit: first_advantage = {first_advantage!r}, must be a finite number or 'estimate'"
        )
    if not comparisons.ordered and first_advantage != 0.0:
        raise ValueError(
            f"fit: first_advantage = {first_advantage!r}, but which item was first is unknown in "
            "these comparisons (use Comparisons.from_pairs)"
        )
    return estimated, 0.0 if estimated else float(first_advantage)


def _check_choices(*, link: str, ties: str, errors: str, on_trouble: str) -> None:
    for name, value, allowed in (
        ("link", link, ("logit", "probit")),
        ("ties", ties, ("half", "drop")),
        ("errors", errors, ("sandwich", "fisher")),
        ("on_trouble", on_trouble, ("warn", "raise", "ignore")),
    ):
        if value not in allowed:
            raise ValueError(f"fit: {name} = {value!r}, must be {' or '.join(allowed)}")


def _check_numbers(prior_sd: Any, prior_mean: Any, level: Any, tol: Any, max_iter: Any) -> None:
    for name, value, low, high, rule in (
        ("prior_sd", prior_sd, 1e-6, 1e6, "from 1e-6 to 1e6, or inf for maximum likelihood"),
        ("prior_mean", prior_mean, -1e6, 1e6, "from -1e6 to 1e6"),
        ("level", level, 1e-9, 1.0 - 1e-9, "above 0 and below 1"),
        ("tol", tol, 1e-300, 0.1, "above 0 and at most 0.1"),
        ("max_iter", max_iter, 1, math.inf, "an integer from 1"),
    ):
        kind = numbers.Integral if name == "max_iter" else numbers.Real
        number = isinstance(value, kind) and not isinstance(value, bool)
        inside = number and low <= float(value) <= high
        if not inside and not (name == "prior_sd" and value == math.inf):
            raise ValueError(f"fit: {name} = {value!r}, must be {rule}")
