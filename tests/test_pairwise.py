"""preference, preference_matrix, log_likelihood, pair_terms: accuracy, properties, messages."""

# budget: over 400 lines: a test a function, its properties and its errors

import functools

import mpmath as mp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import softmap
from ops import pairwise as ops
from ops.pairwise import CASES, DOMAINS, DTYPES, LINKS, make_differences, random_problem
from softmap import _backend
from ulp import check_ulp, ulp_error

INF, NAN = np.inf, np.nan
load = pytest.importorskip
each_link = pytest.mark.parametrize("link", LINKS)
each_dtype = pytest.mark.parametrize("dtype", DTYPES)


def pair_terms(d, wins=1.0, losses=0.0, *, link):
    """Value, slope and curvature of each pair, from the binding that the fits use."""
    d = np.ascontiguousarray(d, dtype=np.float64)
    weights = [np.broadcast_to(x, d.shape).astype(np.float64) for x in (wins, losses)]
    value, slope, curvature = np.empty((3, d.size))
    _backend.cpu().pair_terms(d, *weights, link, value, slope, curvature)
    return {"value": value, "slope": slope, "curvature": curvature}


assert_same = functools.partial(np.testing.assert_array_equal, strict=True)


def compute(case, d):
    if case.name.endswith("preference"):
        log = case.name.startswith("log")
        return softmap.preference(d, np.zeros(1, d.dtype), link=case.link, log=log)
    return pair_terms(d, link=case.link)[case.name]


def matrix(s, **options):
    return softmap.preference_matrix(s, **options)


# Accuracy


@pytest.mark.parametrize("domain", DOMAINS)
@pytest.mark.parametrize(
    ("case", "dtype"),
    [(c, t) for c in CASES.values() for t in c.ulp],
    ids=lambda v: getattr(v, "name", v),
)
def test_function_accuracy(backend, case, dtype, domain):
    d = make_differences(domain, dtype)
    what = f"{case.name} {case.link}"
    bound = case.ulp[dtype]
    check_ulp(what, compute(case, d), case.reference(d), dtype, bound, backend=backend, hint=domain)


def special(name, x):
    out = np.empty_like(x)
    _backend.cpu().special(name, x, out)
    return out


@pytest.mark.parametrize("domain", DOMAINS)
@each_dtype
@pytest.mark.parametrize("name", ops.FUNCTIONS)
def test_special_accuracy(backend, name, dtype, domain):
    function, bound = ops.FUNCTIONS[name]
    x = make_differences(domain, dtype)
    exact, hint = ops.exact(function, x), {"backend": backend, "hint": domain}
    check_ulp(name, special(name, x), exact, dtype, bound[dtype], **hint)


@each_dtype
def test_special_of_special_values(backend, dtype):
    x = np.array([-INF, INF, NAN], dtype)
    expected = {
        "sigmoid": [0, 1, NAN],
        "log_sigmoid": [-INF, 0, NAN],
        "softplus": [0, INF, NAN],
        "logistic_slope": [1, 0, NAN],
        "logistic_curvature": [0, 0, NAN],
        "ndtr": [0, 1, NAN],
        "log_ndtr": [-INF, 0, NAN],
        "inverse_mills": [INF, 0, NAN],
        "mills_curvature": [1, 0, NAN],
    }
    for name in ops.FUNCTIONS:
        actual = special(name, x)
        np.testing.assert_allclose(actual, expected[name], rtol=np.finfo(dtype).eps / 2)


@pytest.mark.parametrize("name", ops.QUICK_SLOPES)
def test_quick_slopes_are_as_near_as_fits_assume(backend, name):
    """The proof in csrc/dense/newton_ordinary.h rests on this bound."""
    function, reach, bound = ops.QUICK_SLOPES[name]
    half = reach / 2 if name == "logit_slope" else reach  # marks are exp(s), |s| <= 40
    ordinary = np.random.default_rng(0).normal(0, 2, 2000)
    x = np.concatenate([np.linspace(-half, half, 2001), ordinary])
    error = abs(np.array([mp.mpf(float(v)) for v in special(name, x)]) - ops.exact(function, x))
    assert max(error / np.maximum(1, abs(x))) * 2**53 < bound


