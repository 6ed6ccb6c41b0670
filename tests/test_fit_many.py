"""fit_many and score_against_anchors on every backend that can run here."""

# budget: over 400 lines: a test a promise, on every backend

import dataclasses
import pickle

import numpy as np
import pytest

from ops import fit as cases
from softmap.fit_many import Status, fit_many, score_against_anchors

pytestmark = pytest.mark.usefixtures("backend")
links = pytest.mark.parametrize("link", cases.LINKS)


# Answers


@links
def test_fit_many_published_anchors(link):
    fit = fit_many(cases.ANCHORS, prior_sd=1.0, link=link)
    assert fit.status == Status.OK
    np.testing.assert_allclose(fit.scores, cases.ANCHOR_SCORES[link], rtol=0, atol=1e-9)


@links
@pytest.mark.parametrize("n", [2, 3, 5, 6, 7, 17])
@pytest.mark.parametrize("sd", [0.5, 3.0, np.inf])
def test_fit_many_reference(n, sd, link):
    tables = cases.random_tables(3, n, seed=n) + 0.25
    fit = fit_many(tables, prior_sd=sd, link=link)
    assert (fit.status == Status.OK).all()
    for wins, scores in zip(tables, fit.scores, strict=True):
        np.testing.assert_allclose(scores, cases.solve(wins, sd=sd, link=link), rtol=0, atol=1e-12)


@links
def test_fit_many_reference_64_items(link):
    tables = cases.random_tables(1, 64, seed=1)
    fit = fit_many(tables, prior_sd=1.0, link=link)
    assert fit.status == [Status.OK]
    assert cases.distance(tables[0], fit.scores[0], sd=1.0, link=link, digits=30) < 1e-13


@links
def test_fit_many_priors_per_item(link):
    tables = cases.random_tables(4, 6, seed=2)
    sd = np.array([1.0, 0.3, np.inf, 2.0, 0.0, 5.0])
    mean = np.array([0.5, -1.0, 99.0, 0.0, 0.7, 2.0])
    fit = fit_many(tables, prior_sd=sd, prior_mean=mean, link=link)
    assert (fit.status == Status.OK).all()
    assert (fit.scores[:, 4] == 0.7).all()
    for wins, scores in zip(tables, fit.scores, strict=True):
        assert cases.distance(wins, scores, sd=sd, mean=mean, link=link) < 1e-13


def test_fit_many_priors_per_problem():
    tables = cases.random_tables(5, 4, seed=3)
    sd = np.linspace(0.5, 2, 20).reshape(5, 4)
    mean = np.linspace(-1, 1, 5)[:, None]
    fit = fit_many(tables, prior_sd=sd, prior_mean=mean)
    for k in range(5):
        one = fit_many(tables[k], prior_sd=sd[k], prior_mean=mean[k])
        assert (one.scores == fit.scores[k]).all()


@links
@pytest.mark.parametrize("advantage", [0.0, 0.4, -2.5])
def test_fit_many_ordered_tables(advantage, link):
    wins, losses = cases.random_tables(3, 5, seed=4), cases.random_tables(3, 5, seed=5)
    fit = fit_many(wins, losses=losses, first_advantage=advantage, prior_sd=1.5, link=link)
    assert (fit.status == Status.OK).all()
    for k in range(3):
        expected = cases.solve(wins[k], losses=losses[k], advantage=advantage, sd=1.5, link=link)
        np.testing.assert_allclose(fit.scores[k], expected, rtol=0, atol=1e-12)


# Weights over many orders of magnitude


@links
@pytest.mark.parametrize("sd", [1.0, 10.0, np.inf])
@pytest.mark.parametrize("n", [2, 3, 6, 20])
def test_fit_many_graded_weights(n, sd, link):
    tables = cases.graded_tables(64, n, seed=n)
    fit = fit_many(tables, prior_sd=sd, link=link)
    assert (fit.status == Status.OK).all()
    for wins, scores in zip(tables[:6], fit.scores, strict=False):
        assert cases.distance(wins, scores, sd=sd, link=link) < 1e-12


@links
@pytest.mark.parametrize("sd", [1.0, np.inf])
@pytest.mark.parametrize("make", [cases.clustered_tables, cases.ladder_tables])
def test_fit_many_weak_links(make, sd, link):
    tables = make(20, 6, seed=7)
    fit = fit_many(tables, prior_sd=sd, link=link)
    assert (fit.status == Status.OK).all()
    for wins, scores in zip(tables[:6], fit.scores, strict=False):
        assert cases.distance(wins, scores, sd=sd, link=link) < 1e-12


