"""score_against_anchors on every backend that can run here."""

import numpy as np
import pytest

from ops import fit as cases
from softmap.fit_many import Status, fit_many, score_against_anchors

pytestmark = pytest.mark.usefixtures("backend")
links = pytest.mark.parametrize("link", cases.LINKS)

UNDEFEATED = [[0, 3, 2], [0, 0, 1], [0, 4, 0]]


@links
def test_score_against_anchors_published(link):
    result = score_against_anchors(cases.PREFERENCES, cases.ANCHORS, link=link, rescale=(0, 100))
    assert result.status == Status.OK
    assert abs(result.score - cases.MIN_MAX_SCORE[link]) < 1e-8
    raw = score_against_anchors(cases.PREFERENCES, cases.ANCHORS, link=link)
    if link == "logit":
        assert abs(raw.score - 0.0311511947) < 1e-9


def preferences(count, m, seed=0):
    return np.random.default_rng(seed).uniform(0.02, 0.98, size=(count, m))


def joint_tables(p, anchors):
    """Return the tables that score_against_anchors says it fits."""
    m = len(anchors)
    w = np.zeros((len(p), m + 1, m + 1))
    w[:, :m, :m] = anchors
    w[:, m, :m] = p
    w[:, :m, m] = 1 - p
    return w


@links
def test_score_against_anchors_is_the_joint_fit(link):
    p = preferences(19, 5)
    fit = fit_many(joint_tables(p, cases.ANCHORS), prior_sd=0.7, link=link, standard_errors=True)
    result = score_against_anchors(p, cases.ANCHORS, prior_sd=0.7, link=link, standard_errors=True)
    np.testing.assert_allclose(result.score, fit.scores[:, 5], rtol=0, atol=1e-12)
    np.testing.assert_allclose(result.anchor_scores, fit.scores[:, :5], rtol=0, atol=1e-12)
    np.testing.assert_allclose(result.standard_error, fit.standard_errors[:, 5], rtol=1e-9)
    plain = score_against_anchors(p, cases.ANCHORS, prior_sd=0.7, link=link)
    np.testing.assert_allclose(plain.score, fit.scores[:, 5], rtol=0, atol=1e-9)
    others = fit.scores[:, :5]
    outside = np.where(
        fit.scores[:, 5] > others.max(1), 1, np.where(fit.scores[:, 5] < others.min(1), -1, 0)
    )
    assert (result.outside == outside).all()


@links
def test_score_against_anchors_rescaled_errors(link):
    p = preferences(40, 5, seed=1) ** np.linspace(0.1, 8, 40)[:, None]
    raw = score_against_anchors(p, cases.ANCHORS, link=link)
    result = score_against_anchors(
        p, cases.ANCHORS, link=link, rescale=(10, 60), standard_errors=True
    )
    inside = result.outside == 0
    assert 10 < inside.sum() < 40
    assert np.isnan(result.standard_error[~inside]).all()
    scores = np.column_stack([raw.anchor_scores, raw.score])
    low, high = scores.min(1), scores.max(1)
    np.testing.assert_allclose(result.score, 10 + 50 * (raw.score - low) / (high - low), rtol=1e-9)
    for k in np.flatnonzero(inside):
        c = cases.covariance(
            joint_tables(p[k : k + 1], cases.ANCHORS)[0], scores[k], sd=1.0, link=link
        )
        i, j = scores[k].argmin(), scores[k].argmax()
        width = high[k] - low[k]
        g = np.zeros(6)
        g[5] = 1 / width
        g[i] = -(high[k] - raw.score[k]) / width**2
        g[j] = -(raw.score[k] - low[k]) / width**2
        np.testing.assert_allclose(result.standard_error[k], 50 * np.sqrt(g @ c @ g), rtol=1e-9)


@links
def test_score_against_anchors_fixed(link):
    p = preferences(9, 5, seed=2)
    alone = fit_many(cases.ANCHORS, prior_sd=1.0, link=link)
    result = score_against_anchors(
        p, cases.ANCHORS, link=link, anchors_fixed=True, standard_errors=True
    )
    assert (result.anchor_scores == alone.scores).all()
    mean = np.append(alone.scores, 0.0)
    sd = np.array([0, 0, 0, 0, 0, 1.0])
    for k, wins in enumerate(joint_tables(p, cases.ANCHORS)):
        expected = cases.solve(wins, sd=sd, mean=mean, link=link)
        assert abs(result.score[k] - expected[5]) < 1e-12
        d = expected[5] - expected[:5]
        q = 1 / (1 + np.exp(-d))
        if link == "logit":
            np.testing.assert_allclose(
                result.standard_error[k], 1 / np.sqrt(1 + (q * (1 - q)).sum()), rtol=1e-9
            )


def test_score_against_anchors_saturates():
    p = np.array([[1.0] * 5, [0.0] * 5, cases.PREFERENCES])
    result = score_against_anchors(p, cases.ANCHORS, rescale=(0, 100), standard_errors=True)
    assert result.score[:2].tolist() == [100.0, 0.0]
    assert result.outside.tolist() == [1, -1, 0]
    assert np.isnan(result.standard_error).tolist() == [True, True, False]


