"""Counting rows, and numbering labels: every way gives what a plain loop gives."""

import collections
import tracemalloc

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import softmap
from softmap import _backend
from softmap._labels import column_of, encode
from softmap.comparisons import Comparisons

ITEMS = [2, 3, 37, 600, 5000]  # tables, and sorting


def some_rows(n_rows, n_items, seed=0):
    random = np.random.default_rng(seed)
    left = random.integers(0, n_items, n_rows)
    right = (left + random.integers(1, n_items, n_rows)) % n_items
    return left, right, random.integers(0, 3, n_rows) / 2.0


def counted(left, right, outcome):
    """Return {(left, right): [wins, losses, ties]}."""
    cells = collections.defaultdict(lambda: [0, 0, 0])
    for i, j, o in zip(left.tolist(), right.tolist(), outcome.tolist(), strict=True):
        cells[i, j][{1.0: 0, 0.0: 1, 0.5: 2}[o]] += 1
    return dict(sorted(cells.items()))


def as_dict(left, right, *counts):
    pairs = zip(left.tolist(), right.tolist(), strict=True)
    found = dict(zip(pairs, np.transpose(counts).tolist(), strict=True))
    assert [*found] == sorted(found)
    return found


@pytest.mark.parametrize("n_items", ITEMS)
@pytest.mark.parametrize("n_rows", [1, 7, 1024, 1025, 40_000])
def test_count_pairs_is_a_loop(backend, n_rows, n_items):
    rows = some_rows(n_rows, n_items)
    expected = counted(*rows)
    for kind in (np.int32, np.int64):
        columns = [(x.astype(kind), None) for x in rows[:2]]
        cells = _backend.cpu().count_pairs(*columns, (rows[2], None), n_rows, n_items, 1)
        assert as_dict(*cells) == expected


@pytest.mark.parametrize("n_items", [10, 3000])
def test_count_pairs_does_not_depend_on_threads(backend, n_items):
    left, right, outcome = some_rows(700_000, n_items)
    columns = [(left, None), (right, None), (outcome, None)]
    one = _backend.cpu().count_pairs(*columns, left.size, n_items, 1)
    for n_threads in (2, 3, 8):
        again = _backend.cpu().count_pairs(*columns, left.size, n_items, n_threads)
        assert all(np.array_equal(a, b) for a, b in zip(one, again, strict=True))


@pytest.mark.parametrize("n_threads", [1, 2, 3])
def test_counters_of_one_byte_go_on(backend, n_threads):
    """Counts around what one byte holds, for one thread and as a sum of several."""
    counts = [1, 254, 255, 256, 257, 509, 510, 511, 765, 70_000, 200_000, 1]
    cells = [(i, j, o) for i in range(3) for j in range(3) for o in range(3) if i != j]
    rows = np.repeat(np.array(cells[: len(counts)]), counts, axis=0)
    rows = rows[np.random.default_rng(0).permutation(len(rows))]
    left, right, outcome = rows[:, 0].copy(), rows[:, 1].copy(), rows[:, 2] / 2.0
    columns = [(left, None), (right, None), (outcome, None)]
    found = _backend.cpu().count_pairs(*columns, left.size, 3, n_threads)
    assert as_dict(*found) == counted(left, right, outcome)


@pytest.mark.parametrize("n_items", [5, 3000])  # a table, and sorting
@pytest.mark.parametrize("weights", [None, 1.0])
def test_groups_are_counted_as_if_alone(backend, n_items, weights):
    left, right, outcome = some_rows(20_000, n_items)
    names = ["b", None, "a", "c"]
    group = np.random.default_rng(1).integers(0, 4, left.size)
    labels = [names[k] for k in group]
    c = Comparisons.from_pairs(left, right, outcome, items=n_items, groups=labels, weights=weights)
    assert [name for name, _ in c.groups] == ["a", "b", "c"]
    for name, part in c.groups:
        rows = group == names.index(name)
        chosen = [x[rows] for x in (left, right, outcome)]
        assert part == Comparisons.from_pairs(*chosen, items=n_items, weights=weights)
    alone = Comparisons.from_pairs(left, right, outcome, items=n_items, weights=weights)
    assert np.array_equal(c.wins, alone.wins)
    assert c.n_rows == alone.n_rows


@pytest.mark.parametrize("n_items", [4, 3000])
@pytest.mark.parametrize("row", [0, 1023, 1024, 4999])
@pytest.mark.parametrize(
    ("column", "value"),
    [(0, -1), (0, "n"), (1, -1), (1, "n"), (1, 2**40), (0, -(2**63)), (1, "left")]
    + [(2, value) for value in (0.25, -1.0, 2.0, np.nan, np.inf)],
)
def test_count_pairs_refuses_a_bad_row(backend, n_items, row, column, value):
    columns = some_rows(5000, n_items)
    columns[column][row] = {"n": n_items, "left": columns[0][row]}.get(value, value)
    given = [(x, None) for x in columns]
    assert _backend.cpu().count_pairs(*given, 5000, n_items, 1) is None


KINDS = {
    **{f"int{b}": lambda x, b=b: x.astype(f"int{b}") for b in (8, 16, 32, 64)},
    **{f"uint{b}": lambda x, b=b: x.astype(f"uint{b}") for b in (8, 16, 32, 64)},
    "list": lambda x: x.astype(int).tolist(),
    "backwards": lambda x: np.ascontiguousarray(x[::-1].astype(int))[::-1],
    "big-endian": lambda x: x.astype(">i4"),
}


