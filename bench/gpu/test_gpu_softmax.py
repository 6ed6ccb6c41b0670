"""The softmax family on a GPU against torch, CuPy, Triton and a copy of the same bytes."""

import importlib.util

import pytest

import gpu_timing
import softmap
from gpu_timing import DEVICE, DRY_RUN, compare, make_sets, report, torch
from softmap._device import as_cupy_stream

# (rows, columns) -> the share of a same-size copy's speed that is the goal.
SHAPES = {
    (1 << 23, 2): 0.90,
    (1 << 22, 5): 0.90,
    (1 << 20, 32): 0.90,
    (1 << 18, 128): 0.90,
    (65_536, 1024): 0.90,
    (16_384, 4096): 0.90,
    (8192, 16_384): 0.90,
    (4096, 32_768): 0.88,
    (2048, 128_256): 0.85,
    (1024, 262_144): 0.85,
    (64, 128_256): None,
    (1, 1 << 26): 0.60,
}
COMPILED = [(65_536, 1024), (4096, 32_768), (2048, 128_256)]  # compiling takes seconds each
DTYPES = {"float32": 3e-6, "bfloat16": 8e-3, "float64": 1e-13}
each_dtype = pytest.mark.parametrize("dtype", ["float32", "bfloat16"])


def small(shape):
    """The shape, or one of the same kind that a host does in no time."""
    return (min(shape[0], 6), min(shape[1], 300)) if DRY_RUN else shape


def cupy_rival(name):
    """cupyx.scipy.special's function of this name on torch's current stream, or None."""
    if DRY_RUN or not importlib.util.find_spec("cupy"):
        return None
    import cupy
    import cupyx.scipy.special

    function = getattr(cupyx.scipy.special, name)

    def call(x, *_):
        with as_cupy_stream(cupy, torch.cuda.current_stream().cuda_stream, 0):
            return torch.as_tensor(function(cupy.asarray(x), axis=-1), device=DEVICE)

    return call


def check(name, result, x, rtol):
    """Close to float64; subnormal results of half types may be anything near 0."""
    want = getattr(torch, name)(x.double(), -1)
    torch.testing.assert_close(result.double(), want, rtol=rtol, atol=max(rtol, 1e-6) * 1e-2)


def rivals_of(name, x, compiled):
    function = getattr(torch, name)
    found = {"torch": lambda x, y: function(x, -1, out=y)}
    if x.dtype == torch.float32 and (rival := cupy_rival(name)):
        found["cupyx"] = rival
    has_triton = not DRY_RUN and importlib.util.find_spec("triton")
    if name == "softmax" and has_triton and x.shape[-1] <= 65_536:
        from triton_softmax import softmax

        n = torch.cuda.get_device_properties(0).multi_processor_count
        found["triton"] = lambda x, y: softmax(x, y, n)
    if compiled and not DRY_RUN:
        fast = torch.compile(lambda x: function(x, -1), dynamic=False)
        found["compiled"] = lambda x, y: fast(x)
    return found


@each_dtype
@pytest.mark.parametrize("shape", SHAPES, ids=lambda s: f"{s[0]}x{s[1]}")
def test_softmax(benchmark, shape, dtype):
    run_map(benchmark, "softmax", shape, dtype, SHAPES[shape], shape in COMPILED)


@each_dtype
@pytest.mark.parametrize("shape", [(1 << 20, 32), (65_536, 1024), (2048, 128_256)], ids=str)
def test_log_softmax(benchmark, shape, dtype):
    run_map(benchmark, "log_softmax", shape, dtype, SHAPES[shape], False)


@pytest.mark.parametrize("shape", [(1 << 20, 32), (2048, 128_256)], ids=str)
def test_softmax_of_float64(benchmark, shape):
    run_map(benchmark, "softmax", shape, "float64", None, False)


def run_map(benchmark, name, shape, dtype, target, compiled):
    shape, kind = small(shape), getattr(torch, dtype)
    n_bytes = 2 * shape[0] * shape[1] * kind.itemsize

    def make():
        x = torch.randn(shape, device=DEVICE).mul_(4).to(kind)
        return x, torch.full_like(x, float("nan"))

    sets = make_sets(make, n_bytes)
    function = getattr(softmap, name)
    candidates = {"softmap": lambda x, y: function(x, -1, out=y)}
    candidates |= rivals_of(name, sets[0][0], compiled)
    x, y = sets[0]
    x, y = x[: 1 << 12], y[: 1 << 12]
    check(name, candidates["softmap"](x, y), x, DTYPES[dtype])
    candidates["copy"] = lambda x, y: y.copy_(x)
    times = compare(candidates, sets, eager=("cupyx",))
    group = f"{name} {dtype} {shape[0]} x {shape[1]}"
    report(benchmark, group, times, n_bytes, target=target, at_least={"torch": 1})


@each_dtype
@pytest.mark.parametrize(
    "shape", [(1 << 20, 32), (16_384, 4096), (2048, 128_256), (1, 1 << 26)], ids=str
)
def test_logsumexp(benchmark, shape, dtype):
    """Bytes are those read; the ceiling is the copy's, of reads and writes."""
    shape, kind = small(shape), getattr(torch, dtype)
    n_bytes = shape[0] * shape[1] * kind.itemsize
    sets = make_sets(lambda: (torch.randn(shape, device=DEVICE).mul_(4).to(kind),), n_bytes)
    candidates = {
        "softmap": lambda x: softmap.logsumexp(x, -1),
        "torch": lambda x: torch.logsumexp(x, -1),
    }
    check("logsumexp", candidates["softmap"](sets[0][0]), sets[0][0], DTYPES[dtype])
    if dtype == "float32" and (rival := cupy_rival("logsumexp")):
        candidates["cupyx"] = rival
    times = compare(candidates, sets, eager=("cupyx",))
    report(benchmark, f"logsumexp {dtype} {shape[0]} x {shape[1]}", times, n_bytes, target=0.85)


