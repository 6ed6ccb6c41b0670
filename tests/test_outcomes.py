"""Tie models: outcome_matrices, log_likelihood and fit_many with ties and a first advantage."""

# budget: over 400 lines: three tie models, each against its own reference

import functools

import mpmath as mp
import numpy as np
import pytest

import softmap
from ops import ties as cases
from softmap import Status, _backend
from softmap.demo import baseball
from ulp import ulp_error

pytestmark = pytest.mark.usefixtures("backend")
models = pytest.mark.parametrize("model", cases.MODELS)

# Chocolate puddings: i, j, wins of i, wins of j, ties. Davidson 1970, table 1.
PUDDINGS = np.array(
    [
        (1, 2, 19, 22, 16), (1, 3, 16, 19, 12), (2, 3, 19, 19, 10), (1, 4, 18, 23, 13),
        (2, 4, 23, 19, 9), (3, 4, 19, 20, 15), (1, 5, 13, 19, 18), (2, 5, 16, 20, 12),
        (3, 5, 16, 15, 17), (4, 5, 17, 14, 16), (1, 6, 18, 21, 12), (2, 6, 22, 20, 12),
        (3, 6, 13, 18, 10), (4, 6, 14, 19, 18), (5, 6, 11, 21, 12),
    ]
)  # fmt: skip


def puddings():
    wins, ties = np.zeros((6, 6)), np.zeros((6, 6))
    for i, j, won, lost, tied in PUDDINGS:
        wins[i - 1, j - 1], wins[j - 1, i - 1] = won, lost
        ties[i - 1, j - 1] = ties[j - 1, i - 1] = tied
    return wins, ties


def differences():
    rng = np.random.default_rng(0)
    return np.concatenate([[0.0, 1e-9], rng.normal(0, 3, 12), [-30.5, 36.0]])


# Probabilities


@models
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_outcome_matrices_accuracy(model, dtype):
    for strength in cases.STRENGTHS[model]:
        d = differences().astype(dtype)
        found = softmap.outcome_matrices(
            np.stack([d, np.zeros_like(d)], axis=-1), ties=model, tie_strength=strength
        )
        assert found.win.dtype == found.tie.dtype == dtype
        with mp.workdps(cases.DIGITS):
            t = cases.parameter(model, strength)
            if model != "threshold":  # what the kernels get is rounded
                t = mp.mpf(np.log(strength))
        for k, x in enumerate(d):
            win, loss, tie = cases.probabilities(model, mp.mpf(float(x)), t)
            wide = 1 + abs(x) + float(abs(t))  # |F'/F| is at most this, for either link
            bound = cases.ULP + 1.0 + (wide * wide if dtype == "float64" else 0.0)
            for actual, exact in (
                (found.win[k, 0, 1], win),
                (found.win[k, 1, 0], loss),
                (found.tie[k, 0, 1], tie),
            ):
                assert ulp_error(actual, exact, dtype) <= bound, (model, strength, x)


@models
def test_outcome_matrices_add_up_and_mirror(model):
    s = np.random.default_rng(1).normal(0, 2, (3, 5))
    p = softmap.outcome_matrices(s, ties=model, tie_strength=1.7, first_advantage=0.4)
    again = softmap.outcome_matrices(-s, ties=model, tie_strength=1.7, first_advantage=-0.4)
    np.testing.assert_allclose(p.win + p.tie + again.win, 1.0, rtol=0, atol=1e-15)
    np.testing.assert_array_equal(p.tie, again.tie)


@models
def test_outcome_matrices_least_strength_means_no_ties(model):
    link = cases.MODELS[model]
    least = 1.0 if model == "rao-kupper" else 0.0
    s = np.linspace(-3, 3, 7)
    p = softmap.outcome_matrices(s, ties=model, tie_strength=least)
    np.testing.assert_array_equal(p.tie, 0.0)
    # A matrix of probit preferences may add |d F'(d) / F(d)| ULP: 37 at a difference of 6.
    rtol = 5e-16 if link == "logit" else 41 * 2.0**-53
    np.testing.assert_allclose(p.win, softmap.preference_matrix(s, link=link), rtol=rtol)


