"""The command line: every command, format and exit code."""

# budget: over 400 lines: a test a command, a format and an error

import csv
import io
import json
import os
import re
import subprocess
import sys

import numpy as np
import pytest

import softmap
from softmap import cli
from softmap.demo import BASEBALL, LEVELS, baseball
from softmap.errors import BackendMissingError
from softmap.fit import fit

FOOD = "left,right,winner\na,b,left\nb,c,right\na,c,tie\nb,a,left\nc,b,right\nc,a,left\n"


@pytest.fixture
def games(tmp_path):
    path = tmp_path / "games.csv"
    with path.open("w", newline="") as file:
        csv.writer(file).writerows(
            [("home.team", "away.team", "home.wins", "away.wins"), *BASEBALL]
        )
    return str(path)


@pytest.fixture
def run(capsys, monkeypatch):
    def run(*arguments, stdin=""):
        monkeypatch.setattr(sys, "stdin", io.StringIO(stdin))
        try:
            code = cli.main(list(arguments))
        except SystemExit as stop:
            code = stop.code
        return code, *capsys.readouterr()

    return run


def test_fit_prints_the_summary(run, games):
    code, out, err = run("fit", games, "--first-advantage", "estimate")
    assert (code, err) == (0, "")
    assert out == fit(baseball(), first_advantage="estimate").summary() + "\n"


def test_fit_from_standard_input(run):
    code, out, _ = run("fit", "-", stdin=FOOD)
    assert code == 0
    assert "3 items, 6 comparisons" in out


def test_fit_options_reach_the_fit(run, games):
    options = (
        "--link probit --ties drop --prior-sd inf --errors fisher --level 0.9 --first-advantage 0.1"
    )
    code, out, _ = run("fit", games, *options.split())
    expected = fit(
        baseball(), link="probit", ties="drop", prior_sd=np.inf, errors="fisher", level=0.9,
        first_advantage=0.1,
    )  # fmt: skip
    assert (code, out) == (0, expected.summary() + "\n")


def test_fit_says_that_no_item_has_enough_games(run):
    code, _, err = run("fit", "-", "--min-games", "100", stdin=FOOD)
    assert code == 0
    assert "no item has 100 comparisons (lower --min-games)" in err


def test_messages_name_the_options(run):
    lopsided = "left,right,winner\n" + "a,b,left\n" * 60 + "b,a,left\n" * 60
    _, out, _ = run("fit", "-", stdin=lopsided)
    assert "(--first-advantage estimate accounts for that)" in out
    _, out, _ = run("check", "-", stdin=lopsided)
    assert "(--first-advantage estimate accounts for that)" in out
    _, _, err = run("fit", "-", "--format", "csv", stdin=lopsided)
    assert "(--first-advantage estimate accounts for that)" in err
    _, _, err = run("fit", "-", stdin="left,right,winner\na,b,lft\n")
    assert "say what another word means with --label lft=left, but where it is the winner's" in err
    assert "name let the column say left or right (mend it" in err
    assert err.endswith("or leave such rows out with --skip-bad-rows)\n")
    _, _, err = run("fit", "-", "--errors", "cluster", stdin=FOOD)
    assert err.endswith("(use --clusters)\n")
    _, out, _ = run("fit", "-", stdin="left,right,winner\nprior_sd,ties='half',left\n")
    assert re.search(r"\d  prior_sd ", out)
    assert re.search(r"\d  ties='half' ", out)


def test_fit_without_errors(run):
    code, out, _ = run("fit", "-", "--errors", "none", stdin=FOOD)
    assert code == 0
    assert ", no errors\n" in out
    assert "nan" not in out
    cells = [line.split() for line in out.splitlines()[-3:]]
    assert [row[3:5] for row in cells] == [["-", "-"]] * 3


def test_one_comparison_is_singular(run):
    one = "left,right,winner\na,b,left\n"
    assert "2 items, 1 comparison\n" in run("fit", "-", stdin=one)[1]
    assert run("check", "-", stdin=one)[1].startswith("1 row, 1 comparison of 2 items, 0 of them")


def test_version(run):
    assert run("--version") == (0, f"softmap {softmap.__version__}\n", "")


def test_levels_refuses_a_logit_for_a_name(run):
    code, out, err = run("levels", "-", "--levels=3,2,1", stdin="5.1,12.0,9.0,3.0\n4.2,1,2,3\n")
    assert (code, out) == (2, "")
    assert "4 columns of numbers, it must be 3 logits and perhaps a name, but 5.1 is none" in err
    code, out, _ = run("levels", "-", "--levels=3,2,1", stdin="7,12.0,9.0,3.0\n8,1,2,3\n")
    assert code == 0


