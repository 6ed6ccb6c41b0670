"""Comparisons: counting, adding, and every error."""

# budget: over 400 lines: a test a way in and an error

import doctest
import importlib
import pickle
import re
from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from softmap.comparisons import Comparisons

NAMES = "abcdef"
VALUES = {"left": 1.0, "right": 0.0, "tie": 0.5}

rows = st.lists(
    st.tuples(st.permutations(NAMES).map(lambda p: p[:2]), st.sampled_from(list(VALUES))),
    min_size=1,
    max_size=30,
)


def make(data, **options):
    pairs, outcomes = zip(*data, strict=True)
    left, right = zip(*pairs, strict=True)
    return Comparisons.from_pairs(left, right, outcomes, **options)


def cells(c):
    """Return {(left, right): (wins, losses, ties)} by name."""
    numbers = zip(c.left, c.right, c.wins, c.losses, c.ties, strict=True)
    return {(c.items[i], c.items[j]): (w, x, t) for i, j, w, x, t in numbers}


def raises(kind, message):
    return pytest.raises(kind, match="^" + re.escape(message) + "$")


@pytest.mark.parametrize("name", ["comparisons", "diagnostics", "io", "result", "fit", "groups"])
def test_examples_run(name):
    # the module softmap.fit has the name of the function: import it by its path
    result = doctest.testmod(importlib.import_module(f"softmap.{name}"))
    assert result.failed == 0


@settings(deadline=None)
@given(rows)
def test_from_pairs_counts(data):
    expected = {}
    for (left, right), outcome in data:
        expected.setdefault((left, right), Counter())[outcome] += 1
    c = make(data)
    assert cells(c) == {k: (n["left"], n["right"], n["tie"]) for k, n in expected.items()}
    assert c.items == tuple(sorted({name for pair, _ in data for name in pair}))
    assert c.wins.dtype == c.losses.dtype == c.ties.dtype == np.int64
    assert c.ordered
    assert c.squares is None
    assert c.n_rows == c.n_comparisons == len(data)
    assert (np.diff(c.left * len(c.items) + c.right) > 0).all()


@settings(deadline=None)
@given(rows, rows, st.booleans(), st.booleans(), st.booleans())
def test_add_commutes(a, b, weighted, unordered, same_items):
    items = tuple("fedcba") if same_items else None
    one = make(a, weights=np.linspace(0, 1, len(a)) ** 2 if weighted else None, items=items)
    two = make(b, items=items)
    two = two.without_order() if unordered else two
    assert one + two == two + one
    assert (one + two).ordered is not unordered
    assert (one + two).items == (items or tuple(sorted({*one.items, *two.items})))
    assert (one + two).n_rows == len(a) + len(b)
    if not weighted and not unordered:
        assert one + two == make(a + b, items=items)


@settings(deadline=None)
@given(st.lists(rows, min_size=1, max_size=4))
def test_sum_of_parts_is_the_whole(parts):
    whole = make([row for part in parts for row in part])
    assert sum(make(part) for part in parts) == whole
    assert sum(make(part) for part in reversed(parts)) == whole
    assert sum([whole]) is whole


@settings(deadline=None)
@given(rows)
def test_without_order_merges_both_directions(data):
    c = make(data)
    folded = c.without_order()
    assert (folded.left < folded.right).all()
    assert not folded.ordered
    turned = [((b, a), {"left": "right", "right": "left"}.get(o, o)) for (a, b), o in data]
    assert make(turned).without_order() == folded


def test_add_keeps_an_order_that_both_have():
    a = Comparisons.from_pairs(["z"], ["a"], items=["z", "a"])
    assert (a + a).items == ("z", "a")
    assert (a + a).wins.tolist() == [2]
    assert (a + Comparisons.from_pairs(["z"], ["a"])).items == ("a", "z")


def test_add_gives_unweighted_parts_weight_one():
    c = Comparisons.from_pairs(["a"], ["b"], weights=[0.5]) + Comparisons.from_pairs(["a"], ["b"])
    assert c.wins.tolist() == [1.5]
    assert c.squares.tolist() == [[1.25], [0.0], [0.0]]


