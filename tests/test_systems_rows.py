"""Recipes that read statistics of rows, against the definitions in 50 digits and plain loops."""

# budget: over 400 lines: a test a recipe, with its reference

import itertools
import math
from fractions import Fraction

import mpmath
import numpy as np
import pytest

from softmap.systems import (
    calibration,
    data_diet,
    dexml,
    energy,
    nkd,
    sampling,
    specdec,
    tempnet,
    text_tests,
    z_loss,
)
from systems_cases import close, mp

INF, NAN = np.inf, np.nan
ROWS = np.array([[9.5, 12.0, 13.25, 8.0, 4.75], [0.5, 0.25, -1.0, 3.0, 2.0], [1.0, 1.0, 1, 1, 1]])


@pytest.fixture(autouse=True)
def fifty_digits():
    with mpmath.workdps(50):
        yield


def log_softmax(row, temperature=1):
    """The definition; -inf is a mask."""
    z = [mp(x) / temperature for x in row]
    total = mpmath.log(mpmath.fsum(mpmath.exp(x) for x in z))
    return [x - total for x in z]


# Out of distribution


def test_energy_and_msp(backend):
    for t in (1, 0.5, 20):
        want = [-mp(t) * mpmath.log(sum(mpmath.exp(mp(z) / mp(t)) for z in row)) for row in ROWS]
        close(energy.energy(ROWS, temperature=t), want)
        close(energy.energy(ROWS, temperature=[t] * 3), want)
    close(energy.msp(ROWS), [mpmath.exp(max(log_softmax(row))) for row in ROWS])
    got = energy.msp([[0, -INF], [-INF, -INF], [NAN, 0], [1e30, 0]])
    np.testing.assert_array_equal(got, [1, NAN, NAN, 1])


def test_abet_is_energy_without_the_factor(backend):
    """The factor T turns the order of these two rows around: that is what AbeT takes away."""
    cosines, t = [[0.8, 0.2], [0.8, 0.2]], [0.5, 0.1]
    want = [
        -mpmath.log(sum(mpmath.exp(mp(c) / mp(s)) for c in row))
        for row, s in zip(cosines, t, strict=True)
    ]
    score, with_factor = energy.abet(cosines, t), energy.energy(cosines, temperature=t)
    close(score, want)
    close(with_factor, [mp(s) * w for s, w in zip(t, want, strict=True)])
    assert score[0] > score[1]
    assert with_factor[0] < with_factor[1]
    assert np.isnan(energy.abet(cosines, [0.0, -1.0])).all()


def test_abet_does_not_overflow():
    """In float32 a plain sum of exponentials does, above 88."""
    cosines, t = np.array([[1.0, 0.5]], np.float32), np.array([0.01], np.float32)
    with np.errstate(over="ignore"):
        assert np.log(np.exp(cosines / t[:, None]).sum(axis=1)) == INF
    got = energy.abet(cosines, t)
    assert got.dtype == np.float32
    close(got, [-100], rtol=1e-6)


# Training examples


def test_el2n_is_the_length_of_the_error(backend):
    rows = np.array([*ROWS, [40.0, 0, 0, 0, -INF]])
    for target in range(5):
        want = []
        for row in rows:
            p = [mpmath.exp(x) for x in log_softmax(row)]
            want.append(mpmath.sqrt(sum((x - (k == target)) ** 2 for k, x in enumerate(p))))
        close(data_diet.el2n(rows, target), want)
    runs = data_diet.el2n(np.stack([rows, 2 * rows]), [0, 1, 2, 3])
    assert runs.shape == (2, 4)
    close(runs[1], data_diet.el2n(2 * rows, [0, 1, 2, 3]))


