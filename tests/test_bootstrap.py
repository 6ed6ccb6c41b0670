"""The compiled bootstrap: draws against the multinomial distribution, fits against `fit`."""

import math

import numpy as np
import pytest

import softmap
from softmap import Comparisons, _backend, fit

LINKS = [("half", "logit"), ("drop", "probit"), ("davidson", "logit")]
LINKS += [("rao-kupper", "logit"), ("threshold", "probit")]


def drawn(counts, total, key=1, first=0, n_sets=64):
    counts = np.asarray(counts, dtype=np.float64)
    return _backend.cpu().draw_counts(counts, total, key, first, n_sets, None)


@pytest.mark.parametrize("total", [7, 255, 256, 1000, 300_000])
def test_draws_have_the_moments_of_the_multinomial(total):
    rng = np.random.default_rng(0)
    shares = np.concatenate([rng.dirichlet(np.ones(30)), [0.0, 0.3, 0.0]])
    p = shares / shares.sum()
    n_sets = 4000
    found = drawn(1e6 * p, total, n_sets=n_sets)
    assert (found.sum(axis=0) == total).all()
    assert (found[p == 0.0] == 0).all()
    p, found = p[p > 0.0], found[p > 0.0]
    deviation = found.mean(axis=1) - total * p
    assert np.abs(deviation / np.sqrt(total * p * (1 - p) / n_sets)).max() < 4.5
    expected = total * (np.diag(p) - np.outer(p, p))
    # of a sample covariance: (v_ij^2 + v_ii v_jj) / n, more where counts are small
    scale = np.sqrt(np.outer(np.diag(expected), np.diag(expected)))
    allowed = scale * 6.0 * np.sqrt((2.0 + 1.0 / min(total * p.min(), 1.0)) / n_sets)
    assert (np.abs(np.cov(found) - expected) < allowed).all()


@pytest.mark.parametrize(("total", "rest"), [(300, 600), (2_000, 100), (40_000, 40_000)])
def test_one_count_is_binomial(total, rest):
    """Kolmogorov-Smirnov, at a distance that chance exceeds once in a million."""
    p = 100 / (100 + rest)
    n_sets = 20_000
    found = np.sort(drawn([100, rest], total, n_sets=n_sets)[0])
    k = np.arange(total + 1)
    log_p = [
        math.lgamma(total + 1)
        - math.lgamma(j + 1)
        - math.lgamma(total - j + 1)
        + j * math.log(p)
        + (total - j) * math.log1p(-p)
        for j in range(total + 1)
    ]
    below = np.searchsorted(found, k, side="right") / n_sets
    assert np.abs(below - np.cumsum(np.exp(log_p))).max() < 2.7 / math.sqrt(n_sets)


def test_a_data_set_depends_on_its_number_alone():
    counts = np.random.default_rng(2).integers(0, 50, 300)
    total = int(counts.sum())
    whole = drawn(counts, total, n_sets=100)
    assert np.array_equal(drawn(counts, total, first=37, n_sets=20), whole[:, 37:57])
    assert np.array_equal(drawn(counts, total, first=99, n_sets=1), whole[:, 99:])
    assert not np.array_equal(drawn(counts, total, key=2, n_sets=100), whole)
    assert len(np.unique(whole, axis=1).T) == 100


def test_weighed_draws_are_sums_over_rows():
    rng = np.random.default_rng(3)
    times = rng.integers(0, 4, (50, 21)).astype(np.int32)
    unit, category = rng.integers(0, 50, 400), np.sort(rng.integers(0, 60, 400))
    amount = rng.random(400)
    expected = np.zeros((60, 21))
    np.add.at(expected, category, amount[:, None] * times[unit])
    found = _backend.cpu().weigh_draws(times, unit, category, amount, 60, None)
    assert found == pytest.approx(expected, abs=1e-12)


