"""Arrays on a device, without one: what goes to the kernels, and what comes back.

A stand-in for CuPy keeps its arrays where a look from the host is a segmentation fault; the kernels
are those of the emulator where it is built, and those of the CPU.
"""

# budget: over 400 lines: a table of every call beside what it promises

import dataclasses
import importlib
import importlib.util
import re
import signal
import subprocess
import sys
import types
from pathlib import Path

import ml_dtypes
import numpy as np
import pytest

import fake_cupy
import on_gpu
import softmap
import systems_cases
from conftest import EMULATED, RUNNABLE
from softmap import _arrays, _backend, _device
from softmap.systems import compare2score

RNG = np.random.default_rng(5)
X = RNG.normal(0, 3, (3, 4, 5)).astype(np.float32)
ROWS = RNG.uniform(0.5, 2, (3, 4)).astype(np.float32)
SCORES = RNG.normal(0, 1, (3, 4))
WINS, LOSSES, TIES = RNG.integers(0, 9, (3, 3, 4, 4)).astype(float)
BOTH = TIES + np.swapaxes(TIES, 1, 2)
ANCHORS = np.array([[0.5, 0.3, 0.1], [0.7, 0.5, 0.2], [0.9, 0.8, 0.5]])
WIDE = RNG.normal(0, 3, (3, 400)).astype(np.float32)
BFLOAT16 = np.dtype(ml_dtypes.bfloat16)

MODULES = [f"_cpu_{RUNNABLE[0]}", *(["_cuda_emulated"] if EMULATED else [])]


@pytest.fixture(params=MODULES)
def kernels(request, monkeypatch):
    """The module that plays `_cuda`; it notes who was called on which device and stream."""
    emulated = request.param == "_cuda_emulated"
    module = EMULATED if emulated else importlib.import_module(f"softmap.{request.param}")
    played = fake_cupy.Kernels(module, emulated)
    monkeypatch.setattr(_backend, "cuda", lambda: played)
    return played


@pytest.fixture
def cupy(kernels, monkeypatch):
    module = fake_cupy.make_module()
    monkeypatch.setitem(sys.modules, "cupy", module)
    fake_cupy.MEMORY.reset()
    return module


# Every operation: how it is called with the arrays that `put` makes of NumPy's.