def test_el2n_of_a_learned_example_keeps_its_digits():
    """softmax - onehot has none left where p rounds to 1."""
    got = data_diet.el2n([40.0, 0.0], 0)
    p = mpmath.exp(mp(-40)) / (1 + mpmath.exp(mp(-40)))
    close(got, p * mpmath.sqrt(2))
    half = data_diet.el2n(np.array([[4.0, 0.0, 1.0]], np.float16), [0])
    assert half.dtype == np.float32
    close(half, data_diet.el2n([[4.0, 0.0, 1.0]], [0]), rtol=1e-6)
    assert np.isnan(data_diet.el2n(ROWS, [-1, 5, -100])).all()
    with pytest.raises(TypeError, match=r"data_diet.el2n: target has dtype float64, it must be"):
        data_diet.el2n(ROWS, [0.0, 1.0, 2.0])
    with pytest.raises(ValueError, match=r"target has shape \(2,\), it must broadcast to \(3,\)"):
        data_diet.el2n(ROWS, [0, 1])


def test_dynamics_over_checkpoints(backend):
    logits = np.random.default_rng(0).normal(0, 2, (6, 3, 4))
    logits[2, 1] = 0.5  # a tie counts as found
    target = [3, 0, 1]
    r = data_diet.dynamics(logits, target)
    for i, y in enumerate(target):
        p = [mpmath.exp(log_softmax(logits[e, i])[y]) for e in range(6)]
        mean = sum(p) / 6
        close(r.confidence[i], mean)
        close(r.variability[i], mpmath.sqrt(sum((x - mean) ** 2 for x in p) / 6))
        assert r.correctness[i] == sum(logits[e, i, y] == max(logits[e, i]) for e in range(6)) / 6
    correctness = data_diet.dynamics(logits, [3, -1, 1]).correctness
    assert np.isnan(correctness).tolist() == [False, True, False]


# Losses


@pytest.mark.parametrize(("a", "b"), [(1, 0), (0.5, 2), (30, -1)])
def test_z_loss(a, b):
    for row, target in itertools.product([[1.0, -0.5, 2.0, 0.0], [3.0, 3.0, 3.0, -90.0]], range(4)):
        mean = sum(map(mp, row)) / 4
        z = (mp(row[target]) - mean) / mpmath.sqrt(sum((mp(x) - mean) ** 2 for x in row) / 4)
        got = z_loss.loss(row, target, a=a, b=b)
        close(got, mpmath.log(1 + mpmath.exp(a * (b - z))) / a)
        close(z_loss.loss([10 * x - 7 for x in row], target, a=a, b=b), got, rtol=1e-12)


def test_z_loss_without_a_scale_is_nan():
    assert np.isnan(z_loss.loss([[2.0, 2.0], [1.0, NAN]], 0)).all()
    assert np.isnan(z_loss.loss([[1.0, 2.0], [1.0, 2.0]], [-1, 2])).all()
    assert np.isnan(z_loss.loss(np.zeros((2, 0)), 0)).all()
    with pytest.raises(
        ValueError, match=r"z_loss.loss: target has shape \(2,\), it must broadcast"
    ):
        z_loss.loss([1.0, 2.0], [0, 1])


@pytest.mark.parametrize("value", [0.1, 0.3, 1.1, 100.1])
def test_z_loss_of_equal_outputs_is_nan(value):
    """Whose mean is rounded."""
    for n in (3, 7, 10, 1000):
        for dtype in ("f4", "f8"):
            row = np.full((2, n), value, dtype)
            assert np.isnan(z_loss.loss(row, 0)).all()
            assert np.isnan(z_loss.loss(row[0], 0))


@pytest.mark.parametrize("dtype", ["f4", "f8"])
def test_scales_at_which_squares_leave_the_range(dtype):
    k = 55.0 if dtype == "f4" else 400.0
    got = data_diet.el2n(np.array([[0, -k], [-k, 0]], dtype), [0, 1])
    np.testing.assert_allclose(got, np.sqrt(2) * np.exp(-k), rtol=2e-5 if dtype == "f4" else 1e-12)
    assert np.isnan(data_diet.el2n([[np.nan], [-np.inf]], 0)).all()
    for scale in (1e20, 1e-25) if dtype == "f4" else (1e200, 1e-200):
        loss = z_loss.loss(np.array([1, 3], dtype) * np.array(scale, dtype), 1, b=1.0)
        np.testing.assert_allclose(loss, np.log(2), rtol=1e-6)


