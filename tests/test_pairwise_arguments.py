"""The pairwise family: threads, batches, memory layouts, dtypes, shapes, out=, messages."""

import functools
import pickle
import warnings

import numpy as np
import pytest

import softmap
from ops.pairwise import DTYPES, LINKS, random_problem
from softmap import _backend

INF = np.inf
each_link = pytest.mark.parametrize("link", LINKS)
each_dtype = pytest.mark.parametrize("dtype", DTYPES)
assert_same = functools.partial(np.testing.assert_array_equal, strict=True)


def matrix(s, **options):
    return softmap.preference_matrix(s, **options)


# Threads and layouts


@each_dtype
@each_link
def test_bits_do_not_depend_on_threads(backend, link, dtype):
    s = np.random.default_rng(1).normal(0, 3, (3, 160)).astype(dtype)
    assert_same(matrix(s, link=link, n_threads=3), matrix(s, link=link, n_threads=1))
    for n, batch in ((260, ()), (6, (2500,))):
        scores, wins, losses = (x.astype(dtype) for x in random_problem(n, n, batch))
        for order in ({}, {"losses": losses}):
            one, two, seven = (
                softmap.log_likelihood(scores, wins, link=link, gradient=True, n_threads=t, **order)
                for t in (1, 2, 7)
            )
            for other in (two, seven):
                assert_same(other.value, one.value)
                assert_same(other.gradient, one.gradient)


@each_link
def test_batch_is_the_loop_of_singles(backend, link):
    scores, wins, losses = random_problem(6, 7, (2, 3))
    batch = softmap.log_likelihood(scores, wins, losses=losses, link=link, gradient=True)
    p = matrix(scores, link=link)
    for k in np.ndindex(2, 3):
        single = softmap.log_likelihood(
            scores[k], wins[k], losses=losses[k], link=link, gradient=True
        )
        assert single.value == batch.value[k]
        assert_same(single.gradient, batch.gradient[k])
        assert_same(matrix(scores[k], link=link), p[k])


def test_log_likelihood_broadcasts_the_batch(backend):
    scores, wins, _ = random_problem(7, 4, (3,))
    value = softmap.log_likelihood(scores[:, None], wins)
    assert value.shape == (3, 3)
    for i, j in np.ndindex(3, 3):
        assert value[i, j] == softmap.log_likelihood(scores[i], wins[j])
    one_table = softmap.log_likelihood(scores, wins[0], gradient=True)
    assert one_table.gradient.shape == (3, 4)


def layouts(x):
    """The same numbers, held in other ways."""
    wide = np.zeros((*x.shape[:-1], 2 * x.shape[-1]), x.dtype)
    wide[..., ::2] = x
    frozen = x.copy()
    frozen.flags.writeable = False
    unaligned = np.frombuffer(b"\0" + x.tobytes(), x.dtype, offset=1).reshape(x.shape)
    return {
        "strided": wide[..., ::2],
        "reversed": x[..., ::-1].copy()[..., ::-1],
        "other byte order": x.astype(x.dtype.newbyteorder()),
        "Fortran": np.asfortranarray(x),
        "read-only": frozen,
        "unaligned": unaligned,
    }


@each_dtype
@pytest.mark.parametrize("layout", layouts(np.zeros((1, 1))))
def test_bits_do_not_depend_on_layout(backend, layout, dtype):
    scores, wins, losses = (x.astype(dtype) for x in random_problem(11, 9, (2,)))
    variance = np.abs(scores)
    s, won, lost, v = (layouts(x)[layout] for x in (scores, wins, losses, variance))
    expected = softmap.preference(scores, scores[0], link="probit", variance_a=variance)
    assert_same(softmap.preference(s, s[0], link="probit", variance_a=v), expected)
    expected = matrix(scores, link="probit", variance=variance)
    assert_same(matrix(s, link="probit", variance=v), expected)
    expected = softmap.log_likelihood(scores, wins, losses=losses, gradient=True)
    result = softmap.log_likelihood(s, won, losses=lost, gradient=True)
    assert_same(result.value, expected.value)
    assert_same(result.gradient, expected.gradient)


# dtypes, shapes, out


