"""Matrices of preferences against a copy of the result, SciPy and torch."""

import numpy as np
import pytest
import scipy.special

import rivals
import softmap
from ops.pairwise import DTYPES, LINKS, SIZES, random_problem


@pytest.mark.parametrize("who", ["copy", "fill", "softmap", "softmap out=", "scipy", "torch"])
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("size", SIZES, ids=str)
@pytest.mark.parametrize("link", LINKS)
def test_preference_matrix(measure, link, size, dtype, who):
    scores = np.random.default_rng(0).normal(0, 2, size).astype(dtype)
    function = {"logit": scipy.special.expit, "probit": scipy.special.ndtr}[link]
    wide = scores.astype(np.float64)
    expected = function(wide[..., :, None] - wide[..., None, :])
    out = np.empty((*size, size[-1]), dtype)
    calls = {
        "copy": rivals.copy(np.zeros_like(out)),
        "fill": lambda: out.fill(0.5),
        "softmap": lambda: softmap.preference_matrix(scores, link=link),
        "softmap out=": lambda: softmap.preference_matrix(scores, link=link, out=out),
    } | rivals.preference_calls(scores, link)
    if who not in calls:
        pytest.skip(f"{who} is not installed")
    group = f"preference_matrix, {link}, {size[0]} x {size[1]} scores, {dtype}"
    expected = None if who in ("copy", "fill") else expected
    measure(group, who, calls[who], expected, rtol=1e-4, atol=1e-6, bytes=2 * out.nbytes)


@pytest.mark.parametrize("who", ["softmap", "scipy", "choix"])
@pytest.mark.parametrize("link", LINKS)
def test_log_likelihood_and_gradient(measure, link, who):
    """100 items of 100,000 comparisons; choix, logit only, takes them one by one."""
    scores, wins, _ = random_problem(1, 100)
    wins = np.round(wins * 5)
    np.fill_diagonal(wins, 0)
    log, slope = {
        "logit": (scipy.special.log_expit, lambda d: scipy.special.expit(-d)),
        "probit": (
            scipy.special.log_ndtr,
            lambda d: np.exp(-d * d / 2 - scipy.special.log_ndtr(d)) / np.sqrt(2 * np.pi),
        ),
    }[link]

    def plain():
        d = scores[:, None] - scores
        up = wins * slope(d)
        return np.r_[(wins * log(d)).sum(), up.sum(axis=1) - up.sum(axis=0)]

    def ours():
        result = softmap.log_likelihood(scores, wins, link=link, gradient=True)
        return np.r_[result.value, result.gradient]

    calls = {"softmap": ours, "scipy": plain}
    if link == "logit":
        calls |= rivals.likelihood_calls(scores, wins)
    if who not in calls:
        pytest.skip(f"{who} is not installed, or has no such link")
    group = f"log_likelihood with gradient, {link}, 100 items"
    measure(group, who, calls[who], plain(), rtol=1e-9, atol=1e-7)


@pytest.mark.parametrize("who", ["softmap", "scipy"])
@pytest.mark.parametrize("link", LINKS)
def test_log_likelihood(measure, link, who):
    rng = np.random.default_rng(1)
    scores, wins = rng.normal(0, 2, (10_000, 6)), rng.integers(0, 5, (10_000, 6, 6)).astype(float)
    wins[:, np.arange(6), np.arange(6)] = 0
    log = {"logit": scipy.special.log_expit, "probit": scipy.special.log_ndtr}[link]

    def plain():
        return (wins * log(scores[:, :, None] - scores[:, None, :])).sum(axis=(1, 2))

    calls = {"softmap": lambda: softmap.log_likelihood(scores, wins, link=link), "scipy": plain}
    group = f"log_likelihood, {link}, 10,000 tables of 6"
    measure(group, who, calls[who], plain(), rtol=1e-12)
