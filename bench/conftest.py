"""Fixtures of the benchmarks: one thread for everybody, a check before the clock starts."""

import sys
from pathlib import Path

import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))  # the case lists


def pytest_configure(config):
    config.addinivalue_line("filterwarnings", "default")  # rivals may warn


@pytest.fixture(autouse=True)
def one_thread():
    import softmap

    softmap.set_num_threads(1)
    if torch := sys.modules.get("torch"):
        torch.set_num_threads(1)


@pytest.fixture
def measure(benchmark):
    """measure(group, who, call, expected, rtol): time `call`, if its result is right.

    `atol` is for results that cross zero; without `expected` nothing is compared. `setup` runs
    before each call, off the clock.
    """

    def run(group, who, call, expected=None, *, rtol=0.0, atol=0.0, setup=None, **more):
        result = call()
        if expected is not None:
            np.testing.assert_allclose(np.asarray(result), expected, rtol=rtol, atol=atol)
        benchmark.group = group
        benchmark.extra_info.update(who=who, **more)
        if setup is None:
            benchmark(call)
        else:
            benchmark.pedantic(call, setup=setup, rounds=30)

    return run