def test_add_refuses_other_types():
    c = Comparisons.from_pairs(["a"], ["b"])
    with pytest.raises(TypeError):
        c + 1
    with pytest.raises(TypeError):
        1 + c
    assert c != 1


def test_add_refuses_labels_that_do_not_sort():
    a, b = Comparisons.from_pairs(["a"], ["b"]), Comparisons.from_pairs([1], [2])
    message = "labels of type int and str do not sort (pass items= in the order wanted)"
    with raises(TypeError, f"Comparisons.__add__: {message}"):
        a + b


@pytest.mark.parametrize(
    ("outcome", "cell"),
    [
        ("left", (1, 0, 0)),
        ("right", (0, 1, 0)),
        ("tie", (0, 0, 1)),
        ("model_a", (1, 0, 0)),
        ("model_b", (0, 1, 0)),
        ("tie (bothbad)", (0, 0, 1)),
        ("both_bad", (0, 0, 1)),
        (" Model_A ", (1, 0, 0)),
        (True, (1, 0, 0)),
        (False, (0, 1, 0)),
        (np.bool_(True), (1, 0, 0)),
        (1, (1, 0, 0)),
        (0, (0, 1, 0)),
        (0.5, (0, 0, 1)),
        (np.float32(0.5), (0, 0, 1)),
        (np.int8(0), (0, 1, 0)),
    ],
)
def test_outcomes(outcome, cell):
    for given_as in (outcome, [outcome], np.array([outcome]), np.array([outcome], dtype=object)):
        assert cells(Comparisons.from_pairs(["a"], ["b"], given_as)) == {("a", "b"): cell}


def test_labels_add_words():
    labels = {"A wins": 1, "B wins": "right", "Draw": "tie", 2: False, -1: 0.5}
    c = Comparisons.from_pairs(
        ["a"] * 5, ["b"] * 5, ["a WINS ", "B wins", "draw", 2, -1], labels=labels
    )
    assert cells(c) == {("a", "b"): (1, 2, 2)}
    with raises(
        ValueError,
        "Comparisons.from_pairs: labels['x'] = 3, it must be left, right, tie, a bool, 1, 0.5 or 0",
    ):
        Comparisons.from_pairs(["a"], ["b"], labels={"x": 3})
    with pytest.raises(ValueError, match="labels"):
        Comparisons.from_pairs(["a"], ["b"], labels={"x": []})


@pytest.mark.parametrize("word", ["A", "", "lef", 2, -1, 0.4, float("nan"), None, "1", b"left"])
def test_unknown_outcome_is_an_error(word):
    message = (
        f"= {word!r}, known are left, right, tie, model_a, model_b, tie (bothbad), both_bad, bool, "
        f"1, 0.5 and 0 (say what another word means with labels={{{word!r}: 1}}, 1 = left won; "
        "for names of winners pass winner == left)"
    )
    with raises(ValueError, f"Comparisons.from_pairs: outcome[1] {message}"):
        Comparisons.from_pairs(["a", "a"], ["b", "c"], ["left", word])
    with raises(ValueError, f"Comparisons.from_pairs: outcome {message}"):
        Comparisons.from_pairs(["a", "a"], ["b", "c"], word)


def test_items_keep_their_order():
    for left, right in ([0, 2], [2, 1]), (np.array([0, 2]), np.array([2, 1])), ("zx", "xy"):
        sides = (list(left), list(right)) if isinstance(left, str) else (left, right)
        c = Comparisons.from_pairs(*sides, items=["z", "y", "x", "never"])
        assert c.items == ("z", "y", "x", "never")
        assert cells(c) == {("z", "x"): (1, 0, 0), ("x", "y"): (1, 0, 0)}
    c = Comparisons.from_pairs(np.array([0, 2], np.uint8), [2, 1], items=3)
    assert c.items == (0, 1, 2)
    assert cells(c) == {(0, 2): (1, 0, 0), (2, 1): (1, 0, 0)}


