"""Cases of the pairwise family: references, domains, bounds and sizes, for tests and benchmarks."""

import functools
import itertools
from collections.abc import Callable
from dataclasses import dataclass

import mpmath as mp
import numpy as np

LINKS = ("logit", "probit")
DTYPES = ("float32", "float64")

# The references below do not cancel, so they need no more digits than they give; a test compares
# them with the definitions in FULL_DIGITS, twice the decimal exponent range of float64.
DIGITS, FULL_DIGITS = 60, 700


def _phi(z):
    return mp.exp(-z * z / 2) / mp.sqrt(2 * mp.pi)


def _mills_excess(z):
    """phi(z) / (1 - Phi(z)) - z for large z, by Laplace's continued fraction."""
    fraction = mp.mpf(0)
    for n in range(150 if z < 1000 else 20, 0, -1):
        fraction = n / (z + fraction)
    return fraction


def _upper(z):
    """1 - Phi(z)."""
    return mp.erfc(z / mp.sqrt(2)) / 2 if z < 60 else _phi(z) / (z + _mills_excess(z))


def sigmoid(x):
    return 1 / (1 + mp.exp(-x))


def log_sigmoid(x):
    return -mp.log1p(mp.exp(-x)) if x > 0 else x - mp.log1p(mp.exp(x))


def logit_curvature(x):
    return sigmoid(x) * sigmoid(-x)


def ndtr(x):
    return _upper(-x)


def log_ndtr(x):
    if x > 0:
        return mp.log1p(-_upper(x))
    if x > -60:
        return mp.log(_upper(-x))
    return -x * x / 2 - mp.log(2 * mp.pi) / 2 - mp.log(_mills_excess(-x) - x)


def inverse_mills(x):
    if x < -60:
        return _mills_excess(-x) - x
    return _phi(x) / ndtr(x)


def probit_curvature(x):
    r = inverse_mills(x)
    return r * (_mills_excess(-x) if x < -60 else x + r)


@dataclass(frozen=True)
class Case:
    """A function of the difference of two scores, exactly, and how many ULP it may be off."""

    name: str
    link: str
    definition: Callable
    ulp: dict[str, float]

    def reference(self, x):
        """The exact results, for each of the finite numbers in x."""
        with mp.workdps(DIGITS):
            return [_reference(self.definition, float(v)) for v in x]


@functools.cache
def _reference(definition, x):
    return definition(mp.mpf(x))


# preference(d, 0) is the probability, and its logarithm with log=True; the others are the columns
# of pair_terms for one win.
CASES = {
    f"{case.name} {case.link}": case
    for case in [
        Case("preference", "logit", sigmoid, {"float32": 2, "float64": 2}),
        Case("preference", "probit", ndtr, {"float32": 2, "float64": 2}),
        Case("log preference", "logit", log_sigmoid, {"float32": 2, "float64": 2}),
        Case("log preference", "probit", log_ndtr, {"float32": 2.5, "float64": 2.5}),
        Case("value", "logit", log_sigmoid, {"float64": 2}),
        Case("value", "probit", log_ndtr, {"float64": 2.5}),
        Case("slope", "logit", lambda x: sigmoid(-x), {"float64": 2}),
        Case("slope", "probit", inverse_mills, {"float64": 2}),
        Case("curvature", "logit", logit_curvature, {"float64": 2}),
        Case("curvature", "probit", probit_curvature, {"float64": 3}),
    ]
}


def softplus(x):
    return -log_sigmoid(-x)


# The functions of csrc/core by themselves, over the whole line: reference, and how many ULP they
# may be off.
FUNCTIONS = {
    "sigmoid": (sigmoid, {"float32": 2, "float64": 2}),
    "log_sigmoid": (log_sigmoid, {"float32": 2, "float64": 2}),
    "softplus": (softplus, {"float32": 2, "float64": 2}),
    "logistic_slope": (lambda x: sigmoid(-x), {"float32": 2, "float64": 2}),
    "logistic_curvature": (logit_curvature, {"float32": 2, "float64": 2}),
    "ndtr": (ndtr, {"float32": 2, "float64": 2}),
    "log_ndtr": (log_ndtr, {"float32": 2.5, "float64": 2.5}),
    "inverse_mills": (inverse_mills, {"float32": 2, "float64": 2}),
    "mills_curvature": (probit_curvature, {"float32": 3, "float64": 3}),
}

