"""Recipes for levels, tokens and prompts, against the definitions in 50 digits and plain loops."""

import itertools
import math
import statistics
from fractions import Fraction

import mpmath
import numpy as np
import pytest

import softmap
from softmap.systems import (
    adaptive_compute,
    ebv,
    ordinal,
    ptrue,
    qalign,
    qbench,
    realqa,
    zpe,
)
from systems_cases import FIVE_LEVELS as FIVE
from systems_cases import VOCABULARY, close, mp, softmax

INF, NAN = np.inf, np.nan


@pytest.fixture(autouse=True)
def fifty_digits():
    with mpmath.workdps(50):
        yield


# Q-Bench, Q-Align


@pytest.mark.parametrize("temperature", [1, 100])
def test_qbench_is_the_logistic_of_the_difference(backend, temperature):
    logits = np.array([[3.0, 0.5, 2.0], [-80.0, 1.0, 90.0], [7.0, 9.0, 7.0]])
    want = [1 / (1 + mpmath.exp((mp(z[2]) - mp(z[0])) / temperature)) for z in logits]
    close(qbench.score(logits, good=0, poor=2, temperature=temperature), want)
    assert qbench.score(logits[2], good=0, poor=2) == 0.5


def test_qbench_of_synonyms(backend):
    """Sums of logits as in figure 5 of Q-Bench+: good, poor, high, low, fine, bad."""
    figure = [0.2276, 0.1909, 0.2176, 0.1677, 0.2441, 0.1874]
    for temperature in (1, 100):
        want = 1 / (1 + mpmath.exp((mp(0.5460) - mp(0.6893)) / temperature))
        got = qbench.score(figure, good=[0, 2, 4], poor=[1, 3, 5], temperature=temperature)
        close(got, want, rtol=1e-14)
    half = qbench.score(np.array([VOCABULARY] * 2, np.float16), [0, 1], [5, 6])
    close(half, [qbench.score(VOCABULARY, [0, 1], [5, 6])] * 2, rtol=1e-6)
    p = softmax(VOCABULARY, 100)
    want = (p[0] + p[1]) / (p[0] + p[1] + p[5] + p[6] + p[3])
    close(qbench.score(VOCABULARY, [0, 1], [5, 6, 3], synonyms="probabilities"), want)
    for good in ([0, 9], [0, 0], [0.5, 1]):
        with pytest.raises((TypeError, ValueError), match=r"^qbench.score: tokens\[0\] = "):
            qbench.score(VOCABULARY, good, 1)
    with pytest.raises(ValueError, match=r"qbench.score: synonyms = 'words'"):
        qbench.score(VOCABULARY, 0, 1, synonyms="words")


def test_qbench_temperature_keeps_the_order_only():
    """The traps: a mask, the order of the words, ties."""
    logits = np.random.default_rng(0).normal(0, 8, (50, 2))
    at_1, at_100 = (qbench.score(logits, good=0, poor=1, temperature=t) for t in (1, 100))
    assert np.argsort(at_1).tolist() == np.argsort(at_100).tolist()
    assert np.corrcoef(at_1, at_100)[0, 1] < 0.99
    np.testing.assert_allclose(at_1, 1 - qbench.score(logits, 1, 0, temperature=1), atol=1e-15)
    assert qbench.score([-INF, 3.0], good=0, poor=1) == 0
    assert np.isnan(qbench.score([-INF, -INF], good=0, poor=1))
    with pytest.raises(ValueError, match="given twice"):
        qbench.score(logits, good=0, poor=0)


def test_qalign_is_the_expected_level(backend):
    p = softmax(FIVE)
    close(qalign.score(FIVE), sum(w * x for w, x in zip([1, 0.75, 0.5, 0.25, 0], p, strict=True)))
    want = sum(w * x for w, x in zip([5, 4, 3, 2, 1], p, strict=True))
    close(qalign.score(VOCABULARY, range(5), levels=[5, 4, 3, 2, 1]), want)
    assert np.isnan(qalign.score([-INF] * 5))