def test_levels_without_a_score(run):
    code, out, err = run("levels", "-", "--levels=1,2,3", stdin="1,2,3\n4,5,nan\n")
    assert code == 1
    assert "1 of 2 rows have no score, the first: row 2" in err
    assert "nan" in out


def test_fit_with_a_tie_model(run):
    many = FOOD + FOOD.partition("\n")[2] * 4
    code, out, err = run("fit", "-", "--ties", "davidson", stdin=many)
    assert (code, err) == (0, "")
    assert "ties by Davidson, nu 0." in out
    code, out, _ = run("fit", "-", "--ties=rao-kupper", "--format=json", stdin=many)
    document = json.loads(out)
    value, error = document["tie_strength"]
    assert (code, document["ties"]) == (0, "rao-kupper")
    assert value > 1.0 > error > 0.0
    options = ("--ties=threshold", "--link=probit", "--tie-strength=0.5", "--format=json")
    code, out, _ = run("fit", "-", *options, stdin=many)
    assert json.loads(out)["tie_strength"] == [0.5, 0.0]
    code, _, err = run("fit", "-", "--ties=threshold", stdin=many)
    assert code == 2
    assert "ties = 'threshold', it belongs to link='probit'" in err
    code, _, err = run("fit", "-", "--ties=davidson", stdin="left,right,winner\na,b,tie\n")
    assert code == 1
    assert "nothing but ties" in err


def test_fit_columns_and_labels(run):
    text = "x,y,verdict,w\na,b,A>B,1\nb,a,B>A=no,2\na,b,even,1\n"
    options = (
        "--left=x", "--right=y", "--outcome=verdict", "--weights=w",
        "--label=A>B=left", "--label=B>A=no=right", "--label=even=tie",
    )  # fmt: skip
    code, out, err = run("fit", "-", *options, stdin=text)
    assert (code, err) == (0, "")
    assert "2 items, 4 comparisons" in out


def test_fit_elo_and_anchor(run, games):
    _, out, _ = run("fit", games, "--elo", "--format", "csv")
    rows = list(csv.DictReader(io.StringIO(out)))
    assert np.mean([float(row["score"]) for row in rows]) == pytest.approx(1000.0)
    for given, value in (("Boston=1500", 1500.0), ("Boston", 1000.0)):
        _, out, _ = run("fit", games, "--elo", "--anchor", given, "--format", "csv")
        rows = {row["item"]: row for row in csv.DictReader(io.StringIO(out))}
        assert float(rows["Boston"]["score"]) == value
        assert float(rows["Boston"]["standard_error"]) == 0.0


def test_fit_csv_has_full_precision(run, games):
    result = fit(baseball())
    _, out, _ = run("fit", games, "--format", "csv")
    rows = list(csv.DictReader(io.StringIO(out)))
    assert [row["item"] for row in rows][:2] == ["Milwaukee", "Detroit"]
    k = result.items.index("Detroit")
    assert float(rows[1]["score"]) == result.scores[k]
    assert float(rows[1]["standard_error"]) == result.standard_errors[k]
    assert (rows[1]["rank_low"], rows[1]["rank_high"], rows[1]["games"]) == ("1", "5", "78")


def test_fit_json(run, games):
    _, out, _ = run(
        "fit", games, "--format", "json", "--prior-sd", "inf", "--first-advantage", "estimate"
    )
    document = json.loads(out)
    assert document["prior_sd"] is None
    assert document["converged"] is True
    assert document["first_advantage"] == pytest.approx([0.302260655529, 0.13], abs=1e-2)
    assert document["items"][0]["item"] == "Milwaukee"
    _, out, err = run("fit", "-", "--format", "json", stdin="winner,loser\na,b\n")
    assert [f["code"] for f in json.loads(out)["findings"]] == ["undefeated", "winless"]
    assert "softmap: note: a never lost\n" in err


def test_fit_markdown(run):
    _, out, _ = run("fit", "-", "--format", "md", stdin=FOOD.replace("a", "x|y"))
    lines = out.splitlines()
    assert lines[:2] == [
        "| rank | item | score |   95% interval | ranks | games | win% |",
        "| ---: | :--- | ----: | -------------: | ----: | ----: | ---: |",
    ]
    assert len({len(line) for line in lines}) == 1
    assert any("| x\\|y |" in line for line in lines)


