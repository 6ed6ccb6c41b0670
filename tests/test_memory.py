"""The pool of blocks that large results come from."""

import gc
import os
import subprocess
import sys

import numpy as np
import pytest

import softmap

LARGE = np.zeros((2048, 1024))  # 16 MiB


@pytest.fixture(autouse=True)
def empty_pool() -> None:
    gc.collect()
    softmap.release_memory()


def run(code: str, **environment: str) -> str:
    """Standard output of `code` in a process of its own."""
    return subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        check=True,
    ).stdout


def test_block_is_used_again_for_the_same_size() -> None:
    y = softmap.softmax(LARGE, axis=1)
    address = y.ctypes.data
    del y
    z = softmap.softmax(LARGE[:1800], axis=1)  # more than 0.8 of the block
    assert z.ctypes.data == address


def test_block_is_not_used_for_a_much_smaller_result() -> None:
    y = softmap.softmax(LARGE, axis=1)
    address = y.ctypes.data
    del y
    assert softmap.softmax(LARGE[:1200], axis=1).ctypes.data != address
    assert softmap.release_memory() >= LARGE.nbytes


def test_block_stays_while_a_view_of_it_is_alive() -> None:
    y = softmap.softmax(LARGE, axis=1)
    view = y[3:5]
    del y
    gc.collect()
    other = softmap.log_softmax(LARGE, axis=1)
    assert not np.shares_memory(other, view)
    np.testing.assert_array_equal(view, np.full((2, 1024), 1 / 1024))


def test_large_result_is_an_ordinary_array() -> None:
    y = softmap.softmax(LARGE, axis=1)
    assert y.flags.c_contiguous
    assert y.flags.writeable
    assert y.ctypes.data % 64 == 0
    y[0, 0] = 3.0
    assert y.copy()[0, 0] == 3.0


def test_release_memory_gives_back_what_is_unused() -> None:
    y = softmap.softmax(LARGE, axis=1)
    assert softmap.release_memory() == 0
    del y
    assert softmap.release_memory() >= LARGE.nbytes
    assert softmap.release_memory() == 0


@pytest.mark.parametrize(("cap", "kept"), [("0", "0"), ("1000000", "0"), ("100000000", "16777216")])
def test_environment_limits_what_is_kept(cap: str, kept: str) -> None:
    code = (
        "import numpy as np, softmap; softmap.softmax(np.zeros((2048, 1024)), axis=1);"
        "print(softmap.release_memory())"
    )
    assert run(code, SOFTMAP_POOL_BYTES=cap).strip() == kept


def test_forked_child_can_use_the_pool() -> None:
    code = """
import os, numpy as np, softmap
x = np.zeros((512, 1024)); y = softmap.softmax(x, axis=1); del y
pid = os.fork()
if pid == 0:
    y = softmap.softmax(x, axis=1); del y
    os._exit(0 if softmap.release_memory() > 0 else 1)
print(os.waitpid(pid, 0)[1])
"""
    assert run(code).strip() == "0"


@pytest.mark.parametrize("mebibytes", [1.0, 1.7, 2.1, 3.0, 3.3, 4.3, 4.9])
def test_loop_of_results_lives_in_one_block(mebibytes: float) -> None:
    x = np.zeros(int(mebibytes * 2**17))
    for _ in range(20):
        softmap.softmax(x)
    assert softmap.release_memory() <= (mebibytes + 2) * 2**20


def test_full_pool_keeps_the_latest_blocks() -> None:
    code = """
import numpy as np, softmap
for n in (1, 2, 3, 4, 5, 6):  # 8 to 48 MiB
    softmap.softmax(np.zeros(n << 20))
kept = softmap.softmax(np.zeros(6 << 20)); del kept
print(softmap.release_memory() >> 20)
"""
    assert run(code, SOFTMAP_POOL_BYTES=str(100 << 20)).strip() == "88"
