"""The ways to a softmax by their names; stores past the caches, and rows in one loop."""

import numpy as np
import pytest

import softmap
from ops.softmax import DTYPES, get_dtype, make_row
from softmap import _backend

# Sums of the first three are in the dtype: their bound grows with the row.
OWN_SUMS = ["three_pass_recompute", "three_pass_reload", "two_pass"]
ULP = dict.fromkeys(OWN_SUMS, 16) | dict.fromkeys(["online", "reload", "fused", "auto"], 4)
each_dtype = pytest.mark.parametrize("dtype", DTYPES)


def softmax_by(name, x, out=None, *, stream=False):
    out = np.empty_like(x) if out is None else out
    _backend.cpu().softmax_by(name, x, out, stream)
    return out


def at_offset(shape, dtype, offset):
    """An array whose address is `offset` elements from a line, inside a frame of -1."""
    size = int(np.prod(shape))
    frame = np.full(size + 64, -1, dtype)
    start = (-frame.ctypes.data) % 64 // frame.itemsize + offset
    return frame, start, frame[start : start + size].reshape(shape)


@each_dtype
@pytest.mark.parametrize("name", ULP)
@pytest.mark.parametrize("width", [1, 7, 64, 1025, 3000])
def test_every_algorithm_is_accurate(backend, name, width, dtype):
    domains = ["ordinary", "ascending", "descending", "subnormal outputs", "masked", "constant"]
    x = np.stack([make_row(domain, width, dtype) for domain in domains])
    exact = np.exp(x.astype(np.longdouble) - x.max(axis=1, keepdims=True))
    exact /= exact.sum(axis=1, keepdims=True)
    error = abs(softmax_by(name, x) - exact) / np.spacing(exact.astype(get_dtype(dtype)))
    assert error.max() <= ULP[name]


@each_dtype
def test_those_that_softmax_chooses_from_give_its_bits(backend, dtype):
    x = np.random.default_rng(0).normal(0, 4, (5, 3001)).astype(dtype)
    x[2, 1000] = np.inf
    expected = softmap.softmax(x, axis=1)
    for name in ("online", "reload", "fused", "auto"):
        np.testing.assert_array_equal(softmax_by(name, x), expected, err_msg=name)


@each_dtype
@pytest.mark.parametrize("name", ["three_pass_recompute", "two_pass", "online", "fused"])
@pytest.mark.parametrize("offset", [0, 1, 7, 15])
@pytest.mark.parametrize("width", [200, 1024, 1033])
def test_stores_past_the_caches_change_no_bit(backend, name, offset, width, dtype):
    x = np.random.default_rng(width).normal(0, 4, (7, width)).astype(dtype)
    x[3, 100] = 1e30  # a row that goes another way
    frame, start, out = at_offset(x.shape, dtype, offset)
    softmax_by(name, x, out, stream=True)
    np.testing.assert_array_equal(out, softmax_by(name, x))
    assert (np.delete(frame, np.s_[start : start + x.size]) == -1).all()


@each_dtype
@pytest.mark.parametrize("function", [softmap.softmax, softmap.log_softmax])
def test_rows_in_one_loop_are_as_they_are_alone(backend, function, dtype):
    """Among them rows that go another way, and results that are written over x."""
    rng = np.random.default_rng(1)
    x = rng.normal(0, 4, (9, 1500)).astype(dtype)
    x[0, 3], x[4, 5], x[5], x[8, 0] = np.nan, 1e30, -np.inf, np.inf
    temperature = rng.uniform(0.5, 2, 9).astype(dtype)
    with np.errstate(invalid="ignore"):
        alone = [function(r, temperature=float(t)) for r, t in zip(x, temperature, strict=True)]
    np.testing.assert_array_equal(function(x, axis=1, temperature=temperature), alone)
    np.testing.assert_array_equal(function(x, axis=1, temperature=temperature, out=x), alone)


def test_an_algorithm_that_is_not_there_is_refused(backend):
    x = np.zeros((2, 3), np.float32)
    with pytest.raises(ValueError, match="no such algorithm"):
        softmax_by("four_pass", x)
    with pytest.raises(ValueError, match="do not fit"):
        softmax_by("online", x, x)