def test_nothing_beside_the_target_and_nothing_drafted():
    close(nkd.loss([[2.0]], [[3.0]], 0), [0.0])
    assert specdec.draft_length(np.zeros((2, 0))).tolist() == [0, 0]


def test_acceptance_of_logits_is_nan():
    """Negative numbers are no probabilities."""
    r = specdec.acceptance([[0.5, 0.5], [2.0, -1.0]], [[0.25, 0.75], [0.5, 0.5]])
    np.testing.assert_allclose(r.rate, [0.75, np.nan])
    np.testing.assert_allclose(r.probability, [[1, 2 / 3], [1, np.nan]])
    assert np.isnan(specdec.acceptance([0.5, 0.5], [1.5, -0.5]).rate)


@pytest.mark.parametrize(("gamma", "temperature"), [(1.5, 1), (1.0, 4)])
def test_nkd(backend, gamma, temperature):
    student, teacher = ROWS, ROWS[[1, 0, 1]]
    got = nkd.loss(student, teacher, [2, 0, 4], gamma=gamma, temperature=temperature)
    for row, y in enumerate([2, 0, 4]):
        s, t = log_softmax(student[row])[y], mpmath.exp(log_softmax(teacher[row])[y])
        others = [k for k in range(5) if k != y]
        u = log_softmax(teacher[row][others], temperature)
        v = log_softmax(student[row][others], temperature)
        second = sum(mpmath.exp(x) * z for x, z in zip(u, v, strict=True))
        close(got[row], -t * s - mp(gamma) * temperature**2 * second)
    assert np.isnan(nkd.loss(student, teacher, [5, -1, 7])).all()
    assert nkd.loss(student, teacher, [2, 0, 4], temperature=1e200).tolist() == [INF] * 3
    masked = nkd.loss([0.0, 0.0, -INF], [0.0, 0.0, -INF], 0)
    assert masked == pytest.approx(math.log(2) / 2)


# Texts


LOGITS = np.random.default_rng(5).normal(0, 2, (2, 4, 6))
WORDS = np.array([[0, 5, 3, -100], [2, -1, -1, -1]])


def test_text_statistics(backend):
    r = text_tests.statistics(LOGITS, WORDS)
    for i in range(2):
        log_p, entropy, rank = [], [], []
        for z, word in zip(LOGITS[i], WORDS[i], strict=True):
            if word >= 0:
                row = log_softmax(z)
                log_p.append(row[word])
                entropy.append(-sum(mpmath.exp(x) * x for x in row))
                rank.append(mpmath.log(1 + sum(x > z[word] for x in z)))
        n = len(log_p)
        close(r.log_likelihood[i], sum(log_p) / n)
        close(r.entropy[i], sum(entropy) / n)
        close(r.statistic[i], (sum(log_p) + sum(entropy)) / n, rtol=1e-12)
        close(r.ratio[i], sum(log_p) / sum(entropy))
        close(r.log_rank[i], sum(rank) / n, atol=1e-15)


def test_text_without_tokens_is_nan():
    r = text_tests.statistics(LOGITS, np.full((2, 4), -100))
    assert np.isnan(r.statistic).all()
    nowhere = np.zeros((2, 4), bool)
    assert np.isnan(text_tests.cross_entropy_rate(LOGITS, LOGITS, mask=nowhere)).all()
    r = text_tests.statistics(np.zeros((1, 3)), [7])  # no such word
    assert np.isnan(r.log_likelihood)
    assert np.isnan(r.log_rank)
    assert r.entropy == pytest.approx(math.log(3))


