"""Arenas: counting, large fits, the bootstrap, groups, and how time grows.

`python bench/test_arena.py` prints the scaling and the peak memory; pytest times against rivals.
"""

import resource
import statistics
import subprocess
import sys
import time

import numpy as np
import pytest

import softmap
from softmap import Comparisons, fit, fit_groups

OPTIONS = {"errors": "none", "on_trouble": "ignore"}


def votes(n_rows, n_items, *, even=False, seed=0):
    """Left, right and outcome; shown in proportion to rank^-0.8, or evenly; a fifth are ties."""
    rng = np.random.default_rng(seed)
    if even:
        left = rng.integers(0, n_items, n_rows, dtype=np.int32)
        right = (left + rng.integers(1, n_items, n_rows, dtype=np.int32)) % n_items
    else:
        share = np.cumsum(np.arange(1, n_items + 1) ** -0.8)
        left, right = (
            np.searchsorted(share, share[-1] * rng.random(n_rows)).astype(np.int32)
            for _ in range(2)
        )
        right[left == right] = (right[left == right] + 1) % n_items
    scores = rng.normal(0.0, 0.7, n_items)
    won = rng.random(n_rows) < 1.0 / (1.0 + np.exp(scores[right] - scores[left]))
    return left, right, np.where(rng.random(n_rows) < 0.2, 0.5, won)


def ladder(n=1000, times=20):
    """Each meets the two nearest above it."""
    left = np.repeat(np.concatenate([np.arange(n - 1), np.arange(n - 2)]), times)
    right = left + np.repeat([1, 2], [times * (n - 1), times * (n - 2)])
    outcome = np.random.default_rng(1).random(left.size) < 0.55
    return left.astype(np.int32), right.astype(np.int32), outcome


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("outcomes", ["float64", "bool"])
@pytest.mark.parametrize(
    ("n_rows", "n_items", "prior_sd"),
    [(10**5, 100, 10.0), (10**7, 100, 10.0), (10**7, 1000, 10.0), (10**6, 10**5, 1.0)],
)
def test_from_arrays_to_scores(measure, n_rows, n_items, prior_sd, outcomes, threads):
    softmap.set_num_threads(threads)
    left, right, outcome = votes(n_rows, n_items, even=n_items > 1000)
    outcome = outcome if outcomes == "float64" else outcome == 1.0

    def ours():
        counted = Comparisons.from_pairs(left, right, outcome, items=n_items)
        return fit(counted, prior_sd=prior_sd, **OPTIONS).scores

    group = f"arrays to scores, {n_rows} x {n_items}, {outcomes}"
    measure(group, f"softmap, {threads} threads", ours)


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("errors", ["none", "sandwich"])
@pytest.mark.parametrize("n_items", [10**4, 10**5, 10**6])
def test_errors_of_many_items(measure, n_items, errors, threads):
    """Ten comparisons an item, counted."""
    softmap.set_num_threads(threads)
    counted = Comparisons.from_pairs(*votes(10 * n_items, n_items, even=True), items=n_items)
    options = {"prior_sd": 1.0, "errors": errors, "on_trouble": "ignore"}
    group = f"fit of {10 * n_items} x {n_items}, errors {errors}"
    measure(group, f"softmap, {threads} threads", lambda: fit(counted, **options).scores)


@pytest.mark.parametrize("n_rows", [10**7])
def test_reading_the_columns(measure, n_rows):
    """The floor of counting."""
    columns = votes(n_rows, 100)
    measure(f"sums of the columns, {n_rows}", "numpy", lambda: [x.sum() for x in columns])


@pytest.mark.parametrize("who", ["softmap", "sklearn"])
def test_against_sklearn(measure, who):
    """The same objective: every row a line of a sparse matrix, without ties."""
    linear = pytest.importorskip("sklearn.linear_model", reason="scikit-learn is not installed")
    sparse = pytest.importorskip("scipy.sparse", reason="scipy is not installed")
    n_rows, n_items = 10**6, 10**5
    left, right, outcome = votes(n_rows, n_items, even=True)
    won = outcome == 1.0

    def ours():
        counted = Comparisons.from_pairs(left, right, won, items=n_items)
        return fit(counted, prior_sd=1.0, **OPTIONS).scores

    def rival():
        ends = np.stack([left, right], axis=1).ravel()
        signs = np.tile([1.0, -1.0], n_rows)
        lines = sparse.csr_matrix((signs, ends, np.arange(0, 2 * n_rows + 1, 2)))
        model = linear.LogisticRegression(C=1.0, fit_intercept=False, tol=1e-8, max_iter=500)
        return model.fit(lines, won).coef_[0]

    calls = {"softmap": ours, "sklearn": rival}
    measure("arrays to scores, 1e6 x 100000, MAP", who, calls[who], ours(), atol=5e-3)


