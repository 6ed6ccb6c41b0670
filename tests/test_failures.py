"""Constructed failures: each is named, with the items at fault, before anyone believes a score."""

import itertools
import math

import numpy as np
import pytest

from softmap import Comparisons, DataWarning, NoMaximumError, fit

INF = math.inf
RING = [("a", "b"), ("b", "c"), ("c", "a")]  # each of a, b, c has beaten and lost


def pairs(rows, outcome="left", **options):
    left, right = zip(*rows, strict=True)
    return Comparisons.from_pairs(left, right, outcome, **options)


CASES = {
    "undefeated": (pairs([*RING, ("z", "a"), ("z", "b")]), ["undefeated"], ("z",)),
    "winless": (pairs([*RING, ("a", "z"), ("b", "z")]), ["winless"], ("z",)),
    "disconnected": (
        pairs([*RING, ("x", "y"), ("y", "x")]),
        ["disconnected"],
        ("a", "b", "c", "x", "y"),
    ),
    "split": (pairs([*RING, ("x", "y"), ("y", "x"), ("x", "a")]), ["split"], ("x", "y")),
    "never compared": (pairs(RING, items=["a", "b", "c", "d"]), ["never_compared"], ("d",)),
}


@pytest.mark.parametrize("case", CASES)
def test_failure_is_named(case):
    c, codes, items = CASES[case]
    with pytest.warns(DataWarning) as caught:
        result = fit(c)
    assert len(caught) == 1
    assert [finding.code for finding in result.diagnostics.findings] == codes
    (finding,) = result.diagnostics.findings
    assert finding.items == items
    assert finding.text in str(caught[0].message)
    with pytest.raises(NoMaximumError) as error:
        fit(c, prior_sd=INF)
    assert finding.text in str(error.value)


def test_chain_of_sixty_has_its_exact_range():
    n = 60
    wins = np.zeros((n, n))
    for k in range(n - 1):
        wins[k, k + 1], wins[k + 1, k] = 3, 1
    c = Comparisons.from_matrix(wins)
    result = fit(c, prior_sd=INF)
    assert result.converged
    assert result.diagnostics.findings == ()
    assert np.ptp(result.scores) == pytest.approx(59 * math.log(3), rel=1e-12)
    assert np.diff(result.scores) == pytest.approx(-math.log(3), rel=1e-9)
    with pytest.warns(DataWarning, match="the prior moves the scores of"):
        held = fit(c, prior_sd=3.0)
    assert np.ptp(held.scores) < 50.0
    (finding,) = held.diagnostics.findings
    assert finding.code == "prior_decides"


def test_always_first_wins():
    c = pairs(itertools.permutations("abcd", 2))
    with pytest.warns(DataWarning, match="won 100.0% of 36 decided comparisons"):
        result = fit(c + c + c)
    assert result.scores == pytest.approx(0.0, abs=1e-12)
    assert [finding.code for finding in result.diagnostics.findings] == ["position_bias"]
    with pytest.raises(NoMaximumError, match="the second item never won"):
        fit(c, first_advantage="estimate")


def test_first_wins_among_equals_is_told_from_strength():
    """Stronger items shown first more often: the bias is that of the position, not of the items."""
    rows = [("a", "b")] * 60 + [("b", "a")] * 20
    won = [1] * 45 + [0] * 15 + [1] * 5 + [0] * 15  # a wins 3 in 4 from either side
    c = pairs(rows, won)
    assert fit(c).diagnostics.findings == ()
    assert c.wins.sum() / c.n_comparisons == 0.625


def test_all_ties():
    result = fit(pairs(RING, "tie"))
    assert result.scores == pytest.approx(0.0, abs=1e-12)
    assert result.diagnostics.findings == ()
    with pytest.warns(DataWarning, match="a, b, c were never compared"):
        fit(pairs(RING, "tie"), ties="drop")