@pytest.mark.parametrize("sd", [1.0, 1e6, np.inf])
@pytest.mark.parametrize("n", [2, 3, 5])
def test_fit_many_ok_is_never_wrong(n, sd):
    for decades, zeros in ((12, 0.5), (50, 0.0), (300, 0.0)):
        tables = cases.graded_tables(200, n, seed=8, decades=decades, zeros=zeros)
        fit = fit_many(tables, prior_sd=sd)
        solved = np.isin(fit.status, (Status.OK, Status.NOT_CONVERGED))
        assert np.isfinite(fit.scores[solved]).all()
        assert np.isnan(fit.scores[~solved]).all()
        ok = np.flatnonzero(fit.status == Status.OK)
        assert len(ok) > 5 or (n > 2 and decades > 12)  # beyond, rounding decides
        for k in ok[:12]:
            assert (
                cases.distance(tables[k], fit.scores[k], sd=sd, digits=5 * decades + 60)
                < cases.PROMISE
            )


@pytest.mark.parametrize("weight", [1e-300, 1e300])
def test_fit_many_extreme_weights(weight):
    even = fit_many([[0, weight], [weight, 0]], prior_sd=np.inf)
    assert even.status == Status.OK
    assert (even.scores == 0).all()
    three_to_one = fit_many([[0, 0.75 * weight], [0.25 * weight, 0]], prior_sd=np.inf)
    assert three_to_one.status == Status.OK
    np.testing.assert_allclose(three_to_one.scores, np.log(3) / 2 * np.array([1, -1]), rtol=1e-14)


def test_fit_many_tail():
    fit = fit_many([[0, 1e12], [1e-12, 0]], prior_sd=np.inf)
    assert fit.status == Status.OK
    np.testing.assert_allclose(fit.scores[0] - fit.scores[1], 24 * np.log(10), rtol=1e-14)
    won = fit_many([[0, 1e12], [0, 0]], prior_sd=1.0)
    assert won.status == Status.OK
    assert won.n_iter < 28
    assert cases.distance(np.array([[0, 1e12], [0, 0]]), won.scores, sd=1.0) < 1e-14


@links
@pytest.mark.parametrize("n", [2, 3, 4, 5, 6, 7, 8, 9])
def test_fit_many_around_ordinary_weights(n, link):
    """Where weights grow against the precisions, the plain way is left in time."""
    tables = cases.random_tables(36, n, seed=n) + 0.01
    sd = np.repeat(2.0 ** np.linspace(-4, 11, 36)[:, None], n, axis=1)
    tables[::2] *= np.random.default_rng(n).uniform(0, 1, size=tables[::2].shape) ** 8
    fit = fit_many(tables, prior_sd=sd, link=link)
    assert (fit.status == Status.OK).all()
    for k in range(0, 36, 3):
        far = cases.distance(tables[k], fit.scores[k], sd=sd[k], link=link, digits=40)
        assert far < 2e-10


@links
def test_score_of_many_is_within_its_bound(link):
    """Every item of a sample of many is as near to the optimum as the docstring says."""
    p = np.random.default_rng(5).random((2000, 5)) ** 3
    p[::7] = np.round(p[::7])
    result = score_against_anchors(p, cases.ANCHORS, link=link)
    assert (result.status == Status.OK).all()
    for k in range(0, 2000, 67):
        wins = np.zeros((6, 6))
        wins[:5, :5], wins[5, :5], wins[:5, 5] = cases.ANCHORS, p[k], 1 - p[k]
        exact = cases.solve(wins, sd=1.0, link=link, digits=50)
        np.testing.assert_allclose(result.score[k], exact[5], rtol=0, atol=2e-10)


def test_fit_many_scaling_weights_changes_no_bit():
    tables = cases.random_tables(9, 6, seed=9) + 0.5
    plain = fit_many(tables, prior_sd=np.inf)
    for power in (-900, 70, 900):
        scaled = fit_many(tables * 2.0**power, prior_sd=np.inf)
        assert (scaled.scores == plain.scores).all()


def test_fit_many_distant_means():
    mean = np.array([1000.0, -1000.0])
    fit = fit_many([[0, 1], [1, 0]], prior_sd=1000.0, prior_mean=mean)
    assert fit.status == Status.OK
    assert cases.distance(np.ones((2, 2)), fit.scores, sd=1000.0, mean=mean) < 1e-12


# Independence of the problems


def mixed_tables(n):
    """Return easy and hard problems, in a number that fills no register."""
    parts = (
        cases.random_tables(21, n, seed=10),
        cases.graded_tables(21, n, seed=11),
        cases.graded_tables(21, n, seed=12, decades=300, zeros=0.3),
    )
    return np.concatenate(parts)[np.random.default_rng(0).permutation(63)]


