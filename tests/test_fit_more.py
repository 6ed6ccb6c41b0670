"""Anchors, clusters, groups, resampling, findings about the prior and the position, JSON."""

# budget: over 400 lines: a test an option of the labelled fit

import json
import math
import pickle
import re

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import softmap
from softmap import Comparisons, DataWarning, Fit, NoMaximumError, fit, fit_groups
from softmap.demo import baseball
from softmap.errors import BackendMissingError

INF = math.inf


def raises(kind, message):
    return pytest.raises(kind, match="^" + re.escape(message) + "$")


def votes(rng, n=5, rows=400, spread=1.0, **options):
    """Return random pairs of n items with scores from -spread to spread."""
    scores = np.linspace(-spread, spread, n)
    left = rng.integers(0, n, rows)
    right = (left + rng.integers(1, n, rows)) % n
    won = rng.random(rows) < 1.0 / (1.0 + np.exp(scores[right] - scores[left]))
    return Comparisons.from_pairs(left, right, won, items=n, **options)


def test_every_row_a_cluster_is_the_sandwich():
    rng = np.random.default_rng(1)
    rows = 300
    c = votes(rng, rows=rows, clusters=np.arange(rows))
    for advantage in (0.0, "estimate"):
        # with a prior the meat holds its precision too, which no number of clusters scales
        plain = fit(c, errors="sandwich", prior_sd=INF, first_advantage=advantage)
        robust = fit(c, prior_sd=INF, first_advantage=advantage)
        assert robust.errors == "cluster"
        factor = rows / (rows - 1)
        assert robust.covariance == pytest.approx(plain.covariance * factor, rel=1e-9)
        if robust.first_advantage:
            ratio = robust.first_advantage.standard_error / plain.first_advantage.standard_error
            assert ratio == pytest.approx(math.sqrt(factor), rel=1e-9)


@pytest.mark.parametrize("ties", ["half", "drop"])
def test_cluster_errors_follow_the_definition(ties):
    rng = np.random.default_rng(2)
    n, rows, groups = 4, 120, 17
    left = rng.integers(0, n, rows)
    right = (left + rng.integers(1, n, rows)) % n
    y = rng.choice([0, 0.5, 1], rows)
    weight, cluster = rng.uniform(0.5, 2, rows), rng.integers(0, groups, rows)
    c = Comparisons.from_pairs(left, right, y, weights=weight, clusters=cluster, items=n)
    result = fit(c, prior_sd=3.0, ties=ties, on_trouble="ignore")
    x = np.zeros((rows, n))
    x[np.arange(rows), left], x[np.arange(rows), right] = 1.0, -1.0
    p = 1.0 / (1.0 + np.exp(-x @ result.scores))
    w = weight * ((y != 0.5) | (ties == "half"))
    h = (x * (w * p * (1 - p))[:, None]).T @ x + np.eye(n) / 9.0
    scores = np.stack(
        [(x * (w * (y - p))[:, None])[cluster == g].sum(axis=0) for g in range(groups)]
    )
    m = groups / (groups - 1) * scores.T @ scores + np.eye(n) / 9.0
    centre = np.eye(n) - 1.0 / n
    expected = centre @ np.linalg.inv(h) @ m @ np.linalg.inv(h) @ centre
    assert result.covariance == pytest.approx(expected, rel=1e-8, abs=1e-12)


def test_repeated_votes_need_cluster_errors():
    """Each vote copied five times: cluster errors are those of the votes, the others too small."""
    rng = np.random.default_rng(3)
    n, rows = 5, 200
    left = rng.integers(0, n, rows)
    right = (left + rng.integers(1, n, rows)) % n
    y = rng.random(rows) < 0.5
    once = Comparisons.from_pairs(left, right, y, clusters=np.arange(rows), items=n)
    copied = [np.repeat(x, 5) for x in (left, right, y, np.arange(rows))]
    five = Comparisons.from_pairs(*copied[:3], clusters=copied[3], items=n)
    a, b = fit(once, prior_sd=INF), fit(five, prior_sd=INF)
    assert b.scores == pytest.approx(a.scores, abs=1e-9)
    assert b.standard_errors == pytest.approx(a.standard_errors, rel=1e-9)
    naive = fit(five, prior_sd=INF, errors="sandwich")
    assert naive.standard_errors == pytest.approx(a.standard_errors / math.sqrt(5), rel=0.01)


