"""Array libraries: what goes in comes out, with NumPy's bits, without a copy, or not at all."""

# budget: over 400 lines: one promise after the other for each of many libraries

import dataclasses
import subprocess
import sys
import types

import numpy as np
import pytest

import softmap
from softmap import _arrays

RNG = np.random.default_rng(17)
X = RNG.normal(0, 3, (4, 5, 6))
WINS = RNG.integers(0, 9, (3, 5, 5)).astype(float)


# Libraries: an array from a NumPy one, and back. Each is skipped where it is not installed.


def load(name):
    reason = f"{name} is not installed"
    return pytest.importorskip(name, reason=reason)


def numpy_library():
    return types.SimpleNamespace(name="numpy", make=np.asarray, back=np.asarray, kind=np.ndarray)


def torch_library():
    torch = load("torch")
    return types.SimpleNamespace(
        name="torch", make=torch.from_numpy, back=lambda t: t.numpy(), kind=torch.Tensor
    )


def jax_library():
    jax = load("jax")
    jax.config.update("jax_enable_x64", True)
    return types.SimpleNamespace(
        name="jax", make=jax.numpy.asarray, back=np.asarray, kind=jax.Array
    )


def dask_library():
    da = load("dask.array")

    def make(a):  # the last axis, along which rows run, in one piece
        return da.from_array(a, chunks=tuple((n + 1) // 2 for n in a.shape[:-1]) + a.shape[-1:])

    return types.SimpleNamespace(name="dask", make=make, back=lambda x: x.compute(), kind=da.Array)


def strict_library():
    xp = load("array_api_strict")
    return types.SimpleNamespace(
        name="array_api_strict", make=xp.asarray, back=np.from_dlpack, kind=type(xp.asarray(0.0))
    )


LIBRARIES = {
    "numpy": numpy_library,
    "torch": torch_library,
    "jax": jax_library,
    "dask": dask_library,
    "array_api_strict": strict_library,
}


@pytest.fixture(params=LIBRARIES)
def library(request):
    return LIBRARIES[request.param]()


@pytest.fixture(params=[name for name in LIBRARIES if name != "dask"])
def eager(request):
    return LIBRARIES[request.param]()


@pytest.fixture
def torch():
    return load("torch")


def parts(result):
    """The arrays of a result, by name."""
    if dataclasses.is_dataclass(result):
        return {f.name: getattr(result, f.name) for f in dataclasses.fields(result)}
    return dict(enumerate(result)) if isinstance(result, tuple) else {"": result}


def check_same(library, result, expected):
    """`result` is of the library; each bit, shape and dtype of it is that of NumPy's result."""
    result, expected = parts(result), parts(expected)
    assert result.keys() == expected.keys()
    for name, value in result.items():
        want = expected[name]
        if want is None:
            assert value is None
            continue
        assert isinstance(
            value, library.kind if np.ndim(want) or library.name != "numpy" else np.generic
        )
        back = library.back(value)
        assert back.dtype == want.dtype, name
        assert np.shape(back) == np.shape(want), name
        if want.dtype.kind == "c":  # sums of NumPy, in an order that depends on the layout
            np.testing.assert_allclose(back, want, rtol=1e-14, err_msg=str(name))
        elif library.name == "dask" and want.dtype.kind == "f":  # fewer rows at a time: last bits
            eps = max(float(np.finfo(want.dtype).eps), 2.0**-50)
            np.testing.assert_allclose(back, want, rtol=4 * eps, err_msg=str(name))
        else:
            np.testing.assert_array_equal(back, want, err_msg=str(name))


# The same results


AXES = [None, -1, (0, 2), (-1, 1), ()]


@pytest.mark.parametrize("dtype", ["float64", "float32", "int64", "complex128"])
@pytest.mark.parametrize("name", ["softmax", "log_softmax", "logsumexp"])
def test_function_keeps_the_library(library, name, dtype):
    function = getattr(softmap, name)
    x = X.astype(dtype)
    for axis in AXES:
        y = library.make(x)
        if library.name == "dask":
            y = y.rechunk(dict.fromkeys(range(3) if axis is None else np.atleast_1d(axis), -1))
        check_same(library, function(y, axis), function(x, axis))


@pytest.mark.parametrize("name", ["softmax", "log_softmax", "logsumexp"])
def test_function_takes_constants_of_numpy_and_of_the_library(library, name):
    function = getattr(softmap, name)
    temperature = RNG.uniform(0.5, 2, (4, 5))
    want = function(X, -1, temperature=temperature)
    for t in (temperature, temperature[..., None], temperature.tolist(), library.make(temperature)):
        check_same(library, function(library.make(X), -1, temperature=t), want)
    want = function(X, -1, temperature=0.5, n_threads=1, dtype="float32")
    result = function(library.make(X), -1, temperature=0.5, n_threads=1, dtype="float32")
    check_same(library, result, want)


def test_logsumexp_options_keep_the_library(library):
    b = RNG.normal(size=(5, 6))
    where = b > -1
    for options in (
        {"b": b},
        {"b": b, "return_sign": True},
        {"b": b, "return_sign": True, "keepdims": True, "where": where},
        {"keepdims": True},
        {"where": where},
        {"b": 2.0},
    ):
        want = softmap.logsumexp(X, -1, **options)
        check_same(library, softmap.logsumexp(library.make(X), -1, **options), want)
        options.update((k, library.make(v)) for k, v in options.items() if np.ndim(v))
        check_same(library, softmap.logsumexp(library.make(X), -1, **options), want)


@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_level_scores_keeps_the_library(library, dtype):
    x = X.astype(dtype)
    for tokens, options in (
        ([0, 2, 5], {}),
        ([[0, 1], [2], [5]], {"mass": True}),
        ([0, 2, 5], {"mode": True, "probabilities": False}),
        (np.array([0, 2, 5]), {"temperature": RNG.uniform(0.5, 2, (4, 5))}),
    ):
        want = softmap.level_scores(x, tokens, [1, 2, 3], **options)
        check_same(
            library, softmap.level_scores(library.make(x), tokens, [1, 2, 3], **options), want
        )
        levels = library.make(np.array([1.0, 2, 3])) if library.name != "dask" else [1, 2, 3]
        check_same(library, softmap.level_scores(library.make(x), tokens, levels, **options), want)


@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_row_statistics_keeps_the_library(library, dtype):
    x, weights = X.astype(dtype), np.arange(6.0)
    for options in (
        {},
        {"target": 3},
        {"target": RNG.integers(0, 6, (4, 5)), "error_norm": True},
        {"weights": weights},
        {"temperature": RNG.uniform(0.5, 2, (4, 5)), "target": 0, "weights": weights},
    ):
        want = softmap.row_statistics(x, **options)
        check_same(library, softmap.row_statistics(library.make(x), **options), want)


def test_row_filter_keeps_the_library(library):
    for rule, amount in (("top_k", 2), ("typical", RNG.uniform(0.2, 0.8, (4, 5)))):
        want = softmap.row_filter(X, rule, amount)
        check_same(library, softmap.row_filter(library.make(X), rule, amount), want)


def test_row_root_keeps_the_library(library):
    for function, target in (("sigmoid_sum", 2.5), ("divergence", RNG.uniform(0.2, 0.8, (4, 5)))):
        want = softmap.row_root(X, function, target)
        check_same(library, softmap.row_root(library.make(X), function, target), want)


def test_partial_sums_keep_the_library(library):
    a = softmap.logsumexp_partial(X)
    b = softmap.logsumexp_partial(library.make(X))
    check_same(library, b, a)
    check_same(library, softmap.merge_partials(b, b), softmap.merge_partials(a, a))
    check_same(
        library, softmap.merge_partials((1.5, 3.0), b), softmap.merge_partials((1.5, 3.0), a)
    )
    check_same(library, softmap.partial_to_logsumexp(*b), softmap.partial_to_logsumexp(*a))


def test_pairwise_functions_keep_the_library(eager):
    s, wins = X[:, 0, :5], RNG.integers(0, 9, (4, 5, 5)).astype(float)
    t, tables = eager.make(s), eager.make(wins)
    check_same(eager, softmap.preference(t, 0.5), softmap.preference(s, 0.5))
    check_same(eager, softmap.preference(0.5, t), softmap.preference(0.5, s))
    check_same(eager, softmap.preference_matrix(t), softmap.preference_matrix(s))
    for gradient in (False, True):
        want = softmap.log_likelihood(s, wins, gradient=gradient)
        check_same(eager, softmap.log_likelihood(t, tables, gradient=gradient), want)
    for options in ({}, {"standard_errors": True, "link": "probit"}):
        want = softmap.fit_many(wins, prior_sd=1.0, **options)
        check_same(eager, softmap.fit_many(tables, prior_sd=1.0, **options), want)
        p, anchors = softmap.preference(s, 0.0), softmap.preference_matrix(s[0])
        want = softmap.score_against_anchors(p, anchors, **options)
        check_same(eager, softmap.score_against_anchors(eager.make(p), anchors, **options), want)


def test_function_of_0d(library):
    """NumPy gives scalars, the others 0-d arrays."""
    for function in (softmap.softmax, softmap.log_softmax, softmap.logsumexp):
        x = np.array(2.0)
        check_same(library, function(library.make(x)), function(x))


def test_function_of_empty(library):
    x = library.make(np.empty((3, 0)))
    if library.name != "dask":
        check_same(library, softmap.softmax(x, -1), np.empty((3, 0)))
    check_same(library, softmap.logsumexp(x, -1), np.full(3, -np.inf))


# Without a copy


def test_torch_shares_memory_both_ways(torch, monkeypatch):
    seen = []
    kernel = softmap._backend.cpu().softmax

    def spy(x, *arguments):
        result = kernel(x, *arguments)
        seen.append((x.ctypes.data, result.ctypes.data))
        return result

    monkeypatch.setattr(softmap._backend, "cpu", lambda: types.SimpleNamespace(softmax=spy))
    for dtype in (torch.float64, torch.float32, torch.float16, torch.bfloat16):
        x = torch.randn(7, 9).to(dtype).T
        y = softmap.softmax(x, -1)
        assert seen.pop() == (x.data_ptr(), y.data_ptr())
        assert (y.dtype, y.shape) == (dtype, x.shape)


def test_jax_and_array_api_input_is_not_copied():
    jax = jax_library()
    x = jax.make(np.ones((300, 400)))
    assert _arrays.JAX.to_numpy(x).ctypes.data == x.unsafe_buffer_pointer()
    strict = strict_library()
    a = np.ones(5)
    assert np.shares_memory(_arrays.library_of(strict.make(a)).to_numpy(strict.make(a)), a)


@pytest.mark.parametrize("dtype", ["float64", "float32", "float16", "bfloat16"])
@pytest.mark.parametrize("name", ["softmax", "log_softmax"])
def test_out_of_torch(torch, name, dtype):
    function, dtype = getattr(softmap, name), getattr(torch, dtype)
    x = torch.from_numpy(X).to(dtype)
    want = function(x, -1)
    out = torch.empty_like(x)
    assert function(x, -1, out=out) is out
    assert torch.equal(out, want)
    assert out._version == 1  # autograd knows that it has changed
    strided = torch.empty(5, 6, 4, dtype=dtype).permute(2, 0, 1)
    assert torch.equal(function(x, -1, out=strided), want)
    wide = function(x.to(torch.promote_types(dtype, torch.float32)), -1).float()
    assert torch.equal(function(x, -1, out=torch.empty(X.shape)), wide)
    inplace = x.clone()
    assert torch.equal(function(inplace, -1, out=inplace), want)
    score = torch.empty(4, 5, dtype=dtype)
    result = softmap.level_scores(x, [0, 1], [0, 1], out=score)
    assert result.score is score
    assert torch.equal(score, softmap.level_scores(x, [0, 1], [0, 1]).score.to(dtype))


def test_out_of_array_api_strict():
    strict = strict_library()
    out = strict.make(np.empty(X.shape))
    assert softmap.softmax(strict.make(X), -1, out=out) is out
    check_same(strict, out, softmap.softmax(X, -1))


def test_out_of_preference_matrix(torch):
    out = torch.empty(4, 4)
    s = torch.tensor([0.0, 1.0, 2.0, 4.0])
    assert softmap.preference_matrix(s, out=out) is out
    assert torch.equal(out, softmap.preference_matrix(s))


# bfloat16


def test_bfloat16_of_torch_needs_no_other_package(torch):
    """Torch's bits are read as they are: a process without ml_dtypes gets the same results."""
    code = """
import sys, torch, softmap
x = torch.linspace(-3, 3, 40).reshape(8, 5).bfloat16()
options = dict(temperature=torch.linspace(0.5, 2, 8).bfloat16())
results = [f(x, -1, **o) for f in (softmap.softmax, softmap.log_softmax, softmap.logsumexp)
           for o in ({}, options, {"dtype": torch.float32})]
b = torch.ones(5, dtype=torch.bfloat16)
results += softmap.logsumexp(x, -1, b=b, return_sign=True)
results += [softmap.softmax(x.float(), -1, dtype=torch.bfloat16), softmap.softmax(x[0, 0])]
results += [softmap.level_scores(x, None, b).score, softmap.row_statistics(x, weights=b).variance]
results += [*softmap.logsumexp_partial(x)]
print([(str(r.dtype), r.double().sum().item()) for r in results], "ml_dtypes" in sys.modules)
"""
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stderr
    assert run.stdout.endswith("False\n"), run.stdout


def test_bfloat16_of_torch_has_the_bits_of_ml_dtypes(torch):
    ml_dtypes = load("ml_dtypes")
    bits = RNG.normal(0, 5, (9, 33)).astype(ml_dtypes.bfloat16).view(np.int16)
    x, t = bits.view(ml_dtypes.bfloat16), torch.from_numpy(bits).view(torch.bfloat16)
    for name in ("softmax", "log_softmax", "logsumexp"):
        for axis in (0, 1, None):
            got = getattr(softmap, name)(t, axis)
            want = getattr(softmap, name)(x, axis)
            assert got.dtype == torch.bfloat16
            np.testing.assert_array_equal(got.view(torch.int16).numpy(), want.view(np.int16))
    for got, want in zip(
        softmap.logsumexp(t, 1, b=-2.0 * np.ones(33), return_sign=True),
        softmap.logsumexp(x, 1, b=-2.0 * np.ones(33), return_sign=True),
        strict=True,
    ):
        np.testing.assert_array_equal(got.numpy(), want)


def test_bfloat16_conversion_rounds_as_torch(torch):
    x = RNG.integers(0, 2**32, 10**5, np.uint32).view(np.float32)
    got = softmap._check.converted(x, _arrays.BFLOAT16)
    want = torch.from_numpy(x).bfloat16()
    got_bits, want_bits = got["bfloat16"], want.view(torch.int16).numpy().view(np.uint16)
    ordinary = ~np.isnan(x)
    np.testing.assert_array_equal(got_bits[ordinary], want_bits[ordinary])
    back = softmap._check.converted(got, np.float32)
    np.testing.assert_array_equal(back, want.float().numpy())


def test_bfloat16_and_float16_of_jax():
    jax = jax_library()
    for dtype in ("bfloat16", "float16"):
        x = jax.make(X).astype(dtype)
        want = softmap.softmax(np.asarray(x), -1)
        result = softmap.softmax(x, -1)
        assert result.dtype == dtype
        np.testing.assert_array_equal(np.asarray(result), want)


# dtypes of other libraries


def test_dtype_of_torch(torch):
    x = torch.from_numpy(X)
    for dtype in (torch.float32, torch.float16, torch.bfloat16, "float32", np.float32):
        y = softmap.softmax(x, -1, dtype=dtype)
        assert str(y.dtype).endswith(
            str(np.dtype(dtype) if not isinstance(dtype, torch.dtype) else dtype)
        )
        assert torch.equal(y, softmap.softmax(x, -1).to(y.dtype))
    with pytest.raises(TypeError, match=r"dtype = torch.int32, it must be floating"):
        softmap.softmax(x, dtype=torch.int32)


def test_integers_beside_floats_are_weak_in_torch(torch):
    a, b = torch.tensor([1.0, 2.0]), torch.tensor([1, 2])
    assert softmap.logsumexp(a, b=b).dtype == torch.float32
    assert softmap.logsumexp(b, b=a).dtype == torch.float32
    assert softmap.logsumexp(a.numpy(), b=b.numpy()).dtype == np.float64


# Dask


def test_dask_is_lazy():
    da = load("dask.array")

    def fail(block):
        raise AssertionError("computed")

    x = da.from_array(X, chunks=(2, 5, 6)).map_blocks(fail, dtype=X.dtype, meta=np.empty((0, 0, 0)))
    lazy = [softmap.softmax(x, -1), softmap.logsumexp(x, (1, 2), keepdims=True)]
    lazy += [*softmap.logsumexp(x, -1, b=x, return_sign=True)]
    lazy += [v for v in parts(softmap.level_scores(x, None, range(6))).values() if v is not None]
    lazy += [v for v in parts(softmap.row_statistics(x, target=1)).values() if v is not None]
    lazy += [softmap.row_filter(x, "top_p", 0.5)]
    lazy += softmap.merge_partials(softmap.logsumexp_partial(x), softmap.logsumexp_partial(x))
    assert all(isinstance(y, da.Array) for y in lazy)
    assert lazy[0].chunks == x.chunks
    assert lazy[1].shape == (4, 1, 1)
    for y in lazy:
        with pytest.raises(AssertionError, match="computed"):
            y.compute(scheduler="synchronous")


def test_dask_refuses_what_it_cannot_do():
    da = load("dask.array")
    x = da.from_array(X, chunks=(2, 5, 3))
    with pytest.raises(ValueError, match=r"axis 2 is split into 2 chunks .* \.rechunk\({2: -1}\)"):
        softmap.softmax(x, -1)
    softmap.softmax(x, 1)
    with pytest.raises(ValueError, match=r"temperature has shape \(3,\), it must be a number or"):
        softmap.softmax(x, 1, temperature=np.ones(3))
    with pytest.raises(ValueError, match="temperature = -1, it must be finite and above 0"):
        softmap.softmax(x, 1, temperature=-1)
    with pytest.raises(TypeError, match="out is given, but the result for a Dask array is lazy"):
        softmap.softmax(x, 1, out=x)
    with pytest.raises(TypeError, match=r"scores cannot be read .* call \.compute\(\) on it"):
        softmap.preference_matrix(x)
    with pytest.raises(ValueError, match="levels has length 3 but tokens has 2 members"):
        softmap.level_scores(x[..., :3], [0, 1], [1, 2, 3])


# Errors of torch and JAX


@pytest.mark.filterwarnings("ignore:.torch.jit.script. is deprecated:DeprecationWarning")
def test_torch_gradients_are_never_cut(torch):
    x = torch.ones(3, requires_grad=True)
    for f in (softmap.softmax, softmap.logsumexp_partial, softmap.row_statistics):
        with pytest.raises(TypeError, match=r"it requires grad, .* call \.detach\(\) on it"):
            f(x)
    with pytest.raises(TypeError, match="requires grad"):
        softmap.softmax(x.detach(), out=x)
    with pytest.raises(TypeError, match="requires grad"):
        softmap.preference(x, 0.0)
    with pytest.raises(TypeError, match="cannot be read as an array"):
        torch.func.grad(lambda t: softmap.logsumexp(t))(torch.ones(3))
    with torch.autograd.forward_ad.dual_level():
        dual = torch.autograd.forward_ad.make_dual(torch.ones(3), torch.ones(3))
        with pytest.raises(TypeError, match="it has a forward gradient"):
            softmap.softmax(dual)
    with torch.no_grad():  # nothing to cut
        assert torch.equal(softmap.softmax(x), softmap.softmax(x.detach()))
    with torch.inference_mode():
        y = torch.ones(3)
        assert torch.equal(softmap.softmax(y, out=y), torch.full((3,), 1 / 3))


def test_torch_saved_for_backward_is_protected(torch):
    w, y = torch.ones(3, requires_grad=True), torch.ones(3)
    loss = (w * y).sum()
    softmap.softmax(torch.ones(3), out=y)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        loss.backward()


def test_torch_views_are_resolved(torch):
    z = torch.tensor([1 + 2j, 3 + 4j])
    negative = torch.imag(z.conj())
    assert negative.is_neg()
    assert torch.equal(softmap.softmax(negative), softmap.softmax(torch.tensor([-2.0, -4.0])))
    assert torch.equal(softmap.logsumexp(z.conj()), softmap.logsumexp(z.conj().resolve_conj()))
    with pytest.raises(TypeError, match="out is a view that cannot be written to in place"):
        softmap.softmax(torch.ones(2), out=negative)


def test_torch_subclasses_and_odd_tensors(torch):
    parameter = torch.nn.Parameter(torch.ones(2), requires_grad=False)
    assert type(softmap.softmax(parameter)) is torch.Tensor
    with pytest.raises(TypeError, match="cannot be read as an array"):
        softmap.softmax(torch.ones(3).to_sparse())
    with pytest.raises(TypeError, match="cannot be read as an array"):
        softmap.softmax(torch.ones(3).to(torch.float8_e4m3fn))


def test_jax_tracer_is_refused():
    jax = load("jax")
    x = jax.numpy.ones(3)
    for transform in (jax.jit, jax.vmap, lambda f: jax.grad(lambda x: f(x).sum())):
        with pytest.raises(TypeError, match=r"it is a tracer of jax.jit, grad or vmap"):
            transform(softmap.softmax)(x)
    with pytest.raises(ValueError, match="out is read-only"):
        softmap.softmax(x, out=x)


# Mixed libraries


def test_mixed_libraries_are_refused(torch):
    strict = strict_library()
    t, s = torch.ones(3), strict.make(np.ones(3))
    for call, message in (
        (lambda: softmap.softmax(t, out=np.ones(3)), "x is a torch.Tensor but out is a numpy.nd"),
        (lambda: softmap.softmax(np.ones(3), out=t), "x is a numpy.ndarray but out is a torch.Ten"),
        (lambda: softmap.softmax([1.0], out=t), "x is a list but out is a torch.Tensor"),
        (lambda: softmap.softmax(t, out=s), "x is a torch.Tensor but out is a array_api_strict"),
        (lambda: softmap.softmax(t, (), temperature=s), "but temperature is a array_api_strict"),
        (lambda: softmap.logsumexp(t, b=s), "a is a torch.Tensor but b is a array_api_strict"),
        (lambda: softmap.logsumexp(s, where=t), "a is a array_api_strict._array_object.Array but"),
        (lambda: softmap.level_scores(t, None, s), "logits is a torch.Tensor but levels is a arr"),
        (lambda: softmap.row_statistics(np.ones(3), weights=t), "x is a numpy.ndarray but weig"),
        (lambda: softmap.preference(t, s), "a is a torch.Tensor but b is a array_api_strict"),
        (lambda: softmap.log_likelihood(t, s), "scores is a torch.Tensor but wins is a array_api"),
        (lambda: softmap.fit_many(t, prior_sd=s), "wins is a torch.Tensor but prior_sd is a arr"),
        (lambda: softmap.softmax(t, out=torch.ones(3, device="meta")), "x is on cpu but out is on"),
    ):
        with pytest.raises(TypeError, match=message):
            call()


# Devices


def test_torch_on_a_device_is_left_to_torch(torch, without_cuda):
    x = torch.ones(3, 4, 5, device="meta")
    for axis in (None, -1, (0, 2), ()):
        assert softmap.softmax(x, axis).shape == x.shape
        assert softmap.softmax(x, axis).device.type == "meta"
        for keepdims in (False, True):
            want = softmap.logsumexp(np.ones((3, 4, 5)), axis, keepdims=keepdims).shape
            assert softmap.logsumexp(x, axis, keepdims=keepdims).shape == want
    for call in (
        lambda: softmap.softmax(x, dtype="float32"),
        lambda: softmap.softmax(x, out=x),
        lambda: softmap.logsumexp(x, b=x),
        lambda: softmap.level_scores(x, None, range(5)),
        lambda: softmap.row_statistics(x),
        lambda: softmap.logsumexp_partial(x),
        lambda: softmap.preference(x, x),
        lambda: softmap.fit_many(x, prior_sd=1.0),
    ):
        with pytest.raises(softmap.BackendMissingError, match="has no CUDA backend"):
            call()
    with pytest.raises(np.exceptions.AxisError, match="axis 3 is out of range"):
        softmap.softmax(x, 3)
    with pytest.raises(ValueError, match="temperature = 0, it must be finite"):
        softmap.softmax(x, temperature=0)


@pytest.mark.parametrize("name", ["softmax", "log_softmax", "logsumexp"])
def test_functions_of_a_library_give_the_same(name):
    """What an array on a device would get, shown on the host."""
    torch, jax = torch_library(), jax_library()
    t = RNG.uniform(0.5, 2, (4, 6))
    for axes in ((0, 1, 2), (1,), (0, 2), ()):
        for temperature in (0.7, t if axes == (1,) else 1.5):
            options = {"keepdims": True} if name == "logsumexp" else {}
            want = getattr(softmap, name)(X, axes, temperature=temperature, **options)
            for library in (torch, jax):
                if library is jax and not axes:
                    continue
                x = library.make(X)
                got = _arrays.by_its_library(name, x, axes, temperature, True)
                np.testing.assert_allclose(library.back(got), want, rtol=1e-13, atol=1e-13)


def test_cupy_is_left_to_cupyx(monkeypatch, without_cuda):
    """With stand-ins: a module that records the call."""

    class Array:
        shape, ndim, dtype, device = (2, 3), 2, np.dtype("f4"), "device 0"

        def __truediv__(self, other):
            calls.append(other)
            return self

    Array.__module__, Array.__qualname__ = "cupy", "ndarray"
    calls, x = [], Array()
    special = types.ModuleType("cupyx.scipy.special")
    for name in ("softmax", "log_softmax", "logsumexp"):
        setattr(special, name, lambda x, name=name, **options: (name, options))
    monkeypatch.setitem(sys.modules, "cupyx", types.ModuleType("cupyx"))
    monkeypatch.setitem(sys.modules, "cupyx.scipy", types.ModuleType("cupyx.scipy"))
    monkeypatch.setitem(sys.modules, "cupyx.scipy.special", special)
    cupy = types.ModuleType("cupy")
    cupy.asarray = np.asarray
    monkeypatch.setitem(sys.modules, "cupy", cupy)
    assert softmap.softmax(x, -1) == ("softmax", {"axis": (1,)})
    assert softmap.log_softmax(x, temperature=2) == ("log_softmax", {"axis": (0, 1)})
    assert softmap.logsumexp(x, 0) == ("logsumexp", {"axis": (0,), "keepdims": False})
    softmap.softmax(x, 1, temperature=[1.0, 2.0])
    assert calls[:3] == [1.0, 2.0, 1.0]
    np.testing.assert_array_equal(calls[3], [[1.0], [2.0]])
    for call in (
        lambda: softmap.softmax(x, dtype="f4"),
        lambda: softmap.logsumexp(x, return_sign=True),
        lambda: softmap.level_scores(x, None, [1, 2, 3]),
        lambda: softmap.preference(x, x),
    ):
        with pytest.raises(softmap.BackendMissingError, match="is on cuda:"):
            call()
    with pytest.raises(TypeError, match=r"a is a numpy.ndarray but b is a cupy.ndarray"):
        softmap.logsumexp(np.ones(2), b=x)
    assert softmap.supports(x)
    assert not softmap.supports(x, "level_scores")


def test_cupy_array_without_cupyx_is_a_clear_error(without_cuda):
    array = type("ndarray", (), {"__module__": "cupy", "shape": (2,), "ndim": 1})
    with pytest.raises(softmap.BackendMissingError, match="softmax: needs cupyx; pip install cupy"):
        softmap.softmax(array())


# Frames


def test_frames_in_arrays_out():
    pd = load("pandas")
    frame = pd.DataFrame({"a": [1.0, 2.0], "b": [3.0, 5.0]}, index=["x", "y"])
    for name in ("softmax", "log_softmax", "logsumexp"):
        function = getattr(softmap, name)
        result = function(frame, 1)
        assert type(result) is np.ndarray
        np.testing.assert_array_equal(result, function(frame.to_numpy(), 1))
        np.testing.assert_array_equal(function(frame["a"]), function([1.0, 2.0]))
    with pytest.raises(TypeError, match="x has dtype"):
        softmap.softmax(pd.Series(["a", "b"]))


def test_polars_in_arrays_out():
    pl = load("polars")
    assert type(softmap.softmax(pl.Series([1.0, 2.0]))) is np.ndarray
    np.testing.assert_array_equal(
        softmap.softmax(pl.DataFrame({"a": [1.0], "b": [2.0]}), 1), softmap.softmax([[1.0, 2.0]], 1)
    )


# supports


def test_supports(library):
    x = library.make(X)
    for operation in ("softmax", "log_softmax", "logsumexp", "level_scores", "row_statistics"):
        assert softmap.supports(x, operation)
    for operation in ("preference", "fit_many", "score_against_anchors"):
        assert softmap.supports(x, operation)
    for operation in ("preference_matrix", "log_likelihood"):
        assert softmap.supports(x, operation) == (library.name != "dask")
    z = library.make(X.astype(complex))
    assert softmap.supports(z)
    assert not softmap.supports(z, "row_statistics")


def test_supports_nothing_else(torch):
    for x in ("a", None, np.ma.ones(3), X.view("m8[s]"), [object()], [[1], [1, 2]]):
        assert not softmap.supports(x)
    assert softmap.supports([1, 2])
    assert not softmap.supports(torch.ones(3, requires_grad=True))
    assert softmap.supports(torch.ones(3, device="meta"))
    assert not softmap.supports(torch.ones(3, device="meta"), "row_statistics")
    with pytest.raises(
        ValueError, match="operation = 'sotfmax', it must be one of softmax, log_so"
    ):
        softmap.supports(X, "sotfmax")


def test_import_loads_no_array_library():
    names = "torch, jax, dask, array_api_strict, pandas, polars, ml_dtypes, cupy, scipy"
    code = "import sys, softmap; softmap.softmax([1]);"
    code += f"print([n for n in '{names}'.split(', ') if n in sys.modules])"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout == "[]\n"


# Torch's own samples


@pytest.mark.nightly
def test_opinfo_samples_of_torch(torch):
    load("expecttest")
    from torch.testing._internal.common_methods_invocations import op_db

    counts = dict.fromkeys(["softmax", "log_softmax", "logsumexp"], 0)
    for op in op_db:
        if op.name not in counts or op.variant_test_name:
            continue
        for dtype in (torch.float64, torch.float32, torch.float16, torch.bfloat16):
            if dtype not in op.supported_dtypes("cpu"):
                continue
            for sample in op.sample_inputs("cpu", dtype):
                # Torch's own float16 loses digits of log_softmax near 0.
                want = op(sample.input.double(), *sample.args, **sample.kwargs).to(dtype)
                axis, *rest = sample.args
                options = dict(zip(["keepdims"], rest, strict=False))
                options |= {{"keepdim": "keepdims"}.get(k, k): v for k, v in sample.kwargs.items()}
                if sample.input.ndim == 0:
                    axis = None  # torch allows axis 0 there
                got = getattr(softmap, op.name)(sample.input, axis, **options)
                torch.testing.assert_close(got, want)
                counts[op.name] += 1
    print(counts)
    assert all(n >= 20 for n in counts.values()), counts
