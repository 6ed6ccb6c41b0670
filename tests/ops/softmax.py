"""Cases of the softmax family: references, domains, bounds and sizes, for tests and benchmarks."""

import functools
from collections.abc import Callable
from dataclasses import dataclass

import ml_dtypes
import mpmath as mp
import numpy as np

# At least twice the decimal exponent range: log(1 + exp(-700)) is 1e-304.
DIGITS = {"float32": 120, "float64": 700, "float16": 120, "bfloat16": 120}
DTYPES = ("float32", "float64")
HALF_DTYPES = ("float16", "bfloat16")  # converted to float32 and back: one rounding, and a little


def get_dtype(name):
    """The dtype of that name; NumPy itself has no bfloat16."""
    return np.dtype(ml_dtypes.bfloat16 if name == "bfloat16" else name)


@functools.cache
def _exp(z: float, digits: int) -> mp.mpf:
    with mp.workdps(digits):
        return mp.exp(mp.mpf(z))


def _softmax(z, terms, total):
    return [t / total for t in terms]


def _log_softmax(z, terms, total):
    log_total = mp.log(total)
    return [mp.mpf(v) - log_total for v in z]


def _logsumexp(z, terms, total):
    return [mp.log(total)]


@dataclass(frozen=True)
class Case:
    """An operation, its definition, and how many ULP it may be off; `floor` as in ulp_error."""

    name: str
    definition: Callable
    ulp: dict[str, float]
    floor: float = 0.0

    def reference(self, row, dtype, counts=None):
        """The exact results for a row of finite numbers and -inf, not all -inf.

        With `counts` the row is longer: element k occurs counts[k] times.
        """
        z = [float(v) for v in row]
        digits = DIGITS[np.dtype(dtype).name]
        with mp.workdps(digits):
            terms = [_exp(v, digits) for v in z]
            weighted = (
                terms if counts is None else [n * t for n, t in zip(counts, terms, strict=True)]
            )
            return self.definition(z, terms, mp.fsum(weighted))


def constant_row_reference(name, value, width):
    """The exact result for a row that holds `value` `width` times."""
    with mp.workdps(50):
        return {
            "softmax": lambda: mp.mpf(1) / width,
            "log_softmax": lambda: -mp.log(width),
            "logsumexp": lambda: mp.mpf(float(value)) + mp.log(width),
        }[name]()


HALF_ULP = dict.fromkeys(HALF_DTYPES, 0.51)
CASES = {
    case.name: case
    for case in [
        Case("softmax", _softmax, {"float32": 4, "float64": 4} | HALF_ULP),
        Case("log_softmax", _log_softmax, {"float32": 4, "float64": 4} | HALF_ULP),
        # The logarithm crosses zero where the sum is 1.
        Case("logsumexp", _logsumexp, {"float32": 2, "float64": 2} | HALF_ULP, floor=1.0),
    ]
}

# Rows by their kind: from a random generator, a width and the dtype they are for.
DOMAINS = {
    "ordinary": lambda rng, n, dtype: rng.normal(0, 3, n),
    "wide": lambda rng, n, dtype: rng.normal(0, 100, n),
    "tiny": lambda rng, n, dtype: rng.normal(0, 1, n) * 10.0 ** rng.uniform(-40, -1),
    "constant": lambda rng, n, dtype: np.full(n, rng.normal(0, 50)),
    "ascending": lambda rng, n, dtype: np.sort(rng.normal(0, 20, n)),
    "descending": lambda rng, n, dtype: -np.sort(rng.normal(0, 20, n)),
    "one dominates": lambda rng, n, dtype: _one_ahead(rng, n, rng.uniform(0, 40)),
    "one dominates by far": lambda rng, n, dtype: _one_ahead(rng, n, TAIL[dtype]),
    "offset": lambda rng, n, dtype: rng.normal(0, 5, n) + rng.choice([-1, 1]) * 1e4,
    "sum near 1": lambda rng, n, dtype: rng.normal(0, 1, n) - np.log(n) - 0.5,
    "subnormal outputs": lambda rng, n, dtype: _one_ahead(rng, n, 0) - TAIL[dtype] * rng.random(n),
    "beyond the exponent": lambda rng, n, dtype: _neighbours(rng, n, dtype, EXACT[dtype]),
    "huge": lambda rng, n, dtype: _neighbours(rng, n, dtype, LARGEST[dtype] ** rng.uniform(0.3, 1)),
    "masked": lambda rng, n, dtype: np.where(
        np.arange(n) == n // 2, 1.0, rng.choice([-np.inf, -1e30, -2 * LARGEST[dtype]], n)
    ),
}
# Where exp(-x) leaves the subnormals; where exponents as numbers end to be exact; half the range.
TAIL = {"float32": 103.0, "float64": 745.0, "float16": 17.0, "bfloat16": 92.0}
EXACT = {"float32": 2.0**22, "float64": 2.0**51, "float16": 2.0**11, "bfloat16": 2.0**22}
LARGEST = {"float32": 1e38, "float64": 8e307, "float16": 3e4, "bfloat16": 1e38}