def test_soft_outcomes_fit_as_shares_with_their_own_errors():
    rng = np.random.default_rng(4)
    n, rows = 4, 200
    left = rng.integers(0, n, rows)
    right = (left + rng.integers(1, n, rows)) % n
    p = rng.uniform(0.2, 0.8, rows)
    soft = fit(Comparisons.from_pairs(left, right, p, soft=True, items=n), prior_sd=INF)
    twice = [np.concatenate([x, x]) for x in (left, right)]
    outcomes = np.repeat(["left", "right"], rows)
    shares = Comparisons.from_pairs(*twice, outcomes, weights=np.concatenate([p, 1 - p]), items=n)
    assert soft.scores == pytest.approx(fit(shares, prior_sd=INF).scores, abs=1e-9)
    x = np.zeros((rows, n))
    x[np.arange(rows), left], x[np.arange(rows), right] = 1.0, -1.0
    q = 1.0 / (1.0 + np.exp(-x @ soft.scores))
    g, h = x * (p - q)[:, None], (x * (q * (1 - q))[:, None]).T @ x
    bread = np.linalg.pinv(h)
    assert soft.covariance == pytest.approx(bread @ g.T @ g @ bread, rel=1e-8, abs=1e-12)


def test_soft_outcomes_want_half_ties():
    c = Comparisons.from_pairs(["a", "b"], ["b", "a"], [0.5, 0.75], soft=True)
    message = "fit: ties = 'drop', but ties are hidden in probabilities that the left won"
    with raises(ValueError, f"{message} (use ties='half')"):
        fit(c, ties="drop")


@pytest.mark.parametrize("link", ["logit", "probit"])
def test_one_anchor_is_a_shift(link):
    c = baseball()
    options = {"link": link, "prior_sd": INF, "first_advantage": "estimate"}
    free, held = fit(c, **options), fit(c, anchors={"Boston": 2.0}, **options)
    shift = free.scores - free.scores[free.items.index("Boston")]
    assert held.scores == pytest.approx(2.0 + shift, abs=1e-9)
    for team in ("Detroit", "Boston"):
        expected = free.compare(team, "Boston").standard_error
        k = held.items.index(team)
        assert held.standard_errors[k] == pytest.approx(expected, rel=1e-9)
    assert held.first_advantage.value == pytest.approx(free.first_advantage.value, abs=1e-9)
    assert held.log_likelihood == pytest.approx(free.log_likelihood, abs=1e-9)
    assert held.anchors == (("Boston", 2.0),)


@settings(deadline=None, max_examples=40)
@given(st.integers(0, 10**6), st.floats(-3, 3), st.floats(-3, 3), st.sampled_from([1.0, 10.0]))
def test_anchored_scores_are_stationary(seed, first, second, prior_sd):
    c = votes(np.random.default_rng(seed), rows=40)
    result = fit(
        c, anchors={0: first, 3: second}, prior_sd=prior_sd, prior_mean=0.5, on_trouble="ignore"
    )
    assert result.converged
    assert (result.scores[0], result.scores[3]) == (pytest.approx(first), pytest.approx(second))
    p = 1.0 / (1.0 + np.exp(result.scores[c.right] - result.scores[c.left]))
    slope = c.wins * (1 - p) - c.losses * p
    g = np.bincount(c.left, slope, 5) - np.bincount(c.right, slope, 5)
    g -= (result.scores - 0.5) / prior_sd**2
    assert np.abs(g[[1, 2, 4]]).max() < 1e-8
    assert result.standard_errors[[0, 3]].tolist() == [0.0, 0.0]


def test_anchors_decide_what_exists():
    c = Comparisons.from_pairs(list("abbc"), list("bacb"))  # b and c beat each other; so do a, b
    apart = c + Comparisons.from_pairs(["x", "y"], ["y", "x"])
    with pytest.raises(NoMaximumError, match="wins and losses do not tie x, y to the anchors"):
        fit(apart, anchors={"a": 0.0}, prior_sd=INF)
    both = fit(apart, anchors={"a": 0.0, "x": 1.0}, prior_sd=INF, on_trouble="ignore")
    assert both.converged
    assert both.scores == pytest.approx([0.0, 0.0, 0.0, 1.0, 1.0], abs=1e-9)
    only_won = Comparisons.from_pairs(["a", "m"], ["m", "b"])  # m lies between the anchors
    held = fit(only_won, anchors={"a": 1.0, "b": -1.0}, prior_sd=INF, on_trouble="ignore")
    assert held.scores[held.items.index("m")] == pytest.approx(0.0, abs=1e-9)
    prior = fit(apart, anchors={"a": 0.0}, prior_sd=2.0, on_trouble="ignore")
    x = prior.items.index("x")
    fisher = fit(apart, anchors={"a": 0.0}, prior_sd=2.0, errors="fisher", on_trouble="ignore")
    # x and y float with the mean of their priors, 2^2 / 2, and half the variance of a difference
    assert prior.scores[x] == pytest.approx(0.0, abs=1e-9)
    assert fisher.standard_errors[x] ** 2 == pytest.approx(2.0 + 0.5 / (2 * 0.5 + 1 / 4), rel=1e-9)