CALLS = {
    "softmax": lambda put: softmap.softmax(put(X), -1),
    "softmax, axes, temperatures": lambda put: softmap.softmax(
        put(X), (0, 2), temperature=put(ROWS[0])
    ),
    "softmax, int": lambda put: softmap.softmax(put(X.astype(int)), 1),
    "softmax, half": lambda put: softmap.softmax(put(X.astype(np.float16)), 1),
    "softmax, dtype": lambda put: softmap.softmax(
        put(SCORES), None, dtype="float32", temperature=2
    ),
    "log_softmax": lambda put: softmap.log_softmax(put(X), -1, temperature=put(ROWS)),
    "log_softmax, host temperature": lambda put: softmap.log_softmax(
        put(X), -1, temperature=ROWS.tolist()
    ),
    "logsumexp": lambda put: softmap.logsumexp(put(X), -1),
    "logsumexp of all": lambda put: softmap.logsumexp(put(X)),
    "logsumexp, keepdims": lambda put: softmap.logsumexp(put(X), 1, keepdims=True, temperature=0.5),
    "level_scores": lambda put: softmap.level_scores(
        put(X), [0, [1, 3], 4], [1, 2, 3], mass=True, mode=True
    ),
    "level_scores, temperatures": lambda put: softmap.level_scores(
        put(X), put(np.array([0, 3])), put(np.array([1.0, 2.0])), temperature=put(ROWS)
    ),
    "level_scores, many tokens": lambda put: softmap.level_scores(
        put(WIDE), [range(k, 300, 2) for k in range(2)], [1, 2], mass=True
    ),
    "row_statistics": lambda put: softmap.row_statistics(put(X)),
    "row_statistics, all": lambda put: softmap.row_statistics(
        put(X),
        target=put(np.arange(12).reshape(3, 4) % 5),
        weights=put(np.arange(5.0)),
        error_norm=True,
    ),
    "row_statistics, constants": lambda put: softmap.row_statistics(
        put(X), 1, target=2, weights=[1, 2, 3, 4], temperature=3.0
    ),
    "row_filter": lambda put: softmap.row_filter(put(X), "top_p", 0.7, axis=1),
    "row_filter, amounts": lambda put: softmap.row_filter(
        put(X), "typical", put(ROWS / 3), temperature=put(ROWS)
    ),
    "row_root": lambda put: softmap.row_root(put(X), "sigmoid_sum", 2.0),
    "row_root, targets": lambda put: softmap.row_root(put(X), "divergence", put(ROWS / 9), 2),
    "logsumexp_partial": lambda put: softmap.logsumexp_partial(put(X)),
    "preference": lambda put: softmap.preference(put(SCORES[:, :, None]), put(SCORES[:, None])),
    "preference with a number": lambda put: softmap.preference(0.5, put(SCORES), link="probit"),
    "preference, variances": lambda put: softmap.preference(
        put(SCORES), put(SCORES[:1]), link="probit", variance_a=put(ROWS), variance_b=1.0
    ),
    "preference_matrix": lambda put: softmap.preference_matrix(put(SCORES.astype(np.float32))),
    "preference_matrix, variance": lambda put: softmap.preference_matrix(
        put(SCORES), link="probit", variance=put(ROWS[0]), first_advantage=0.25
    ),
    "outcome_matrices": lambda put: softmap.outcome_matrices(
        put(SCORES), ties="davidson", tie_strength=0.5
    ),
    "log_likelihood": lambda put: softmap.log_likelihood(put(SCORES), put(WINS)),
    "log_likelihood, gradient": lambda put: softmap.log_likelihood(
        put(SCORES[0]), put(WINS), losses=put(LOSSES), first_advantage=0.5, gradient=True
    ),
    "log_likelihood, half ties": lambda put: softmap.log_likelihood(
        put(SCORES), put(WINS), tie_counts=put(BOTH), ties="half", gradient=True
    ),
    "log_likelihood, ties": lambda put: softmap.log_likelihood(
        put(SCORES), put(WINS), tie_counts=put(BOTH), ties="davidson", tie_strength=1, gradient=True
    ),
    "fit_many": lambda put: softmap.fit_many(put(WINS), prior_sd=1.0, standard_errors=True),
    "fit_many, priors": lambda put: softmap.fit_many(
        put(WINS.astype(np.float32)), prior_sd=put(ROWS), prior_mean=put(SCORES[0]), link="probit"
    ),
    "fit_many, all": lambda put: softmap.fit_many(
        put(WINS), losses=put(LOSSES), tie_counts=put(TIES), ties="davidson", prior_sd=[1, 2, 1, 1],
        first_advantage="estimate",
    ),
    "score_against_anchors": lambda put: softmap.score_against_anchors(
        put(ROWS[:, :3] / 2), ANCHORS, rescale=(0, 100), standard_errors=True
    ),
    "score_against_anchors, anchors there": lambda put: softmap.score_against_anchors(
        put(ROWS[:, :3] / 2), put(ANCHORS)
    ),
    "score_against_anchors, fixed": lambda put: softmap.score_against_anchors(
        put(ROWS[:, :3] / 2), put(ANCHORS), anchors_fixed=True, link="probit"
    ),
}  # fmt: skip


def parts(result):
    """The arrays of a result, by name."""
    if dataclasses.is_dataclass(result):
        found = {}
        for field in dataclasses.fields(result):
            inner = parts(getattr(result, field.name))
            found |= {f"{field.name}.{key}": value for key, value in inner.items()}
        return found
    return dict(enumerate(result)) if isinstance(result, tuple) else {"": result}


def tolerance(kernels, dtype, name=""):
    """Bit for bit where the kernels are the same; the sum of the bounds where they are not."""
    if not kernels.takes_run:
        return 1e-15
    if str(name).startswith("gradient_max"):
        return 1e-6  # of nothing but rounding and the last step
    return {"float64": 1e-9, "float16": 2e-3}.get(dtype, 3e-5)


def counts_steps(kernels, name):
    """Whether it is a number of steps of a fit, of which other kernels may take another number."""
    return kernels.takes_run and str(name).startswith("n_iter")


