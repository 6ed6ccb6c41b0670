"""Large fits of scores alone: the compiled Newton iterations against the definition."""

import math

import numpy as np
import pytest

import softmap
from softmap import Comparisons, fit

INF = math.inf


def power_law(seed, n=300, rows=40_000, exponent=0.8):
    """An arena whose items are shown in proportion to rank^-exponent."""
    rng = np.random.default_rng(seed)
    share = np.arange(1, n + 1) ** -exponent
    left, right = rng.choice(n, (2, rows), p=share / share.sum())
    keep = left != right
    left, right = left[keep], right[keep]
    d = rng.normal(0.0, 0.7, n)
    won = rng.random(left.size) < 1.0 / (1.0 + np.exp(d[right] - d[left]))
    outcome = np.where(rng.random(left.size) < 0.2, 0.5, won)
    return Comparisons.from_pairs(left, right, outcome, items=n)


def objective(c, scores, prior_sd, advantage=0.0):
    """The penalised log-likelihood and its gradient in long double, by the definition."""
    s = scores.astype(np.longdouble)
    d = s[c.left] - s[c.right] + np.longdouble(advantage)
    wins, losses = c.wins + 0.5 * c.ties, c.losses + 0.5 * c.ties
    value = -(wins * np.log1p(np.exp(-d)) + losses * np.log1p(np.exp(d))).sum()
    slope = wins / (1.0 + np.exp(d)) - losses / (1.0 + np.exp(-d))
    gradient = np.zeros(s.size, dtype=np.longdouble)
    np.add.at(gradient, c.left, slope)
    np.add.at(gradient, c.right, -slope)
    return value - (s**2).sum() / (2.0 * prior_sd**2), gradient - s / prior_sd**2


@pytest.mark.parametrize("prior_sd", [1.0, 10.0, INF])
@pytest.mark.parametrize("advantage", [0.0, 0.3])
def test_a_power_law_arena_is_at_the_maximum(prior_sd, advantage):
    c = power_law(1)
    found = fit(c, prior_sd=prior_sd, first_advantage=advantage, on_trouble="ignore")
    assert found.converged
    value, gradient = objective(c, found.scores, prior_sd, advantage)
    assert float(np.abs(gradient).max()) < 1e-9
    # nothing within reach of rounding is better by more than 1e-9 nats
    rng = np.random.default_rng(7)
    for size in (1e-3, 1e-6, 1e-9):
        near = found.scores + size * rng.normal(size=found.scores.size)
        assert float(objective(c, near - near.mean(), prior_sd, advantage)[0] - value) < 1e-9
    assert found.scores.mean() == pytest.approx(0.0, abs=1e-12)


def refined(c, scores, prior_sd):
    """The maximum, by Newton steps with the gradient in long double."""
    s, n = scores.astype(np.longdouble), scores.size
    for _ in range(3):
        p = 1.0 / (1.0 + np.exp((s[c.right] - s[c.left]).astype(np.float64)))
        weight = (c.wins + c.losses + c.ties) * p * (1.0 - p)
        h = np.zeros((n, n))
        np.subtract.at(h, (c.left, c.right), weight)
        np.subtract.at(h, (c.right, c.left), weight)
        h[range(n), range(n)] = prior_sd**-2.0 - h.sum(axis=1)
        shift = h.diagonal().mean() / n if prior_sd == INF else 0.0  # the scores keep their mean
        gradient = objective(c, s, prior_sd)[1]
        s = s + np.linalg.solve(h + shift, gradient.astype(np.float64))
    assert float(np.abs(objective(c, s, prior_sd)[1]).max()) < 1e-15 * float(h.max())
    return s