def test_labels_of_any_kind():
    assert Comparisons.from_pairs([3, 1], [1, 2]).items == (1, 2, 3)
    assert Comparisons.from_pairs([("a", 1)], [("a", 0)]).items == (("a", 0), ("a", 1))
    assert Comparisons.from_pairs(np.array(["b"]), np.array(["a"])).items == ("a", "b")
    assert type(Comparisons.from_pairs([np.str_("b")], [np.str_("a")]).items[0]) is str
    assert Comparisons.from_pairs((x for x in "ab"), iter("bc")).items == ("a", "b", "c")


def test_weights_sum_and_square():
    weights = [2, 1, 0.5, 0]
    c = Comparisons.from_pairs(list("aaab"), list("bbbc"), [1, 1, 0.5, 0], weights=weights)
    assert cells(c) == {("a", "b"): (3.0, 0.0, 0.5), ("b", "c"): (0.0, 0.0, 0.0)}
    assert c.squares.tolist() == [[5.0, 0.0], [0.0, 0.0], [0.25, 0.0]]
    assert c.wins.dtype == np.float64
    assert c.n_comparisons == 3.5
    assert Comparisons.from_pairs(["a", "b"], ["b", "a"], weights=2).wins.tolist() == [2.0, 2.0]


def test_from_matrix():
    wins = np.array([[9, 3, 0], [1, 9, 0], [0, 2, 9]])
    ties = np.array([[9, 1, 4], [1, 9, 0], [4, 0, 9]])
    c = Comparisons.from_matrix(wins, tie_counts=ties, items=list("abc"))
    assert cells(c) == {("a", "b"): (3, 1, 1), ("a", "c"): (0, 0, 4), ("b", "c"): (0, 2, 0)}
    assert (c.ordered, c.squares, c.wins.dtype) == (False, None, np.int64)
    assert c.n_comparisons == 11
    assert Comparisons.from_matrix(wins.astype(float), tie_counts=ties, items=list("abc")) == c
    assert Comparisons.from_matrix(wins.tolist()).items == (0, 1, 2)


def test_from_matrix_takes_the_labels_of_a_frame():
    pd = pytest.importorskip("pandas")
    wins = pd.DataFrame([[0, 3], [1, 0]], index=["x", "y"], columns=["x", "y"])
    ties = pd.DataFrame([[0, 2], [2, 0]], index=["x", "y"], columns=["x", "y"])
    from_matrix = Comparisons.from_matrix
    want = from_matrix(wins.to_numpy(), tie_counts=ties.to_numpy(), items=["x", "y"])
    assert from_matrix(wins, tie_counts=ties) == want
    assert from_matrix(wins, tie_counts=ties.to_numpy()) == want
    assert from_matrix(wins.to_numpy(), tie_counts=ties) == want
    assert from_matrix(wins, items=["p", "q"]).items == ("p", "q")
    assert from_matrix(pd.DataFrame([[0, 3], [1, 0]])).items == (0, 1)
    with pytest.raises(ValueError, match="wins is labelled differently along rows and columns"):
        from_matrix(wins[["y", "x"]])
    with pytest.raises(ValueError, match="wins is labelled differently along rows and columns"):
        from_matrix(pd.DataFrame([[0, 3], [1, 0]], columns=["x", "y"]))
    assert from_matrix(pd.DataFrame([[0, 3], [1, 0]], columns=list("xy")), items=list("xy")) == (
        from_matrix([[0, 3], [1, 0]], items=list("xy"))
    )
    with pytest.raises(ValueError, match="wins and tie_counts are labelled differently"):
        from_matrix(wins, tie_counts=ties.rename(index={"x": "z"}, columns={"x": "z"}))


def test_from_matrix_fractions_are_so_many_comparisons():
    c = Comparisons.from_matrix([[0.5, 0.25], [0.75, 0.5]])
    assert c.wins.tolist() == [0.25]
    assert c.squares.tolist() == [[0.25], [0.75], [0.0]]


def test_is_immutable_and_pickles():
    c = Comparisons.from_pairs(["a"], ["b"], weights=[2.0])
    again = pickle.loads(pickle.dumps(c))
    assert again == c
    for each in (c, again):
        with pytest.raises(AttributeError):
            each.items = ()
        for array in (each.left, each.right, each.wins, each.losses, each.ties, each.squares):
            with pytest.raises(ValueError, match="read-only"):
                array[...] = 0
    with pytest.raises(TypeError, match="unhashable"):
        hash(c)