def test_cross_entropy_rate(backend):
    a, b = LOGITS[0], LOGITS[1].copy()
    b[1, 2:] = -INF
    mask = [True, True, False, True]
    terms = []
    for za, zb in zip(a[mask], b[mask], strict=True):
        p = [mpmath.exp(x) for x in log_softmax(zb)]
        terms.append(-sum(x * y for x, y in zip(p, log_softmax(za), strict=True)))
    close(text_tests.cross_entropy_rate(a, b, mask=mask), sum(terms) / 3)
    own = text_tests.cross_entropy_rate(a, a)
    close(own, text_tests.statistics(a, [0] * 4).entropy)
    assert text_tests.cross_entropy_rate(b, a) == INF  # may write what the other cannot


def test_answer_by_perplexity(backend):
    """Lengths differ: the sum of logarithms would choose another option."""
    logits = np.random.default_rng(6).normal(0, 1, (50, 3, 4, 6))
    words = np.tile([[0, 1, 2, 3], [4, -1, -1, -1], [-1, -1, -1, -1]], (50, 1, 1))
    r = text_tests.answer(logits, words)
    by_sum = []
    for i in range(50):
        means, sums = [], []
        for k in range(2):
            terms = [-log_softmax(logits[i, k, t])[w] for t, w in enumerate(words[i, k]) if w >= 0]
            means.append(sum(terms) / len(terms))
            sums.append(sum(terms))
        close(r.loss[i, :2], means)
        assert r.choice[i] == (means[1] < means[0])
        by_sum.append(int(sums[1] < sums[0]))
    assert np.isnan(r.loss[:, 2]).all()
    assert r.choice.tolist() != by_sum
    assert text_tests.answer(np.zeros((2, 1, 3)), [[0], [1]]).choice == 0  # a tie
    assert text_tests.answer(np.zeros((2, 1, 3)), [[-1], [-1]]).choice == -1
    with pytest.raises(ValueError, match=r"tokens has shape \(1,\), it must be"):
        text_tests.answer(np.zeros((1, 3)), [0])


# Drafts


def test_draft_length_is_where_the_loop_stops():
    p = np.random.default_rng(7).uniform(0.5, 1, (200, 6))
    p[0], p[1, 2] = 1.0, NAN
    for threshold in (0.3, 0.7, 0.95):
        want = []
        for row in p:
            product, k = 1.0, 0
            while k < 6:
                product *= row[k]
                if 1 - product > threshold:
                    break
                k += 1
            want.append(k)
        assert specdec.draft_length(p, threshold=threshold).tolist() == want
    assert specdec.draft_length([0.95, 0.9, 0.85, 0.9], threshold=0.3) == 3


def test_acceptance_draws_from_the_target():
    """q a + (1 - rate) residual = p, in rational numbers."""
    p = [Fraction(k, 16) for k in (8, 5, 3, 0, 0)]
    q = [Fraction(k, 16) for k in (4, 2, 6, 4, 0)]
    r = specdec.acceptance([float(x) for x in p], [float(x) for x in q])
    accept = [min(Fraction(1), x / y) if y else Fraction(1) for x, y in zip(p, q, strict=True)]
    close(r.probability, [float(x) for x in accept], rtol=1e-15)
    assert r.rate == sum(min(x, y) for x, y in zip(p, q, strict=True))
    total = sum(max(x - y, 0) for x, y in zip(p, q, strict=True))
    close(r.residual, [float(max(x - y, 0) / total) for x, y in zip(p, q, strict=True)], rtol=1e-15)
    close(
        r.probability * np.array(q, float) + (1 - r.rate) * r.residual, np.array(p, float),
        rtol=1e-15,
    )  # fmt: skip
    same = specdec.acceptance([0.25, 0.75], [0.25, 0.75])
    assert (same.rate, same.residual.tolist()) == (1, [0.25, 0.75])


# Temperatures and soft top-k


def test_temperature_scaling_minimises_the_loss(backend):
    rows = [[2.0, 0.5, -1.0], [0.0, 1.0, 3.0], [1.0, 1.5, 0.0], [4.0, 0.0, 0.0], [0.5, 0.0, 1.0]]
    target = [0, 2, 1, 1, 0]

    def slope(u):
        """Of the mean loss in u = log T, from the definition."""
        return mpmath.diff(
            lambda v: sum(
                -log_softmax(z, mpmath.exp(v))[y] for z, y in zip(rows, target, strict=True)
            ),
            u,
        )

    with mpmath.workdps(30):
        want = mpmath.exp(mpmath.findroot(slope, (0.2, 1.0), solver="anderson", tol=1e-40))
    got = calibration.temperature(rows, target)
    close(got, want, rtol=1e-9)
    padded = calibration.temperature([*rows, [9.0, 0.0, 0.0]], [*target, -100])
    close(padded, want, rtol=1e-9)


