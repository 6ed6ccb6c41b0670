"""Labelled fits with tie models: published answers, errors, existence, findings."""

import math
import warnings

import numpy as np
import pytest

import football
import softmap
from softmap import Comparisons, DataWarning, Fit, NoMaximumError, fit
from test_outcomes import PUDDINGS

INF = math.inf
LINK = {"davidson": "logit", "rao-kupper": "logit", "threshold": "probit"}
models = pytest.mark.parametrize("ties", LINK)


def matches():
    """760 matches; the home side is on the left."""
    left, right, outcome = [], [], []
    words = {"W": "left", "D": "tie", "L": "right"}
    for season, results in football.RESULTS.items():
        for home, row in results.items():
            for away, letter in zip(sorted(results), row, strict=True):
                if home != away:
                    left.append((home, season))
                    right.append((away, season))
                    outcome.append(words[letter])
    return Comparisons.from_pairs(left, right, outcome)


def puddings():
    wins, ties = np.zeros((6, 6), int), np.zeros((6, 6), int)
    for i, j, won, lost, tied in PUDDINGS:
        wins[i - 1, j - 1], wins[j - 1, i - 1] = won, lost
        ties[i - 1, j - 1] = ties[j - 1, i - 1] = tied
    return Comparisons.from_matrix(wins, tie_counts=ties, items=[1, 2, 3, 4, 5, 6])


def simulated(ties, n=8, games=400, seed=0, strength=1.6):
    """Comparisons with ties by the model."""
    rng = np.random.default_rng(seed)
    s = np.linspace(-1, 1, n)
    p = softmap.outcome_matrices(s, ties=ties, tie_strength=strength, first_advantage=0.2)
    i, j = rng.integers(0, n, (2, games))
    i, j = i[i != j], j[i != j]
    u = rng.random(i.size)
    win, tie = p.win[i, j], p.tie[i, j]
    outcome = np.where(u < win, 1.0, np.where(u < win + tie, 0.5, 0.0))
    return Comparisons.from_pairs(i, j, outcome, items=n)


# Published answers


def test_football_is_as_published():
    found = fit(
        matches(),
        ties="davidson",
        first_advantage="estimate",
        prior_sd=1e4,
        on_trouble="ignore",
        tol=1e-13,
    )
    assert found.converged
    for season, published in football.PUBLISHED.items():
        scores = {
            club: s
            for (club, year), s in zip(found.items, found.scores, strict=True)
            if year == season
        }
        assert scores.keys() == published.keys()
        first = min(published)
        for club, value in published.items():
            difference = scores[club] - scores[first]
            assert difference == pytest.approx(value - published[first], abs=1e-6)
    assert found.first_advantage.value == pytest.approx(football.HOME, abs=1e-6)
    assert math.log(found.tie_strength.value) == pytest.approx(football.LOG_NU, abs=1e-6)
    deviance = football.MINUS_TWO_LOG_LIKELIHOOD
    assert -2.0 * found.log_likelihood == pytest.approx(deviance, abs=1e-6)


def test_puddings_are_as_published():
    found = fit(puddings(), ties="davidson", prior_sd=INF, errors="fisher")
    published = [0, 0.220241900241, 0.152977704854, 0.17514490859, 0.133865226991, 0.377134895802]
    assert found.scores - found.scores[0] == pytest.approx(published, abs=1e-9)
    error = [0, 0.187216981622, 0.193518358125, 0.188211087235, 0.192704560790, 0.192406233636]
    for k in range(1, 6):
        both = found.compare(k + 1, 1)
        assert both.standard_error == pytest.approx(error[k], rel=1e-8)
    strength = found.tie_strength
    assert math.log(strength.value) == pytest.approx(-0.291927086248, abs=1e-9)
    assert strength.standard_error / strength.value == pytest.approx(0.0824986917, rel=1e-7)
    assert found.log_likelihood == pytest.approx(-809.7095100903, abs=1e-8)


# The same answer as fit_many


