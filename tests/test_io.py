"""Reading comparisons from csv."""

import csv
import io
import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from softmap.comparisons import Comparisons
from softmap.io import read_comparisons

WORD = "say what another word means with labels"
NAMES = "for names of winners pass winner == left"
KNOWN = "known are left, right, tie, model_a, model_b, tie (bothbad), both_bad, bool, 1, 0.5 and 0"
CURE = "(mend it, or leave such rows out with on_bad_row='skip')"


def read(text, **options):
    return read_comparisons(io.StringIO(text), **options)


def raises(message):
    return pytest.raises(ValueError, match="^" + re.escape(f"read_comparisons: {message}") + "$")


EXPECTED = Comparisons.from_pairs(list("aab"), list("bbc"), ["left", "right", "tie"])


@pytest.mark.parametrize(
    "text",
    [
        "left,right,winner\na,b,left\na,b,right\nb,c,tie\n",
        "id,model_a,model_b,winner\n1,a,b,model_a\n2,a,b,Model_B\n3,b,c,tie (bothbad)\n",
        "Home Team,Away-Team,Result\na,b,1\na,b,0\nb,c,.5\n",
        "home.team,away.team,outcome\na , b,1.0\n a,b,0.0\nb,c,0.5\n",
        '"home","away","result"\n"a","b","left"\n\n"a","b","right"\n  \n"b","c","tie"\n',
        "player1,player2,outcome\na,b,left\na,b,right\nb,c,tie",
        "item_a,item_b,outcome\r\na,b,left\r\na,b,right\r\nb,c,tie\r\n",
        "\ufeffleft,right,winner\na,b,left\na,b,right\nb,c,tie\n",
    ],
)
def test_one_comparison_per_row(text):
    assert read(text) == EXPECTED


@pytest.mark.parametrize(
    "text",
    [
        "left,right,left_wins,right_wins,ties\na,b,3,1,0\nb,c,0,0,2\n",
        "home.team,away.team,home.wins,away.wins,Draws\na,b,3,1,0\nb,c,0,0,2\n",
        "player1,player2,win1,win2,ties\na,b,3,1,0\nb,c,0,0,2\n",
    ],
)
def test_counts(text):
    c = read(text)
    assert (c.wins.tolist(), c.losses.tolist(), c.ties.tolist()) == ([3, 0], [1, 0], [0, 2])
    assert c.wins.dtype.kind == "i"
    assert (c.n_rows, c.n_comparisons, c.ordered) == (2, 6, True)


def test_counts_without_ties_and_with_weights():
    c = read("left,right,left_wins,right_wins,weight\na,b,3,1,0.5\n")
    assert (c.wins.tolist(), c.losses.tolist(), c.ties.tolist()) == ([1.5], [0.5], [0.0])
    assert c.squares.tolist() == [[0.75], [0.25], [0.0]]


def test_winner_and_loser_have_no_order():
    c = read("winner,loser\nb,a\na,b\nb,a\n")
    assert c == Comparisons.from_pairs(list("bab"), list("aba")).without_order()


def test_named_columns_labels_and_weights():
    text = "x,y,verdict,w\na,b,A>>B,2\nb,c,-1,1\n"
    c = read(
        text, left="x", right="y", outcome="verdict", weights="w", labels={"A>>B": 1, -1: "tie"}
    )
    assert c == Comparisons.from_pairs(["a", "b"], ["b", "c"], ["left", "tie"], weights=[2, 1])


def test_path_and_byte_order_mark(tmp_path):
    path = tmp_path / "battles.csv"
    path.write_bytes(b"\xef\xbb\xbfleft,right,winner\n\xc3\xa9,b,left\n")
    assert read_comparisons(path).items == ("b", "é")
    assert read_comparisons(str(path)).items == ("b", "é")
    with pytest.raises(FileNotFoundError):
        read_comparisons(tmp_path / "absent.csv")


BAD_ROWS = {
    "a,b": "2 fields, it must be 4",
    "a,b,left,1,5": "5 fields, it must be 4",
    ",b,left,1": "the name of the left item is empty",
    "a, ,left,1": "the name of the right item is empty",
    "a,a,left,1": "'a' is compared with itself",
    "a,b,left,-1": "weight = '-1', it must be a number from 0 to 1e15",
    "a,b,left,nan": "weight = 'nan', it must be a number from 0 to 1e15",
    "a,b,left,": "weight = '', it must be a number from 0 to 1e15",
    "a,b,A,1": f"outcome = 'A', {KNOWN}; {WORD}={{'A': 1}}, 1 = left won; {NAMES}",
    "a,b,,1": f"outcome = '', {KNOWN}; {WORD}={{'': 1}}, 1 = left won; {NAMES}",
    'a,b,"left"x,1': "',' expected after '\"'",
}