# preference_matrix: ULP of the smaller probability of a pair, beside abs(d F'(d) / F(d)) for the
# difference d, which is rounded.
MATRIX = {"logit": 2, "probit": 4}

# Those of ordinary fits: reference, range, and their error in units of 2^-53 max(1, |x|).
QUICK_SLOPES = {
    "logit_slope": (lambda x: sigmoid(-x), 80, 16),
    "probit_slope": (inverse_mills, 40, 16),
}


def exact(function, x):
    """The exact values of a function of FUNCTIONS or QUICK_SLOPES at the finite numbers in x."""
    with mp.workdps(DIGITS):
        return [_reference(function, float(v)) for v in x]


def matrix_reference(link, d):
    """F(-abs(d)) and abs(d F'(d) / F(d)) there, for each of the numbers in d."""
    x = [-abs(float(v)) for v in np.ravel(d)]
    slope = CASES[f"slope {link}"].definition
    return exact(CASES[f"preference {link}"].definition, x), [
        float(-v * e) for v, e in zip(x, exact(slope, x), strict=True)
    ]


def _powers_of_two(dtype):
    first, last = (-149, 128) if dtype == "float32" else (-1074, 1024)
    return np.ldexp(1.0, np.arange(first, last))


# Differences by their kind: from a random generator and the dtype they are for.
DOMAINS = {
    "centre": lambda rng, dtype: rng.uniform(-2, 2, 1200),
    "ordinary": lambda rng, dtype: rng.normal(0, 4, 800),
    "grid": lambda rng, dtype: np.linspace(-40, 40, 961),
    "logistic tails": lambda rng, dtype: rng.uniform(-760, 760, 300),
    "far": lambda rng, dtype: rng.choice([-1, 1], 300) * 10.0 ** rng.uniform(1, 20, 300),
    "powers of two": lambda rng, dtype: _powers_of_two(dtype),
    "minus powers of two": lambda rng, dtype: -_powers_of_two(dtype),
}


def make_differences(domain, dtype, seed=0):
    """Differences of that kind, as numbers of `dtype`."""
    rng = np.random.default_rng([seed, *domain.encode()])
    return DOMAINS[domain](rng, dtype).astype(dtype)


def random_problem(seed, n, batch=()):
    """Scores, wins and losses of n items."""
    rng = np.random.default_rng(seed)
    wins, losses = rng.integers(0, 5, (2, *batch, n, n)).astype(np.float64)
    return rng.normal(0, 2, (*batch, n)), wins, losses


# (problems, items): what the benchmarks run.
SIZES = [(1, 5), (1, 1000), (10_000, 6), (1000, 100), (1, 8192)]


def log_likelihood(scores, wins, losses=None, link="logit", first_advantage=0.0):
    """Exact value and gradient for one problem, by the definition."""
    with mp.workdps(DIGITS):
        s = [mp.mpf(float(v)) for v in scores]
        log_f, slope = CASES[f"value {link}"].definition, CASES[f"slope {link}"].definition
        value, gradient = mp.mpf(0), [mp.mpf(0)] * len(s)
        for i in range(len(s)):
            for j in range(len(s)):
                d = s[i] - s[j] + mp.mpf(float(first_advantage))
                for table, sign in ((wins, 1), (losses, -1)):
                    if i == j or table is None or table[i][j] == 0:
                        continue
                    w = mp.mpf(float(table[i][j]))
                    value += w * log_f(sign * d)
                    gradient[i] += sign * w * slope(sign * d)
                    gradient[j] -= sign * w * slope(sign * d)
        return value, gradient


def ordinal_probabilities(logits, conditional):
    """Exact probabilities of the levels of one row, by the definition."""
    with mp.workdps(DIGITS):
        above = [sigmoid(mp.mpf(float(z))) for z in logits]
        if not conditional:
            reach = [mp.mpf(1), *above, mp.mpf(0)]
            return [a - b for a, b in itertools.pairwise(reach)]
        reach = [mp.mpf(1)]
        for c in above:
            reach.append(reach[-1] * c)
        return [r * (1 - c) for r, c in zip(reach, [*above, 0], strict=True)]


# How far results may be off. "difference": of two numbers up to 1, in units of the last place of 1;
# "product": relative to the result, for each factor; "loss": relative to the loss.
ORDINAL_BOUNDS = {"difference": 1.0, "product": 1.0, "loss": 2.5}
