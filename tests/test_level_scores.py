"""level_scores: values, accuracy, closed sets, mass, rows that are NaN, errors."""

import dataclasses
import pickle

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import softmap
from ops.softmax import DTYPES, HALF_DTYPES, LEVELS, make_row
from ulp import check_ulp

PARTS = ("score", "variance", "probabilities", "mass")
INF, NAN = np.inf, np.nan
X = np.log(np.array([[1.0, 2, 5, 8], [8, 1, 1, 6]]))
each_dtype = pytest.mark.parametrize("dtype", DTYPES)


def plain(logits, groups, levels, temperature=1.0):
    """The definition, in plain float64."""
    e = np.exp(np.asarray(logits, np.float64) / np.expand_dims(temperature, -1))
    total = e.sum(axis=-1)
    sums = np.stack([e[..., group].sum(axis=-1) for group in groups], axis=-1)
    mass = sums.sum(axis=-1) / total
    p = sums / sums.sum(axis=-1, keepdims=True)
    score = (p * levels).sum(axis=-1)
    variance = (p * (levels - score[..., None]) ** 2).sum(axis=-1)
    return score, variance, p, mass


def assert_levels(result, want, rtol=1e-13):
    for part, value in zip(PARTS, want, strict=True):
        if getattr(result, part) is not None:
            np.testing.assert_allclose(getattr(result, part), value, rtol=rtol, err_msg=part)


def test_level_scores_by_hand(backend):
    """Weights 1, 2, 5, 8: of the first three 1/8, 1/4, 5/8, of all 16 one half."""
    r = softmap.level_scores(X[0], tokens=[0, 1, 2], levels=[1, 2, 3], mass=True)
    assert_levels(
        r, (2.5, 0.125 * 1.5**2 + 0.25 * 0.5**2 + 0.625 * 0.5**2, [0.125, 0.25, 0.625], 0.5)
    )
    r = softmap.level_scores(X[0], tokens=[[0, 1, 2], [3]], levels=[-1, 1], mass=True)
    assert_levels(r, (r.score, 1, [0.5, 0.5], 1), rtol=1e-15)
    assert abs(r.score) < 2e-16
    r = softmap.level_scores(X[0], tokens=None, levels=[1, 2, 3, 4], temperature=0.5)
    assert_levels(r, ((1 + 8 + 75 + 256) / 94, r.variance, np.array([1, 4, 25, 64]) / 94, None))


@each_dtype
@pytest.mark.parametrize("domain", ["ordinary", "wide", "constant", "one dominates", "offset"])
def test_level_scores_accuracy(backend, domain, dtype):
    for width, groups in [
        (5, [[0], [1], [2], [3], [4]]), (5, [[4], [2]]), (1, [[0]]),
        (33, [[7, 8, 30], [2], [0, 32]]), (129, [[k] for k in range(40, 50)]),
    ]:  # fmt: skip
        row = make_row(domain, width, dtype)
        levels = np.arange(1, len(groups) + 1)
        result = softmap.level_scores(row, groups, levels, mass=True)
        reference = LEVELS.reference(row, groups, levels, dtype)
        for part in PARTS:
            actual, bound = getattr(result, part), LEVELS.ulp[part][dtype]
            assert actual.dtype == dtype
            check_ulp(
                f"level_scores.{part}", actual, reference[part], dtype, bound, backend=backend,
                floor=LEVELS.floor(part, levels, dtype), hint=f"{domain} {width} {groups}",
            )  # fmt: skip