@pytest.mark.parametrize("kind", KINDS)
def test_from_pairs_reads_integers_of_any_kind(kind):
    left, right, outcome = some_rows(3000, 40)
    columns = KINDS[kind](left), KINDS[kind](right)
    expected = Comparisons.from_pairs(left, right, outcome, items=40)
    assert Comparisons.from_pairs(*columns, outcome, items=40) == expected
    assert Comparisons.from_pairs(*columns, outcome) == expected  # every item occurs


@pytest.mark.parametrize("kind", [np.float16, np.float32, np.float64, list, object, str])
def test_from_pairs_reads_outcomes_of_any_kind(kind):
    left, right, outcome = some_rows(3000, 40)
    expected = counted(left, right, outcome)
    given = outcome.tolist() if kind is list else outcome.astype(kind)
    if kind is str:
        given = np.array(["right", "tie", "Left "])[(2 * outcome).astype(int)]
    c = Comparisons.from_pairs(left, right, given, items=40)
    assert as_dict(c.left, c.right, c.wins, c.losses, c.ties) == expected
    won = outcome == 1.0
    for kind in (np.bool_, np.int8, np.uint8, np.int16, np.int64):
        given = won.astype(kind)
        c = Comparisons.from_pairs(left, right, given, items=40)
        assert c == Comparisons.from_pairs(left, right, won.astype(float), items=40)


def test_groups_are_counted_as_their_rows():
    left, right, outcome = some_rows(4000, 30)
    groups = np.array(["x", "y", "z"])[left % 3]
    c = Comparisons.from_pairs(left, right, outcome, items=30, groups=groups)
    assert [name for name, _ in c.groups] == ["x", "y", "z"]
    for name, part in c.groups:
        at = groups == name
        assert part == Comparisons.from_pairs(left[at], right[at], outcome[at], items=30)


def test_counts_equal_sums_of_weights_one():
    left, right, outcome = some_rows(4000, 30)
    c = Comparisons.from_pairs(left, right, outcome, items=30)
    weighted = Comparisons.from_pairs(left, right, outcome, items=30, weights=1.0)
    for name in ("left", "right", "wins", "losses", "ties"):
        assert np.array_equal(getattr(c, name), getattr(weighted, name))


labels = st.one_of(st.text(), st.integers(-(2**80), 2**80), st.tuples(st.text(max_size=2)))


@settings(deadline=None)
@given(st.lists(labels, max_size=60))
def test_encode_is_a_dict(values):
    place = {}
    expected = [place.setdefault(x, len(place)) for x in values]
    codes, different = encode("f", "x", column_of("f", "x", values))
    assert codes.tolist() == expected
    assert different == [*place]


@settings(deadline=None)
@given(st.lists(st.text(alphabet="ab\0é🂡", max_size=9), min_size=1, max_size=60))
def test_encode_reads_text_of_numpy(values):
    array = np.array(values)  # which drops zeros at the end
    codes, different = encode("f", "x", array)
    assert [different[k] for k in codes] == array.tolist()
    assert len({*different}) == len(different) == len({*array.tolist()})
    raw = np.array([x.encode() for x in values])
    codes, different = encode("f", "x", raw)
    assert [different[k] for k in codes] == raw.tolist()


def test_encode_numbers_many_labels():
    numbers = np.random.default_rng(1).permutation(200_000) % 70_000
    for values in (numbers, numbers.astype("U9"), [f"{x:07d}" for x in numbers]):
        codes, different = encode("f", "x", values)
        first = dict.fromkeys(numbers.tolist())
        assert [int(x) for x in different] == [*first]
        assert np.array_equal(np.array(different)[codes], np.asarray(values))


@pytest.mark.parametrize("kind", ["string", "large_string", "string_view"])
def test_encode_reads_arrow_text(kind):
    pa = pytest.importorskip("pyarrow", reason="pyarrow is an optional library")
    values = ["b", "", "a longer text, of more than twelve bytes", "é", "b"] * 40
    array = pa.chunked_array([pa.array(values[:7]), pa.array(values[7:])]).cast(getattr(pa, kind)())
    for k in (0, 3, 11):
        codes, different = encode("f", "x", column_of("f", "x", array[k:]))
        assert [different[c] for c in codes] == values[k:]
        assert len(different) == 4


def test_frames_and_arrow_are_read():
    pa = pytest.importorskip("pyarrow", reason="pyarrow is an optional library")
    pandas = pytest.importorskip("pandas", reason="an optional library")
    table = {"l": ["x", "y", "x"], "r": ["y", "z", "z"], "w": ["left", "tie", "right"]}
    expected = Comparisons.from_pairs(*table.values())
    df, arrow = pandas.DataFrame(table), pa.table(table)
    for t in (df, df.astype(object), df.astype("category"), arrow):
        assert Comparisons.from_pairs(t["l"], t["r"], t["w"]) == expected
    with pytest.raises(ValueError, match=r"left\[1\] = None, an item needs a label"):
        Comparisons.from_pairs(pa.array(["a", None]), ["b", "b"])
    numbers = pandas.DataFrame({"l": [0, 1], "r": [1, 2], "w": [True, False]})
    c = Comparisons.from_pairs(numbers["l"], numbers["r"], numbers["w"], items=3)
    assert c == Comparisons.from_pairs([0, 1], [1, 2], [1, 0], items=3)


def test_counting_takes_no_copy_of_the_columns():
    left, right, outcome = (x.astype(np.int32) for x in some_rows(400_000, 50))
    tracemalloc.start()
    with softmap.threads(1):
        Comparisons.from_pairs(left, right, outcome > 0, items=50)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 1_000_000