def test_fit_skips_bad_rows_when_asked(run):
    text = FOOD + "a,a,left\n"
    code, out, err = run("fit", "-", stdin=text)
    assert (code, out) == (2, "")
    assert err.startswith("softmap: read_comparisons: <file> line 8: 'a' is compared with itself (")
    code, out, err = run("fit", "-", "--skip-bad-rows", stdin=text)
    assert code == 0
    assert err == (
        "softmap: note: 1 of 7 rows skipped, the first: line 8: 'a' is compared with itself\n"
    )


def test_fit_findings_are_below_the_table(run):
    code, out, err = run("fit", "-", stdin="winner,loser\na,b\n")
    assert (code, err) == (0, "")
    assert out.endswith("! a never lost\n! b never won\n")


def test_exit_code_1_without_a_maximum(run):
    code, out, err = run("fit", "-", "--prior-sd", "inf", stdin="winner,loser\na,b\n")
    assert (code, out) == (1, "")
    assert err == (
        "softmap: fit: --prior-sd = inf, no unique maximum exists: a never lost; b never won "
        "(give a finite --prior-sd)\n"
    )


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["fit", "no such file.csv"], "softmap: no such file.csv: no such file or directory"),
        (
            ["fit", "-"],
            "softmap: read_comparisons: <file> is empty, the first line must name the columns",
        ),
        (["fit", "-", "--anchor", "a"], "softmap: fit: --anchor needs --elo"),
        (
            ["levels", "-", "--levels", "1,2"],
            "softmap: levels: - is empty, one row of logits at least is needed",
        ),
    ],
)
def test_exit_code_2_for_unreadable_input(run, arguments, message):
    code, out, err = run(*arguments)
    assert (code, out, err) == (2, "", message + "\n")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            ["--prior-sd", "-1"],
            "fit: --prior-sd = -1.0, it must be from 1e-6 to 1e6, or inf for maximum likelihood",
        ),
        (["--level", "95"], "fit: --level = 95.0, it must be above 0 and below 1"),
        (["--elo", "--anchor", "z=1"], "Fit.rescale: anchor = 'z' is not among the items a, b, c"),
        (
            ["--left", "left"],
            "read_comparisons: left = 'left' and right = None, they must be given together",
        ),
        (
            ["--outcome", "z"],
            "read_comparisons: outcome = 'z' is not in <file> (found: left, right, winner)",
        ),
    ],
)
def test_exit_code_2_for_wrong_values(run, arguments, message):
    code, out, err = run("fit", "-", *arguments, stdin=FOOD)
    assert (code, out, err) == (2, "", f"softmap: {message}\n")


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        ["fit"],
        ["nonsense"],
        ["fit", "-", "--link", "cauchit"],
        ["fit", "-", "--ties", "elo"],
        ["fit", "-", "--first-advantage", "home"],
        ["fit", "-", "--label", "draw"],
        ["fit", "-", "--elo", "--anchor", "a=b"],
        ["levels", "-", "--levels", "1,two"],
    ],
)
def test_exit_code_2_for_usage(run, arguments):
    code, out, err = run(*arguments)
    assert (code, out) == (2, "")
    assert "error: " in err


def test_help_shows_examples_and_exit_codes(run):
    for arguments in (["--help"], ["fit", "--help"], ["check", "--help"], ["choices", "--help"]):
        code, out, _ = run(*arguments)
        assert code == 0
        assert "softmap fit battles.csv" in out
        assert "exit codes:" in out


def expected_levels(rows, levels, temperature=1.0):
    z = np.exp(np.array(rows) / temperature)
    p = z / z.sum(axis=1, keepdims=True)
    score = p @ levels
    return score, np.sqrt((p * (levels - score[:, None]) ** 2).sum(axis=1))


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("image,bad,poor,good\nx,0,1,2\ny,3,0,1\n", ["x", "y"]),
        ("bad,poor,good,name\n0,1,2,x\n3,0,1,y\n", ["x", "y"]),
        ("x,0,1,2\ny,3,0,1\n", ["x", "y"]),
        ("0,1,2\n3,0,1\n", ["1", "2"]),
        ("\ufeffbad,poor,good\n\n0,1,2\n3,0,1\n", ["1", "2"]),
    ],
)
def test_levels(run, text, names):
    arguments = ["levels", "-", "--levels", "0,50,100", "--temperature", "2", "--format", "csv"]
    code, out, err = run(*arguments, stdin=text)
    rows = list(csv.DictReader(io.StringIO(out)))
    score, sd = expected_levels([[0, 1, 2], [3, 0, 1]], np.array([0, 50, 100]), 2.0)
    assert (code, err) == (0, "")
    assert [row["name"] for row in rows] == names
    assert [float(row["score"]) for row in rows] == pytest.approx(score)
    assert [float(row["standard_deviation"]) for row in rows] == pytest.approx(sd)


