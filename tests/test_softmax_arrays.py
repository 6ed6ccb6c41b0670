"""The softmax family and its arrays: axes, layouts, dtypes, out=, and the errors."""

# budget: over 400 lines: a test a layout and an error

import itertools

import numpy as np
import pytest
import scipy.special

import softmap

MAPS = {"softmax": softmap.softmax, "log_softmax": softmap.log_softmax}
FUNCTIONS = MAPS | {"logsumexp": softmap.logsumexp}
each_map = pytest.mark.parametrize("name", MAPS)
each_function = pytest.mark.parametrize("name", FUNCTIONS)
each_dtype = pytest.mark.parametrize("dtype", ["float32", "float64", "float16"])


def normal(*shape, dtype="float64", seed=0):
    return np.random.default_rng(seed).normal(0, 5, shape).astype(dtype)


# Axes


@each_dtype
@each_function
def test_function_reduces_any_axes(backend, name, dtype):
    x = normal(2, 3, 4, 5, dtype=dtype)
    sets = [c for k in range(5) for c in itertools.permutations(range(4), k)]
    for axis in [None, *range(-4, 4), *sets, (-1, 0), [1, 2], np.int64(2)]:
        pair = tuple(axis) if isinstance(axis, list) else axis
        want = getattr(scipy.special, name)(x.astype(np.float64), pair)
        got = FUNCTIONS[name](x, axis)
        assert got.dtype == dtype
        assert np.shape(got) == np.shape(want)
        tolerance = 2 * np.finfo(dtype).eps
        np.testing.assert_allclose(got, want, rtol=tolerance, atol=tolerance)


def test_logsumexp_keeps_axes(backend):
    x = normal(2, 3, 4)
    for axis in (None, 0, -1, (0, 2), ()):
        want = np.sum(x, axis=axis, keepdims=True).shape
        assert softmap.logsumexp(x, axis, keepdims=True).shape == want
        assert softmap.logsumexp(x.tolist(), axis, keepdims=True).shape == want


@each_function
def test_function_of_0d_is_a_scalar(backend, name):
    function, want = FUNCTIONS[name], {"softmax": 1, "log_softmax": 0, "logsumexp": 3}[name]
    for x, dtype in [
        (3, "float64"), (3.0, "float64"), (np.int8(3), "float64"), (np.float64(3), "float64"),
        (np.float32(3), "float32"), (np.float16(3), "float16"), (np.longdouble(3), "longdouble"),
        (np.array(3.0), "float64"), (np.array(3, "f4"), "float32"),
    ]:  # fmt: skip
        result = function(x)
        assert isinstance(result, np.generic)
        assert result.dtype == dtype
        assert result == want
    assert isinstance(softmap.logsumexp(normal(3)), np.float64)


@each_function
def test_function_takes_up_to_64_dimensions(backend, name):
    x = normal(*(1,) * 62, 3, 2)
    got = FUNCTIONS[name](x, axis=(-2, -1)).ravel()
    np.testing.assert_array_equal(got, np.ravel(FUNCTIONS[name](x.ravel())))


# Layouts


def layouts(x):
    """The same numbers, differently laid out in memory."""
    wide = np.zeros((*x.shape[:-1], 3 * x.shape[-1]), x.dtype)
    wide[..., 1::3] = x
    yield "strided", wide[..., 1::3]
    yield "F-order", np.asfortranarray(x)
    yield "reversed", x[..., ::-1].copy()[..., ::-1]
    yield "transposed", np.ascontiguousarray(x.T).T
    yield "other byte order", x.astype(x.dtype.newbyteorder())
    record = np.zeros(x.shape, [("pad", "i1"), ("x", x.dtype)])
    record["x"] = x
    yield "misaligned", record["x"]
    fixed = x.copy()
    fixed.flags.writeable = False
    yield "read-only", fixed
    yield "subclass", x.view(type("Sub", (np.ndarray,), {}))
    yield "list", x.tolist()