@each_dtype
@pytest.mark.parametrize("domain", ["ordinary", "wide", "offset", "sum near 1", "huge", "masked"])
def test_level_scores_accuracy_of_many_rows(backend, domain, dtype):
    """Rows that are taken together, of different sizes and all kinds in a batch."""
    groups, levels = [[4], [0, 2], [3]], [1, 2, 5]
    x = np.stack([make_row(domain, 6, dtype, seed) for seed in range(37)])
    x[::5] = make_row("ordinary", 6, dtype)
    result = softmap.level_scores(x, groups, levels)
    for k, row in enumerate(x):
        reference = LEVELS.reference(row, groups, levels, dtype)
        if all(np.isneginf(row[[0, 2, 3, 4]])):
            assert np.isnan(result.score[k])
            continue
        for part in PARTS[:3]:
            check_ulp(
                f"level_scores.{part}", getattr(result, part)[k], reference[part], dtype,
                LEVELS.ulp[part][dtype], floor=LEVELS.floor(part, levels, dtype), backend=backend,
                hint=f"{domain} {k}",
            )  # fmt: skip


@pytest.mark.parametrize("dtype", [*DTYPES, *HALF_DTYPES])
def test_level_scores_accuracy_with_a_temperature_a_row(backend, dtype):
    """The exact function of x / T, rounded once to what is computed in."""
    x = np.stack([make_row("ordinary", 40, dtype, seed) for seed in range(12)])
    computed = "float32" if dtype in HALF_DTYPES else dtype
    t = (10 ** np.random.default_rng(2).uniform(-1, 2, len(x))).astype(computed)
    groups, levels = [[3], [0, 17, 39], [8, 9]], [1, 2, 5]
    result = softmap.level_scores(x, groups, levels, temperature=t, mass=True)
    for k, z in enumerate(x.astype(computed) / t[:, None]):
        reference = LEVELS.reference(z, groups, levels, computed)
        for part in PARTS:
            actual = getattr(result, part)[k]
            assert actual.dtype == computed
            check_ulp(
                f"level_scores.{part}", actual, reference[part], computed,
                LEVELS.ulp[part][computed], floor=LEVELS.floor(part, levels, computed),
                backend=backend, hint=f"{dtype} T = {t[k]}",
            )  # fmt: skip


@each_dtype
def test_level_scores_are_the_same_wherever_a_row_is(backend, dtype):
    """In every lane, and by itself."""
    rows = np.random.default_rng(7).normal(0, 3, (40, 5)).astype(dtype)
    groups, levels = [[0], [1, 3], [2]], [1, 2, 5]
    want = softmap.level_scores(np.repeat(rows, 33, axis=0), groups, levels)
    for k, row in enumerate(rows):
        one = softmap.level_scores(row, groups, levels)
        for part in PARTS[:3]:
            same = getattr(want, part)[33 * k : 33 * (k + 1)]
            np.testing.assert_array_equal(same, np.broadcast_to(getattr(one, part), same.shape))


@each_dtype
@given(seed=st.integers(0, 2**31), shape=st.sampled_from([(7,), (3, 7), (2, 3, 9), (1, 12)]))
def test_level_scores_agrees_with_the_definition(backend, dtype, seed, shape):
    rng = np.random.default_rng(seed)
    x = rng.normal(0, 4, shape).astype(dtype)
    columns = rng.permutation(shape[-1])
    groups = [g.tolist() for g in np.split(columns[:6], [1, 3])]
    levels = np.array([0.0, 1.5, -2.0])
    t = rng.uniform(0.5, 3, shape[:-1]).astype(dtype)
    r = softmap.level_scores(x, groups, levels, temperature=t, mass=True)
    want = plain(x, groups, levels, t)
    for part, value in zip(PARTS, want, strict=True):
        atol = 20 * np.finfo(dtype).eps * 4  # scores cross zero
        np.testing.assert_allclose(getattr(r, part), value, rtol=0, atol=atol, err_msg=part)