@pytest.mark.parametrize(
    ("kind", "anchors", "message"),
    [
        (TypeError, ["Boston"], "fit: anchors is a list, it must be a mapping of item to score"),
        (ValueError, {"Boston": INF}, "fit: anchors['Boston'] = inf, it must be from -1e6 to 1e6"),
        (ValueError, {"Boston": "1"}, "fit: anchors['Boston'] = '1', it must be from -1e6 to 1e6"),
        (
            ValueError,
            {"Rome": 1.0},
            "fit: anchors has 'Rome', which is not among the items Baltimore, Boston, Cleveland, "
            "Detroit, Milwaukee and 2 more",
        ),
    ],
)
def test_anchor_errors(kind, anchors, message):
    with raises(kind, message):
        fit(baseball(), anchors=anchors)


def test_cluster_errors_need_clusters():
    for c, count in ((baseball(), 0), (votes(np.random.default_rng(0), clusters=[1] * 400), 1)):
        message = (
            f"fit: errors = 'cluster', but these comparisons have {count} clusters, at least 2 are "
            "needed (use Comparisons.from_pairs with clusters=)"
        )
        with raises(ValueError, message):
            fit(c, errors="cluster")
        assert fit(c).errors == "sandwich"


def test_groups_on_threads_are_the_fits_of_their_parts(monkeypatch):
    monkeypatch.setattr("softmap.groups._MANY_PAIRS", 0)
    rng = np.random.default_rng(4)
    left = rng.integers(0, 40, 20_000)
    right = (left + rng.integers(1, 40, left.size)) % 40
    c = Comparisons.from_pairs(left, right, rng.random(left.size) < 0.5, groups=left % 7)
    with softmap.threads(3):
        found = fit_groups(c, on_trouble="ignore")
    assert [*found] == list(range(7))
    for name, part in c.groups:
        used = np.unique([part.left, part.right])
        alone = fit(part.among(tuple(used.tolist())), on_trouble="ignore")
        assert np.array_equal(found[name].scores, alone.scores)
        assert np.array_equal(found[name].standard_errors, alone.standard_errors)


def test_groups_are_fitted_one_by_one():
    rng = np.random.default_rng(5)
    masks = {"all": np.ones(400, bool), "half": rng.random(400) < 0.5, "one": np.arange(400) < 1}
    c = votes(rng, groups=masks)
    with pytest.warns(DataWarning, match=r"^fit_groups: one: undefeated, winless$"):
        found = fit_groups(c)
    assert list(found) == ["all", "half", "one"]
    assert np.array_equal(found["all"].scores, fit(c).scores)
    assert len(found["one"].items) == 2  # only those that the group compares
    with pytest.warns(DataWarning, match=r"^fit_groups: one: fit: prior_sd = inf, no unique"):
        found = fit_groups(c, prior_sd=INF, anchors={4: 1.0})
    assert (list(found), list(found.failed)) == (["all", "half"], ["one"])
    assert found["half"].scores[4] == 1.0
    with pytest.raises(KeyError, match="failed: fit: prior_sd = inf"):
        found["one"]
    with pytest.raises(KeyError, match="two"):
        found["two"]
    with pytest.raises(DataWarning):
        fit_groups(c, on_trouble="raise")
    message = (
        "fit_groups: these comparisons have no groups (use Comparisons.from_pairs with groups=)"
    )
    with raises(ValueError, message):
        fit_groups(baseball())


def test_bootstrap_agrees_with_the_errors():
    rng = np.random.default_rng(6)
    c = votes(rng, rows=600)
    result = fit(c, first_advantage="estimate")
    resampled = result.bootstrap(400, rng=7)
    assert resampled.scores.shape == (400, 5)
    assert resampled.n_failed == 0
    assert resampled.standard_errors == pytest.approx(result.standard_errors, rel=0.2)
    assert resampled.low == pytest.approx(result.low, abs=0.1)
    assert (resampled.rank_low <= result.rank).all()
    assert (result.rank <= resampled.rank_high).all()
    assert np.array_equal(result.bootstrap(20, rng=3).scores, result.bootstrap(20, rng=3).scores)
    elo = result.rescale("elo", anchor=2, center=1500.0).bootstrap(100, rng=7)
    assert elo.scores[:, 2] == pytest.approx(1500.0)
    factor = 400 / math.log(10)
    expected = 1500.0 + factor * (resampled.scores[:100] - resampled.scores[:100, [2]])
    assert elo.scores == pytest.approx(expected, abs=1e-3)