@models
def test_outcome_matrices_not_a_number_stays_in_its_row_and_column(model):
    p = softmap.outcome_matrices([0.0, np.nan, 1.0], ties=model, tie_strength=2.0)
    bad = np.zeros((3, 3), dtype=bool)
    bad[1], bad[:, 1] = True, True
    for part in (p.win, p.tie):
        np.testing.assert_array_equal(np.isnan(part), bad)


@models
def test_outcome_terms_of_a_tie_that_is_almost_sure(model):
    """The logarithm of a probability near 1 keeps its relative accuracy."""
    strength = {"davidson": 1e9, "rao-kupper": 6e7, "threshold": 7.0}[model]
    t = float(np.log(strength)) if model != "threshold" else strength
    counts, out = np.array([[0.0], [0.0], [1.0]]), np.empty((6, 1))
    _backend.cpu().outcome_terms(np.array([0.25]), counts, model, t, out)
    win, loss, _ = cases.probabilities(model, mp.mpf(0.25), mp.mpf(t))
    with mp.workdps(60):
        assert float(out[0, 0] / mp.log1p(-win - loss) - 1) == pytest.approx(0.0, abs=1e-12)


@models
def test_outcome_terms_are_the_derivatives(model):
    d = differences()
    for strength in cases.STRENGTHS[model]:
        t = float(np.log(strength)) if model != "threshold" else strength
        for outcome in range(3):
            counts, out = np.zeros((3, d.size)), np.empty((6, d.size))
            counts[outcome] = 1.0
            _backend.cpu().outcome_terms(d, counts, model, t, out)
            for k, x in enumerate(d):
                exact = cases.slopes(model, mp.mpf(x), mp.mpf(t))[outcome]
                with mp.workdps(60):
                    log = mp.log(cases.probabilities(model, mp.mpf(x), mp.mpf(t))[outcome])
                size = max(abs(float(exact[2])), abs(float(exact[4])))
                np.testing.assert_allclose(out[0, k], float(log), rtol=1e-13, atol=1e-15)
                np.testing.assert_allclose(
                    out[1:, k], [float(v) for v in exact], rtol=1e-11, atol=1e-13 * size + 1e-17
                )


# Likelihood


@models
@pytest.mark.parametrize("ordered", [False, True])
def test_log_likelihood_with_ties(model, ordered):
    wins, losses, ties = (
        None if a is None else a[0]
        for a in cases.random_tables(1, 5, seed=4, ordered=ordered, zeros=0.2)
    )
    s, advantage = np.random.default_rng(2).normal(0, 1.5, 5), 0.3 * ordered
    with mp.workdps(40):
        t = mp.mpf(1.5) if model == "threshold" else mp.log(mp.mpf(1.5))
        value, gradient, hessian = mp.mpf(0), [mp.mpf(0)] * 5, mp.zeros(5)
        for i in range(5):
            for j in range(5):
                tied = ties[i, j] if ordered or i < j else 0.0
                amounts = (wins[i, j], losses[i, j] if ordered else 0.0, tied)
                if i == j or not any(amounts):
                    continue
                d = mp.mpf(s[i]) - mp.mpf(s[j]) + mp.mpf(advantage)
                logs = [mp.log(p) for p in cases.probabilities(model, d, t)]
                slopes = cases.slopes(model, d, t)
                value += mp.fsum(w * x for w, x in zip(amounts, logs, strict=True))
                slope = mp.fsum(w * x[0] for w, x in zip(amounts, slopes, strict=True))
                gradient[i] += slope
                gradient[j] -= slope
                curve = mp.fsum(w * x[2] for w, x in zip(amounts, slopes, strict=True))
                for a, b, sign in ((i, i, -1), (j, j, -1), (i, j, 1), (j, i, 1)):
                    hessian[a, b] += sign * curve
    found = softmap.log_likelihood(
        s,
        wins,
        losses=losses,
        tie_counts=ties,
        link=cases.MODELS[model],
        ties=model,
        tie_strength=1.5,
        first_advantage=advantage,
        hessian=True,
    )
    np.testing.assert_allclose(found.value, float(value), rtol=1e-14)
    np.testing.assert_allclose(found.gradient, [float(g) for g in gradient], atol=1e-13)
    np.testing.assert_allclose(found.hessian, np.array(hessian.tolist(), float), atol=1e-12)


