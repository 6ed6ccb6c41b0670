"""Tables of comparisons, their references and their bounds, for the tests of the batched fit."""

import mpmath
import numpy as np

# Compare2Score's published anchors (float32 in full), test preferences, and the exact answers.
ANCHORS = np.array(
    [
        [0.5, 0.2591280937194824, 3.3130275551229715e-4,
         1.6087296899058856e-6, 1.18030274443e-9],
        [0.7408719062805176, 0.5, 0.2498534470796585, 0.09995415806770325, 1.8675303081749917e-08],
        [0.9996687173843384, 0.7501465678215027, 0.5, 0.4996888041496277, 0.2485283762216568],
        [0.9999983906745911, 0.9000458717346191, 0.5003111958503723, 0.5, 0.25400182604789734],
        [1.0, 1.0, 0.7514716386795044, 0.7459981441497803, 0.5],
    ]
)  # fmt: skip
PREFERENCES = np.array([0.80, 0.62, 0.50, 0.45, 0.20])
ANCHOR_SCORES = {
    "logit": [-0.8225449834, -0.4211654311, 0.2326579853, 0.3054082044, 0.7056442248],
    "probit": [-0.8048458180, -0.3975604634, 0.2250745542, 0.2959248431, 0.6814068841],
}
MIN_MAX_SCORE = {"logit": 55.16546009, "probit": 55.43795181}

LINKS = ("logit", "probit")

# What Status.OK promises, relative to max(1, max |s|).
PROMISE = 1e-8


def _slope(link, d):
    """Return the derivative of log F at d, and minus the second one."""
    if link == "logit":
        lost = 1 / (1 + mpmath.exp(d))
        return lost, lost * (1 - lost)
    ratio = mpmath.npdf(d) / mpmath.ncdf(d)
    return ratio, ratio * (ratio + d)


def _newton_step(s, terms, mean, sd, link):
    """Return Newton's step; each term (i, j, shift, weight) is weight log F(s_i - s_j + shift)."""
    n = len(s)
    gradient, hessian = [mpmath.mpf(0)] * n, mpmath.zeros(n)
    for i, j, shift, weight in terms:
        first, second = (weight * x for x in _slope(link, s[i] - s[j] + shift))
        gradient[i] += first
        gradient[j] -= first
        hessian[i, i] += second
        hessian[j, j] += second
        hessian[i, j] -= second
        hessian[j, i] -= second
    free = [i for i in range(n) if sd[i] > 0]
    for i in free:
        if np.isfinite(sd[i]):
            precision = 1 / mpmath.mpf(float(sd[i])) ** 2
            gradient[i] += precision * (mpmath.mpf(float(mean[i])) - s[i])
            hessian[i, i] += precision
    centred = not np.isfinite(sd).any()
    solved = free[:-1] if centred else free
    system = mpmath.matrix([[hessian[i, j] for j in solved] for i in solved])
    x = dict(
        zip(
            solved,
            mpmath.lu_solve(system, mpmath.matrix([gradient[i] for i in solved])),
            strict=True,
        )
    )
    step = [x.get(i, mpmath.mpf(0)) for i in range(n)]
    middle = mpmath.fsum(step) / n if centred else 0
    return [v - middle for v in step]


def _terms(wins, losses=None, advantage=0.0):
    n, shift = len(wins), mpmath.mpf(advantage)
    for i in range(n):
        for j in range(n):
            if i != j and wins[i, j] > 0:
                yield i, j, shift, mpmath.mpf(float(wins[i, j]))
            if i != j and losses is not None and losses[i, j] > 0:
                yield j, i, -shift, mpmath.mpf(float(losses[i, j]))


def solve(wins, *, sd, mean=0.0, link="logit", losses=None, advantage=0.0, digits=40):
    """Return the maximum by Newton's method in mpmath, for tables that need no safeguard."""
    n = len(wins)
    sd, mean = np.broadcast_to(np.float64(sd), n), np.broadcast_to(np.float64(mean), n)
    with mpmath.workdps(digits):
        terms = list(_terms(wins, losses, advantage))
        s = [mpmath.mpf(float(m)) for m in mean]
        for _ in range(60):
            step = _newton_step(s, terms, mean, sd, link)
            s = [a + b for a, b in zip(s, step, strict=True)]
            if max(abs(x) for x in step) < mpmath.mpf(10) ** (-digits // 2):
                return np.array([float(x) for x in s])
    raise ArithmeticError("the reference did not converge")


def distance(wins, scores, *, sd, mean=0.0, link="logit", digits=120):
    """Return how far `scores` are from the maximum: max |Newton step| there, in mpmath, relative.

    log F is self-concordant in differences of scores, so that a short step is the distance.
    `digits` covers twice the decades over which the weights spread.
    """
    n = len(wins)
    sd, mean = np.broadcast_to(np.float64(sd), n), np.broadcast_to(np.float64(mean), n)
    with mpmath.workdps(digits):
        s = [mpmath.mpf(float(x)) for x in scores]
        step = _newton_step(s, list(_terms(wins)), mean, sd, link)
        return float(max(abs(x) for x in step)) / max(1.0, np.abs(scores).max())


def covariance(wins, scores, *, sd, link="logit"):
    """Return C H^+ C in plain float64, with H from its definition and C the centring."""
    from scipy.stats import norm

    n = len(wins)
    d = scores[:, None] - scores
    if link == "logit":
        p = 1 / (1 + np.exp(-d))
        curve = wins * p * (1 - p)
    else:
        ratio = norm.pdf(d) / norm.cdf(d)
        curve = wins * ratio * (ratio + d)
    np.fill_diagonal(curve, 0)
    curve = curve + curve.T
    hessian = (
        np.diag(curve.sum(axis=1)) - curve + np.diag(1 / np.broadcast_to(np.float64(sd), n) ** 2)
    )
    centring = np.eye(n) - 1 / n
    return centring @ np.linalg.pinv(hessian, hermitian=True) @ centring


def random_tables(count, n, seed=0):
    """Return ordinary counts: scores of unit spread, 1 to 9 comparisons a pair."""
    rng = np.random.default_rng(seed)
    s = rng.normal(size=(count, n))
    games = np.triu(rng.integers(1, 10, size=(count, n, n)), 1)
    won = rng.binomial(games, 1 / (1 + np.exp(s[:, None, :] - s[:, :, None])))
    return np.ascontiguousarray(won + np.swapaxes(games - won, 1, 2), dtype=float)


def graded_tables(count, n, seed=0, decades=12, zeros=0.0):
    """Return weights log-uniform over +-`decades`, a share `zeros` of them 0."""
    rng = np.random.default_rng(seed)
    w = 10 ** rng.uniform(-decades, decades, size=(count, n, n))
    return w * (rng.random(w.shape) >= zeros)


def clustered_tables(count, n, seed=0, strong=1e12, weak=1e-12):
    """Return two groups tied by `strong` weights, among themselves joined by two `weak` ones."""
    rng = np.random.default_rng(seed)
    w = np.zeros((count, n, n))
    half = n // 2
    for group in (range(half), range(half, n)):
        block = np.ix_(range(count), group, group)
        w[block] = strong * rng.uniform(0.1, 1, size=w[block].shape)
    w[:, 0, n - 1] = weak * rng.uniform(0.1, 1, size=count)
    w[:, n - 1, 0] = weak * rng.uniform(0.1, 1, size=count)
    return w


def ladder_tables(count, n, seed=0, decades=12):
    """Return items that each meet only their neighbours, with weights over +-`decades`."""
    w = graded_tables(count, n, seed, decades)
    i, j = np.indices((n, n))
    return w * (abs(i - j) == 1)
