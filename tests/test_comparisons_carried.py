"""Comparisons that carry more than counts: probabilities, groups, rows; retraction; exchange."""

import pickle
import re

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from softmap import ChoiceProbabilities, Comparisons, read_comparisons


def raises(kind, message):
    return pytest.raises(kind, match="^" + re.escape(message) + "$")


@st.composite
def tables(draw, max_size=20):
    """Return the arguments of from_pairs, with anything it can carry."""
    n = draw(st.integers(1, max_size))

    def column(values):
        return draw(st.lists(values, min_size=n, max_size=n))

    pairs = column(st.permutations("abcd").map(lambda p: p[:2]))
    options = {}
    kind = draw(st.sampled_from(["hard", "soft", "three"]))
    outcome = column(st.sampled_from(["left", "right", "tie"]))
    if kind == "soft":
        outcome, options["soft"] = column(st.sampled_from([0.0, 0.25, 0.5, 1.0])), True
    if kind == "three":
        outcome = np.array(column(st.sampled_from([(0.5, 0.25, 0.25), (1.0, 0.0, 0.0)])))
    if draw(st.booleans()):
        options["weights"] = column(st.sampled_from([0.5, 1.0, 3.0]))
    for name in ("judges", "clusters"):
        if draw(st.booleans()):
            options[name] = column(st.sampled_from("xyz"))
    if draw(st.booleans()):
        options["covariates"] = {"length": column(st.sampled_from([-1.0, 0.0, 2.5]))}
    if draw(st.booleans()):
        masks = {name: column(st.booleans()) for name in ("hard", "long")}
        labels = column(st.sampled_from(["hard", "long", None]))
        overlap = {k: np.array(v) for k, v in masks.items()}
        options["groups"] = draw(st.sampled_from([labels, overlap]))
    left, right = zip(*pairs, strict=True)
    return (list(left), list(right), outcome), options


def cut(case, chosen):
    """Return the same table with these rows only."""
    (left, right, outcome), options = case
    parts = {}
    for name, value in options.items():
        if isinstance(value, dict):
            parts[name] = {k: np.asarray(v)[chosen] for k, v in value.items()}
        else:
            parts[name] = value if name == "soft" else [value[k] for k in chosen]
    columns = [[column[k] for k in chosen] for column in (left, right)]
    return Comparisons.from_pairs(
        *columns, np.asarray(outcome)[chosen], items=list("abcd"), **parts
    )


@settings(deadline=None)
@given(tables(), st.data())
def test_parts_add_up_and_retract(case, data):
    n = len(case[0][0])
    everything = list(range(n))
    mask = data.draw(st.lists(st.booleans(), min_size=n, max_size=n))
    first = [k for k in everything if mask[k]]
    second = [k for k in everything if not mask[k]]
    whole = cut(case, everything)
    assert cut(case, everything[::-1]) == whole  # the weights used here add up exactly
    assert whole.n_rows == n
    if first and second:
        a, b = cut(case, first), cut(case, second)
        assert a + b == whole
        assert b + a == whole
        assert whole - b == a
        assert (whole - a) - b == whole - whole
    assert (whole - whole).n_comparisons == 0
    assert whole.without_order().without_order() == whole.without_order()


@settings(deadline=None)
@given(tables())
def test_what_is_saved_comes_back(tmp_path_factory, case):
    path = tmp_path_factory.mktemp("saved") / "votes"
    c = cut(case, list(range(len(case[0][0]))))
    c.save(path)
    assert Comparisons.load(path) == c
    assert pickle.loads(pickle.dumps(c)) == c
    pytest.importorskip("pyarrow", reason="pyarrow is an optional library")
    for each in (c, c.without_order()):
        assert Comparisons.from_arrow(each.to_arrow()) == each


def test_labels_of_several_kinds_are_saved(tmp_path):
    for pair in ((1, 2), (0.5, 1.5), (("a", 1), ("a", ("b", 2))), (True, False)):
        c = Comparisons.from_pairs(
            [pair[0]], [pair[1]], items=None if pair[0] != ("a", 1) else pair
        )
        c.save(tmp_path / "x")
        again = Comparisons.load(tmp_path / "x")
        assert again == c
        assert [type(x) for x in again.items] == [type(x) for x in c.items]
    strange = Comparisons.from_pairs([frozenset("a")], [frozenset()])
    rule = "it must be str, int, float, bool or tuple"
    with raises(TypeError, f"Comparisons.save: label frozenset() is a frozenset, {rule}"):
        strange.save(tmp_path / "y")