@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_reference_digits(case):
    """The references agree with the definitions by Phi and exp, in twice the exponent range."""
    points = [-50.5, -6.25, 0.75, 7.5] if case.link == "probit" else [-700.5, -6.25, 0.75, 650.25]
    with mp.workdps(ops.FULL_DIGITS):

        def f(x):
            return mp.erfc(-x / mp.sqrt(2)) / 2 if case.link == "probit" else 1 / (1 + mp.exp(-x))

        for x in map(mp.mpf, points):
            if case.link == "probit":
                slope = mp.exp(-x * x / 2) / mp.sqrt(2 * mp.pi) / f(x)
                curvature = slope * (x + slope)
            else:
                slope = 1 - f(x)
                curvature = slope * (1 - slope)
            exact = {
                "preference": f(x),
                "log preference": mp.log(f(x)),
                "value": mp.log(f(x)),
                "slope": slope,
                "curvature": curvature,
            }
            (reference,) = case.reference([float(x)])
            assert abs(reference / exact[case.name] - 1) < mp.mpf(10) ** -45


GOLDEN = {  # mpmath, 700 digits
    "preference logit": {-745: "2.82235073047193707635344e-324",
                         -40: "4.248354255291588977280721e-18",
                         -1: "0.2689414213699951207488408", 2: "0.8807970779778824440597291"},
    "preference probit": {-38.4: "6.60159985432676802421869e-323",
                          -8: "6.220960574271784123515995e-16",
                          -1: "0.1586552539314570514147675", 0.5: "0.6914624612740131036377046",
                          8: "0.9999999999999993779039426"},
    "value logit": {-745: "-745", -1: "-1.313261687518222834048995",
                    2: "-0.1269280110429724964437268", 40: "-4.248354255291588986304978e-18",
                    700: "-9.859676543759770856705373e-305"},
    "value probit": {-1e8: "-5000000000000019.339619277", -40: "-804.6084420137537881666068",
                     -8: "-35.01343715991454989550413", -1: "-1.841021645009263505770783",
                     0.5: "-0.3689464152886563930656156", 8: "-6.220960574271786058533519e-16",
                     30: "-4.906713927148187059533809e-198"},
    "slope probit": {-40: "40.02496884720726372324487", -1: "1.525135276160981209089091",
                     0: "0.7978845608028653558798921", 2: "0.05524786267898995910230097",
                     30: "1.473646134878547519049493e-196"},
    "curvature probit": {-40: "0.9993773316214086112265011", -1: "0.800902334429651208446632",
                         0: "0.6366197723675813430755351", 2: "0.1135480516885764497853684",
                         30: "4.42093840463564255714848e-195"},
}  # fmt: skip


@pytest.mark.parametrize("name", GOLDEN)
def test_function_golden_values(backend, name):
    for x, exact in GOLDEN[name].items():
        with mp.workdps(40):
            reference = mp.mpf(exact)
        actual = compute(CASES[name], np.array([float(x)]))
        assert ulp_error(actual, reference, np.float64) <= CASES[name].ulp["float64"], x


SCORES = np.array([0.5, -1.25, 2.0])
WINS = np.array([[9, 3, 1], [2, 9, 0], [4, 5, 9]])
LOSSES = np.array([[9, 1, 2], [3, 9, 4], [0, 6, 9]])
GOLDEN_LIKELIHOOD = {  # mpmath, 700 digits; with losses the first advantage is 0.25
    ("logit", False): (-6.998394000543113824738195,
        [-1.17189162887333435343299, 1.073129573120905350480505, 0.09876205575242900295248494]),
    ("logit", True): (-30.68306628716791405985899,
        [-1.871349901482432512101183, 7.098922661904561443241425, -5.227572760422128931140241]),
    ("probit", False): (-9.542851027256707962817005,
        [-2.654344091831108503289068, 4.027711158894155271192233, -1.373367067063046767903165]),
    ("probit", True): (-62.30897640755238663454272,
        [-4.707602299254305563978471, 28.15468883086382715301985, -23.44708653160952158904137]),
}  # fmt: skip