def _one_ahead(rng, n, lead):
    x = rng.normal(0, 1, n) - lead
    x[rng.integers(n)] = 0.0
    return x


def _neighbours(rng, n, dtype, size):
    """Neighbours of a number of that size, some of them further away."""
    x = rng.choice([-1, 1]) * np.full(n, size).astype(get_dtype(dtype))
    x = (x + np.spacing(x) * rng.integers(-4, 5, n)).astype(np.float64)
    return np.where(rng.random(n) < 0.2, x - size / 2, x)


def make_row(domain, width, dtype, seed=0):
    """A row of that kind, as numbers of `dtype`."""
    rng = np.random.default_rng([seed, width, *domain.encode()])
    with np.errstate(over="ignore"):
        return DOMAINS[domain](rng, width, dtype).astype(get_dtype(dtype))


# Found by search over some 10^8 rows at random: the worst of each operation and dtype.
HARD_ROWS = {
    "float32": [
        [-10.447550773620605, -1.8515112400054932, 0.9204829335212708],
    ],
    "float64": [
        [-24.74473095213108, -28.084518609266993, -28.90805776523398, -30.239914796736823,
         -26.42071319529401, -29.517725813734323, -24.866703781774774, -26.393901375944548],
    ],
}  # fmt: skip

# Numbers that a sum of lanes meets again and again, so that each addition is rounded the same way;
# found by climbing, the worst of some 10^6.
REPEATED_NUMBERS = {
    "float32": [
        [14.756895065307617, 4.376302242279053, 3.1824698448181152, 4.062917709350586,
         6.429141044616699, 7.844958305358887, 1.9395203590393066, 3.1949825286865234],
    ],
    "float64": [
        [-40.80304886137159, -41.329991404594374, -42.62468549902292, -37.64829227123617,
         -42.44882984457601, -33.72834011537344, -40.00459716895674, -41.64397831379511],
        [-38.29037457728128, -42.57818861832128, -40.259728628739026, -38.72905640691362,
         -29.802807907793703, -40.042927859117434, -40.82770742800861, -36.48030117620647],
    ],
}  # fmt: skip

# logsumexp alone, relative to the result itself, where the largest element is exactly 0: then the
# result is log1p of the rest.
LOGSUMEXP_OF_MAXIMUM_0_ULP = {"float32": 2, "float64": 2} | HALF_ULP


@dataclass(frozen=True)
class LevelCase:
    """Bounds of level_scores, for each part of its result."""

    ulp: dict[str, dict[str, float]]

    def floor(self, part, levels, dtype):
        """A variance comes from differences to a rounded score: below eps its digits are noise."""
        return float(np.finfo(dtype).eps * np.max(levels) ** 2) if part == "variance" else 0.0

    def reference(self, row, groups, levels, dtype):
        """Exact probabilities, score, variance and mass for a row of finite numbers."""
        digits = DIGITS[np.dtype(dtype).name]
        with mp.workdps(digits):
            terms = [_exp(float(v), digits) for v in row]
            sums = [mp.fsum(terms[t] for t in group) for group in groups]
            p = [s / mp.fsum(sums) for s in sums]
            score = mp.fsum(q * mp.mpf(float(v)) for q, v in zip(p, levels, strict=True))
            squares = [q * (mp.mpf(float(v)) - score) ** 2 for q, v in zip(p, levels, strict=True)]
            return {
                "probabilities": p,
                "score": [score],
                "variance": [mp.fsum(squares)],
                "mass": [mp.fsum(sums) / mp.fsum(terms)],
            }


