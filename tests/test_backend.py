"""The choice of module, what importing does, and the thread pool."""

import os
import subprocess
import sys
import threading

import numpy as np
import pytest

import softmap
from conftest import BUILT, RUNNABLE
from softmap import _backend

LARGE = np.random.default_rng(0).normal(size=(400, 1000))  # enough for the pool


def run(code, **environment):
    """`code` in a process of its own; its result, never waiting for longer than a minute."""
    return subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


# The choice of module


def test_this_machine_runs_at_least_the_baseline():
    assert "base" in BUILT
    assert "base" in RUNNABLE


@pytest.mark.parametrize("isa", RUNNABLE)
def test_environment_chooses_the_backend(isa):
    result = run("import softmap; print(softmap.info()['backend'])", SOFTMAP_BACKEND=isa)
    assert result.stdout == f"_cpu_{isa}\n", result.stderr


def test_without_a_wish_the_best_backend_is_taken(monkeypatch):
    monkeypatch.delenv("SOFTMAP_BACKEND", raising=False)
    assert _backend.cpu.__wrapped__().__name__ == f"softmap._cpu_{RUNNABLE[0]}"
    assert [isa for isa in _backend.CPU_BACKENDS if isa in RUNNABLE] == RUNNABLE


def test_unknown_backend_is_a_clear_error():
    code = "import softmap; softmap.softmax([0.0, 1.0])"
    result = run(code, SOFTMAP_BACKEND="avx1024")
    assert result.returncode == 1
    message = "ImportError: softmap: SOFTMAP_BACKEND = 'avx1024' is not part of this installation"
    assert result.stderr.splitlines()[-1] == f"{message} (available here: {', '.join(RUNNABLE)})"


def test_backend_that_the_processor_lacks_is_not_imported(monkeypatch):
    monkeypatch.setattr(_backend, "built", lambda: [*BUILT, "avx9"])
    monkeypatch.setattr(_backend.importlib, "import_module", pytest.fail)
    with pytest.raises(ImportError, match="'avx9' cannot run on this processor"):
        _backend.cpu.__wrapped__("avx9")


def test_backends_export_the_same_functions():
    names = {isa: set(vars(_backend.cpu.__wrapped__(isa))) for isa in RUNNABLE}
    public = {isa: {n for n in names[isa] if not n.startswith("_")} for isa in RUNNABLE}
    assert {"softmax", "log_softmax", "logsumexp", "level_scores"} <= public["base"]
    assert all(public[isa] == public["base"] for isa in RUNNABLE)


def test_backends_agree(monkeypatch):
    """Within the sum of their bounds: here 8 ULP of softmax."""
    results = []
    for module in [_backend.cpu.__wrapped__(isa) for isa in RUNNABLE]:
        monkeypatch.setattr(_backend, "cpu", lambda isa=None, module=module: module)
        results.append(softmap.softmax(LARGE, axis=1))
    for result in results:
        np.testing.assert_allclose(result, results[0], rtol=8 * np.finfo(float).eps)


# What importing does

STATE = """
import os, random, signal, sys, threading, warnings
import numpy as np

def state():
    folder = "/proc/self/task"
    return (
        np.geterr(), np.get_printoptions(), repr(np.random.get_state()), random.getstate(),
        list(warnings.filters), dict(os.environ), sys.getrecursionlimit(), sys.excepthook,
        [signal.getsignal(s) for s in signal.valid_signals()], threading.active_count(),
        len(os.listdir(folder)) if os.path.isdir(folder) else 0, float(np.float64(5e-324) / 1),
    )

before = state()
import softmap
assert state() == before, "import"
"""


def test_import_changes_nothing_and_prints_nothing():
    result = run(STATE)
    assert (result.returncode, result.stdout, result.stderr) == (0, "", "")


def test_calls_change_no_global_state():
    """Threads of the pool are the one thing that a call may leave behind."""
    code = "softmap.set_num_threads(1); softmap.softmax(np.array([np.nan, 1e300, 0, -1e300]));"
    code += "softmap.logsumexp(np.zeros((400, 1000)), axis=1); assert state() == before, 'call'"
    result = run(STATE + code)
    assert (result.returncode, result.stdout, result.stderr) == (0, "", "")


def test_import_loads_no_optional_library():
    names = ("scipy", "torch", "pandas", "matplotlib", "duckdb", "dask", "cupy", "multiprocessing")
    result = run(f"import sys, softmap; print([n for n in {names} if n in sys.modules])")
    assert result.stdout == "[]\n", result.stderr


def test_preload_imports_the_backend_and_starts_nothing():
    code = """
here = {n for n in sys.modules if n.startswith("softmap._c")}
softmap.preload()
assert state() == before, "preload"
new = {n for n in sys.modules if n.startswith("softmap._cpu_")} - here
print(new == {f"softmap.{softmap.info()['backend']}"})
"""
    result = run(STATE + code)
    assert (result.returncode, result.stdout, result.stderr) == (0, "True\n", "")


# Threads


def test_number_of_threads_precedence():
    code = """
import softmap
n = lambda: softmap.info()["threads"]
first = n()
softmap.set_num_threads(5)
with softmap.threads(2):
    inside = n()
after = n()
softmap.set_num_threads(None)
print(first, inside, after, n())
"""
    assert run(code, SOFTMAP_NUM_THREADS="3", OMP_NUM_THREADS="7").stdout == "3 2 5 3\n"
    assert run(code, SOFTMAP_NUM_THREADS="", OMP_NUM_THREADS="7").stdout == "7 2 5 7\n"
    assert run(code, SOFTMAP_NUM_THREADS="", OMP_NUM_THREADS="4,2").stdout == "4 2 5 4\n"