@pytest.mark.parametrize("who", ["softmap", "softmap, bool", "pyarrow"])
def test_string_pairs(measure, who):
    """Names in a pandas frame to counts; pyarrow numbers the two columns of names only."""
    pandas = pytest.importorskip("pandas", reason="pandas is not installed")
    pa = pytest.importorskip("pyarrow", reason="pyarrow is not installed")
    pa.set_cpu_count(1)
    left, right, outcome = votes(10**7, 100)
    names = np.array([f"model-{k:03d}-instruct" for k in range(100)], dtype=object)
    words = np.array(["right", "tie", "left"], dtype=object)[(2 * outcome).astype(int)]
    df = pandas.DataFrame({"l": names[left], "r": names[right], "w": words}, dtype="str")
    arrow = [pa.array(df[side]) for side in ("l", "r")]
    calls = {
        "softmap": lambda: Comparisons.from_pairs(df["l"], df["r"], df["w"]).n_rows,
        "softmap, bool": lambda: Comparisons.from_pairs(df["l"], df["r"], outcome == 1.0).n_rows,
        "pyarrow": lambda: sum(len(x.dictionary_encode()) for x in arrow) // 2,
    }
    measure("string pairs of a frame, 1e7", who, calls[who], 10**7)


@pytest.mark.parametrize("who", ["softmap", "evalica"])
@pytest.mark.parametrize("n_items", [100, 1000])
def test_against_evalica(measure, n_items, who):
    """evalica's compiled core, from the same integers, without a prior and without errors."""
    evalica = pytest.importorskip("evalica", reason="evalica is not installed")
    left, right, outcome = votes(10**6, n_items)
    kinds = [evalica.Winner.Y, evalica.Winner.Draw, evalica.Winner.X]
    winners = [kinds[k] for k in (2 * outcome).astype(int)]
    weights, core = np.ones(left.size), evalica._brzo.bradley_terry

    def ours():
        return fit(Comparisons.from_pairs(left, right, outcome, items=n_items), **OPTIONS).scores

    def rival():
        return core(left.tolist(), right.tolist(), winners, weights, n_items, 1.0, 0.5, 1e-8, 1000)

    measure(f"arrays to scores, 1e6 x {n_items}", who, {"softmap": ours, "evalica": rival}[who])


def test_ladder(measure):
    rows = ladder()

    def ours():
        counted = Comparisons.from_pairs(*rows, items=1000)
        return fit(counted, prior_sd=float("inf"), **OPTIONS).scores

    measure("ladder of 1000", "softmap", ours)


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("n_rows", [10**5, 10**7])
def test_bootstrap(measure, n_rows, threads):
    softmap.set_num_threads(threads)
    found = fit(Comparisons.from_pairs(*votes(n_rows, 100), items=100), on_trouble="ignore")
    group = f"1000 bootstrap fits, {n_rows} x 100"
    measure(group, f"softmap, {threads} threads", lambda: found.bootstrap(1000, rng=1).scores)


def test_groups(measure):
    """Thirty leaderboards of 100 items, from arrays to scores with errors."""
    rows = votes(3_000_000, 100)
    groups = np.arange(3_000_000, dtype=np.int32) % 30

    def ours():
        counted = Comparisons.from_pairs(*rows, items=100, groups=groups)
        return len(fit_groups(counted, on_trouble="ignore"))

    measure("30 leaderboards, 3e6 x 100", "softmap", ours)


def _one(n_rows, n_items):
    """Print the milliseconds of counting and of the fit, and the peak memory over the inputs."""
    rows = votes(n_rows, n_items, even=True)
    rows = (*rows[:2], (2 * rows[2]).astype(np.int8))  # 0, 1, 2
    codes = {0: "right", 1: "tie", 2: "left"}
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    times = []
    for _ in range(3 if n_rows < 10**8 else 1):
        start = time.perf_counter()
        counted = Comparisons.from_pairs(*rows, labels=codes, items=n_items)
        middle = time.perf_counter()
        fit(counted, prior_sd=1.0, **OPTIONS)
        times.append((middle - start, time.perf_counter() - middle))
    after = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    count, solve = (1e3 * statistics.median(x) for x in zip(*times, strict=True))
    counts = counted.left.size * 40 / 2**20
    print(f"{n_rows} {n_items} {count:.2f} {solve:.2f} {(after - before) / 1024:.0f} {counts:.0f}")


def _scaling():
    print("rows      items    count ms   fit ms   MiB above the peak before   counts MiB   slope")
    for fixed, cases in (
        ("items", [(10**k, 100) for k in (5, 6, 7, 8)]),
        ("rows", [(10**6, 10**k) for k in (1, 2, 3, 4, 5, 6)]),
        ("rows an item", [(10 ** (k + 1), 10**k) for k in (4, 5, 6)]),
    ):
        old = None
        for n_rows, n_items in cases:
            command = [sys.executable, __file__, str(n_rows), str(n_items)]
            fields = subprocess.run(
                command, check=True, capture_output=True, text=True
            ).stdout.split()
            total = float(fields[2]) + float(fields[3])
            slope = "" if old is None else f"{np.log10(total / old):.2f}"
            print("  ".join(f"{x:>9}" for x in (*fields, slope)), f"({fixed} fixed)", flush=True)
            old = total


if __name__ == "__main__":
    softmap.set_num_threads(1)
    _one(*map(int, sys.argv[1:])) if len(sys.argv) > 1 else _scaling()
