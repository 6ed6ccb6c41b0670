"""On a GPU: real arrays of CuPy and torch, streams, graphs, errors and memory.

The cases of the families run there as well: `pytest -k cuda` takes the GPU as one more backend.
"""

import dataclasses
import importlib
import re
import subprocess
import sys
import types

import numpy as np
import pytest

import fake_cupy
import on_gpu
import softmap
import systems_cases
from ops.softmax import CUT_BOUND, cut_error
from softmap import _backend

if reason := on_gpu.why_not():
    pytest.skip(f"no test on a GPU: {reason}", allow_module_level=True)

from test_device import CALLS, COPIES, ON_HOST, X, parts

RNG = np.random.default_rng(11)
WIDTHS = [2, 5, 8, 13, 32, 33, 1000, 1024, 5000, 16384, 32768, 128256, 262144, 262145]
WIDTHS += [300_000 if on_gpu.DRY_RUN else 3_000_000]  # the stand-in has 64 MiB
MANY_CALLS = 20 if on_gpu.DRY_RUN else 1000
real = pytest.mark.skipif(
    on_gpu.DRY_RUN, reason="a dry run has neither streams nor errors of a GPU"
)


def has_kernel(case):
    return hasattr(_backend.cuda(), case.partition(",")[0].partition(" ")[0])


# hessian=True, systems and the like have none; here are those that do.
WITH_KERNEL = [case for case in CALLS if has_kernel(case)]
# Twice the bounds of tests/ops, or a little more; sums of terms that cancel ten times that. Of fits
# what is promised.
BOUND = {"float64": 3e-15, "float32": 1.5e-6, "float16": 1e-3}
FIT_BOUND = {"float64": 1e-9, "float32": 2e-5}


def cupy_library():
    cupy = pytest.importorskip("cupy", reason="CuPy is not installed")
    return types.SimpleNamespace(
        name="cupy",
        put=cupy.asarray,
        get=cupy.asnumpy,
        kind=cupy.ndarray,
        new_stream=lambda: cupy.cuda.Stream(non_blocking=True),
        synchronize=lambda: cupy.cuda.Device().synchronize(),
        used=lambda: cupy.get_default_memory_pool().used_bytes(),
        on=lambda stream: stream,
        capture=_cupy_graph,
    )


def torch_library():
    torch = pytest.importorskip("torch", reason="torch is not installed")
    if not torch.cuda.is_available():
        pytest.skip("torch sees no GPU")
    return types.SimpleNamespace(
        name="torch",
        put=lambda a: torch.as_tensor(a, device="cuda"),
        get=lambda t: t.cpu().numpy(),
        kind=torch.Tensor,
        new_stream=torch.cuda.Stream,
        synchronize=torch.cuda.synchronize,
        used=torch.cuda.memory_allocated,
        on=torch.cuda.stream,
        capture=_torch_graph,
    )


def _cupy_graph(call):
    import cupy

    stream = cupy.cuda.Stream(non_blocking=True)
    with stream:
        call()  # the pool of this stream has what the graph needs
        stream.begin_capture()
        result = call()
        graph = stream.end_capture()
    return result, lambda: graph.launch(stream)


def _torch_graph(call):
    import torch

    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        result = call()
    return result, graph.replay


@pytest.fixture(params=[cupy_library, torch_library], ids=["cupy", "torch"])
def library(request):
    library = request.param()
    if on_gpu.DRY_RUN:
        fake_cupy.MEMORY.reset(keeps=False)
    yield library
    library.synchronize()


def check_close(library, case, result, expected):
    result, expected = parts(result), parts(expected)
    assert result.keys() == expected.keys()
    fit = case.startswith(("fit_many", "score_against"))
    for name, want in expected.items():
        if want is None:
            assert result[name] is None
            continue
        assert isinstance(result[name], library.kind), name
        got = library.get(result[name])
        assert (got.shape, got.dtype) == (np.shape(want), want.dtype), name
        if got.dtype.kind != "f":
            if not str(name).startswith("n_iter"):
                np.testing.assert_array_equal(got, want, err_msg=str(name))
            continue
        bound = (FIT_BOUND if fit else BOUND)[got.dtype.name]
        if fit and str(name).startswith("gradient_max"):
            bound = 1e-6  # of nothing but rounding and the last step
        scale = np.maximum(1.0, np.abs(want)) if fit else np.abs(want) + 1.0
        if case.startswith("log_likelihood"):
            scale = scale * 10
        assert np.all((np.abs(got - want) <= bound * scale) | (got == want) | (got != got)), name
        np.testing.assert_array_equal(np.isnan(got), np.isnan(want), err_msg=str(name))