@pytest.mark.parametrize("mass", [False, True], ids=["closed set", "with mass"])
def test_level_scores(benchmark, mass):
    """Five tokens of a vocabulary, (8192, 128256) bfloat16: goals are 4 and 100 times torch."""
    n_rows, n, n_sets = (64, 2000, 2) if DRY_RUN else (8192, 128_256, 1 if mass else 140)
    levels = [1.0, 2.0, 3.0, 4.0, 5.0]
    weights = torch.tensor(levels, device=DEVICE)
    x = torch.randn((n_rows, n), device=DEVICE, dtype=torch.bfloat16).mul_(4)

    def closed_set(k):
        """Other columns for each call: their sectors must not lie in the cache."""
        tokens = [(i * n // 7 + 16 * k + i) % n for i in range(1, 6)]
        return tokens, torch.tensor(tokens, device=DEVICE)

    def chosen(_, columns):
        return torch.softmax(x[:, columns].float(), -1) @ weights

    def whole(_, columns):
        p = torch.softmax(x.float(), -1)[:, columns]
        return (p / p.sum(-1, keepdim=True)) @ weights, p.sum(-1)

    n_bytes = n_rows * (n * 2 if mass else 5 * 32)  # sectors of 32 bytes
    sets = [closed_set(k) for k in range(n_sets)]
    candidates = {
        "softmap": lambda tokens, _: softmap.level_scores(x, tokens, levels, mass=mass),
        "torch, chosen": chosen,
        "torch, whole": whole,
    }
    score = candidates["softmap"](*sets[0]).score
    torch.testing.assert_close(score, chosen(*sets[0]), rtol=1e-5, atol=1e-5)
    times = compare(candidates, sets)
    group = f"level_scores {n_rows} x {n}{', mass' if mass else ''}"
    goals = {"target": 0.85} if mass else {"at_least": {"torch, chosen": 4, "torch, whole": 100}}
    report(benchmark, group, times, n_bytes, **goals)


FILTERED = [(1 << 18, 32), (16_384, 1024), (512, 128_256)]


@each_dtype
@pytest.mark.parametrize("shape", FILTERED, ids=str)
def test_row_filter(benchmark, shape, dtype):
    """top-p against a sort of each row, as samplers do; bytes are those of x and of the mask."""
    shape, kind = small(shape), getattr(torch, dtype)
    n_bytes = shape[0] * shape[1] * (kind.itemsize + 1)
    sets = make_sets(lambda: (torch.randn(shape, device=DEVICE).mul_(4).to(kind),), n_bytes)

    def by_sort(x):
        p, order = torch.softmax(x.float(), -1).sort(-1, descending=True)
        return torch.zeros_like(x, dtype=torch.bool).scatter_(-1, order, p.cumsum(-1) - p < 0.9)

    candidates = {"softmap": lambda x: softmap.row_filter(x, "top_p", 0.9), "torch, sort": by_sort}
    x = sets[0][0].float()
    kept = candidates["softmap"](x)
    mass = torch.softmax(x.double(), -1).masked_fill(~kept, 0.0).sum(-1)
    assert bool((mass >= 0.9 - 1e-5).all())
    times = compare(candidates, sets)
    report(benchmark, f"row_filter {dtype} {shape[0]} x {shape[1]}", times, n_bytes)


@pytest.mark.parametrize("function", ["sigmoid_sum", "divergence"])
@pytest.mark.parametrize("shape", FILTERED, ids=str)
def test_row_root(benchmark, shape, function):
    """Against 32 bisections in float32, as official code of soft top-k takes."""
    shape = small(shape)
    target = 5.0 if function == "sigmoid_sum" else 0.3
    n_bytes = shape[0] * shape[1] * 4
    sets = make_sets(lambda: (torch.randn(shape, device=DEVICE).mul_(4),), n_bytes)

    def by_bisection(x):
        low, high = -x.amax(-1) - 20.0, -x.amin(-1) + 20.0
        for _ in range(32):
            middle = 0.5 * (low + high)
            above = torch.sigmoid(x + middle[:, None]).sum(-1) > target
            low, high = torch.where(above, low, middle), torch.where(above, middle, high)
        return middle

    candidates = {"softmap": lambda x: softmap.row_root(x, function, target)}
    root = candidates["softmap"](sets[0][0]).double()
    assert bool(torch.isfinite(root).all())
    if function == "sigmoid_sum":
        candidates["torch, bisection"] = by_bisection
        sums = torch.sigmoid(sets[0][0].double() + root[:, None]).sum(-1)
        torch.testing.assert_close(sums, torch.full_like(sums, target), rtol=1e-5, atol=1e-5)
    times = compare(candidates, sets)
    report(benchmark, f"row_root {function} {shape[0]} x {shape[1]}", times, n_bytes)


def test_ceilings():
    """Of this run, to be read beside each result."""
    assert all(rate > 0 for rate in gpu_timing.ceilings().values())
