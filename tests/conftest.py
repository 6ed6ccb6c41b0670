"""Fixtures of the whole suite."""

import importlib
import importlib.util
import os
import zlib
from pathlib import Path

import hypothesis
import pytest

import on_gpu
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


def find_emulator():
    """The module `_cuda_emulated`, beside the package or in the folder SOFTMAP_EMULATOR."""
    folder = os.environ.get("SOFTMAP_EMULATOR")
    if not folder:
        found = importlib.util.find_spec("softmap._cuda_emulated")
        return importlib.import_module("softmap._cuda_emulated") if found else None
    (path,) = Path(folder).glob("_cuda_emulated.*.so")
    spec = importlib.util.spec_from_file_location("softmap._cuda_emulated", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


EMULATED = find_emulator()
if on_gpu.DRY_RUN:
    on_gpu.play(EMULATED)
ON_GPU = [] if on_gpu.why_not() else ["cuda"]


class Emulated:
    """The CUDA backend, with the kernels run on the CPU; what has no kernel is skipped."""

    __name__ = "softmap._cuda_emulated"

    def __getattr__(self, operation):
        if not hasattr(EMULATED, operation):
            pytest.skip(f"{operation} has no CUDA kernel (CPU_ONLY in test_surface.py)")
        return getattr(EMULATED, operation)


def emulate(monkeypatch):
    """Puts the emulator in the place of the CPU. Fresh memory reads as NaN until it is written."""
    make = _runtime.empty

    def empty(shape, dtype):
        a = make(shape, dtype)
        a.reshape(-1).view("u1")[:] = 0xFF
        return a

    monkeypatch.setattr(_runtime, "empty", empty)
    monkeypatch.setattr(_backend, "cpu", lambda isa=None: Emulated())


# In which order the emulator takes threads: a test has one of them, by its name, if none is given.
SCHEDULES = ("forward", "reverse", "1")


@pytest.fixture(params=[*RUNNABLE, *(["cuda_emulated"] if EMULATED else []), *ON_GPU])
def backend(request, monkeypatch):
    """Name of a backend whose module all public functions use during the test."""
    if request.param == "cuda_emulated":
        emulate(monkeypatch)
        if "SOFTMAP_EMULATOR_SCHEDULE" not in os.environ:
            schedule = SCHEDULES[zlib.crc32(request.node.name.encode()) % len(SCHEDULES)]
            monkeypatch.setenv("SOFTMAP_EMULATOR_SCHEDULE", schedule)
            request.node.add_report_section("setup", "SOFTMAP_EMULATOR_SCHEDULE", schedule)
        return request.param
    if request.param == "cuda":
        module = on_gpu.OnGpu()
        if on_gpu.DRY_RUN:
            on_gpu.fake_cupy.MEMORY.reset(keeps=False)
    else:
        module = importlib.import_module(f"softmap._cpu_{request.param}")
    monkeypatch.setattr(_backend, "cpu", lambda isa=None: module)
    return request.param


@pytest.fixture
def without_cuda(monkeypatch):
    """As in an installation without the CUDA backend."""
    monkeypatch.setattr(_backend, "cuda", lambda: None)


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
    devices = [*(["cuda_emulated"] if EMULATED else []), *ON_GPU]
    return f"softmap backends: {', '.join([*RUNNABLE, *devices])}{untested}"


def pytest_terminal_summary(terminalreporter):
    if WORST:
        terminalreporter.section("accuracy: worst error and bound, in ULP")
    for (what, dtype, backend), (error, bound) in sorted(WORST.items()):
        terminalreporter.write_line(f"{what:24} {dtype:8} {backend:13} {error:8.3f} {bound:6g}")