@models
@pytest.mark.parametrize("prior_sd", [1.0, INF])
@pytest.mark.parametrize("advantage", [0.3, "estimate"])
@pytest.mark.parametrize("strength", ["estimate", 1.3])
def test_fit_agrees_with_fit_many(ties, prior_sd, advantage, strength):
    c = simulated(ties)
    options = {
        "ties": ties,
        "link": LINK[ties],
        "prior_sd": prior_sd,
        "first_advantage": advantage,
        "tie_strength": strength,
    }
    found = fit(c, **options, errors="fisher", on_trouble="ignore")
    wins, losses, drawn = np.zeros((3, 8, 8))
    for table, amount in ((wins, c.wins), (losses, c.losses), (drawn, c.ties)):
        table[c.left, c.right] = amount
    many = softmap.fit_many(wins, losses=losses, tie_counts=drawn, standard_errors=True, **options)
    assert found.scores == pytest.approx(many.scores, abs=1e-10)
    assert found.standard_errors == pytest.approx(many.standard_errors, rel=1e-8)
    for one, other in (
        (found.first_advantage, many.first_advantage),
        (found.tie_strength, many.tie_strength),
    ):
        if other is not None:
            assert one.value == pytest.approx(other.value, abs=1e-9)
            assert one.standard_error == pytest.approx(other.standard_error, rel=1e-8)
    assert found.log_likelihood == pytest.approx(
        softmap.log_likelihood(
            found.scores,
            wins,
            losses=losses,
            tie_counts=drawn,
            ties=ties,
            link=LINK[ties],
            tie_strength=found.tie_strength.value,
            first_advantage=found.first_advantage.value,
        ),
        rel=1e-12,
    )


@models
def test_sandwich_and_cluster_errors_from_rows(ties):
    """Against H^-1 M H^-1 with derivatives by differences, row by row."""
    rng = np.random.default_rng(4)
    c = simulated(ties, n=4, games=120)
    left, right, outcome = [], [], []
    for i, j, amounts in zip(c.left, c.right, c.counts.T, strict=True):
        for value, number in zip((1.0, 0.0, 0.5), amounts, strict=True):
            left += [i] * int(number)
            right += [j] * int(number)
            outcome += [value] * int(number)
    cluster = rng.integers(0, 30, len(left))
    rows = Comparisons.from_pairs(left, right, outcome, items=4, clusters=cluster)
    options = {"ties": ties, "link": LINK[ties], "prior_sd": 2.0, "on_trouble": "ignore"}
    plain = fit(c, **options, errors="sandwich")
    by_cluster = fit(rows, **options)
    assert by_cluster.errors == "cluster"
    assert by_cluster.scores == pytest.approx(plain.scores, abs=1e-10)
    t = plain.tie_strength.value

    def value(i, j, y, theta):
        p = softmap.outcome_matrices(theta[[i, j]], ties=ties, tie_strength=theta[4])
        return math.log({1.0: p.win[0, 1], 0.5: p.tie[0, 1], 0.0: p.win[1, 0]}[y])

    theta = np.append(plain.scores, t)
    steps = 1e-4 * np.eye(5)
    slopes = np.array(
        [
            [(value(*row, theta + h) - value(*row, theta - h)) / 2e-4 for h in steps]
            for row in zip(left, right, outcome, strict=True)
        ]
    )
    prior = np.diag([0.25] * 4 + [0.0])

    def total(at):
        parts = (value(*row, at) for row in zip(left, right, outcome, strict=True))
        return math.fsum(parts) - 0.5 * at @ prior @ at

    information = -np.array(
        [
            [
                (
                    total(theta + g + h)
                    - total(theta + g - h)
                    - total(theta - g + h)
                    + total(theta - g - h)
                )
                / 4e-8
                for h in steps
            ]
            for g in steps
        ]
    )
    inverse = np.linalg.inv(information)
    centring = np.eye(5)
    centring[:4, :4] -= 0.25
    sums = np.array([slopes[cluster == k].sum(axis=0) for k in np.unique(cluster)])
    groups = len(sums)
    for found, meat in (
        (plain, slopes.T @ slopes),
        (by_cluster, sums.T @ sums * groups / (groups - 1.0)),
    ):
        v = centring @ inverse @ (meat + prior) @ inverse @ centring.T
        error = np.sqrt(np.diag(v))
        assert found.standard_errors == pytest.approx(error[:4], rel=1e-4)
        assert found.tie_strength.standard_error == pytest.approx(error[4], rel=1e-4)


