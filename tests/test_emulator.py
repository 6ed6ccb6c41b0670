"""The emulator of a GPU: what it finds, and that its order of threads changes no result.

`tests/emulator/planted.cpp` has kernels with a bug each, and a clean twin of each.
"""

import platform
import re
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest

import every_kernel
from conftest import EMULATED, emulate
from test_device import CALLS, parts

ROOT = Path(__file__).parents[1]
EMULATOR = ROOT / "tests" / "emulator"
FLAGS = {"plain": [], "thread": ["-fsanitize=thread"], "address": ["-fsanitize=address,undefined"]}
COMPILE = ["g++", "-std=c++20", "-O1", "-g", "-Wall", "-Wextra", "-Werror", "-Wno-unknown-pragmas"]
SOURCES = [EMULATOR / f"{name}.cpp" for name in ("fibers", "meetings", "launch")]

# Where each bug is found, and by what words: of the emulator itself, or of a sanitizer.
RACE = "ThreadSanitizer: data race"
FOUND = {
    "missing_barrier": {"plain": "wrong: y", "thread": RACE},
    "missing_second_barrier": {"plain": "wrong: y", "thread": RACE},
    "missing_syncwarp": {"plain": "wrong: y", "thread": RACE},
    "race_of_threads": {"thread": RACE},
    "race_of_blocks": {"thread": RACE},
    "race_of_distant_blocks": {"thread": RACE},
    "race_of_partial_sums": {"thread": RACE},
    "outside_of_an_array": {"address": "AddressSanitizer: heap-buffer-overflow"},
    "outside_of_shared_memory": {
        "plain": r"the shared array value \(planted.cpp:\d+\): a thread wrote past its end",
        "address": "index 64 out of bounds",
    },
    "outside_of_dynamic_shared_memory": {
        "plain": "dynamic shared memory: a thread wrote past its end",
        "address": "AddressSanitizer: use-after-poison",
    },
    "misaligned_vector": {"address": "runtime error: .* misaligned address"},
    "overflow_of_an_index": {"address": "signed integer overflow"},
    "uninitialised_shared_memory": {"plain": r"wrong: y\[32\] = -?nan"},
    "output_left_out": {"plain": r"wrong: y\[63\] = -?nan"},
    "lanes_that_have_left": {"plain": r"a lane came to its end while .* at __shfl_xor_sync"},
    "lanes_that_diverge": {"plain": "divergent lanes meet at __shfl_.* and at __shfl_"},
    "divergent_barrier": {"plain": "divergent barrier: threads of a block wait at __syncthreads"},
    "barrier_without_some": {"plain": "a thread came to its end while others of its block wait"},
    "endless_wait": {"plain": "threads wait for ever in a loop: thread 0 of block 0"},
    "cluster_does_not_wait": {"plain": "wrong: y", "thread": RACE},
    "cluster_orders_nothing": {"thread": RACE},
    "cluster_reads_who_has_left": {"address": "AddressSanitizer: use-after-poison"},
    "grid_does_not_wait": {"plain": "wrong: y", "thread": RACE},
}
# The bug shows in the result with these schedules only.
BY_SCHEDULE = {
    "race_of_partial_sums": {"forward": False, "reverse": True},
    "cluster_does_not_wait": {"forward": True, "reverse": False},
    "cluster_reads_who_has_left": {"forward": False, "reverse": True, "2": True},
}


def compiled(folder):
    """The planted bugs, built as they are and with each of the sanitizers."""
    if not shutil.which("g++") or platform.machine() not in ("x86_64", "AMD64"):
        pytest.skip("the emulator wants g++ and x86-64")
    objects = [folder / f"{source.stem}.o" for source in SOURCES]
    jobs = [
        [*COMPILE, "-c", f"-I{ROOT / 'csrc'}", str(s), "-o", str(o)]
        for s, o in zip(SOURCES, objects, strict=True)
    ]
    for name, flags in FLAGS.items():
        more = ["-fno-sanitize-recover=all", f"-I{ROOT / 'csrc'}", f"-I{EMULATOR}"]
        source, target = EMULATOR / "planted.cpp", folder / f"{name}.o"
        jobs.append([*COMPILE, *flags, *more, "-c", str(source), "-o", str(target)])
    run_all(jobs)
    run_all(
        ["g++", *flags, *map(str, objects), str(folder / f"{name}.o"), "-o", str(folder / name)]
        for name, flags in FLAGS.items()
    )
    return folder


def run_all(commands):
    running = [subprocess.Popen(c, stderr=subprocess.PIPE, text=True) for c in commands]
    for process in running:
        _, errors = process.communicate()
        assert process.returncode == 0, errors


@pytest.fixture(scope="module")
def planted(tmp_path_factory):
    folder = compiled(tmp_path_factory.mktemp("planted"))
    # The thread sanitizer wants the address space laid out as of old.
    as_of_old = ["setarch", "-R"]
    if not shutil.which("setarch") or subprocess.run([*as_of_old, "true"], check=False).returncode:
        as_of_old = []

    def run(kind, *arguments, **environment):
        command = as_of_old if kind == "thread" else []
        return subprocess.run(
            [*command, str(folder / kind), *arguments],
            env={"ASAN_OPTIONS": "detect_leaks=0", **environment},
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )

    return run