def check_same(kernels, result, expected):
    """`result` is on the device, and otherwise as NumPy's result."""
    result, expected = parts(result), parts(expected)
    assert result.keys() == expected.keys()
    for name, want in expected.items():
        if want is None:
            assert result[name] is None
            continue
        assert isinstance(result[name], fake_cupy.ndarray), name
        got = result[name].get()
        assert got.shape == np.shape(want), name
        assert got.dtype == want.dtype, name
        if counts_steps(kernels, name):
            continue
        rtol = tolerance(kernels, got.dtype.name, name)
        np.testing.assert_allclose(got, want, rtol=rtol, atol=rtol, err_msg=str(name))


@pytest.mark.parametrize("case", CALLS)
def test_operation_on_a_device(kernels, cupy, case):
    want = CALLS[case](lambda a: a)
    result = CALLS[case](cupy.asarray)
    check_same(kernels, result, want)
    assert {(device, stream) for _, device, stream in kernels.calls} == {(0, 0x11)}


def test_every_operation_has_a_call():
    here = {case.partition(",")[0].partition(" ")[0] for case in CALLS}
    assert here >= set(softmap.runtime._OPERATIONS)


# What has to copy numbers from the host, which cannot be done while a graph is captured.
COPIES = (
    "log_softmax, host temperature",
    "level_scores, temperatures",  # the closed set is read on the host
    "row_statistics, constants",
    "fit_many, all",
    "score_against_anchors",
    "score_against_anchors, fixed",
)


@pytest.mark.parametrize("case", CALLS)
def test_operation_while_a_graph_is_captured(kernels, cupy, case):
    """Its arrays are there before; meanwhile nothing is copied from the host or to it."""
    arrays = []
    want = CALLS[case](lambda a: arrays.append(a) or a)
    given = iter([cupy.asarray(a) for a in arrays])
    with fake_cupy.MEMORY.capturing():
        if case in COPIES:
            with pytest.raises(RuntimeError, match="CaptureUnsupported: a copy from the host or"):
                CALLS[case](lambda a: next(given))
            return
        result = CALLS[case](lambda a: next(given))
    check_same(kernels, result, want)


def test_kernels_are_launched_and_nothing_else():
    """No memory is allocated, no host is read or waited for, but for SOFTMAP_CUDA_SYNC."""
    folder = Path(__file__).parents[1] / "csrc" / "cuda"
    calls = {
        (path.name, name)
        for path in folder.iterdir()
        for name in re.findall(
            r"cuda(?:Mem|Malloc|Free|Event|Host)\w+|\w+Synchronize", path.read_text()
        )
    }
    assert calls <= {("launch.cuh", "cudaStreamSynchronize")} | {
        (path.name, "cudaGridDependencySynchronize") for path in folder.iterdir()
    }