def test_score_against_anchors_bad_rows():
    p = preferences(6, 5)
    good = score_against_anchors(p, cases.ANCHORS, standard_errors=True)
    p[1], p[3, 2], p[4, 0] = np.nan, 1.5, -0.5
    result = score_against_anchors(p, cases.ANCHORS, standard_errors=True)
    assert result.status.tolist() == [0, Status.MISSING, 0, Status.BAD_INPUT, Status.BAD_INPUT, 0]
    for a in (result.score, result.standard_error, result.anchor_scores[:, 0]):
        assert np.isnan(a).tolist() == [False, True, False, True, True, False]
    assert (result.score[[0, 2, 5]] == good.score[[0, 2, 5]]).all()


@links
@pytest.mark.parametrize("m", [2, 5, 9])
@pytest.mark.parametrize("fixed", [False, True])
def test_score_against_anchors_some_missing(m, fixed, link):
    """NaN leaves the pair out, as if the anchor had not been compared."""
    anchors = cases.random_tables(1, m, seed=m)[0]
    p = preferences(12, m, seed=m)
    p[np.random.default_rng(m).random(p.shape) < 0.4] = np.nan
    p[3], p[4, 1:] = np.nan, np.nan
    options = {"prior_sd": 1.5, "link": link}
    result = score_against_anchors(p, anchors, anchors_fixed=fixed, **options)
    tables = joint_tables(p, anchors)
    missing = np.isnan(p).all(axis=1)
    assert (result.status == np.where(missing, Status.MISSING, Status.OK)).all()
    assert np.isnan(result.score[missing]).all()
    alone = fit_many(anchors, **options).scores
    for k in np.flatnonzero(~missing):
        sd = np.r_[np.zeros(m), 1.5] if fixed else 1.5
        mean = np.r_[alone, 0.0] if fixed else 0.0
        expected = cases.solve(np.nan_to_num(tables[k]), sd=sd, mean=mean, link=link)
        np.testing.assert_allclose(result.score[k], expected[m], rtol=0, atol=1e-9)
        np.testing.assert_allclose(result.anchor_scores[k], expected[:m], rtol=0, atol=1e-9)


def test_score_against_anchors_without_maximum():
    undefeated = np.array(UNDEFEATED, dtype=float)
    result = score_against_anchors([0.5, 0.5, 0.5], undefeated, prior_sd=np.inf, anchors_fixed=True)
    assert result.status == Status.NO_MAXIMUM
    assert np.isnan(result.score)
    # A test item that both beats and loses to each anchor connects them.
    assert score_against_anchors([0.5, 0.5, 0.5], undefeated, prior_sd=np.inf).status == Status.OK
    assert (
        score_against_anchors([0.0, 0.5, 0.5], undefeated, prior_sd=np.inf).status
        == Status.NO_MAXIMUM
    )


def test_score_against_anchors_shapes():
    p = preferences(6, 5)
    deep = score_against_anchors(
        p.reshape(2, 3, 5).astype(np.float32), cases.ANCHORS, standard_errors=True
    )
    assert (
        deep.score.shape
        == deep.standard_error.shape
        == deep.outside.shape
        == deep.status.shape
        == (2, 3)
    )
    assert deep.anchor_scores.shape == (2, 3, 5)
    assert deep.score.dtype == deep.standard_error.dtype == deep.anchor_scores.dtype == np.float32
    one = score_against_anchors([0.7], [[0.5]], anchors_fixed=True)
    assert one.anchor_scores.tolist() == [0.0]
    assert one.score > 0


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        (
            {"preferences": [0.5, 0.5]},
            ValueError,
            "preferences has shape (2,), its last axis must be 5",
        ),
        ({"preferences": 0.5}, ValueError, "preferences has shape (), its last axis must be 5"),
        ({"anchors": np.ones((5, 4))}, ValueError, "anchors has shape (5, 4), it must be square"),
        (
            {"anchors": np.ones((64, 64))},
            ValueError,
            "anchors has shape (64, 64), m must be from 1 to 63",
        ),
        ({"anchors": -np.ones((5, 5))}, ValueError, "anchors[0, 1] = -1.0, weights must be finite"),
        ({"prior_sd": 0.0}, ValueError, "prior_sd = 0.0, it must be finite and above 0"),
        ({"rescale": 100}, ValueError, "rescale = 100, it must be (low, high) or None"),
        ({"rescale": (0, np.nan)}, ValueError, "rescale[1] = nan, it must be finite"),
        ({"link": None}, ValueError, "link = None, it must be one of logit, probit"),
    ],
)
def test_score_against_anchors_messages(arguments, error, message):
    given = {"preferences": cases.PREFERENCES, "anchors": cases.ANCHORS} | arguments
    with pytest.raises(error) as caught:
        score_against_anchors(given.pop("preferences"), given.pop("anchors"), **given)
    assert str(caught.value).startswith(f"score_against_anchors: {message}")