@pytest.mark.parametrize(("link", "ordered"), GOLDEN_LIKELIHOOD)
def test_log_likelihood_golden_values(backend, link, ordered):
    value, gradient = GOLDEN_LIKELIHOOD[link, ordered]
    order = {"losses": LOSSES, "first_advantage": 0.25} if ordered else {}
    result = softmap.log_likelihood(SCORES, WINS, link=link, gradient=True, **order)
    np.testing.assert_allclose(result.value, value, rtol=1e-15)
    np.testing.assert_allclose(result.gradient, gradient, rtol=2e-14)
    assert softmap.log_likelihood(SCORES, WINS, link=link, **order) == result.value


@each_link
@pytest.mark.parametrize("n", [1, 2, 3, 5, 8, 17])
def test_log_likelihood_matches_definition(backend, n, link):
    scores, wins, losses = random_problem(n, n)
    for order in ({}, {"losses": losses, "first_advantage": -0.75}):
        value, gradient = ops.log_likelihood(scores, wins, link=link, **order)
        result = softmap.log_likelihood(scores, wins, link=link, gradient=True, **order)
        assert ulp_error(result.value, value, np.float64) <= 8
        weight = 10.0 * n  # the gradient is a difference of sums of this size
        assert ulp_error(result.gradient, gradient, np.float64, floor=weight) <= 4


@each_link
@pytest.mark.parametrize("ordered", [False, True])
def test_log_likelihood_hessian_is_the_derivative_of_the_gradient(backend, ordered, link):
    """Against central differences of the exact gradient, in 60 digits."""
    n, scores, wins, losses = 4, *random_problem(11, 4)
    order = {"losses": losses, "first_advantage": 0.5} if ordered else {}
    result = softmap.log_likelihood(scores, wins, link=link, hessian=True, **order)
    assert result.hessian.shape == (n, n)
    again = softmap.log_likelihood(scores, wins, link=link, gradient=True, **order)
    assert again.hessian is None
    assert_same(result.gradient, again.gradient)
    h = 2.0**-20
    for k in range(n):
        step = h * (np.arange(n) == k)
        up, down = (
            ops.log_likelihood(scores + x, wins, link=link, **order)[1] for x in (step, -step)
        )
        slope = [float((a - b) / (2 * h)) for a, b in zip(up, down, strict=True)]
        np.testing.assert_allclose(result.hessian[k], slope, rtol=1e-9, atol=1e-9)
    np.testing.assert_allclose(result.hessian.sum(axis=0), 0, atol=1e-13)


GOLDEN_HESSIAN = {  # finite differences in mpmath, 60 digits, of the counts below
    "logit": [-2.42747003809, 1.08947496881, 0.865523934962, 0.472471134316],
    "probit": [-5.57651404312, 3.19451207814, 1.48494930843, 0.897052656547],
}


@each_link
def test_log_likelihood_hessian_golden_values(backend, link):
    counts = [[0, 3, 5, 0.5], [2, 0, 4, 1], [0, 1, 0, 0.25], [4, 2.5, 3, 0]]
    result = softmap.log_likelihood([0, 0.75, -1.25, 2], counts, link=link, hessian=True)
    np.testing.assert_allclose(result.hessian[0], GOLDEN_HESSIAN[link], rtol=1e-11)
    many = softmap.log_likelihood(np.zeros((3, 2, 4)), counts, link=link, hessian=True)
    assert many.hessian.shape == (3, 2, 4, 4)
    bad = softmap.log_likelihood([0, 0], [[0, -1], [1, 0]], link=link, hessian=True)
    assert np.isnan(bad.hessian).all()


@each_link
def test_log_likelihood_in_float32_is_that_of_float64_rounded(backend, link):
    scores, wins, losses = (x.astype(np.float32) for x in random_problem(1, 21, (3,)))
    options = {"losses": losses, "link": link, "gradient": True}
    single = softmap.log_likelihood(scores, wins, **options)
    double = softmap.log_likelihood(scores.astype(np.float64), wins, **options)
    assert_same(single.value, double.value.astype(np.float32))
    assert_same(single.gradient, double.gradient.astype(np.float32))