@each_dtype
@each_function
def test_function_does_not_depend_on_layout(backend, name, dtype):
    """To the last bit, but for rows of more than 16 numbers that lie side by side."""
    eps = np.finfo(dtype).eps
    for shape, axis, rtol in [
        ((7, 16), -1, 0),
        ((7, 33), -1, 8 * eps),
        ((7, 33), 0, 0),
        ((5, 6, 7), 1, 0),
        ((5, 6, 7), (0, 2), 0),
        ((9,), None, 0),
    ]:
        x = normal(*shape, dtype=dtype)
        want = FUNCTIONS[name](x, axis)
        for what, y in layouts(x):
            if what == "list" and dtype != "float64":
                continue
            got = FUNCTIONS[name](y, axis)
            assert type(got) is type(want), what
            assert got.dtype == want.dtype, what
            np.testing.assert_allclose(got, want, rtol=rtol, atol=0, err_msg=what)


@each_function
def test_function_of_a_broadcast_array(backend, name):
    x = np.broadcast_to(normal(5, 1), (3, 5, 4))
    for axis in (0, 1, 2, (0, 2)):
        want = FUNCTIONS[name](x.copy(), axis)
        np.testing.assert_array_equal(FUNCTIONS[name](x, axis), want)


@each_function
def test_function_leaves_its_input_alone(backend, name):
    x = normal(20, 30)
    before = x.copy()
    for axis in (0, 1, None):
        FUNCTIONS[name](x, axis)
        FUNCTIONS[name](x, axis, temperature=2.0)
        np.testing.assert_array_equal(x, before)


# Dtypes


@pytest.mark.parametrize("dtype", ["?", "i1", "u1", "i2", "u2", "i4", "u4", "i8", "u8", ">i4"])
@each_function
def test_integers_and_bool_compute_in_float64(backend, name, dtype):
    x = np.random.default_rng(1).integers(0, 100, (4, 5)).astype(dtype)
    got = FUNCTIONS[name](x, axis=1)
    assert got.dtype == np.float64
    np.testing.assert_array_equal(got, FUNCTIONS[name](x.astype("f8"), axis=1))


@pytest.mark.parametrize("dtype", ["longdouble", "complex64", "complex128"])
@each_function
def test_long_double_and_complex_agree_with_scipy(name, dtype):
    x = normal(4, 5, dtype=dtype)
    if dtype.startswith("c"):
        x = x + 1j * normal(4, 5, dtype=x.real.dtype, seed=1)
    got, want = FUNCTIONS[name](x, axis=1), getattr(scipy.special, name)(x, axis=1)
    assert got.dtype == want.dtype
    np.testing.assert_allclose(got, want, rtol=20 * np.finfo(dtype).eps)


def test_long_double_log_softmax_keeps_small_values():
    tail = np.array([0, -60], "longdouble")
    np.testing.assert_allclose(softmap.log_softmax(tail), [-np.exp(tail[1]), -60], rtol=1e-15)


@each_map
def test_map_converts_to_dtype(backend, name):
    x = normal(4, 5)
    for dtype in ("f2", "f4", "f8", "longdouble", ">f4", np.float32):
        got = MAPS[name](x, axis=1, dtype=dtype)
        assert got.dtype == dtype
        np.testing.assert_array_equal(got, MAPS[name](x, axis=1).astype(dtype))
        assert softmap.logsumexp(x, 1, dtype=dtype).dtype == dtype
    assert MAPS[name](x.astype("f4"), dtype="f8").dtype == np.float64


def test_results_beyond_a_dtype_give_no_warning():
    assert softmap.logsumexp([1e5], dtype="f2") == np.inf
    np.testing.assert_array_equal(
        softmap.log_softmax(np.array([60000, -60000], "f2")), np.array([0, -np.inf], "f2")
    )
    out = softmap.log_softmax([0.0, -1e300], out=np.empty(2, "f4"))
    np.testing.assert_array_equal(out, np.array([0, -np.inf], "f4"))


