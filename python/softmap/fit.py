"""Scores of many items from one set of comparisons: MAP or maximum likelihood, with errors."""

from __future__ import annotations

import dataclasses
import math
import numbers
import warnings
from collections.abc import Hashable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from softmap._columns import Floats
from softmap._newton import Problem, covariance, make_problem, newton, ranks, solve
from softmap.comparisons import Comparisons, sums
from softmap.diagnostics import (
    Diagnostics,
    Finding,
    diagnose,
    listed,
    rising_advantage,
    strong_components,
    win_edges,
)
from softmap.errors import DataWarning, NoMaximumError
from softmap.result import Estimate, Fit, normal_quantile, probabilities

MAX_ITEMS = 2000


def fit(
    comparisons: Comparisons,
    *,
    link: str = "logit",
    ties: str = "half",
    first_advantage: float | str = 0.0,
    prior_sd: float = 10.0,
    prior_mean: float = 0.0,
    anchors: Mapping[Any, float] | None = None,
    level: float = 0.95,
    errors: str | None = None,
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
    anchors : mapping of item to score, optional
        Scores that are given, in units of the link; the others are fitted to them. Standard errors
        are then of scores, anchors having none, and scores have no mean of their own.
    level : float, default 0.95
        Of the intervals and rank ranges.
    errors : "sandwich", "fisher" or "cluster", optional
        Covariance from the observed information H (minus the second derivatives of the objective):
        "fisher" is H^-1; "sandwich" is H^-1 M H^-1 with M the sum over comparisons of weight^2
        times the outer square of the derivative of the comparison's log-likelihood, plus the
        information of the prior (so that an item without comparisons has the error of its prior).
        The sandwich stays right where a weight is not a number of independent trials (a tie as two
        half wins makes "fisher" too wide), but needs data: it is too small for an item that has
        only won, only lost or only tied. "cluster" squares the sum over each cluster instead, with
        the factor G / (G - 1) for G clusters: right where comparisons depend on each other within a
        cluster, for some dozens of clusters or more. Default: "cluster" where clusters were given,
        else "sandwich". Standard errors are of centred scores: C V C with C = I - 11'/n.
    tol : float, default 1e-10
        Converged when no entry of a Newton step exceeds tol * max(1, max |s|).
    max_iter : int, default 100
    on_trouble : "warn", "raise" or "ignore", default "warn"
        What happens when there are findings, such as that the data do not determine the ranking by
        themselves (`Diagnostics` lists all kinds): one `DataWarning`, issued or raised.
        `Fit.diagnostics` has the findings always.

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
    _check_choices(link=link, ties=ties, on_trouble=on_trouble)
    _check_numbers(prior_sd, prior_mean, level, tol, max_iter)
    advantage = _check_comparisons(comparisons, first_advantage, ties)
    errors = _check_errors(comparisons, errors)
    mean = 0.0 if prior_sd == math.inf else float(prior_mean)
    held = _check_anchors(comparisons, anchors)
    diagnostics = require_maximum(comparisons, ties, advantage is None, prior_sd, held)
    less_mean = {item: score - mean for item, score in held.items()}
    problem = make_problem(comparisons, link, ties, advantage, prior_sd, less_mean)
    theta, n_iter, converged = newton(problem, problem.start(), mean, tol, max_iter)
    n, quantile = problem.n, normal_quantile(level)
    value, gradient, curvature = problem.evaluate(theta)
    v, variance = covariance(problem, theta, curvature, errors, ties, comparisons.rows)
    scores, error = mean + theta[:n], np.sqrt(np.maximum(np.diag(v), 0.0))
    more = [_not_converged(n_iter)]
    if converged:
        more = _prior_decides(comparisons.items, problem, theta, curvature, error, diagnostics)
        more += _position_bias(comparisons, problem, theta)
    diagnostics = _with_findings(diagnostics, more)
    _report(diagnostics, on_trouble)
    advantage_found = None if advantage == 0.0 else Estimate(problem.fixed, 0.0)
    if advantage is None:
        advantage_found = Estimate(float(theta[n]), math.sqrt(variance))
    rank, rank_low, rank_high = ranks(scores, v, quantile)
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
        first_advantage=advantage_found,
        converged=converged,
        n_iter=n_iter,
        gradient_max=problem.gradient_max(gradient),
        diagnostics=diagnostics,
        errors=errors,
        covariance=v,
        n_comparisons=comparisons.n_comparisons,
        unit="logits" if link == "logit" else "probits",
        anchors=tuple(held.items()),
        comparisons=comparisons,
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


def require_maximum(
    c: Comparisons,
    ties: str,
    estimated: bool,
    prior_sd: float,
    anchors: Mapping[Hashable, float],
) -> Diagnostics:
    """Raise NoMaximumError where there is none; return the diagnostics, with a finding where only
    the prior tells the advantage from the scores.
    """
    found = diagnose(c, ties=ties)
    proper = math.isfinite(prior_sd)
    winner, loser, place = win_edges(c, ties)
    strong = found.strongly_connected
    if anchors:  # all are one fixed point
        node = np.arange(len(c.items))
        held = np.array([item in anchors for item in c.items])
        node[held] = np.argmax(held)
        winner, loser = node[winner], node[loser]
        label = strong_components(node.size, winner, loser)[node]
        loose = label != label[np.argmax(held)]
        strong = not loose.any()
    if not proper and not strong:
        reasons = "; ".join(finding.text for finding in found.findings if finding.structural)
        if anchors:
            names = listed(c.items[k] for k in np.flatnonzero(loose))
            reasons = f"wins and losses do not tie {names} to the anchors"
        raise NoMaximumError(
            f"fit: prior_sd = inf, no unique maximum exists: {reasons} (give a finite prior_sd)"
        )
    if not estimated:
        return found
    for side, word in ((1, "first"), (-1, "second")):
        if side not in place:  # no prior holds the advantage back
            raise NoMaximumError(
                f"fit: first_advantage = 'estimate', no maximum exists: the {word} item never won, "
                f"in comparisons of {listed(c.items)} (give a number)"
            )
    if not strong:
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
        return _with_findings(found, [Finding("first_advantage", text, moved)])
    raise NoMaximumError(
        f"fit: prior_sd = inf, no unique maximum exists: {text} "
        "(give a finite prior_sd, or first_advantage as a number)"
    )


def _prior_decides(
    items: tuple[Hashable, ...],
    problem: Problem,
    theta: Floats,
    curvature: Floats,
    error: Floats,
    found: Diagnostics,
) -> list[Finding]:
    """Return a finding on the scores that maximum likelihood puts more than half a standard error
    elsewhere. Where it puts them nowhere, the other findings have said so.
    """
    structural = any(finding.structural for finding in found.findings)
    if problem.precision == 0.0 or structural:
        return []
    flat = dataclasses.replace(problem, precision=0.0)
    step, _ = solve(flat.deflated(curvature), flat.evaluate(theta)[1])
    n, limit = problem.n, 0.5 * error
    if (np.abs(step[:n]) <= 0.5 * limit).all():
        return []
    free, _, _ = newton(flat, theta, 0.0, 1e-6, 100)
    names = tuple(items[k] for k in np.flatnonzero(np.abs(free - theta)[:n] > limit))
    if not names:
        return []
    scores = "score" if len(names) == 1 else "scores"
    text = (
        f"the prior moves the {scores} of {listed(names)} by more than half a standard error "
        "(a larger prior_sd leaves more to the data)"
    )
    return [Finding("prior_decides", text, names)]


def _position_bias(c: Comparisons, problem: Problem, theta: Floats) -> list[Finding]:
    """Return a finding where the first position wins too often, or too rarely, to be chance.

    Score test of the advantage at the fitted scores: four standard errors, and at least 2 % from
    even between equals. The size is what would be estimated.
    """
    if problem.estimated or not c.ordered or not (problem.wins + problem.losses).any():
        return []
    wider = dataclasses.replace(problem, estimated=True)
    at = np.append(theta, problem.fixed)
    _, gradient, curvature = wider.evaluate(at)
    matrix = wider.deflated(curvature)
    unit = np.zeros(at.size)
    unit[-1] = 1.0
    variance = float(solve(matrix, unit)[0][-1])
    bias = variance * float(gradient[-1])
    if not abs(bias) > 4.0 * math.sqrt(max(0.0, variance)):
        return []
    first, second = float(c.wins.sum()), float(c.losses.sum())
    share = first / (first + second) if first + second else 0.5
    text = f"the first position won {100 * share:.1f}% of {first + second:.10g} decided comparisons"
    if 0.0 < share < 1.0:
        best, _, converged = newton(wider, at, 0.0, 1e-6, 50)
        total = float(best[-1]) if converged else problem.fixed + bias
        even = float(probabilities(np.array([total]), problem.link)[0])
        if converged and abs(even - 0.5) < 0.02 and problem.fixed == 0.0:
            return []
        text += f", and would win about {100 * even:.0f}% between equals"
    return [Finding("position_bias", f"{text} (first_advantage='estimate' accounts for that)")]


def _with_findings(found: Diagnostics, findings: list[Finding]) -> Diagnostics:
    return dataclasses.replace(found, findings=(*found.findings, *findings))


def _not_converged(n_iter: int) -> Finding:
    text = f"not converged in {n_iter} Newton steps, the scores are not final (raise max_iter)"
    return Finding("not_converged", text)


def _report(diagnostics: Diagnostics, on_trouble: str) -> None:
    if diagnostics.findings and on_trouble != "ignore":
        message = DataWarning("fit: " + "; ".join(diagnostics.sentences()))
        if on_trouble == "raise":
            raise message
        warnings.warn(message, stacklevel=3)  # of the caller of fit


def _check_comparisons(comparisons: Comparisons, first_advantage: Any, ties: str) -> float | None:
    """Return the fixed value of the advantage, None where it is estimated."""
    if not isinstance(comparisons, Comparisons):
        kind = type(comparisons).__name__
        cure = "make one with Comparisons.from_pairs"
        raise TypeError(f"fit: comparisons is a {kind}, must be Comparisons ({cure})")
    if (n := len(comparisons.items)) > MAX_ITEMS:
        raise ValueError(f"fit: comparisons has {n} items, must be at most {MAX_ITEMS}")
    if not comparisons.n_comparisons > 0:
        raise ValueError("fit: all weights of these comparisons are 0")
    if comparisons.soft and ties != "half":
        rule = "ties are hidden in probabilities that the left won"
        raise ValueError(f"fit: ties = {ties!r}, but {rule} (use ties='half')")
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
    return None if estimated else float(first_advantage)


def _check_errors(comparisons: Comparisons, errors: str | None) -> str:
    rows = comparisons.rows
    clusters = () if rows is None else rows.labels.get("clusters", ())
    if errors is None:
        return "cluster" if len(clusters) > 1 else "sandwich"
    if errors not in ("sandwich", "fisher", "cluster"):
        raise ValueError(f"fit: errors = {errors!r}, must be sandwich or fisher or cluster")
    if errors == "cluster" and len(clusters) < 2:
        raise ValueError(
            f"fit: errors = 'cluster', but these comparisons have {len(clusters)} clusters, at "
            "least 2 are needed (use Comparisons.from_pairs with clusters=)"
        )
    return errors


def _check_anchors(
    comparisons: Comparisons, anchors: Mapping[Any, float] | None
) -> dict[Hashable, float]:
    if anchors is None:
        return {}
    if not isinstance(anchors, Mapping):
        kind = type(anchors).__name__
        raise TypeError(f"fit: anchors is a {kind}, must be a mapping of item to score")
    for item, score in anchors.items():
        if item not in comparisons.items:
            some = listed(comparisons.items)
            raise ValueError(f"fit: anchors has {item!r}, which is not among the items {some}")
        if not isinstance(score, numbers.Real) or not abs(float(score)) <= 1e6:
            raise ValueError(f"fit: anchors[{item!r}] = {score!r}, must be from -1e6 to 1e6")
    return {item: float(anchors[item]) for item in comparisons.items if item in anchors}


def _check_choices(*, link: str, ties: str, on_trouble: str) -> None:
    for name, value, allowed in (
        ("link", link, ("logit", "probit")),
        ("ties", ties, ("half", "drop")),
        ("on_trouble", on_trouble, ("warn", "raise", "ignore")),
    ):
        if not isinstance(value, str) or value not in allowed:
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
        inside = number and (low <= value <= high or (name == "prior_sd" and value == math.inf))
        if not inside:
            raise ValueError(f"fit: {name} = {value!r}, must be {rule}")