LEVELS = LevelCase(
    ulp={
        "probabilities": {"float32": 4, "float64": 4},
        "score": {"float32": 3, "float64": 3},
        "variance": {"float32": 4, "float64": 4},
        "mass": {"float32": 4, "float64": 4},
    }
)


@dataclass(frozen=True)
class StatisticsCase:
    """Bounds of row_statistics, for each part of its result."""

    ulp: dict[str, dict[str, float]]

    def floor(self, part, weights, dtype):
        """logsumexp crosses zero; a variance is of weights that differ by their own rounding."""
        eps = float(np.finfo(dtype).eps)
        floors = {"logsumexp": 1.0, "variance": eps * float(np.max(np.abs(weights))) ** 2}
        return floors.get(part, 0.0)

    def reference(self, row, target, weights, dtype):
        """Exact statistics of a row of finite numbers and -inf, the target being finite."""
        with mp.workdps(DIGITS[np.dtype(dtype).name]):
            z = [mp.mpf(float(v)) for v in row]
            e = [mp.exp(v) if mp.isfinite(v) else mp.mpf(0) for v in z]
            total = mp.fsum(e)
            p = [v / total for v in e]
            w = [mp.mpf(float(v)) for v in weights]
            mean = mp.fsum(a * b for a, b in zip(p, w, strict=True))
            return {
                "logsumexp": mp.log(total),
                "entropy": mp.fsum(-a * mp.log(a) for a in p if a > 0),
                "maximum": max(z),
                "target_log_probability": z[target] - mp.log(total),
                "expectation": mean,
                "variance": mp.fsum(a * (b - mean) ** 2 for a, b in zip(p, w, strict=True)),
                "error_norm": mp.sqrt(mp.fsum((a - (k == target)) ** 2 for k, a in enumerate(p))),
            }


STATISTICS = StatisticsCase(
    ulp={
        "logsumexp": {"float32": 2, "float64": 2},
        "entropy": {"float32": 4, "float64": 4},
        "maximum": {"float32": 0, "float64": 0},
        "target_log_probability": {"float32": 4, "float64": 4},
        "expectation": {"float32": 4, "float64": 4},
        "variance": {"float32": 6, "float64": 6},
        "error_norm": {"float32": 4, "float64": 4},
    }
)


@dataclass(frozen=True)
class CrossEntropyCase:
    """Bounds of cross_entropy_rows, for each part of its result."""

    ulp: dict[str, dict[str, float]]

    def reference(self, a, b, dtype, temperature=1, column=-1):
        """Exact results for two rows of finite numbers and -inf; with a column, what it is left."""
        with mp.workdps(DIGITS[np.dtype(dtype).name]):
            rows = [[mp.mpf(float(v)) for v in row] for row in (a, b)]
            e_a, e_b = ([mp.exp(v) for v in row] for row in rows)
            z_a, z_b = ([v / temperature for k, v in enumerate(row) if k != column] for row in rows)
            w = [mp.exp(v) for v in z_b]
            total, log_total = mp.fsum(w), mp.log(mp.fsum(mp.exp(v) for v in z_a))
            terms = [p / total * (log_total - z) for p, z in zip(w, z_a, strict=True) if p > 0]
            exact = {"cross_entropy": mp.inf if mp.inf in terms else mp.fsum(terms)}
            if column >= 0:
                exact["log_probability"] = rows[0][column] - mp.log(mp.fsum(e_a))
                exact["probability"] = e_b[column] / mp.fsum(e_b)
            return exact


CROSS_ENTROPY = CrossEntropyCase(
    ulp={
        "cross_entropy": {"float32": 4, "float64": 4},
        "log_probability": {"float32": 4, "float64": 4},
        "probability": {"float32": 4, "float64": 4},
    }
)