def test_levels_formats(run):
    text = "a,0,0,0,0,0\n"
    assert run("levels", "-", stdin=text)[1].splitlines() == [
        "row  name  score  standard deviation",
        "  1  a     3.000               1.414",
    ]
    assert json.loads(run("levels", "-", "--format", "json", stdin=text)[1]) == [
        {"name": "a", "score": 3.0, "standard_deviation": pytest.approx(2**0.5)}
    ]
    assert run("levels", "-", "--format", "md", stdin=text)[1].startswith("| row | name |")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "1,2\n",
            "line 1: 2 fields, it must be 3 logits (and a name in all rows or none); --levels says",
        ),
        ("1,2,3\n4,5,6,7\n", "line 2: 4 fields, it must be 3 logits"),
        ("1,2,3\n4,x,6\n", "line 2: could not convert string to float: 'x'"),
        ("bad,poor,good\n", "has no row below its header"),
    ],
)
def test_levels_errors(run, text, message):
    code, out, err = run("levels", "-", "--levels", "1,2,3", stdin=text)
    assert (code, out) == (2, "")
    assert re.match(rf"softmap: levels: - {re.escape(message)}", err)
    assert err.count("\n") == 1


def test_levels_bad_temperature_is_one_line(run):
    code, out, err = run("levels", "-", "--temperature", "0", stdin="1,2,3,4,5\n")
    assert (code, out) == (2, "")
    assert err.startswith("softmap: level_scores: ")
    assert err.count("\n") == 1


def test_info(run):
    code, out, _ = run("info")
    assert code == 0
    assert out.splitlines() == [f"{key}: {value}" for key, value in softmap.info().items()]


def test_demo(run):
    code, out, err = run("demo")
    assert (code, err) == (0, "")
    assert re.search(r"^ +1  Milwaukee +0\.54  \[ 0\.13,  0\.95\]", out, re.MULTILINE)
    assert "advantage of the first position 0.30 (standard error 0.13)" in out
    scores = {
        m[1].strip(): float(m[2])
        for m in re.finditer(r"^  (\D+) +(?:0\.\d\d +){5}([\d.]+) ", out, re.MULTILINE)
    }
    assert list(scores) == ["blurred street", "dim portrait", "flower", "sharp landscape"]
    assert sorted(scores.values()) == list(scores.values())
    assert scores["sharp landscape"] == 100.0
    assert "above all anchors" in out
    assert len(LEVELS) == 5


def test_missing_backend_is_one_line(run, monkeypatch):
    def missing():
        raise BackendMissingError("info: no backend\nis here")

    monkeypatch.setattr(softmap, "info", missing)
    assert run("info") == (2, "", "softmap: info: no backend is here\n")


def test_interrupt(run, monkeypatch):
    def stop():
        raise KeyboardInterrupt

    monkeypatch.setattr(softmap, "info", stop)
    assert run("info") == (130, "", "")


def command(*arguments, **options):
    return subprocess.run(
        [sys.executable, "-W", "error", "-m", "softmap", *arguments],
        capture_output=True,
        check=False,
        **options,
    )


def test_module_runs_and_reads_a_pipe():
    done = command("fit", "-", input=FOOD.encode())
    assert (done.returncode, done.stderr) == (0, b"")
    assert b"3 items, 6 comparisons" in done.stdout
    assert command("fit", "-", input=b"\xff\xfe").returncode == 2


def test_broken_pipe_is_silent():
    text = "left,right,winner\n" + "".join(f"item {k},b,tie\n" for k in range(50))
    reader, writer = os.pipe()
    os.close(reader)
    arguments = [sys.executable, "-m", "softmap", "fit", "-", "--format", "csv"]
    done = subprocess.run(
        arguments, input=text.encode(), stdout=writer, stderr=subprocess.PIPE, check=False
    )
    os.close(writer)
    assert (done.returncode, done.stderr) == (0, b"")


VOTES = (
    "left,right,winner,lang,who\na,b,left,en,1\nb,a,left,en,2\na,b,left,en,2\nc,a,tie,fr,1\n"
    "b,c,right,fr,3\nc,b,right,fr,3\n"
)


