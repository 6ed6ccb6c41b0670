"""The pages under docs/ say what the code does."""

from pathlib import Path

import numpy as np
import pytest

import softmap
from conftest import RUNNABLE
from ops import pairwise
from ops import softmax as softmax_cases

DOCS = Path(__file__).parents[1] / "docs"


def read_table(page):
    """The rows of the table of a page, each a dict from heading to text."""
    lines = [line for line in (DOCS / page).read_text().splitlines() if line.startswith("|")]
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]
    heading, _, *rows = cells
    return [dict(zip(heading, row, strict=True)) for row in rows]


@pytest.mark.parametrize("family", [softmax_cases, pairwise])
def test_accuracy_page_has_every_case_at_its_bound(family):
    rows = {(row["function"], row["dtype"]): row for row in read_table("accuracy.md")}
    for case in family.CASES.values():
        for dtype, bound in case.ulp.items():
            name = " ".join([case.name, *([case.link] if hasattr(case, "link") else [])])
            row = rows[name, dtype]
            assert float(row["bound"]) == bound, f"run docs/accuracy.py: {name} {dtype}"
            assert all(row[isa] for isa in RUNNABLE)


@pytest.mark.parametrize(
    ("function", "case"),
    [("level_scores", softmax_cases.LEVELS), ("row_statistics", softmax_cases.STATISTICS)],
)
def test_accuracy_page_has_every_part_at_its_bound(function, case):
    rows = {(row["function"], row["dtype"]): row for row in read_table("accuracy.md")}
    for part, bounds in case.ulp.items():
        for dtype, bound in bounds.items():
            assert float(rows[f"{function}.{part}", dtype]["bound"]) == bound


def test_accuracy_page_keeps_the_bounds():
    rows = read_table("accuracy.md")
    assert len(rows) > 40
    for row in rows:
        errors = [float(v) for k, v in row.items() if k not in ("function", "dtype", "bound") and v]
        assert errors
        assert max(errors) <= float(row["bound"])


# The matrix of array libraries: how each makes an array from a NumPy one.


def load(name):
    return pytest.importorskip(name, reason=f"{name} is not installed")


def jax_array(a):
    jax = load("jax")
    jax.config.update("jax_enable_x64", True)
    return jax.numpy.asarray(a)


def whole_rows(a):
    table = a.shape == WINS.shape
    return load("dask.array").from_array(a, chunks=-1 if table else (*((1,) * (a.ndim - 1)), -1))


MAKERS = {
    "list": lambda a: a.tolist(),
    "numpy": lambda a: a,
    "masked": np.ma.array,
    "matrix": lambda a: np.atleast_2d(a.reshape(-1, a.shape[-1])).view(np.matrix),
    "pandas": lambda a: load("pandas").DataFrame(a) if a.ndim == 2 else load("pandas").Series(a),
    "polars": lambda a: load("polars").DataFrame(a) if a.ndim == 2 else load("polars").Series(a),
    "torch": lambda a: load("torch").from_numpy(a),
    "torch, requires grad": lambda a: load("torch").from_numpy(a).requires_grad_(),
    "torch, on a device": lambda a: load("torch").from_numpy(a).to("meta"),
    "jax": jax_array,
    "dask": whole_rows,
    "array API": lambda a: load("array_api_strict").asarray(a),
}
X = np.linspace(-1, 1, 12).reshape(3, 4)
WINS = np.arange(16.0).reshape(4, 4)
CALLS = {
    "softmax": lambda make: softmap.softmax(make(X), -1),
    "log_softmax": lambda make: softmap.log_softmax(make(X), -1),
    "logsumexp": lambda make: softmap.logsumexp(make(X), -1),
    "level_scores": lambda make: softmap.level_scores(make(X), [0, 1], [1, 2]).score,
    "row_statistics": lambda make: softmap.row_statistics(make(X)).entropy,
    "logsumexp_partial": lambda make: softmap.logsumexp_partial(make(X))[0],
    "merge_partials": lambda make: softmap.merge_partials((make(X), make(X)), (1.0, 2.0))[0],
    "partial_to_logsumexp": lambda make: softmap.partial_to_logsumexp(make(X), 1.0),
    "preference": lambda make: softmap.preference(make(X), 0.0),
    "preference_matrix": lambda make: softmap.preference_matrix(make(X)),
    "outcome_matrices": lambda make: (
        softmap.outcome_matrices(make(X), ties="davidson", tie_strength=1.0).tie
    ),
    "log_likelihood": lambda make: softmap.log_likelihood(make(X), np.stack([WINS] * 3)),
    "fit_many": lambda make: softmap.fit_many(make(WINS), prior_sd=1.0).scores,
    "score_against_anchors": lambda make: (
        softmap.score_against_anchors(make(abs(X)), np.full((4, 4), 0.5)).score
    ),
}


@pytest.mark.parametrize("library", MAKERS)
def test_matrix_of_array_libraries(library):
    made = []

    def make(a):
        made.append(MAKERS[library](a))
        return made[-1]

    def outcome(call):
        try:
            result = call(make)
        except Exception as error:
            return type(error).__name__
        if type(result) is np.ndarray:
            return "same" if library == "numpy" else "ndarray"
        return "same" if type(result) is type(made[-1]) else type(result).__name__

    found = {name: outcome(call) for name, call in CALLS.items()}
    assert found == {row["function"]: row[library] for row in read_table("arrays.md")}