def test_log_likelihood_half_and_drop():
    wins, ties = puddings()
    s = np.linspace(-1, 1, 6)
    half = softmap.log_likelihood(s, wins, tie_counts=ties, ties="half")
    np.testing.assert_allclose(half, softmap.log_likelihood(s, wins + ties / 2), rtol=1e-15)
    drop = softmap.log_likelihood(s, wins, tie_counts=ties, ties="drop")
    assert drop == softmap.log_likelihood(s, wins)


@pytest.mark.parametrize("model", ["half", "davidson"])
def test_log_likelihood_asymmetric_ties_are_nan_in_their_problem(model):
    wins, ties = (np.stack([a, a]) for a in puddings())
    ties[1, 0, 3] += 1
    strength = {} if model == "half" else {"tie_strength": 1.0}
    found = softmap.log_likelihood(np.zeros((2, 6)), wins, tie_counts=ties, ties=model, **strength)
    np.testing.assert_array_equal(np.isnan(found), [False, True])


def test_log_likelihood_batch_and_threads_do_not_matter():
    wins, _, ties = cases.random_tables(300, 9, seed=7)
    s = np.random.default_rng(3).normal(size=(300, 9))
    options = {"ties": "davidson", "tie_strength": 0.8, "gradient": True}
    one = softmap.log_likelihood(s, wins, tie_counts=ties, n_threads=1, **options)
    two = softmap.log_likelihood(s, wins, tie_counts=ties, n_threads=2, **options)
    alone = softmap.log_likelihood(s[17], wins[17], tie_counts=ties[17], **options)
    for a, b in ((one.value, two.value), (one.gradient, two.gradient)):
        np.testing.assert_array_equal(a, b)
    assert alone.value == one.value[17]
    np.testing.assert_array_equal(alone.gradient, one.gradient[17])


# Fits


def test_fit_many_puddings_as_published():
    """Davidson by maximum likelihood; values of PlackettLuce 0.4.5 in R."""
    wins, ties = puddings()
    fit = softmap.fit_many(
        wins, prior_sd=np.inf, tie_counts=ties, ties="davidson", standard_errors=True
    )
    published = [0, 0.220241900241, 0.152977704854, 0.17514490859, 0.133865226991, 0.377134895802]
    np.testing.assert_allclose(fit.scores - fit.scores[0], published, rtol=0, atol=1e-9)
    np.testing.assert_allclose(np.log(fit.tie_strength.value), -0.291927086248, atol=1e-9)
    relative = fit.tie_strength.standard_error / fit.tie_strength.value
    np.testing.assert_allclose(relative, 0.082498691722, rtol=1e-7)
    value = softmap.log_likelihood(
        fit.scores, wins, tie_counts=ties, ties="davidson", tie_strength=fit.tie_strength.value
    )
    np.testing.assert_allclose(value, -809.7095100903, atol=1e-8)