@each_link
def test_log_likelihood_of_many_items_matches_small_blocks(backend, link):
    """From 256 items on the rows are cut into slices; the sum over all is that over parts."""
    scores, wins, losses = random_problem(2, 300)
    whole = softmap.log_likelihood(scores, wins, losses=losses, link=link, gradient=True)
    rows = np.arange(300)[:, None]
    parts = [
        softmap.log_likelihood(
            scores,
            np.where(rows % 7 == k, wins, 0),
            losses=np.where(rows % 7 == k, losses, 0),
            link=link,
            gradient=True,
        )
        for k in range(7)
    ]
    np.testing.assert_allclose(whole.value, sum(p.value for p in parts), rtol=1e-13)
    total = sum(p.gradient for p in parts)
    np.testing.assert_allclose(whole.gradient, total, rtol=1e-11, atol=1e-9)


# Special values


@each_dtype
def test_preference_of_special_values(backend, dtype):
    d = np.array([-INF, INF, NAN, 0.0, -0.0], dtype)
    for link in LINKS:
        expected = np.array([0, 1, NAN, 0.5, 0.5], dtype)
        assert_same(softmap.preference(d, np.zeros(1, dtype), link=link), expected)


def test_pair_terms_of_special_values(backend):
    d = np.array([-INF, INF, NAN, 0.0])
    logit, probit = (pair_terms(d, link=link) for link in LINKS)
    np.testing.assert_array_equal(logit["value"][:3], [-INF, 0, NAN])
    np.testing.assert_array_equal(logit["slope"], [1, 0, NAN, 0.5])
    np.testing.assert_array_equal(logit["curvature"], [0, 0, NAN, 0.25])
    np.testing.assert_array_equal(probit["value"][:3], [-INF, 0, NAN])
    np.testing.assert_array_equal(probit["slope"][:3], [INF, 0, NAN])
    np.testing.assert_array_equal(probit["curvature"][:3], [1, 0, NAN])


@each_link
def test_pair_terms_add_up_wins_and_losses(backend, link):
    rng = np.random.default_rng(4)
    d, wins, losses = rng.normal(0, 5, 37), *rng.integers(0, 4, (2, 37)).astype(float)
    both = pair_terms(d, wins, losses, link=link)
    won, lost = pair_terms(d, link=link), pair_terms(-d, link=link)
    for name, sign in (("value", 1), ("slope", -1), ("curvature", 1)):
        terms = np.array([wins * won[name], sign * losses * lost[name]])
        error = abs(both[name] - terms.sum(0))
        assert (error <= 1e-15 * abs(terms).sum(0)).all()


@each_link
def test_zero_weight_contributes_nothing(backend, link):
    terms = pair_terms([-INF, INF, NAN, -1e300], 0.0, link=link)
    for name in terms:
        np.testing.assert_array_equal(terms[name], 0.0)
    wins = np.array([[0.0, 2, 0], [1, 0, 0], [0, 0, 0]])
    plain = softmap.log_likelihood([0.5, 0.0], wins[:2, :2], link=link, gradient=True)
    for extreme in (INF, -INF, 1e300):
        result = softmap.log_likelihood([0.5, 0.0, extreme], wins, link=link, gradient=True)
        assert result.value == plain.value
        np.testing.assert_array_equal(result.gradient, [*plain.gradient, 0.0])


@each_link
def test_log_likelihood_ignores_the_diagonal(backend, link):
    scores, wins, losses = random_problem(3, 9)
    options = {"losses": losses, "link": link, "gradient": True}
    expected = softmap.log_likelihood(scores, wins, **options)
    for filler in (NAN, INF, -1.0, 7.0):
        for table in (wins, losses):
            np.fill_diagonal(table, filler)
        result = softmap.log_likelihood(scores, wins, **options)
        assert result.value == expected.value
        assert_same(result.gradient, expected.gradient)


