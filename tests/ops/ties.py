"""Tie models by their definitions, and exact fits with ties and with a first advantage."""

import functools

import mpmath as mp
import numpy as np

MODELS = {"davidson": "logit", "rao-kupper": "logit", "threshold": "probit"}
STRENGTHS = {
    "davidson": (1e-6, 0.01, 0.7, 2.0, 50.0, 1e8),
    "rao-kupper": (1.0 + 1e-6, 1.01, 1.5, 20.0, 1e8),
    "threshold": (1e-6, 0.01, 0.2499, 0.26, 1.0, 5.0),
}
# Of a probability, besides what the rounded d - t does to it. The result is rounded once more.
ULP = 6.0
DIGITS = 60

# Of random tables that rounding or long valleys once kept from converging: model, n, wins, losses
# (None where there is no order), ties, each as items and a weight.
HARD = [
    ("rao-kupper", 2, "01=363 10=1.56e-8", "01=1.98e3 10=1.51e-12", "01=1.02e7 10=5.97e-10"),
    ("rao-kupper", 2, "01=5.37e7 10=5.19e-9", "01=1.36 10=1.03e-6", "01=1.14e10 10=6.33e-8"),
    (
        "rao-kupper",
        3,
        "01=1.64e-11 21=1.18e8",
        "01=5.73e-11 02=7.87e3 21=0.00523",
        "02=6.88e-10 10=1.39e-11",
    ),
    (
        "rao-kupper",
        4,
        "01=0.000456 02=1.69e7 03=2.46e-9 13=5e-10 20=3.39e-12 21=225 23=9.12e-8",
        None,
        "01=2.59e3 13=8.02e10",
    ),
    (
        "rao-kupper",
        5,
        "02=139 10=5.63e10 12=1.84e8 14=8.63e-5 24=5.84e-12 32=1.8e-7 42=5.41e-10 43=4.14e-9",
        None,
        "13=8.77e5 24=1.56e-5 34=2.19e-7",
    ),
    (
        "rao-kupper",
        5,
        "10=6.77e-9 20=9.33e-12 21=2.43e5 34=0.0065",
        None,
        "01=1.07e6 02=1.65e7 04=1.53e-10 14=0.161 34=2.57e-9",
    ),
    (
        "rao-kupper",
        5,
        "10=4.42e10 14=1.25e-12 20=8.31e11 21=1.02e4 23=0.113 32=4.67e-8 40=1.25e11",
        None,
        "01=1.73e11 14=27.2 23=0.0976 34=2.14e-8",
    ),
    (
        "rao-kupper",
        4,
        "01=0.00562 02=1.81e11 10=7.73e-8 20=1.32e-12 32=1.14e-8",
        None,
        "01=134 03=9.01e6 12=3.45e4",
    ),
    (
        "davidson",
        5,
        "02=139 10=5.63e10 12=1.84e8 14=8.63e-5 24=5.84e-12 32=1.8e-7 42=5.41e-10 43=4.14e-9",
        None,
        "13=8.77e5 24=1.56e-5 34=2.19e-7",
    ),
    (
        "davidson",
        5,
        "02=1.23e3 03=0.0349 14=9.11e-11 21=7.7e-8 30=5.41e-7 40=3e-9 41=1.82e6 42=4.1e5 43=2.94e9",
        None,
        "03=8.2e9 23=1.83e10",
    ),
    (
        "davidson",
        4,
        "10=5.32e9 13=9.47e-9 21=2.63e-8 32=2.07e-11",
        "01=0.371 02=2.13e-7 03=1.47e7 12=5.74e3 13=1.1e7 30=1.89e3 32=9.23e4",
        "03=3.27e-9 31=3.34e-12",
    ),
    (
        "davidson",
        5,
        "02=3.37e-6 12=1.76e9 13=0.0388 43=4.04e9",
        "10=2.87e4 13=4.89e-9 30=8.12e10 41=3.94e-8",
        "03=1.6e-8 23=1.08e11 24=5.25e-8",
    ),
    (
        "threshold",
        5,
        "10=4.42e10 14=1.25e-12 20=8.31e11 21=1.02e4 23=0.113 32=4.67e-8 40=1.25e11",
        None,
        "01=1.73e11 14=27.2 23=0.0976 34=2.14e-8",
    ),
    (
        "threshold",
        5,
        "10=1.28e8 12=6.44e3 13=2.08e11 30=0.00955 31=1.1e-12",
        None,
        "02=9.06e-6 03=2.16e-7 12=3.01e-5 13=0.00483 14=4.81e-10 23=3.84e3",
    ),
]


def parameter(model, strength):
    """log nu, log theta or eps."""
    return mp.mpf(strength) if model == "threshold" else mp.log(mp.mpf(strength))


