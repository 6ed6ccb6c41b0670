"""Worked examples of the pairwise family, derived again from the definitions in 50 digits."""

import mpmath as mp
import numpy as np
import pytest

import softmap
from ops import fit as cases
from softmap.systems import compare2score

SCORES = [0.0, 0.75, -1.25, 2.0]
VARIANCES = [0.25, 0.5, 1.0, 0.1]
COUNTS = np.array([[0, 7, 3, 0], [2, 0, 5.5, 1], [4, 3.5, 0, 6], [0, 0, 1, 0]])
F = {"logit": lambda d: 1 / (1 + mp.exp(-d)), "probit": mp.ncdf}


@pytest.fixture(autouse=True)
def digits():
    with mp.workdps(50):
        yield


def pairs(f, n=4):
    return np.array([[float(f(i, j)) for j in range(n)] for i in range(n)])


def difference(i, j):
    return mp.mpf(SCORES[i]) - mp.mpf(SCORES[j])


# Preferences and ties


@pytest.mark.parametrize(
    ("link", "variance"),
    [("logit", None), ("probit", None), ("probit", 1.0), ("probit", VARIANCES)],
    ids=["logit", "probit", "case V", "each its variance"],
)
def test_preference_matrix(backend, link, variance):
    """Logistic, Phi(d), Thurstone's case V with Phi(d / sqrt 2), and a variance for each item."""
    v = np.broadcast_to(0.5 if variance is None else variance, 4)
    want = pairs(lambda i, j: F[link](difference(i, j) / mp.sqrt(mp.mpf(v[i]) + mp.mpf(v[j]))))
    got = softmap.preference_matrix(SCORES, link=link, variance=variance)
    np.testing.assert_allclose(got, want, rtol=2e-15)


@pytest.mark.parametrize(
    ("ties", "strength"), [("davidson", 0.8), ("rao-kupper", 1.5), ("threshold", 0.4)]
)
def test_outcome_matrices(backend, ties, strength):
    """exp(s_i) : exp(s_j) : nu exp((s_i + s_j) / 2), and the two threshold models by their cuts."""

    def win(i, j):
        a, b, k = mp.exp(SCORES[i]), mp.exp(SCORES[j]), mp.mpf(strength)
        if ties == "davidson":
            return a / (a + b + k * mp.sqrt(a * b))
        return a / (a + k * b) if ties == "rao-kupper" else mp.ncdf(difference(i, j) - k)

    got = softmap.outcome_matrices(SCORES, ties=ties, tie_strength=strength)
    np.testing.assert_allclose(got.win, pairs(win), rtol=3e-15)
    np.testing.assert_allclose(got.tie, pairs(lambda i, j: 1 - win(i, j) - win(j, i)), rtol=3e-15)


@pytest.mark.parametrize("link", ["logit", "probit"])
def test_log_likelihood_of_counts(backend, link):
    """sum c_ij log F(s_i - s_j): its value, gradient and Hessian by differentiating the sum."""
    counts = [[0, 3, 5, 0.5], [2, 0, 4, 1], [0, 1, 0, 0.25], [4, 2.5, 3, 0]]

    def total(*s):
        return mp.fsum(
            c * mp.log(F[link](s[i] - s[j]))
            for i, row in enumerate(counts)
            for j, c in enumerate(row)
        )

    def derivative(*order):
        return float(mp.diff(total, tuple(map(mp.mpf, SCORES)), tuple(order)))

    unit = np.eye(4, dtype=int)
    got = softmap.log_likelihood(SCORES, counts, link=link, gradient=True, hessian=True)
    np.testing.assert_allclose(got.value, float(total(*map(mp.mpf, SCORES))), rtol=1e-15)
    np.testing.assert_allclose(got.gradient, [derivative(*unit[i]) for i in range(4)], rtol=1e-13)
    hessian = [[derivative(*(unit[i] + unit[j])) for j in range(4)] for i in range(4)]
    np.testing.assert_allclose(got.hessian, hessian, rtol=1e-12)
    np.testing.assert_allclose(got.hessian.sum(axis=1), 0, atol=1e-14)


def test_log_links_in_the_tails(backend):
    """At 0, -10, -40, -100 and 40, from one comparison."""
    for d in (0.0, -10.0, -40.0, -100.0, 40.0):
        for link in F:
            got = softmap.log_likelihood([d, 0], [[0, 1], [0, 0]], link=link, gradient=True)
            with mp.workdps(400):  # 1 - Phi(40) is 4e-350
                x = mp.mpf(d)
                want = mp.log(F[link](x))
                slope = F[link](-x) if link == "logit" else mp.npdf(x) / mp.ncdf(x)
            assert float(got.value) == pytest.approx(float(want), rel=1e-15, abs=0)
            assert float(got.gradient[0]) == pytest.approx(float(slope), rel=1e-15, abs=0)


# Maxima


def inverse_of_curvature(wins, s, link):
    """Minus the Hessian of log-likelihood and a standard normal prior, inverted."""
    n = len(s)
    h = mp.eye(n)
    for i in range(n):
        for j in range(n):
            if i != j and wins[i][j] > 0:
                d = mp.mpf(float(s[i])) - mp.mpf(float(s[j]))
                curve = -mp.diff(lambda x: mp.log(F[link](x)), d, 2) * mp.mpf(float(wins[i][j]))
                for a, b, sign in ((i, i, 1), (j, j, 1), (i, j, -1), (j, i, -1)):
                    h[a, b] += sign * curve
    return h**-1