def test_result_dtypes():
    single, double = np.zeros(2, np.float32), np.zeros(2)
    assert softmap.preference(single, single).dtype == np.float32
    assert softmap.preference(single, 0.5).dtype == np.float32
    assert softmap.preference(single.astype(np.float16), 1).dtype == np.float32
    assert softmap.preference(single, double).dtype == np.float64
    assert softmap.preference(single, double[0]).dtype == np.float64
    assert softmap.preference(np.array([True]), np.array([1])).dtype == np.float64
    probit = {"link": "probit", "variance_a": 1.0}
    assert softmap.preference(single, single, **probit).dtype == np.float32
    assert matrix(single).dtype == np.float32
    assert matrix([1, 2]).dtype == np.float64
    assert softmap.log_likelihood(single, np.eye(2, dtype=np.float32)).dtype == np.float32
    assert softmap.log_likelihood(single, np.eye(2)).dtype == np.float64
    assert softmap.log_likelihood(single, np.eye(2, dtype=int)).dtype == np.float64


def test_scalars_and_empty_shapes(backend):
    assert isinstance(softmap.preference(1, 0.0), np.float64)
    assert isinstance(softmap.preference(np.float32(1), np.float32(0)), np.float32)
    assert softmap.preference(np.zeros((0, 3)), 1.0).shape == (0, 3)
    assert softmap.preference(np.zeros((1, 1)), np.zeros(1)).shape == (1, 1)
    assert matrix(np.zeros(0)).shape == (0, 0)
    assert matrix(np.zeros((0, 4))).shape == (0, 4, 4)
    assert matrix([3.0]).tolist() == [[0.5]]
    assert isinstance(softmap.log_likelihood([1.0], [[2.0]]), np.float64)
    assert softmap.log_likelihood([1.0], [[2.0]]) == 0
    assert softmap.log_likelihood(np.zeros((3, 0)), np.zeros((3, 0, 0))).tolist() == [0, 0, 0]
    empty = softmap.log_likelihood(np.zeros((0, 2)), np.zeros((0, 2, 2)), gradient=True)
    assert empty.value.shape == (0,)
    assert empty.gradient.shape == (0, 2)


@each_dtype
def test_preference_matrix_out(backend, dtype):
    s = np.random.default_rng(2).normal(size=(2, 5)).astype(dtype)
    expected = matrix(s)
    for out in (
        np.empty((2, 5, 5), dtype),
        np.empty((2, 5, 10), dtype)[..., ::2],
        np.empty((2, 5, 5), "f8"),
        np.empty((2, 5, 5), ">f4"),
    ):
        assert matrix(s, out=out) is out
        np.testing.assert_array_equal(out, expected.astype(out.dtype))
    room = np.empty(50, dtype)
    room[:10] = s.ravel()
    overlapping = room.reshape(2, 5, 5)
    assert_same(matrix(room[:10].reshape(2, 5), out=overlapping), expected)


def test_log_likelihood_result_is_frozen_and_pickles():
    result = softmap.log_likelihood([0.5, -1.0], [[0, 3], [1, 0]], gradient=True)
    with pytest.raises(AttributeError):
        result.value = 0.0
    copy = pickle.loads(pickle.dumps(result))
    assert copy.value == result.value
    assert_same(copy.gradient, result.gradient)


# Bad input


class Foreign:
    """An array of another library."""

    def __array_namespace__(self):
        raise NotImplementedError


def np_matrix():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", PendingDeprecationWarning)
        return np.asmatrix([1.0])


