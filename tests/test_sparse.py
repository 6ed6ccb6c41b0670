"""Fits by the graph of the comparisons: the systems, and the same answers as by a matrix."""

import dataclasses
import math

import numpy as np
import pytest

import softmap
from softmap import _backend, _newton, _sparse
from softmap._covariance import covariance
from softmap._sparse import System, ranks_apart
from softmap._survey import survey
from softmap.comparisons import Comparisons
from softmap.result import Fit

fit = softmap.fit


def pairs_of(kind, n, random):
    """Return the pairs who meet."""
    chain = np.arange(n - 1), np.arange(1, n)
    if kind == "ladder":
        return chain
    if kind == "star":
        return np.zeros(n - 1, dtype=np.int64), np.arange(1, n)
    if kind == "random":
        a = random.integers(0, n, 12 * n)
        return a, (a + random.integers(1, n, 12 * n)) % n
    if kind == "power":  # few meet often
        a = (random.pareto(1.0, 6 * n) * 5).astype(np.int64) % n
        b = (a + 1 + (random.pareto(1.2, 6 * n) * 3).astype(np.int64) % (n - 2)) % n
        return np.concatenate([a, chain[0]]), np.concatenate([b, chain[1]])
    half = n // 2  # two groups that one pair joins
    a, b = pairs_of("random", half, random)
    return np.concatenate([a, a + half, [half - 1]]), np.concatenate([b, b + half, [half]])


KINDS = ("ladder", "star", "random", "power", "joined")


def matrix(n, a, b, weight, diagonal):
    h = np.zeros((n, n))
    np.add.at(h, (a, b), -weight)
    np.add.at(h, (b, a), -weight)
    h[range(n), range(n)] = diagonal - h.sum(axis=1)
    return h


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("n", [4, 90, 700])
def test_solve_system_is_a_solution(backend, kind, n):
    random = np.random.default_rng(n)
    a, b = pairs_of(kind, n, random)
    weight, diagonal = random.random(a.size) + 0.01, 10.0 ** random.uniform(-4, 0, n)
    g = random.normal(size=(3, n))
    system = _backend.cpu().make_system(n, a, b)
    x, steps = _backend.cpu().solve_system(system, weight, diagonal, g, 1e-13, 5000, 1)
    assert steps >= 0
    h = matrix(n, a, b, weight, diagonal)
    expected = np.linalg.solve(h, g.T).T
    np.testing.assert_allclose(x, expected, rtol=0, atol=1e-8 * np.abs(expected).max())
    for n_threads in (2, 5):  # the same bits
        again, _ = _backend.cpu().solve_system(system, weight, diagonal, g, 1e-13, 5000, n_threads)
        assert np.array_equal(x, again)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("n_rows", [4, 5, 19])
def test_solve_system_takes_many_together(backend, kind, n_rows):
    """To an error for which directions in single precision do."""
    n, random = 700, np.random.default_rng(n_rows)
    a, b = pairs_of(kind, n, random)
    weight, diagonal = random.random(a.size) + 0.01, 10.0 ** random.uniform(-4, 0, n)
    g = random.normal(size=(n_rows, n))
    g[1] = 0.0
    system = _backend.cpu().make_system(n, a, b)
    x, steps = _backend.cpu().solve_system(system, weight, diagonal, g, 1e-6, 5000, 1)
    assert steps >= 0
    assert not x[1].any()
    expected = np.linalg.solve(matrix(n, a, b, weight, diagonal), g.T).T
    np.testing.assert_allclose(x, expected, rtol=0, atol=1e-4 * np.abs(expected).max())
    for n_threads in (2, 5):
        again, _ = _backend.cpu().solve_system(system, weight, diagonal, g, 1e-6, 5000, n_threads)
        assert np.array_equal(x, again)
    alone, _ = _backend.cpu().solve_system(system, weight, diagonal, g[-5:], 1e-6, 5000, 1)
    assert np.array_equal(x[-5:], alone)  # whoever is beside


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("n_rows", [1, 4, 9])
def test_times_system_is_a_product(backend, kind, n_rows):
    n, random = 300, np.random.default_rng(n_rows)
    a, b = pairs_of(kind, n, random)
    weight, diagonal = random.random(a.size), random.random(n)
    x = random.normal(size=(n_rows, n))
    system = _backend.cpu().make_system(n, a, b)
    y = _backend.cpu().times_system(system, weight, diagonal, x, 1)
    np.testing.assert_allclose(y, x @ matrix(n, a, b, weight, diagonal), rtol=0, atol=1e-11)
    assert np.array_equal(y, _backend.cpu().times_system(system, weight, diagonal, x, 3))