@pytest.mark.parametrize("dtype", [*DTYPES, *HALF_DTYPES])
def test_level_scores_mode_is_the_most_probable(backend, dtype):
    """In every lane and row taken by itself; of equal ones the first."""
    x = np.stack([make_row("ordinary", 40, dtype, seed) for seed in range(43)])
    x[::3] = make_row("huge", 40, dtype, 3)
    x[5], x[6, :4], x[7], x[8, 2] = 1.0, x[6, 4], -INF, NAN
    for groups in ([[3], [0, 17, 39], [8, 9], [2]], [[k] for k in range(40)], [[39]]):
        levels = np.sin(np.arange(len(groups)))
        full = softmap.level_scores(x, groups, levels, mode=True, mass=True)
        assert full.mode.dtype == full.mode_probability.dtype == full.score.dtype
        p = full.probabilities
        unknown = np.isnan(p).any(axis=-1)
        np.testing.assert_array_equal(unknown, np.isnan(full.score))
        want = np.where(unknown, NAN, levels.astype(p.dtype)[p.argmax(axis=-1)])
        np.testing.assert_array_equal(full.mode, want)
        np.testing.assert_array_equal(full.mode_probability, p.max(axis=-1))
        few = softmap.level_scores(x, groups, levels, probabilities=False, mass=True)
        assert few.probabilities is few.mode is few.mode_probability is None
        for part in ("score", "variance", "mass"):
            np.testing.assert_array_equal(getattr(few, part), getattr(full, part))
    many = np.tile(X, 40)  # a closed set that does not travel with a launch
    r = softmap.level_scores(many, None, np.arange(160.0), mode=True)
    assert r.mode.tolist() == [3, 0]
    np.testing.assert_array_equal(r.mode_probability, r.probabilities.max(axis=-1))


def test_level_scores_tokens_in_every_form(backend):
    want = plain(X, [[3], [1]], [1, 2])
    for tokens in ([3, 1], (3, 1), np.array([3, 1]), [[3], [1]], np.array([[3], [1]]), [[3], 1],
                   np.array([3, 1], "u2"), [np.int8(3), (1,)], range(3, 0, -2)):  # fmt: skip
        assert_levels(softmap.level_scores(X, tokens, [1, 2], mass=True), want)
    everything = softmap.level_scores(X, None, [1, 2, 3, 4], mass=True)
    assert_levels(everything, plain(X, [[0], [1], [2], [3]], [1, 2, 3, 4]))
    np.testing.assert_array_equal(everything.mass, [1, 1])
    assert_levels(
        softmap.level_scores(X, [[3, 0], [2, 1]], [1, 2]), plain(X, [[3, 0], [2, 1]], [1, 2])
    )


@pytest.mark.parametrize(
    ("given", "result"),
    [
        ("f2", "f4"),
        ("f4", "f4"),
        ("f8", "f8"),
        ("i8", "f8"),
        ("?", "f8"),
        (">f4", "f4"),
        ("g", "f8"),
    ],
)
def test_level_scores_dtype(backend, given, result):
    x = np.array([[0, 1, 1, 0]]).astype(given)
    r = softmap.level_scores(x, [0, 1], [0, 1], mass=True)
    assert all(getattr(r, part).dtype == result for part in PARTS)
    np.testing.assert_allclose(r.score, 1 / (1 + np.exp(-1)), rtol=4 * np.finfo(result).eps)


def test_level_scores_shapes(backend):
    for shape in [(4,), (1, 4), (3, 4), (2, 3, 4), (0, 4), (2, 0, 4)]:
        r = softmap.level_scores(np.zeros(shape), [0, 3], [1, 2], mass=True)
        for part in ("score", "variance", "mass"):
            assert np.shape(getattr(r, part)) == shape[:-1]
        assert r.probabilities.shape == (*shape[:-1], 2)
        assert softmap.level_scores(np.zeros(shape), [0, 3], [1, 2]).mass is None
    single = softmap.level_scores(np.zeros(4), [0, 3], [1, 2], mass=True)
    assert all(isinstance(v, np.float64) for v in (single.score, single.variance, single.mass))