@pytest.mark.skipif(EMULATED is None, reason="the CUDA kernels are not built here")
@pytest.mark.parametrize("wait", ["1", "0", ""])
def test_error_of_a_kernel_is_one_of_its_call_where_it_is_waited_for(wait):
    """The emulator fails later, as a device does."""
    code = """
from conftest import EMULATED
from softmap import _backend, softmax
import numpy as np
_backend.cpu = lambda isa=None: EMULATED
softmax(np.ones((2, 3), np.float32), -1)
"""
    run = subprocess.run(
        [sys.executable, "-c", code],
        env=on_gpu.environment(SOFTMAP_CUDA_SYNC=wait, SOFTMAP_EMULATOR_FAIL="1"),
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert run.returncode == (wait == "1"), run.stderr
    text = "RuntimeError: softmap: SOFTMAP_CUDA_SYNC: CUDA error 719, "
    assert (text in run.stderr) == (wait == "1")


@pytest.mark.parametrize("case", ["softmax", "row_statistics, constants", "fit_many", "preference"])
def test_result_is_on_the_device_of_the_argument(kernels, cupy, case):
    """That is not the current one, whose stream is another."""

    def put(a):
        with cupy.cuda.Device(1):
            return cupy.asarray(a)

    result = CALLS[case](put)
    assert {a.device.id for a in parts(result).values() if a is not None} == {1}
    assert {(device, stream) for _, device, stream in kernels.calls} == {(1, 0x22)}
    assert fake_cupy.Device.current == 0


@pytest.mark.parametrize("case", CALLS)
def test_gpu_as_a_backend_of_the_suite(kernels, cupy, monkeypatch, case):
    """What tests/on_gpu.py does with a real one: copy there, compute, copy back."""
    expected = parts(CALLS[case](lambda a: a))
    monkeypatch.setattr(_backend, "cpu", on_gpu.OnGpu)
    result = parts(CALLS[case](lambda a: a))
    for name, want in expected.items():
        if want is None:
            assert result[name] is None
            continue
        assert (type(result[name]), result[name].dtype) == (type(want), want.dtype)
        if counts_steps(kernels, name):
            continue
        rtol = tolerance(kernels, want.dtype.name, name)
        np.testing.assert_allclose(result[name], want, rtol=rtol, atol=rtol, err_msg=str(name))


def test_script_for_the_sanitizers(kernels, cupy, monkeypatch, capsys):
    path = Path(__file__).parent / "gpu" / "sanitize.py"
    spec = importlib.util.spec_from_file_location("sanitize", path)
    script = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(script)
    monkeypatch.setattr(script, "WIDTHS", (1, 5, 33, 1000))
    script.main()
    assert re.match(r"\d+ calls agree with the CPU; 0 without", capsys.readouterr().out)


# Memory


def test_stand_in_keeps_the_host_out():
    """Otherwise the tests above would prove nothing."""
    code = "import fake_cupy as f; f.MEMORY.reset(); a = f.make_module().asarray([1.0]); "
    code += "print(a.get()[0], flush=True); print(a.host[0])"
    environment = {"PYTHONPATH": ":".join(p for p in sys.path if p)}
    run = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True)
    assert (run.returncode, run.stdout) == (-signal.SIGSEGV, b"1.0\n")


def test_device_array_has_no_elements(cupy):
    a = _device.from_cupy(cupy.asarray(X))
    assert (a.shape, a.dtype, a.strides) == (X.shape, X.dtype, X.strides)
    assert repr(a) == "DeviceArray((3, 4, 5), float32)"
    for attempt in (lambda: a + 1, lambda: np.isnan(a), lambda: a == a, lambda: np.exp(a)):
        with pytest.raises(TypeError, match="DeviceArray"):
            attempt()
    np.testing.assert_array_equal(np.moveaxis(a, 0, 1).unwrap().get(), np.moveaxis(X, 0, 1))
    np.testing.assert_array_equal(a.reshape(-1, 5).unwrap().get(), X.reshape(-1, 5))
    assert a.unwrap() is a.view().unwrap()
    assert a.astype("f4").contiguous() is a  # nothing to do


def test_equal_numbers_are_not_copied_from_the_host(cupy):
    """Such a copy fails while a graph is captured."""
    cupy.asarray = None
    adapter = _device.CuPy(0)
    for a in (np.array(2.5), np.full((2, 3), 7), np.full(64, np.float32(0.5))):
        made = adapter.put(a).unwrap().get()
        assert made.dtype == a.dtype
        np.testing.assert_array_equal(made, a)
    for a in (np.arange(3), np.full(65, 1.0), np.array([np.nan, np.nan])):
        with pytest.raises(TypeError, match="not callable"):
            adapter.put(a)