def league(seed, n=12, rows=900, ties=0.25):
    rng = np.random.default_rng(seed)
    left = rng.integers(0, n, rows)
    right = (left + rng.integers(1, n, rows)) % n
    ahead = 0.15 * (left - right) + 0.3
    tied = rng.random(rows) < ties
    won = rng.random(rows) < 1.0 / (1.0 + np.exp(-ahead))
    return left, right, np.where(tied, 0.5, np.where(won, 1.0, 0.0))


@pytest.mark.parametrize(("ties", "link"), LINKS)
@pytest.mark.parametrize("advantage", [0.0, 0.2, "estimate"])
def test_scores_are_those_of_a_fit_of_the_drawn_counts(ties, link, advantage):
    c = Comparisons.from_pairs(*league(4), items=12)
    options = {"ties": ties, "link": link, "first_advantage": advantage, "prior_sd": 2.0}
    found = fit(c, **options, on_trouble="ignore").bootstrap(6, rng=5)
    key = int(np.random.default_rng(5).integers(2**64, dtype=np.uint64))
    c = c.without_order() if advantage == 0.0 else c
    counts = drawn(c.counts.ravel(), c.n_comparisons, key=key, n_sets=6).reshape(3, -1, 6)
    for k in range(6):
        outcome = np.repeat([1.0, 0.0, 0.5], counts[:, :, k].sum(axis=1))
        cell = np.concatenate([np.repeat(np.arange(c.left.size), x) for x in counts[:, :, k]])
        again = Comparisons.from_pairs(c.left[cell], c.right[cell], outcome, items=12)
        again = again if c.ordered else again.without_order()
        exact = fit(again, **options, on_trouble="ignore").scores
        assert found.scores[k] == pytest.approx(exact, abs=3e-8)


def test_anchors_stay_and_wide_scores_are_exact():
    left, right, outcome = league(6, ties=0.0)
    c = Comparisons.from_pairs(left, right, outcome, items=12)
    found = fit(c, anchors={0: 45.0, 1: 46.0}, prior_sd=50.0, prior_mean=40.0, on_trouble="ignore")
    resampled = found.bootstrap(40, rng=1)
    assert (resampled.scores[:, 0] == 45.0).all()
    assert (resampled.scores[:, 1] == 46.0).all()
    assert resampled.standard_errors[2:] == pytest.approx(found.standard_errors[2:], rel=0.5)


@pytest.mark.parametrize("prior_sd", [3.0, math.inf])
def test_few_comparisons_go_the_careful_way(prior_sd):
    c = Comparisons.from_pairs(*league(7, n=6, rows=30), items=6)
    found = fit(c, prior_sd=prior_sd, ties="davidson", on_trouble="ignore").bootstrap(200, rng=1)
    assert np.isfinite(found.standard_errors).all()
    assert (found.n_failed == 0) == (prior_sd == 3.0)


@pytest.mark.parametrize("by", ["row", "cluster"])
def test_any_number_of_threads_gives_the_same_bits(by):
    left, right, outcome = league(8, n=20, rows=4000)
    clusters = np.arange(4000) // 7 if by == "cluster" else None
    c = Comparisons.from_pairs(left, right, outcome, items=20, clusters=clusters)
    found = fit(c, on_trouble="ignore")
    scores = []
    for n_threads in (1, 3):
        with softmap.threads(n_threads):
            scores.append(found.bootstrap(150, by=by, rng=1).scores)
    assert np.array_equal(*scores)


def test_more_items_than_a_matrix_is_kept_of():
    n = 1100
    rng = np.random.default_rng(9)
    left = np.concatenate([np.arange(n)] * 8)
    right = (left + rng.integers(1, n, left.size)) % n
    c = Comparisons.from_pairs(left, right, rng.integers(0, 2, left.size), items=n)
    found = fit(c, prior_sd=1.0, on_trouble="ignore").bootstrap(3, rng=1)
    assert found.n_failed == 0
    assert np.isfinite(found.scores).all()