def test_qalign_derivative_is_as_documented():
    z, h = np.array(FIVE), 1e-6
    p = softmap.softmax(z)
    steps = h * np.eye(5)
    numeric = (qalign.score(z + steps) - qalign.score(z - steps)) / (2 * h)
    close(numeric, p * (np.array([1, 0.75, 0.5, 0.25, 0]) - qalign.score(z)), atol=1e-9)


# RealQA, P(True), adaptive compute


def test_realqa_reads_digits(backend):
    logits = np.random.default_rng(1).normal(0, 3, (4, 3, 10))
    logits[1, 2] = 1.0  # all equal
    logits[2, 0, 2:] = -INF
    r = realqa.score(logits)
    for row in range(4):
        p = [softmax(place) for place in logits[row]]
        e = [sum(k * x for k, x in enumerate(place)) for place in p]
        top = [max(range(10), key=lambda k, place=place: place[k]) for place in p]
        places = [1, mp(0.1), mp(0.01)]
        close(r.digits[row], e, rtol=1e-13)
        close(r.value[row], sum(w * x for w, x in zip(places, e, strict=True)))
        spread = [sum((k - m) ** 2 * x for k, x in enumerate(q)) for q, m in zip(p, e, strict=True)]
        close(r.variance[row], sum(w * w * x for w, x in zip(places, spread, strict=True)), 1e-13)
        rest = [m - k * q[k] for m, k, q in zip(e, top, p, strict=True)]
        close(r.residual[row], sum(w * x for w, x in zip(places, rest, strict=True)), 1e-13)


def test_realqa_does_not_carry_and_takes_other_places():
    """7 or 8 tenths above 9: read digit by digit; two digits before the point."""
    logits = np.full((2, 10), -INF)
    logits[0, 1] = logits[1, 0] = 0.0
    assert realqa.score(logits, place_values=[10, 1]).value == 10
    for places in ([1.0, np.nan], [np.inf, 1.0]):
        with pytest.raises(
            ValueError, match=r"realqa.score: place_values = .*, they must be finite"
        ):
            realqa.score(logits, place_values=places)
    assert np.isnan(realqa.score(np.full((1, 10), -INF), place_values=[1]).value)
    vocabulary = np.full((2, 30), 50.0)
    vocabulary[:, 15:25] = logits
    assert realqa.score(vocabulary, range(15, 25), place_values=[10, 1]).value == 10
    with pytest.raises(ValueError, match="its last axis but one must be 3"):
        realqa.score(logits)


def test_p_true_and_its_mass(backend):
    z = [4.5, 3.25, 2.0, -1.0]
    p = softmax(z)
    r = ptrue.p_true(z, 0, 1)
    close([r.probability, r.mass], [p[0] / (p[0] + p[1]), p[0] + p[1]])
    close(r.probability * r.mass, p[0])  # unnormalised, in the whole vocabulary
    r = ptrue.p_true(z, [0, 2], [1, 3])
    close([r.probability, r.mass], [p[0] + p[2], 1])
    assert np.isnan(ptrue.p_true([-INF, -INF, 0.0], 0, 1).probability)


def test_p_ik_is_the_logistic(backend):
    z = [-800.0, -40.0, -2.0, 0.0, 1.75, 40.0, INF, -INF]
    close(ptrue.p_ik(z), [1 / (1 + mpmath.exp(-mp(x))) for x in z[:-2]] + [1, 0])


def test_adaptive_score_is_the_full_probability(backend):
    close(adaptive_compute.score([VOCABULARY], 3), [softmax(VOCABULARY)[3]])


def best_by_loop(scores, threshold):
    best = -1
    for k, s in enumerate(scores):
        if not math.isnan(s) and (best < 0 or s > scores[best]):
            best = k
        if s >= threshold:
            return best, k + 1
    return best, len(scores)


