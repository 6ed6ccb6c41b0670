"""The labelled fit: published answers, an independent gradient, existence, errors, messages."""

# budget: over 400 lines: published answers are typed in as facts

import itertools
import math
import os
import pickle
import re
import warnings
from pathlib import Path
from statistics import NormalDist

import mpmath
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import softmap
from softmap._sparse import System
from softmap.comparisons import Comparisons
from softmap.demo import BASEBALL, baseball
from softmap.errors import DataWarning, NoMaximumError
from softmap.fit import MAX_ITEMS, fit
from softmap.io import read_comparisons
from softmap.result import Estimate

INF = math.inf

# American League 1987 against Baltimore, estimate and standard error, and log-likelihood (binomial
# constants included): R, BradleyTerry2 1.1-2 (H. Turner and D. Firth, J. Stat. Software 48 (9),
# 2012), data of Agresti, Categorical Data Analysis
BASEBALL_LOGIT = {
    "Boston": (1.10769770537866, 0.333878206989037),
    "Cleveland": (0.683852769159161, 0.331876672710727),
    "Detroit": (1.43640843181244, 0.339568506378472),
    "Milwaukee": (1.58135587666139, 0.343255981594256),
    "New York": (1.24761784514139, 0.335860922525364),
    "Toronto": (1.29448512391181, 0.33666940142248),
}
BASEBALL_HOME = {
    "Boston": (1.1438026533056, 0.337842535245339),
    "Cleveland": (0.704694456907468, 0.335001717498819),
    "Detroit": (1.47535721359486, 0.344552212894513),
    "Milwaukee": (1.61955499358736, 0.347365683421863),
    "New York": (1.28134040328414, 0.340403721200138),
    "Toronto": (1.32711039808028, 0.340322567525342),
}
HOME = (0.302260655528941, 0.130943707455824)
# probit link; R's errors are from expected information
BASEBALL_PROBIT = {
    "Boston": (0.68126327949396, 0.199156723526617),
    "Cleveland": (0.415464981318129, 0.198425570953659),
    "Detroit": (0.876906358611448, 0.201444181411034),
    "Milwaukee": (0.970430458288916, 0.203073561873938),
    "New York": (0.763584663053864, 0.19993837717181),
    "Toronto": (0.797270081621267, 0.200333537380313),
}
# citations between statistics journals (S. M. Stigler, Statistical Science 9 (1994)): row cited by
# column; answers against Biometrika from the same R package
JOURNALS = ("Biometrika", "Comm Statist", "JASA", "JRSS-B")
CITATIONS = ((714, 730, 498, 221), (33, 425, 68, 17), (320, 813, 1072, 142), (284, 276, 325, 188))
CITATIONS_LOGIT = {
    "Comm Statist": (-2.94907249684391, 0.102545335511209),
    "JASA": (-0.479569769751993, 0.0605887292482307),
    "JRSS-B": (0.268954055819472, 0.0708299651111413),
}


def log_choose(n, k):
    return math.lgamma(n + 1) - math.lgamma(k + 1) - math.lgamma(n - k + 1)


def cdf(x, link):
    return 1.0 / (1.0 + math.exp(-x)) if link == "logit" else 0.5 * math.erfc(-x / math.sqrt(2.0))


def density(x, link):
    p = cdf(x, link)
    return p * (1.0 - p) if link == "logit" else math.exp(-x * x / 2.0) / math.sqrt(2.0 * math.pi)


def gradient(c, result):
    """Return the derivative of the objective by its definition, one comparison after the other."""
    advantage = result.first_advantage.value if result.first_advantage else 0.0
    share = 0.5 if result.ties == "half" else 0.0
    g = (result.prior_mean - result.scores) / result.prior_sd**2
    along = 0.0
    for i, j, w, x, t in zip(c.left, c.right, c.wins, c.losses, c.ties, strict=True):
        d = result.scores[i] - result.scores[j] + advantage
        f = density(d, result.link)
        slope = (w + share * t) * f / cdf(d, result.link) - (x + share * t) * f / cdf(
            -d, result.link
        )
        g[i] += slope
        g[j] -= slope
        along += slope
    return g, along


@pytest.mark.parametrize(
    ("options", "published"),
    [
        ({}, BASEBALL_LOGIT),
        ({"first_advantage": "estimate"}, BASEBALL_HOME),
    ],
)
@pytest.mark.parametrize("way", ["matrix", "graph", "compiled"])
def test_baseball_is_as_published(options, published, way, monkeypatch):
    if way != "matrix":  # the ways of large fits
        monkeypatch.setattr("softmap._newton.system_of", System)
    if way == "compiled":
        scores_alone = property(lambda self: self.size == self.n)
        monkeypatch.setattr("softmap._newton.Problem.well_connected", scores_alone)
    result = fit(baseball(), prior_sd=INF, errors="fisher", **options)
    for team, (estimate, error) in published.items():
        found = result.compare(team, "Baltimore")
        assert found.difference == pytest.approx(estimate, rel=1e-9)
        # R stops its iteration at a looser tolerance than ours, which shows in the errors
        assert found.standard_error == pytest.approx(error, rel=1e-7)
    if options:
        assert result.first_advantage.value == pytest.approx(HOME[0], rel=1e-9)
        assert result.first_advantage.standard_error == pytest.approx(HOME[1], rel=1e-7)


