"""Rows of every size that the CUDA backend has a way for, against exact references.

The kernels run in the emulator, or on a GPU where there is one.
"""

import numpy as np
import pytest

import softmap
from conftest import EMULATED, ON_GPU
from ops.softmax import CASES, DTYPES, HALF_DTYPES, get_dtype
from ulp import check_ulp

DEVICES = [*(["cuda_emulated"] if EMULATED else []), *ON_GPU]
pytestmark = [
    pytest.mark.skipif(not DEVICES, reason="neither _cuda_emulated nor a GPU is there"),
    pytest.mark.parametrize("backend", DEVICES, indirect=True),
]
# In registers of a warp, of a block and of a cluster; in pieces.
SIZES = (1025, 4097, 16_385, 32_768, 70_001, 128_256, 262_144, 300_001)


@pytest.mark.parametrize("dtype", [*DTYPES, *HALF_DTYPES])
@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_accuracy_of_rows_of_every_regime(backend, case, dtype):
    """Elements of 61 kinds: the sum is exact, and equal elements give equal results."""
    values = np.linspace(-40, 30, 61).astype(get_dtype(dtype))
    for n in SIZES:
        kind = np.random.default_rng(n).integers(0, 61, n)
        kind[:61] = np.arange(61)
        counts = np.bincount(kind, minlength=61)
        reference = case.reference(values, dtype, counts.tolist())
        actual = getattr(softmap, case.name)(values[kind][None], -1)[0]
        if case.name != "logsumexp":
            np.testing.assert_array_equal(actual, actual[:61][kind])
            actual = actual[:61]
        check_ulp(
            f"{case.name} of every regime", actual, reference, dtype, case.ulp[dtype],
            floor=case.floor, backend=backend, hint=f"width {n}",
        )  # fmt: skip


@pytest.mark.parametrize("n", [2, 40, 1500, 20_000])
@pytest.mark.parametrize("case", ["log_softmax", "logsumexp", "softmax"])
def test_quotients_of_half_types_that_overflow(backend, case, n):
    """As with all other backends: the largest takes all."""
    x = np.full((2, n), 1.0, get_dtype("bfloat16"))
    x[0, 0], x[1, :] = 3e38, -3e38
    x[1, 0] = -1e38
    got = np.asarray(getattr(softmap, case)(x, -1, temperature=0.01)).astype(float)
    first = {"log_softmax": 0.0, "softmax": 1.0, "logsumexp": [np.inf, -np.inf]}[case]
    if case == "logsumexp":
        np.testing.assert_array_equal(got, first)
    else:
        np.testing.assert_array_equal(got[:, 0], first)
        np.testing.assert_array_equal(got[:, 1:], -np.inf if case == "log_softmax" else 0.0)
