"""Cross-entropy of two softmaxes a row, and a column left out: definitions, edges, layouts."""

import mpmath as mp
import numpy as np
import pytest

import softmap
from ops.softmax import CROSS_ENTROPY, DTYPES, HALF_DTYPES, get_dtype
from softmap._cross_entropy import cross_entropy_rows
from ulp import check_ulp

INF, NAN = np.inf, np.nan
PARTS = ("cross_entropy", "log_probability", "probability")
WIDTHS = [1, 2, 5, 16, 17, 64, 65, 300]


def rows_of(kind, width, seed):
    rng = np.random.default_rng([seed, width])
    return {
        "ordinary": lambda: rng.normal(size=(3, width)) * 4,
        "offset": lambda: rng.normal(size=(3, width)) * 4 + 1000,
        "confident": lambda: rng.normal(size=(3, width)) + 30 * np.eye(3, width),
        "masked": lambda: np.where(np.arange(width) % 5 == 3, -INF, rng.normal(size=(3, width))),
        "constant": lambda: np.full((3, width), 0.3),
    }[kind]()


def check(backend, kind, dtype, a, b, temperature=1, column=None):
    got = cross_entropy_rows(a, b, temperature, column)
    got = (got,) if column is None else got
    computed = "float32" if dtype in HALF_DTYPES else dtype
    for k, (row, other) in enumerate(zip(a, b, strict=True)):
        left_out = -1 if column is None else column[k]
        reference = CROSS_ENTROPY.reference(row, other, computed, temperature, left_out)
        for part, values in zip(PARTS, got, strict=False):
            assert values.dtype == computed
            check_ulp(
                f"cross_entropy.{part}", values[k], reference[part], computed,
                CROSS_ENTROPY.ulp[part][computed], backend=backend, hint=f"{kind} {a.shape[1]}",
            )  # fmt: skip


KINDS = ["ordinary", "offset", "confident", "masked", "constant"]
PAIRS = [(k, k) for k in KINDS] + [("ordinary", "confident"), ("confident", "ordinary")]
PAIRS += [("ordinary", "masked"), ("masked", "ordinary")]  # the last is infinite


@pytest.mark.parametrize("dtype", [*DTYPES, *HALF_DTYPES])
@pytest.mark.parametrize("kinds", PAIRS, ids="-".join)
def test_accuracy(backend, kinds, dtype):
    for width in WIDTHS if dtype == "float32" else WIDTHS[1::3]:
        a, b = (rows_of(kind, width, k).astype(get_dtype(dtype)) for k, kind in enumerate(kinds))
        check(backend, kinds, dtype, a, b, 2)
        if width > 1:
            for temperature in (1, 2):
                check(backend, kinds, dtype, a, b, temperature, np.array([0, 1, width - 1]))


@pytest.mark.parametrize("dtype", DTYPES)
def test_accuracy_of_long_rows(backend, dtype):
    """Columns of 61 kinds, so that the exact sums are short ones."""
    n = 150_000 if backend.startswith("cuda") else 1 << 20
    kind = np.random.default_rng(n).integers(0, 61, n)
    of_a, of_b = np.linspace(-40, 3, 61).astype(dtype), np.cos(np.arange(61) * 0.7).astype(dtype)
    a, b = of_a[kind], of_b[kind]
    counts = np.bincount(kind, minlength=61) - np.bincount(kind[:1], minlength=61)
    with mp.workdps(60):
        z, y = ([mp.mpf(float(v)) for v in row] for row in (of_a, of_b))
        sums = [[int(c) * mp.exp(v) for c, v in zip(counts, row, strict=True)] for row in (z, y)]
        log_a, total_b = mp.log(mp.fsum(sums[0])), mp.fsum(sums[1])
        exact = {
            "cross_entropy": mp.fsum(w * (log_a - v) for w, v in zip(sums[1], z, strict=True))
            / total_b,
            "log_probability": -mp.log1p(mp.fsum(sums[0]) * mp.exp(-z[kind[0]])),
            "probability": 1 / (1 + total_b * mp.exp(-y[kind[0]])),
        }
    got = cross_entropy_rows(a, b, 1.0, np.array(0))
    for part, value in zip(PARTS, got, strict=True):
        bound = CROSS_ENTROPY.ulp[part][dtype]
        check_ulp(f"cross_entropy.{part}, long", value, exact[part], dtype, bound, backend=backend)
    for n_threads in (1, 3):
        with softmap.threads(n_threads):
            assert cross_entropy_rows(a, b, 1.0, np.array(0)) == got