@models
def test_strength_is_recovered_and_its_error_is_honest(ties):
    covered, errors = 0, []
    for seed in range(60):
        found = fit(
            simulated(ties, games=600, seed=seed),
            ties=ties,
            link=LINK[ties],
            first_advantage="estimate",
            on_trouble="ignore",
        )
        strength = found.tie_strength
        errors.append((strength.value - 1.6) / strength.standard_error)
        covered += abs(errors[-1]) < 1.96
    assert covered >= 51  # 57 expected; fewer in about 1 of 1,000 such sets
    assert abs(np.mean(errors)) < 0.6


# Results


@models
def test_probabilities_with_ties(ties):
    found = fit(simulated(ties), ties=ties, link=LINK[ties], on_trouble="ignore")
    both = found.compare(7, 0)
    assert both.win + both.tie + both.loss == pytest.approx(1.0, abs=1e-14)
    assert both.probability == pytest.approx(both.win + both.tie / 2, abs=1e-15)
    assert found.probability(7, 0) == both.probability
    matrix = found.probability_matrix()
    assert matrix[7, 0] == both.probability
    assert matrix + matrix.T == pytest.approx(1.0, abs=1e-14)
    p = softmap.outcome_matrices(
        found.scores[[7, 0]], ties=ties, tie_strength=found.tie_strength.value
    )
    assert both.win == pytest.approx(p.win[0, 1], rel=1e-13)
    assert both.tie == pytest.approx(p.tie[0, 1], rel=1e-13)


@models
def test_elo_and_json_keep_the_strength(ties):
    found = fit(simulated(ties), ties=ties, link=LINK[ties], on_trouble="ignore")
    elo = found.rescale("elo")
    assert elo.tie_strength == found.tie_strength
    assert elo.probability(7, 0) == pytest.approx(found.probability(7, 0), abs=1e-13)
    again = Fit.from_json(found.to_json())
    assert again.tie_strength == found.tie_strength
    assert again.to_json() == found.to_json()
    assert {"davidson": "nu", "rao-kupper": "theta", "threshold": "eps"}[ties] in found.summary()


def test_fit_without_a_model_compares_without_ties():
    both = fit(puddings()).compare(6, 1)
    assert both.tie == 0.0
    assert both.win == both.probability
    assert both.win + both.loss == pytest.approx(1.0, abs=1e-15)


@models
def test_no_ties_at_all_warn_of_nothing_but_that(ties):
    c = Comparisons.from_pairs(["a", "b", "a"], ["b", "a", "b"])
    with pytest.warns(DataWarning, match="nothing ended in a tie") as caught:
        found = fit(c, ties=ties, link=LINK[ties])
    assert len(caught) == 1
    plain = fit(c, link=LINK[ties])
    assert found.standard_errors == pytest.approx(plain.standard_errors, rel=1e-12)


@models
def test_bootstrap_with_ties(ties):
    found = fit(simulated(ties), ties=ties, link=LINK[ties], on_trouble="ignore")
    resampled = found.bootstrap(120, rng=1)
    assert resampled.n_failed == 0
    assert resampled.standard_errors == pytest.approx(found.standard_errors, rel=0.35)


# Existence


def test_nothing_but_ties():
    c = Comparisons.from_pairs(["a", "b", "c"], ["b", "c", "a"], "tie")
    for prior_sd in (1.0, INF):
        with pytest.raises(NoMaximumError, match="nothing but ties, in comparisons of a, b, c"):
            fit(c, ties="davidson", prior_sd=prior_sd)
    assert fit(c, ties="davidson", tie_strength=1.0).scores == pytest.approx(0.0, abs=1e-12)


def test_no_ties_is_the_fit_without_them():
    c = Comparisons.from_pairs(["a", "b", "a", "b"], ["b", "a", "b", "a"], [1, 1, 1, 0])
    with pytest.warns(DataWarning, match="nothing ended in a tie"):
        found = fit(c, ties="davidson")
    assert found.tie_strength.value == 0.0
    assert math.isnan(found.tie_strength.standard_error)
    assert found.scores == pytest.approx(fit(c).scores, abs=1e-13)
    assert "no ties" in found.summary()
    assert [f.code for f in found.diagnostics.findings] == ["no_ties"]