@models
@pytest.mark.parametrize("sd", [1.0, np.inf])
@pytest.mark.parametrize("ordered", ["", "given", "estimate"])
def test_fit_many_with_ties_is_the_maximum(model, sd, ordered):
    wins, losses, ties = cases.random_tables(9, 4, seed=3, ordered=bool(ordered))
    advantage = {"": 0.0, "given": 0.35, "estimate": "estimate"}[ordered]
    for b in range(len(wins)):
        tables = wins[b], None if losses is None else losses[b], ties[b]
        fit = softmap.fit_many(
            tables[0],
            losses=tables[1],
            tie_counts=tables[2],
            ties=model,
            link=cases.MODELS[model],
            prior_sd=sd,
            first_advantage=advantage,
            standard_errors=True,
        )
        if not cases.has_maximum(
            *tables,
            proper=[np.isfinite(sd)] * 4,
            advantage=ordered == "estimate",
            strength=bool(ties[b].any()),
        ):
            assert fit.status == Status.NO_MAXIMUM
            continue
        assert fit.status == Status.OK
        given = None if ordered == "estimate" else advantage
        assert cases.distance(tables, fit, model=model, sd=sd, advantage=given) < 1e-13


@models
def test_fit_many_standard_errors_with_ties(model):
    wins, losses, ties = cases.random_tables(1, 5, seed=8, ordered=True, games=20)
    fit = softmap.fit_many(
        wins[0],
        losses=losses[0],
        tie_counts=ties[0],
        ties=model,
        link=cases.MODELS[model],
        prior_sd=2.0,
        first_advantage="estimate",
        standard_errors=True,
    )
    t = cases.parameter(model, float(fit.tie_strength.value))
    _, inverse, free = cases.newton_step(
        (wins[0], losses[0], ties[0]),
        fit.scores,
        mp.mpf(float(fit.first_advantage.value)),
        t,
        model=model,
        sd=np.full(5, 2.0),
        estimated="at",
    )
    v = np.array(inverse.tolist(), dtype=float)
    assert free == list(range(7))
    centring = np.eye(7)
    centring[:5, :5] -= 1 / 5
    error = np.sqrt(np.diag(centring @ v @ centring))
    np.testing.assert_allclose(fit.standard_errors, error[:5], rtol=1e-10)
    np.testing.assert_allclose(fit.first_advantage.standard_error, error[5], rtol=1e-10)
    slope = 1.0 if model == "threshold" else float(fit.tie_strength.value)
    np.testing.assert_allclose(fit.tie_strength.standard_error, slope * error[6], rtol=1e-10)


@models
@pytest.mark.parametrize("advantage", [0.0, "estimate"])
def test_fit_many_existence_with_ties_as_linear_programmes_say(model, advantage):
    ordered = advantage == "estimate"
    wins, losses, ties = cases.random_tables(60, 4, seed=11, ordered=ordered, zeros=0.6, games=3)
    for proper in ([False] * 4, [True, False, True, False], [True] * 4):
        fit = softmap.fit_many(
            wins,
            losses=losses,
            tie_counts=ties,
            ties=model,
            link=cases.MODELS[model],
            prior_sd=np.where(proper, 1.0, np.inf),
            first_advantage=advantage,
        )
        exists = [
            cases.has_maximum(
                wins[b],
                losses[b] if ordered else None,
                ties[b],
                proper=proper,
                advantage=ordered,
                strength=bool(ties[b].any()),
            )
            for b in range(len(wins))
        ]
        assert 0 < np.count_nonzero(exists) < len(wins)
        np.testing.assert_array_equal(
            fit.status, np.where(exists, Status.OK, Status.NO_MAXIMUM), str(proper)
        )
        np.testing.assert_array_equal(np.isnan(fit.tie_strength.value), ~np.array(exists))


@models
def test_fit_many_batch_with_ties_equals_singles_and_any_threads(model):
    wins, losses, ties = cases.random_tables(150, 5, seed=5, ordered=True, zeros=0.3)
    options = {
        "ties": model,
        "link": cases.MODELS[model],
        "prior_sd": 1.5,
        "first_advantage": "estimate",
        "standard_errors": True,
    }

    def solve(part, **more):
        fit = softmap.fit_many(
            wins[part], losses=losses[part], tie_counts=ties[part], **options, **more
        )
        estimates = (fit.first_advantage, fit.tie_strength)
        parts = [x for e in estimates for x in (e.value, e.standard_error)]
        return [fit.scores, fit.standard_errors, fit.status, fit.n_iter, fit.gradient_max, *parts]

    together = solve(slice(None), n_threads=1)
    for a, b in zip(together, solve(slice(None), n_threads=2), strict=True):
        np.testing.assert_array_equal(a, b)
    for k in (0, 7, 8, 149):
        for a, b in zip(together, solve(k), strict=True):
            np.testing.assert_array_equal(a[k], b)