def test_temperature_scaling_at_its_limits():
    z = np.random.default_rng(9).normal(0, 2, (50, 4))
    assert calibration.temperature(z, z.argmax(axis=-1)) == 0  # always right: T -> 0
    assert calibration.temperature(z, z.argmin(axis=-1)) == INF
    assert np.isnan(calibration.temperature(z, np.full(50, -1)))
    z[3, 1] = NAN
    assert np.isnan(calibration.temperature(z, np.zeros(50, int)))
    single = calibration.temperature(z[4:].astype(np.float32), z[4:].argmax(axis=-1) // 2)
    close(single, calibration.temperature(z[4:], z[4:].argmax(axis=-1) // 2), rtol=1e-5)


def test_tempnet_temperature(backend):
    """The root of the dual, as the paper writes it; clamped where there is none."""
    z, rho = [2.0, 0.5, -1.0, 1.0, 0.0], 0.2

    def dual(tau):
        p = [mpmath.exp(x) for x in log_softmax(z, tau)]
        total = mpmath.log(mpmath.fsum(mpmath.exp(mp(x) / tau) for x in z))
        mean = mpmath.fsum(q * mp(x) for q, x in zip(p, z, strict=True))
        return total + mp(rho) - mpmath.log(5) - mean / tau

    root = mpmath.findroot(dual, 1.5)
    close(tempnet.temperature(z, rho), root)
    # log 5 is beyond reach, log(5 / 2) with two that tie.
    rows = [z, z, [1.0, 1.0, 0.0, 0.0, 0.0], [0.0] * 5, [*z[:4], NAN]]
    got = tempnet.temperature(rows, [math.log(5), -1.0, 0.92, 0.1, 0.1])
    np.testing.assert_array_equal(got, [0.01, NAN, 0.01, 0.01, NAN])


def test_tempnet_loss_is_least_at_the_temperature(backend):
    z, tau, rho = [2.0, 0.5, -1.0], 0.7, 9.0
    want = mp(tau) * -log_softmax(z, mp(tau))[1] + (rho - mpmath.log(3)) * mp(tau)
    close(tempnet.robust_loss(z, 1, tau, rho=rho), want)
    row = np.array([2.0, 0.5, -1.0, 1.0, 0.0])
    best = tempnet.temperature(row, 0.2)
    taus = best * np.array([0.9, 0.99, 1.0, 1.01, 1.1])
    losses = tempnet.robust_loss(np.tile(row, (5, 1)), [0] * 5, taus, rho=0.2)
    assert (losses + row[0]).argmin() == 2  # tau LSE(z / tau) + (rho - log V) tau


def test_soft_top_k(backend):
    s = [4.0, 1.0, 3.0, -2.0, 0.0]
    for k, alpha in [(2, 2.0), (0.5, 1.0), (4.99, 3.0)]:
        root = mpmath.findroot(
            lambda t, k=k, alpha=alpha: sum(1 / (1 + mpmath.exp(-alpha * (x + t))) for x in s) - k,
            float(dexml.soft_top_k(s, k=k, alpha=alpha, temperature=1).shift),
        )
        r = dexml.soft_top_k(s, k=k, alpha=alpha, temperature=1)
        close(r.shift, root)
        close(r.probabilities, [1 / (1 + mpmath.exp(-alpha * (x + root))) for x in s], rtol=1e-12)
    r = dexml.soft_top_k([[0.3, 0.1, -INF], [0.3, NAN, 0.1]], k=1)
    close(r.probabilities[0].sum(), 1)
    assert np.isnan(r.shift).tolist() == [False, True]
    for scores, k in ((s, 5), ([0.5, 0.25], 5.0), (s, 0), (s, -1)):
        with pytest.raises(ValueError, match=rf"dexml.soft_top_k: k = {k}, it must be"):
            dexml.soft_top_k(scores, k=k)


# Sampling


def transformers_typical(scores, mass):
    """What the processor does, with NumPy's sort."""
    log_p = scores - np.log(np.exp(scores).sum())
    p = np.exp(log_p)
    away = abs(-log_p + np.nansum(log_p * p))
    order = np.argsort(away)
    last = min((p[order].cumsum() < mass).sum(), len(p) - 1)
    return np.where(away > away[order][last], -INF, scores)


def test_truncated_logits(backend):
    rows = np.random.default_rng(8).normal(0, 2, (20, 30))
    for mass in (0.2, 0.5, 0.9):
        want = [transformers_typical(row, mass) for row in rows]
        np.testing.assert_array_equal(sampling.truncated(rows, "typical", mass), want)
    order = rows.argsort(axis=-1)
    kept = sampling.truncated(rows, "top_k", 4) > -INF
    assert [set(np.flatnonzero(k)) for k in kept] == [set(o[-4:]) for o in order]
    few, most = [3.0, 3.0, 2.9] + [0.0] * 40, sampling.truncated
    assert most(few, "typical", 0.1)[0] == -INF  # the argmax
    assert most(few, "top_p", 0.1)[0] == 3


# Labels


@pytest.mark.parametrize("temperature", [1, 0.05])
def test_decoupled_softmax(backend, temperature):
    scores = np.array([[4.0, 1.0, 3.0, -2.0, 0.0], [0.5, 0.5, 0.5, 0.25, -1.0]])
    positives = np.array([[1, 0, 1, 0, 0], [0, 1, 1, 0, 1]], bool)
    r = dexml.decoupled_softmax(scores, positives, temperature=temperature)
    for row in range(2):
        e = [mpmath.exp(mp(s) / mp(temperature)) for s in scores[row]]
        rest = mpmath.fsum(x for x, right in zip(e, positives[row], strict=True) if not right)
        own = [mpmath.log(e[k] / (e[k] + rest)) for k in np.flatnonzero(positives[row])]
        close(r.log_probabilities[row][positives[row]], own)
        assert np.isnan(r.log_probabilities[row][~positives[row]]).all()
        close(r.loss[row], -sum(own) / len(own))
    turned = dexml.decoupled_softmax(np.asfortranarray(scores), positives, temperature=temperature)
    np.testing.assert_array_equal(turned.log_probabilities, r.log_probabilities)
    signs = np.where(positives, 1, -1)  # wrong labels may be marked by -1
    np.testing.assert_array_equal(
        dexml.decoupled_softmax(scores, signs, temperature=temperature).loss, r.loss
    )


def test_decoupled_softmax_masks_by_more_than_100():
    """Official code adds -100 to the positives; one 150 above the negatives leaks in there."""
    scores, positives = np.array([150.0, 0.0, 0.0]), np.array([True, False, True])
    r = dexml.decoupled_softmax(scores, positives, temperature=1)
    close(r.log_probabilities[2], -math.log(2))
    leaky = scores - 100 * positives
    official = scores[2] - np.logaddexp(np.logaddexp.reduce(leaky), scores[2])
    assert official < -49
    none = dexml.decoupled_softmax([[1.0, 2.0], [1.0, 2.0]], [[False, False], [True, True]])
    np.testing.assert_array_equal(none.loss, [NAN, 0])


def test_dexml_refuses_what_would_turn_its_ranking_around():
    with pytest.raises(ValueError, match=r"temperature = 0, it must be .*above 0"):
        dexml.decoupled_softmax(ROWS, ROWS > 1, temperature=0)
    with pytest.raises(ValueError, match=r"dexml.soft_top_k: alpha = -1, it must be .*above 0"):
        dexml.soft_top_k(ROWS, k=1, alpha=-1)
