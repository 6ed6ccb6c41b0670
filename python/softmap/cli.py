"""The command `softmap`."""

from __future__ import annotations

import argparse
import contextlib
import csv
import io
import json
import math
import os
import re
import sys
from collections.abc import Iterator, Sequence
from typing import Any, TextIO

import numpy as np

import softmap
from softmap import demo
from softmap._columns import Floats
from softmap.errors import NoMaximumError
from softmap.fit import fit
from softmap.io import read_comparisons
from softmap.result import Fit, aligned, decimals

_EPILOG = """\
examples:
  softmap fit battles.csv                          a leaderboard with errors
  softmap fit games.csv --first-advantage estimate --elo --anchor Boston=1500
  zcat votes.csv.gz | softmap fit - --format csv   for the next program
  softmap levels logits.csv --levels 1,2,3,4,5     score of each row of level logits
  softmap choices answers.jsonl --choice left=A --choice right=B   from top log-probabilities
  softmap demo                                     both, on data that come with the package

exit codes:
  0  done (findings about the data are printed below the table, or to stderr)
  1  the data have no answer to what was asked (the likelihood has no maximum)
  2  wrong options, or input that cannot be read
"""
_NAME_COLUMNS = ("name", "image", "item", "id", "file")


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line and return the exit code; usage errors leave by SystemExit(2)."""
    options = _parser().parse_args(argv)
    try:
        print(options.run(options), flush=True)
        return 0
    except BrokenPipeError:  # the reader, such as head, has seen enough
        with contextlib.suppress(OSError, ValueError):  # what is still buffered goes nowhere
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except KeyboardInterrupt:
        return 130
    except NoMaximumError as error:
        return _complain(error, 1)
    except (ValueError, TypeError, OSError, RuntimeError) as error:
        return _complain(error, 2)


def _complain(error: Exception, code: int) -> int:
    text = str(error)
    if isinstance(error, OSError) and error.filename is not None:
        text = f"{error.filename}: {(error.strerror or text).lower()}"
    print("softmap:", " ".join(text.split()), file=sys.stderr)
    return code


def _parser() -> argparse.ArgumentParser:
    about = "Logits and comparisons in, scores with errors out."
    parser = argparse.ArgumentParser(prog="softmap", description=about)
    commands = parser.add_subparsers(required=True, metavar="command")

    _add_fit(commands.add_parser("fit", help="scores from a csv file of paired comparisons"))
    p = commands.add_parser("levels", help="score and spread of rows of level logits")
    p.set_defaults(run=_levels)
    p.add_argument(
        "file", help="csv file of K logits per row, perhaps a name; - for standard input"
    )
    p.add_argument(
        "--levels", type=_numbers, metavar="1,2,3,4,5", default=(1.0, 2.0, 3.0, 4.0, 5.0),
        help="the K values, in the order of the columns; default: 1,2,3,4,5",
    )  # fmt: skip
    p.add_argument(
        "--temperature", metavar="T", type=float, default=1.0, help="default: %(default)s"
    )
    _add_format(p)

    _add_choices(commands.add_parser("choices", help="probabilities of choices from logprobs"))
    p = commands.add_parser("info", help="versions, backend, processor, threads")
    p.set_defaults(run=lambda _: "\n".join(f"{k}: {v}" for k, v in softmap.info().items()))
    p = commands.add_parser("demo", help="a leaderboard and image scores from data in the package")
    p.set_defaults(run=lambda _: demo.run())
    for p in (parser, *commands.choices.values()):
        p.formatter_class, p.epilog = argparse.RawDescriptionHelpFormatter, _EPILOG
    return parser


def _add_fit(p: argparse.ArgumentParser) -> None:
    p.set_defaults(run=_fit)
    p.add_argument("file", help="csv file, e.g. of left, right, winner; - for standard input")
    for name in ("left", "right", "outcome", "weights"):
        p.add_argument(f"--{name}", metavar="COLUMN", help=f"name of the column for {name}")
    p.add_argument(
        "--label", metavar="WORD=MEANING", action="append", type=_label, default=[],
        help="what another outcome word means: left, right or tie; may be repeated",
    )  # fmt: skip
    p.add_argument(
        "--skip-bad-rows", action="store_true", help="leave out rows that cannot be read"
    )
    p.add_argument(
        "--link", choices=("logit", "probit"), default="logit", help="default: %(default)s"
    )
    p.add_argument("--ties", choices=("half", "drop"), default="half", help="default: %(default)s")
    p.add_argument(
        "--first-advantage", metavar="A", type=_advantage, default=0.0,
        help="a number, or estimate; default: %(default)s",
    )  # fmt: skip
    p.add_argument(
        "--prior-sd", metavar="SD", type=float, default=10.0,
        help="of the normal prior of the scores, inf for maximum likelihood; default: %(default)s",
    )  # fmt: skip
    p.add_argument(
        "--errors", choices=("sandwich", "fisher"), default="sandwich", help="default: %(default)s"
    )
    p.add_argument(
        "--level", type=float, default=0.95, help="of the intervals; default: %(default)s"
    )
    p.add_argument("--elo", action="store_true", help="scores in Elo points, mean 1000")
    p.add_argument(
        "--anchor", metavar="NAME=1000", type=_anchor, help="with --elo: the score of one item"
    )
    _add_format(p)


def _add_choices(p: argparse.ArgumentParser) -> None:
    p.set_defaults(run=_choices)
    p.add_argument(
        "file",
        help="jsonl file, one answer per line: {token: logprob}, a list of {token, logprob}, or an "
        "OpenAI completion; - for standard input",
    )
    p.add_argument(
        "--choice", metavar="NAME=TOKEN", action="append", type=_choice, required=True,
        help="a token that means the choice; repeat for more choices, and for more tokens of one",
    )  # fmt: skip
    p.add_argument(
        "--position", metavar="N", type=int, default=0,
        help="which token of a completion answers, from 0; default: %(default)s",
    )  # fmt: skip
    _add_format(p)


def _add_format(parser: argparse.ArgumentParser) -> None:
    choices = ("table", "csv", "json", "md")
    parser.add_argument("--format", choices=choices, default="table", help="default: %(default)s")


def _fit(options: argparse.Namespace) -> str:
    if options.anchor is not None and not options.elo:
        raise ValueError("fit: --anchor needs --elo")
    with _opened(options.file) as file:
        comparisons = read_comparisons(
            file,
            left=options.left,
            right=options.right,
            outcome=options.outcome,
            weights=options.weights,
            labels=dict(options.label),
            on_bad_row="skip" if options.skip_bad_rows else "raise",
        )
    result = fit(
        comparisons,
        link=options.link,
        ties=options.ties,
        first_advantage=options.first_advantage,
        prior_sd=options.prior_sd,
        level=options.level,
        errors=options.errors,
        on_trouble="ignore",
    )
    if options.elo:
        anchor, center = options.anchor or (None, 1000.0)
        result = result.rescale("elo", anchor=anchor, center=center)
    if comparisons.skipped:
        n, (line, reason) = len(comparisons.skipped), comparisons.skipped[0]
        _note(f"{n} of {n + comparisons.n_rows} rows skipped, the first: line {line}: {reason}")
    if options.format == "table":
        return result.summary()
    for sentence in result.diagnostics.sentences():
        _note(sentence)
    if options.format == "md":
        return _markdown(result.table())
    records = _records(result)
    if options.format == "csv":
        return _csv(records)
    advantage = result.first_advantage
    document = {
        "link": result.link,
        "unit": result.unit,
        "ties": result.ties,
        "errors": result.errors,
        "prior_sd": result.prior_sd if math.isfinite(result.prior_sd) else None,
        "level": result.level,
        "log_likelihood": result.log_likelihood,
        "first_advantage": advantage and [advantage.value, advantage.standard_error],
        "converged": result.converged,
        "n_iter": result.n_iter,
        "n_comparisons": result.n_comparisons,
        "findings": [{"code": f.code, "text": f.text} for f in result.diagnostics.findings],
        "items": records,
    }
    return json.dumps(_plain(document), indent=1)


def _records(result: Fit) -> list[dict[str, Any]]:
    """Return one row per item in full precision, best item first."""
    columns = {
        "rank": result.rank,
        "item": np.array([str(item) for item in result.items], dtype=object),
        "score": result.scores,
        "standard_error": result.standard_errors,
        "low": result.low,
        "high": result.high,
        "rank_low": result.rank_low,
        "rank_high": result.rank_high,
        "games": result.games,
        "wins": result.wins,
        "ties": result.n_ties,
        "win_rate": result.win_rate,
    }
    order = np.argsort(-result.scores, kind="stable")
    rows = zip(*(column[order].tolist() for column in columns.values()), strict=True)
    return [dict(zip(columns, row, strict=True)) for row in rows]


def _levels(options: argparse.Namespace) -> str:
    with _opened(options.file) as file:
        names, logits = _read_levels(file, options.file, len(options.levels))
    found = softmap.level_scores(logits, None, options.levels, temperature=options.temperature)
    score, sd = np.asarray(found.score), np.sqrt(np.asarray(found.variance))
    if options.format in ("csv", "json"):
        columns = zip(names, score.tolist(), sd.tolist(), strict=True)
        records = [{"name": n, "score": s, "standard_deviation": d} for n, s, d in columns]
        return _csv(records) if options.format == "csv" else json.dumps(_plain(records), indent=1)
    digits = 2 + decimals(sd)
    rows = [["row", "name", "score", "standard deviation"]]
    for k, name in enumerate(names):
        rows.append([str(k + 1), name, f"{score[k]:.{digits}f}", f"{sd[k]:.{digits}f}"])
    return _markdown(rows) if options.format == "md" else "\n".join(aligned(rows))


def _read_levels(file: TextIO, path: str, n_levels: int) -> tuple[list[str], Floats]:
    """Return the names (row numbers where there are none) and the logits (rows, K)."""
    reader = csv.reader(file)
    lines = [(reader.line_num, row) for row in reader if any(cell.strip() for cell in row)]
    if not lines:
        raise ValueError(f"levels: {path} is empty, one row of logits at least is needed")
    header = [cell.lstrip("\ufeff").strip().lower() for cell in lines[0][1]]
    named = len(header) == n_levels + 1
    name = next((k for k, word in enumerate(header) if named and word in _NAME_COLUMNS), 0)
    if not any(_is_number(word) for k, word in enumerate(header) if not (named and k == name)):
        del lines[0]
    if not lines:
        raise ValueError(f"levels: {path} has no row below its header")
    names, logits = [], []
    for count, (line, row) in enumerate(lines, start=1):
        if len(row) != n_levels + named:
            raise ValueError(
                f"levels: {path} line {line}: {len(row)} fields, must be {n_levels} logits "
                "(and a name in all rows or none); --levels says how many there are"
            )
        names.append(row.pop(name).strip() if named else str(count))
        try:
            logits.append([float(cell) for cell in row])
        except ValueError as error:
            raise ValueError(f"levels: {path} line {line}: {error}") from None
    return names, np.array(logits)


def _choices(options: argparse.Namespace) -> str:
    tokens: dict[str, list[str]] = {}
    for name, token in options.choice:
        tokens.setdefault(name, []).append(token)
    with _opened(options.file) as file:
        names, lines, rows = _read_choices(file, options.file, options.position)
    try:
        found = softmap.choice_probabilities(rows, tokens)
    except (TypeError, ValueError) as error:
        text = re.sub(
            r"^choice_probabilities: top_logprobs\[(\d+)\]",
            lambda m: f"choices: {options.file} line {lines[int(m[1])]}",
            str(error),
        )
        raise ValueError(text) from None
    records = []
    for k, name in enumerate(names):
        record: dict[str, Any] = {"name": name, "mass": found.mass[k].item()}
        for j, choice in enumerate(found.names):
            record[choice] = found.probabilities[k, j].item()
            record[f"{choice}_low"] = found.lower[k, j].item()
            record[f"{choice}_high"] = found.upper[k, j].item()
        records.append(record)
    if options.format in ("csv", "json"):
        return _csv(records) if options.format == "csv" else json.dumps(_plain(records), indent=1)
    table = [["row", "name", "mass", *(text for name in found.names for text in (name, "bounds"))]]
    for k, record in enumerate(records):
        cells = [str(k + 1), record["name"], f"{record['mass']:.4f}"]
        for choice in found.names:
            p, low, high = (record[choice + end] for end in ("", "_low", "_high"))
            cells += ["-" if math.isnan(p) else f"{p:.4f}", f"[{low:.4f}, {high:.4f}]"]
        table.append(cells)
    return _markdown(table) if options.format == "md" else "\n".join(aligned(table))


def _read_choices(file: TextIO, path: str, position: int) -> tuple[list[str], list[int], list[Any]]:
    """Return names (line numbers where there are none), lines and rows of log-probabilities."""
    names, lines, rows = [], [], []
    for line, text in enumerate(file, start=1):
        if not text.strip():
            continue
        where = f"choices: {path} line {line}"
        try:
            row = json.loads(text)
        except ValueError as error:
            raise ValueError(f"{where}: {error}") from None
        name = str(line)
        if isinstance(row, dict):
            name = str(row.get("custom_id", row.get("id", line)))
        for key in ("response", "body"):  # of a batch
            row = row.get(key, row) if isinstance(row, dict) else row
        if isinstance(row, dict) and "choices" in row:
            try:
                row = row["choices"][0]["logprobs"]["content"][position]["top_logprobs"]
            except (KeyError, IndexError, TypeError):
                what = f"choices[0].logprobs.content[{position}].top_logprobs"
                raise ValueError(f"{where}: the completion has no {what}") from None
        if isinstance(row, dict) and ("id" in row or "custom_id" in row):
            row = row.get("top_logprobs", {})
        names.append(name)
        lines.append(line)
        rows.append(row)
    if not rows:
        raise ValueError(f"choices: {path} is empty, one line at least is needed")
    return names, lines, rows


def _is_number(text: str) -> bool:
    with contextlib.suppress(ValueError):
        float(text)
        return True
    return False


@contextlib.contextmanager
def _opened(path: str) -> Iterator[TextIO]:
    if path == "-":
        yield sys.stdin
    else:
        with open(path, newline="", encoding="utf-8-sig") as file:
            yield file


def _note(text: str) -> None:
    print(f"softmap: note: {text}", file=sys.stderr)


def _markdown(rows: list[list[str]]) -> str:
    head, *body = [[cell.replace("|", "\\|") for cell in row] for row in rows]
    rule = [":--" if k == 1 else "--:" for k in range(len(head))]
    return "\n".join("| " + " | ".join(row) + " |" for row in (head, rule, *body))


def _csv(records: list[dict[str, Any]]) -> str:
    text = io.StringIO()
    writer = csv.DictWriter(text, list(records[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(records)
    return text.getvalue().rstrip("\n")


def _plain(value: Any) -> Any:
    """Return value with null for the numbers that JSON does not have."""
    if isinstance(value, dict):
        return {key: _plain(entry) for key, entry in value.items()}
    if isinstance(value, list):
        return [_plain(entry) for entry in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _label(text: str) -> tuple[str, str]:
    word, equals, meaning = text.rpartition("=")
    if not equals or meaning not in ("left", "right", "tie"):
        raise argparse.ArgumentTypeError(f"{text!r}, must be WORD=left, WORD=right or WORD=tie")
    return word, meaning


def _choice(text: str) -> tuple[str, str]:
    name, equals, token = text.partition("=")
    if not (name and equals and token):
        raise argparse.ArgumentTypeError(f"{text!r}, must be NAME=TOKEN")
    return name, token


def _anchor(text: str) -> tuple[str, float]:
    name, equals, number = text.rpartition("=")
    if not equals:
        return text, 1000.0
    if not _is_number(number):
        raise argparse.ArgumentTypeError(f"{text!r}, must be NAME=NUMBER")
    return name, float(number)


def _advantage(text: str) -> float | str:
    if text != "estimate" and not _is_number(text):
        raise argparse.ArgumentTypeError(f"{text!r}, must be a number or estimate")
    return text if text == "estimate" else float(text)


def _numbers(text: str) -> tuple[float, ...]:
    cells = text.split(",")
    if not all(_is_number(cell) for cell in cells):
        raise argparse.ArgumentTypeError(f"{text!r}, must be numbers with commas between")
    return tuple(float(cell) for cell in cells)
