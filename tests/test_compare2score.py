"""Compare2Score: levels, anchors, soft preferences, the score; and what the official code does."""

import importlib.util
from fractions import Fraction
from pathlib import Path

import mpmath
import numpy as np
import pytest

import softmap
from ops.fit import ANCHORS, PREFERENCES
from softmap.systems import compare2score

WEIGHTS = [0, 0.25, 0.5, 0.75, 1]


# Levels of training pairs


def level(a, sa, b, sb):
    """The inequalities, with both sides squared so that nothing is rounded."""
    a, sa, b, sb = (Fraction(float(v)) for v in (a, sa, b, sb))
    d, variance = a - b, sa * sa + sb * sb
    square = d * d
    if d == 0:
        return 2
    if d > 0:
        return 0 if square > 4 * variance else 1 if square > variance else 2
    return 4 if square >= 4 * variance else 3 if square >= variance else 2


def test_levels_follow_the_inequalities():
    """Deviations 3 and 4, 0.75 and 1, 0 and 0: the boundaries are exact numbers."""
    means = np.arange(-12, 12.25, 0.25)
    for sa, sb in [(3, 4), (4, 3), (0.75, 1), (0, 1), (0, 0), (2.5, 2.5)]:
        got = compare2score.levels(means, sa, 0.5, sb)
        assert got.tolist() == [level(m, sa, 0.5, sb) for m in means]
        assert set(got.tolist()) <= set(range(5))


def test_levels_at_the_boundaries():
    """Two deviations below is superior, which the paper leaves open; one above is similar."""
    first = np.array([10, 10 + 1e-9, 5, 5 + 1e-9, -5, -5 + 1e-9, -10, -10 + 1e-9])
    assert compare2score.levels(first, 3, 0, 4).tolist() == [1, 0, 2, 1, 3, 2, 4, 3]
    assert compare2score.levels([1, 0, -1], 0, 0, 0).tolist() == [0, 2, 4]


def test_levels_of_wrong_values_are_marked():
    nan, inf = np.nan, np.inf
    got = compare2score.levels([nan, 1, 1, 1, inf], [1, -1, nan, 1, 1], [0, 0, 0, 0, inf], 1)
    assert got.tolist() == [-1, -1, -1, 2, -1]
    with pytest.raises(ValueError, match=r"levels: .* broadcast: a \(2,\), sa \(3,\)"):
        compare2score.levels([1, 2], [1, 2, 3], 0, 1)


# Anchors