@pytest.mark.parametrize("kind", KINDS)
def test_expand_system_is_the_series_to_the_second_order(backend, kind):
    """The terms by themselves, and what is left of the inverse falls as their third power."""
    n, random = 60, np.random.default_rng(8)
    a, b = pairs_of(kind, n, random)
    system = _backend.cpu().make_system(n, a, b)
    weight, other = random.random((2, a.size))
    h, m = matrix(n, a, b, weight, 1.0), matrix(n, a, b, other, 0.5)
    d, meat = np.diag(h), np.diag(m)
    w, off = np.diag(d) - h, np.diag(meat) - m
    left = []
    for size in (1.0, 0.1):  # of what is beside the diagonals
        near = np.zeros((n, n))
        for k in range(3):
            for j in range(3 - k):
                before = np.linalg.matrix_power(size * w / d[:, None], k) / d
                after = np.linalg.matrix_power(size * w / d, j) / d[:, None]
                near += before @ (np.diag(meat) - size * off * (k + j < 2)) @ after
        scaled = size * weight, d - size * (d - 1.0), size * other, meat - size * (meat - 0.5)
        az, known = _backend.cpu().expand_system(system, *scaled, np.eye(n))
        np.testing.assert_allclose(az, near, rtol=0, atol=1e-6 * np.abs(near).max())
        np.testing.assert_allclose(known, np.diag(near), rtol=1e-12)
        inverse = np.linalg.inv(np.diag(d) - size * w)
        v = inverse @ (np.diag(meat) - size * off) @ inverse
        left.append(np.abs(v - near).max() / np.abs(v).max())
    assert left[1] < 0.01 * left[0]


@pytest.mark.parametrize("kind", KINDS)
def test_solve_system_without_diagonal(backend, kind):
    n, random = 500, np.random.default_rng(2)
    a, b = pairs_of(kind, n, random)
    weight, g = random.random(a.size) + 0.5, random.normal(size=(1, n))
    g -= g.mean()
    system = _backend.cpu().make_system(n, a, b)
    x, _ = _backend.cpu().solve_system(system, weight, np.zeros(n), g, 1e-12, 5000, 1)
    x = x[0] - x.mean()
    expected = np.linalg.pinv(matrix(n, a, b, weight, 0.0)) @ g[0]
    np.testing.assert_allclose(x, expected, rtol=0, atol=1e-7 * np.abs(expected).max())


def test_solve_system_is_the_same_for_many_threads(backend):
    n, random = 30_000, np.random.default_rng(3)
    a, b = pairs_of("random", n, random)
    weight, g = random.random(a.size), random.normal(size=(1, n))
    system = _backend.cpu().make_system(n, a, b)
    one, *more = (
        _backend.cpu().solve_system(system, weight, np.ones(n), g, 1e-8, 500, k) for k in (1, 2, 3)
    )
    for x, steps in more:
        assert steps == one[1] > 0
        assert np.array_equal(x, one[0])


def test_solve_system_says_that_steps_did_not_suffice(backend):
    n, random = 5000, np.random.default_rng(4)
    a, b = pairs_of("random", n, random)
    system = _backend.cpu().make_system(n, a, b)
    g = random.normal(size=(1, n))
    _, steps = _backend.cpu().solve_system(system, np.ones(a.size), np.ones(n), g, 1e-12, 2, 1)
    assert steps == -1