@each_dtype
def test_level_scores_temperature(backend, dtype):
    x = make_row("ordinary", 60, dtype).reshape(3, 4, 5)
    t = np.linspace(0.2, 3, 12).reshape(3, 4).astype(dtype)
    want = softmap.level_scores(x / t[..., None], [0, 2], [1, 2], mass=True)
    for form in (t, t[..., None], t.tolist()):
        got = softmap.level_scores(x, [0, 2], [1, 2], mass=True, temperature=form)
        for part in PARTS:
            np.testing.assert_array_equal(getattr(got, part), getattr(want, part))
    t = np.array([1, 0, -1, NAN, INF])
    got = softmap.level_scores(X[[0] * 5], [0, 1], [1, 2], temperature=t, mass=True)
    for part in PARTS:
        bad = np.isnan(getattr(got, part)).reshape(5, -1)
        np.testing.assert_array_equal(bad.all(axis=1), [False, True, True, True, True])
        assert not bad[0].any()


@pytest.mark.parametrize(
    ("row", "score", "mass"),
    [
        ([0, -INF, 0, 0], 1, 1 / 3),
        ([-INF, -INF, 1, 2], NAN, 0),
        ([-INF, -INF, -INF, -INF], NAN, NAN),
        ([0, NAN, 0, 0], NAN, NAN),
        ([0, 0, NAN, 0], 1.5, NAN),
        ([INF, 0, 0, 0], NAN, NAN),
        ([0, 0, INF, 0], 1.5, NAN),
        ([0, -1e30, -1e30, 0], 1, 0.5),
        ([-1e30, -1e30, -1e30, -1e30], 1.5, 0.5),
        ([0, 0, -INF, -INF], 1.5, 1),
        ([-800, -800, 0, -INF], 1.5, 0),
    ],
)
@each_dtype
def test_level_scores_special_rows(backend, dtype, row, score, mass):
    """The closed set is columns 0 and 1; the rows beside are unharmed."""
    x = np.array([[0, 0, 0, 0], row, [0, 0, 0, 0]], dtype)
    r = softmap.level_scores(x, [0, 1], [1, 2], mass=True)
    rtol = 2 * np.finfo(dtype).eps
    np.testing.assert_allclose(r.score, [1.5, score, 1.5], rtol=rtol)
    np.testing.assert_allclose(r.mass, [0.5, mass, 0.5], rtol=rtol)
    np.testing.assert_array_equal(np.isnan(r.variance), np.isnan(r.score))
    np.testing.assert_array_equal(np.isnan(r.probabilities).all(axis=1), np.isnan(r.score))


def test_level_scores_mass_keeps_small_values(backend):
    r = softmap.level_scores(np.array([0.0, -700, -700, -5]), [1, 2], [1, 2], mass=True)
    np.testing.assert_allclose(r.mass, 2 * np.exp(-700) / (1 + np.exp(-5)), rtol=1e-12)
    assert_levels(r, (1.5, 0.25, [0.5, 0.5], r.mass), rtol=0)


@each_dtype
def test_level_scores_does_not_depend_on_threads_or_layout(backend, dtype):
    x = np.random.default_rng(3).normal(0, 4, (3000, 40)).astype(dtype)
    want = softmap.level_scores(x, [3, 1, [5, 30]], [1, 2, 3], mass=True, n_threads=1)
    others = [
        softmap.level_scores(x, [3, 1, [5, 30]], [1, 2, 3], mass=True, n_threads=k)
        for k in (2, 3, 8)
    ]
    for y in (
        np.asfortranarray(x),
        np.repeat(x, 2, axis=1)[:, ::2],
        x.astype(x.dtype.newbyteorder()),
    ):
        others.append(softmap.level_scores(y, [3, 1, [5, 30]], [1, 2, 3], mass=True))
    for part in PARTS:
        for other in others:
            np.testing.assert_array_equal(getattr(other, part), getattr(want, part))