@pytest.mark.parametrize(
    ("name", "value", "rule"),
    [
        ("NUM_THREADS", "no", "an integer between 1 and 4095"),
        ("NUM_THREADS", "0", "an integer between 1 and 4095"),
        ("NUM_THREADS", "4,2", "an integer between 1 and 4095"),
        ("NUM_THREADS", "9" * 30, "an integer between 1 and 4095"),
        ("POOL_BYTES", "1e6", "a number of bytes, 0 for no pool"),
        ("POOL_BYTES", "-1", "a number of bytes, 0 for no pool"),
        ("POOL_BYTES", "1 GiB", "a number of bytes, 0 for no pool"),
    ],
)
def test_wrong_value_in_the_environment_shows_at_import(name, value, rule):
    result = run("import softmap", **{f"SOFTMAP_{name}": value})
    assert result.returncode == 1
    message = f"ValueError: softmap: SOFTMAP_{name} = '{value}', it must be {rule} (or unset)"
    assert result.stderr.splitlines()[-1] == message


def test_what_is_no_number_for_openmp_is_ignored():
    code = "import softmap; print(softmap.info()['threads'])"
    usable = run(code, SOFTMAP_NUM_THREADS="", OMP_NUM_THREADS="").stdout
    assert run(code, SOFTMAP_NUM_THREADS="", OMP_NUM_THREADS="no").stdout == usable
    assert int(usable) >= 1


def test_threads_is_undone_by_an_exception():
    before = softmap.info()["threads"]
    with pytest.raises(KeyError), softmap.threads(before + 1):
        raise KeyError
    assert softmap.info()["threads"] == before


@pytest.mark.parametrize(
    ("n", "error", "text"),
    [
        (0, ValueError, "n = 0, it must be between 1 and 4095"),
        (-1, ValueError, "n = -1, it must be between 1 and 4095"),
        (10**6, ValueError, "n = 1000000, it must be between 1 and 4095"),
        (1.5, TypeError, "n = 1.5, it must be an integer"),
        ("2", TypeError, "n = '2', it must be an integer"),
        (True, TypeError, "n = True, it must be an integer"),
    ],
)
def test_thread_count_errors(n, error, text):
    with pytest.raises(error) as caught:
        softmap.set_num_threads(n)
    assert str(caught.value) == f"set_num_threads: {text}"
    with pytest.raises(error) as caught, softmap.threads(n):
        pass
    assert str(caught.value) == f"threads: {text}"


def test_concurrent_calls_from_python_threads():
    want = softmap.softmax(LARGE, axis=1, n_threads=1)
    wrong = []
    start = threading.Barrier(6)

    def work():
        start.wait()
        for k in range(20):
            got = softmap.softmax(LARGE, axis=1, n_threads=1 + k % 4)
            if not np.array_equal(got, want):
                wrong.append(k)

    workers = [threading.Thread(target=work) for _ in range(6)]
    for w in workers:
        w.start()
    for w in workers:
        w.join(timeout=60)
    assert not any(w.is_alive() for w in workers)
    assert wrong == []


POOL = """
import os, sys, threading, warnings
import numpy as np, softmap
# What Python 3.12 says of any fork beside other threads: that the pool takes it is tested here.
warnings.filterwarnings("ignore", "This process .* is multi-threaded", DeprecationWarning)
x = np.random.default_rng(0).normal(size=(400, 1000))
want = softmap.softmax(x, axis=1, n_threads=4)
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork on this system")
def test_forked_child_can_use_threads():
    """Also the child of the child, and the parent afterwards."""
    code = """
def child():
    return np.array_equal(softmap.softmax(x, axis=1, n_threads=4), want)

pid = os.fork()
if pid == 0:
    ok = child()
    grandchild = os.fork()
    if grandchild == 0:
        os._exit(0 if child() else 1)
    ok = ok and os.waitpid(grandchild, 0)[1] == 0 and child()
    os._exit(0 if ok else 1)
assert os.waitpid(pid, 0)[1] == 0
assert child()
"""
    result = run(POOL + code)
    assert (result.returncode, result.stderr) == (0, "")


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork on this system")
def test_fork_while_another_thread_computes():
    code = """
stop = threading.Event()
def busy():
    while not stop.is_set():
        softmap.softmax(x, axis=1, n_threads=4)
worker = threading.Thread(target=busy)
worker.start()
for _ in range(20):
    pid = os.fork()
    if pid == 0:
        ok = np.array_equal(softmap.softmax(x, axis=1, n_threads=4), want)
        os._exit(0 if ok else 1)
    assert os.waitpid(pid, 0)[1] == 0
stop.set()
worker.join()
"""
    result = run(POOL + code)
    assert (result.returncode, result.stderr) == (0, "")


@pytest.mark.parametrize(
    "ending",
    [
        "",
        "sys.exit(0)",
        "threading.Thread(target=lambda: softmap.softmax(x, axis=1, n_threads=4)).start()",
        "import atexit; atexit.register(lambda: softmap.softmax(x, axis=1, n_threads=4))",
    ],
)
def test_process_ends_while_the_pool_sleeps(ending):
    result = run(POOL + ending)
    assert (result.returncode, result.stdout, result.stderr) == (0, "", "")
