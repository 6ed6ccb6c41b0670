"""Fits against NumPy, the loop of Compare2Score, choix and evalica."""

import timeit

import numpy as np
import pytest

import rivals
import softmap
from ops.fit import ANCHORS, LINKS, MIN_MAX_SCORE, PREFERENCES, random_tables
from softmap import _backend
from softmap.systems import compare2score


def best_time(call, repeats=5):
    return min(timeit.repeat(call, number=1, repeat=repeats))


def share_of_link(wins, link):
    """The share of a fit's time in which the link's slopes of all pairs and steps are computed.

    Logistic fits take fewer exponentials, one an item: of these it is an upper bound.
    """

    def fit():
        return softmap.fit_many(wins, prior_sd=1.0, link=link)

    count, n = wins.shape[:2]
    x = np.random.default_rng(1).normal(0, 1, min(1 << 20, count * n * (n - 1) // 2))
    special = _backend.cpu().special
    per_number = best_time(lambda: special(f"{link}_slope", x, np.empty_like(x))) / x.size
    numbers = count * n * (n - 1) // 2 * fit().n_iter.mean()
    return per_number * numbers / best_time(fit)


@pytest.mark.parametrize("who", ["softmap logit", "softmap probit", "numpy Newton", "scipy"])
@pytest.mark.parametrize(
    ("count", "n"), [(50_000, 4), (50_000, 6), (20_000, 8), (4000, 16), (1000, 32), (200, 64)]
)
def test_fit_many(measure, count, n, who):
    """SciPy takes one problem at a time; it is timed on a few and `fits` says on how many."""
    wins = random_tables(count, n)
    few = max(1, min(count, 640 // n))
    exact = rivals.newton_numpy(wins, 1.0, steps=12)
    calls = {
        f"softmap {k}": lambda k=k: softmap.fit_many(wins, prior_sd=1.0, link=k).scores
        for k in LINKS
    }
    softmap_calls = list(calls)
    calls["numpy Newton"] = rivals.newton_numpy(wins, 1.0)
    calls["scipy"] = rivals.newton_scipy(wins[:few], 1.0)
    expected = None if who == "softmap probit" else exact()
    fits = few if who == "scipy" else count
    expected = expected[:few] if who == "scipy" else expected
    atol = 1e-6 if who == "scipy" else 1e-9
    more = {"share_of_link": share_of_link(wins, who.split()[1])} if who in softmap_calls else {}
    measure(f"fit_many, tables of {n}", who, calls[who], expected, atol=atol, fits=fits, **more)


@pytest.mark.parametrize("who", ["softmap", "torch Adam loop, 100 steps"])
def test_score_one_image(measure, who):
    """Compare2Score: one image against five anchors. Adam ends up to 0.2 of 100 away."""

    def ours():
        return softmap.score_against_anchors(PREFERENCES, ANCHORS, rescale=(0, 100)).score

    calls = {"softmap": ours}
    if rivals.torch:
        calls["torch Adam loop, 100 steps"] = rivals.adam_torch(PREFERENCES, ANCHORS)
    if who not in calls:
        pytest.skip("torch is not installed")
    atol = 1e-6 if who == "softmap" else 0.5
    measure("score_against_anchors, one image", who, calls[who], MIN_MAX_SCORE["logit"], atol=atol)


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("link", LINKS)
def test_score_many_images(measure, link, threads):
    preferences = np.random.default_rng(0).random((100_000, 5))

    def ours():
        return softmap.score_against_anchors(preferences, ANCHORS, link=link, n_threads=threads)

    wins = np.zeros((4, 6, 6))
    wins[:, :5, :5], wins[:, 5, :5], wins[:, :5, 5] = ANCHORS, preferences[:4], 1 - preferences[:4]
    expected = softmap.fit_many(wins, prior_sd=1.0, link=link).scores[:, 5]
    np.testing.assert_allclose(ours().score[:4], expected, atol=1e-9)
    assert ours().status.max() == 0
    who = f"softmap {link}" + (f", {threads} threads" if threads > 1 else "")
    measure("score_against_anchors, 100,000 images", who, lambda: ours().score, fits=100_000)


@pytest.mark.parametrize("link", LINKS)
def test_score_many_images_from_logits(measure, link):
    """Compare2Score in one call: float32 five-level logits in, scores from 0 to 100 out."""
    logits = np.random.default_rng(0).normal(15, 5, (100_000, 5, 5)).astype(np.float32)

    def ours():
        return compare2score.score(logits, ANCHORS, link=link).score

    double, weights = logits.astype(np.float64), [0, 0.25, 0.5, 0.75, 1]
    p = softmap.level_scores(double, None, weights, temperature=100)
    expected = softmap.score_against_anchors(p.score, ANCHORS, link=link, rescale=(0, 100)).score
    group = "compare2score.score, 100,000 images"
    measure(group, f"softmap {link}", ours, expected, rtol=1e-4, fits=100_000)


@pytest.mark.parametrize("who", ["softmap from counts", "softmap", "choix ilsr", "evalica"])
@pytest.mark.parametrize(("n_rows", "n_items"), [(100_000, 100), (1_000_000, 100)])
def test_leaderboard(measure, n_rows, n_items, who):
    """From arrays of item numbers to centred scores; the rivals have no prior, ours is weak."""
    rng = np.random.default_rng(0)
    strength = rng.normal(0, 0.7, n_items)
    pairs = rng.integers(0, [[n_items], [n_items - 1]], (2, n_rows))
    a, b = pairs[0], pairs[1] + (pairs[1] >= pairs[0])
    first = rng.random(n_rows) < 1 / (1 + np.exp(strength[b] - strength[a]))
    left, right = np.where(first, a, b), np.where(first, b, a)

    def count():
        return softmap.Comparisons.from_pairs(left, right, np.ones(n_rows), items=n_items)

    counted = count()
    calls = {
        "softmap from counts": lambda: softmap.fit(counted).scores,
        "softmap": lambda: softmap.fit(count()).scores,
    } | (rivals.leaderboard_calls(left, right, n_items) if not who.startswith("softmap") else {})
    if who not in calls:
        pytest.skip(f"{who} is not installed")
    expected = calls["softmap from counts"]()
    measure(f"fit, {n_rows} comparisons of {n_items} items", who, calls[who], expected, atol=2e-3)