def test_other_files_are_refused(tmp_path):
    path = tmp_path / "x.npz"
    message = f"Comparisons.load: {path} is not a file that Comparisons.save wrote"
    path.write_text("left,right\n")
    with raises(ValueError, message):
        Comparisons.load(path)
    np.savez(path, a=np.zeros(3))
    with raises(ValueError, message):
        Comparisons.load(path)
    np.savez(path, header=np.array('{"version": 2}'))
    with raises(ValueError, f"Comparisons.load: {path} has version 2, this softmap reads up to 1"):
        Comparisons.load(path)


def test_arrow_is_a_table_that_people_can_read():
    pa = pytest.importorskip("pyarrow", reason="pyarrow is an optional library")
    c = Comparisons.from_pairs(
        list("aab"), list("bbc"), ["left", "tie", "right"], groups=["g", None, "g"]
    )
    assert c.to_arrow().to_pydict() == {
        "group": [None, None, "g", "g"],
        "left": ["a", "b", "a", "b"],
        "right": ["b", "c", "b", "c"],
        "wins": [1, 0, 1, 0],
        "losses": [0, 1, 0, 1],
        "ties": [1, 0, 0, 0],
    }
    with pytest.raises(ValueError, match=r"table is not what Comparisons.to_arrow made"):
        Comparisons.from_arrow(pa.table({"left": ["a"]}))
    with raises(ValueError, "Comparisons.to_arrow: two labels of left are written '1.5'"):
        Comparisons.from_pairs([1.5], ["1.5"], items=["1.5", 1.5]).to_arrow()


def test_soft_outcomes_are_no_ties():
    c = Comparisons.from_pairs(["a", "a"], ["b", "b"], [0.5, 0.25], soft=True, weights=[1, 2])
    assert (c.wins.tolist(), c.losses.tolist(), c.ties.tolist()) == ([1.0], [2.0], [0.0])
    # squares of weight times probability; then the product of win and loss
    assert c.squares[:, 0].tolist() == [0.25 + 0.25, 0.25 + 2.25, 0.0, 0.25 + 0.75, 0.0, 0.0]
    assert c.soft


def test_probabilities_of_three_outcomes():
    p = np.array([[0.5, 0.125, 0.375], [0.0, 1.0, 0.0]])
    for given_as in (p, p.tolist()):
        c = Comparisons.from_pairs(["a", "b"], ["b", "c"], given_as)
        assert c.counts.T.tolist() == [[0.5, 0.375, 0.125], [0.0, 0.0, 1.0]]
        assert c.squares[:, 0].tolist() == [0.25, 0.140625, 0.015625, 0.1875, 0.0625, 0.046875]
        assert not c.soft


def test_choice_probabilities_are_outcomes():
    p = np.array([[0.75, 0.25], [0.5, 0.5]])
    found = ChoiceProbabilities(("right", "left"), p, np.ones(2), p, p)
    c = Comparisons.from_pairs(["a", "b"], ["b", "c"], found)
    assert c == Comparisons.from_pairs(["a", "b"], ["b", "c"], [0.25, 0.5], soft=True)
    p = np.array([[0.5, 0.25, 0.25]])
    found = ChoiceProbabilities(("A", "both", "B"), p, np.ones(1), p, p)
    labels = {"A": "left", "B": "right", "both": "tie"}
    c = Comparisons.from_pairs(["a"], ["b"], found, labels=labels)
    assert c == Comparisons.from_pairs(["a"], ["b"], [[0.5, 0.25, 0.25]])
    with pytest.raises(
        ValueError, match="outcome has the choices A, both, B, they must be left and"
    ):
        Comparisons.from_pairs(["a"], ["b"], found)


NAN = float("nan")


@pytest.mark.parametrize(
    ("kind", "outcome", "options", "message"),
    [
        (ValueError, [0.5, 1.5], {"soft": True}, "outcome[1] = 1.5, a probability is from 0 to 1"),
        (ValueError, [NAN, 0.5], {"soft": True}, "outcome[0] = nan, a probability is from 0 to 1"),
        (
            ValueError,
            [0.5],
            {"soft": True},
            "left has 2 rows and outcome has shape (1,)",
        ),
        (TypeError, ["a", "b"], {"soft": True}, "outcome has dtype <U1, it must be real numbers"),
        (
            ValueError,
            np.ones((2, 2)),
            {},
            "outcome has shape (2, 2), it must be (2, 3), the probabilities of left, tie and right",
        ),
        (ValueError, [[1, 0, 0], [1, 0]], {}, "outcome has rows of different lengths"),
        (
            ValueError,
            [[1, 0, 0], [0.5, 0.25, 0.5]],
            {},
            "outcome[1] = (0.5, 0.25, 0.5), probabilities of left, tie and right cannot be "
            "negative and add up to 1",
        ),
        (ValueError, "left", {"judges": ["x"]}, "left has 2 rows and judges has 1"),
        (ValueError, "left", {"clusters": [1, None]}, "clusters[1] = None, every row needs one"),
        (ValueError, "left", {"groups": ["x"]}, "left has 2 rows and groups has 1"),
        (
            ValueError,
            "left",
            {"groups": {"g": [0, 1]}},
            "groups['g'] has dtype int64 and shape (2,), it must be bool, (2,)",
        ),
        (
            ValueError,
            "left",
            {"covariates": {"x": [1.0, NAN]}},
            "covariates['x'][1] = nan, it must be finite",
        ),
        (
            TypeError,
            "left",
            {"covariates": [1.0, 2.0]},
            "covariates is a list, it must be a mapping of name to numbers",
        ),
    ],
)
def test_column_errors(kind, outcome, options, message):
    with raises(kind, f"Comparisons.from_pairs: {message}"):
        Comparisons.from_pairs(["a", "b"], ["b", "c"], outcome, **options)


