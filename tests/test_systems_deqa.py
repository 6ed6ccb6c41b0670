"""The recipes of DeQA-Score, against the definitions in 50 digits and its official arithmetic."""

import math
from fractions import Fraction

import mpmath
import numpy as np
import pytest

import softmap
from softmap.systems import deqa, deqa_losses
from systems_cases import FIVE_LEVELS as FIVE
from systems_cases import VOCABULARY, close, mp, softmax

INF, NAN = np.inf, np.nan


@pytest.fixture(autouse=True)
def fifty_digits():
    with mpmath.workdps(50):
        yield


def test_deqa_score_and_variance(backend):
    p = softmax(FIVE)
    mean = sum(w * x for w, x in zip([5, 4, 3, 2, 1], p, strict=True))
    spread = sum((w - mean) ** 2 * x for w, x in zip([5, 4, 3, 2, 1], p, strict=True))
    mass = sum(softmax(VOCABULARY)[:5])
    r = deqa.score(VOCABULARY, range(5))
    for actual, want in [(r.score, mean), (r.variance, spread), (r.mass, mass)]:
        close(actual, want)
    full = softmax(VOCABULARY)[:5]
    r = deqa.score(VOCABULARY, range(5), open_set=True)
    close(r.probabilities, full)
    mean = sum(w * x for w, x in zip([5, 4, 3, 2, 1], full, strict=True))
    close(r.score, mean)
    spread = sum((w - mean) ** 2 * x for w, x in zip([5, 4, 3, 2, 1], full, strict=True))
    close(r.variance, spread)
    assert deqa.score(np.zeros((0, 7)), range(5), open_set=True).score.shape == (0,)


def label(mos, std, low, high, density="pdf", official=False):
    """The rule of the paper in 50 digits; `official` adds the epsilons of the official code."""
    tiny, step = (mp(1e-9), mp(1e-8)) if official else (0, 0)
    m = 4 * (mp(mos) - low) / (mp(high) - low) + 1
    s = 4 * mp(std) / (mp(high) - low)
    levels = [5, 4, 3, 2, 1]
    if density == "pdf":
        q = [mpmath.npdf(x, m, s) for x in levels]
    else:
        q = [mpmath.ncdf((x + 0.5 - m) / s) - mpmath.ncdf((x - 0.5 - m) / s) for x in levels]
    a, b = sum(q), sum(x * y for x, y in zip(levels, q, strict=True))
    alpha = (m - 3) / (b - 3 * a + tiny)
    p = [max(alpha * y + (1 - alpha * a) / 5, 0) for y in q]
    off = abs(sum(x * y for x, y in zip(levels, p, strict=True)) - m)
    if s >= mp(0.2) and off <= mp(0.1):
        return p, False
    for k in (1, 2, 3, 4):  # the lower interval wins at a level
        left, right = k - step, k + 1 + step
        if left <= m <= right:
            p = [mp(0)] * 5
            p[5 - k], p[4 - k] = (right - m) / (right - left), (m - left) / (right - left)
            break
    return p, True


CASES = [
    (62, 14, 1, 100), (98, 9, 1, 100), (3.2, 0.55, 1, 5), (4.9, 0.3, 1, 5), (1, 0.6, 1, 5),
    (4, 0.1, 1, 5), (2.25, 0.15, 1, 5), (5, 0.0625, 1, 5), (1.2, 0.9, 1, 5), (30, 40, 0, 100),
]  # fmt: skip


@pytest.mark.parametrize("density", ["pdf", "mass"])
@pytest.mark.parametrize(("mos", "std", "low", "high"), CASES)
def test_deqa_soft_labels(mos, std, low, high, density):
    r = deqa.soft_labels(mos, std, low=low, high=high, density=density)
    want, fallback = label(mos, std, low, high, density)
    close(r.probabilities, want, rtol=1e-11, atol=1e-14)
    assert r.fallback == fallback
    official, fallback = label(mos, std, low, high, density, official=True)
    close(r.probabilities, official, rtol=1e-7, atol=2e-8)
    assert r.fallback == fallback


def test_deqa_soft_labels_fall_back_for_both_reasons():
    """A small deviation; a mean that cutting off at 0 has moved."""
    r = deqa.soft_labels([4.5, 1.01, 3.0], [0.1, 1.5, 0.8], low=1, high=5)
    shifted, _ = label(1.01, 1.5, 1, 5)
    assert r.fallback.tolist() == [True, label(1.01, 1.5, 1, 5)[1], False]
    close(r.probabilities[0], [0.5, 0.5, 0, 0, 0])
    close(r.probabilities[1], shifted, rtol=1e-10)
    r = deqa.soft_labels(4.0, 0.5, low=1, high=5, max_shift=0.0)
    assert r.fallback
    assert r.probabilities.tolist() == [0, 1, 0, 0, 0]


def test_deqa_soft_label_of_the_centre_is_not_uniform():
    """Official code gives [0.2] * 5 with variance 2 there; just beside it, a bell."""
    official, _ = label(3.0, 0.5, 1, 5, official=True)
    assert [float(p) for p in official] == [0.2] * 5
    r = deqa.soft_labels([3.0, 3.0 + 1e-3], 0.5, low=1, high=5).probabilities
    assert abs(r[0] - r[1]).max() < 1e-3
    beside, _ = label(3.0 + 1e-6, 0.5, 1, 5)
    close(r[0], beside, atol=2e-6)
    assert r[0] @ (np.arange(5, 0, -1) - 3) ** 2 < 0.4
    np.testing.assert_array_equal(r[0], r[0, ::-1])