# out=


@each_dtype
@each_map
def test_out_receives_the_result(backend, name, dtype):
    x = normal(6, 35, dtype=dtype)
    for axis in (0, 1, None):
        want = MAPS[name](x, axis)
        for _, out in layouts(np.zeros_like(x)):
            if isinstance(out, np.ndarray) and out.flags.writeable:
                assert MAPS[name](x, axis, out=out) is out
                np.testing.assert_array_equal(out, want)
        out = np.empty(x.shape, dtype)
        assert MAPS[name](x.tolist(), axis, out=out) is out
        assert MAPS[name](x, axis, temperature=2, out=out) is out
        np.testing.assert_array_equal(out, MAPS[name](x, axis, temperature=2))


@pytest.mark.parametrize("shape", [(12, 37), (40, 2000)])
@each_map
def test_out_may_be_the_input(backend, name, shape):
    for axis, order in itertools.product((0, 1, None), "CF"):
        x = np.array(normal(*shape), order=order)
        want = MAPS[name](x, axis)
        assert MAPS[name](x, axis, out=x) is x
        np.testing.assert_array_equal(x, want)


@pytest.mark.parametrize("shape", [(30, 30), (300, 300)])
@each_map
def test_out_may_overlap_the_input(backend, name, shape):
    for axis in (0, 1, None):
        s = np.s_
        for take, put in [
            (s[:-1], s[1:]), (s[1:], s[:-1]), (s[:], s[::-1]),
            (s[:, :-1], s[:, 1:]), (s[:, 1:], s[:, :-1]), (s[:], s[:, ::-1]),
        ]:  # fmt: skip
            x = normal(*shape)
            want = MAPS[name](x[take].copy(), axis)
            got = MAPS[name](x[take], axis, out=x[put])
            np.testing.assert_array_equal(got, want)
        x = normal(*shape)
        want = MAPS[name](x.copy(), axis)
        np.testing.assert_array_equal(MAPS[name](x, axis, out=x.T), want)
    x = normal(1001)
    want = MAPS[name](x[:-1].copy())
    np.testing.assert_array_equal(MAPS[name](x[:-1], out=x[1:]), want)


@each_map
def test_out_may_have_gaps(backend, name):
    room = np.zeros((5, 9, 7))
    x = normal(2, 3, 1)
    want = MAPS[name](x, 1)
    for out in (room[::-3, 1:8:3, 2:3], room.T[:2, ::4, :1], room[3:, 6:, ::9]):
        assert MAPS[name](x, 1, out=out) is out
        np.testing.assert_array_equal(out, want)


# Errors


def one_place(*strides):
    """A writeable view of shape (2, 3), some of whose entries share memory."""
    return np.lib.stride_tricks.as_strided(np.zeros(6), (2, 3), strides)


class Unsupported:
    """An array of a library that is not supported."""

    __module__ = "tensorflow"
    shape = ()

    def __array__(self, dtype=None, copy=None):
        raise AssertionError("must not be converted silently")


class OnGpu:
    __module__ = "numba"
    __cuda_array_interface__ = None


class Series:
    """As a pandas Series: not an array, but readable as one."""

    def __array__(self, dtype=None, copy=None):
        return np.array([1.0, 2.0])


NUMBER = "it must be boolean, integer or floating"
READ_ONLY = np.broadcast_to(np.float64(0), (2, 3))
HINT = "it must be an integer, a tuple of integers or None"
X = np.zeros((2, 3))


