"""The ways to a softmax by their names: what docs/softmax_algorithms.md rests on."""

import numpy as np
import pytest

from softmap._backend import cpu

SHAPES = {
    "in the second cache": (64, 1024),
    "in the last cache": (1024, 1024),
    "short rows, past the caches": (16_384, 1024),
    "rows of the second cache, past the caches": (1024, 32_000),
    "half of it in the last cache": (64, 128_256),
    "one row in the last cache": (1, 1 << 20),
    "one row, past the caches": (1, 1 << 25),
}
WAYS = ["three_pass_recompute", "three_pass_reload", "two_pass", "online", "reload", "fused"]


@pytest.mark.parametrize("stream", [False, True], ids=["stores", "past caches"])
@pytest.mark.parametrize("name", [*WAYS, "auto"])
@pytest.mark.parametrize("where", SHAPES)
def test_algorithm(measure, where, name, stream):
    shape = SHAPES[where]
    x = np.random.default_rng(0).normal(0, 3, shape).astype(np.float32)
    out = np.zeros_like(x)
    if stream and name in ("auto", "reload"):
        pytest.skip("it decides by itself, or reads what it stored")

    def call():
        cpu().softmax_by(name, x, out, stream)
        return out

    who = f"{name}, past caches" if stream else name
    measure(f"softmax {where}, {shape[0]} x {shape[1]}", who, call, bytes=2 * x.nbytes)