def test_a_win_and_a_tie_leave_the_strength_open():
    """a beats b once and ties once: d = 2 log nu can grow, the likelihood rises to 1/4."""
    c = Comparisons.from_pairs(["a", "a"], ["b", "b"], ["left", "tie"])
    message = "the strength of ties can rise without bound, together with a shift of b against"
    with pytest.raises(NoMaximumError, match=message):
        fit(c, ties="davidson", prior_sd=INF)
    with pytest.warns(DataWarning, match=message):
        found = fit(c, ties="davidson")
    assert [f.code for f in found.diagnostics.findings] == ["tie_strength"]
    assert found.diagnostics.findings[0].structural
    fixed = fit(c, ties="davidson", tie_strength=1.0, prior_sd=INF)
    # win : loss : tie = x : 1/x : 1 at x = exp(d/2); x * 1 is largest where 1/x^2 = x^2 ... / x
    x = math.exp(0.5 * (fixed.scores[0] - fixed.scores[1]))
    slope = 0.5 - (x - 1 / x) / (x + 1 / x + 1.0)
    assert slope == pytest.approx(0.0, abs=1e-9)


@pytest.mark.parametrize("advantage", [0.0, "estimate"])
def test_existence_with_ties_is_that_of_fit_many(advantage):
    rng = np.random.default_rng(5)
    agreed = [0, 0]
    for _ in range(150):
        rows = rng.integers(0, 4, (9, 2))
        rows = rows[rows[:, 0] != rows[:, 1]]
        c = Comparisons.from_pairs(
            rows[:, 0], rows[:, 1], rng.choice([1.0, 0.0, 0.5], len(rows)), items=4
        )
        wins, losses, drawn = np.zeros((3, 4, 4))
        for table, amount in ((wins, c.wins), (losses, c.losses), (drawn, c.ties)):
            table[c.left, c.right] = amount
        options = {"ties": "davidson", "prior_sd": INF, "first_advantage": advantage}
        many = softmap.fit_many(wins, losses=losses, tie_counts=drawn, **options)
        try:
            found = fit(c, **options, on_trouble="ignore")
        except NoMaximumError:
            assert many.status == softmap.Status.NO_MAXIMUM
            agreed[0] += 1
        else:
            assert many.status == softmap.Status.OK
            assert found.converged
            assert found.scores == pytest.approx(many.scores, abs=1e-7)
            agreed[1] += 1
    assert min(agreed) >= 10


# Findings and errors


def test_a_tie_model_that_does_not_fit_is_named():
    rng = np.random.default_rng(0)
    s = np.linspace(-3, 3, 10)
    i, j = rng.integers(0, 10, (2, 20_000))
    i, j = i[i != j], j[i != j]
    close = np.abs(s[i] - s[j]) < 1.0
    tied = rng.random(i.size) < np.where(close, 0.05, 0.4)  # the other way round
    won = rng.random(i.size) < 1 / (1 + np.exp(s[j] - s[i]))
    c = Comparisons.from_pairs(i, j, np.where(tied, 0.5, won), items=10)
    with pytest.warns(DataWarning, match="of the comparisons of close items are ties"):
        found = fit(c, ties="davidson")
    assert "tie_model" in [f.code for f in found.diagnostics.findings]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        fit(simulated("davidson", games=20_000), ties="davidson", first_advantage="estimate")


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"ties": "threshold"}, "ties = 'threshold', it belongs to link='probit'"),
        ({"ties": "davidson", "link": "probit"}, "ties = 'davidson', it belongs to link='logit'"),
        ({"tie_strength": 2.0}, "tie_strength = 2.0, ties = 'half' has none"),
        ({"ties": "rao-kupper", "tie_strength": 0.5}, "tie_strength = 0.5, .* theta >= 1"),
        (
            {"ties": "davidson", "tie_strength": 0.0},
            "tie_strength = 0.0 says that nothing ties, but some did",
        ),
    ],
)
def test_fit_refuses(options, text):
    with pytest.raises(ValueError, match=f"fit: {text}"):
        fit(puddings(), **options)


def test_soft_outcomes_have_no_ties():
    c = Comparisons.from_pairs(["a", "b"], ["b", "a"], [0.7, 0.5], soft=True)
    with pytest.raises(ValueError, match="ties are hidden in probabilities"):
        fit(c, ties="davidson")