def test_all_planted_bugs_have_a_test(planted):
    assert planted("plain").stdout.split() == sorted(FOUND)


@pytest.mark.parametrize("bug", FOUND)
def test_planted_bug_is_found(planted, bug):
    for kind, words in FOUND[bug].items():
        run = planted(kind, bug)
        assert run.returncode != 0, kind
        assert re.search(words, run.stdout + run.stderr), (kind, run.stdout, run.stderr)
        if words is RACE:  # in the kernel, by file and line
            assert re.search(r"SUMMARY: .*tests/emulator/planted.cpp:\d+", run.stderr), run.stderr


@pytest.mark.parametrize("kind", FLAGS)
def test_clean_twins_of_planted_bugs_pass(planted, kind):
    for schedule in ("forward", "reverse", "1"):
        run = planted(kind, "clean", SOFTMAP_EMULATOR_SCHEDULE=schedule)
        assert (run.returncode, run.stdout + run.stderr) == (0, ""), schedule


@pytest.mark.parametrize("bug", BY_SCHEDULE)
def test_bug_of_the_order_of_threads_is_found_by_a_schedule(planted, bug):
    for schedule, found in BY_SCHEDULE[bug].items():
        run = planted("plain", bug, SOFTMAP_EMULATOR_SCHEDULE=schedule)
        assert ("wrong: y" in run.stdout) == found, schedule


def test_schedule_is_checked(planted):
    run = planted("plain", "race_of_blocks", SOFTMAP_EMULATOR_SCHEDULE="backward")
    assert "SOFTMAP_EMULATOR_SCHEDULE is not forward, reverse or a seed" in run.stderr
    assert run.returncode == 1


# The kernels of softmap


@pytest.fixture
def emulated(monkeypatch):
    if EMULATED is None:
        pytest.skip("_cuda_emulated is not built here")
    emulate(monkeypatch)
    return monkeypatch


ORDERS = [("reverse", "1"), ("1", "3")]


@pytest.mark.parametrize("family", every_kernel.FAMILIES, ids=lambda f: f.__name__)
def test_every_kernel_gives_the_same_bits_in_any_order(emulated, family):
    """Of threads and blocks, of which one or some run at the same time."""
    want = every_kernel.results(family)
    assert want
    for schedule, resident in ORDERS:
        emulated.setenv("SOFTMAP_EMULATOR_SCHEDULE", schedule)
        emulated.setenv("SOFTMAP_EMULATOR_RESIDENT", resident)
        got = every_kernel.results(family)
        assert len(got) == len(want)
        for a, b in zip(got, want, strict=True):
            assert a.dtype == b.dtype
            np.testing.assert_array_equal(a.view("u1"), b.view("u1"))


def test_every_kernel_is_among_them(emulated, tmp_path):
    """By the symbols of the module and where the kernels lie that were launched."""
    if not shutil.which("nm"):
        pytest.skip("nm is not installed")
    table = subprocess.check_output(["nm", "-C", EMULATED.__file__], text=True)
    pattern = r"(\w+) t (?:void )?softmap::cuda::\(anonymous namespace\)::(\w+_kernel<.*)"
    found = [(at, name) for at, name in re.findall(pattern, table) if "::operator()" not in name]
    kernels = {int(at, 16): name for at, name in found}
    assert len(kernels) > 200
    trace = tmp_path / "launches"
    emulated.setenv("SOFTMAP_EMULATOR_TRACE", str(trace))
    for family in every_kernel.FAMILIES:
        every_kernel.results(family)
    launched = {int(line, 16) for line in trace.read_text().split()}
    missing = sorted(name for at, name in kernels.items() if at not in launched)
    assert not missing, "\n".join(missing)


# But where Python has to make a Status of what is left of it.
@pytest.mark.parametrize("case", sorted(set(CALLS) - {"score_against_anchors, fixed"}))
def test_results_that_no_kernel_has_written_are_seen(emulated, case):
    """Where the last block does not run: they are NaN, or no value that they can have."""

    def unwritten(a):
        a = np.atleast_1d(a)
        return np.isnan(a).any() if a.dtype.kind == "f" else (a.view("i1") == -1).any()

    for name, a in parts(CALLS[case](np.copy)).items():
        assert a is None or not unwritten(a), name
    emulated.setenv("SOFTMAP_EMULATOR_OMIT", "1")
    for name, a in parts(CALLS[case](np.copy)).items():
        assert a is None or unwritten(a), name


def test_failed_launch_is_an_error_and_the_next_one_works(emulated):
    emulated.setenv("SOFTMAP_EMULATOR_SCHEDULE", "sideways")
    with pytest.raises(RuntimeError, match="launch of a kernel: CUDA error 9, invalid config"):
        every_kernel.results(every_kernel.terms)
    emulated.setenv("SOFTMAP_EMULATOR_SCHEDULE", "forward")
    assert every_kernel.results(every_kernel.terms)