def test_views_are_read_without_a_copy(kernels, cupy):
    x = cupy.asarray(np.ones((6, 8), np.float32))
    with fake_cupy.MEMORY.unlocked():
        x.host[...] = RNG.normal(size=(6, 8))
    for view in (x[::2], x[:, 1:5], x[1:5, ::3], x.transpose(), x[::-1]):
        used = fake_cupy.MEMORY.used
        result = softmap.softmax(view, 1)
        packed = 1 + (view.strides[-1] != 4)  # columns apart: the kernel packs them first
        assert fake_cupy.MEMORY.used - used <= packed * -(-4 * view.size // 64) * 64 + 64
        want = softmap.softmax(view.get(), 1)
        np.testing.assert_allclose(result.get(), want, rtol=tolerance(kernels, "float32"))


@pytest.mark.parametrize("shape", [(0, 5), (5, 0), (0,), (2, 0, 3)])
def test_empty_arrays(kernels, cupy, shape):
    x = np.zeros(shape)
    check_same(kernels, softmap.softmax(cupy.asarray(x), -1), softmap.softmax(x, -1))
    check_same(kernels, softmap.logsumexp(cupy.asarray(x), -1), softmap.logsumexp(x, -1))
    check_same(kernels, softmap.softmax(cupy.asarray(x)), softmap.softmax(x))


def test_empty_batches(kernels, cupy):
    tables = np.zeros((0, 4, 4))
    fit = softmap.fit_many(cupy.asarray(tables), prior_sd=1.0)
    assert (fit.scores.shape, fit.status.shape) == ((0, 4), (0,))
    assert softmap.preference_matrix(cupy.asarray(np.zeros((0, 4)))).shape == (0, 4, 4)
    scores = softmap.score_against_anchors(cupy.asarray(np.zeros((0, 3))), ANCHORS)
    assert scores.anchor_scores.shape == (0, 3)


@pytest.mark.parametrize("name", ["softmax", "log_softmax", "logsumexp"])
def test_bfloat16(kernels, cupy, name):
    x = X.astype(BFLOAT16)
    result = getattr(softmap, name)(cupy.asarray(x), -1)
    assert result.dtype == BFLOAT16
    want = getattr(softmap, name)(x, -1).astype(float)
    np.testing.assert_allclose(result.get().astype(float), want, rtol=2**-8, atol=2**-8)
    assert softmap.level_scores(cupy.asarray(x), [0, 1], [1, 2]).score.dtype == np.float32


# out=


@pytest.mark.parametrize("name", ["softmax", "log_softmax"])
def test_out(kernels, cupy, name):
    function, want = getattr(softmap, name), getattr(softmap, name)(X, -1)
    rtol = tolerance(kernels, "float32")
    wide = cupy.empty((3, 4, 10), np.float32)
    for out in (cupy.empty(X.shape, np.float32), wide[..., ::2], cupy.empty(X.shape, float)):
        used = fake_cupy.MEMORY.used
        assert function(cupy.asarray(X), -1, out=out) is out
        np.testing.assert_allclose(out.get(), want, rtol=rtol)
        if out.dtype == X.dtype and kernels.takes_run:  # x, and as much where the kernel packs rows
            assert fake_cupy.MEMORY.used - used == (256 if out.strides[-1] == 4 else 512)
    x = cupy.asarray(X)
    assert function(x, -1, out=x) is x
    np.testing.assert_allclose(x.get(), want, rtol=rtol)


def test_out_of_other_operations(kernels, cupy):
    s = cupy.asarray(SCORES.astype(np.float32))
    want = softmap.preference_matrix(SCORES.astype(np.float32))
    for dtype in (np.float32, np.float16, np.float64):
        out = cupy.empty((3, 4, 4), dtype)
        assert softmap.preference_matrix(s, out=out) is out
        np.testing.assert_allclose(out.get(), want, rtol=2e-3)
    out = cupy.empty((3, 4), np.float64)
    result = softmap.level_scores(cupy.asarray(X), None, range(5), out=out)
    assert result.score is out
    want = softmap.level_scores(X, None, range(5)).score
    np.testing.assert_allclose(out.get(), want, rtol=1e-5)


def test_out_errors(kernels, cupy):
    x = cupy.asarray(X)
    with pytest.raises(ValueError, match=r"softmax: out has shape \(3,\), it must have shape"):
        softmap.softmax(x, out=cupy.empty((3,), np.float32))
    with pytest.raises(TypeError, match="softmax: out has dtype int64, it must be floating"):
        softmap.softmax(x, out=cupy.empty(X.shape, int))
    with pytest.raises(TypeError, match=r"softmax: x is a cupy.ndarray but out is a numpy.ndarray"):
        softmap.softmax(x, out=np.empty_like(X))
    with pytest.raises(TypeError, match=r"softmax: x is a numpy.ndarray but out is a cupy.ndarray"):
        softmap.softmax(X, out=cupy.empty(X.shape, np.float32))


# Errors


def test_mixed_devices(kernels, cupy):
    a = cupy.asarray(SCORES)
    with cupy.cuda.Device(1):
        b = cupy.asarray(SCORES)
    with pytest.raises(TypeError, match=r"^preference: a is on cuda:0 but b is on cuda:1$"):
        softmap.preference(a, b)
    with pytest.raises(TypeError, match=r"^softmax: x is on cuda:0 but out is on cuda:1$"):
        softmap.softmax(a, out=b)
    assert kernels.calls == []


def test_what_has_no_kernel_says_so(kernels, cupy):
    x, scores, wins = cupy.asarray(X), cupy.asarray(SCORES), cupy.asarray(WINS)
    z = cupy.asarray(X.astype(complex))
    for call, what in (
        (lambda: softmap.logsumexp(x, b=2.0), "logsumexp: b, where or return_sign has"),
        (lambda: softmap.logsumexp(x, return_sign=True), "logsumexp: b, where or return_sign has"),
        (lambda: softmap.softmax(z, out=z), "softmax: dtype complex128 has"),
        (lambda: softmap.merge_partials((x, x), (x, x)), r"merge_partials: it has"),
        (lambda: softmap.partial_to_logsumexp(x, x), "partial_to_logsumexp: it has"),
        (lambda: softmap.log_likelihood(scores, wins, hessian=True), "hessian=True has"),
        (lambda: compare2score.select_anchors(x, x), "compare2score.select_anchors: it has"),
    ):
        with pytest.raises(
            softmap.BackendMissingError, match=rf"{what} no CUDA kernel; pass host .*asnumpy\("
        ):
            call()


ON_HOST = {"compare2score.select_anchors"}


@pytest.mark.parametrize("name", sorted(set(systems_cases.CASES) - ON_HOST))
def test_recipes_of_device_arrays(kernels, cupy, name):
    """On the device from the first to the last step, with the results that the host gives."""
    module, function = name.split(".")
    call = getattr(importlib.import_module(f"softmap.systems.{module}"), function)
    arguments, options = systems_cases.CASES[name]

    def put(x):
        return cupy.asarray(x) if isinstance(x, np.ndarray) else x

    want = arrays_of(call(*arguments, **options))
    got = arrays_of(call(*map(put, arguments), **{k: put(v) for k, v in options.items()}))
    assert len(got) == len(want)
    for mine, expected in zip(got, want, strict=True):
        assert not any(isinstance(x, np.ndarray) for x in arguments) or type(mine) is cupy.ndarray
        value = mine.get() if type(mine) is cupy.ndarray else mine
        assert (np.shape(value), np.asarray(value).dtype) == (np.shape(expected), expected.dtype)
        np.testing.assert_allclose(value, expected, rtol=1e-9, atol=1e-12)


def arrays_of(result):
    return _arrays.arrays_in(result) or [np.asarray(result)]


def test_operation_that_the_module_lacks(cupy, monkeypatch):
    monkeypatch.setattr(_backend, "cuda", types.SimpleNamespace)
    with pytest.raises(
        softmap.BackendMissingError, match=r"^row_root: it has no CUDA kernel; pass"
    ):
        softmap.row_root(cupy.asarray(X), "sigmoid_sum", 2.0)
    assert not softmap.supports(cupy.asarray(X), "row_root")


def test_values_are_not_looked_at(kernels, cupy):
    """A wrong one costs its row or its problem; a number is checked, for that is on the host."""
    x = X[0].copy()
    x[1, 2] = np.nan
    p = softmap.softmax(cupy.asarray(x), -1, temperature=cupy.asarray(np.ones(4, np.float32)))
    assert np.isnan(p.get()).any(axis=1).tolist() == [False, True, False, False]
    wins = WINS.copy()
    wins[1, 0, 1] = -1
    fit = softmap.fit_many(cupy.asarray(wins), prior_sd=1.0)
    assert fit.status.get().tolist() == [0, 2, 0]
    with pytest.raises(ValueError, match="softmax: temperature = 0, it must be finite and above"):
        softmap.softmax(cupy.asarray(X), temperature=0)
    bad = np.where(np.eye(3, k=1) > 0, -1.0, ANCHORS)
    preferences = cupy.asarray(ROWS[:, :3] / 2)
    r = softmap.score_against_anchors(preferences, cupy.asarray(bad))
    assert r.status.get().tolist() == [softmap.Status.BAD_INPUT] * 3
    for anchors, fixed in ((bad, False), (cupy.asarray(bad), True)):  # read on the host
        with pytest.raises(ValueError, match=r"anchors\[0, 1\] = -1.0, weights must be finite"):
            softmap.score_against_anchors(preferences, anchors, anchors_fixed=fixed)


def test_without_the_cuda_module(cupy, without_cuda):
    wins = cupy.asarray(WINS)
    text = "fit_many: wins is on cuda:0 and this installation has no CUDA backend; install a CUDA "
    text += "build or pass a host array, e.g. cupy.asnumpy(wins)"
    with pytest.raises(softmap.BackendMissingError) as caught:
        softmap.fit_many(wins, prior_sd=1.0)
    assert str(caught.value) == text
    assert not softmap.supports(wins, "fit_many")
    assert softmap.supports(wins, "softmax")


def test_complex_is_left_to_the_library(kernels, cupy, monkeypatch):
    special = types.ModuleType("cupyx.scipy.special")
    special.softmax = lambda x, axis: ("cupyx", axis)
    monkeypatch.setitem(sys.modules, "cupyx", types.ModuleType("cupyx"))
    monkeypatch.setitem(sys.modules, "cupyx.scipy", types.ModuleType("cupyx.scipy"))
    monkeypatch.setitem(sys.modules, "cupyx.scipy.special", special)
    assert softmap.softmax(cupy.asarray(X.astype(complex)), 1) == ("cupyx", (1,))


# Other libraries


class Producer:
    """An array of a library that is known by its protocol alone."""

    __module__ = "somewhere"

    def __init__(self, a):
        self.owner, self.shape = a, a.shape


class ByInterface(Producer):
    __cuda_array_interface__ = property(lambda self: {"version": 3})


class ByDlpack(Producer):
    def __dlpack_device__(self):
        return (2, self.owner.device.id)

    def __dlpack__(self, **options):
        raise AssertionError("left to CuPy")


class WithNamespace(ByDlpack):
    def __array_namespace__(self):
        return types.SimpleNamespace(from_dlpack=WithNamespace)


@pytest.fixture
def shared(cupy):
    cupy.from_dlpack, asarray = lambda x: x.owner, cupy.asarray
    cupy.asarray = lambda x: x.owner if isinstance(x, ByInterface) else asarray(x)
    return cupy


@pytest.mark.parametrize("kind", [ByInterface, ByDlpack])
def test_other_producers_come_out_as_cupy(kernels, shared, kind):
    result = softmap.softmax(kind(shared.asarray(X)), -1)
    check_same(kernels, result, softmap.softmax(X, -1))
    fit = softmap.fit_many(kind(shared.asarray(WINS)), prior_sd=1.0)
    check_same(kernels, fit, softmap.fit_many(WINS, prior_sd=1.0))


def test_library_of_the_array_standard_comes_out_as_it_came(kernels, shared):
    result = softmap.log_softmax(WithNamespace(shared.asarray(X)), -1)
    assert type(result) is WithNamespace
    check_same(kernels, result.owner, softmap.log_softmax(X, -1))


@pytest.mark.parametrize("kind", [ByInterface, ByDlpack])
def test_other_producers_without_cupy(kernels, cupy, kind, monkeypatch):
    x = kind(cupy.asarray(X))
    monkeypatch.setitem(sys.modules, "cupy", None)
    text = f"softmax: x is a {kind.__name__} on a GPU, which is shared with CuPy; pip install cupy-"
    with pytest.raises(softmap.BackendMissingError, match=text):
        softmap.softmax(x)


@pytest.fixture
def torch(kernels, monkeypatch):
    """torch, whose tensors of the host play those of a GPU; only streams are made up."""
    torch = pytest.importorskip("torch", reason="torch is not installed")
    stream = fake_cupy.Stream(0x33)
    stream.cuda_stream = stream.ptr
    monkeypatch.setattr(torch.cuda, "current_stream", lambda device: stream)
    on_gpu = dataclasses.replace(_arrays.TORCH, on_host=lambda x: False, on_cuda=lambda x: True)
    monkeypatch.setattr(_arrays, "TORCH", on_gpu)
    monkeypatch.setitem(_arrays._BY_MODULE, "torch", on_gpu)
    _arrays._library_of_type.cache_clear()
    yield torch
    _arrays._library_of_type.cache_clear()


@pytest.mark.parametrize("case", CALLS)
def test_operation_on_torch(kernels, torch, case):
    want = parts(CALLS[case](lambda a: a))
    result = parts(CALLS[case](torch.from_numpy))
    assert result.keys() == want.keys()
    for name, value in want.items():
        if value is None:
            assert result[name] is None
            continue
        assert isinstance(result[name], torch.Tensor), name
        got = result[name].numpy()
        assert (got.shape, got.dtype) == (np.shape(value), value.dtype), name
        if counts_steps(kernels, name):
            continue
        rtol = tolerance(kernels, got.dtype.name, name)
        np.testing.assert_allclose(got, value, rtol=rtol, atol=rtol, err_msg=str(name))
    assert {stream for _, _, stream in kernels.calls} == {0x33}


def test_torch_views_halves_and_out(kernels, torch):
    x = torch.randn(6, 8, dtype=torch.bfloat16)
    rtol = tolerance(kernels, "float32")
    for view in (x, x[::2], x[:, 1:5], x.T, x[1:].T[::3]):
        result = softmap.softmax(view, -1)
        assert result.dtype == torch.bfloat16
        want = torch.softmax(view.float(), -1)
        torch.testing.assert_close(result.float(), want, rtol=2**-8, atol=0)
        out = torch.empty(view.T.shape, dtype=torch.float32).T
        assert softmap.softmax(view.float(), -1, out=out) is out
        torch.testing.assert_close(out, want, rtol=max(rtol, 1e-6), atol=0)
    part = torch.arange(24.0).reshape(4, 6)[1:, 2:]
    turned = np.moveaxis(_device.from_torch(part), 0, 1)
    assert torch.equal(turned.unwrap(), part.T)
    negative = torch.imag(torch.ones(3, dtype=torch.complex64).conj())
    torch.testing.assert_close(softmap.softmax(negative), torch.softmax(negative, 0))
    with pytest.raises(ValueError, match="out is read-only"):
        softmap.softmax(torch.ones(3), out=negative)
    with pytest.raises(ValueError, match=r"out has strides .* its entries must lie apart"):
        softmap.softmax(torch.ones(2, 3), out=torch.ones(3).expand(2, 3))
    x = torch.randn(4, 5)
    version = x._version
    assert softmap.log_softmax(x, -1, out=x) is x
    assert x._version > version


def test_torch_refusals(kernels, torch):
    x = torch.ones(3, 4, requires_grad=True)
    with pytest.raises(TypeError, match=r"x cannot be read as an array \(it requires grad, which"):
        softmap.softmax(x)
    with torch.no_grad():
        assert not softmap.softmax(x).requires_grad
    with pytest.raises(TypeError, match=r"it is torch.sparse_coo; call .to_dense\(\) on it"):
        softmap.softmax(torch.ones(3, 4).to_sparse())
    with pytest.raises(TypeError, match=r"scores is on cpu but variance is on meta"):
        softmap.preference_matrix(
            torch.ones(3), link="probit", variance=torch.ones(3, device="meta")
        )


def test_torch_elsewhere_has_no_backend(kernels):
    torch = pytest.importorskip("torch", reason="torch is not installed")
    x = torch.ones(3, 3, device="meta")
    assert softmap.softmax(x).device.type == "meta"
    with pytest.raises(
        softmap.BackendMissingError,
        match=r"wins is on meta and this installation has no backend for it; pass .*wins.cpu\(\)$",
    ):
        softmap.fit_many(x, prior_sd=1.0)


# The rest


def test_supports_arrays_on_a_device(kernels, cupy):
    for operation in softmap.runtime._OPERATIONS:
        assert softmap.supports(cupy.asarray(X), operation)
    assert softmap.supports(cupy.asarray(X.astype(complex)), "softmax")
    assert not softmap.supports(cupy.asarray(X.astype(complex)), "fit_many")


def test_info_and_preload(kernels, monkeypatch):
    assert softmap.info()["cuda"] == 2
    softmap.preload()
    assert kernels.calls == [("preload", None, None)]
    monkeypatch.setattr(_backend, "cuda", lambda: None)
    assert softmap.info()["cuda"] is None
    softmap.preload()