def test_best_of_n_stops_and_keep_prunes():
    """All rows of four from a few scores: ties, NaN and infinities occur."""
    rows = list(itertools.product([0.25, 0.5, 0.75, NAN, -INF], repeat=4))
    for threshold in (0.5, 0.6, INF):
        r = adaptive_compute.best_of_n(rows, threshold=threshold)
        want = [best_by_loop(row, threshold) for row in rows]
        assert list(zip(r.best.tolist(), r.drawn.tolist(), strict=True)) == want
    for fraction in (0.25, 0.3, 1):
        k = math.ceil(4 * fraction)
        got = adaptive_compute.keep(rows, fraction=fraction).tolist()
        for row, mask in zip(rows, got, strict=True):
            better = [sum(t > s for t in row) for s in row]
            assert mask == [not math.isnan(s) and b < k for s, b in zip(row, better, strict=True)]
    with pytest.raises(ValueError, match=r"fraction = 0, it must be in \(0, 1\]"):
        adaptive_compute.keep([1.0], fraction=0)
    with pytest.raises(ValueError, match=r"scores has shape \(2, 0\), it needs an answer"):
        adaptive_compute.best_of_n(np.zeros((2, 0)))


def test_adaptive_temperature():
    for n in range(1, 1026):
        want = 1 - Fraction(1, 2) ** next(k for k in itertools.count() if 2**k >= n)
        assert Fraction(adaptive_compute.temperature(n)) == want
    with pytest.raises(ValueError, match="n = 0, it must be at least 1"):
        adaptive_compute.temperature(0)


# Prompt ensembling


@pytest.mark.parametrize("normalization", ["both", "test", "pretrain", "pretrain_star", "none"])
def test_zpe_weights(normalization):
    rng = np.random.default_rng(3)
    logits, pretrain = rng.normal(0, 1, (3, 4, 5)), rng.normal(0.5, 1, (6, 4, 5))

    def mean(values):
        values = list(values)
        return sum(mp(v) for v in values) / len(values)

    def bias(p, c):
        test = mean(logits[:, p, c])
        before = mean(pretrain[:, p, c])
        star = mean(pretrain[:, p].ravel())
        every = {"both": (test + before) / 2, "test": test, "pretrain": before}
        return {**every, "pretrain_star": star, "none": 0}[normalization]

    best = [
        [max(mp(logits[i, p, c]) - bias(p, c) for c in range(5)) for p in range(4)]
        for i in range(3)
    ]
    each = zpe.weights(logits, pretrain, normalization=normalization, per_image=True)
    close(each, best, rtol=1e-12)
    w = zpe.weights(logits, pretrain, normalization=normalization)
    close(w, [mean(row[p] for row in best) for p in range(4)], rtol=1e-12)
    want = [[mean(w[p] * logits[i, p, c] for p in range(4)) for c in range(5)] for i in range(3)]
    close(zpe.aggregate(logits, w), want, rtol=1e-12, atol=1e-15)
    close(zpe.aggregate(logits, np.tile(w, (3, 1))), want, rtol=1e-12, atol=1e-15)


def test_zpe_selects_by_the_median_deviation():
    """A deviation of 0 divides by zero in the official code."""
    for w in ([1, 2, 3, 4, 9], [5, 5, 5, 5, 6], [-1, -1, 0, 0, 0], [2, 2]):
        median = statistics.median(w)
        mad = statistics.median(abs(x - median) for x in w)
        for threshold in (0.5, 2):
            want = [
                (x > median) if mad == 0 else Fraction(x - median) / Fraction(mad) > threshold
                for x in w
            ]
            assert zpe.select(w, threshold=threshold).tolist() == want


def test_zpe_refuses_what_does_not_fit():
    with pytest.raises(ValueError, match="normalization = 'both' needs pretrain_logits"):
        zpe.weights(np.zeros((2, 3, 4)))
    with pytest.raises(ValueError, match=r"pretrain_logits has shape \(2, 4, 3\), logits has"):
        zpe.weights(np.zeros((2, 3, 4)), np.zeros((2, 4, 3)))
    with pytest.raises(ValueError, match=r"logits has shape \(3, 4\), it must be \(images"):
        zpe.weights(np.zeros((3, 4)), normalization="none")
    with pytest.raises(ValueError, match="normalization = 'all', it must be one of both, test"):
        zpe.weights(np.zeros((2, 3, 4)), normalization="all")
    with pytest.raises(ValueError, match=r"weights has shape \(4,\), logits has \(2, 3, 4\)"):
        zpe.aggregate(np.zeros((2, 3, 4)), np.zeros(4))


