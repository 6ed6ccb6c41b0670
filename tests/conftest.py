"""Fixtures of the whole suite."""

import importlib
import os
from pathlib import Path

import hypothesis
import pytest

from softmap import _backend, _runtime
from ulp import WORST

# A backend is set once for all examples of a property, so a function-scoped fixture does no harm.
hypothesis.settings.register_profile(
    "softmap",
    deadline=None,
    derandomize=bool(os.environ.get("CI")),
    database=None,
    suppress_health_check=[hypothesis.HealthCheck.function_scoped_fixture],
)
hypothesis.settings.load_profile("softmap")

BUILT = _backend.built()
RUNNABLE = [isa for isa in BUILT if _runtime.supports(isa)]


@pytest.fixture(params=RUNNABLE)
def backend(request, monkeypatch):
    """Name of an instruction set whose module all public functions use during the test."""
    module = importlib.import_module(f"softmap._cpu_{request.param}")
    monkeypatch.setattr(_backend, "cpu", lambda isa=None: module)
    return request.param


@pytest.fixture
def data_folder():
    """Folder with the larger data sets, named by the environment variable SOFTMAP_DATA."""
    folder = os.environ.get("SOFTMAP_DATA")
    if not folder:
        pytest.skip("SOFTMAP_DATA names no folder with the larger data sets")
    return Path(folder)


def pytest_report_header():
    rest = [isa for isa in BUILT if isa not in RUNNABLE]
    untested = f"; built, but this processor cannot run: {', '.join(rest)}" if rest else ""
    return f"softmap backends: {', '.join(RUNNABLE)}{untested}"


def pytest_terminal_summary(terminalreporter):
    if WORST:
        terminalreporter.section("accuracy: worst error and bound, in ULP")
    for (what, dtype, backend), (error, bound) in sorted(WORST.items()):
        terminalreporter.write_line(f"{what:24} {dtype:8} {backend:7} {error:8.3f} {bound:6g}")