def test_level_scores_out(backend):
    out = np.empty(2)
    r = softmap.level_scores(X, [0, 1], [1, 2], out=out)
    assert r.score is out
    np.testing.assert_array_equal(out, softmap.level_scores(X, [0, 1], [1, 2]).score)
    narrow = softmap.level_scores(X, [0, 1], [1, 2], out=np.empty(2, "f4")).score
    np.testing.assert_array_equal(narrow, out.astype("f4"))


def test_level_scores_result_is_frozen_and_pickles():
    r = softmap.level_scores(X, [0, 1], [1, 2], mass=True)
    with pytest.raises(dataclasses.FrozenInstanceError):
        r.score = 0
    copy = pickle.loads(pickle.dumps(r))
    assert type(copy) is softmap.LevelScores
    assert_levels(copy, [getattr(r, part) for part in PARTS], rtol=0)


COLUMNS = "the ids of logits with 4 columns are 0 to 3"
MEMBER = "it must be a token id or a list of them"


@pytest.mark.parametrize(
    ("change", "error", "text"),
    [
        ({"tokens": [0, 4]}, ValueError, f"tokens[1] = 4, {COLUMNS}"),
        ({"tokens": [-1, 1]}, ValueError, f"tokens[0] = -1, {COLUMNS}"),
        ({"tokens": [0, 2**63 - 1]}, ValueError, f"tokens[1] = {2**63 - 1}, {COLUMNS}"),
        ({"tokens": [[0, 1], [2, 0]]}, ValueError, "tokens[1] = 0, it is given twice"),
        ({"tokens": [0, 0]}, ValueError, "tokens[1] = 0, it is given twice"),
        ({"tokens": [0, 1.0]}, TypeError, f"tokens[1] = 1.0, {MEMBER}"),
        ({"tokens": [True, False]}, TypeError, f"tokens[0] = True, {MEMBER}"),
        ({"tokens": ["a", "b"]}, TypeError, f"tokens[0] = 'a', {MEMBER}"),
        ({"tokens": [[], [1]]}, TypeError, f"tokens[0] = [], {MEMBER}"),
        ({"tokens": 3}, TypeError, "tokens = 3"),
        ({"tokens": [], "levels": []}, ValueError, "tokens is empty"),
        ({"levels": [1, 2, 3]}, ValueError, "levels has length 3 but tokens has 2 members"),
        ({"tokens": None}, ValueError, "levels has length 2 but tokens has 4 members"),
        ({"levels": [[1, 2]]}, ValueError, "levels has shape (1, 2), it must be one-dimensional"),
        ({"levels": ["a", "b"]}, TypeError, "levels has dtype <U1, it must be boolean, integer"),
        ({"logits": 1.0}, ValueError, "logits has shape (), it needs at least one axis"),
        ({"logits": X + 1j}, TypeError, "logits has dtype complex128, it must be real"),
        ({"logits": np.ma.array(X)}, TypeError, "logits is a masked array"),
        ({"logits": np.array([[None] * 4])}, TypeError, "logits has dtype object, it must be"),
        ({"temperature": 0.0}, ValueError, "temperature = 0.0, it must be finite and above 0"),
        ({"temperature": [1, 2, 3]}, ValueError,
         "temperature has shape (3,), it must be a number or have shape (2,)"),
        ({"n_threads": 0}, ValueError, "n_threads = 0, it must be"),
        ({"out": np.empty(3)}, ValueError, "out has shape (3,), it must have shape (2,)"),
        ({"out": [0, 0]}, TypeError, "out is a list, it must be a floating array"),
        ({"out": np.empty(2, int)}, TypeError, "out has dtype int64, it must be floating"),
    ],
)  # fmt: skip
def test_level_scores_errors(backend, change, error, text):
    arguments = {"logits": X, "tokens": [0, 1], "levels": [1, 2]} | change
    with pytest.raises(error) as caught:
        softmap.level_scores(**arguments)
    assert str(caught.value).startswith(f"level_scores: {text}")