def test_baseball_log_likelihoods_are_as_published():
    constants = sum(log_choose(x + y, x) for _, _, x, y in BASEBALL)
    for options, published in (
        ({}, -64.259300495282),
        ({"first_advantage": "estimate"}, -61.553995952981),
        ({"link": "probit"}, -64.230043671833),
    ):
        result = fit(baseball(), prior_sd=INF, **options)
        assert result.log_likelihood + constants == pytest.approx(published, abs=1e-9)


@pytest.mark.parametrize("way", ["matrix", "compiled"])
def test_citations_are_as_published(way, monkeypatch):
    monkeypatch.setattr("softmap._newton.Problem.well_connected", way == "compiled")
    c = Comparisons.from_matrix(CITATIONS, items=JOURNALS)
    result = fit(c, prior_sd=INF, errors="fisher")
    for journal, (estimate, error) in CITATIONS_LOGIT.items():
        found = result.compare(journal, "Biometrika")
        assert found.difference == pytest.approx(estimate, rel=1e-8)
        assert found.standard_error == pytest.approx(error, rel=1e-6)
    saturated = sum(
        w * math.log(w / (w + x)) + x * math.log(x / (w + x))
        for w, x in zip(c.wins.tolist(), c.losses.tolist(), strict=True)
    )
    assert 2.0 * (saturated - result.log_likelihood) == pytest.approx(4.293383969889, abs=1e-8)


def information(c, result, expected):
    """Return the information of scores without Baltimore's, by the textbook formulas for probit."""
    n = len(c.items)
    h = np.zeros((n, n))
    for i, j, w, x in zip(c.left, c.right, c.wins, c.losses, strict=True):
        d = result.scores[i] - result.scores[j]
        f, p, q = density(d, "probit"), cdf(d, "probit"), cdf(-d, "probit")
        if expected:
            weight = (w + x) * f * f / (p * q)
        else:  # minus the second derivative of w log Phi(d) + x log Phi(-d)
            weight = w * (f / p) * (f / p + d) + x * (f / q) * (f / q - d)
        vector = np.zeros(n)
        vector[i], vector[j] = 1.0, -1.0
        h += weight * np.outer(vector, vector)
    others = [k for k, item in enumerate(c.items) if item != "Baltimore"]
    return h[np.ix_(others, others)], [c.items[k] for k in others]


def test_baseball_probit_is_as_published():
    c = baseball()
    result = fit(c, link="probit", prior_sd=INF, errors="fisher")
    observed, teams = information(c, result, expected=False)
    expected, _ = information(c, result, expected=True)
    ours = np.sqrt(np.diag(np.linalg.inv(observed)))
    as_in_r = np.sqrt(np.diag(np.linalg.inv(expected)))
    for k, team in enumerate(teams):
        estimate, error = BASEBALL_PROBIT[team]
        found = result.compare(team, "Baltimore")
        assert found.difference == pytest.approx(estimate, abs=5e-7)
        assert found.standard_error == pytest.approx(ours[k], rel=1e-10)
        assert as_in_r[k] == pytest.approx(error, rel=1e-5)


@st.composite
def problems(draw, max_items=6):
    n = draw(st.integers(2, max_items))
    pair = st.permutations(range(n)).map(lambda p: p[:2])
    outcome = st.sampled_from([1, 0, 0.5])
    rows = draw(st.lists(st.tuples(pair, outcome), min_size=1, max_size=25))
    weight = st.floats(0.01, 50.0)
    weights = draw(st.none() | st.lists(weight, min_size=len(rows), max_size=len(rows)))
    left, right = (np.array([p[k] for p, _ in rows]) for k in (0, 1))
    return n, left, right, [y for _, y in rows], weights


links = st.sampled_from(["logit", "probit"])


@settings(deadline=None)
@given(problems(), links, st.sampled_from(["half", "drop"]), st.floats(0.1, 30.0), st.floats(-2, 2))
def test_fit_is_stationary(problem, link, ties, prior_sd, mean):
    n, left, right, outcomes, weights = problem
    c = Comparisons.from_pairs(left, right, outcomes, weights=weights, items=n)
    options = {"link": link, "ties": ties, "prior_sd": prior_sd, "on_trouble": "ignore"}
    result = fit(c, prior_mean=mean, first_advantage=0.3, **options)
    assert result.converged
    g, _ = gradient(c, result)
    assert np.abs(g).max() <= 1e-9 * max(1.0, result.games.max())
    assert result.scores.mean() == pytest.approx(mean, abs=1e-12)
    assert result.gradient_max <= 1e-11
    try:
        result = fit(c, first_advantage="estimate", **options)
    except NoMaximumError:
        used = c.counts[:2] if ties == "drop" else c.counts[:2] + c.ties / 2.0
        assert not used.any(axis=1).all()  # one position never won
    else:
        g, along = gradient(c, result)
        assert result.converged
        assert max(np.abs(g).max(), abs(along)) <= 1e-8 * max(1.0, c.n_comparisons)


