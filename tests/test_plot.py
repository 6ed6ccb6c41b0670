"""Pictures: what is in them, by the numbers; how they look was judged by eye."""

import re
import subprocess
import sys

import numpy as np
import pytest

from softmap import Comparisons, DataWarning, Fit, fit
from softmap.demo import baseball
from softmap.errors import BackendMissingError
from softmap.plot import calibration

pytest.importorskip("matplotlib", reason="matplotlib is an optional library")


def test_forest_shows_scores_and_ranks():
    result = fit(baseball()).rescale("elo", anchor="Boston")
    ax = result.plot()
    order = np.argsort(-result.scores)
    (points,) = ax.lines
    assert points.get_xdata().tolist() == result.scores[order].tolist()
    assert [t.get_text() for t in ax.get_yticklabels()][:2] == ["Milwaukee", "Detroit"]
    (right,) = ax.child_axes
    assert [t.get_text() for t in right.get_yticklabels()][-1] == "7"
    assert ax.get_xlabel() == "score (Elo), 95 % interval"
    assert "the best 3" in result.plot(most=3).get_title(loc="left")


def test_matrix_shows_percentages():
    result = fit(baseball())
    texts = [t.get_text() for t in result.plot("matrix").texts]
    best, last = result.compare("Milwaukee", "Baltimore").probability, "Baltimore"
    assert len(texts) == 42
    assert texts[5] == f"{100 * best:.0f}"
    assert result.items[int(np.argmin(result.scores))] == last
    many = Comparisons.from_matrix(np.ones((30, 30)))
    assert not fit(many).plot("matrix").texts


def test_calibration_follows_the_data():
    rng = np.random.default_rng(1)
    rows, n = 20_000, 12
    scores = rng.normal(0, 1, n)
    left = rng.integers(0, n, rows)
    right = (left + rng.integers(1, n, rows)) % n
    p = 1.0 / (1.0 + np.exp(scores[right] - scores[left] - 0.4))
    c = Comparisons.from_pairs(left, right, rng.random(rows) < p, items=n)
    result = fit(c, first_advantage="estimate")
    predicted, observed, low, high, weight = calibration(result)
    assert weight.sum() == rows
    assert len(weight) == 10
    assert ((low <= predicted) & (predicted <= high)).sum() >= 8
    assert np.abs(observed - predicted).max() < 0.04
    assert np.array_equal(calibration(result.rescale())[1], observed)
    with pytest.warns(DataWarning, match="and would win about 60% between equals"):
        wrong = calibration(fit(c, first_advantage=-1.0))  # a model that is wrong is seen to be
    assert np.abs(wrong[1] - wrong[0]).max() > 0.1
    assert result.plot("calibration").get_xlabel() == "predicted win rate of the favourite"


def test_axes_may_be_given():
    from matplotlib.figure import Figure

    one, two = Figure().subplots(1, 2)
    assert fit(baseball()).plot(ax=two) is two
    assert not one.lines


def test_plot_errors(monkeypatch):
    result = fit(baseball())
    for kind, options, message in (
        ("bar", {}, "kind = 'bar', it must be forest or matrix or calibration"),
        ("forest", {"most": 0}, "most = 0, it must be an integer from 1"),
    ):
        with pytest.raises(ValueError, match=f"^{re.escape('Fit.plot: ' + message)}$"):
            result.plot(kind, **options)
    with pytest.raises(ValueError, match="this fit has no comparisons, it came from JSON"):
        Fit.from_json(result.to_json()).plot("calibration")
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    with pytest.raises(
        BackendMissingError, match=r"needs matplotlib; pip install 'softmap\[plot\]'"
    ):
        result.plot()


def test_optional_libraries_are_not_imported():
    names = "'matplotlib', 'pandas', 'polars', 'pyarrow', 'duckdb', 'json'"
    code = f"import softmap, sys; print([x for x in ({names}) if x in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True, text=True)
    assert done.stdout.strip() == "[]"