def _link(model):
    """F, F' and F'' of a threshold model."""
    if model == "rao-kupper":

        def value(x):
            return 1 / (1 + mp.exp(-x))

        def first(x):
            return value(x) * value(-x)

        return value, first, lambda x: first(x) * (value(-x) - value(x))
    return mp.ncdf, mp.npdf, lambda x: -x * mp.npdf(x)


@functools.cache
def probabilities(model, d, t):
    """Win, loss and tie, for mpmath's numbers; enough digits for |d| below 37 and t below 6."""
    with mp.workdps(DIGITS + 400):
        if model == "davidson":
            parts = mp.exp(d / 2), mp.exp(-d / 2), mp.exp(t)
            return [x / mp.fsum(parts) for x in parts]
        value, _, _ = _link(model)
        u = abs(d)
        return [value(d - t), value(-d - t), value(t - u) - value(-t - u)]


@functools.cache
def slopes(model, d, t):
    """Of each logarithm: derivatives by d and t, and minus the second ones (dd, dt, tt)."""
    with mp.workdps(DIGITS + 400):
        win, loss, tie = probabilities(model, d, t)
        if model == "davidson":
            dd = ((win + loss) - (win - loss) ** 2) / 4
            second = dd, -tie * (win - loss) / 2, tie * (win + loss)
            firsts = (
                ((1 - (win - loss)) / 2, -tie),
                (-(1 + (win - loss)) / 2, -tie),
                ((loss - win) / 2, 1 - tie),
            )
            return [(*first, *second) for first in firsts]
        _, first, second = _link(model)
        found = []
        # p is a sum of sign F(a d + b t), so that its derivatives are sums as well
        for p, parts in (
            (win, [(1, 1, -1)]),
            (loss, [(1, -1, -1)]),
            (tie, [(1, 1, 1), (-1, 1, -1)]),
        ):
            by_d = mp.fsum(sign * a * first(a * d + b * t) for sign, a, b in parts) / p
            by_t = mp.fsum(sign * b * first(a * d + b * t) for sign, a, b in parts) / p
            curve = [
                mp.fsum(sign * x * second(a * d + b * t) for sign, a, b in parts for x in [f(a, b)])
                / p
                for f in (lambda a, b: a * a, lambda a, b: a * b, lambda a, b: b * b)
            ]
            pairs = (by_d, by_d), (by_d, by_t), (by_t, by_t)
            found.append((by_d, by_t, *(x * y - c for (x, y), c in zip(pairs, curve, strict=True))))
        return found


def newton_step(tables, scores, advantage, t, *, model, sd, estimated):
    """Return Newton's step at a point, by the definition: scores, then what is `estimated`.

    tables are wins, losses or None, ties; `estimated` is a subset of "at" (advantage, ties).
    """
    wins, losses, ties = tables
    n = len(scores)
    size = n + 2
    gradient, hessian = [mp.mpf(0)] * size, mp.zeros(size)
    s = [mp.mpf(x) for x in scores]
    for i in range(n):
        for j in range(n):
            if i == j:
                continue
            tied = ties[i][j] if losses is not None else (ties[i][j] if i < j else 0.0)
            amounts = (wins[i][j], 0.0 if losses is None else losses[i][j], tied)
            if not any(amounts):
                continue
            direction = {i: 1, j: -1, n: 1 if losses is not None else 0}
            for amount, term in zip(
                amounts, slopes(model, s[i] - s[j] + direction[n] * advantage, t), strict=True
            ):
                if amount == 0:
                    continue
                weight = mp.mpf(float(amount))
                by_d, by_t, dd, dt, tt = term
                for k, x in direction.items():
                    gradient[k] += weight * x * by_d
                    hessian[k, n + 1] += weight * x * dt
                    hessian[n + 1, k] += weight * x * dt
                    for m, y in direction.items():
                        hessian[k, m] += weight * x * y * dd
                gradient[n + 1] += weight * by_t
                hessian[n + 1, n + 1] += weight * tt
    precision = [0 if np.isinf(x) else 1 / mp.mpf(float(x)) ** 2 for x in sd]
    for i in range(n):
        gradient[i] -= precision[i] * s[i]
        hessian[i, i] += precision[i]
    free = list(range(n if any(precision) else n - 1))
    free += [n] * ("a" in estimated) + [n + 1] * ("t" in estimated)
    system = mp.matrix([[hessian[i, j] for j in free] for i in free])
    x = mp.lu_solve(system, mp.matrix([gradient[i] for i in free]))
    step = [mp.mpf(0)] * size
    for k, value in zip(free, x, strict=True):
        step[k] = value
    if not any(precision):
        middle = mp.fsum(step[:n]) / n
        step[:n] = [v - middle for v in step[:n]]
    return step, mp.inverse(system), free