@models
def test_fit_many_estimated_and_then_given_strength_agree(model):
    wins, ties = puddings()
    options = {"tie_counts": ties, "ties": model, "link": cases.MODELS[model], "prior_sd": 1.0}
    found = softmap.fit_many(wins, **options)
    given = softmap.fit_many(wins, **options, tie_strength=float(found.tie_strength.value))
    assert given.tie_strength is None
    np.testing.assert_allclose(given.scores, found.scores, rtol=0, atol=1e-13)


@models
def test_fit_many_without_ties_in_the_table(model):
    wins, _ = puddings()
    link = cases.MODELS[model]
    fit = softmap.fit_many(
        wins, tie_counts=np.zeros((6, 6)), ties=model, link=link, prior_sd=1.0, standard_errors=True
    )
    plain = softmap.fit_many(wins, link=link, prior_sd=1.0, standard_errors=True)
    assert fit.status == Status.OK
    np.testing.assert_allclose(fit.scores, plain.scores, rtol=0, atol=1e-13)
    np.testing.assert_allclose(fit.standard_errors, plain.standard_errors, rtol=1e-12)
    assert fit.tie_strength.value == (1.0 if model == "rao-kupper" else 0.0)
    assert np.isnan(fit.tie_strength.standard_error)


@models
def test_fit_many_ties_status(model):
    wins, ties = (np.stack([a] * 4) for a in puddings())
    wins[1] = 0.0  # ties alone
    ties[2, 0, 1] += 1  # not symmetric
    ties[3, 0, 1] = ties[3, 1, 0] = -1
    options = {"ties": model, "link": cases.MODELS[model], "prior_sd": 1.0}
    fit = softmap.fit_many(wins, tie_counts=ties, **options)
    np.testing.assert_array_equal(
        fit.status, [Status.OK, Status.NO_MAXIMUM, Status.BAD_INPUT, Status.BAD_INPUT]
    )
    least = 1.0 if model == "rao-kupper" else 0.0
    fit = softmap.fit_many(wins[0], tie_counts=ties[0], tie_strength=least, **options)
    assert fit.status == Status.BAD_INPUT


GRADED = 150  # problems of a kind
MOST = 2  # of them that may need more than max_iter: about 1 in 5,000 does


def solve_graded(model, n, sd, ordered):
    """Fit the problems; also their tables, and the solutions in a row each."""
    tables = cases.graded_tables(GRADED, n, seed=n, ordered=ordered)
    wins, losses, ties = tables
    fit = softmap.fit_many(
        wins,
        losses=losses if ordered else None,
        tie_counts=ties,
        ties=model,
        link=cases.MODELS[model],
        prior_sd=sd,
        first_advantage="estimate" if ordered else 0.0,
    )
    advantage = fit.first_advantage.value if ordered else np.zeros(len(fit.status))
    t = [float(cases.parameter(model, x)) for x in fit.tie_strength.value]
    return tables, fit, np.column_stack([fit.scores, advantage, t])


@functools.cache
def graded_optima(model, n, sd, ordered):
    """Some of the hardest problems, by number, with their exact solutions."""
    tables, fit, found = solve_graded(model, n, sd, ordered)
    ok = np.flatnonzero(fit.status == Status.OK)
    optima = {}
    for b in (ok[np.argmax(fit.n_iter[ok])], ok[0]):
        one = [None if x is None else x[b] for x in tables]
        estimated = "at" if ordered else "t"
        optima[int(b)] = cases.optimum(
            one, found[b], model=model, sd=np.full(n, sd), estimated=estimated
        )
    return optima