# Shapes for the benchmarks, reduced along the last axis.
SIZES = {
    "five logits": (5,),
    "8 rows of 5": (8, 5),
    "a million rows of 5": (1_000_000, 5),
    "100,000 rows of 128": (100_000, 128),
    "4096 rows of 1024": (4096, 1024),
    "64 rows of a vocabulary": (64, 128_256),
    "one row of 16 million": (1, 1 << 24),
}


# What row_filter keeps: by rule, an order of the columns and how far along it to go.
FILTERS = ("typical", "top_p", "top_k", "min_p", "epsilon")


def kept_columns(row, rule, amount, min_keep=1):
    """The definition, for a row of finite numbers and -inf: a bool a column."""
    z = [float(v) for v in row]
    live = [k for k, v in enumerate(z) if v > -np.inf]
    with mp.workdps(60):
        largest = max(z)
        terms = {k: mp.exp(mp.mpf(z[k]) - largest) for k in live}
        total = mp.fsum(terms.values())
        p = {k: t / total for k, t in terms.items()}
        key = {k: -z[k] for k in live}
        if rule == "typical":
            entropy = -mp.fsum(q * mp.log(q) for q in p.values())
            key = {k: abs(-mp.log(q) - entropy) for k, q in p.items()}
        order = sorted(live, key=key.get)
        enough, mass, last = 0, mp.mpf(0), -1
        for place, k in enumerate(order):
            if rule in ("typical", "top_p"):
                wanted = mass < amount
            elif rule == "top_k":
                wanted = place < amount
            else:
                wanted = p[k] >= amount * (max(p.values()) if rule == "min_p" else 1)
            mass += p[k]
            if wanted or place < min_keep:
                enough, last = place + 1, k
        assert enough or last < 0
        return [k in key and last >= 0 and key[k] <= key[last] for k in range(len(z))]


# How far off the mass may be at which top_p and typical cut, and the order of typical, relative to
# |log p| of the column and of the whole row: in units of the precision.
CUT_BOUND, ORDER_BOUND = 4.0, 4.0


def cut_error(x, rule, amount, kept):
    """By how much the mass of the columns kept of each row is too small, or too large without the
    last one, in units of the precision; inf where columns before the last one are left out.

    For rows of finite numbers. Where rounding decides the order, it may be either.
    """
    eps = np.finfo("float64" if x.dtype == "float64" else "float32").eps
    z = x.astype(np.longdouble)
    d = z - z.max(-1, keepdims=True)
    p = np.exp(d) / np.exp(d).sum(-1, keepdims=True)
    key, rounding = -d, np.zeros_like(d)
    if rule == "typical":
        mean = (p * -d).sum(-1, keepdims=True)
        key, rounding = abs(-d - mean), ORDER_BOUND * eps * (mean - d)
    last = np.where(kept, key - rounding, -np.inf).max(-1, keepdims=True)
    in_order = (kept | (key + rounding > last)).all(-1)
    mass = np.where(kept, p, 0).sum(-1)
    before = np.where(kept & (key + rounding < last), p, 0).sum(-1)
    error = np.maximum(np.maximum(amount - mass, before - amount), 0) / eps
    return np.where(in_order & kept.any(-1), error, np.inf).astype(float)


# How far a root of row_root may be off, relative to max(1, |t|) and to tau: the result is rounded
# to float32; in float64 the sums limit it.
ROOT_BOUND = {"float32": 6e-8, "float16": 6e-8, "bfloat16": 6e-8, "float64": 1e-13}


def root_value(function, row, u):
    """The function of `u` and a row of finite numbers, by its definition."""
    z = [mp.mpf(float(v)) for v in row]
    if function == "sigmoid_sum":
        return mp.fsum(1 / (1 + mp.exp(-(v + u))) for v in z)
    largest = max(z)
    e = [mp.exp((v - largest) / u) for v in z]
    p = [v / mp.fsum(e) for v in e]
    return mp.fsum(q * mp.log(q * len(z)) for q in p if q > 0)
