"""Rows that are taken many at a time, beside copies of the same bytes.

`copy` is numpy.copyto; `copy past caches` stores without reading the lines first.
"""

import numpy as np
import pytest

import rivals
import softmap
import softmax_table
from ops.softmax import get_dtype
from softmap._backend import cpu

CASES = {
    "softmax, 1,000,000 rows of 5": (softmap.softmax, (1_000_000, 5), -1),
    "softmax, 1,000,000 rows of 2": (softmap.softmax, (1_000_000, 2), -1),
    "softmax, 500,000 rows of 20": (softmap.softmax, (500_000, 20), -1),
    "softmax, 100,000 rows of 128": (softmap.softmax, (100_000, 128), -1),
    "softmax, 1024 x 4096 along the first axis": (softmap.softmax, (1024, 4096), 0),
    "log_softmax, 1,000,000 rows of 5": (softmap.log_softmax, (1_000_000, 5), -1),
    "logsumexp, 1,000,000 rows of 5": (softmap.logsumexp, (1_000_000, 5), -1),
}


def copy_past_caches(x):
    out = np.empty_like(x)
    plain_x, plain_out = x.ravel().view(np.float32), out.ravel().view(np.float32)

    def call():
        cpu().special("copy_past_caches", plain_x, plain_out)
        return out

    return call


def calls_of(function, x, axis, n_threads=1):
    out = np.empty_like(x)
    options = {"axis": axis, "n_threads": n_threads}
    if function is not softmap.logsumexp:
        options["out"] = out
    return {
        "copy": rivals.copy(x),
        "copy past caches": copy_past_caches(x),
        "softmap out=": lambda: function(x, **options),
    }


@pytest.mark.parametrize("who", ["copy", "copy past caches", "softmap out=", "torch out=", "torch"])
@pytest.mark.parametrize("dtype", ["float32", "float64", "bfloat16"])
@pytest.mark.parametrize("case", CASES)
def test_short_rows(measure, case, dtype, who):
    function, shape, axis = CASES[case]
    x = np.random.default_rng(0).normal(0, 3, shape).astype(get_dtype(dtype))
    calls = calls_of(function, x, axis)
    if dtype != "bfloat16":
        calls |= rivals.softmax_calls(function.__name__, x, axis)
    if who not in calls:
        pytest.skip(f"{who} is not installed, or has no such form")
    measure(f"{case}, {dtype}", who, calls[who], bytes=2 * x.nbytes)


@pytest.mark.parametrize("kind", softmax_table.WORST)
@pytest.mark.parametrize("case", [name for name in CASES if "first axis" not in name])
def test_worst_cases(measure, case, kind):
    """Rows that one reference does not suit, or whose results leave the normal numbers."""
    function, shape, axis = CASES[case]
    x = softmax_table.make(kind, shape, axis, np.float32)
    call = calls_of(function, x, axis)["softmap out="]
    measure(f"{case}, worst cases", kind, call, bytes=2 * x.nbytes)


@pytest.mark.parametrize("n_threads", [1, 2])
@pytest.mark.parametrize("case", CASES)
def test_threads(measure, case, n_threads):
    """Two are never slower than one."""
    function, shape, axis = CASES[case]
    x = np.random.default_rng(0).normal(0, 3, shape).astype(np.float32)
    call = calls_of(function, x, axis, n_threads)["softmap out="]
    measure(f"{case}, threads", f"{n_threads} threads", call, bytes=2 * x.nbytes)


@pytest.mark.parametrize("width", [2, 5, 20, 1024])
@pytest.mark.parametrize("elements", [1 << 14, 1 << 16, 1 << 17, 1 << 18, 1 << 20])
@pytest.mark.parametrize("n_threads", [1, 2])
def test_serial_threshold(measure, elements, width, n_threads):
    """Where a second thread begins to pay: kSerialElements in csrc/cpu/parallel.h."""
    x = np.random.default_rng(0).normal(0, 3, (elements // width, width)).astype(np.float32)
    call = calls_of(softmap.softmax, x, -1, n_threads)["softmap out="]
    measure(f"serial threshold, {len(x)} rows of {width}", f"{n_threads} threads", call)


def touch(x, tokens):
    """The lines of those columns alone: what a gather costs at least."""
    flat, at = x.ravel(), (np.arange(len(x))[:, None] * x.shape[1] + tokens).ravel()
    return lambda: flat.take(at)


@pytest.mark.parametrize("who", ["softmap", "numpy", "torch", "touch"])
def test_level_scores_of_cold_rows(measure, who):
    """Five scattered tokens of a vocabulary, 4096 rows: 2 GB, so that no line is still cached."""
    x = np.zeros((4096, 128_256), np.float32)
    tokens, levels = [1550, 87_001, 5, 100_200, 43_210], [5, 4, 3, 2, 1]
    x[:, tokens] = np.random.default_rng(1).normal(0, 4, (4096, 5))
    other = np.zeros(1 << 25, np.float32)
    calls = {"softmap": lambda: softmap.level_scores(x, tokens, levels).score}
    calls |= rivals.level_calls(x, tokens, levels)
    calls["touch"] = touch(x, tokens)
    if who not in calls:
        pytest.skip(f"{who} is not installed")
    measure("level_scores, 4096 cold rows", who, calls[who], setup=lambda: other.fill(1))