def test_bootstrap_by_cluster():
    rng = np.random.default_rng(8)
    rows = 200
    n = 5
    left = rng.integers(0, n, rows)
    right = (left + rng.integers(1, n, rows)) % n
    y = rng.random(rows) < 0.5
    five = [np.repeat(x, 5) for x in (left, right, y, np.arange(rows))]
    c = Comparisons.from_pairs(*five[:3], clusters=five[3], weights=2.0, items=n)
    result = fit(c)
    by_cluster = result.bootstrap(300, by="cluster", rng=1).standard_errors
    by_row = result.bootstrap(300, rng=1).standard_errors
    assert by_cluster == pytest.approx(result.standard_errors, rel=0.2)
    assert by_row == pytest.approx(result.standard_errors / math.sqrt(5), rel=0.2)


def test_bootstrap_without_a_maximum():
    c = Comparisons.from_pairs(list("abab"), list("baba"), [1, 1, 1, 0])
    result = fit(c, prior_sd=INF, on_trouble="ignore")
    resampled = result.bootstrap(200, rng=1)
    assert 0 < resampled.n_failed < 200
    assert np.isnan(resampled.scores).any(axis=1).sum() == resampled.n_failed
    assert repr(resampled) == f"Bootstrap(200 of 2 items, {resampled.n_failed} failed)"


def test_bootstrap_errors():
    result = fit(baseball())
    for options, message in (
        ({"by": "judge"}, "by = 'judge', it must be row or cluster"),
        ({"n": 1}, "n = 1, it must be an integer from 2"),
        (
            {"by": "cluster"},
            "by = 'cluster', but these comparisons have none "
            "(use Comparisons.from_pairs with clusters=)",
        ),
    ):
        with raises(ValueError, f"Fit.bootstrap: {message}"):
            result.bootstrap(**options)
    with raises(ValueError, "Fit.bootstrap: this fit has no comparisons, it came from JSON"):
        Fit.from_json(result.to_json()).bootstrap()
    weighted = Comparisons.from_pairs(["a", "b"], ["b", "a"], weights=[1.0, 2.0])
    with pytest.raises(ValueError, match="sums of weights or probabilities cannot be resampled"):
        fit(weighted, on_trouble="ignore").bootstrap()


def test_prior_decides_names_the_scores():
    c = Comparisons.from_matrix([[0, 300], [100, 0]], items=["a", "b"])
    assert fit(c).diagnostics.findings == ()
    with pytest.warns(DataWarning, match=r"^fit: the prior moves the scores of a, b by more than"):
        (finding,) = fit(c, prior_sd=0.2).diagnostics.findings
    assert (finding.code, finding.items) == ("prior_decides", ("a", "b"))
    assert fit(c, prior_sd=INF).diagnostics.findings == ()


@settings(deadline=None, max_examples=30)
@given(st.integers(0, 10**6), st.floats(0.05, 3.0), st.sampled_from(["sandwich", "fisher"]))
def test_prior_decides_is_exact(seed, prior_sd, errors):
    c = votes(np.random.default_rng(seed), rows=150)
    try:
        free = fit(c, prior_sd=INF)
    except NoMaximumError:
        return
    result = fit(c, prior_sd=prior_sd, errors=errors, on_trouble="ignore")
    moved = np.abs(free.scores - result.scores) / result.standard_errors
    named = {x for f in result.diagnostics.findings if f.code == "prior_decides" for x in f.items}
    assert {k for k in range(5) if moved[k] > 0.501} <= named
    assert named <= {k for k in range(5) if moved[k] > 0.499}


def test_position_bias_and_its_size():
    rng = np.random.default_rng(9)
    rows = 2000
    left, won = rng.integers(0, 2, rows), rng.random(rows) < 0.6
    c = Comparisons.from_pairs(left, 1 - left, won, items=2)
    share = 100 * float(np.mean(won))
    with pytest.warns(DataWarning, match="the first position won"):
        (finding,) = fit(c).diagnostics.findings
    assert finding.code == "position_bias"
    assert finding.text.startswith(
        f"the first position won {share:.1f}% of 2000 decided comparisons, and would win about "
        f"{share:.0f}% between equals"
    )
    assert fit(c, first_advantage="estimate").diagnostics.findings == ()
    assert fit(c.without_order()).diagnostics.findings == ()