@pytest.mark.parametrize("n", [1, 2, 5, 16, 17, 64, 65, 200])
def test_a_row_is_the_same_in_any_company_and_layout(backend, n):
    rng = np.random.default_rng(n)
    a, b = rng.normal(0, 3, (2, 75, n)).astype(np.float32)
    a[3, 0], b[5, n // 2], a[7] = NAN, INF, -INF
    a[9], b[11] = a[9] * 1e30, b[11] + 1e6  # beyond the range of fast loops
    y = np.arange(75) % (n + 1)
    for options in ((), (2.0, y), (1.0, y)):
        want = np.atleast_2d(cross_entropy_rows(a, b, *options))
        for i in (0, 3, 5, 7, 9, 11, 37, 74):
            alone = cross_entropy_rows(a[i], b[i], *options[:1], *(o[i] for o in options[1:]))
            np.testing.assert_array_equal(want[:, i], alone)
        turned = np.asfortranarray(a)[::-1], np.repeat(b, 2, axis=1)[::-1, ::2]
        got = cross_entropy_rows(*turned, *options[:1], *(o[::-1] for o in options[1:]))
        np.testing.assert_array_equal(np.atleast_2d(got)[:, ::-1], want)


def test_threads_change_nothing(backend):
    a, b = np.random.default_rng(0).normal(0, 3, (2, 60_000, 6)).astype(np.float32)
    y = np.arange(60_000) % 6
    want = cross_entropy_rows(a, b, 1.0, y)
    with softmap.threads(3):
        np.testing.assert_array_equal(cross_entropy_rows(a, b, 1.0, y), want)


# Rows of a and of b, what is left out, and the three results, at 10 columns and at 100: the others
# are -inf in both.
LOG2 = np.log(2)
SPECIAL = {
    "nan in a": ([NAN, 0, 0], [0, 0, 0], 2, [NAN, NAN, 1 / 3]),
    "nan in b": ([0, 0, 0], [0, NAN, 0], 2, [NAN, -np.log(3), NAN]),
    "inf in a": ([0, INF, 0], [0, 0, 0], 2, [NAN, NAN, 1 / 3]),
    "inf in b": ([0, 0, 0], [INF, 0, 0], 2, [NAN, -np.log(3), NAN]),
    "nan left out": ([0, 0, NAN], [0, 0, NAN], 2, [LOG2, NAN, NAN]),
    "inf left out": ([0, 0, INF], [0, 0, INF], 2, [LOG2, NAN, NAN]),
    "-inf left out": ([0, 0, -INF], [0, 0, -INF], 2, [LOG2, -INF, 0]),
    "all masked": ([-INF] * 3, [-INF] * 3, 2, [NAN, NAN, NAN]),
    "others masked in a": ([-INF, -INF, 0], [0, 0, 0], 2, [NAN, 0, 1 / 3]),
    "others masked in b": ([0, 0, 0], [-INF, -INF, 5], 2, [NAN, -np.log(3), 1]),
    "never in b": ([-INF, 0, 0], [-INF, 0, 0], 2, [0, -LOG2, 1 / 2]),
    "never in a": ([-INF, 0, 0], [0, 0, 0], 2, [INF, -LOG2, 1 / 3]),
    "finite masks": ([-1e30, 0, 0], [0, 0, -1e30], 2, [5e29, -LOG2, 0]),
    "largest numbers": ([3e38, -3e38, 3e38], [3e38, -3e38, -3e38], 2, [0, -LOG2, 0]),
    "none left out": ([0, 0, -INF], [0, 0, -INF], 1 << 40, [LOG2, NAN, NAN]),
    "none left out, -1": ([0, 0, -INF], [0, 0, -INF], -1, [LOG2, NAN, NAN]),
}


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("width", [3, 10, 100])
@pytest.mark.parametrize("temperature", [1.0, 0.5])
def test_special_rows(backend, temperature, width, dtype):
    a, b = np.full((2, len(SPECIAL), width), -INF, dtype)
    for k, (row, other, _, _) in enumerate(SPECIAL.values()):
        a[k, :3], b[k, :3] = row, other
    y = np.array([column for _, _, column, _ in SPECIAL.values()])
    got = np.stack(cross_entropy_rows(a, b, temperature, y), axis=-1)
    for k, (name, (*_, want)) in enumerate(SPECIAL.items()):
        if name == "finite masks":  # the distance is that of the logits divided
            want = [want[0] / temperature, *want[1:]]
        np.testing.assert_allclose(got[k], want, rtol=1e-6, err_msg=name)


def test_rows_without_columns(backend):
    """Nothing is left: a sum of nothing."""
    np.testing.assert_array_equal(cross_entropy_rows(np.zeros((2, 0)), np.zeros((2, 0))), [0, 0])
    got = cross_entropy_rows([[2.0], [-INF], [5.0]], [[3.0]] * 3, 1.0, np.array([0, 0, 1]))
    np.testing.assert_array_equal(got, [[0, 0, 0], [0, NAN, NAN], [1, 1, NAN]])
    for width in (0, 3, 100):
        got = cross_entropy_rows(*np.zeros((2, 0, width)), 1.0, np.zeros(0, int))
        assert [part.shape for part in got] == [(0,)] * 3


def test_dtypes_are_joined(backend):
    a, b = np.random.default_rng(2).normal(0, 3, (2, 4, 6))
    half, single = a.astype(np.float16), b.astype(np.float32)
    want = cross_entropy_rows(half.astype(np.float32), single)
    got = cross_entropy_rows(half, single)
    assert got.dtype == np.float32
    np.testing.assert_array_equal(got, want)
    assert cross_entropy_rows(half, b).dtype == np.float64
    with pytest.raises(ValueError, match="temperature = 0"):
        cross_entropy_rows(a, b, 0)