@settings(deadline=None)
@given(problems(), links, st.randoms(use_true_random=False))
def test_fit_is_equivariant_under_permutation(problem, link, random):
    n, left, right, outcomes, weights = problem
    order = list(range(n))
    random.shuffle(order)
    names = np.array([f"item {k}" for k in range(n)])
    options = {"link": link, "first_advantage": 0.2, "on_trouble": "ignore"}
    one = fit(
        Comparisons.from_pairs(left, right, outcomes, weights=weights, items=names.tolist()),
        **options,
    )
    shuffled = names[order].tolist()
    two = fit(
        Comparisons.from_pairs(
            names[left].tolist(), names[right].tolist(), outcomes, weights=weights, items=shuffled
        ),
        **options,
    )
    assert two.scores == pytest.approx(one.scores[order], abs=1e-9)
    assert two.standard_errors == pytest.approx(one.standard_errors[order], rel=1e-7)
    assert two.covariance == pytest.approx(one.covariance[np.ix_(order, order)], rel=1e-6, abs=1e-8)


@settings(deadline=None)
@given(problems(), links)
def test_turning_the_scores_round(problem, link):
    """Exchanging wins and losses changes the sign of every score and nothing else."""
    n, left, right, outcomes, weights = problem
    turned = [1 - y for y in outcomes]
    one, two = (
        fit(
            Comparisons.from_pairs(left, right, y, weights=weights, items=n),
            link=link,
            on_trouble="ignore",
        )
        for y in (outcomes, turned)
    )
    assert two.scores == pytest.approx(-one.scores, abs=1e-9)
    assert two.standard_errors == pytest.approx(one.standard_errors, rel=1e-7)


@settings(deadline=None)
@given(problems(max_items=4))
def test_maximum_likelihood_exists_exactly_when_it_says(problem):
    """No direction of the scores and the advantage may keep the likelihood from falling.

    The directions of difference constraints can be taken whole, within -n..n: all are tried.
    """
    n, left, right, outcomes, _ = problem
    c = Comparisons.from_pairs(left, right, outcomes, items=n)
    first, second = (c.wins + c.ties) > 0, (c.losses + c.ties) > 0

    steps = np.array(list(itertools.product(range(-n, n + 1), repeat=n - 1)))
    steps = np.pad(steps, ((0, 0), (1, 0)))

    def never_falls(a):
        d = steps[:, c.left] - steps[:, c.right] + a
        kept = (d[:, first] >= 0).all(axis=1) & (d[:, second] <= 0).all(axis=1)
        return (kept & steps.any(axis=1)).any() if a == 0 else kept.any()

    for advantage, moves in ((0.0, (0,)), ("estimate", (-1, 0, 1))):
        if not any(never_falls(a) for a in moves):
            result = fit(c, prior_sd=INF, first_advantage=advantage, on_trouble="raise")
            assert result.converged
            assert abs(result.scores.sum()) <= 1e-9
        else:
            with pytest.raises(NoMaximumError):
                fit(c, prior_sd=INF, first_advantage=advantage)


def exact_scores(c, prior_sd):
    """Return the logit MAP by Newton's method in 60 digits."""
    with mpmath.workdps(60):
        n = len(c.items)
        s = mpmath.zeros(n, 1)
        for _ in range(200):
            g, h = -s / prior_sd**2, mpmath.eye(n) / mpmath.mpf(prior_sd) ** 2
            for i, j, w, x, t in zip(c.left, c.right, c.wins, c.losses, c.ties, strict=True):
                w, x = mpmath.mpf(float(w + t / 2)), mpmath.mpf(float(x + t / 2))
                p = 1 / (1 + mpmath.exp(s[int(j)] - s[int(i)]))
                slope, curvature = w * (1 - p) - x * p, (w + x) * p * (1 - p)
                for a, b in ((int(i), int(j)), (int(j), int(i))):
                    g[a] += slope if a == int(i) else -slope
                    h[a, a] += curvature
                    h[a, b] -= curvature
            step = mpmath.lu_solve(h, g)
            s = s + step
            if max(abs(x) for x in step) < mpmath.mpf(10) ** -30:
                return np.array([float(x) for x in s])
    raise AssertionError("the reference did not converge")