def test_make_system_refuses_what_is_no_edge():
    for a, b in (([0], [0]), ([-1], [0]), ([0], [3])):
        with pytest.raises(ValueError, match="edge 0 is none"):
            _backend.cpu().make_system(3, np.array(a), np.array(b))


def outcomes_of(kind, n, seed, ties=0.25, times=6):
    """Comparisons in which all beat, in either order, whom they met: every model has a maximum."""
    random = np.random.default_rng(seed)
    a, b = (np.repeat(x, times) for x in pairs_of(kind, n, random))
    scores = random.normal(0.0, 1.0, n)
    turned = np.arange(a.size) % 2 == 1
    left, right = np.where(turned, b, a), np.where(turned, a, b)
    won = random.random(a.size) < 1.0 / (1.0 + np.exp(scores[right] - scores[left] - 0.2))
    outcome = np.where(random.random(a.size) < ties, 0.5, won)
    for k, forced in enumerate((1.0, 1.0, 0.0, 0.0)):
        outcome[k::times] = forced
    return Comparisons.from_pairs(left, right, outcome, items=n)


OPTIONS = [
    {"link": "logit", "ties": "half"},
    {"link": "probit", "ties": "half"},
    {"link": "logit", "ties": "half", "advantage": None},
    {"link": "logit", "ties": "davidson", "tie": None},
    {"link": "logit", "ties": "rao-kupper", "tie": None, "advantage": None},
    {"link": "probit", "ties": "threshold", "tie": None, "advantage": None},
    {"link": "logit", "ties": "half", "anchors": {0: -0.3, 7: 0.4}},
    {"link": "logit", "ties": "davidson", "tie": None, "advantage": None, "anchors": {3: 1.0}},
]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("prior_sd", [math.inf, 1e6, 1.0])
@pytest.mark.parametrize("options", OPTIONS)
def test_graph_and_matrix_agree(kind, prior_sd, options, monkeypatch):
    n = 120
    c = outcomes_of(kind, n, 5)
    options = {"advantage": 0.0, "tie": None, "anchors": {}, **options}
    problem = _newton.make_problem(
        c, options["link"], options["ties"], **{k: options[k] for k in ("advantage", "tie")},
        prior_sd=prior_sd, anchors=options["anchors"],
    )  # fmt: skip
    system = System(n, problem.left, problem.right)
    found = []
    for chosen in (None, system):
        one = dataclasses.replace(problem, system=chosen)
        monkeypatch.setattr(_newton.Problem, "well_connected", False)  # that has its own tests
        theta, steps, converged, *_ = _newton.newton(one, one.start(), 0.0, 1e-10, 100)
        assert converged
        found.append((theta, steps))
    (by_matrix, steps), (by_graph, more) = found
    assert more <= steps + 2
    np.testing.assert_allclose(by_graph, by_matrix, rtol=0, atol=1e-8)


def test_ladder_has_its_closed_form():
    # each neighbour pair by itself: the difference is log(wins / losses)
    n = 1000
    random = np.random.default_rng(6)
    wins = random.integers(1, 20, n - 1)
    c = Comparisons.from_pairs(
        np.repeat(np.arange(n - 1), 20),
        np.repeat(np.arange(1, n), 20),
        (np.arange(20) < wins[:, None]).ravel(),
        items=n,
    )
    problem = _newton.make_problem(
        c, "logit", "half", advantage=0.0, tie=None, prior_sd=math.inf, anchors={}
    )
    assert problem.system is not None
    theta, _, converged, *_ = _newton.newton(problem, problem.start(), 0.0, 1e-10, 100)
    expected = -np.cumsum(np.concatenate([[0.0], np.log(wins / (20.0 - wins))]))
    assert converged
    np.testing.assert_allclose(theta, expected - expected.mean(), rtol=0, atol=1e-9)


