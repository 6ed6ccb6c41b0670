"""Small calls that together launch every kernel for a GPU: of the emulator's tests.

Rows are of each size that a kernel of its own is for, a little ragged; there are few of them.
"""

import dataclasses
import itertools
import sys
import time

import ml_dtypes
import numpy as np

import softmap
from softmap import _backend
from softmap._cross_entropy import cross_entropy_rows
from softmap._ordinal import ordinal_cross_entropy, ordinal_probabilities

DTYPES = (np.float32, np.float64, np.float16, np.dtype(ml_dtypes.bfloat16))
WIDTHS = (2, 4, 5, 7, 10, 16, 29, 50, 100, 200, 400, 900, 1700, 3001, 6000, 12_000, 20_000, 40_001)
LINKS = ("logit", "probit")
FILTERS = {"typical": 0.6, "top_p": 0.7, "top_k": 3, "min_p": 0.1, "epsilon": 0.01}
TIES = {"davidson": 0.5, "rao-kupper": 1.5, "threshold": 0.3}


def rows(n_rows, width, dtype):
    rng = np.random.default_rng(width)
    return rng.normal(0, 4, (n_rows, width)).astype(np.float32).astype(dtype)


def layouts(width, dtype):
    """Rows of whole vectors of 16 bytes, rows that start anywhere; of some columns lie apart."""
    n = 3 if width < 5000 else 2
    wide = rows(n, max(8, width // 8 * 8), dtype)
    apart = [rows(n, 2 * width, dtype)[:, ::2]] if width in (20, 200) else []
    return [wide[:, :width], wide[:, 1 : width - 1], *apart]


def softmax_family():
    for dtype, width in itertools.product(DTYPES, WIDTHS):
        for x in layouts(width, dtype):
            for function in (softmap.softmax, softmap.log_softmax, softmap.logsumexp):
                yield function(x, -1)
    for dtype in DTYPES:
        for n in (20, 40, 33_000):
            yield softmap.softmax(rows(n, 2, dtype), 0)  # packed, and unpacked
        for width in (2, 4, 8):  # side by side, several a vector
            x = rows(67, width, dtype)
            yield softmap.softmax(x, -1)
            yield softmap.log_softmax(x, -1, temperature=0.7)
        x = rows(1, (1 << 18) + 1, dtype)  # in pieces, without vectors
        yield softmap.softmax(x, -1)
        yield softmap.log_softmax(x, -1)
        x = rows(40, 5, dtype)
        yield softmap.log_softmax(x, -1, temperature=np.linspace(0.5, 2, 40).astype(np.float32))


def statistics():
    for dtype, width in itertools.product(DTYPES, WIDTHS[:-1]):
        for x in layouts(width, dtype)[::2]:
            weights = np.arange(float(x.shape[1]))
            yield softmap.row_statistics(x, target=1, weights=weights, error_norm=True)
            yield softmap.logsumexp_partial(x)
            yield cross_entropy_rows(x, x[::-1])
            for temperature in (1.0, 2.0):
                yield cross_entropy_rows(x, x[::-1], temperature, np.arange(len(x)))


def level_scores():
    many = list(range(150)), np.linspace(1, 5, 150)
    for dtype, mass in itertools.product(DTYPES, (False, True)):
        for width in (200, 3001, 40_001):
            for x in layouts(width, dtype)[::2]:
                yield softmap.level_scores(x, [0, [1, 5], 7], [1, 2, 3], mass=mass, mode=mass)
                yield softmap.level_scores(x, *many, mass=mass)


def filters_and_roots():
    for dtype, width in itertools.product(DTYPES, (3, 20, 130, 700, 3001)):
        for x in layouts(width, dtype)[::2]:
            for rule, amount in FILTERS.items():
                yield softmap.row_filter(x, rule, amount)
            yield softmap.row_root(x, "sigmoid_sum", 1.5)
            yield softmap.row_root(x, "divergence", 0.2)


def matrices():
    rng = np.random.default_rng(1)
    for link, dtype, n in itertools.product(LINKS, DTYPES, (5, 8, 67, 72)):
        s = rng.normal(0, 2, (2, n)).astype(dtype)
        room = np.full(2 * n * n + 8, np.nan, dtype)
        start = -room.ctypes.data % 16 // room.itemsize
        for k in (start, start + 1):  # whole vectors, and single numbers
            out = room[k : k + 2 * n * n].reshape(2, n, n)
            for advantage in (0.0, 0.25):
                yield softmap.preference_matrix(
                    s, link=link, first_advantage=advantage, out=out
                ).copy()
        yield softmap.preference(s[:, :, None], s[:, None], link=link)
    for (ties, strength), dtype in itertools.product(TIES.items(), DTYPES[:2]):
        s = rng.normal(0, 2, (2, 7)).astype(dtype)
        yield softmap.outcome_matrices(s, ties=ties, tie_strength=strength)


def ordered():
    rng = np.random.default_rng(5)
    for dtype, n in itertools.product(DTYPES[:2], (0, 1, 4, 40)):
        z = rng.normal(0, 3, (300, n)).astype(dtype)
        for conditional in (False, True):
            yield ordinal_probabilities(z, conditional=conditional)
        yield ordinal_cross_entropy(z, rng.integers(-1, n + 2, 300), rng.uniform(0, 2, n))


def likelihoods():
    rng = np.random.default_rng(2)
    for dtype, n in itertools.product(DTYPES[:2], (5, 20, 40)):
        s = rng.normal(0, 1, (3, n)).astype(dtype)
        wins, losses, tied = rng.integers(0, 5, (3, 3, n, n)).astype(dtype)
        for link in LINKS:
            yield softmap.log_likelihood(s, wins, link=link, gradient=True)
        for ties, strength in TIES.items():
            link = "probit" if ties == "threshold" else "logit"
            options = {"ties": ties, "tie_strength": strength, "link": link, "gradient": True}
            yield softmap.log_likelihood(s, wins, losses=losses, tie_counts=tied, **options)


def terms():
    """The parts of a labelled fit, as the module has them."""
    rng = np.random.default_rng(3)
    d, counts = rng.normal(0, 2, 300), rng.integers(0, 9, (3, 300)).astype(float)
    for link in LINKS:
        out = np.full((3, 300), np.nan)
        _backend.cpu().pair_terms(d, counts[0], counts[1], link, *out)
        yield out
    for ties, strength in TIES.items():
        out = np.full((6, 300), np.nan)
        _backend.cpu().outcome_terms(d, counts, ties, strength, out)
        yield out


def fits():
    rng = np.random.default_rng(4)
    for dtype, link, n in itertools.product(DTYPES[:2], LINKS, (*range(2, 12), 17, 40)):
        wins = rng.integers(0, 6, (8, n, n)).astype(dtype)
        yield softmap.fit_many(wins, prior_sd=1.0, link=link, standard_errors=n % 2 == 0)
        if n > 3:
            half = np.full((n - 1, n - 1), 0.5)
            p = rng.uniform(0.1, 0.9, (8, n - 1)).astype(dtype)
            yield softmap.score_against_anchors(p, half, link=link)
    wins, losses, tied = rng.integers(0, 6, (3, 2, 4, 4)).astype(float)
    for ties, link in (("half", "logit"), ("half", "probit"), *((t, None) for t in TIES)):
        yield softmap.fit_many(
            wins,
            losses=losses,
            tie_counts=tied,
            ties=ties,
            link=link or ("probit" if ties == "threshold" else "logit"),
            first_advantage="estimate",
            prior_sd=1.0,
        )


FAMILIES = [
    softmax_family, statistics, level_scores, filters_and_roots, matrices, ordered, likelihoods,
    terms, fits
]  # fmt: skip


def arrays(result):
    """All arrays of a result."""
    if dataclasses.is_dataclass(result):
        result = [getattr(result, field.name) for field in dataclasses.fields(result)]
    if isinstance(result, (tuple, list)):
        return [a for part in result for a in arrays(part)]
    return [] if result is None else [np.asarray(result)]


def results(family):
    return [a for result in family() for a in arrays(result)]


def main():
    """Families that are named, or all, once in the emulator: for builds with a sanitizer."""
    import pytest

    from conftest import emulate

    emulate(pytest.MonkeyPatch())
    wanted = sys.argv[1:] or [family.__name__ for family in FAMILIES]
    for family in (f for f in FAMILIES if f.__name__ in wanted):
        start = time.perf_counter()
        n = len(results(family))
        print(f"{family.__name__}: {n} results, {time.perf_counter() - start:.1f} s", flush=True)


if __name__ == "__main__":
    main()