@pytest.mark.parametrize("prior_sd", [1.0, 10.0])
@pytest.mark.parametrize("losing", [0.0, 1e-12, 1e12])
@pytest.mark.parametrize("winning", [1e-12, 1.0, 1e6, 1e12, 1e15])
def test_weights_may_spread_widely(winning, losing, prior_sd):
    outcomes, weights = ["left", "right", "tie"], [winning, losing, 1.0]
    c = Comparisons.from_pairs(list("aab"), list("bbc"), outcomes, weights=weights)
    result = fit(c, prior_sd=prior_sd, on_trouble="ignore")
    assert result.converged
    assert result.scores == pytest.approx(exact_scores(c, prior_sd), rel=1e-8, abs=1e-8)
    assert np.isfinite(result.standard_errors).all()


def simulate(rng, n, rows, scores, nu=0.0):
    """Return Davidson outcomes of random pairs: a tie with odds nu to the geometric mean."""
    left = rng.integers(0, n, rows)
    right = (left + rng.integers(1, n, rows)) % n
    d = scores[left] - scores[right]
    win, tie = 1.0 / (1.0 + np.exp(-d) + nu * np.exp(-d / 2)), nu / (2.0 * np.cosh(d / 2) + nu)
    u = rng.random(rows)
    return Comparisons.from_pairs(
        left, right, np.select([u < win, u < win + tie], [1, 0.5], 0), items=n
    )


@pytest.mark.parametrize("link", ["logit", "probit"])
def test_sandwich_and_fisher_agree_on_untied_data(link):
    rng = np.random.default_rng(3)
    c = simulate(rng, 8, 8000, np.linspace(-1, 1, 8))
    if link == "probit":  # close scores, where the two links are nearly the same model
        c = simulate(rng, 8, 8000, np.linspace(-0.2, 0.2, 8))
    robust, fisher = (
        fit(c, link=link, errors=e, first_advantage="estimate") for e in ("sandwich", "fisher")
    )
    assert robust.standard_errors == pytest.approx(fisher.standard_errors, rel=0.05)
    assert robust.first_advantage.standard_error == pytest.approx(
        fisher.first_advantage.standard_error, rel=0.05
    )
    assert np.array_equal(robust.scores, fisher.scores)


@pytest.mark.parametrize("nu", [0.0, 1.5])
def test_standard_errors_cover(nu):
    """The sandwich predicts the spread of repeated fits; with ties Fisher errors are too wide."""
    rng = np.random.default_rng(11)
    scores = np.linspace(-1, 1, 6)
    fits = [
        [fit(c, errors=e) for e in ("sandwich", "fisher")]
        for c in (simulate(rng, 6, 600, scores, nu) for _ in range(300))
    ]
    spread = np.std([robust.scores for robust, _ in fits], axis=0).mean()
    robust = np.mean([robust.standard_errors for robust, _ in fits])
    fisher = np.mean([fisher.standard_errors for _, fisher in fits])
    assert robust == pytest.approx(spread, rel=0.06)
    if nu:
        assert fisher > 1.2 * spread
        return
    assert fisher == pytest.approx(robust, rel=0.03)
    inside = [abs(r.scores - scores) <= r.high - r.scores for r, _ in fits]
    assert np.mean(inside) == pytest.approx(0.95, abs=0.02)


def test_sandwich_knows_repeated_rows():
    """Doubling weights halves Fisher variances but tells nothing new: the sandwich stays."""
    left, right, won = list("abcab"), list("bcabc"), [1, 1, 1, 0, 0]
    once = fit(Comparisons.from_pairs(left, right, won, weights=1.0), prior_sd=INF)
    twice = Comparisons.from_pairs(left, right, won, weights=2.0)
    assert fit(twice, prior_sd=INF).standard_errors == pytest.approx(once.standard_errors, rel=1e-9)
    fisher = fit(twice, prior_sd=INF, errors="fisher").standard_errors
    single = fit(Comparisons.from_pairs(left, right, won), prior_sd=INF, errors="fisher")
    assert fisher == pytest.approx(single.standard_errors / math.sqrt(2.0), rel=1e-9)


def test_hand_made_pair():
    c = Comparisons.from_matrix([[0, 3], [1, 0]], items=["a", "b"])
    result = fit(c, prior_sd=INF, errors="fisher", level=0.9)
    assert result.scores == pytest.approx([math.log(3) / 2, -math.log(3) / 2], rel=1e-12)
    assert result.standard_errors == pytest.approx([math.sqrt(1 / 3)] * 2, rel=1e-12)
    half = NormalDist().inv_cdf(0.95) * math.sqrt(1 / 3)
    assert result.high - result.scores == pytest.approx([half] * 2)
    assert result.scores - result.low == pytest.approx([half] * 2)
    assert (result.games.tolist(), result.wins.tolist()) == ([4, 4], [3, 1])
    assert result.win_rate.tolist() == [0.75, 0.25]
    assert result.log_likelihood == pytest.approx(3 * math.log(0.75) + math.log(0.25))
    assert result.first_advantage is None
    found = result.compare("a", "b")
    assert (found.difference, found.standard_error) == pytest.approx(
        (math.log(3), math.sqrt(4 / 3))
    )
    assert found.high - found.low == pytest.approx(4 * half)
    assert found.probability == result.probability("a", "b") == pytest.approx(0.75)
    assert result.compare("a", "a").standard_error == 0.0