def arena(kind, n=300):
    """Everybody meets the two above (ladder), the first (star), its half and one pair (cliques)."""
    if kind == "power law":
        return power_law(11, n)
    rng = np.random.default_rng(8)
    k = np.arange(n)
    left, right = {
        "ladder": (np.r_[k[:-1], k[:-2]], np.r_[k[1:], k[2:]]),
        "star": (np.zeros(n - 1, dtype=int), k[1:]),
        "cliques": np.triu_indices(n, 1),
    }[kind]
    if kind == "cliques":
        keep = (left < n // 2) == (right < n // 2)
        left, right = np.r_[left[keep], 0], np.r_[right[keep], n - 1]
    times = 3 if kind == "cliques" else 30
    left, right = np.repeat(left, times), np.repeat(right, times)
    won = rng.random(left.size) < 0.55
    first = np.arange(left.size) % times
    won = np.where(first == 0, True, np.where(first == 1, False, won))  # each pair won and lost
    return Comparisons.from_pairs(left, right, won, items=n)


@pytest.mark.parametrize("prior_sd", [10.0, INF])
@pytest.mark.parametrize("kind", ["ladder", "star", "cliques", "power law"])
def test_nothing_is_lost_against_the_optimum_in_long_double(kind, prior_sd):
    c = arena(kind)
    found = fit(c, prior_sd=prior_sd, errors="none", on_trouble="ignore")
    assert found.converged
    best = refined(c, found.scores, prior_sd)
    gap = objective(c, best, prior_sd)[0] - objective(c, found.scores, prior_sd)[0]
    assert -1e-12 < float(gap) <= 1e-9
    assert float(np.abs(best - found.scores).max()) < 1e-8
    value = objective(c, found.scores, prior_sd)[0] + (found.scores**2).sum() / (2 * prior_sd**2)
    assert found.log_likelihood == pytest.approx(float(value), rel=1e-13)
    assert found.gradient_max < 1e-11


@pytest.mark.parametrize("link", ["logit", "probit"])
@pytest.mark.parametrize("anchors", [{}, {3: 0.5, 250: -1.0}])
def test_graph_and_compiled_steps_agree(link, anchors, monkeypatch):
    from softmap._newton import Problem

    c = power_law(2)
    options = {"link": link, "anchors": anchors, "on_trouble": "ignore"}
    one = fit(c, **options)
    monkeypatch.setattr(Problem, "well_connected", False)
    other = fit(c, **options)
    assert one.converged
    assert other.converged
    assert one.scores == pytest.approx(other.scores, abs=1e-9)
    assert one.standard_errors == pytest.approx(other.standard_errors, rel=1e-8)


def test_scores_far_apart():
    rng = np.random.default_rng(3)
    n = 80
    left, right = np.triu_indices(n, 1)
    rows = [left, right, np.ones(left.size)]  # the lower index wins, nearly always
    weights = rng.integers(1, 5, left.size) * 1.0
    c = Comparisons.from_pairs(*rows, items=n, weights=weights)
    found = fit(c, prior_sd=1000.0, errors="none", on_trouble="ignore")
    assert found.converged
    assert float(np.abs(objective(c, found.scores, 1000.0)[1]).max()) < 1e-9
    assert np.ptp(found.scores) > 80.0


def test_two_cliques_joined_by_one_pair():
    n = 200
    left, right = np.triu_indices(n, 1)
    inside = (left < 100) == (right < 100)
    rng = np.random.default_rng(4)
    left, right = np.append(left[inside], 0), np.append(right[inside], 150)
    rows = [np.repeat(x, 4) for x in (left, right)]
    outcome = rng.integers(0, 2, rows[0].size)
    outcome[-4:] = [1, 0, 1, 1]
    c = Comparisons.from_pairs(*rows, outcome, items=n)
    found = fit(c, prior_sd=INF, on_trouble="ignore")
    assert found.converged
    assert found.scores[0] - found.scores[150] == pytest.approx(math.log(3.0), abs=1e-9)
    apart = found.compare(0, 150).standard_error
    assert fit(c, prior_sd=INF, errors="fisher", on_trouble="ignore").compare(
        0, 150
    ).standard_error == pytest.approx(math.sqrt(1.0 / (4 * 0.75 * 0.25)), rel=1e-8)
    assert apart > 0.5


def test_any_number_of_threads_gives_the_same_bits():
    c = power_law(5, n=3000, rows=200_000)
    scores = []
    for n_threads in (1, 2, 3):
        with softmap.threads(n_threads):
            scores.append(fit(c, errors="none", on_trouble="ignore").scores)
    assert np.array_equal(scores[0], scores[1])
    assert np.array_equal(scores[0], scores[2])


def test_without_errors():
    found = fit(power_law(6), errors="none", on_trouble="ignore")
    assert np.isnan(found.standard_errors).all()
    assert np.isnan(found.low).all()
    assert (found.rank_low == 1).all()
    assert (found.rank_high == 300).all()
    assert found.covariance is None
    assert np.array_equal(found.rank, fit(power_law(6), on_trouble="ignore").rank)
    assert ", no errors" in found.summary()
    again = softmap.fit(power_law(6), errors="none", first_advantage="estimate")
    assert math.isnan(again.first_advantage.standard_error)


@pytest.mark.parametrize("scale", [0.1, 1.0])
def test_weights_of_both_directions_are_added_in_double(scale):
    """They fit single precision one by one, but their sums do not."""
    rng = np.random.default_rng(5)
    left, right = np.nonzero(~np.eye(80, dtype=bool))
    weights = (np.float32(scale) * rng.integers(1, 50, left.size).astype(np.float32)).astype(float)
    if scale == 1.0:
        weights[0], weights[1:3] = 2.0**24 - 1, 2.0**23 + 1
    c = Comparisons.from_pairs(
        left, right, rng.integers(0, 2, left.size), weights=weights, items=80
    )
    found = fit(c, errors="none", tol=1e-10, on_trouble="ignore")
    _, gradient = objective(c, found.scores, 10.0)
    assert found.converged
    assert abs(gradient).max() <= 1e-9 * weights.max()


def test_the_gradient_of_what_is_held_does_not_count():
    c = power_law(2, n=80, rows=4000)
    options = {"anchors": {0: 0.0}, "tol": 1e-3, "on_trouble": "ignore"}
    found = fit(c, errors="none", **options)
    _, gradient = objective(c, found.scores - found.scores[0], 10.0)
    assert found.gradient_max <= abs(gradient[1:]).max() * 2 + 1e-9