@links
@pytest.mark.parametrize("n", [3, 6, 11])
@pytest.mark.parametrize("sd", [1.0, np.inf])
def test_fit_many_batch_is_the_loop_of_singles(n, sd, link):
    tables = mixed_tables(n)
    batch = fit_many(tables, prior_sd=sd, link=link, standard_errors=True)
    for k, wins in enumerate(tables):
        one = fit_many(wins, prior_sd=sd, link=link, standard_errors=True)
        for field in dataclasses.fields(one):
            if getattr(batch, field.name) is not None:
                np.testing.assert_array_equal(
                    getattr(one, field.name), getattr(batch, field.name)[k]
                )


@pytest.mark.parametrize("n_threads", [2, 3])
def test_fit_many_threads_change_no_bit(n_threads):
    tables = np.tile(mixed_tables(6), (40, 1, 1))
    serial = fit_many(tables, prior_sd=1.0, n_threads=1)
    threaded = fit_many(tables, prior_sd=1.0, n_threads=n_threads)
    for field in ("scores", "status", "n_iter", "gradient_max"):
        np.testing.assert_array_equal(getattr(serial, field), getattr(threaded, field))


@links
def test_fit_many_permutation(link):
    tables = cases.random_tables(20, 7, seed=13) + 0.1
    order = np.random.default_rng(1).permutation(7)
    fit = fit_many(tables, prior_sd=2.0, link=link)
    permuted = fit_many(tables[:, order][:, :, order], prior_sd=2.0, link=link)
    np.testing.assert_allclose(permuted.scores, fit.scores[:, order], rtol=0, atol=1e-13)


BAD_VALUES = [-1.0, -1e-300, np.nan, np.inf, -np.inf]


@pytest.mark.parametrize("bad", BAD_VALUES)
def test_fit_many_one_bad_table_among_good(bad):
    tables = cases.random_tables(10, 6, seed=14)
    good = fit_many(tables, prior_sd=1.0, standard_errors=True)
    tables[3, 1, 2] = bad
    fit = fit_many(tables, prior_sd=1.0, standard_errors=True)
    assert fit.status[3] == Status.BAD_INPUT
    for a in (fit.scores[3], fit.standard_errors[3], fit.gradient_max[3]):
        assert np.isnan(a).all()
    rest = np.arange(10) != 3
    assert (fit.status[rest] == Status.OK).all()
    np.testing.assert_array_equal(fit.scores[rest], good.scores[rest])
    np.testing.assert_array_equal(fit.standard_errors[rest], good.standard_errors[rest])


@pytest.mark.parametrize(
    ("name", "bad"),
    [("prior_sd", -1.0), ("prior_sd", np.nan), ("prior_mean", np.nan), ("prior_mean", np.inf)],
)
def test_fit_many_bad_prior_of_one_problem(name, bad):
    priors = {"prior_sd": np.ones((5, 4)), "prior_mean": np.zeros((5, 4))}
    priors[name][2, 1] = bad
    fit = fit_many(cases.random_tables(5, 4), **priors)
    assert fit.status.tolist() == [0, 0, Status.BAD_INPUT, 0, 0]
    assert np.isnan(fit.scores[2]).all()


def test_fit_many_missing():
    tables = cases.random_tables(3, 4)
    tables[1] = np.nan
    assert fit_many(tables, prior_sd=1.0).status.tolist() == [0, Status.MISSING, 0]


def test_fit_many_ignores_the_diagonal():
    tables = cases.random_tables(4, 5)
    plain = fit_many(tables, prior_sd=1.0)
    for value in (np.nan, -1.0, np.inf, 7.0):
        tables[:, range(5), range(5)] = value
        assert (fit_many(tables, prior_sd=1.0).scores == plain.scores).all()


# Existence

UNDEFEATED = [[0, 3, 2], [0, 0, 1], [0, 4, 0]]
SEPARABLE = [[0, 1, 2, 1], [1, 0, 1, 1], [0, 0, 0, 1], [0, 0, 1, 0]]
DISCONNECTED = [[0, 1, 0, 0], [1, 0, 0, 0], [0, 0, 0, 1], [0, 0, 1, 0]]


@links
@pytest.mark.parametrize(
    "wins", [UNDEFEATED, np.transpose(UNDEFEATED), SEPARABLE, DISCONNECTED, np.zeros((3, 3))]
)
def test_fit_many_no_maximum(wins, link):
    fit = fit_many(wins, prior_sd=np.inf, link=link, standard_errors=True)
    assert fit.status == Status.NO_MAXIMUM
    assert np.isnan(fit.scores).all()
    assert np.isnan(fit.standard_errors).all()
    assert fit_many(wins, prior_sd=1.0, link=link).status == Status.OK