read_only = np.zeros((2, 2))
read_only.flags.writeable = False
BAD_CALLS = {
    "text": (TypeError, lambda: softmap.preference("a", 1), "preference: a has dtype"),
    "object": (TypeError, lambda: softmap.preference(0.0, np.array([None])), "preference: b has"),
    "complex": (TypeError, lambda: matrix([1j]), "scores has dtype complex128, it must be real"),
    "ragged": (TypeError, lambda: matrix([[1.0], [1.0, 2.0]]), "scores cannot be read"),
    "masked": (TypeError, lambda: matrix(np.ma.ones(2)), "scores is a masked array"),
    "np.matrix": (TypeError, lambda: matrix(np_matrix()), "scores is a numpy.matrix"),
    "library": (TypeError, lambda: softmap.preference(Foreign(), 0.0), "Foreign"),
    "link": (
        ValueError,
        lambda: matrix([1.0], link="cauchy"),
        "preference_matrix: link = 'cauchy'",
    ),
    "link kind": (ValueError, lambda: softmap.preference(1, 2, link=None), "link = None"),
    "advantage": (
        ValueError,
        lambda: softmap.preference(1, 2, first_advantage=INF),
        "first_advantage = inf, it must be finite",
    ),
    "advantage kind": (
        TypeError,
        lambda: matrix([1.0], first_advantage="x"),
        "first_advantage = 'x', it must be a number",
    ),
    "shapes": (
        ValueError,
        lambda: softmap.preference(np.zeros(2), np.zeros(3)),
        r"do not broadcast: a \(2,\), b \(3,\)",
    ),
    "variance with logit": (
        ValueError,
        lambda: softmap.preference(1, 2, variance_b=1),
        "variance_b is given, it belongs to link='probit'",
    ),
    "variance shape": (
        ValueError,
        lambda: matrix([1.0, 2.0], link="probit", variance=[1, 2, 3]),
        r"variance has shape \(3,\), it must broadcast to the shape of scores, \(2,\)",
    ),
    "no axis": (ValueError, lambda: matrix(1.0), r"scores has shape \(\), it needs an axis"),
    "out shape": (
        ValueError,
        lambda: matrix([1.0, 2.0], out=np.zeros(2)),
        r"out has shape \(2,\), it must have shape \(2, 2\)",
    ),
    "out dtype": (
        TypeError,
        lambda: matrix([1.0], out=np.zeros((1, 1), int)),
        "out has dtype int64",
    ),
    "out kind": (TypeError, lambda: matrix([1.0], out=[[0.0]]), "out is a list"),
    "out read-only": (ValueError, lambda: matrix([1.0, 2.0], out=read_only), "out is read-only"),
    "threads": (ValueError, lambda: matrix([1.0], n_threads=0), "n_threads = 0"),
    "tables": (
        ValueError,
        lambda: softmap.log_likelihood([1.0, 2.0], np.zeros((3, 2))),
        r"wins has shape \(3, 2\), its last two axes must be \(2, 2\)",
    ),
    "losses": (
        ValueError,
        lambda: softmap.log_likelihood([1.0, 2.0], np.zeros((2, 2)), losses=[1.0, 2.0]),
        r"losses has shape \(2,\)",
    ),
    "batch": (
        ValueError,
        lambda: softmap.log_likelihood(np.zeros((2, 2)), np.zeros((3, 2, 2))),
        r"do not broadcast: scores \(2, 2\), wins \(3, 2, 2\)",
    ),
    "order": (
        ValueError,
        lambda: softmap.log_likelihood([1.0, 2.0], np.zeros((2, 2)), first_advantage=1.0),
        "first_advantage = 1.0, it needs losses",
    ),
}


@pytest.mark.parametrize("name", BAD_CALLS)
def test_bad_input_message(name):
    error, call, message = BAD_CALLS[name]
    with pytest.raises(error, match=message):
        call()


def test_binding_checks_its_arguments(backend):
    module, x = _backend.cpu(), np.zeros(3)
    rooms = [np.empty(3) for _ in range(3)]
    with pytest.raises(TypeError, match="pair_terms: d must be a C-contiguous array of float64"):
        module.pair_terms([0.0], x, x, "logit", *rooms)
    with pytest.raises(TypeError, match="pair_terms: wins must be a C-contiguous"):
        module.pair_terms(x, x.astype(np.float32), x, "logit", *rooms)
    with pytest.raises(ValueError, match=r"losses has shape \(2,\), it must have 3 elements"):
        module.pair_terms(x, x, x[:2], "logit", *rooms)
    with pytest.raises(ValueError, match="pair_terms: link = 'x', it must be logit or probit"):
        module.pair_terms(x, x, x, "x", *rooms)
    x.flags.writeable = False
    with pytest.raises(TypeError, match="curvature must be a writeable"):
        module.pair_terms(x, x, x, "logit", *rooms[:2], x)


@pytest.mark.parametrize("log", ["yes", 1, None])
def test_log_is_a_bool(log):
    with pytest.raises(TypeError, match=rf"^preference: log = {log!r}, it must be True or False$"):
        softmap.preference([1.0], 0.0, log=log)