def test_rarely_compared():
    wins = np.full((4, 4), 40)
    wins[3, :], wins[:, 3] = [1, 1, 0, 0], [1, 0, 0, 0]
    with pytest.warns(DataWarning, match="3 was compared 3 times at most, the median item 1"):
        (finding,) = fit(Comparisons.from_matrix(wins)).diagnostics.findings
    assert (finding.code, finding.items) == ("rarely_compared", (3,))
    assert not finding.structural


@pytest.mark.parametrize("anchor", [None, "Boston"])
def test_json_round_trip(anchor):
    c = baseball() + Comparisons.from_pairs(["Rome"], ["Boston"], items=["Boston", "Oslo", "Rome"])
    result = fit(c, first_advantage="estimate", prior_sd=7.0, on_trouble="ignore")
    for each in (result, result.rescale("elo", anchor=anchor)):
        again = Fit.from_json(each.to_json())
        assert json.loads(each.to_json())["softmap"] == "fit"
        for name in vars(each):
            before, after = getattr(each, name), getattr(again, name)
            if isinstance(before, np.ndarray):
                assert before.dtype == after.dtype
                assert np.array_equal(before, after, equal_nan=before.dtype.kind == "f")
            elif name != "comparisons":
                assert before == after, name
        assert again.summary() == each.summary()
        assert again.compare("Boston", "Detroit") == each.compare("Boston", "Detroit")
        assert pickle.loads(pickle.dumps(again)).summary() == each.summary()
    infinite = fit(baseball(), prior_sd=INF, anchors={"Boston": 0.5})
    again = Fit.from_json(infinite.to_json())
    assert (again.prior_sd, again.anchors) == (INF, (("Boston", 0.5),))


def test_json_errors():
    for text in ("", "[]", "{}", '{"softmap": "comparisons", "version": 1}'):
        with raises(ValueError, "Fit.from_json: text is not what Fit.to_json wrote"):
            Fit.from_json(text)
    with pytest.raises(ValueError, match="text has version 2, this softmap reads up to 1"):
        Fit.from_json('{"softmap": "fit", "version": 2}')


@pytest.mark.parametrize("library", ["pandas", "polars"])
def test_to_frame(library):
    pytest.importorskip(library, reason="an optional library")
    result = fit(baseball())
    df = result.to_frame(library=library)
    assert list(df.columns)[:4] == ["rank", "item", "score", "standard_error"]
    assert next(iter(df["item"])) == "Milwaukee"
    assert list(df["score"]) == sorted(result.scores, reverse=True)
    assert len(result.to_frame(79, library=library)) == 0
    assert len(result.to_frame(78, library=library)) == 7


def test_to_frame_errors(monkeypatch):
    result = fit(baseball())
    with raises(ValueError, "Fit.to_frame: library = 'R', it must be pandas or polars"):
        result.to_frame(library="R")
    monkeypatch.setitem(__import__("sys").modules, "pandas", None)
    with raises(BackendMissingError, "Fit.to_frame: needs pandas; pip install pandas"):
        result.to_frame()


@pytest.mark.parametrize("ties", ["davidson", "rao-kupper", "threshold"])
def test_a_strength_that_the_data_do_not_show_is_no_parameter(ties):
    """Without ties its error is NaN; it is then held where it is, as it is where it was given."""
    from softmap.fit import full_covariance

    rng = np.random.default_rng(3)
    left, right = rng.integers(0, 12, (2, 400))
    keep = left != right
    c = Comparisons.from_pairs(left[keep], right[keep], rng.integers(0, 2, keep.sum()), items=12)
    link = "probit" if ties == "threshold" else "logit"
    found = fit(c, ties=ties, link=link, on_trouble="ignore")
    assert math.isnan(found.tie_strength.standard_error)
    np.testing.assert_allclose(full_covariance(found, c), found.covariance, rtol=1e-6, atol=1e-12)


def test_an_estimated_advantage_without_an_error_is_not_taken_for_a_given_one():
    found = fit(baseball(), first_advantage="estimate", errors="none")
    assert found.fixed_parameters()[0] is None
    assert fit(baseball(), first_advantage=0.2, errors="none").fixed_parameters()[0] == 0.2