@pytest.mark.parametrize("errors", ["sandwich", "fisher"])
def test_many_items_have_scores_and_errors(errors):
    n = 2100
    c = outcomes_of("random", n, 7)
    found = fit(c, prior_sd=2.0, errors=errors, first_advantage="estimate", on_trouble="ignore")
    assert found.converged
    assert found.covariance is None
    assert 0.0 < found.error_uncertainty < 0.1
    problem = _newton.make_problem(
        c, "logit", "half", advantage=None, tie=None, prior_sd=2.0, anchors={}
    )
    theta = np.append(found.scores, found.first_advantage.value)
    terms, gradient = problem.evaluate(theta)
    assert problem.gradient_max(gradient, survey(c, "half").used) < 1e-12
    v, (advantage,) = covariance(problem, theta, terms, errors, "half", None)
    assert found.first_advantage.standard_error == pytest.approx(math.sqrt(advantage), rel=1e-6)
    ratio = found.standard_errors / np.sqrt(np.diag(v))
    assert np.sqrt(np.mean((ratio - 1.0) ** 2)) < 1.5 * found.error_uncertainty
    again = fit(c, prior_sd=2.0, errors=errors, first_advantage="estimate", on_trouble="ignore")
    assert np.array_equal(again.standard_errors, found.standard_errors)


def test_no_finding_needs_errors_where_none_are_asked_for():
    left = np.repeat(np.arange(119), 20)  # by the graph, which leaves the terms of the cells behind
    c = Comparisons.from_pairs(left, left + 1, np.arange(left.size) % 20 < 15, items=120)
    needs = {"prior_decides", "position_bias"}
    for errors, expected in (("sandwich", needs), ("none", set())):
        found = fit(c, prior_sd=0.3, errors=errors, on_trouble="ignore")
        assert needs & {finding.code for finding in found.diagnostics.findings} == expected


@pytest.mark.parametrize(
    ("times", "power", "prior_sd", "stated"),
    [(10, 0.0, 1.0, 0.01), (10, 0.8, 10.0, 0.015), (4, 0.8, 10.0, 0.04), (2, 0.0, 1.0, 0.015)],
)
def test_errors_are_as_good_as_stated(times, power, prior_sd, stated):
    """Few comparisons an item, some items with none, many small groups."""
    n, random = 2100, np.random.default_rng(10)
    share = np.arange(1, n + 1) ** -power
    left, right = random.choice(n, (2, times * n), p=share / share.sum())
    right[left == right] = (right[left == right] + 1) % n
    won = random.random(left.size) < 1.0 / (1.0 + np.exp(random.normal(0.0, 0.7, left.size)))
    found = fit(
        Comparisons.from_pairs(left, right, won, items=n), prior_sd=prior_sd, on_trouble="ignore"
    )
    exact = np.sqrt(np.diag(found.full_covariance()))
    ratio = found.standard_errors / exact - 1.0
    assert found.error_uncertainty < stated
    assert np.sqrt(np.mean(ratio**2)) < 1.5 * found.error_uncertainty
    unmet = found.games == 0
    assert unmet.any() == (power > 0.0 or times < 4)
    np.testing.assert_allclose(found.standard_errors[unmet], exact[unmet], rtol=1e-12)


def test_items_of_which_probes_tell_least_are_solved_for(monkeypatch):
    """Few probes, and items with most of the comparisons, whose variance is far below others'."""
    n, random = 2100, np.random.default_rng(10)
    share = np.arange(1, n + 1) ** -0.8
    left, right = random.choice(n, (2, 4 * n), p=share / share.sum())
    right[left == right] = (right[left == right] + 1) % n
    won = random.random(left.size) < 1.0 / (1.0 + np.exp(random.normal(0.0, 0.7, left.size)))
    c = Comparisons.from_pairs(left, right, won, items=n)
    exact = np.sqrt(np.diag(fit(c, on_trouble="ignore").full_covariance()))
    monkeypatch.setattr(_sparse, "_MOST_PROBES", 8)
    found = {}
    for most in (0, 64):
        monkeypatch.setattr(_sparse, "_MOST_EXACT", most)
        found[most] = fit(c, on_trouble="ignore").standard_errors / exact - 1.0
    unknown = np.isnan(found[0])
    assert unknown.any()
    np.testing.assert_allclose(found[64][unknown], 0.0, atol=1e-4)
    assert np.nanmax(np.abs(found[64])) < np.nanmax(np.abs(found[0]))


