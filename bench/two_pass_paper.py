"""The experiment of "Two-Pass Softmax Algorithm" (Dukhan & Ablavatski, arXiv:2001.04438).

One row that no cache holds, ordinary stores as in the paper: the two-pass algorithm against both
three-pass ones, each in the instruction sets of the paper, on one thread. Speed-ups are ratios of
medians, everybody in turns; beside them those published. `ours` is what softmax() does with that
row: sums to a reference that moves, one exponential less in pass 1, stores past the caches.

    python bench/two_pass_paper.py [log2 of the length ...]
"""

import importlib
import sys
import time
from functools import partial

import numpy as np

PUBLISHED = {"avx512": 28, "avx2": 18}  # percent, over the faster three-pass algorithm
ALGORITHMS = ["three_pass_recompute", "three_pass_reload", "two_pass"]


def memory(n):
    """Zeros that begin at a huge page."""
    raw = np.zeros(n + (1 << 19), np.float32)
    start = (-raw.ctypes.data) % (1 << 21) // 4
    return raw[start : start + n]


def medians(calls, rounds):
    times = {who: [] for who in calls}
    for _ in range(rounds + 1):
        for who, call in calls.items():
            start = time.perf_counter()
            call()
            times[who].append(time.perf_counter() - start)
    return {who: float(np.median(t[1:])) for who, t in times.items()}


def main():
    lengths = [1 << int(k) for k in sys.argv[1:]] or [1 << 24, 1 << 26]
    print(f"{'':24}{'ms':>8}{'':4}two-pass over recompute, over reload, published, ours over it")
    for n in lengths:
        x, out = memory(n).reshape(1, n), memory(n).reshape(1, n)
        x[...] = np.random.default_rng(0).normal(0, 4, n)
        for isa, published in PUBLISHED.items():
            by = importlib.import_module(f"softmap._cpu_{isa}").softmax_by
            calls = {a: partial(by, a, x, out) for a in ALGORITHMS}
            calls["ours"] = partial(by, "online", x, out, True)
            t = medians(calls, max(5, (1 << 28) // n))
            two = t["two_pass"]
            for who in calls:
                print(f"2^{n.bit_length() - 1} {isa:7} {who:20}{t[who] * 1e3:8.2f}")
            print(
                f"{'':36}{(t['three_pass_recompute'] / two - 1) * 100:+9.0f} %"
                f"{(t['three_pass_reload'] / two - 1) * 100:+12.0f} %{published:+11d} %"
                f"{(two / t['ours'] - 1) * 100:+11.0f} %"
            )


if __name__ == "__main__":
    main()