@pytest.mark.parametrize(("row", "reason"), BAD_ROWS.items())
def test_unreadable_row_has_its_line(row, reason):
    text = f"left,right,winner,weight\na,b,tie,1\n\n{row}\nb,c,left,1\n"
    with raises(f"<file> line 4: {reason} {CURE}"):
        read(text)
    c = read(text, on_bad_row="skip")
    assert c.skipped == ((4, reason),)
    assert c.n_rows == 2
    assert repr(c) == "Comparisons(3 items, 2 rows, 1 skipped, 2 pairs, ordered)"


def test_skipped_rows_survive_adding():
    bad = read("left,right,winner\na,b,left\na,a,tie\n", on_bad_row="skip")
    assert (bad + bad).skipped == 2 * bad.skipped
    assert (bad + bad).n_rows + len((bad + bad).skipped) == 4


@pytest.mark.parametrize("count", ["-1", "1.5", "x", "", "nan", "1e16"])
def test_counts_must_be_whole(count):
    with raises(f"<file> line 2: count = {count!r}, it must be a whole number, at least 0 {CURE}"):
        read(f"left,right,left_wins,right_wins\na,b,{count},1\n")


@pytest.mark.parametrize(
    ("text", "options", "message"),
    [
        ("", {}, "<file> is empty, the first line must name the columns"),
        ("\n \n", {}, "<file> is empty, the first line must name the columns"),
        ("left,right,winner\n", {}, "<file> has no row that could be read (0 skipped)"),
        (
            "left,right,winner\na,a,tie\n",
            {"on_bad_row": "skip"},
            "<file> has no row that could be read "
            "(1 skipped, the first: line 2: 'a' is compared with itself)",
        ),
        (
            "x,y,winner\n",
            {},
            "<file> has no column for the two items "
            "(found: x, y, winner; name it with left= and right=)",
        ),
        (
            "left,right,who\n",
            {},
            "<file> has no column for the outcome (found: left, right, who; name it with outcome=)",
        ),
        (
            "left,right,winner\n",
            {"outcome": "verdict"},
            "outcome = 'verdict' is not in <file> (found: left, right, winner)",
        ),
        (
            "left,right,winner\n",
            {"weights": "w"},
            "weights = 'w' is not in <file> (found: left, right, winner)",
        ),
        (
            "left,right,winner,left_wins,right_wins\n",
            {},
            "<file> has both outcomes (winner) and counts (left_wins), one is needed "
            "(name the outcome with outcome=)",
        ),
        ("left,right\n", {"left": "x"}, "left = 'x' and right = None, they must be given together"),
        ("left,right\n", {"on_bad_row": "warn"}, "on_bad_row = 'warn', it must be raise or skip"),
        (
            "left,right\n",
            {"labels": {"x": "y"}},
            "labels['x'] = 'y', it must be left, right, tie, a bool, 1, 0.5 or 0",
        ),
        ('"left"x,right\n', {}, "<file> line 1: ',' expected after '\"'"),
    ],
)
def test_file_errors(text, options, message):
    with raises(message):
        read(text, **options)


def test_not_utf8(tmp_path):
    path = tmp_path / "latin.csv"
    path.write_bytes(b"left,right,winner\n\xe9,b,left\n")
    with raises(f"{path} after line 0: byte 0xe9 is not UTF-8 (save the file as UTF-8)"):
        read_comparisons(path)


NAME = st.text(st.characters(codec="utf-8", exclude_categories=["C"]), min_size=1).map(str.strip)


@settings(deadline=None)
@given(
    st.lists(
        st.tuples(NAME, NAME, st.sampled_from(["left", "right", "tie"])).filter(
            lambda row: row[0] and row[1] and row[0] != row[1]
        ),
        min_size=1,
        max_size=8,
    )
)
def test_what_csv_writes_is_read_back(rows):
    text = io.StringIO()
    csv.writer(text).writerows([("left", "right", "winner"), *rows])
    text.seek(0)
    assert read_comparisons(text) == Comparisons.from_pairs(*zip(*rows, strict=True))