@models
@pytest.mark.parametrize("n", [2, 3])
@pytest.mark.parametrize("sd", [1.0, np.inf])
@pytest.mark.parametrize("ordered", [False, True])
def test_fit_many_graded_weights_with_ties(model, n, sd, ordered):
    """Weights from 1e-12 to 1e12 give the maximum."""
    _, fit, found = solve_graded(model, n, sd, ordered)
    assert set(fit.status) <= {Status.OK, Status.NOT_CONVERGED}
    assert np.count_nonzero(fit.status) <= MOST
    for b, exact in graded_optima(model, n, sd, ordered).items():
        if fit.status[b] == Status.OK:
            size = max(1.0, abs(fit.scores[b]).max())
            np.testing.assert_allclose(found[b], exact, rtol=0, atol=1e-12 * size)


@pytest.mark.parametrize("problem", cases.HARD, ids=lambda x: f"{x[0]}-{x[1]}")
def test_fit_many_converges_from_zero_where_it_is_hard(backend, problem):
    """Long valleys with kinks, margins that must balance to 1e-30 of the largest flow.

    A GPU gives some up where more than the scores is uncertain to 1e-16.
    """
    model, n, *amounts = problem
    tables = cases.hard_tables(n, *amounts)
    wins, losses, ties = tables
    ordered = losses is not None
    fit = softmap.fit_many(
        wins,
        losses=losses,
        tie_counts=ties,
        ties=model,
        link=cases.MODELS[model],
        prior_sd=np.inf,
        first_advantage="estimate" if ordered else 0.0,
    )
    if fit.status == Status.NOT_CONVERGED and ordered and backend.startswith("cuda"):
        return
    assert fit.status == Status.OK
    found = [
        *fit.scores,
        fit.first_advantage.value if ordered else 0.0,
        float(cases.parameter(model, float(fit.tie_strength.value))),
    ]
    exact = cases.optimum(
        tables,
        found,
        model=model,
        sd=np.full(n, np.inf),
        estimated="at" if ordered else "t",
        digits=250,
    )
    np.testing.assert_allclose(found, exact, rtol=0, atol=1e-12 * max(1.0, abs(exact).max()))


@models
def test_fit_many_graded_weights_with_ties_are_never_wrong(model):
    """Beyond what rounding allows, a solution is called one only where it is."""
    decades, sd = 40, np.full(3, np.inf)
    wins, _, ties = cases.graded_tables(200, 3, seed=2, decades=decades)
    options = {"ties": model, "link": cases.MODELS[model], "prior_sd": sd}
    fit = softmap.fit_many(wins, tie_counts=ties, **options)
    assert set(fit.status) == {Status.OK, Status.NOT_CONVERGED}
    assert np.isfinite(fit.scores).all()
    ok = np.flatnonzero(fit.status == Status.OK)
    for b in ok[np.argsort(fit.n_iter[ok])[-4:]]:
        start = [*fit.scores[b], 0.0, cases.parameter(model, float(fit.tie_strength.value[b]))]
        one = wins[b], None, ties[b]
        exact = cases.optimum(one, start, model=model, sd=sd, estimated="t", digits=5 * decades)
        size = max(1.0, abs(fit.scores[b]).max())
        np.testing.assert_allclose(fit.scores[b], exact[:3], rtol=0, atol=1e-8 * size)


@models
def test_log_likelihood_of_an_infinite_score_without_games(backend, model):
    """What has no weight contributes nothing, whatever the score."""
    wins, ties = np.zeros((3, 3)), np.zeros((3, 3))
    wins[1, 2], ties[1, 2], ties[2, 1] = 2.0, 1.0, 1.0
    link, strength = cases.MODELS[model], cases.STRENGTHS[model][2]
    options = {"ties": model, "link": link, "tie_strength": strength, "gradient": True}
    got, want = (
        softmap.log_likelihood([s, 0.0, 1.0], wins, tie_counts=ties, **options)
        for s in (np.inf, 0.0)
    )
    np.testing.assert_array_equal(got.value, want.value)
    np.testing.assert_array_equal(got.gradient, want.gradient)


