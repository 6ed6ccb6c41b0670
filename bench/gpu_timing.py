"""Device times of short calls: graphs of many of them, replayed between two events.

No host clock, no launch gaps, no cache: each call of a graph takes the next of some sets of
buffers, which together are several times the L2. Candidates are interleaved round by round, forth
and back, beside a copy of the same size. With SOFTMAP_GPU_DRY_RUN=1 all runs on the host, on tiny
sizes, to see that it runs: such numbers mean nothing.
"""

import functools
import os
import statistics
import time

import pytest

torch = pytest.importorskip("torch", reason="torch is not installed")
DRY_RUN = os.environ.get("SOFTMAP_GPU_DRY_RUN") == "1"
if not (DRY_RUN or torch.cuda.is_available()):
    pytest.skip("there is no GPU", allow_module_level=True)
DEVICE = "cpu" if DRY_RUN else "cuda"
ROUNDS, ROUND_SECONDS, MOST_CALLS = (2, 1e-5, 2) if DRY_RUN else (15, 2e-3, 400)


def gpu_name():
    return "dry run on the host" if DRY_RUN else torch.cuda.get_device_name()


def l2_bytes():
    return 1 << 20 if DRY_RUN else torch.cuda.get_device_properties(0).L2_cache_size


def make_sets(make, n_bytes):
    """As many results of `make()` as are needed for no call to find its data in the L2."""
    n = 1 if n_bytes > 4 * l2_bytes() else min(64, 3 * l2_bytes() // n_bytes + 2)
    return [make() for _ in range(2 if DRY_RUN else n)]


class Replay:
    """Calls for some milliseconds, one set after the other, as one graph; or eagerly."""

    def __init__(self, function, sets, eager):
        self.function, self.sets, self.graph = function, sets, None
        self.n = 2
        self.seconds()  # what is compiled or loaded at first is, now
        self.n = max(2, min(MOST_CALLS, int(ROUND_SECONDS / self.seconds())))
        if not (eager or DRY_RUN):
            torch.cuda.synchronize()
            self.graph = torch.cuda.CUDAGraph()
            with torch.cuda.graph(self.graph):
                self._calls()

    def _calls(self):
        for k in range(self.n):
            self.function(*self.sets[k % len(self.sets)])

    def seconds(self):
        """Time of one call, over all calls of one replay."""
        run = self.graph.replay if self.graph else self._calls
        if DRY_RUN:
            start = time.perf_counter()
            run()
            return (time.perf_counter() - start) / self.n
        before, after = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        before.record()
        run()
        after.record()
        after.synchronize()
        return before.elapsed_time(after) * 1e-3 / self.n


def compare(candidates, sets, *, eager=()):
    """Seconds of each candidate by name, a list with one median-worthy number a round.

    A candidate that fails is left out, with a line that says why; `softmap` may not fail.
    """
    replays = {}
    for name, function in candidates.items():
        try:
            replays[name] = Replay(function, sets, name in eager)
        except Exception as error:
            if name.startswith("softmap"):
                raise
            print(f"  {name} left out: {type(error).__name__}: {str(error)[:100]}")
    times = {name: [] for name in replays}
    for replay in replays.values():
        replay.seconds()
    for k in range(ROUNDS):
        for name in list(replays) if k % 2 == 0 else reversed(replays):
            times[name].append(replays[name].seconds())
    return times


@functools.cache
def ceilings():
    """Bytes a second of large copies (read and written) and of large fills, the best of some."""
    # Some sizes are a third slower, by how both arrays fall on the banks of the memory.
    sizes = (1 << 22,) if DRY_RUN else (1 << 28, 1_050_673_152, 2_000_000_000)
    best = {"copy": 0.0, "fill": 0.0}
    for size in sizes:
        a, b = (torch.empty(size, dtype=torch.uint8, device=DEVICE) for _ in range(2))
        a.random_()
        calls = {"copy": lambda a, b: b.copy_(a), "fill": lambda a, b: b.fill_(7)}
        medians = {name: statistics.median(t) for name, t in compare(calls, [(a, b)]).items()}
        best["copy"] = max(best["copy"], 2 * size / medians["copy"])
        best["fill"] = max(best["fill"], size / medians["fill"])
    return best


def report(benchmark, group, times, n_bytes, **more):
    """Hand device times to pytest-benchmark, whose own clock is one of the host."""
    medians = {name: statistics.median(t) for name, t in times.items()}
    benchmark.group, benchmark._mode = group, "device times"
    stats = benchmark._make_stats(1)
    for t in times["softmap"]:
        stats.update(t)
    benchmark.extra_info.update(
        who="softmap", gpu=gpu_name(), bytes=n_bytes, medians=medians, ceilings=ceilings(), **more
    )
    return medians