def test_fit_many_some_priors_make_a_maximum():
    sd = np.array([1.0, np.inf, np.inf])
    assert fit_many(UNDEFEATED, prior_sd=sd).status == Status.NO_MAXIMUM  # the others fall
    assert fit_many(UNDEFEATED, prior_sd=sd[[1, 0, 2]]).status == Status.NO_MAXIMUM  # item 0 rises
    assert fit_many(UNDEFEATED, prior_sd=sd[[0, 0, 1]]).status == Status.OK
    one_each = [1.0, np.inf, 1.0, np.inf]
    fit = fit_many(DISCONNECTED, prior_sd=one_each)
    assert fit.status == Status.OK
    np.testing.assert_allclose(fit.scores, 0, atol=1e-12)
    assert fit_many(DISCONNECTED, prior_sd=[1.0, 1.0, np.inf, np.inf]).status == Status.NO_MAXIMUM


def test_fit_many_cycle_has_a_maximum():
    n = 64
    wins = np.zeros((n, n))
    wins[np.arange(n), (np.arange(n) + 1) % n] = 1.0
    fit = fit_many(wins, prior_sd=np.inf)
    assert fit.status == Status.OK
    np.testing.assert_allclose(fit.scores, 0, atol=1e-12)
    wins[n - 1, 0] = 0.0
    assert fit_many(wins, prior_sd=np.inf).status == Status.NO_MAXIMUM


# Errors and other results


@links
@pytest.mark.parametrize("sd", [1.0, 1e3, [0.5, 1.0, 2.0, 0.1, 1.0, 3.0]])
def test_fit_many_standard_errors(sd, link):
    tables = cases.random_tables(5, 6, seed=15) + 0.2
    fit = fit_many(tables, prior_sd=sd, link=link, standard_errors=True)
    for wins, scores, errors in zip(tables, fit.scores, fit.standard_errors, strict=True):
        expected = np.sqrt(np.diag(cases.covariance(wins, scores, sd=sd, link=link)))
        np.testing.assert_allclose(errors, expected, rtol=1e-9)


def test_fit_many_standard_errors_without_prior():
    """A weak prior's common mode, however free, leaves no trace."""
    tables = cases.random_tables(5, 6, seed=15) + 0.2
    none = fit_many(tables, prior_sd=np.inf, standard_errors=True)
    weak = fit_many(tables, prior_sd=1e12, standard_errors=True)
    np.testing.assert_allclose(weak.standard_errors, none.standard_errors, rtol=1e-12)
    np.testing.assert_allclose(weak.scores, none.scores, rtol=0, atol=1e-12)
    for wins, scores, errors in zip(tables, none.scores, none.standard_errors, strict=True):
        expected = np.sqrt(np.diag(cases.covariance(wins, scores, sd=np.inf)))
        np.testing.assert_allclose(errors, expected, rtol=1e-9)


def test_fit_many_max_iter():
    tables = cases.graded_tables(20, 4, seed=16)
    full = fit_many(tables, prior_sd=1.0)
    short = fit_many(tables, prior_sd=1.0, max_iter=3, standard_errors=True)
    assert (short.status[full.n_iter > 3] == Status.NOT_CONVERGED).all()
    assert (short.n_iter <= 3).all()
    assert np.isfinite(short.scores).all()
    assert np.isnan(short.standard_errors[short.status != Status.OK]).all()
    exact = fit_many(tables[0], prior_sd=1.0, max_iter=int(full.n_iter[0]))
    assert exact.status == Status.OK
    fewer = fit_many(tables[0], prior_sd=1.0, max_iter=int(full.n_iter[0]) - 1)
    assert fewer.status == Status.NOT_CONVERGED


def test_fit_many_gradient_max():
    tables = cases.random_tables(10, 6, seed=17)
    fit = fit_many(tables, prior_sd=1.0)
    assert (fit.gradient_max < 1e-9).all()
    first = fit_many(tables, prior_sd=1.0, max_iter=1)  # last evaluated at 0
    gradient = (tables - np.swapaxes(tables, 1, 2)).sum(axis=2) / 2
    total = (tables + np.swapaxes(tables, 1, 2)).sum(axis=2)
    np.testing.assert_allclose(
        first.gradient_max, (abs(gradient) / np.maximum(1, total)).max(axis=1)
    )