def test_fixed_advantage_explains_the_home_wins():
    # the first wins 3 of 4: with equal items log(3) explains it all
    left, right = list("aabb" * 2), list("bbaa" * 2)
    c = Comparisons.from_pairs(left, right, [1, 1, 1, 1, 1, 0, 1, 0])
    result = fit(c, first_advantage=math.log(3))
    assert result.first_advantage == Estimate(math.log(3), 0.0)
    assert result.scores == pytest.approx([0.0, 0.0], abs=1e-12)
    estimated = fit(c, prior_sd=INF, first_advantage="estimate", errors="fisher").first_advantage
    assert estimated.value == pytest.approx(math.log(3))
    assert estimated.standard_error == pytest.approx(1.0 / math.sqrt(8 * 3 / 4 * 1 / 4))


def test_ties_half_or_dropped():
    c = Comparisons.from_pairs(list("aaabb"), list("bbbaa"), [1, 0.5, 0.5, 1, 1])
    half, drop = fit(c), fit(c, ties="drop")
    assert half.n_ties.tolist() == drop.n_ties.tolist() == [2, 2]
    assert half.win_rate.tolist() == [0.4, 0.6]
    assert drop.win_rate == pytest.approx([1 / 3, 2 / 3])
    untied = fit(Comparisons.from_pairs(list("abb"), list("baa")))
    assert drop.scores == pytest.approx(untied.scores, abs=1e-12)
    assert drop.standard_errors == pytest.approx(untied.standard_errors, rel=1e-9)


def test_rank_ranges_by_their_definition():
    result = fit(baseball(), first_advantage="estimate")
    for i, item in enumerate(result.items):
        pairs = [result.compare(other, item) for other in result.items if other != item]
        assert result.rank[i] == 1 + sum(p.difference > 0 for p in pairs)
        assert result.rank_low[i] == 1 + sum(p.low > 0 for p in pairs)
        assert result.rank_high[i] == len(result.items) - sum(p.high < 0 for p in pairs)
    assert result.rank_low.min() == 1
    same = fit(Comparisons.from_pairs(["a", "b"], ["b", "a"]))
    assert same.rank.tolist() == same.rank_low.tolist() == [1, 1]
    assert same.rank_high.tolist() == [2, 2]


@pytest.mark.parametrize("link", ["logit", "probit"])
def test_probabilities(link):
    result = fit(baseball(), link=link)
    p = result.probability_matrix()
    assert p + p.T == pytest.approx(np.ones((7, 7)), abs=1e-14)
    for i, j in ((0, 4), (4, 0)):
        d = result.scores[i] - result.scores[j]
        assert p[i, j] == pytest.approx(cdf(d, link), rel=1e-12)
        assert result.probability(result.items[i], result.items[j]) == p[i, j]
    elo = result.rescale("elo", anchor="Boston", center=1500.0)
    assert elo.probability_matrix() == pytest.approx(p, abs=1e-12)


def test_rescale_to_elo():
    result = fit(baseball(), first_advantage="estimate")
    factor = 400.0 / math.log(10.0)
    elo = result.rescale()
    assert elo.scores == pytest.approx(1000.0 + factor * result.scores, abs=1e-9)
    assert elo.standard_errors == pytest.approx(factor * result.standard_errors, rel=1e-9)
    assert elo.first_advantage.value == pytest.approx(factor * result.first_advantage.value)
    assert elo.unit == "Elo"
    anchored = elo.rescale("elo", anchor="Boston", center=1500.0)
    boston = result.items.index("Boston")
    assert anchored.scores[boston] == 1500.0
    assert anchored.standard_errors[boston] == 0.0
    for k, team in enumerate(result.items):
        pair = result.compare(team, "Boston")
        assert anchored.scores[k] - 1500.0 == pytest.approx(factor * pair.difference, abs=1e-9)
        assert anchored.standard_errors[k] == pytest.approx(factor * pair.standard_error, abs=1e-9)
        assert anchored.high[k] == pytest.approx(1500.0 + factor * pair.high, abs=1e-9)
    for field in ("rank", "rank_low", "rank_high"):
        assert np.array_equal(getattr(anchored, field), getattr(result, field))
    probit = fit(baseball(), link="probit")
    assert np.ptp(probit.rescale().scores) == pytest.approx(
        200 * math.sqrt(2) * np.ptp(probit.scores)
    )