@pytest.mark.parametrize(
    ("options", "error", "text"),
    [
        ({"x": np.array([1, None])}, TypeError, f"x has dtype object, {NUMBER}"),
        ({"x": ["a", "b"]}, TypeError, f"x has dtype <U1, {NUMBER}"),
        ({"x": "text"}, TypeError, f"x has dtype <U4, {NUMBER}"),
        ({"x": None}, TypeError, f"x has dtype object, {NUMBER}"),
        ({"x": np.array(["2026"], "M8[Y]")}, TypeError, f"x has dtype datetime64[Y], {NUMBER}"),
        ({"x": [[1], [1, 2]]}, TypeError, "x cannot be read as an array (setting an array element"),
        ({"x": np.ma.ones(2)}, TypeError, "x is a masked array, whose mask would be ignored"),
        ({"x": X.view(np.matrix)}, TypeError, "x is a numpy.matrix; pass numpy.asarray(x)"),
        (
            {"x": Unsupported()},
            TypeError,
            "x cannot be read as an array (it is a tensorflow.Unsupported; call numpy.asarray on",
        ),
        ({"x": OnGpu()}, RuntimeError, "x is on a GPU and this installation has no CUDA backend"),
        ({"axis": 2}, np.exceptions.AxisError, "axis 2 is out of range for x of shape (2, 3)"),
        ({"axis": -3}, np.exceptions.AxisError, "axis -3 is out of range for x of shape (2, 3)"),
        ({"axis": (0, 5)}, np.exceptions.AxisError, "axis 5 is out of range for x of shape (2, 3)"),
        ({"axis": 2**70}, np.exceptions.AxisError, f"axis {2**70} is out of range for x of shape"),
        ({"axis": (1, -1)}, ValueError, "axis -1 is given twice"),
        ({"axis": "rows"}, TypeError, f"axis = 'rows', {HINT}"),
        ({"axis": 1.0}, TypeError, f"axis = 1.0, {HINT}"),
        ({"axis": np.array([0, 1])}, TypeError, f"axis = array([0, 1]), {HINT}"),
        ({"temperature": 0}, ValueError, "temperature = 0, it must be finite and above 0"),
        ({"temperature": -1.5}, ValueError, "temperature = -1.5, it must be finite and above 0"),
        ({"temperature": np.inf}, ValueError, "temperature = inf, it must be finite and above 0"),
        ({"temperature": np.nan}, ValueError, "temperature = nan, it must be finite and above 0"),
        ({"temperature": "1"}, TypeError, "temperature = '1', it must be a number"),
        ({"temperature": True}, TypeError, "temperature = True, it must be a number"),
        ({"temperature": None}, TypeError, "temperature = None, it must be a number"),
        ({"temperature": 1j}, TypeError, "temperature = 1j, it must be a number"),
        ({"axis": 1, "temperature": [1.0, 2, 3]}, ValueError,
         "temperature has shape (3,), it must be a number or have shape (2,)"),
        ({"axis": 1, "temperature": [[1.0, 2]]}, ValueError,
         "temperature has shape (1, 2), it must be a number or have shape (2,)"),
        ({"axis": 1, "temperature": ["a", "b"]}, TypeError, f"temperature has dtype <U1, {NUMBER}"),
        ({"axis": 1, "temperature": np.ma.ones(2)}, TypeError, "temperature is a masked array"),
        ({"n_threads": 0}, ValueError, "n_threads = 0, it must be"),
        ({"n_threads": -2}, ValueError, "n_threads = -2, it must be"),
        ({"n_threads": "a"}, TypeError, "n_threads = 'a', it must be"),
        ({"n_threads": 2.0}, TypeError, "n_threads = 2.0, it must be"),
        ({"n_threads": True}, TypeError, "n_threads = True, it must be"),
        ({"dtype": int}, TypeError, "dtype = <class 'int'>, it must be floating"),
        ({"dtype": "f99"}, TypeError, "dtype = 'f99', it is not a dtype"),
        ({"dtype": complex}, TypeError, "dtype = <class 'complex'>, it must be floating"),
    ],
)  # fmt: skip
@each_function
def test_function_errors(backend, without_cuda, name, options, error, text):
    """On the fast path, on the one for lists, and on the generic one."""
    options = dict(options)
    given = [options.pop("x")] if "x" in options else [X, X.tolist(), X.astype("longdouble")]
    if name == "logsumexp":
        text = text.replace("x has", "a has").replace("for x", "for a").replace("x is", "a is")
        text = text.replace("x cannot", "a cannot").replace("asarray(x)", "asarray(a)")
    for x in given:
        with pytest.raises(error) as caught:
            FUNCTIONS[name](x, **options)
        assert str(caught.value).startswith(f"{name}: {text}")