# Ordered classes, basis vectors


def sigmoid(z):
    return 1 / (1 + mpmath.exp(-mp(z)))


CUMULATIVE = [[1.5, 0.2, -1.0], [0.1, 0.3, -0.2], [-60.0, -70.0, 40.0]]


def test_coral_may_be_negative_and_corn_not(backend):
    """The second row rises: official CORAL has a negative probability there, as here."""
    p, q = ordinal.coral(CUMULATIVE), ordinal.corn(CUMULATIVE)
    for row, z in enumerate(CUMULATIVE):
        c = [mp(1), *map(sigmoid, z), mp(0)]
        close(p[row], [a - b for a, b in itertools.pairwise(c)], rtol=1e-13, atol=1e-16)
        reached = [mp(1)]
        for x in z:
            reached.append(reached[-1] * sigmoid(x))
        close(q[row], [a - b for a, b in itertools.pairwise([*reached, mp(0)])], rtol=1e-13)
    assert p[1, 1] < 0 <= p[0].min()
    assert (q >= 0).all()
    close(p.sum(axis=-1), np.ones(3), rtol=1e-15)
    with pytest.raises(ValueError, match=r"ordinal.corn: logits has shape \(\), it needs at least"):
        ordinal.corn(1.0)


def test_ordinal_cross_entropy():
    importance = [1.0, 0.5, 2.0]
    for z, level in itertools.product(CUMULATIVE, range(4)):
        terms = [
            -w * mpmath.log(sigmoid(x) if level > k else 1 - sigmoid(x))
            for k, (w, x) in enumerate(zip(importance, z, strict=True))
        ]
        close(ordinal.cross_entropy(z, level, importance=importance), sum(terms), rtol=1e-13)
    assert np.isnan(ordinal.cross_entropy([[0.0]] * 3, [-1, 2, 5])).all()
    assert ordinal.cross_entropy([-INF, -INF], 0) == 0  # NaN as log sigmoid(z) - z


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_ebv_takes_features_of_any_length(backend, dtype):
    rng = np.random.default_rng(5)
    f, b = rng.normal(size=(3, 8)).astype(dtype), rng.normal(size=(4, 8)).astype(dtype)
    want = ebv.log_probabilities(f, b, temperature=0.5)
    for size in (2.0**80, 2.0**-80) if dtype == "float32" else (2.0**600, 2.0**-600):
        got = ebv.log_probabilities(f * b.dtype.type(size), b, temperature=0.5)
        np.testing.assert_array_equal(got, want)
        got = ebv.log_probabilities(f, b * b.dtype.type(size), temperature=0.5)
        np.testing.assert_array_equal(got, want)


@pytest.mark.parametrize("n", [50, 100, 200])
def test_adaptive_compute_keeps_the_share_as_written(n):
    for percent in range(1, 101):
        kept = adaptive_compute.keep(np.arange(float(n)), fraction=percent / 100).sum()
        assert kept == -(-percent * n // 100)


def test_ebv_is_the_softmax_of_cosines(backend):
    rng = np.random.default_rng(4)
    f, b = rng.normal(0, 3, (3, 4)), rng.normal(0, 1, (5, 4))
    got = ebv.log_probabilities(f, b, temperature=0.07)
    for row in range(3):
        cosines = [
            mpmath.fsum(mp(x) * mp(y) for x, y in zip(f[row], direction, strict=True))
            / mpmath.sqrt(mpmath.fsum(mp(x) ** 2 for x in f[row]))
            / mpmath.sqrt(mpmath.fsum(mp(y) ** 2 for y in direction))
            for direction in b
        ]
        e = [mpmath.exp(c / mp(0.07)) for c in cosines]
        close(got[row], [mpmath.log(x / mpmath.fsum(e)) for x in e], rtol=1e-12, atol=1e-13)
    assert np.isnan(ebv.log_probabilities(np.zeros(4), b, temperature=1.0)).all()
    with pytest.raises(ValueError, match=r"basis has shape \(5, 4\), features of shape \(3, 3\)"):
        ebv.log_probabilities(f[:, :3], b, temperature=1.0)