@each_link
@pytest.mark.parametrize("table", ["wins", "losses", "scores"])
@pytest.mark.parametrize("value", [-1.0, NAN, -INF])
@pytest.mark.parametrize("n", [5, 260])
def test_bad_value_stays_in_its_problem(backend, n, value, table, link):
    if table == "scores" and value == -1.0:
        value = NAN
    scores, wins, losses = random_problem(5, n, (4,))
    good = softmap.log_likelihood(scores, wins, losses=losses, link=link, gradient=True)
    {"scores": scores[2], "wins": wins[2, 1], "losses": losses[2, 1]}[table][n - 1] = value
    bad = softmap.log_likelihood(scores, wins, losses=losses, link=link, gradient=True)
    if table != "scores" or np.isnan(value):
        assert np.isnan(bad.value[2])
        assert np.isnan(bad.gradient[2]).all()
    others = [0, 1, 3]
    assert_same(bad.value[others], good.value[others])
    assert_same(bad.gradient[others], good.gradient[others])


def test_nan_score_counts_even_without_games(backend):
    result = softmap.log_likelihood([1.0, NAN], np.zeros((2, 2)), gradient=True)
    assert np.isnan(result.value)
    assert np.isnan(result.gradient).all()


@pytest.mark.parametrize("weight", [1e-300, 1e300])
@each_link
def test_log_likelihood_of_extreme_weights(backend, link, weight):
    wins = np.array([[0.0, 3.0], [1.0, 0.0]])
    plain = softmap.log_likelihood([0.3, -0.2], wins, link=link, gradient=True)
    result = softmap.log_likelihood([0.3, -0.2], weight * wins, link=link, gradient=True)
    np.testing.assert_allclose(result.value, weight * plain.value, rtol=1e-15)
    np.testing.assert_allclose(result.gradient, weight * plain.gradient, rtol=1e-14)


@each_dtype
def test_bad_variance_gives_nan_there(backend, dtype):
    a, v = np.zeros(4, dtype), np.array([1, -0.25, NAN, INF], dtype)
    result = softmap.preference(a, a, link="probit", variance_a=v)
    assert_same(result, np.array([0.5, NAN, NAN, 0.5], dtype))
    result = matrix(a, link="probit", variance=v)
    bad = np.isnan(v) | (v < 0)
    np.testing.assert_array_equal(np.isnan(result), bad[:, None] | bad)


# Matrices


@each_dtype
@each_link
@pytest.mark.parametrize("spread", [0.01, 0.5, 3.0, 200.0])
def test_preference_matrix_accuracy(backend, spread, link, dtype):
    s = np.random.default_rng(int(spread)).normal(0, spread, 24).astype(dtype)
    upper = np.triu_indices(len(s), 1)
    p = matrix(s, link=link)
    exact, slack = ops.matrix_reference(link, (s[:, None] - s)[upper])
    smaller = np.minimum(p, p.T)[upper]
    error = np.array([ulp_error(a, e, dtype) for a, e in zip(smaller, exact, strict=True)])
    assert max(error - slack) <= ops.MATRIX[link]


@each_dtype
@each_link
def test_preference_matrix_of_special_scores(backend, link, dtype):
    """Scores beyond the range of exp, infinite and NaN ones change no other pair."""
    ordinary = np.random.default_rng(5).normal(0, 2, 20)
    special_scores = [90, -90, 700, -700, 1e30, -1e30, INF, -INF, NAN]
    for position in (0, 11, 20):
        s = np.insert(ordinary, position, special_scores).astype(dtype)
        ours = np.isin(np.arange(len(s)), np.arange(position, position + len(special_scores)))
        with np.errstate(invalid="ignore", over="ignore"):
            d = s[:, None] - s
        p = matrix(s, link=link)
        assert_same(p[np.ix_(~ours, ~ours)], matrix(ordinary.astype(dtype), link=link))
        expected = softmap.preference(d, np.zeros(1, dtype), link=link)
        np.testing.assert_array_equal(np.isnan(p), np.isnan(expected))
        known = ~np.isnan(expected) & (abs(d) > 60)
        rtol = 0 if link == "probit" else 2000 * np.finfo(dtype).eps
        tiny = np.finfo(dtype).smallest_subnormal
        np.testing.assert_allclose(p[known], expected[known], rtol=rtol, atol=4 * tiny)