@pytest.mark.parametrize(
    ("method", "arguments", "message"),
    [
        ("probability", ("x", "Boston"), "Fit.probability: a = 'x' is not among the items"),
        ("compare", ("Boston", "x"), "Fit.compare: b = 'x' is not among the items"),
        ("rescale", ("points",), "Fit.rescale: to = 'points', it must be elo"),
    ],
)
def test_result_errors(method, arguments, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        getattr(fit(baseball()), method)(*arguments)


def test_rescale_errors():
    with pytest.raises(
        ValueError, match=re.escape("Fit.rescale: anchor = 'x' is not among the items")
    ):
        fit(baseball()).rescale(anchor="x")
    with pytest.raises(ValueError, match=re.escape("Fit.rescale: center = nan, it must be finite")):
        fit(baseball()).rescale(center=math.nan)


def test_result_is_frozen_and_pickles():
    result = fit(baseball(), first_advantage="estimate")
    again = pickle.loads(pickle.dumps(result))
    assert again.summary() == result.summary() == str(result)
    assert repr(again) == "Fit(7 items, logit, 273 comparisons)"
    with pytest.raises(AttributeError):
        result.scores = None
    for each in (result, again):
        with pytest.raises(ValueError, match="read-only"):
            each.scores[0] = 0.0


def test_summary():
    text = fit(baseball(), first_advantage="estimate").summary()
    assert text.splitlines() == [
        "Bradley-Terry, MAP, prior N(0, 10^2), logits   7 items, 273 comparisons",
        text.splitlines()[1],
        "advantage of the first position 0.30 (standard error 0.13)",
        "",
        "rank  item       score    95% interval  ranks  games  win%",
        "   1  Milwaukee   0.54  [ 0.13,  0.95]    1-5     78  64.1",
        "   2  Detroit     0.40  [-0.01,  0.81]    1-5     78  60.3",
        "   3  Toronto     0.25  [-0.14,  0.64]    1-6     78  56.4",
        "   4  New York    0.20  [-0.21,  0.61]    1-6     78  55.1",
        "   5  Boston      0.06  [-0.31,  0.44]    1-6     78  51.3",
        "   6  Cleveland  -0.37  [-0.80,  0.05]    3-6     78  39.7",
        "   7  Baltimore  -1.08  [-1.54, -0.62]    7-7     78  23.1",
    ]
    assert re.fullmatch(
        r"converged in \d Newton steps \(gradient \d\.\de-\d\d\), "
        r"log-likelihood -169\.543, sandwich errors",
        text.splitlines()[1],
    )
    assert (
        "Thurstone, maximum likelihood, probits"
        in fit(baseball(), link="probit", prior_sd=INF).summary()
    )
    assert "prior N(2, 1^2)" in fit(baseball(), prior_mean=2, prior_sd=1).summary()
    assert "0.300 (given)" in fit(baseball(), first_advantage=0.3).summary()
    elo = fit(baseball()).rescale(anchor="Boston").summary()
    assert "   5  Boston      1000  [1000, 1000]    1-6     78  51.3" in elo.splitlines()


def test_summary_says_what_is_wrong():
    c = Comparisons.from_pairs(list("accd"), list("bddc"), items=list("abcde"))
    text = fit(c, on_trouble="ignore").summary()
    assert text.splitlines()[-5:] == [
        "! these comparisons alone do not determine all scores, the prior helps",
        "! e was never compared",
        "! the comparisons fall into 2 groups that never met: {a, b}; {c, d}",
        "! a never lost",
        "! b never won",
    ]
    assert re.search(r"e +0\.0 +\[.*\] +1-5 +0 +-$", text, re.MULTILINE)
    text = fit(baseball(), max_iter=1, on_trouble="ignore").summary()
    assert "NOT converged in 1 Newton step (" in text
    assert text.splitlines()[-1] == (
        "! not converged in 1 Newton step, the scores are not final (raise max_iter)"
    )


def test_trouble_is_one_warning():
    c = Comparisons.from_pairs(list("acd"), list("bdc"))
    with pytest.warns(DataWarning) as caught:
        result = fit(c)
    assert len(caught) == 1
    assert caught[0].filename == __file__
    assert str(caught[0].message) == (
        "fit: these comparisons alone do not determine all scores, the prior helps; "
        "the comparisons fall into 2 groups that never met: {a, b}; {c, d}; a never lost; "
        "b never won"
    )
    assert [f.code for f in result.diagnostics.findings] == [
        "disconnected",
        "undefeated",
        "winless",
    ]
    with pytest.raises(DataWarning, match="a never lost"):
        fit(c, on_trouble="raise")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        fit(c, on_trouble="ignore")
    with pytest.warns(DataWarning, match="not converged in 2 Newton steps"):
        assert not fit(baseball(), max_iter=2).converged


def test_errors_are_honest_where_only_the_prior_speaks():
    """An item or a group that never met the others has the error of its prior, not 0."""
    c = Comparisons.from_pairs(["a", "b"] * 50, ["b", "a"] * 50, items=["a", "b", "c"])
    for errors in ("fisher", "sandwich"):
        for prior_sd in (1.0, 10.0, 1e6):
            result = fit(c, prior_sd=prior_sd, errors=errors, on_trouble="ignore")
            # c ~ N(0, sd^2), the mean of a and b ~ N(0, sd^2 / 2)
            pair = result.compare("c", "a")
            expected = math.sqrt(
                1.5 * prior_sd**2 + result.compare("a", "b").standard_error ** 2 / 4
            )
            assert pair.standard_error == pytest.approx(expected, rel=1e-6)
            assert result.rank_low.tolist() == [1, 1, 1]
            if prior_sd == 10.0:
                assert result.compare("a", "b").standard_error == pytest.approx(0.2, rel=0.01)


def test_never_won_item_stays_finite():
    c = Comparisons.from_pairs(["a"] * 20, ["b"] * 20)
    for link in ("logit", "probit"):
        result = fit(c, link=link, errors="fisher", on_trouble="ignore")
        assert result.converged
        assert 1.0 < result.scores[0] < 10.0
        assert result.standard_errors[0] > 0.5
        assert result.rank_low.tolist() == [1, 1] or link == "probit"


NO_MAXIMUM = "fit: prior_sd = inf, no unique maximum exists: "


@pytest.mark.parametrize(
    ("left", "right", "outcome", "message"),
    [
        ("ab", "bc", "left", "a never lost; c never won (give a finite prior_sd)"),
        (
            "abcd",
            "badc",
            "left",
            "the comparisons fall into 2 groups that never met: {a, b}; {c, d} "
            "(give a finite prior_sd)",
        ),
        (
            "abacde",
            "bacdec",
            "left",
            "{a, b} never lost to any other item (give a finite prior_sd)",
        ),
    ],
)
def test_no_maximum_names_the_items(left, right, outcome, message):
    c = Comparisons.from_pairs(list(left), list(right), outcome)
    with pytest.raises(NoMaximumError, match="^" + re.escape(NO_MAXIMUM + message) + "$"):
        fit(c, prior_sd=INF)


def test_no_maximum_for_the_advantage():
    # a double round robin that the first always wins is strongly connected
    pairs = list(itertools.permutations("abc", 2))
    always = Comparisons.from_pairs(*zip(*pairs, strict=True), "left")
    for prior_sd in (10.0, INF):
        for c, word in (
            (always, "second"),
            (Comparisons.from_pairs(*zip(*pairs, strict=True), "right"), "first"),
        ):
            message = (
                f"fit: first_advantage = 'estimate', no maximum exists: the {word} item never won, "
                "in comparisons of a, b, c (give a number)"
            )
            with pytest.raises(NoMaximumError, match="^" + re.escape(message) + "$"):
                fit(c, prior_sd=prior_sd, first_advantage="estimate")
        assert fit(always, prior_sd=prior_sd, first_advantage=1.0).scores == pytest.approx(
            [0, 0, 0]
        )


CONFOUNDED = Comparisons.from_pairs(list("aabb"), list("cdcd"), [1, 0, 0, 1])


def test_advantage_that_the_scores_can_replace():
    """a and b are always first: the advantage is the same as a shift of their scores."""
    text = (
        "first_advantage cannot be told from the scores, together with a shift of a, b against "
        "the rest"
    )
    cure = "(give a finite prior_sd, or first_advantage as a number)"
    with pytest.raises(NoMaximumError, match="^" + re.escape(f"{NO_MAXIMUM}{text} {cure}") + "$"):
        fit(CONFOUNDED, prior_sd=INF, first_advantage="estimate")
    with pytest.warns(DataWarning, match=re.escape(text)):
        result = fit(CONFOUNDED, first_advantage="estimate")
    assert result.diagnostics.findings[-1].items == ("a", "b")
    assert fit(CONFOUNDED, prior_sd=INF).converged


@pytest.mark.parametrize(("outcome", "word"), [("left", "rise"), ("right", "fall")])
def test_advantage_that_runs_away_with_the_scores(outcome, word):
    """Each cycle of wins has more wins from one position, though both positions have won."""
    left, right = ["a", "b", "a"], ["b", "c", "c"]
    won = {"left": [1, 1, 0], "right": [0, 0, 1]}[
        outcome
    ]  # a > b > c > a: two of three by the first
    c = Comparisons.from_pairs(left, right, won)
    with pytest.raises(
        NoMaximumError, match=f"first_advantage can {word} without bound, together with"
    ):
        fit(c, prior_sd=INF, first_advantage="estimate")
    with pytest.warns(DataWarning, match=f"can {word} without bound"):
        assert fit(c, first_advantage="estimate").converged


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"link": "cauchit"}, "link = 'cauchit', it must be one of logit, probit"),
        (
            {"ties": "elo"},
            "ties = 'elo', it must be one of half, drop, davidson, rao-kupper, threshold",
        ),
        (
            {"errors": "robust"},
            "errors = 'robust', it must be one of sandwich, fisher, cluster, none",
        ),
        ({"on_trouble": "stop"}, "on_trouble = 'stop', it must be one of warn, raise, ignore"),
        (
            {"prior_sd": 0.0},
            "prior_sd = 0.0, it must be from 1e-6 to 1e6, or inf for maximum likelihood",
        ),
        (
            {"prior_sd": math.nan},
            "prior_sd = nan, it must be from 1e-6 to 1e6, or inf for maximum likelihood",
        ),
        (
            {"prior_sd": "10"},
            "prior_sd = '10', it must be from 1e-6 to 1e6, or inf for maximum likelihood",
        ),
        ({"prior_mean": INF}, "prior_mean = inf, it must be from -1e6 to 1e6"),
        ({"level": 95}, "level = 95, it must be above 0 and below 1"),
        ({"level": 0.0}, "level = 0.0, it must be above 0 and below 1"),
        ({"tol": 0.0}, "tol = 0.0, it must be above 0 and at most 0.1"),
        ({"max_iter": 0}, "max_iter = 0, it must be an integer from 1"),
        ({"max_iter": 2.5}, "max_iter = 2.5, it must be an integer from 1"),
        ({"max_iter": True}, "max_iter = True, it must be an integer from 1"),
        (
            {"first_advantage": "home"},
            "first_advantage = 'home', it must be a finite number or 'estimate'",
        ),
        (
            {"first_advantage": INF},
            "first_advantage = inf, it must be a finite number or 'estimate'",
        ),
        (
            {"first_advantage": None},
            "first_advantage = None, it must be a finite number or 'estimate'",
        ),
    ],
)
def test_option_errors(options, message):
    with pytest.raises(ValueError, match="^" + re.escape(f"fit: {message}") + "$"):
        fit(baseball(), **options)


