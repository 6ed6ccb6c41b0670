"""What a fit shows about the data, for `Fit.diagnostics`."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Hashable

import numpy as np

from softmap._columns import Floats
from softmap._newton import Problem, Terms, newton
from softmap.comparisons import Comparisons
from softmap.diagnostics import Diagnostics, Finding, listed
from softmap.outcomes import LINK_OF
from softmap.result import expected_shares


def findings_of(
    c: Comparisons,
    problem: Problem,
    theta: Floats,
    terms: Terms | None,
    error: Floats,
    found: Diagnostics,
    ties: str,
) -> list[Finding]:
    """Return the findings on a fit that converged."""
    if terms is None:  # errors="none"
        return [*_no_ties(c, ties), *_tie_model(problem, theta)]
    return [
        *_prior_decides(c.items, problem, theta, terms, error, found),
        *_position_bias(c, problem, theta),
        *_no_ties(c, ties),
        *_tie_model(problem, theta),
    ]


def _prior_decides(
    items: tuple[Hashable, ...],
    problem: Problem,
    theta: Floats,
    terms: Terms,
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
    step, _ = flat.step(terms, flat.evaluate(theta)[1], 1e-3)
    n, limit = problem.n, 0.5 * error
    if (np.abs(step[:n]) <= 0.5 * limit).all():
        return []
    free = newton(flat, theta, 0.0, 1e-6, 100).theta
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
    if problem.advantage is None or not c.ordered or not problem.counts[:2].any():
        return []
    wider = dataclasses.replace(problem, advantage=None)
    start = np.insert(theta, problem.n, problem.advantage)
    terms, gradient = wider.evaluate(start)
    at = problem.n
    unit = np.zeros(start.size)
    unit[at] = 1.0
    variance = float(wider.step(terms, unit, 1e-8)[0][at])
    bias = variance * float(gradient[at])
    if not abs(bias) > 4.0 * math.sqrt(max(0.0, variance)):
        return []
    first, second = float(c.wins.sum()), float(c.losses.sum())
    share = first / (first + second) if first + second else 0.5
    text = f"the first position won {100 * share:.1f}% of {first + second:.10g} decided comparisons"
    if 0.0 < share < 1.0:
        found = newton(wider, start, 0.0, 1e-6, 50)
        best, converged = found.theta, found.converged
        total = float(best[at]) if converged else problem.advantage + bias
        tie = problem.tie if wider.at_tie is None else float(best[wider.at_tie])
        p = expected_shares(np.array([total]), problem.link, problem.model, tie)
        even = float(p.win[0] + 0.5 * p.tie[0])
        if converged and abs(even - 0.5) < 0.02 and problem.advantage == 0.0:
            return []
        text += f", and would win about {100 * even:.0f}% between equals"
    return [Finding("position_bias", f"{text} (first_advantage='estimate' accounts for that)")]


def _no_ties(c: Comparisons, ties: str) -> list[Finding]:
    if ties not in LINK_OF or c.ties.any():
        return []
    text = f"nothing ended in a tie: ties={ties!r} has nothing to estimate its strength by"
    return [Finding("no_ties", text)]


def _tie_model(problem: Problem, theta: Floats) -> list[Finding]:
    """Return a finding where ties are too common, or too rare, among close items.

    The comparisons are cut in three by how close the items are to each other, advantage included.
    Observed and expected numbers of ties in the closest third differ by more than four standard
    deviations and 2 % of the comparisons.
    """
    if problem.model is None or problem.at_tie is None:
        return []
    d = problem.difference(theta, problem.left, problem.right)
    p = expected_shares(d, problem.link, problem.model, float(theta[problem.at_tie])).tie
    total = problem.counts.sum(axis=0)
    order = np.argsort(np.abs(d), kind="stable")
    close = order[: 1 + np.searchsorted(np.cumsum(total[order]), total.sum() / 3.0)]
    number, expected = problem.counts[2, close].sum(), (p * total)[close].sum()
    size, spread = total[close].sum(), math.sqrt((p * (1.0 - p) * total)[close].sum())
    if abs(number - expected) <= max(4.0 * spread, 0.02 * size):
        return []
    text = (
        f"{100 * number / size:.0f}% of the comparisons of close items are ties, and "
        f"{100 * expected / size:.0f}% by ties={problem.model!r} (another model may fit better)"
    )
    return [Finding("tie_model", text)]


def not_converged(n_iter: int) -> Finding:
    steps = "1 Newton step" if n_iter == 1 else f"{n_iter} Newton steps"
    text = f"not converged in {steps}, the scores are not final (raise max_iter)"
    return Finding("not_converged", text)


def rough_errors(uncertainty: float) -> list[Finding]:
    if uncertainty <= 0.1:
        return []
    text = f"standard errors are estimates that are off by about {100 * uncertainty:.0f}%"
    return [Finding("rough_errors", f"{text}, as most of each error is shared by many items")]