@each_link
@pytest.mark.parametrize(("n", "dtype"), [(2056, "float64"), (2101, "float64"), (3001, "float32")])
def test_large_preference_matrix_is_made_of_small_ones(backend, n, dtype, link):
    """Results of over 32 MiB are written past the caches, into whole lines or not."""
    s = np.random.default_rng(n).normal(0, 2, n).astype(dtype)
    room = np.empty(n * n + 1, dtype)
    whole = matrix(s, link=link)
    shifted = matrix(s, link=link, out=room[1:].reshape(n, n))
    assert_same(shifted, whole)
    for first in (0, 97, n - 40):
        part = slice(first, first + 40)
        assert_same(whole[part, part], matrix(s[part], link=link))
        assert_same(whole[part, :40], matrix(np.r_[s[part], s[:40]], link=link)[:40, 40:])


@each_dtype
@each_link
@pytest.mark.parametrize("n", [64, 96, 100, 2304])
def test_preference_matrix_is_the_same_wherever_it_is_written(backend, n, dtype, link):
    """Results that begin anywhere within a line of memory, in caches and past them."""
    scores = np.random.default_rng(0).normal(0, 3, (2, n)).astype(dtype)
    variance = np.linspace(0.5, 2, 2 * n).reshape(2, n).astype(dtype) if link == "probit" else None
    fresh = softmap.preference_matrix(scores, link=link, variance=variance)
    room = np.empty(fresh.size + 64, dtype)
    line = -room.ctypes.data % 64 // room.itemsize
    for beyond in (0, 1, 3, 64 // room.itemsize - 1):
        room[:] = -1
        out = room[line + beyond :][: fresh.size].reshape(fresh.shape)
        softmap.preference_matrix(scores, link=link, variance=variance, out=out)
        np.testing.assert_array_equal(out, fresh)
        rest = np.concatenate([room[: line + beyond], room[line + beyond + fresh.size :]])
        assert (rest == -1).all()


@each_dtype
@each_link
@pytest.mark.parametrize("first_advantage", [0.0, 0.375])
def test_preference_matrix_is_preference_of_all_pairs(backend, first_advantage, link, dtype):
    for n in [*range(35), 67, 300]:
        rng = np.random.default_rng(n)
        s = rng.normal(0, 6, (2, n)).astype(dtype)
        variances = [None]
        if link == "probit":
            variances += [rng.uniform(0.1, 2, (2, n)).astype(dtype)]
        for v in variances:
            pairs = {"link": link, "first_advantage": first_advantage}
            if v is not None:
                pairs |= {"variance_a": v[..., None], "variance_b": v[:, None]}
            expected = softmap.preference(s[..., None], s[:, None], **pairs)
            actual = matrix(s, link=link, variance=v, first_advantage=first_advantage)
            if first_advantage:
                assert_same(actual, expected)
                continue
            d = s[..., None] - s[:, None]
            if v is not None:
                d = d / np.sqrt(v[..., None] + v[:, None])
            slack = np.finfo(dtype).eps * (6 + d**2) * expected
            assert actual.dtype == expected.dtype
            tiny = np.finfo(dtype).smallest_normal * np.finfo(dtype).eps
            assert (abs(actual - expected) <= slack + 2 * d**2 * tiny).all()


@each_dtype
@each_link
def test_preference_matrix_sums_to_one(backend, link, dtype):
    rng = np.random.default_rng(8)
    s = np.concatenate([rng.normal(0, 0.01, 40), rng.normal(0, 10, 40), [0, 1e-30, 1e30]])
    for variance in (None, 1.25) if link == "probit" else (None,):
        p = matrix(s.astype(dtype), link=link, variance=variance and np.array(variance, dtype))
        assert p.dtype == dtype
        assert (p + p.T == 1).all()
        assert (np.diag(p) == 0.5).all()
        assert (p >= 0).all()


@each_link
@pytest.mark.parametrize("half", ["float16", "bfloat16"])
def test_preference_matrix_in_half_sums_to_one(backend, link, half):
    """The smaller probability is rounded, the other is 1 minus what is stored."""
    half = np.dtype(half if half == "float16" else load("ml_dtypes").bfloat16)
    for n in (1, 7, 70):
        s = np.random.default_rng(n).normal(0, 3, (3, n)).astype(np.float32)
        p = matrix(s, link=link, out=np.empty((3, n, n), half))
        assert (p + np.swapaxes(p, 1, 2) == half.type(1)).all()
        whole = matrix(s, link=link)
        small = whole <= 0.5
        assert_same(p[small], whole[small].astype(half))
        again = matrix(s.astype(np.float64), link=link, out=np.empty((3, n, n), half))
        assert_same(again, p)


@each_link
def test_first_advantage_is_on_the_diagonal(backend, link):
    p = matrix([0.5, -3.0], link=link, first_advantage=0.25)
    expected = softmap.preference(0.0, 0.0, link=link, first_advantage=0.25)
    np.testing.assert_array_equal(np.diag(p), expected)


def test_probit_variances(backend):
    a, b, v, w = np.random.default_rng(9).uniform(0.2, 2, (4, 50))
    expected = softmap.preference((a - b) / np.sqrt(v + w), 0.0, link="probit")
    actual = softmap.preference(a, b, link="probit", variance_a=v, variance_b=w)
    np.testing.assert_allclose(actual, expected, rtol=1e-15)
    assert_same(
        softmap.preference(a, b, link="probit", variance_a=0.5),
        softmap.preference(a, b, link="probit"),
    )


# Properties

dyadic = st.integers(-4000, 4000).map(lambda k: k / 64)
score_lists = st.lists(dyadic, min_size=1, max_size=20)


@given(score_lists, dyadic, st.sampled_from(LINKS), st.sampled_from(DTYPES))
def test_property_matrix_shift_and_permutation(scores, shift, link, dtype):
    s = np.array(scores, dtype)
    p = matrix(s, link=link)
    assert (p + p.T == 1).all()
    slack = np.finfo(dtype).eps * (6 + (s[:, None] - s) ** 2)
    for other in (matrix(s + s.dtype.type(shift), link=link), matrix(-s, link=link).T):
        assert (abs(other - p) <= slack * p + np.finfo(dtype).tiny).all()
    order = np.random.default_rng(len(s)).permutation(len(s))
    assert_same(matrix(s[order], link=link), p[np.ix_(order, order)])


@given(score_lists, dyadic, st.sampled_from(LINKS), st.integers(0, 100), dyadic)
def test_property_log_likelihood(scores, shift, link, seed, first_advantage):
    s, n = np.array(scores), len(scores)
    _, wins, losses = random_problem(seed, n)

    def both(s, wins, losses):
        return softmap.log_likelihood(
            s, wins, losses=losses, link=link, first_advantage=first_advantage, gradient=True
        )

    result = both(s, wins, losses)
    shifted = both(s + shift, wins, losses)
    assert shifted.value == result.value
    assert_same(shifted.gradient, result.gradient)
    tolerance = 1e-13 * (1 + abs(result.gradient).sum() + 10 * n)
    assert abs(result.gradient.sum()) <= tolerance
    order = np.random.default_rng(seed).permutation(n)
    pick = np.ix_(order, order)
    moved = both(s[order], wins[pick], losses[pick])
    np.testing.assert_allclose(moved.value, result.value, rtol=1e-13)
    scale = 1e-12 * (1 + abs(result.gradient).max())
    np.testing.assert_allclose(moved.gradient, result.gradient[order], rtol=1e-12, atol=scale)
    swapped = softmap.log_likelihood(
        -s, losses, losses=wins, link=link, first_advantage=-first_advantage, gradient=True
    )
    np.testing.assert_allclose(swapped.value, result.value, rtol=1e-13)
    np.testing.assert_allclose(swapped.gradient, -result.gradient, rtol=1e-12, atol=scale)


@given(st.lists(st.floats(-60, 60), min_size=2, max_size=4), st.sampled_from(LINKS))
def test_property_gradient_matches_mpmath(scores, link):
    n = len(scores)
    _, wins, losses = random_problem(n, n)
    result = softmap.log_likelihood(scores, wins, losses=losses, link=link, gradient=True)
    value, gradient = ops.log_likelihood(scores, wins, losses, link)
    np.testing.assert_allclose(result.value, float(value), rtol=1e-14)
    size = max(float(abs(g)) for g in gradient) + 10 * n
    np.testing.assert_allclose(
        result.gradient, np.array(gradient, float), rtol=0, atol=1e-14 * size
    )