def anchors_by_loop(mos, std, n_intervals, per_interval, intervals):
    rank = sorted(range(len(mos)), key=lambda i: mos[i])
    low, width = min(mos), (max(mos) - min(mos)) / n_intervals
    sizes = [len(mos) // n_intervals + (k < len(mos) % n_intervals) for k in range(n_intervals)]
    chosen = []
    for k in range(n_intervals):
        if intervals == "count":
            members = sorted(rank[sum(sizes[:k]) : sum(sizes[: k + 1])])
        else:
            last = k == n_intervals - 1
            inside = [m >= low + k * width and (last or m < low + (k + 1) * width) for m in mos]
            members = [i for i in range(len(mos)) if inside[i]]
        chosen += sorted(members, key=lambda i: std[i])[:per_interval]
    return chosen


@pytest.mark.parametrize("intervals", ["width", "count"])
@pytest.mark.parametrize(("n", "per"), [(1, 1), (4, 1), (4, 3), (7, 2), (16, 1)])
def test_anchors_are_those_of_a_loop(intervals, n, per):
    """Means and deviations on a coarse grid, so that ties and empty intervals occur."""
    rng = np.random.default_rng(n)
    for size in (1, 2, 9, 60):
        mos = rng.integers(0, 65, size).astype(float)
        if size > 1:
            mos[:2] = 0, 64  # width: edges that are exact for n = 1, 4, 16
        std = rng.integers(1, 5, size)
        got = compare2score.select_anchors(
            mos, std, n_intervals=n, per_interval=per, intervals=intervals
        )
        assert got.tolist() == anchors_by_loop(mos.tolist(), std.tolist(), n, per, intervals)


def test_anchors_refuse_what_cannot_be_chosen_from():
    for mos, std, message in [
        ([1, np.nan], [1, 1], r"mos\[1\] = nan, std\[1\] = 1.0"),
        ([1, 2], [1, -1], r"mos\[1\] = 2.0, std\[1\] = -1.0, they must be finite"),
        ([1, 2], [1], r"mos has shape \(2,\)"), ([], [], r"mos has shape \(0,\)"),
    ]:  # fmt: skip
        with pytest.raises(ValueError, match=message):
            compare2score.select_anchors(mos, std)
    with pytest.raises(ValueError, match="intervals = 'rank', it must be one of width, count"):
        compare2score.select_anchors([1, 2], [1, 1], intervals="rank")
    with pytest.raises(ValueError, match="at least 1"):
        compare2score.select_anchors([1, 2], [1, 1], per_interval=0)


# Soft preferences


@pytest.mark.parametrize("temperature", [1, 100])
def test_preference_is_the_expected_weight(backend, temperature):
    logits = [[12.5, 18, 21.25, 16.5, 9], [3, 9.5, 14, 24.5, 19], [30, 22, 12, 5, -np.inf]]
    with mpmath.workdps(50):
        e = [[mpmath.exp(mpmath.mpf(z) / temperature) for z in row] for row in logits]
        want = [
            float(sum(w * x for w, x in zip(WEIGHTS, row, strict=True)) / sum(row)) for row in e
        ]
    np.testing.assert_allclose(
        compare2score.preference(logits, temperature=temperature), want, rtol=1e-15
    )
    columns = [7, 0, 3, 9, 4]
    vocabulary = np.full((3, 10), 50.0)
    vocabulary[:, columns] = logits
    got = compare2score.preference(vocabulary, tokens=columns, temperature=temperature)
    np.testing.assert_allclose(got, want, rtol=1e-15)


def test_preference_of_the_official_half_arithmetic_is_coarse():
    """softmax of logits / 100 in IEEE half, no maximum subtracted: right to its steps only."""
    rng = np.random.default_rng(0)
    logits = rng.normal(15, 5, (2000, 5)).astype(np.float16)
    e = np.exp(logits / np.float16(100))
    half = (e / e.sum(axis=1, keepdims=True, dtype=np.float16)) @ np.float16(
        [0, 0.25, 0.5, 0.75, 1]
    )
    exact = compare2score.preference(logits)
    assert exact.dtype == np.float32
    assert abs(exact - 0.5).max() < 0.04  # temperature 100: all near one half
    assert len(set(half.tolist())) < 200 < len(set(exact.tolist()))
    assert 2**-12 < abs(half - exact).max() < 2**-9


def test_preference_of_bad_rows_is_nan():
    got = compare2score.preference([[0, 0, 0, 0, np.nan], [-np.inf] * 5, [0] * 5])
    np.testing.assert_array_equal(got, [np.nan, np.nan, 0.5])
    with pytest.raises(ValueError, match="levels has length 5 but tokens has 4"):
        compare2score.preference(np.zeros((2, 4)))


# Scores


def logits_of(preferences):
    """Logits of two words, inferior and superior, that give these preferences at temperature 1."""
    p = np.asarray(preferences, dtype=np.float64)
    logits = np.full((*p.shape, 5), -np.inf)
    with np.errstate(divide="ignore"):
        logits[..., 0], logits[..., 4] = np.log1p(-p), np.log(p)
    return logits


def min_max(table, link):
    """Maximum a posteriori scores, rescaled: a root of the gradient in 30 digits."""
    n = len(table)

    def gradient(*s):
        def weight(i, j):  # table[i][j] d/ds log F(s_i - s_j)
            d = s[i] - s[j]
            slope = mpmath.npdf(d) / mpmath.ncdf(d) if link == "probit" else 1 / (1 + mpmath.exp(d))
            return mpmath.mpf(float(table[i][j])) * slope

        return [
            mpmath.fsum(weight(i, j) - weight(j, i) for j in range(n) if j != i) - s[i]
            for i in range(n)
        ]

    with mpmath.workdps(30):
        s = list(mpmath.findroot(gradient, [mpmath.mpf(0)] * n))
        return float(100 * (s[-1] - min(s)) / (max(s) - min(s)))


@pytest.mark.parametrize("link", ["logit", "probit"])
def test_score_is_the_rescaled_maximum(backend, link):
    images = [PREFERENCES.tolist(), [0.5] * 5, [0.51, 0.508, 0.503, 0.4997, 0.4923]]
    tables = compare2score.comparison_matrix(images, ANCHORS)
    want = [min_max(table.tolist(), link) for table in tables]
    result = compare2score.score(logits_of(images), ANCHORS, temperature=1, link=link)
    np.testing.assert_allclose(result.score, want, rtol=1e-9)
    assert abs(want[0] - {"logit": 55.16546009, "probit": 55.43795181}[link]) < 1e-7
    assert result.outside.tolist() == [0, 0, 0]
    fit = softmap.fit_many(tables, prior_sd=1.0, link=link)
    np.testing.assert_allclose(result.anchor_scores, fit.scores[:, :5], atol=1e-12)


def test_matrix_has_the_test_item_beat_the_anchors_in_its_row():
    table = compare2score.comparison_matrix(PREFERENCES, ANCHORS)
    for i in range(5):
        assert table[5, i] == PREFERENCES[i]
        assert table[i, 5] == 1 - PREFERENCES[i]
        assert table[i, :5].tolist() == ANCHORS[i].tolist()
    assert table[5, 5] == 0.5
    better, worse = compare2score.comparison_matrix([[0.9] * 5, [0.1] * 5], ANCHORS)
    scores = softmap.fit_many([better, worse], prior_sd=1.0).scores[:, 5]
    assert scores[0] > 0 > scores[1]
    with pytest.raises(ValueError, match=r"anchors has shape \(2, 2\), preferences of 5 anchors"):
        compare2score.comparison_matrix(PREFERENCES, np.eye(2))


def test_score_saturates_outside_the_anchors(backend):
    """However far above: exactly 100; and the anchors move with the image."""
    images = [[1, 1, 0.95, 0.9, 0.76], [1] * 5, [0] * 5, PREFERENCES]
    r = compare2score.score(logits_of(images), ANCHORS, temperature=1, standard_errors=True)
    assert r.score[:3].tolist() == [100, 100, 0]
    assert r.outside.tolist() == [1, 1, -1, 0]
    assert np.isnan(r.standard_error[:3]).all()
    assert r.standard_error[3] > 10  # points of 100, from five comparisons
    assert abs(r.anchor_scores[0] - r.anchor_scores[1]).max() > 0.01


def test_score_of_a_bad_image_leaves_the_others(backend):
    images = np.tile(logits_of(PREFERENCES), (3, 1, 1))
    images[1] = np.nan
    r = compare2score.score(images, ANCHORS, temperature=1)
    assert r.status.tolist() == [0, int(softmap.Status.MISSING), 0]
    assert np.isnan(r.score).tolist() == [False, True, False]


def adam(table, steps, start, clamp=1e-6):
    """Adam, rate 0.1, on the official objective with its floor under the logarithm's argument."""
    s, m, v = np.array(start), np.zeros(6), np.zeros(6)
    for k in range(1, steps + 1):
        p = 1 / (1 + np.exp(s[None, :] - s[:, None]))
        slope = np.where(p > clamp, table * (1 - p), 0)
        gradient = s - slope.sum(axis=1) + slope.sum(axis=0)
        m, v = 0.9 * m + 0.1 * gradient, 0.999 * v + 0.001 * gradient**2
        s = s - 0.1 * (m / (1 - 0.9**k)) / (np.sqrt(v / (1 - 0.999**k)) + 1e-8)
    return 100 * (s[-1] - s.min()) / (s.max() - s.min())


def test_official_optimiser_stops_before_the_maximum():
    """The numbers of the docstring: 50.90 and 53.88 after 50 steps, 55.11 and 55.36 after 100."""
    starts = [
        [0.49625658988952637, 0.7682217955589294, 0.08847743272781372,
         0.13203048706054688, 0.30742281675338745, 0.6340786814689636],
        [0.39904648065567017, 0.5166791677474976, 0.024930385872721672,
         0.940079391002655, 0.945854127407074, 0.7967312335968018],
    ]  # fmt: skip
    table = compare2score.comparison_matrix(PREFERENCES, ANCHORS)
    exact = compare2score.score(logits_of(PREFERENCES), ANCHORS, temperature=1).score
    for steps, want in [(50, [50.90, 53.88]), (100, [55.11, 55.36]), (2000, [exact, exact])]:
        got = [adam(table, steps, start) for start in starts]
        np.testing.assert_allclose(got, want, atol=0.005 if steps < 2000 else 1e-6)


# The study of the documentation


STUDY = Path(__file__).parents[1] / "docs" / "compare2score.py"


@pytest.fixture(scope="module")
def study():
    spec = importlib.util.spec_from_file_location("docs_compare2score", STUDY)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_study_agrees_better_with_more_anchors(study):
    mos, std = study.synthetic(120)
    few, many = (
        study.run("synthetic", mos, std, n, "logit", ["exact"], seconds=0)[0] for n in (4, 16)
    )
    assert 0.8 < few["SRCC"] < many["SRCC"] < 1
    assert study.table([few, many]).count("\n") == 3


def test_study_comparator_follows_the_labels(study, monkeypatch):
    """Without an error, the most probable level of pairs well inside a level is their label."""
    monkeypatch.setattr(study, "ERROR", 0.0)
    mos, std = np.array([0.0, 1.5, -1.5, 3.5, -3.5]), np.full(5, np.sqrt(0.5))
    logits = study.level_logits(mos, std, np.zeros(5, int), np.arange(5), np.random.default_rng())
    np.testing.assert_allclose(np.exp(logits).sum(axis=-1), 1, rtol=1e-14)
    want = compare2score.levels(0, std[0], mos, std)
    assert logits.argmax(axis=-1).tolist() == want.tolist() == [2, 3, 1, 4, 0]


def test_study_reads_opinions(study, data_folder):
    mos, std = study.read(data_folder / "csiq_mos.json")
    assert len(mos) == 165  # 7 of 172 have no deviation
    assert (std > 0).all()


@pytest.mark.nightly
@pytest.mark.parametrize("link", ["logit", "probit"])
def test_study_adam_approaches_the_maximum(study, link):
    pytest.importorskip("torch")
    rows = study.run("synthetic", *study.synthetic(40), 5, link, seconds=0)
    worst = [row["worst"] for row in rows]
    assert worst[0] > worst[1] > worst[2] == 0
    assert worst[1] < 2
