"""Comparisons from partitions and lazy scores, on two processes, against the serial results."""

import dataclasses
import itertools
import warnings

import numpy as np
import pytest

import softmap
import softmap.dask
from softmap import Comparisons

dask = pytest.importorskip("dask", reason="Dask is an optional library")
pytest.importorskip("distributed", reason="dask.distributed is an optional library")
da = pytest.importorskip("dask.array")
pandas = pytest.importorskip("pandas")

WORDS = ["left", "right", "tie"]
LOGITS = np.random.default_rng(0).normal(0, 3, (40, 6))
ANCHORS = np.array([[0.5, 0.2, 0.05], [0.8, 0.5, 0.3], [0.95, 0.7, 0.5]])


@pytest.fixture(scope="module")
def client():
    """Two worker processes on this machine."""
    from distributed import Client, LocalCluster

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of the cluster, such as a port that is taken
        options = {"n_workers": 2, "threads_per_worker": 1, "dashboard_address": None}
        with (
            dask.config.set({"distributed.worker.daemon": True}),
            LocalCluster(processes=True, **options) as cluster,
            Client(cluster) as client,
        ):
            yield client


def votes(n_rows=2000, n_items=30):
    rng = np.random.default_rng(1)
    left = rng.integers(0, n_items, n_rows)
    right = (left + rng.integers(1, n_items, n_rows)) % n_items
    return pandas.DataFrame(
        {
            "left": [f"item {k}" for k in left],
            "right": [f"item {k}" for k in right],
            "winner": rng.choice(WORDS, n_rows, p=[0.5, 0.3, 0.2]),
            "amount": rng.uniform(0.1, 2.0, n_rows),
            "user": rng.integers(0, 50, n_rows),
            "lang": rng.choice(["en", "de"], n_rows),
        }
    )


def partitions(frame, ends):
    """A frame as lazy parts of it: what a Dask data frame gives."""
    cuts = [0, *ends, len(frame)]
    return [dask.delayed(frame.iloc[a:b]) for a, b in itertools.pairwise(cuts)]


@dataclasses.dataclass
class Frame:
    """What of a Dask data frame is used, without its libraries: columns and lazy partitions."""

    columns: list
    parts: list

    def to_delayed(self):
        return self.parts


def in_parts(frame, ends=(10, 10, 700, 1400, 1500)):
    """The second partition is empty."""
    return Frame(list(frame.columns), partitions(frame, ends))


def test_two_processes_compute(client):
    import os

    def process(x):
        return os.getpid()

    found = set(client.gather([client.submit(process, k, workers=[w]) for k, w in
                               enumerate(client.scheduler_info()["workers"])]))  # fmt: skip
    assert len(found) == 2
    assert os.getpid() not in found


@pytest.mark.parametrize("options", [{}, {"groups": "lang"}, {"clusters": "user"}])
def test_counts_of_partitions_are_those_of_the_whole(client, options):
    frame = votes()
    serial = Comparisons.from_frame(frame, **options)
    total = softmap.dask.from_frame(in_parts(frame), **options).compute()
    assert total == serial
    assert total.wins.dtype == np.int64
    options = {"on_trouble": "ignore"}
    one, other = softmap.fit(serial, **options), softmap.fit(total, **options)
    np.testing.assert_array_equal(one.scores, other.scores)
    np.testing.assert_array_equal(one.standard_errors, other.standard_errors)


def test_weights_agree_and_a_fixed_order_gives_the_same_bits(client):
    frame = votes()
    serial = Comparisons.from_frame(frame, weights="amount")
    again = [
        softmap.dask.from_frame(in_parts(frame), weights="amount").compute(scheduler=scheduler)
        for scheduler in (None, None, "synchronous", "threads")
    ]
    assert all(total == again[0] for total in again)
    for name in ("left", "right", "wins", "losses", "ties", "squares"):
        np.testing.assert_allclose(getattr(again[0], name), getattr(serial, name), rtol=1e-12)
    scores = [softmap.fit(c, on_trouble="ignore").scores for c in (serial, again[0])]
    np.testing.assert_allclose(*scores, rtol=0, atol=1e-12 * abs(scores[0]).max())


def test_frames_of_dask(client):
    frames = pytest.importorskip("dask.dataframe", reason="dask.dataframe is an optional library")
    frame = votes(500)
    lazy = frames.from_pandas(frame, npartitions=5, sort=False)
    total = softmap.dask.from_frame(lazy, left="left", right="right", outcome="winner")
    assert dask.is_dask_collection(total)
    assert total.compute() == Comparisons.from_frame(frame)
    chosen = softmap.dask.from_frame(lazy[lazy["lang"] == "en"]).compute()
    assert chosen == Comparisons.from_frame(frame[frame["lang"] == "en"])


