"""Rows that are summed in blocks: moving references, and ways that must agree to the bit."""

import numpy as np
import pytest

import softmap
from conftest import RUNNABLE
from ops.softmax import CASES, DTYPES, HALF_DTYPES, get_dtype
from ulp import check_ulp

each_case = pytest.mark.parametrize("case", CASES.values(), ids=CASES)
each_dtype = pytest.mark.parametrize("dtype", DTYPES)
# Bits are a promise of the CPU modules alone.
each_cpu = pytest.mark.parametrize("backend", RUNNABLE, indirect=True)
every_dtype = pytest.mark.parametrize("dtype", [*DTYPES, *HALF_DTYPES])


def moving_rows(n, dtype):
    """Rows whose largest element comes late, or once the first blocks are far below it."""
    rng = np.random.default_rng(n)
    steep = {"float32": 300.0, "float64": 3000.0}[dtype]
    noise = rng.normal(0, 1, n)
    half_masked = np.where(np.arange(n) < n // 2, -np.inf, noise)
    late = noise - 2 * steep
    late[-1] = 0.0
    peak = noise.copy()
    peak[n // 3] = 30.0
    low = np.full(n, -1e30)
    low[n - 2] = 2.0
    return {
        "ascending": np.linspace(-steep, steep, n),
        "stairs": noise + steep / 4 * (np.arange(n) // 1024),
        "first half masked": half_masked,
        "one, at the end": late,
        "one has most of the mass": peak,
        "one above finite masks": low,
    }


@each_dtype
@each_case
@pytest.mark.parametrize("n", [1025, 4099])
def test_function_accuracy_where_the_reference_moves(backend, case, n, dtype):
    for name, row in moving_rows(n, dtype).items():
        x = row.astype(dtype)
        actual = np.ravel(getattr(softmap, case.name)(x))
        exact = case.reference(x, dtype)
        keep = slice(None, None, 1 if case.name == "logsumexp" else 7)
        check_ulp(
            f"{case.name}, moving", actual[keep], exact[keep], dtype, case.ulp[dtype],
            floor=case.floor, backend=backend, hint=f"{name} {n}",
        )  # fmt: skip


@every_dtype
@each_case
@each_cpu
@pytest.mark.parametrize("n", [200, 1024, 5003, 70_001])
def test_every_way_gives_the_same_bits(backend, case, n, dtype):
    """Rows together, alone, in place, out of line, strided, and shared by threads."""
    rng = np.random.default_rng(n)
    x = rng.normal(0, 4, (5, n)).astype(get_dtype(dtype))
    x[1, : n // 2] = -np.inf
    x[2] = np.linspace(-200, 200, n).astype(x.dtype)
    x[3, 7] = np.nan
    function = getattr(softmap, case.name)
    expected = function(x, axis=1)
    assert np.isnan(expected[3].astype(np.float64)).all()
    alone = np.stack([function(row) for row in x])
    strided = function(np.repeat(x, 2, axis=1)[:, ::2], axis=1)
    shared = function(x, axis=1, n_threads=3)
    ones = np.ones(5, np.float64 if dtype == "float64" else np.float32)
    divided = function(x, axis=1, temperature=ones)
    results = [alone, strided, shared, divided]
    if case.name != "logsumexp":
        room = np.empty(5 * n + 1, x.dtype)
        results.append(function(x, axis=1, out=room[1:].reshape(5, n)))
        inside = x.copy()
        results.append(function(inside, axis=1, out=inside))
        single = x[:1].copy()
        assert function(single, axis=1, out=single).tobytes() == expected[:1].tobytes()
    for result in results:
        assert result.tobytes() == expected.tobytes()


@each_cpu
@each_dtype
def test_results_do_not_depend_on_stores_past_the_caches(backend, dtype):
    x = np.random.default_rng(1).normal(0, 3, (3, 1 << 21)).astype(dtype)
    room = np.empty(x.size + 3, dtype)
    for function in (softmap.softmax, softmap.log_softmax):
        batch = function(x, axis=1, out=room[3:].reshape(x.shape))
        assert (batch[2] == function(x[2])).all()
        assert (batch[0, :] == function(x[:1, :], axis=1, n_threads=2)[0]).all()


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("what", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("n", [65_537, 131_073, 131_090])
def test_what_is_alone_in_the_last_segment_counts(backend, n, what, dtype):
    """A row is summed in segments; the last of these has 1 or 18 numbers and nothing finite."""
    x = np.random.default_rng(n).normal(0, 5, n).astype(dtype)
    x[n // 65_536 * 65_536 :] = what
    for result in (softmap.softmax(x), softmap.log_softmax(x), [softmap.logsumexp(x)]):
        if np.isnan(what):
            assert np.isnan(result).all()
    if what == np.inf:
        assert softmap.logsumexp(x) == np.inf
    elif what == -np.inf:
        kept = x[: n // 65_536 * 65_536]
        assert softmap.logsumexp(x) == pytest.approx(softmap.logsumexp(kept), rel=1e-7)


@each_dtype
def test_numbers_just_below_the_range_count(backend, dtype):
    """Whole blocks beyond what a reference suits, before blocks that are within it."""
    low = {"float32": -90135.0, "float64": -(2.0**47) * 1.01265}[dtype]
    for above in (30.0, 2.0**40 if dtype == "float64" else 50.0, 200.0):
        numbers = np.array([low, low + above], dtype)
        want = CASES["softmax"].reference(numbers, dtype, counts=[1024, 1024])
        x = np.repeat(numbers, 1024)
        for rows in (x[None], np.stack([x, x])):
            got = softmap.softmax(rows, axis=1)[0, ::1024]
            check_ulp("softmax", got, want, dtype, 4, backend=backend, hint=f"{above}")
            low_log, top_log = softmap.log_softmax(rows, axis=1)[0, ::1024]
            np.testing.assert_allclose(low_log - top_log, numbers[0] - numbers[1], rtol=1e-6)