def test_inputs_are_not_changed():
    index, weight = np.array([0, 1]), np.array([1.0, 2.0])
    table = np.array([[5.0, 1.0], [2.0, 5.0]])
    Comparisons.from_pairs(index, index[::-1], weights=weight, items=2)
    Comparisons.from_matrix(table)
    index[0], weight[0], table[0, 0] = 7, 7, 7  # still ours, still writeable
    assert table.tolist() == [[7.0, 1.0], [2.0, 5.0]]


def test_repr():
    c = Comparisons.from_pairs(["a", "a"], ["b", "c"])
    assert repr(c) == "Comparisons(3 items, 2 rows, 2 pairs, ordered)"


NAN = float("nan")


@pytest.mark.parametrize(
    ("kind", "arguments", "options", "message"),
    [
        (ValueError, ([], []), {}, "left is empty, at least one comparison is needed"),
        (ValueError, ([], []), {"items": 2}, "left is empty, at least one comparison is needed"),
        (ValueError, (["a"], ["b", "c"]), {}, "left has 1 rows and right has 2"),
        (ValueError, (["a"], ["b"], ["left", "tie"]), {}, "left has 1 rows and outcome has 2"),
        (ValueError, (["a"], ["b"], [True, True]), {}, "left has 1 rows and outcome has 2"),
        (
            ValueError,
            (["a"], ["b"]),
            {"weights": [1, 2]},
            "left has 1 rows and weights has shape (2,)",
        ),
        (
            ValueError,
            (["a", "b"], ["b", "b"]),
            {},
            "left[1] = right[1] = 'b', an item cannot be compared with itself",
        ),
        (ValueError, (["a", None], ["b", "c"]), {}, "left[1] = None, an item needs a label"),
        (ValueError, ([1.0, 2.0], [2.0, NAN]), {}, "right[1] = nan, an item needs a label"),
        (
            ValueError,
            (["a"], ["b"]),
            {"weights": [-1.0]},
            "weights[0] = -1.0, weights cannot be negative",
        ),
        (
            ValueError,
            (["a"], ["b"]),
            {"weights": [NAN]},
            "weights[0] = nan, weights must be finite and at most 1e15",
        ),
        (
            ValueError,
            (["a"], ["b"]),
            {"weights": [np.inf]},
            "weights[0] = inf, weights must be finite and at most 1e15",
        ),
        (
            TypeError,
            (["a"], ["b"]),
            {"weights": ["1"]},
            "weights has dtype <U1, it must be real numbers",
        ),
        (ValueError, ([0], [3]), {"items": 3}, "right[0] = 3, an index must be in 0..2"),
        (ValueError, ([-1], [1]), {"items": 3}, "left[0] = -1, an index must be in 0..2"),
        (ValueError, (np.array([5]), [1]), {"items": 3}, "left[0] = 5, an index must be in 0..2"),
        (
            ValueError,
            (["x"], ["b"]),
            {"items": ["a", "b"]},
            "left[0] = 'x' is not among the 2 items",
        ),
        (ValueError, ([0.0], [1.5]), {"items": 2}, "right[0] = 1.5 is not among the 2 items"),
        (ValueError, ([0], [1]), {"items": 0}, "items = 0, it must be at least 1"),
        (ValueError, ([0], [1]), {"items": []}, "items is empty, it must name at least 1"),
        (
            ValueError,
            (["a"], ["b"]),
            {"items": ["a", "b", "a"]},
            "items[2] = 'a' is there twice, items must differ",
        ),
        (ValueError, ([0], [1]), {"items": ["a", None]}, "items[1] = None, an item needs a label"),
        (
            ValueError,
            ([3], [1]),
            {"items": [3, 1]},
            "items[0] = 3 is an integer, so integers in left and right could be indices or names "
            "(leave items out, or use strings)",
        ),
        (TypeError, ("ab", ["b"]), {}, "left = 'ab', it must be a sequence"),
        (TypeError, (3, ["b"]), {}, "left = 3, it must be a sequence"),
        (TypeError, (["a"], ["b"]), {"items": "ab"}, "items = 'ab', it must be a sequence"),
        (ValueError, (np.zeros((2, 2)), ["b"]), {}, "left has shape (2, 2), must have one axis"),
        (TypeError, (["a", []], ["b", "c"]), {}, "left[1] = [] cannot be hashed"),
        (
            TypeError,
            (["a", 1], ["b", "c"]),
            {},
            "labels of type int and str do not sort (pass items= in the order wanted)",
        ),
    ],
)
def test_from_pairs_errors(kind, arguments, options, message):
    with raises(kind, f"Comparisons.from_pairs: {message}"):
        Comparisons.from_pairs(*arguments, **options)