def distance(tables, fit, *, model, sd, advantage=None, strength=None):
    """Return how far a solution of `fit_many` is from the maximum, relative to max(1, max |s|).

    advantage and strength as given to it; None where they were estimated.
    """
    with mp.workdps(DIGITS):
        sd = np.broadcast_to(np.float64(sd), len(fit.scores))
        a = fit.first_advantage.value if advantage is None else advantage
        t = parameter(model, float(fit.tie_strength.value) if strength is None else strength)
        estimated = "a" * (advantage is None) + "t" * (strength is None)
        step, _, _ = newton_step(
            tables, fit.scores, mp.mpf(float(a)), t, model=model, sd=sd, estimated=estimated
        )
        return float(max(abs(x) for x in step)) / max(1.0, np.abs(fit.scores).max())


def optimum(tables, start, *, model, sd, estimated, digits=130):
    """Return the maximum as scores, advantage and parameter, by Newton's method in mpmath.

    start is near it; `digits` covers twice the decades over which the weights spread.
    """
    with mp.workdps(digits):
        *s, a, t = (mp.mpf(x) for x in start)
        for _ in range(12):
            step, _, _ = newton_step(tables, s, a, t, model=model, sd=sd, estimated=estimated)
            s = [x + y for x, y in zip(s, step[:-2], strict=True)]
            a, t = a + step[-2], t + step[-1]
            if max(abs(x) for x in step) < 1e-9:  # the next one is about its square
                return np.array([float(x) for x in (*s, a, t)])
    raise ArithmeticError("the reference did not converge")


def graded_tables(count, n, seed=0, ordered=False, decades=12):
    """Return wins, losses or None, ties: weights log-uniform over +-`decades`."""
    rng = np.random.default_rng(seed)
    won, lost, tied = 10.0 ** rng.uniform(-decades, decades, (3, count, n, n))
    if ordered:
        return won, lost, tied
    upper = np.triu(tied, 1)
    return won, None, upper + np.swapaxes(upper, 1, 2)


def hard_tables(n, *amounts):
    """Return wins, losses or None, ties of a problem of HARD."""
    tables = [None if x is None else np.zeros((n, n)) for x in amounts]
    for table, entries in zip(tables, amounts, strict=True):
        for entry in entries.split() if entries else ():
            (i, j), weight = entry.split("=")
            table[int(i), int(j)] = float(weight)
    if amounts[1] is None:
        tables[2] = tables[2] + tables[2].T
    return tables


def random_tables(count, n, seed=0, ordered=False, tie_rate=0.3, games=8, zeros=0.0):
    """Return wins, losses or None, ties: counts of `games` comparisons at most a pair."""
    rng = np.random.default_rng(seed)
    won, lost, tied = np.moveaxis(
        rng.multinomial(
            rng.integers(0, games, (count, n, n)),
            [0.5 * (1 - tie_rate), 0.5 * (1 - tie_rate), tie_rate],
        ),
        -1,
        0,
    ).astype(float)
    keep = rng.random((count, n, n)) >= zeros
    won, lost, tied = won * keep, lost * keep, tied * keep
    if ordered:
        return won, lost, tied
    upper = np.triu(np.ones((n, n)), 1)
    return (
        won * upper + np.swapaxes(lost * upper, 1, 2),
        None,
        tied * upper + np.swapaxes(tied * upper, 1, 2),
    )


def has_maximum(wins, losses, ties, *, proper, advantage, strength):
    """Return whether there is one maximum, by linear programmes over the recession cone.

    advantage and strength: whether they are estimated (strength only where something tied).
    """
    from scipy.optimize import linprog

    n = len(wins)
    rows = []  # each: row @ (s, a, t) <= 0
    for i in range(n):
        for j in range(n):
            if i == j:
                continue
            x = np.zeros(n + 2)
            x[i], x[j], x[n] = 1, -1, 0 if losses is None else 1
            t = np.zeros(n + 2)
            t[n + 1] = 1
            tied = ties[i, j] > 0
            if wins[i, j] > 0:
                rows.append(t - x)
            if losses is not None and losses[i, j] > 0:
                rows.append(t + x)
            if tied:
                rows += [x - t, -x - t]
    bounds = [(0, 0) if fixed else (-1, 1) for fixed in proper]
    if not any(proper):
        bounds[0] = (0, 0)
    bounds += [(-1, 1) if advantage else (0, 0), (0, 1) if strength else (0, 0)]
    rows = np.array(rows) if rows else np.zeros((1, n + 2))
    for k in range(n + 2):
        for sign in (1, -1):
            cost = np.zeros(n + 2)
            cost[k] = sign
            found = linprog(cost, A_ub=rows, b_ub=np.zeros(len(rows)), bounds=bounds)
            if found.fun < -1e-6:
                return False
    return True
