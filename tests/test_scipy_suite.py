"""SciPy's own tests of the softmax family pass with softmap's functions in place."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

TESTS = Path(__file__).parent


def run_scipy_tests(engine, folder, libraries=()):
    """Numbers of passed and of other tests, and the calls of each function."""
    environment = {k: v for k, v in os.environ.items() if k != "SCIPY_ARRAY_API"}
    if libraries:
        environment["SCIPY_ARRAY_API"] = json.dumps(libraries)
    environment["SCIPY_SWAP"] = "0" if engine == "scipy.special" else "1"
    environment["PYTHONPATH"] = os.pathsep.join([str(TESTS), environment.get("PYTHONPATH", "")])
    # Its wheels lack the pytest.ini that declares its marks, and it trails pytest's deprecations;
    # no other warning is turned off.
    command = [sys.executable, "-m", "pytest", "-q", "-p", "scipy_swap", "-p", "no:cacheprovider"]
    command += ["-W", "error", "-W", "ignore::pytest.PytestWarning", "-c", os.devnull]
    command += ["--rootdir", str(folder), "--pyargs", "scipy.special.tests.test_logsumexp"]
    run = subprocess.run(
        command,
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )
    calls = re.search(rf"calls of {engine}: (.*)", run.stdout)
    assert calls, run.stdout + run.stderr
    counts = {word: int(n) for n, word in re.findall(r"(\d+) (\w+)", run.stdout.splitlines()[-1])}
    pairs = (pair.split("=") for pair in calls[1].split())
    return counts, {name: int(n) for name, n in pairs}, run.stdout


def test_scipy_tests_pass_with_softmap(tmp_path):
    """As many as in a control run of SciPy itself, by as many calls."""
    counts, calls, output = run_scipy_tests("scipy.special", tmp_path)
    assert counts["passed"] >= 400, output
    assert not counts.keys() & {"failed", "error", "errors"}, output
    assert all(n > 0 for n in calls.values())
    swapped_counts, swapped_calls, output = run_scipy_tests("softmap", tmp_path)
    assert swapped_counts == counts, output
    assert swapped_calls == calls


@pytest.mark.parametrize(
    "library",
    [
        "array_api_strict",
        pytest.param("torch", marks=pytest.mark.nightly),
        pytest.param("jax.numpy", marks=pytest.mark.nightly),
        pytest.param("dask.array", marks=pytest.mark.nightly),
    ],
)
def test_scipy_tests_pass_with_softmap_and_another_library(library, tmp_path):
    pytest.importorskip(library, reason=f"{library} is not installed")
    counts, calls, output = run_scipy_tests("softmap", tmp_path, [library])
    assert not counts.keys() & {"failed", "error", "errors", "xpassed"}, output
    assert counts["passed"] >= (340 if library == "jax.numpy" else 400), output
    assert all(n > 0 for n in calls.values())