@pytest.mark.parametrize(
    ("kind", "wins", "options", "message"),
    [
        (
            ValueError,
            np.ones((2, 3)),
            {},
            "wins has shape (2, 3), it must be (n, n) with n at least 2",
        ),
        (
            ValueError,
            np.ones((1, 1)),
            {},
            "wins has shape (1, 1), it must be (n, n) with n at least 2",
        ),
        (ValueError, np.ones(4), {}, "wins has shape (4,), it must be (n, n) with n at least 2"),
        (ValueError, [[0, -1], [0, 0]], {}, "wins[0, 1] = -1.0, wins cannot be negative"),
        (
            ValueError,
            [[0, NAN], [0, 0]],
            {},
            "wins[0, 1] = nan, wins must be finite and at most 1e15",
        ),
        (
            ValueError,
            [[0, 0], [1e16, 0]],
            {},
            "wins[1, 0] = 1e+16, wins must be finite and at most 1e15",
        ),
        (ValueError, np.eye(2), {}, "wins holds no comparison off its diagonal"),
        (TypeError, [["0", "1"], ["1", "0"]], {}, "wins has dtype <U1, it must be real numbers"),
        (
            TypeError,
            np.ma.masked_array(np.ones((2, 2)), mask=np.eye(2)),
            {},
            "wins is a masked array (pass wins.filled(0))",
        ),
        (
            ValueError,
            np.ones((2, 2)),
            {"tie_counts": [[0, 1], [2, 0]]},
            "tie_counts[0, 1] = 1 but tie_counts[1, 0] = 2, tie_counts must be symmetric",
        ),
        (
            ValueError,
            np.ones((2, 2)),
            {"tie_counts": np.ones((3, 3))},
            "tie_counts has shape (3, 3) and wins (2, 2)",
        ),
        (
            ValueError,
            np.ones((2, 2)),
            {"items": ["a"]},
            "items has 1 names and wins has shape (2, 2)",
        ),
        (
            ValueError,
            np.ones((2, 2)),
            {"items": ["a", "a"]},
            "items[1] = 'a' is there twice, items must differ",
        ),
    ],
)
def test_from_matrix_errors(kind, wins, options, message):
    with raises(kind, f"Comparisons.from_matrix: {message}"):
        Comparisons.from_matrix(wins, **options)


def test_sparse_and_dense_counting_agree():
    """Few rows among many items go another way than many rows among few."""
    rng = np.random.default_rng(7)
    left = rng.integers(0, 900, 2000)
    right = (left + rng.integers(1, 900, 2000)) % 900
    won = rng.random(2000) < 0.5
    few = Comparisons.from_pairs(left, right, won, items=900)
    many = Comparisons.from_pairs(
        np.tile(left, 200), np.tile(right, 200), np.tile(won, 200), items=900
    )
    assert np.array_equal(few.left, many.left)
    assert np.array_equal(few.right, many.right)
    assert np.array_equal(200 * few.wins, many.wins)
    assert np.array_equal(200 * few.losses, many.losses)


def test_a_missing_value_that_does_not_compare_is_missing():
    class Missing:
        __hash__ = object.__hash__

        def __ne__(self, other):
            raise TypeError("ambiguous")

        __eq__ = __ne__

        def __repr__(self):
            return "<NA>"

    message = "Comparisons.from_pairs: right[1] = <NA>, an item needs a label"
    with raises(ValueError, message):
        Comparisons.from_pairs(["a", "a"], ["b", Missing()])
