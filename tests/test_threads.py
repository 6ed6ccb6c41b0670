"""The thread pool itself, and everything that threads share, all at once (.ci/run: under TSan)."""

import ctypes
import os
import subprocess
import sys
import threading

import pytest

from softmap import _runtime

TIMEOUT = 60  # of what must happen; nothing is decided by how long it takes

Body = ctypes.CFUNCTYPE(None, ctypes.c_void_p, ctypes.c_ssize_t, ctypes.c_int)
Parallel = ctypes.CFUNCTYPE(None, ctypes.c_ssize_t, ctypes.c_int, Body, ctypes.c_void_p)


@pytest.fixture(scope="module")
def parallel():
    """parallel(n_chunks, n_threads, body) of csrc/runtime/runtime.h, with body(chunk, slot)."""
    get = ctypes.pythonapi.PyCapsule_GetPointer
    get.restype, get.argtypes = ctypes.c_void_p, [ctypes.py_object, ctypes.c_char_p]
    table = get(_runtime.capsule, b"softmap._runtime.v2")
    function = Parallel.from_address(table)  # the first entry of the table

    def call(n_chunks, n_threads, body):
        errors = []

        def guarded(_, chunk, slot):
            try:
                body(chunk, slot)
            except BaseException as error:
                errors.append(error)

        function(n_chunks, n_threads, Body(guarded), None)
        assert errors == []

    return call


@pytest.mark.parametrize("n_threads", [1, 2, 5])
@pytest.mark.parametrize("n_chunks", [0, 1, 3, 200])
def test_each_chunk_is_done_once_by_a_slot_of_its_own(parallel, n_chunks, n_threads):
    done, inside = [], set()

    def body(chunk, slot):
        assert slot not in inside
        inside.add(slot)
        done.append(chunk)
        inside.remove(slot)

    for _ in range(20):
        done.clear()
        parallel(n_chunks, n_threads, body)
        assert sorted(done) == list(range(n_chunks))


def test_busy_worker_delays_nothing_but_its_own_chunk(parallel):
    """A worker that stands still in one chunk: the caller does all the others meanwhile."""
    arrived, rest_done = threading.Event(), threading.Event()
    by_caller = []

    def body(chunk, slot):
        if slot > 0:
            arrived.set()
            assert rest_done.wait(TIMEOUT)
            return
        if chunk == 0:  # not before the worker has begun
            assert arrived.wait(TIMEOUT)
        by_caller.append(chunk)
        if len(by_caller) == 99:
            rest_done.set()

    parallel(100, 2, body)
    assert len(by_caller) == 99


def test_second_caller_works_alone_while_all_workers_stand_still(parallel):
    everyone = threading.Barrier(4)
    let_go = threading.Event()

    def stand_still(chunk, slot):
        everyone.wait(TIMEOUT)
        assert let_go.wait(TIMEOUT)

    first = threading.Thread(target=parallel, args=(3, 3, stand_still))
    first.start()
    everyone.wait(TIMEOUT)  # all three slots of the first call are inside
    slots = []
    parallel(50, 3, lambda chunk, slot: slots.append(slot))
    assert slots == [0] * 50
    let_go.set()
    first.join(TIMEOUT)
    assert not first.is_alive()


STRESS = """
import os, threading, warnings
import numpy as np, softmap

warnings.filterwarnings("ignore", "This process .* is multi-threaded", DeprecationWarning)
x = np.random.default_rng(0).normal(size=(400, 1000))
wins = np.random.default_rng(1).integers(0, 9, (300, 6, 6))

def results(n_threads):
    r = softmap.row_statistics(x, target=5, error_norm=True, n_threads=n_threads)
    s = softmap.level_scores(x, [3, 1, 7], [1, 2, 3], mass=True, n_threads=n_threads)
    f = softmap.fit_many(wins, prior_sd=1.0, n_threads=n_threads)
    return [softmap.softmax(x, axis=1, n_threads=n_threads), r.entropy, s.mass, f.scores,
            r.error_norm,
            softmap.log_softmax(x, axis=0, n_threads=n_threads),  # a copy of each row
            # threads share one row
            softmap.logsumexp(x, n_threads=n_threads),
            softmap.row_statistics(x.ravel(), n_threads=n_threads).entropy,
            *softmap.logsumexp_partial(x.ravel(), n_threads=n_threads)]

want = results(1)
same = lambda got: all(map(np.array_equal, got, want))
wrong = []
# ThreadSanitizer keeps the parent's threads on its list: a forked child may start none of its own.
in_child = 1 if "libtsan" in os.environ.get("LD_PRELOAD", "") else 4

def work(seed):
    for k in range(8):
        softmap.set_num_threads(1 + k % 4)
        with softmap.threads(3):
            if not same(results([None, 2, 3, 4][(k + seed) % 4])):
                wrong.append((seed, k))
        if k % 3 == 0:
            softmap.release_memory()

workers = [threading.Thread(target=work, args=(seed,)) for seed in range(4)]
for w in workers:
    w.start()
if hasattr(os, "fork"):
    for _ in range(4):
        pid = os.fork()
        if pid == 0:
            os._exit(0 if same(results(in_child)) else 1)
        assert os.waitpid(pid, 0)[1] == 0
for w in workers:
    w.join()
assert wrong == []
"""


def test_calls_forks_settings_and_memory_at_once():
    result = subprocess.run(
        [sys.executable, "-c", STRESS],
        env={**os.environ, "OPENBLAS_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert (result.returncode, result.stdout, result.stderr) == (0, "", "")
