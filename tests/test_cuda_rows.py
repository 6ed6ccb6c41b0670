"""Rows of the CUDA kernels by length: short ones in tiles, long ones by clusters and in pieces."""

import ml_dtypes
import numpy as np
import pytest

import softmap
from conftest import EMULATED, ON_GPU
from ops.softmax import CASES, DTYPES, LEVELS, get_dtype
from softmap import _backend, _cpu_base
from test_softmax_long import moving_rows
from ulp import check_ulp

CUDA = [*(["cuda_emulated"] if EMULATED else []), *ON_GPU]
each_cuda = pytest.mark.parametrize("backend", CUDA or ["base"], indirect=True)
pytestmark = pytest.mark.skipif(not CUDA, reason="the CUDA kernels are not built here")
each_case = pytest.mark.parametrize("case", CASES.values(), ids=CASES)
each_dtype = pytest.mark.parametrize("dtype", DTYPES)

# A cluster or pieces, and pieces; the last one without vectors, as it is no multiple of 4.
LONG = (16_385, 150_000, 262_145)


@each_cuda
@each_case
@each_dtype
def test_long_rows_where_the_reference_moves(backend, case, dtype):
    """17,001 columns: in float by a cluster, but for logsumexp; in pieces otherwise."""
    n = 17_001
    for name, row in moving_rows(n, dtype).items():
        values, counts = np.unique(row.astype(dtype), return_counts=True)
        keep = np.unique(np.linspace(0, values.size - 1, 40).astype(int))
        exact = np.ravel(case.reference(values, dtype, counts=counts))
        actual = np.ravel(getattr(softmap, case.name)(row.astype(dtype)))
        if case.name != "logsumexp":
            actual, exact = (
                actual[[np.argmax(row.astype(dtype) == v) for v in values[keep]]],
                exact[keep],
            )
        check_ulp(
            f"{case.name}, moving", actual, exact, dtype, case.ulp[dtype],
            floor=case.floor, backend=backend, hint=f"{name} {n}",
        )  # fmt: skip


@each_cuda
@each_case
@pytest.mark.parametrize("n", LONG)
def test_long_rows_agree_with_the_cpu(backend, case, n, monkeypatch):
    """Within the sum of the bounds; a row by itself as beside a mask, NaN and +inf."""
    rng = np.random.default_rng(n)
    x = rng.normal(0, 5, (5, n)).astype(np.float32)
    x[1, : n // 2], x[2, n - 1], x[3, 7] = -np.inf, np.nan, np.inf
    function = getattr(softmap, case.name)
    result = function(x, -1)
    np.testing.assert_array_equal(function(x[4], -1), result[4])
    if n == LONG[0]:
        np.testing.assert_array_equal(function(np.asfortranarray(x), -1), result)
    warm = function(x, -1, temperature=np.array([1, 0.5, 1, 1, 3.0], np.float32))
    monkeypatch.setattr(_backend, "cpu", lambda isa=None: _cpu_base)
    bound = 2 * case.ulp["float32"] * 2.0**-23
    for got, want in (
        (result, function(x, -1)),
        (warm, function(x, -1, temperature=np.array([1, 0.5, 1, 1, 3.0], np.float32))),
    ):
        scale = bound if case.name == "softmax" else 0.0
        np.testing.assert_allclose(got, want, rtol=bound, atol=1e-44 if scale else bound)


@each_cuda
@each_case
@pytest.mark.parametrize("dtype", ["float32", "float64", "bfloat16"])
def test_short_rows_give_the_same_bits_however_they_lie(backend, case, dtype):
    """By vectors, in tiles with and without, element by element; more rows than a block takes."""
    dtype = get_dtype(dtype)
    function = getattr(softmap, case.name)
    for n in (1, 2, 3, 4, 7, 8, 9, 13, 16, 17, 24, 31, 32):
        x = np.random.default_rng(n).normal(0, 4, (1100 if n < 9 else 300, n)).astype(dtype)
        want = function(x, -1)
        apart = np.zeros((x.shape[0], n + 3), dtype)[:, 1 : n + 1]
        apart[...] = x
        shifted = np.zeros(x.size + 1, dtype)[1:].reshape(x.shape)
        shifted[...] = x
        for other in (apart, shifted, np.asfortranarray(x)):
            np.testing.assert_array_equal(function(other, -1), want)
        some = [0, 127, 128, x.shape[0] - 1]
        np.testing.assert_array_equal([function(x[i]) for i in some], want[some])
        near = 2.0**-8 if dtype == ml_dtypes.bfloat16 else 1e-5
        np.testing.assert_allclose(want.astype(float), function(x.astype(float), -1), near, near)


@each_cuda
@each_dtype
@pytest.mark.parametrize("n", [37, 1500, 5000])
def test_mass_of_rows_where_the_reference_moves(backend, n, dtype):
    """The row is read once, whatever comes first and whatever comes last."""
    for name, row in moving_rows(n, dtype).items():
        x = np.where(np.isfinite(row), row, -200).astype(dtype)
        groups = [[0, n - 2], [n // 3], [n - 1]]
        got = softmap.level_scores(x, groups, [1, 2, 3], mass=True)
        want = LEVELS.reference(x, groups, [1, 2, 3], dtype)["mass"]
        check_ulp(
            "level_scores, mass", np.ravel(got.mass), want, dtype, LEVELS.ulp["mass"][dtype],
            backend=backend, hint=f"{name} {n}",
        )  # fmt: skip