def test_fit_many_half_and_drop():
    wins, ties = puddings()
    half = softmap.fit_many(wins, tie_counts=ties, prior_sd=1.0)
    np.testing.assert_array_equal(
        half.scores, softmap.fit_many(wins + ties / 2, prior_sd=1.0).scores
    )
    drop = softmap.fit_many(wins, tie_counts=ties, ties="drop", prior_sd=1.0)
    np.testing.assert_array_equal(drop.scores, softmap.fit_many(wins, prior_sd=1.0).scores)


def test_fit_many_estimates_the_home_advantage_as_published():
    """American League 1987; values of BradleyTerry2 1.1-2 in R."""
    c = baseball()
    n = len(c.items)
    wins, losses = np.zeros((n, n)), np.zeros((n, n))
    wins[c.left, c.right], losses[c.left, c.right] = c.wins, c.losses
    fit = softmap.fit_many(
        wins,
        losses=losses,
        prior_sd=np.inf,
        first_advantage="estimate",
        standard_errors=True,
    )
    assert fit.status == Status.OK
    np.testing.assert_allclose(fit.first_advantage.value, 0.302260655529, atol=1e-11)
    np.testing.assert_allclose(fit.first_advantage.standard_error, 0.130943707456, rtol=1e-9)
    labelled = softmap.fit(c, prior_sd=np.inf, first_advantage="estimate", errors="fisher")
    np.testing.assert_allclose(fit.scores, labelled.scores, rtol=0, atol=1e-11)
    np.testing.assert_allclose(fit.standard_errors, labelled.standard_errors, rtol=1e-9)


# Errors


@pytest.mark.parametrize(
    ("options", "kind", "text"),
    [
        ({"ties": "elo"}, ValueError, "ties = 'elo', it must be one of"),
        ({"ties": "threshold"}, ValueError, "it belongs to link='probit'"),
        ({"ties": "davidson", "link": "probit"}, ValueError, "it belongs to link='logit'"),
        ({"ties": "davidson"}, ValueError, "ties = 'davidson', it needs tie_counts"),
        ({"tie_strength": 1.0}, ValueError, "ties = 'half' has none"),
        ({"tie_counts": np.zeros((3, 3))}, ValueError, r"tie_counts has shape \(3, 3\)"),
        (
            {"ties": "davidson", "tie_counts": np.zeros((2, 2)), "tie_strength": -1},
            ValueError,
            "nu >= 0",
        ),
        (
            {"ties": "rao-kupper", "tie_counts": np.zeros((2, 2)), "tie_strength": 0.5},
            ValueError,
            "theta >= 1",
        ),
        (
            {"ties": "davidson", "tie_counts": np.zeros((2, 2)), "tie_strength": "some"},
            TypeError,
            "tie_strength = 'some'",
        ),
        ({"first_advantage": "estimate"}, ValueError, "needs ordered tables"),
    ],
)
def test_fit_many_refuses(options, kind, text):
    with pytest.raises(kind, match="fit_many: .*" + text):
        softmap.fit_many(np.ones((2, 2)), prior_sd=1.0, **options)


def test_log_likelihood_refuses():
    s, wins = np.zeros(2), np.ones((2, 2))
    with pytest.raises(ValueError, match="tie_counts is given, it needs ties"):
        softmap.log_likelihood(s, wins, tie_counts=wins)
    with pytest.raises(ValueError, match="ties = 'half', it needs tie_counts"):
        softmap.log_likelihood(s, wins, ties="half")
    with pytest.raises(TypeError, match="tie_strength = None"):
        softmap.log_likelihood(s, wins, tie_counts=wins, ties="davidson")
    with pytest.raises(ValueError, match="ties = 'half' has none"):
        softmap.log_likelihood(s, wins, tie_counts=wins, ties="half", tie_strength=1.0)
    with pytest.raises(ValueError, match="eps >= 0"):
        softmap.outcome_matrices(s, ties="threshold", tie_strength=-0.1)
