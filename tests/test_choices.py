"""Choice probabilities: shapes of lists, bounds against brute force, messages, the command."""

import dataclasses
import doctest
import importlib
import json
import re
import sys
from io import StringIO
from math import exp, log
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from softmap import choice_probabilities, cli

CHOICES = {"left": ["A", " A"], "right": ["B"]}


@dataclasses.dataclass
class Logprob:  # as vLLM has it
    logprob: float
    rank: int | None
    decoded_token: str | None


LISTED = {"A": log(0.6), "B": log(0.3), " A": log(0.05), "I": log(0.01)}
OPENAI = [{"token": t, "logprob": x, "bytes": [65]} for t, x in LISTED.items()]
SHAPES = {
    "mapping": LISTED,
    "openai dicts": OPENAI,
    "openai objects": [SimpleNamespace(**entry) for entry in OPENAI],
    "openai position": {"token": "A", "logprob": log(0.6), "top_logprobs": OPENAI},
    "openai position object": SimpleNamespace(token="A", logprob=-0.5, top_logprobs=OPENAI),
    "vllm": {32 + k: Logprob(x, k + 1, t) for k, (t, x) in enumerate(LISTED.items())},
    "vllm json": {
        str(k): {"logprob": x, "decoded_token": t} for k, (t, x) in enumerate(LISTED.items())
    },
}


def test_examples_run():
    assert doctest.testmod(importlib.import_module("softmap.choices")).failed == 0


@pytest.mark.parametrize("shape", SHAPES)
def test_choice_probabilities_reads_every_shape(shape):
    found = choice_probabilities([SHAPES[shape]], CHOICES)
    assert found.names == ("left", "right")
    assert found.probabilities[0] == pytest.approx([0.65 / 0.95, 0.3 / 0.95])
    assert found.mass == pytest.approx([0.95])
    # all tokens of the choices are listed: nothing is left open
    assert found.lower == pytest.approx(found.probabilities)
    assert found.upper == pytest.approx(found.probabilities)


def test_choices_may_be_token_ids():
    row = {32: Logprob(log(0.7), 1, "A"), 33: Logprob(log(0.2), 2, None)}
    found = choice_probabilities([row, {32: log(0.7), 33: log(0.2)}], {"a": 32, "b": [33]})
    assert found.probabilities == pytest.approx(np.array([[7 / 9, 2 / 9]] * 2))


def test_an_absent_token_is_bounded_by_the_last_one_listed():
    found = choice_probabilities([{"A": log(0.8), "C": log(0.1)}], {"a": "A", "b": "B"})
    assert found.mass == pytest.approx([0.8])
    assert found.lower[0] == pytest.approx([0.8 / 0.9, 0.0])
    assert found.upper[0] == pytest.approx([1.0, 0.1 / 0.9])
    assert found.probabilities[0] == pytest.approx([0.8 / 0.85, 0.05 / 0.85])


def test_an_absent_token_is_bounded_by_what_the_list_leaves():
    found = choice_probabilities([{"A": log(0.97)}], {"a": "A", "b": "B"})
    assert found.upper[0, 1] == pytest.approx(0.03)
    full = choice_probabilities([{"A": 0.0}], {"a": "A", "b": "B"})  # rounded, not certain
    assert 0.0 < full.probabilities[0, 1] < full.upper[0, 1] < 2e-6


def test_a_sampled_token_beyond_the_list_bounds_nothing():
    row = {1: Logprob(log(0.5), 1, "A"), 2: Logprob(log(0.2), 2, "x"), 9: Logprob(-20.0, 900, "y")}
    found = choice_probabilities([row], {"a": "A", "b": "B"})
    assert found.upper[0, 1] == pytest.approx(0.2 / 0.7)
    alone = choice_probabilities([{9: Logprob(-20.0, 900, "A")}], {"a": "A", "b": "B"})
    assert alone.upper[0, 1] == pytest.approx(1.0)


def test_nothing_listed_is_nan():
    found = choice_probabilities([{"x": -0.1}, {"A": -0.1}], CHOICES)
    assert np.isnan(found.probabilities[0]).all()
    assert (found.mass[0], *found.lower[0], *found.upper[0]) == (0.0, 0.0, 0.0, 1.0, 1.0)
    assert not np.isnan(found.probabilities[1]).any()
    impossible = choice_probabilities([{"A": -np.inf, "x": -0.1}], CHOICES)
    assert np.isnan(impossible.probabilities).all()


@settings(deadline=None)
@given(st.lists(st.floats(0.01, 10.0), min_size=5, max_size=8), st.integers(1, 4))
def test_bounds_hold_what_the_hidden_tokens_have(weights, n_listed):
    """Hide the tail of a known distribution: the true share lies within the bounds."""
    p = np.sort(np.array(weights) / sum(weights))[::-1]
    tokens = [f"t{k}" for k in range(p.size)]
    choices = {"a": [tokens[0], tokens[2]], "b": [tokens[1], tokens[4]], "c": tokens[3]}
    true = np.array([p[0] + p[2], p[1] + p[4], p[3]])
    true /= true.sum()
    row = {t: log(x) for t, x in zip(tokens[:n_listed], p, strict=False)}
    found = choice_probabilities([row], choices)
    share = found.probabilities[0]
    assert (found.lower[0] <= true + 1e-9).all()
    assert (true <= found.upper[0] + 1e-9).all()
    assert (found.lower[0] <= share + 1e-12).all()
    assert (share <= found.upper[0] + 1e-12).all()
    assert share.sum() == pytest.approx(1.0)


