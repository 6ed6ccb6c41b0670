"""Scores of many items from one set of comparisons: MAP or maximum likelihood, with errors."""

from __future__ import annotations

import math
import numbers
import warnings
from collections.abc import Hashable, Mapping
from typing import Any

import numpy as np

from softmap._check import check_choice
from softmap._columns import Floats
from softmap._covariance import covariance, ranks, variances_alone
from softmap._existence import require_maximum
from softmap._findings import findings_of, not_converged, rough_errors
from softmap._newton import Problem, make_problem, newton
from softmap._sparse import ranks_apart
from softmap._survey import Survey, survey
from softmap.comparisons import Comparisons, check_comparisons
from softmap.diagnostics import Diagnostics, listed, with_findings
from softmap.errors import DataWarning
from softmap.outcomes import (
    LINK_OF,
    NO_TIES,
    TIES,
    check_ties,
    parameter,
    strength_of,
    strength_slope,
)
from softmap.result import Estimate, Fit, normal_quantile

MAX_ITEMS = 1_000_000
MAX_COVARIANCE = 2000  # items whose covariance is kept


def fit(
    comparisons: Comparisons,
    *,
    link: str = "logit",
    ties: str = "half",
    tie_strength: float | str = "estimate",
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
    distribution function (Thurstone). With a tie model the sum is of wins_ij log win(d_ij) +
    losses_ij log loss(d_ij) + ties_ij log tie(d_ij), the probabilities of `outcome_matrices`, and
    the strength of ties is estimated too, if not given. The objective is concave. Newton's method
    from equal scores, a step halved while it passes the maximum along itself without raising the
    objective. Steps are solved by a matrix where most items met most others, elsewhere by
    elimination and conjugate gradients on the graph of the comparisons.

    Parameters
    ----------
    comparisons : Comparisons
    link : "logit" or "probit", default "logit"
    ties : "half", "drop", "davidson", "rao-kupper" or "threshold", default "half"
        A tie is half a win for each side, or is left out, or has a probability of its own:
        Davidson's and Rao and Kupper's models go with the logit link, the threshold with probit.
    tie_strength : float or "estimate", default "estimate"
        nu >= 0, theta >= 1 or eps >= 0 of the tie model (see `outcome_matrices`): a fixed number,
        or estimated (without a prior) in log nu, log theta or eps. Where nothing tied, the estimate
        is the one without ties and its error NaN.
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
    errors : "sandwich", "fisher", "cluster" or "none", optional
        Covariance from the observed information H (minus the second derivatives of the objective):
        "fisher" is H^-1; "sandwich" is H^-1 M H^-1 with M the sum over comparisons of weight^2
        times the outer square of the derivative of the comparison's log-likelihood, plus the
        information of the prior (so that an item without comparisons has the error of its prior).
        The sandwich stays right where a weight is not a number of independent trials (a tie as two
        half wins makes "fisher" too wide), but needs data: it is too small for an item that has
        only won, only lost or only tied. "cluster" squares the sum over each cluster instead, with
        the factor G / (G - 1) for G clusters: right where comparisons depend on each other within a
        cluster, for some dozens of clusters or more. "none" leaves errors NaN, ranks open and the
        findings that need errors out: for the time that they take among many items. Default:
        "cluster" where clusters were given, else "sandwich". Standard errors are of centred scores:
        C V C with C = I - 11'/n.
        Beyond 2,000 items no covariance is kept: standard errors of scores are then estimates by
        random probes, always the same, with the typical relative error `Fit.error_uncertainty`:
        typically a percent; more where comparisons are few, or most of an error is shared by many
        items, as with anchors. NaN where the probes say too little; the rank ranges count
        intervals that do not overlap. To 5,000 items `Fit.full_covariance` finds it when asked.
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
        advantage, or the strength of ties, cannot be told from the scores. With any prior: the
        advantage is to be estimated and no comparison was won from one of the two positions, or the
        strength and all comparisons are ties. Decided before iterating.
    ValueError
        An option out of its range, more than 1,000,000 items, first_advantage for comparisons
        without order.
    TypeError
        Something else than `Comparisons`.
    DataWarning
        With on_trouble="raise".

    References
    ----------
    R. A. Bradley and M. E. Terry, Rank analysis of incomplete block designs, Biometrika 39 (1952).
    L. L. Thurstone, A law of comparative judgment, Psychological Review 34 (1927).
    R. R. Davidson, On extending the Bradley-Terry model to accommodate ties, JASA 65 (1970).
    P. V. Rao and L. L. Kupper, Ties in paired-comparison experiments, JASA 62 (1967).
    H. White, Maximum likelihood estimation of misspecified models, Econometrica 50 (1982).

    Examples
    --------
    a beat b in 3 of 4: the difference is log(3 / 1) = 1.0986, with variance 1 / (4 * 3/4 * 1/4).

    >>> c = Comparisons.from_matrix([[0, 3], [1, 0]], items=["a", "b"])
    >>> both = fit(c, prior_sd=float("inf")).compare("a", "b")
    >>> f"{both.difference:.4f} {both.standard_error:.4f} {both.probability:.4f}"
    '1.0986 1.1547 0.7500'
    """
    # budget: over 60 lines, as each option and each field of the result has its own
    check_choice("fit", "link", link, tuple(dict.fromkeys(LINK_OF.values())))
    check_choice("fit", "on_trouble", on_trouble, ("warn", "raise", "ignore"))
    check_ties("fit", ties, link, TIES)
    _check_numbers(prior_sd, prior_mean, level, tol, max_iter)
    advantage = _check_comparisons(comparisons, first_advantage, ties)
    tie = _check_strength(comparisons, ties, tie_strength)
    errors = _check_errors(comparisons, errors)
    mean = 0.0 if prior_sd == math.inf else float(prior_mean)
    held = _check_anchors(comparisons, anchors)
    seen = survey(comparisons, ties)
    diagnostics = require_maximum(
        comparisons,
        ties,
        seen,
        advantage=advantage is None,
        strength=tie is None,
        prior_sd=prior_sd,
        anchors=held,
    )
    less_mean = {item: score - mean for item, score in held.items()}
    problem = make_problem(
        comparisons,
        link,
        ties,
        advantage=advantage,
        tie=tie,
        prior_sd=prior_sd,
        anchors=less_mean,
        seen=seen,
    )
    best = newton(problem, problem.start(), mean, tol, max_iter)
    theta, n_iter, converged, value, gradient = best
    n, quantile = problem.n, normal_quantile(level)
    terms = None
    if errors != "none" or gradient is None:
        terms, gradient = problem.evaluate(theta)
        value = float(terms.value.sum())
    if errors == "none":
        terms = None
    scores, v, uncertainty = mean + theta[:n], None, 0.0
    if terms is None:
        error, variances = np.full(n, np.nan), np.full(theta.size - n, np.nan)
    elif n <= MAX_COVARIANCE:
        v, variances = covariance(problem, theta, terms, errors, ties, comparisons.rows)
        error = np.sqrt(np.maximum(np.diag(v), 0.0))
    else:
        squared, variances, uncertainty = variances_alone(
            problem, theta, terms, errors, ties, comparisons.rows
        )
        error = np.sqrt(np.maximum(squared, 0.0))
    low, high = scores - quantile * error, scores + quantile * error
    more = [not_converged(n_iter)]
    if converged:
        more = findings_of(comparisons, problem, theta, terms, error, diagnostics, ties)
        more += rough_errors(uncertainty)
    diagnostics = with_findings(diagnostics, more)
    _report(diagnostics, on_trouble)
    rank, rank_low, rank_high = (
        ranks_apart(scores, low, high) if v is None else ranks(scores, v, quantile)
    )
    return Fit(
        items=comparisons.items,
        scores=scores,
        standard_errors=error,
        low=low,
        high=high,
        rank=rank,
        rank_low=rank_low,
        rank_high=rank_high,
        games=seen.games,
        wins=seen.wins,
        n_ties=seen.ties,
        win_rate=_win_rate(seen),
        link=link,
        ties=ties,
        prior_sd=float(prior_sd),
        prior_mean=mean,
        level=float(level),
        log_likelihood=float(value or 0.0),
        first_advantage=_advantage(problem, theta, variances),
        tie_strength=_strength(problem, theta, variances, comparisons),
        converged=converged,
        n_iter=n_iter,
        gradient_max=problem.gradient_max(gradient, seen.used),
        diagnostics=diagnostics,
        errors=errors,
        covariance=v,
        error_uncertainty=uncertainty,
        n_comparisons=comparisons.n_comparisons,
        unit="logits" if link == "logit" else "probits",
        anchors=tuple(held.items()),
        comparisons=comparisons,
    )


def full_covariance(found: Fit, c: Comparisons) -> Floats:
    """Return the covariance of the scores of a fit of these comparisons, from its scores."""
    advantage, tie = found.fixed_parameters()
    theta = found.scores - found.prior_mean
    problem = make_problem(
        c,
        found.link,
        found.ties,
        advantage=advantage,
        tie=None if tie is None else parameter("Fit", found.ties, tie),
        prior_sd=found.prior_sd,
        anchors={item: score - found.prior_mean for item, score in found.anchors},
    )
    if problem.at_advantage is not None and found.first_advantage is not None:
        theta = np.append(theta, found.first_advantage.value)
    if problem.at_tie is not None and found.tie_strength is not None:
        theta = np.append(theta, parameter("Fit", found.ties, found.tie_strength.value))
    terms, _ = problem.evaluate(theta)
    return covariance(problem, theta, terms, found.errors, found.ties, c.rows)[0]


def _advantage(problem: Problem, theta: Floats, variances: Floats) -> Estimate | None:
    at = problem.at_advantage
    if at is not None:
        return Estimate(float(theta[at]), math.sqrt(variances[at - problem.n]))
    return None if problem.advantage == 0.0 else Estimate(float(problem.advantage or 0.0), 0.0)


def _strength(
    problem: Problem, theta: Floats, variances: Floats, c: Comparisons
) -> Estimate | None:
    """Return nu, theta or eps; without a tie in the data the one without ties, its error NaN."""
    model, at = problem.model, problem.at_tie
    if model is None:
        return None
    if at is None:
        error = 0.0 if c.ties.any() else math.nan
        return Estimate(float(strength_of(model, problem.tie)), error)
    error = float(strength_slope(model, theta[at])) * math.sqrt(variances[at - problem.n])
    return Estimate(float(strength_of(model, theta[at])), error)


def _win_rate(seen: Survey) -> Floats:
    part, whole = seen.wins.astype(np.float64), seen.used
    if not seen.dropped:
        part += 0.5 * seen.ties
    rate: Floats = np.divide(part, whole, out=np.full(whole.size, np.nan), where=whole > 0.0)
    return rate


def _report(diagnostics: Diagnostics, on_trouble: str) -> None:
    if diagnostics.findings and on_trouble != "ignore":
        message = DataWarning("fit: " + "; ".join(diagnostics.sentences()))
        if on_trouble == "raise":
            raise message
        warnings.warn(message, stacklevel=3)  # of the caller of fit


def _check_comparisons(comparisons: Comparisons, first_advantage: Any, ties: str) -> float | None:
    """Return the fixed value of the advantage, None where it is estimated."""
    check_comparisons("fit", comparisons)
    if (n := len(comparisons.items)) > MAX_ITEMS:
        raise ValueError(f"fit: comparisons has {n} items, it must be at most {MAX_ITEMS}")
    if not comparisons.n_comparisons > 0:
        raise ValueError("fit: all weights of these comparisons are 0")
    if comparisons.soft and ties != "half":
        rule = "ties are hidden in probabilities that the left won"
        raise ValueError(f"fit: ties = {ties!r}, but {rule} (use ties='half')")
    estimated = isinstance(first_advantage, str) and first_advantage == "estimate"
    number = isinstance(first_advantage, numbers.Real) and not isinstance(first_advantage, bool)
    if not estimated and not (number and math.isfinite(first_advantage)):
        raise ValueError(
            f"fit: first_advantage = {first_advantage!r}, it must be a finite number or 'estimate'"
        )
    if not comparisons.ordered and first_advantage != 0.0:
        raise ValueError(
            f"fit: first_advantage = {first_advantage!r}, but which item was first is unknown in "
            "these comparisons (use Comparisons.from_pairs)"
        )
    return None if estimated else float(first_advantage)


def _check_strength(comparisons: Comparisons, ties: str, strength: Any) -> float | None:
    """Return the fixed tie parameter, None where it is to be estimated."""
    if isinstance(strength, str) and strength == "estimate":
        if ties not in LINK_OF:
            return 0.0
        return None if comparisons.ties.any() else parameter("fit", ties, NO_TIES[ties])
    if ties not in LINK_OF:
        raise ValueError(f"fit: tie_strength = {strength!r}, ties = {ties!r} has none")
    if strength == NO_TIES[ties] and comparisons.ties.any():
        raise ValueError(f"fit: tie_strength = {strength!r} says that nothing ties, but some did")
    return parameter("fit", ties, strength)


def _check_errors(comparisons: Comparisons, errors: str | None) -> str:
    rows = comparisons.rows
    clusters = () if rows is None else rows.labels.get("clusters", ())
    if errors is None:
        return "cluster" if len(clusters) > 1 else "sandwich"
    if errors not in (kinds := ("sandwich", "fisher", "cluster", "none")):
        raise ValueError(f"fit: errors = {errors!r}, it must be one of {', '.join(kinds)}")
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
        raise TypeError(f"fit: anchors is a {kind}, it must be a mapping of item to score")
    known = {*comparisons.items}
    for item, score in anchors.items():
        if item not in known:
            some = listed(comparisons.items)
            raise ValueError(f"fit: anchors has {item!r}, which is not among the items {some}")
        if not isinstance(score, numbers.Real) or not abs(float(score)) <= 1e6:
            raise ValueError(f"fit: anchors[{item!r}] = {score!r}, it must be from -1e6 to 1e6")
    return {item: float(anchors[item]) for item in comparisons.items if item in anchors}


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
            raise ValueError(f"fit: {name} = {value!r}, it must be {rule}")
