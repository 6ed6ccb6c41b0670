"""The softmax family against a copy of the same bytes, SciPy and torch."""

import subprocess
import sys
import time

import numpy as np
import pytest
import scipy.special

import rivals
import softmap
from ops.softmax import CASES, DTYPES, SIZES

NAMES = ("copy", "softmap", "softmap out=", "scipy", "torch", "torch out=")


@pytest.mark.parametrize("who", NAMES)
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("name", CASES)
def test_function(measure, name, size, dtype, who):
    x = np.random.default_rng(0).normal(0, 4, SIZES[size]).astype(dtype)
    function, out = getattr(softmap, name), np.empty_like(x)
    calls = {"copy": rivals.copy(x), "softmap": lambda: function(x, axis=-1)}
    if name != "logsumexp":
        calls["softmap out="] = lambda: function(x, axis=-1, out=out)
    calls |= rivals.softmax_calls(name, x)
    if who not in calls:
        pytest.skip(f"{who} is not installed, or has no such form")
    expected = None
    if who != "copy":
        expected = getattr(scipy.special, name)(x.astype(np.float64), axis=-1)
    # torch adds long rows up in float32.
    rtol = 2e-2 if who.startswith("torch") else 1e-5
    more = {"bytes": 2 * x.nbytes}
    measure(f"{name}, {size}, {dtype}", who, calls[who], expected, rtol=rtol, atol=1e-5, **more)


@pytest.mark.parametrize("who", ["softmap", "numpy", "torch"])
@pytest.mark.parametrize("n_rows", [64, 4096])
def test_level_scores(measure, n_rows, who):
    """Five scattered tokens of a vocabulary."""
    x = np.random.default_rng(1).normal(0, 4, (n_rows, 128_256)).astype(np.float32)
    tokens, levels = [1550, 87_001, 5, 100_200, 43_210], [5, 4, 3, 2, 1]
    calls = {"softmap": lambda: softmap.level_scores(x, tokens, levels).score}
    calls |= rivals.level_calls(x, tokens, levels)
    if who not in calls:
        pytest.skip(f"{who} is not installed")
    expected = softmap.level_scores(x[:, tokens].astype(np.float64), None, levels).score
    measure(f"level_scores, {n_rows} rows of a vocabulary", who, calls[who], expected, rtol=1e-5)


@pytest.mark.parametrize("who", ["softmap", "torch"])
@pytest.mark.parametrize(("rule", "amount"), [("typical", 0.9), ("top_p", 0.9), ("top_k", 50)])
def test_row_filter(measure, rule, amount, who):
    """Logits of a vocabulary in float32; who sums in another order may differ at the cut."""
    x = np.random.default_rng(0).normal(0, 4, (64, 128_256)).astype(np.float32)
    calls = {"softmap": lambda: softmap.row_filter(x, rule, amount)}
    calls |= rivals.filter_calls(x, rule, amount)
    if who not in calls:
        pytest.skip(f"{who} is not installed")
    assert (np.asarray(calls[who]()) != calls["softmap"]()).sum() < 1e-5 * x.size
    measure(f"row_filter {rule}, 64 rows of 128,256", who, calls[who])


@pytest.mark.parametrize("who", ["softmap", "torch"])
@pytest.mark.parametrize(("function", "target"), [("sigmoid_sum", 5.0), ("divergence", 1.0)])
def test_row_root(measure, function, target, who):
    """The shift of a soft top-k and the temperature of TempNet, from float32."""
    x = np.random.default_rng(0).normal(0, 1.5, (4096, 1024)).astype(np.float32)
    calls = {"softmap": lambda: softmap.row_root(x, function, target)}
    calls |= rivals.root_calls(x, function, target)
    if who not in calls:
        pytest.skip(f"{who} is not installed")
    expected = softmap.row_root(x.astype(np.float64), function, target)
    measure(f"row_root {function}, 4096 rows of 1024", who, calls[who], expected, rtol=1e-3)


@pytest.mark.parametrize("who", ["numpy", "numpy and softmap"])
def test_import(benchmark, who):
    """What importing costs, in a process of its own: the difference is softmap's part."""
    code = "import numpy" + ("" if who == "numpy" else ", softmap")

    def call():
        start = time.perf_counter()
        subprocess.run([sys.executable, "-c", code], check=True)
        return time.perf_counter() - start

    benchmark.group, benchmark.extra_info["who"] = "import", who
    assert call() < 60
    benchmark.pedantic(call, rounds=10)