def test_deqa_soft_labels_refuse_and_mark():
    r = deqa.soft_labels([0.9, 5.1, NAN, 3, 3, 3], [1, 1, 1, -1, NAN, 0], low=1, high=5)
    assert np.isnan(r.probabilities).all(axis=-1).tolist() == [True] * 5 + [False]
    assert r.fallback.tolist() == [False] * 5 + [True]
    with pytest.raises(ValueError, match=r"high = 1, it must be above low = 1"):
        deqa.soft_labels(1, 1, low=1, high=1)
    with pytest.raises(ValueError, match="density = 'cdf', it must be one of pdf, mass"):
        deqa.soft_labels(1, 1, low=0, high=1, density="cdf")


def test_deqa_text_level():
    for low, high in [(0, 100), (1, 5), (-2, 3)]:
        grid = np.linspace(low - 1, high + 1, 64 * (high - low) + 129)
        want = [
            max(1, math.ceil(5 * Fraction(x - low) / (high - low))) if low <= x <= high else 0
            for x in grid.tolist()
        ]
        assert deqa.text_level(grid, low=low, high=high).tolist() == want
    assert deqa.text_level([1.8, 2.6, NAN], low=1, high=5).tolist() == [1, 2, 0]


def thurstone(a, va, b, vb):
    return mpmath.ncdf((mp(a) - b) / mpmath.sqrt(mp(va) + mp(vb)))


def test_fidelity_loss(backend):
    pred, gt = thurstone(3.4, 0.36, 2.9, 0.49), thurstone(3.6, 0.25, 2.7, 0.3)
    want = 1 - mpmath.sqrt(pred * gt) - mpmath.sqrt((1 - pred) * (1 - gt))
    p, t = (
        softmap.preference(a, b, link="probit", variance_a=v, variance_b=w)
        for a, b, v, w in [(3.4, 2.9, 0.36, 0.49), (3.6, 2.7, 0.25, 0.3)]
    )
    close(deqa_losses.fidelity_loss(p, t), want, rtol=1e-13)
    official = 1 - mpmath.sqrt(pred * gt + 1e-8) - mpmath.sqrt((1 - pred) * (1 - gt) + 1e-8)
    assert abs(want - official) < 5e-8


def test_fidelity_loss_of_equal_probabilities_is_zero():
    """Official code has -2e-8 there, for its epsilon."""
    p = np.linspace(0, 1, 101)
    assert (deqa_losses.fidelity_loss(p, p) == 0).all()
    official = 1 - 2 * np.sqrt(0.25 + 1e-8)
    assert -3e-8 < official < -1e-8
    near = deqa_losses.fidelity_loss(0.5, 0.5 + 1e-7)
    assert near == pytest.approx(1e-14 / 2, rel=1e-6)  # d^2 / (8 p (1 - p))
    assert np.isnan(deqa_losses.fidelity_loss([1.5, -0.5, NAN], 0.5)).all()


def test_kl_loss_is_over_the_whole_vocabulary():
    labels = [0.125, 0.25, 0.625, 0.0, 0.0]
    p = softmax(VOCABULARY)
    want = sum(mp(t) * mpmath.log(t / x) for t, x in zip(labels, p, strict=False) if t)
    close(deqa_losses.kl_loss(VOCABULARY, range(5), labels), want, rtol=1e-13)
    masked = np.array([*FIVE[:4], -INF, 2.0, -1.0])
    assert np.isfinite(deqa_losses.kl_loss(masked, range(5), labels))
    with pytest.raises(ValueError, match=r"labels has shape \(5,\), its last axis must be 4"):
        deqa_losses.kl_loss(VOCABULARY, range(4), labels)


def test_normal_gaps_are_rightly_named():
    """By numerical integration: the official Jensen-Shannon divergence is not one."""
    a, b = (mp(3.4), mp(0.6)), (mp(3.6), mp(0.5))

    def density(n):
        return lambda x: mpmath.npdf(x, *n)

    def kl(p, q):
        return mpmath.quad(lambda x: p(x) * mpmath.log(p(x) / q(x)), [-3, 2, 3.5, 5, 10])

    with mpmath.workdps(20):
        p, q = density(a), density(b)
        half = density((mp(3.5), mpmath.sqrt((a[1] ** 2 + b[1] ** 2) / 2)))
        both = (kl(p, half) + kl(q, half)) / 2
        js = (kl(p, lambda x: (p(x) + q(x)) / 2) + kl(q, lambda x: (p(x) + q(x)) / 2)) / 2
        gaps = deqa_losses.normal_gaps(3.4, 0.6, 3.6, 0.5)
        close(gaps.kl, kl(p, q), rtol=1e-10)
        close(gaps.midpoint_divergence, both, rtol=1e-10)
        assert [round(float(x), 4) for x in (both, js)] == [0.0247, 0.0236]
    # 2-Wasserstein: the quantiles move by (m_a - m_b) + (s_a - s_b) z.
    close(gaps.wasserstein, mpmath.sqrt(mp(0.04) + mp(0.01)), rtol=1e-14)
    gaps = deqa_losses.normal_gaps(0.0, [1, -1, NAN, 0], 0.0, [1, 1, 1, 1])
    assert np.isnan(gaps.kl).tolist() == [False, True, True, False]
    assert gaps.kl[0] == gaps.wasserstein[0] == gaps.midpoint_divergence[0] == 0
    assert gaps.kl[3] == INF