def test_rough_errors_are_a_finding():
    c = outcomes_of("ladder", 2100, 9)  # errors of all depend on all others
    with pytest.warns(softmap.DataWarning, match="standard errors are estimates that are off by"):
        found = fit(c)
    assert found.error_uncertainty > 0.1
    assert "rough_errors" in [finding.code for finding in found.diagnostics.findings]
    assert "rough_errors" not in [
        finding.code for finding in fit(outcomes_of("random", 2100, 9)).diagnostics.findings
    ]


def test_many_items_are_a_fit():
    n = 2100
    c = outcomes_of("random", n, 8)
    found = fit(c, prior_sd=2.0, anchors={0: 0.5}, on_trouble="ignore")
    assert found.scores[0] == 0.5
    assert found.standard_errors[0] == 0.0
    rest = found.standard_errors[1:]  # NaN where the probes say nothing, never a false 0
    assert ((rest > 0.0) | np.isnan(rest)).all()
    assert (found.rank_low <= found.rank).all()
    assert (found.rank <= found.rank_high).all()
    assert Fit.from_json(found.to_json()).covariance is None
    elo = found.rescale("elo")
    np.testing.assert_allclose(elo.standard_errors, found.standard_errors * 400 / math.log(10))
    v = found.full_covariance()  # on request
    assert v is found.full_covariance()
    ratio = rest / np.sqrt(np.diag(v))[1:]
    assert np.sqrt(np.nanmean((ratio - 1.0) ** 2)) < 1.5 * found.error_uncertainty
    apart = math.sqrt(v[3, 3] + v[4, 4] - 2.0 * v[3, 4])
    assert found.compare(3, 4).standard_error == pytest.approx(apart)
    assert found.rescale("elo", anchor=3).standard_errors[3] == 0.0
    for other in (elo, Fit.from_json(found.to_json()), fit(c, errors="none", on_trouble="ignore")):
        with pytest.raises(ValueError, match="compare: this fit has no covariance"):
            other.compare(0, 1)


def test_no_covariance_of_too_many_items():
    found = fit(outcomes_of("random", 5001, 8), errors="none", on_trouble="ignore")
    with pytest.raises(ValueError, match="no covariance of 5001 items, at most 5000"):
        found.full_covariance()


@pytest.mark.parametrize("more", [{}, {"ties": "davidson", "first_advantage": "estimate"}])
def test_cluster_errors_of_many_items(more):
    """Probes of the sum over clusters against the matrix, and clusters of one row: the sandwich."""
    n, rng = 2100, np.random.default_rng(5)
    left = rng.integers(0, n, 30_000)
    right = (left + rng.integers(1, n, left.size)) % n
    outcome = rng.integers(0, 3, left.size) / 2.0
    clusters = {"few": np.arange(left.size) % 300, "each": np.arange(left.size)}
    for name, kind in clusters.items():
        c = Comparisons.from_pairs(left, right, outcome, items=n, clusters=kind)
        found = fit(c, prior_sd=2.0, on_trouble="ignore", **more)
        assert found.errors == "cluster"
        if name == "few":
            exact = np.sqrt(np.diag(found.full_covariance()))
        else:
            alone = fit(c, prior_sd=2.0, errors="sandwich", on_trouble="ignore", **more)
            exact = alone.standard_errors  # the same probes
        ratio = found.standard_errors / exact
        allowed = 1.5 * found.error_uncertainty if name == "few" else 1e-3
        assert np.sqrt(np.nanmean((ratio - 1.0) ** 2)) < allowed


def test_ranks_apart_count_intervals():
    scores = np.array([0.0, 3.0, 3.0, 1.0])
    rank, low, high = ranks_apart(scores, scores - 0.6, scores + 0.6)
    assert rank.tolist() == [4, 1, 1, 3]
    assert low.tolist() == [3, 1, 1, 3]
    assert high.tolist() == [4, 2, 2, 4]