@pytest.mark.parametrize("case", WITH_KERNEL)
def test_operation_agrees_with_the_cpu(library, case):
    check_close(library, case, CALLS[case](library.put), CALLS[case](lambda a: a))


@pytest.mark.parametrize("name", sorted(set(systems_cases.CASES) - ON_HOST))
def test_recipe_agrees_with_the_cpu(library, name):
    pytest.importorskip("cupy", reason="CuPy is not installed")
    module, function = name.split(".")
    call = getattr(importlib.import_module(f"softmap.systems.{module}"), function)
    arguments, options = systems_cases.CASES[name]

    def put(x):
        return library.put(x) if isinstance(x, np.ndarray) else x

    want = parts(call(*arguments, **options))
    got = parts(call(*map(put, arguments), **{k: put(v) for k, v in options.items()}))
    for key, result in got.items():
        on_device = isinstance(result, library.kind)
        assert result is None or on_device or not any(isinstance(x, np.ndarray) for x in arguments)
        value = library.get(result) if on_device else result
        if value is not None:
            np.testing.assert_allclose(value, want[key], rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("dtype", ["float32", "float64", "float16"])
@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize("name", ["softmax", "log_softmax", "logsumexp"])
def test_every_regime_agrees_with_the_cpu(library, name, width, dtype):
    """Rows of all sizes that a kernel of its own is for, contiguous and not, and the same again."""
    function = getattr(softmap, name)
    x = RNG.normal(0, 5, (max(3, min(2000, 300_000 // width)), width)).astype(dtype)
    want = function(x, -1)
    for given in (library.put(x), library.put(np.pad(x, ((0, 0), (3, 2))))[:, 3:-2]):
        result = function(given, -1)
        check_close(library, name, result, want)
        again = library.get(function(given, -1))
        np.testing.assert_array_equal(library.get(result), again)


@pytest.mark.parametrize("dtype", ["float32", "float64", "float16"])
@pytest.mark.parametrize("width", [5, 33, 1024, 5000, 128256])
def test_filters_and_roots_agree_with_the_cpu(library, width, dtype):
    """A warp or a block a row. Sums are rounded, so that a filter may cut elsewhere."""
    x = RNG.normal(0, 3, (max(3, min(300, 300_000 // width)), width)).astype(dtype)
    given = library.put(x)
    for rule, amount in (("top_p", 0.7), ("typical", 0.5), ("top_k", 3), ("min_p", 0.2)):
        got = library.get(softmap.row_filter(given, rule, amount))
        np.testing.assert_array_equal(got, library.get(softmap.row_filter(given, rule, amount)))
        if rule in ("top_p", "typical"):
            error = cut_error(x, rule, amount, got)
            assert error.max() <= CUT_BOUND, (rule, error.max())
        else:
            np.testing.assert_array_equal(got, softmap.row_filter(x, rule, amount), rule)
    for function, target in (("sigmoid_sum", 2.5), ("divergence", 0.1)):
        got, want = (
            library.get(softmap.row_root(given, function, target)),
            softmap.row_root(x, function, target),
        )
        assert got.dtype == want.dtype
        rtol = 1e-12 if dtype == "float64" else 3e-7
        np.testing.assert_allclose(got, want, rtol=rtol, atol=rtol)


def test_torch_bfloat16(library):
    if library.name != "torch":
        pytest.skip("CuPy has bfloat16 only from version 14 on, through ml_dtypes")
    import torch

    x = torch.randn(64, 5000, device="cuda", dtype=torch.bfloat16) * 5
    want = torch.softmax(x.double(), -1)
    result = softmap.softmax(x, -1)
    assert result.dtype == torch.bfloat16
    torch.testing.assert_close(result.double(), want, rtol=2**-8, atol=1e-38)
    assert softmap.softmax(x, -1, out=x) is x
    assert torch.equal(x, result)


# Streams


@real
def test_work_is_put_on_the_current_stream(library):
    """After much work on a stream that does not wait for the others: elsewhere it would overtake.

    The stream's last write is what has to be read, and the result is read on the same stream.
    """
    n = 1 << 24
    a, x = library.put(np.ones(n, np.float32)), library.put(np.zeros((64, 5000), np.float32))
    fresh = library.put(RNG.normal(0, 3, (64, 5000)).astype(np.float32))
    softmap.softmax(x, -1)
    library.synchronize()
    stream = library.new_stream()
    with library.on(stream):
        for _ in range(200):
            a *= 1.0000001
        x[...] = fresh
        result = softmap.softmax(x, -1)
        x[...] = 0.0
    stream.synchronize()
    want = softmap.softmax(library.get(fresh), -1)
    np.testing.assert_allclose(library.get(result), want, rtol=3e-6, atol=1e-12)


# Graphs


CAPTURED = [case for case in WITH_KERNEL if case not in COPIES]


@pytest.mark.parametrize("case", CAPTURED)
def test_operation_in_a_graph(library, case):
    """Captured once, replayed on other numbers; nothing waits, copies or loads meanwhile."""
    softmap.preload()
    arrays = []

    def put(a):
        arrays.append(library.put(a))
        return arrays[-1]

    want = [CALLS[case](lambda a: a), CALLS[case](lambda a: np.flip(a, 0))]
    CALLS[case](put)
    library.synchronize()

    def call():
        given = iter(arrays)
        return CALLS[case](lambda a: next(given))

    result, replay = library.capture(call)
    for k, expected in enumerate((*want, want[0])):
        for array in arrays:
            if k:
                array[...] = library.put(np.flip(library.get(array), 0).copy())
        library.synchronize()
        replay()
        library.synchronize()
        check_close(library, case, result, expected)


# Errors that come later


@real
@pytest.mark.parametrize("wait", ["1", ""])
def test_asynchronous_error(wait):
    """A kernel of somebody else fails while ours are launched: with the variable ours says so."""
    code = """
import cupy, softmap
x = cupy.ones((1000, 1000), cupy.float32)
softmap.softmax(x, -1); cupy.cuda.Device().synchronize()
source = 'extern "C" __global__ void bad(float* p) { p[1ll << 45] = 1; }'
cupy.RawKernel(source, "bad")((1,), (1,), (x,))
try:
    for _ in range(3): softmap.softmax(x, -1)
except RuntimeError as error:
    print("softmap:", error, flush=True)
try:
    cupy.cuda.Device().synchronize()
except Exception as error:
    print("cupy:", type(error).__name__, flush=True)
import os; os._exit(0)
"""
    run = subprocess.run(
        [sys.executable, "-c", code],
        env=on_gpu.environment(SOFTMAP_CUDA_SYNC=wait),
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert "cupy: CUDARuntimeError" in run.stdout, run.stderr
    if wait:
        assert re.search("softmap: softmap: .*: CUDA error", run.stdout), run.stdout


# Memory


@pytest.mark.parametrize("case", WITH_KERNEL)
def test_no_memory_is_held_after_many_calls(library, case):
    arrays = []

    def put(a):
        arrays.append(library.put(a))
        return arrays[-1]

    CALLS[case](put)
    library.synchronize()
    before = library.used()
    for _ in range(MANY_CALLS):
        given = iter(arrays)
        CALLS[case](lambda a, given=given: next(given))
    library.synchronize()
    assert library.used() == before


# Devices


def test_other_device(library):
    if _backend.cuda().device_count() < 2:
        pytest.skip("there is only one GPU")
    import cupy

    with cupy.cuda.Device(1):
        x = cupy.asarray(X)
    result = softmap.softmax(x, -1)
    assert result.device.id == 1
    np.testing.assert_allclose(cupy.asnumpy(result), softmap.softmax(X, -1), rtol=3e-6)
    with pytest.raises(TypeError, match="preference: a is on cuda:0 but b is on cuda:1"):
        softmap.preference(cupy.asarray(X), x)


def test_results_are_dataclasses_of_device_arrays(library):
    r = softmap.level_scores(library.put(X), [0, 1], [1, 2], mass=True, mode=True)
    assert dataclasses.is_dataclass(r)
    assert all(isinstance(a, library.kind) for a in parts(r).values())


def test_info_counts_the_gpus():
    assert softmap.info()["cuda"] >= 1