@pytest.mark.parametrize(
    "preferences",
    [None, [0.80, 0.62, 0.50, 0.45, 0.20], [1.0, 1.0, 0.95, 0.9, 0.76]],
    ids=["anchors", "between", "above"],
)
@pytest.mark.parametrize("link", ["logit", "probit"])
def test_compare2score_maximum(backend, link, preferences):
    """Scores, min-max and errors of the published anchors alone and with an image."""
    table = cases.ANCHORS
    if preferences is not None:
        table = compare2score.comparison_matrix(np.array(preferences), cases.ANCHORS)
    want = cases.solve(table, sd=1.0, link=link, digits=50)
    fit = softmap.fit_many(table, prior_sd=1.0, link=link, standard_errors=True)
    np.testing.assert_allclose(fit.scores, want, rtol=0, atol=1e-13)
    assert abs(fit.scores.sum()) < 1e-13  # the prior is at 0
    covariance, n = inverse_of_curvature(table.tolist(), want, link), len(want)
    centre = mp.matrix(n, n)
    for i in range(n):
        for j in range(n):
            centre[i, j] = (i == j) - mp.mpf(1) / n
    centred = centre * covariance * centre
    errors = [float(mp.sqrt(centred[i, i])) for i in range(n)]
    np.testing.assert_allclose(fit.standard_errors, errors, rtol=1e-10)
    if preferences is None:
        return
    found = softmap.score_against_anchors(
        [preferences], cases.ANCHORS, link=link, rescale=(0, 100), standard_errors=True
    )
    low, high = int(want.argmin()), int(want[:5].argmax())
    if preferences[0] == 1:
        assert want.argmax() == 5
        assert found.score.tolist() == [100]
        assert found.outside.tolist() == [1]
        assert np.isnan(found.standard_error).all()
        return
    score = 100 * (want[5] - want[low]) / (want[high] - want[low])
    assert score == pytest.approx(cases.MIN_MAX_SCORE[link], abs=1e-8)
    np.testing.assert_allclose(found.score, [score], rtol=0, atol=1e-9)
    reach = mp.mpf(want[high] - want[low])
    slope = mp.matrix(6, 1)  # of the score by each s
    slope[5] = 100 / reach
    slope[low] = -100 * mp.mpf(want[high] - want[5]) / reach**2
    slope[high] = -100 * mp.mpf(want[5] - want[low]) / reach**2
    error = float(mp.sqrt((slope.T * covariance * slope)[0]))
    np.testing.assert_allclose(found.standard_error, [error], rtol=1e-9)
    held = float(100 * mp.sqrt(covariance[5, 5]) / reach)  # as if both ends were known
    assert held == pytest.approx({"logit": 43.84355, "probit": 39.36894}[link], abs=1e-5)


def test_official_optimiser_on_preferences_near_one_half():
    """Temperature 100: Adam is 4 points away after 50 steps, and within 1e-6 after 1000."""
    from test_compare2score import adam

    preferences = np.array([0.5115, 0.5081, 0.5032, 0.4997, 0.4923])
    table = compare2score.comparison_matrix(preferences, cases.ANCHORS)
    s = cases.solve(table, sd=1.0, digits=50)
    exact = 100 * (s[5] - s.min()) / (s.max() - s.min())
    assert exact == pytest.approx(54.416215, abs=1e-6)
    start = [0.49625658988952637, 0.7682217955589294, 0.08847743272781372,
             0.13203048706054688, 0.30742281675338745, 0.6340786814689636]  # fmt: skip
    got = [adam(table, steps, start) for steps in (50, 100, 1000)]
    np.testing.assert_allclose(got, [50.52796, 54.42812, exact], atol=1e-5)


@pytest.mark.parametrize(("link", "sd"), [("logit", np.inf), ("probit", 1.0)])
def test_bradley_terry_and_thurstone_maximum(backend, link, sd):
    """Counts with halves: maximum likelihood (logit), and with a prior N(0, 1) (probit)."""
    fit = softmap.fit_many(COUNTS, prior_sd=sd, link=link, standard_errors=True)
    want = cases.solve(COUNTS, sd=sd, link=link, digits=50)
    np.testing.assert_allclose(fit.scores, want, rtol=0, atol=1e-13)
    assert want[3] == pytest.approx({"logit": -1.56467154, "probit": -0.74071045}[link], abs=1e-8)


def test_separable_and_disconnected_tables_have_a_maximum_under_a_prior(backend):
    """5 wins to 0: s solves 5 / (1 + exp(2 s)) = s; 2 to 1: 3 / (1 + exp(2 s)) + s = 2."""
    counts = np.zeros((4, 4))
    counts[0, 1], counts[2, 3], counts[3, 2] = 5, 2, 1
    decided = mp.findroot(lambda s: 5 / (1 + mp.exp(2 * s)) - s, 0.8)
    close = mp.findroot(lambda s: 2 - 3 * F["logit"](2 * s) - s, 0.2)
    want = [float(x) for x in (decided, -decided, close, -close)]
    fit = softmap.fit_many(counts, prior_sd=1.0)
    np.testing.assert_allclose(fit.scores, want, rtol=0, atol=1e-13)
    free = softmap.fit_many(counts, prior_sd=np.inf)
    assert free.status == softmap.Status.NO_MAXIMUM


def test_anchors_of_twenty_images():
    """One an interval of equal width: the least deviation in each, by eye."""
    mos = [8.6, 23.7, 80.1, 58.2, 9.4, 43.3, 47.9, 16, 73.5, 11.4,
           39.1, 51.7, 43.1, 58.7, 73.8, 95.6, 28.4, 64.9, 69.6, 29.3]  # fmt: skip
    std = [1.02, 11.71, 4.28, 4.45, 10.81, 7.44, 6.18, 9.51, 1.33, 8.78,
           5.12, 2.0, 8.27, 11.25, 3.28, 7.93, 4.28, 9.16, 8.94, 3.41]  # fmt: skip
    assert compare2score.select_anchors(mos, std).tolist() == [0, 19, 11, 8, 2]