def test_groups_overlap_and_share_the_items():
    masks = {"b": np.array([True, True]), "a": np.array([False, True])}
    c = Comparisons.from_pairs(["x", "y"], ["y", "z"], groups=masks)
    assert [name for name, _ in c.groups] == ["a", "b"]
    parts = dict(c.groups)
    assert parts["a"].items == parts["b"].items == ("x", "y", "z")
    assert (parts["a"].n_rows, parts["b"].n_rows) == (1, 2)


def test_retraction_errors():
    c = Comparisons.from_pairs(["a", "b"], ["b", "c"])
    for other, message in (
        (Comparisons.from_pairs(["a"], ["z"]), "'z' is not among the items"),
        (c.without_order(), "the order is known, but not in what is retracted"),
        (c + c, "more comparisons of 'a' and 'b' are retracted than there are"),
        (
            Comparisons.from_pairs(["c"], ["a"]),
            "more comparisons of 'c' and 'a' are retracted than there are",
        ),
        (Comparisons.from_pairs(["a"], ["b"], clusters=[1]), "only one side has clusters"),
        (Comparisons.from_pairs(["a"], ["b"], groups=["g"]), "'g' is not among the groups"),
    ):
        with raises(ValueError, f"Comparisons.__sub__: {message}"):
            c - other
    voted = Comparisons.from_pairs(["a"], ["b"], clusters=["x"])
    with raises(ValueError, "Comparisons.__sub__: a row is retracted that is not there"):
        voted - Comparisons.from_pairs(["a"], ["b"], clusters=["y"])
    with raises(ValueError, "Comparisons.__add__: only one side has clusters"):
        c + voted
    assert c - Comparisons.from_pairs(["a"], ["b"]) == Comparisons.from_pairs(
        ["b"], ["c"], items=list("abc")
    )


COLUMNS = {
    "model_a": ["x", "y", "x", "x"],
    "model_b": ["y", "z", "y", "z"],
    "winner": ["model_a", "tie", "model_a", "model_b"],
    "who": [3, 1, 3, 2],
    "size": [0.5, -1.0, 0.5, 2.0],
    "tag": ["g", "h", "g", None],
}
NAMED = {"clusters": "who", "covariates": ["size"], "groups": "tag"}
EXPECTED = Comparisons.from_pairs(
    COLUMNS["model_a"],
    COLUMNS["model_b"],
    COLUMNS["winner"],
    clusters=COLUMNS["who"],
    covariates={"size": COLUMNS["size"]},
    groups=COLUMNS["tag"],
)


def frames():
    for library, make in (("pandas", "DataFrame"), ("polars", "DataFrame"), ("pyarrow", "table")):
        module = pytest.importorskip(library, reason="an optional library")
        yield getattr(module, make)(COLUMNS)


def test_from_frame():
    for df in frames():
        assert Comparisons.from_frame(df, **NAMED) == EXPECTED
        assert Comparisons.from_frame(df).n_rows == 4
        with raises(
            ValueError,
            "Comparisons.from_frame: judges = 'z' is not in df "
            "(found: model_a, model_b, winner, who, size, tag)",
        ):
            Comparisons.from_frame(df, judges="z")
        with pytest.raises(ValueError, match=r"^Comparisons.from_frame: df row 4: the cluster is"):
            Comparisons.from_frame(df, clusters="tag")
    with pytest.raises(TypeError, match="df is a dict, it must be a pandas or Polars data frame"):
        Comparisons.from_frame(COLUMNS)