@pytest.mark.parametrize(
    ("kind", "rows", "choices", "message"),
    [
        (ValueError, [], CHOICES, "top_logprobs is empty, one row at least is needed"),
        (TypeError, {"A": -1.0}, CHOICES, "top_logprobs is a dict, it must be a sequence of rows"),
        (TypeError, 3, CHOICES, "top_logprobs is a int, it must be a sequence of rows"),
        (
            TypeError,
            [3],
            CHOICES,
            "top_logprobs[0] is a int, it must be a mapping of tokens or a list of them",
        ),
        (ValueError, [{}], CHOICES, "top_logprobs[0] lists no token"),
        (
            TypeError,
            OPENAI,
            CHOICES,
            "top_logprobs[0]['token'] is a str, it must be a log-probability "
            "(each row is a mapping or a list of tokens)",
        ),
        (TypeError, [["A"]], CHOICES, "top_logprobs[0][0] is a str without a token"),
        (
            ValueError,
            [{"A": 0.5}],
            CHOICES,
            "top_logprobs[0]['A'] = 0.5, a log-probability is at most 0",
        ),
        (
            ValueError,
            [{"A": float("nan")}],
            CHOICES,
            "top_logprobs[0]['A'] = nan, a log-probability is at most 0",
        ),
        (ValueError, [LISTED], {}, "choices is empty, one choice at least is needed"),
        (ValueError, [LISTED], {"a": []}, "choices['a'] has no token"),
        (TypeError, [LISTED], ["A"], "choices is a list, it must be a mapping"),
        (TypeError, [LISTED], {"a": [1.5]}, "choices['a'] has a float, it must be str or int"),
        (
            ValueError,
            [LISTED],
            {"a": "A", "b": ["B", "A"]},
            "'A' is in both a and b, a token has one choice",
        ),
        (
            ValueError,
            [SHAPES["vllm"]],
            {"a": "A", "b": 32},
            "top_logprobs[0]: 'A' = 32 means both a and b, a token has one choice",
        ),
    ],
)
def test_choice_probabilities_errors(kind, rows, choices, message):
    with pytest.raises(kind, match="^" + re.escape(f"choice_probabilities: {message}") + "$"):
        choice_probabilities(rows, choices)


@pytest.fixture
def run(capsys, monkeypatch):
    def run(*arguments, stdin=""):
        monkeypatch.setattr(sys, "stdin", StringIO(stdin))
        return cli.main(list(arguments)), *capsys.readouterr()

    return run


COMMAND = ("choices", "-", "--choice", "left=A", "--choice", "left= A", "--choice", "right=B")


def test_choices_command(run):
    completion = {"id": "q1", "choices": [{"logprobs": {"content": [{"top_logprobs": OPENAI}]}}]}
    lines = [
        completion,
        {"custom_id": "q2", "response": {"body": completion}},
        LISTED,
        OPENAI,
        {"id": "q5", "top_logprobs": LISTED},
        {"x": -0.1},
    ]
    text = "\n".join(map(json.dumps, lines)) + "\n\n"
    code, out, err = run(*COMMAND, "--format", "json", stdin=text)
    records = json.loads(out)
    assert (code, err) == (0, "")
    assert [r["name"] for r in records] == ["q1", "q2", "3", "4", "q5", "6"]
    expected = choice_probabilities([LISTED], CHOICES)
    for record in records[:5]:
        assert record["left"] == pytest.approx(expected.probabilities[0, 0])
        assert record["mass"] == pytest.approx(expected.mass[0])
    assert records[5]["left"] is None
    code, out, _ = run(*COMMAND, stdin=text)
    assert out.splitlines()[0].split() == [
        "row",
        "name",
        "mass",
        "left",
        "bounds",
        "right",
        "bounds",
    ]
    assert "0.6842  [0.6842, 0.6842]" in out
    assert run(*COMMAND, "--format", "md", stdin=text)[1].startswith("| row | name |")
    assert run(*COMMAND, "--format", "csv", stdin=text)[1].startswith("name,mass,left,left_low")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "is empty, one line at least is needed"),
        ("{\n", "line 1: Expecting property name"),
        ('\n{"A": 2}\n', "line 2['A'] = 2.0, a log-probability is at most 0"),
        ('{"choices": []}', "line 1: the completion has no choices[0].logprobs.content[0]"),
        ("3", "line 1 is a int, it must be a mapping"),
        ('{"id": "x"}', "line 1 lists no token"),
    ],
)
def test_choices_command_errors(run, text, message):
    code, out, err = run(*COMMAND, stdin=text)
    assert (code, out) == (2, "")
    assert err.startswith(f"softmap: choices: - {message}")


def test_log_probabilities_are_natural():
    assert choice_probabilities([{"A": -1.0}], {"a": "A"}).mass[0] == pytest.approx(exp(-1.0))