@pytest.mark.parametrize(
    ("out", "error", "text"),
    [
        ([1.0], TypeError, "out is a list, it must be a floating array"),
        (np.zeros((2, 3), int), TypeError, "out has dtype int64, it must be floating"),
        (np.ma.zeros((2, 3)), TypeError, "out is a "),
        (X.copy().view(np.matrix), TypeError, "out is a "),
        (np.zeros(3), ValueError, "out has shape (3,), it must have shape (2, 3)"),
        (np.zeros((3, 2)), ValueError, "out has shape (3, 2), it must have shape (2, 3)"),
        (READ_ONLY, ValueError, "out is read-only"),
        (
            one_place(0, 8),
            ValueError,
            "out has strides (0, 8) in shape (2, 3), its entries must lie",
        ),
        (one_place(24, 0), ValueError, "out has strides (24, 0) in shape (2, 3), its entries must"),
        (one_place(16, 8), ValueError, "out has strides (16, 8) in shape (2, 3), its entries must"),
        (one_place(12, 8), ValueError, "out has strides (12, 8) in shape (2, 3), its entries must"),
    ],
)
@each_map
def test_out_errors(backend, name, out, error, text):
    for x in (X, X.tolist(), X.astype("f4")):
        with pytest.raises(error) as caught:
            MAPS[name](x, axis=1, out=out)
        assert str(caught.value).startswith(f"{name}: {text}")


@pytest.mark.parametrize("argument", ["b", "where"])
def test_logsumexp_factor_errors(argument):
    for x in (X, X.tolist()):
        with pytest.raises(
            ValueError, match=rf"logsumexp: {argument} has shape \(4,\), it must broad"
        ):
            softmap.logsumexp(x, **{argument: np.ones(4, bool)})
    with pytest.raises(TypeError, match=f"logsumexp: {argument} has dtype <U1"):
        softmap.logsumexp(X, **{argument: "a"})


@each_function
def test_function_takes_what_reads_as_an_array(backend, name):
    want = FUNCTIONS[name](np.array([1.0, 2.0]))
    np.testing.assert_array_equal(FUNCTIONS[name](Series()), want)
    np.testing.assert_array_equal(FUNCTIONS[name]((1, 2)), want)
    np.testing.assert_array_equal(
        FUNCTIONS[name](np.array([1.0, 2.0]), n_threads=np.int64(2)), want
    )


@pytest.mark.parametrize("half", ["float16", "bfloat16"])
@pytest.mark.parametrize("name", ["softmax", "log_softmax", "logsumexp"])
def test_a_wider_result_of_halves_was_never_rounded_to_one(half, name):
    function = getattr(softmap, name)
    x = np.random.default_rng(5).normal(0, 3, (7, 19)).astype(half)
    want = function(x.astype(np.float32), -1)
    np.testing.assert_array_equal(function(x, -1, dtype=np.float32), want, strict=True)
    wide = function(x, -1, dtype=np.float64)
    np.testing.assert_array_equal(wide, want.astype(np.float64), strict=True)
    if name != "logsumexp":
        out = np.empty((7, 19), np.float32)
        np.testing.assert_array_equal(function(x, -1, out=out), want, strict=True)
    assert not np.array_equal(function(x, -1).astype(np.float32), want)