def test_fit_by_group(run):
    code, out, err = run("fit", "-", "--group", "lang", stdin=VOTES)
    assert (code, err) == (0, "")
    assert [line for line in out.splitlines() if line.startswith("==")] == ["== en ==", "== fr =="]
    _, out, _ = run("fit", "-", "--group", "lang", "--format", "csv", stdin=VOTES)
    rows = list(csv.DictReader(io.StringIO(out)))
    assert [(row["group"], row["item"]) for row in rows[:2]] == [("en", "a"), ("en", "b")]
    _, out, _ = run("fit", "-", "--group", "lang", "--format", "md", stdin=VOTES)
    assert out.startswith("## en\n\n| rank |")
    text = VOTES + "c,a,left,it,1\n"
    code, out, err = run("fit", "-", "--group=lang", "--prior-sd=inf", "--format=json", stdin=text)
    document = json.loads(out)
    assert code == 0
    assert (list(document["groups"]), list(document["failed"])) == (["en", "fr"], ["it"])
    assert err.startswith("softmap: note: it: fit: --prior-sd = inf, no unique maximum exists")
    only = "left,right,winner,lang\na,b,left,en\n"
    code, out, err = run("fit", "-", "--group", "lang", "--prior-sd", "inf", stdin=only)
    assert (code, out) == (1, "")
    assert err.endswith("softmap: fit: no group could be fitted\n")


def test_fit_by_group_with_an_anchor_that_one_lacks(run):
    code, out, err = run("fit", "-", "--group=lang", "--elo", "--anchor=c", stdin=VOTES)
    assert code == 0
    assert "== fr ==" in out
    assert err == "softmap: note: en: Fit.rescale: anchor = 'c' is not among the items a, b\n"


def test_fit_clusters_and_min_games(run):
    _, out, _ = run("fit", "-", "--clusters", "who", stdin=VOTES)
    assert "cluster errors" in out
    _, out, _ = run("fit", "-", "--min-games", "4", "--format", "csv", stdin=VOTES)
    assert [row["item"] for row in csv.DictReader(io.StringIO(out))] == ["a", "b"]
    assert "\n   3  c" not in run("fit", "-", "--min-games", "4", stdin=VOTES)[1]


def test_fit_reads_jsonl_from_standard_input(run):
    rows = csv.DictReader(io.StringIO(VOTES))
    text = "".join(json.dumps(row) + "\n" for row in rows)
    assert run("fit", "-", stdin=text) == run("fit", "-", stdin=VOTES)


def test_fit_soft(run):
    code, out, _ = run("fit", "-", "--soft", stdin="left,right,winner\na,b,0.7\nb,a,0.4\n")
    assert code == 0
    assert "2 items, 2 comparisons" in out


def test_fit_plot(run, games, tmp_path):
    pytest.importorskip("matplotlib", reason="matplotlib is an optional library")
    path = tmp_path / "scores.png"
    code, _, err = run("fit", games, "--plot", str(path))
    assert (code, err) == (0, "")
    assert path.read_bytes().startswith(b"\x89PNG")
    code, _, err = run("fit", "-", "--plot", str(path), "--group", "lang", stdin=VOTES)
    assert (code, err) == (2, "softmap: fit: --plot draws one leaderboard, leave out --group\n")


def test_check(run, games):
    assert run("check", games) == (
        0,
        "42 rows, 273 comparisons of 7 items, 0 of them ties\n"
        "every item has beaten every other one, directly or through others\nno trouble found\n",
        "",
    )
    text = "winner,loser\na,b\nb,a\nc,d\n"
    assert run("check", "-", stdin=text) == (
        1,
        "3 rows, 3 comparisons of 4 items, 0 of them ties\n"
        "2 groups that never met, the largest has 2 items\n"
        "! these comparisons alone do not determine all scores, the prior helps\n"
        "! the comparisons fall into 2 groups that never met: {a, b}; {c, d}\n"
        "! c never lost\n! d never won\n",
        "",
    )
    assert "connected, but some items" in run("check", "-", stdin="winner,loser\na,b\n")[1]
    assert run("check", "no such file.csv")[0] == 2


def test_check_names_a_circle(run):
    games = [("rock", "scissors"), ("scissors", "paper"), ("paper", "rock")]
    lines = [f"{a},{b},35,15\n{b},{a},15,35\n" for a, b in games]
    text = "left,right,left_wins,right_wins\n" + "".join(lines)
    code, out, _ = run("check", "-", stdin=text)
    assert code == 1
    assert "! beats go in circles: paper beats rock, rock beats scissors and scissors beats" in out