def test_data_errors():
    unordered = Comparisons.from_matrix(CITATIONS)
    cure = "but which item was first is unknown in these comparisons (use Comparisons.from_pairs)"
    for advantage in (0.3, "estimate"):
        message = f"fit: first_advantage = {advantage!r}, {cure}"
        with pytest.raises(ValueError, match="^" + re.escape(message) + "$"):
            fit(unordered, first_advantage=advantage)
    cure = "it must be Comparisons (make one with Comparisons.from_pairs)"
    for function in (fit, softmap.fit_groups, softmap.diagnose, softmap.intransitivity):
        message = f"{function.__name__}: comparisons is a list, {cure}"
        with pytest.raises(TypeError, match="^" + re.escape(message) + "$"):
            function([("a", "b")])
    many = Comparisons.from_pairs([0], [1], items=MAX_ITEMS + 1)
    message = "fit: comparisons has 1000001 items, it must be at most 1000000"
    with pytest.raises(ValueError, match="^" + re.escape(message) + "$"):
        fit(many)
    nothing = Comparisons.from_pairs(["a"], ["b"], weights=0.0)
    message = "fit: all weights of these comparisons are 0"
    with pytest.raises(ValueError, match="^" + re.escape(message) + "$"):
        fit(nothing)


@settings(max_examples=20, deadline=None)
@given(problems(), st.floats(-3, 3))
def test_zero_weight_rows_change_nothing(problem, advantage):
    n, left, right, outcomes, _ = problem
    plain = Comparisons.from_pairs(left, right, outcomes, weights=1.0, items=n)
    more = plain + Comparisons.from_pairs([0], [1], weights=0.0, items=n)
    one, two = (fit(c, first_advantage=advantage, on_trouble="ignore") for c in (plain, more))
    assert two.scores == pytest.approx(one.scores, abs=1e-12)
    assert two.diagnostics == one.diagnostics


def test_five_hundred_items():
    rng = np.random.default_rng(5)
    n, scores = 500, rng.normal(0, 1, 500)
    c = simulate(rng, n, 50_000, scores - scores.mean())
    result = fit(c, first_advantage="estimate")
    g, along = gradient(c, result)
    assert max(np.abs(g).max(), abs(along)) < 1e-8
    z = (result.scores - (scores - scores.mean())) / result.standard_errors
    assert 0.9 < z.std() < 1.1
    assert abs(result.first_advantage.value) < 4 * result.first_advantage.standard_error


def test_crowd_votes():
    folder = os.environ.get("SOFTMAP_DATA")
    path = Path(folder or "", "llmfao.csv")
    if not folder or not path.exists():
        pytest.skip("llmfao.csv is wanted in the folder that SOFTMAP_DATA names")
    c = read_comparisons(path)
    result = fit(c, first_advantage="estimate")
    assert (len(result.items), result.n_comparisons, result.converged) == (59, 8931, True)
    g, along = gradient(c, result)
    assert max(np.abs(g).max(), abs(along)) < 1e-9
    assert result.items[int(np.argmax(result.scores))] == "GPT 4"
    assert result.diagnostics.findings == ()