def test_jsonl(tmp_path):
    import json

    lines = [dict(zip(COLUMNS, row, strict=True)) for row in zip(*COLUMNS.values(), strict=True)]
    path = tmp_path / "votes.jsonl"
    path.write_text("\n".join(map(json.dumps, lines)) + "\n\n")
    assert read_comparisons(path, **NAMED) == EXPECTED
    bad = [*lines, {"model_a": "x"}, [1], {**lines[0], "winner": [1]}, {**lines[0], "model_b": "x"}]
    path.write_text("\n".join(map(json.dumps, bad)) + "\n{\n")
    c = read_comparisons(path, **NAMED, on_bad_row="skip")
    assert c.n_rows + len(c.skipped) == 9
    assert [line for line, _ in c.skipped] == [5, 6, 7, 8, 9]
    assert c.skipped[0][1] == "the name of the right item is empty"
    assert c.skipped[1][1] == "a list, it must be an object"
    assert c.skipped[2][1].startswith("outcome = [1], known are left")
    assert c.skipped[4][1].startswith("not JSON: expecting property name")
    with pytest.raises(ValueError, match="line 5: the name of the right item is empty"):
        read_comparisons(path)
    with path.open() as file, pytest.raises(ValueError, match=r"votes.jsonl line 5: the name"):
        read_comparisons(file)


def test_jsonl_groups_may_be_lists(tmp_path):
    path = tmp_path / "votes.txt"
    path.write_text('{"left": "a", "right": "b", "winner": 1, "tags": ["p", "q", "p"]}\n')
    c = read_comparisons(path, groups="tags", format="jsonl")
    assert [name for name, _ in c.groups] == ["p", "q"]
    assert dict(c.groups)["p"].n_comparisons == 1


@pytest.mark.parametrize("engine", ["duckdb", "pyarrow"])
def test_parquet(tmp_path, engine, monkeypatch):
    pa = pytest.importorskip("pyarrow", reason="an optional library")
    parquet = pytest.importorskip("pyarrow.parquet", reason="an optional library")
    pytest.importorskip(engine, reason="an optional library")
    if engine == "pyarrow":
        monkeypatch.setitem(__import__("sys").modules, "duckdb", None)
    path = tmp_path / "votes.parquet"
    parquet.write_table(pa.table(COLUMNS), path)
    assert read_comparisons(path, **NAMED) == EXPECTED
    plain = read_comparisons(path)
    assert (plain.n_rows, plain.rows, plain.wins.sum()) == (4, None, 2)
    soft = {**COLUMNS, "winner": [0.25, 0.5, 0.25, 1.0]}
    parquet.write_table(pa.table(soft), path)
    expected = Comparisons.from_pairs(soft["model_a"], soft["model_b"], soft["winner"], soft=True)
    assert read_comparisons(path, soft=True) == expected
    bad = {**COLUMNS, "winner": ["model_a", "?", "model_a", "?"], "model_b": ["y", "z", "x", "z"]}
    bad["model_a"] = ["x", "y", "x", "y"]
    parquet.write_table(pa.table(bad), path)
    c = read_comparisons(path, on_bad_row="skip")
    assert [line for line, _ in c.skipped] == [2, 3, 4]
    assert c.n_rows == 1
    with pytest.raises(ValueError, match=r"votes.parquet row 2: outcome = '\?'"):
        read_comparisons(path)
    path.write_text("left,right\n")
    with pytest.raises(ValueError, match=r"votes.parquet cannot be read"):
        read_comparisons(path)
    with pytest.raises(FileNotFoundError):
        read_comparisons(tmp_path / "absent.parquet")


def test_csv_carries_columns(tmp_path):
    path = tmp_path / "votes.csv"
    rows = zip(*COLUMNS.values(), strict=True)
    lines = [",".join("" if x is None else str(x) for x in row) for row in rows]
    path.write_text("\n".join([",".join(COLUMNS), *lines]))
    c = read_comparisons(path, **NAMED)
    assert c.rows.labels == {"clusters": ("1", "2", "3")}
    assert np.array_equal(c.rows.amounts, EXPECTED.rows.amounts)
    assert [(name, part.n_rows) for name, part in c.groups] == [("g", 2), ("h", 1)]
    path.write_text("left,right,left_wins,right_wins,tag,who\na,b,2,1,g,x\nb,a,0,3,h,y\n")
    c = read_comparisons(path, groups="tag", clusters="who")
    assert (c.n_rows, c.n_comparisons, c.rows.left.size) == (2, 6, 6)
    assert [(name, part.n_rows, part.n_comparisons) for name, part in c.groups] == [
        ("g", 1, 3),
        ("h", 1, 3),
    ]


def test_format_errors(tmp_path):
    with raises(ValueError, "read_comparisons: format = 'xls', it must be csv, jsonl or parquet"):
        read_comparisons("x.csv", format="xls")
    path = tmp_path / "x.jsonl"
    for text, what in (("", "it is empty"), ("[]\n", "line 1: a list, it must be an object")):
        path.write_text(text)
        message = f"{path} has no object that names the columns ({what})"
        with raises(ValueError, f"read_comparisons: {message}"):
            read_comparisons(path)