def test_fit_many_shapes_and_dtypes():
    tables = cases.random_tables(12, 5)
    flat = fit_many(tables, prior_sd=1.0, standard_errors=True)
    deep = fit_many(tables.reshape(3, 1, 4, 5, 5), prior_sd=1.0, standard_errors=True)
    assert deep.scores.shape == deep.standard_errors.shape == (3, 1, 4, 5)
    assert deep.status.shape == deep.n_iter.shape == deep.gradient_max.shape == (3, 1, 4)
    assert (deep.scores.reshape(12, 5) == flat.scores).all()
    one = fit_many(tables[0], prior_sd=1.0)
    assert one.scores.shape == (5,)
    assert isinstance(one.status, np.int8)
    assert one.converged
    assert one.standard_errors is None
    assert fit_many(tables[:0], prior_sd=1.0).scores.shape == (0, 5)
    half = fit_many(tables.astype(np.float32), prior_sd=1.0)
    assert half.scores.dtype == np.float32
    assert (half.scores == flat.scores.astype(np.float32)).all()
    for same in (
        tables.astype(int),
        tables.tolist(),
        np.asfortranarray(tables),
        tables.astype(">f8"),
    ):
        again = fit_many(same, prior_sd=1.0)
        assert again.scores.dtype == np.float64
        assert (again.scores == flat.scores).all()


def test_results_are_frozen_and_pickle():
    for result in (
        fit_many(cases.ANCHORS, prior_sd=1.0),
        score_against_anchors(cases.PREFERENCES, cases.ANCHORS),
    ):
        field = dataclasses.fields(result)[0].name
        with pytest.raises(dataclasses.FrozenInstanceError):
            setattr(result, field, None)
        again = pickle.loads(pickle.dumps(result))
        np.testing.assert_array_equal(getattr(again, field), getattr(result, field))


# Messages


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        (
            {"wins": np.ones((3, 4))},
            ValueError,
            "wins has shape (3, 4), the last two axes must be equal",
        ),
        ({"wins": np.ones(3)}, ValueError, "wins has shape (3,), the last two axes must be equal"),
        (
            {"wins": np.ones((1, 1))},
            ValueError,
            "wins has shape (1, 1), the last two axes must be from 2 to 64",
        ),
        (
            {"wins": np.ones((65, 65))},
            ValueError,
            "wins has shape (65, 65), the last two axes must be from 2 to 64",
        ),
        (
            {"prior_sd": np.ones(4)},
            ValueError,
            "prior_sd has shape (4,), it must broadcast to (3, 3)",
        ),
        (
            {"prior_mean": np.ones((2, 3))},
            ValueError,
            "prior_mean has shape (2, 3), it must broadcast to (3, 3)",
        ),
        ({"prior_sd": -1.0}, ValueError, "prior_sd = -1.0, it cannot be negative or NaN"),
        (
            {"losses": np.ones((2, 3, 3))},
            ValueError,
            "losses has shape (2, 3, 3), wins has (3, 3, 3)",
        ),
        (
            {"first_advantage": 0.5},
            ValueError,
            "first_advantage = 0.5 needs ordered tables (pass losses=)",
        ),
        ({"link": "cauchit"}, ValueError, "link = 'cauchit', it must be one of logit, probit"),
        ({"tol": 0.0}, ValueError, "tol = 0.0, it must be finite and above 0"),
        ({"max_iter": 0}, ValueError, "max_iter = 0, it must be at least 1"),
        ({"max_iter": 2.5}, TypeError, "max_iter = 2.5, it must be an integer"),
        (
            {"n_threads": 0},
            ValueError,
            "n_threads = 0, it must be an integer of at least 1 or None",
        ),
        ({"wins": np.ones((3, 3), dtype=object)}, TypeError, "wins has dtype object"),
        (
            {"wins": np.ones((3, 3), dtype=complex)},
            TypeError,
            "wins has dtype complex128, it must be real",
        ),
        ({"wins": [["a", "b"], ["c", "d"]]}, TypeError, "wins has dtype <U1"),
        ({"wins": np.ma.ones((3, 3))}, TypeError, "wins is a masked array"),
        ({"wins": np.ones((3, 3)).view(np.matrix)}, TypeError, "wins is a numpy.matrix"),
    ],
)
def test_fit_many_messages(arguments, error, message):
    given = {"wins": np.ones((3, 3, 3)), "prior_sd": 1.0} | arguments
    with pytest.raises(error) as caught:
        fit_many(given.pop("wins"), **given)
    assert str(caught.value).startswith(f"fit_many: {message}")


def test_fit_many_requires_prior_sd():
    with pytest.raises(TypeError, match="prior_sd"):
        fit_many(np.ones((3, 3)))