@pytest.mark.parametrize("n_parts", [1, 2, 7, 8, 9, 65])
def test_tree_sum_adds_each_part_once(n_parts):
    frame = votes(n_parts * 3)
    parts = partitions(frame, range(3, 3 * n_parts, 3))
    read = dask.delayed(Comparisons.from_frame)
    for fan_in in (2, 8):
        total = softmap.dask.tree_sum((read(part) for part in parts), fan_in=fan_in)
        assert total.compute(scheduler="synchronous") == Comparisons.from_frame(frame)


def test_what_is_wrong_is_said():
    frame = votes(30)
    frame.loc[25, "winner"] = "nobody"
    with pytest.raises(ValueError, match=r"partition 1: .*nobody"):
        softmap.dask.from_frame(in_parts(frame, [20])).compute(scheduler="synchronous")
    with pytest.raises(ValueError, match=r"from_frame: frame has no rows"):
        softmap.dask.from_frame(in_parts(frame[:0], [0])).compute(scheduler="synchronous")
    with pytest.raises(TypeError, match=r"frame is a pandas\..*DataFrame, it must be a Dask"):
        softmap.dask.from_frame(frame)
    with pytest.raises(ValueError, match="tree_sum: parts is empty"):
        softmap.dask.tree_sum([])
    with pytest.raises(ValueError, match="fan_in = 1, it must be at least 2"):
        softmap.dask.tree_sum([1, 2], fan_in=1)


def same(lazy, serial):
    """Each array lazy, and with the bits of the serial one."""
    for field in dataclasses.fields(serial):
        got, want = getattr(lazy, field.name), getattr(serial, field.name)
        if dataclasses.is_dataclass(want):
            same(got, want)
        elif want is None:
            assert got is None
        else:
            assert isinstance(got, da.Array)
            assert (got.shape, got.dtype) == (want.shape, want.dtype), field.name
            np.testing.assert_array_equal(got.compute(), want)


def test_level_scores_on_two_processes(client):
    lazy = da.from_array(LOGITS, chunks=(7, -1))
    levels = [[0, 1], [2], [5]], [1, 2, 3]
    serial = softmap.level_scores(LOGITS, *levels, mass=True)
    same(softmap.level_scores(lazy, *levels, mass=True), serial)


@pytest.mark.parametrize("options", [{}, {"rescale": (0, 100), "standard_errors": True}])
def test_scores_against_anchors_on_two_processes(client, options):
    preferences = 1 / (1 + np.exp(-LOGITS[:, :3]))
    preferences[4] = np.nan
    preferences[5, 1] = 2.0
    lazy = da.from_array(preferences, chunks=(7, -1))
    serial = softmap.score_against_anchors(preferences, ANCHORS, **options)
    assert {0, 2, 4} <= {*serial.status.tolist()}
    same(softmap.score_against_anchors(lazy, ANCHORS, **options), serial)
    whole = da.from_array(ANCHORS, chunks=-1)
    same(softmap.score_against_anchors(lazy, whole, **options), serial)


def test_batches_of_fits_on_two_processes(client):
    rng = np.random.default_rng(2)
    wins, losses, ties = rng.integers(0, 9, (3, 20, 5, 5))
    ties = ties + ties.swapaxes(-1, -2)
    lazy = [da.from_array(x, chunks=(6, -1, -1)) for x in (wins, losses, ties)]
    sd = rng.uniform(0.5, 2, (20, 5))
    options = {"prior_sd": 1.0, "standard_errors": True}
    same(softmap.fit_many(lazy[0], **options), softmap.fit_many(wins, **options))
    options = {"prior_sd": sd, "ties": "davidson", "first_advantage": "estimate"}
    serial = softmap.fit_many(wins, losses=losses, tie_counts=ties, **options)
    options["prior_sd"] = da.from_array(sd, chunks=(4, -1))
    same(softmap.fit_many(lazy[0], losses=lazy[1], tie_counts=lazy[2], **options), serial)


def test_preference_of_lazy_scores(client):
    a, b = LOGITS[:, :3], LOGITS[:, 3].astype(np.float32)[:, None]
    lazy = da.from_array(a, chunks=(7, 2))
    for other in (b, 0.25, da.from_array(b, chunks=(9, 1))):
        plain = b if isinstance(other, da.Array) else other
        got, want = softmap.preference(lazy, other), softmap.preference(a, plain)
        assert (got.shape, got.dtype) == (want.shape, want.dtype)
        np.testing.assert_array_equal(got.compute(), want)


def test_lazy_arrays_are_refused_where_a_problem_is_split():
    lazy = da.from_array(np.ones((4, 6, 6)), chunks=(2, 3, 6))
    with pytest.raises(ValueError, match=r"fit_many: axis 1 of wins is split into 2 chunks"):
        softmap.fit_many(lazy, prior_sd=1.0)
    with pytest.raises(ValueError, match="it must be one of logit"):  # before anything is computed
        softmap.fit_many(lazy.rechunk((2, -1, -1)), prior_sd=1.0, link="x")
