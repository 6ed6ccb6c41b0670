"""The command `softmap`."""

from __future__ import annotations

import argparse
import contextlib
import os
import sys
from collections.abc import Sequence

import softmap
from softmap import _commands, demo
from softmap._commands import is_number
from softmap.errors import NoMaximumError
from softmap.outcomes import TIES

_EPILOG = """\
examples:
  softmap fit battles.csv                          a leaderboard with errors
  softmap fit games.csv --first-advantage estimate --elo --anchor Boston=1500
  softmap fit votes.parquet --group language --clusters user --format md
  zcat votes.csv.gz | softmap fit - --format csv   for the next program
  softmap check votes.jsonl                        what the data cannot support
  softmap levels logits.csv --levels 1,2,3,4,5     score of each row of level logits
  softmap choices answers.jsonl --choice left=A --choice right=B   from top log-probabilities
  softmap demo                                     fit and levels on data in the package

exit codes:
  0  done (findings about the data are printed below the table, or to stderr)
  1  the data have no answer to what was asked (the likelihood has no maximum); check found trouble
  2  wrong options, or input that cannot be read
"""


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line and return the exit code; usage errors leave by SystemExit(2)."""
    options = _parser().parse_args(argv)
    try:
        text, code = options.run(options)
        print(text, flush=True)
        return int(code)
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
    print("softmap:", _commands.by_options(" ".join(text.split())), file=sys.stderr)
    return code


def _parser() -> argparse.ArgumentParser:
    about = "Logits and comparisons in, scores with errors out."
    parser = argparse.ArgumentParser(prog="softmap", description=about)
    parser.add_argument("--version", action="version", version=f"softmap {softmap.__version__}")
    commands = parser.add_subparsers(required=True, metavar="command")

    _add_fit(commands.add_parser("fit", help="scores from a file of paired comparisons"))
    p = commands.add_parser("check", help="what a file of paired comparisons cannot support")
    p.set_defaults(run=_commands.check)
    _add_model(p)
    p = commands.add_parser("levels", help="score and spread of rows of level logits")
    p.set_defaults(run=_commands.levels)
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
    p.set_defaults(run=lambda _: (_lines(softmap.info()), 0))
    p = commands.add_parser("demo", help="a leaderboard and image scores from data in the package")
    p.set_defaults(run=lambda _: (demo.run(), 0))
    for p in (parser, *commands.choices.values()):
        p.formatter_class, p.epilog = argparse.RawDescriptionHelpFormatter, _EPILOG
    return parser


def _lines(table: dict[str, object]) -> str:
    return "\n".join(f"{key}: {value}" for key, value in table.items())


def _add_model(p: argparse.ArgumentParser) -> None:
    p.add_argument(
        "file", help="csv, jsonl or parquet file, e.g. of left, right, winner; - for standard input"
    )
    for name in ("left", "right", "outcome", "weights", "clusters"):
        p.add_argument(f"--{name}", metavar="COLUMN", help=f"name of the column for {name}")
    p.add_argument(
        "--label", metavar="WORD=MEANING", action="append", type=_label, default=[],
        help="what another outcome word means: left, right or tie; may be repeated",
    )  # fmt: skip
    p.add_argument(
        "--soft", action="store_true", help="outcomes are probabilities that the left won"
    )
    p.add_argument(
        "--skip-bad-rows", action="store_true", help="leave out rows that cannot be read"
    )
    p.add_argument(
        "--link", choices=("logit", "probit"), default="logit", help="default: %(default)s"
    )
    p.add_argument(
        "--ties", choices=TIES, default="half",
        help="half a win each, left out, or a model: davidson and rao-kupper for logit, threshold "
        "for probit; default: %(default)s",
    )  # fmt: skip
    p.add_argument(
        "--tie-strength", metavar="T", type=_estimate, default="estimate",
        help="of the tie model, a number or estimate; default: %(default)s",
    )  # fmt: skip
    p.add_argument(
        "--first-advantage", metavar="A", type=_estimate, default=0.0,
        help="a number, or estimate; default: %(default)s",
    )  # fmt: skip
    p.add_argument(
        "--prior-sd", metavar="SD", type=float, default=10.0,
        help="of the normal prior of the scores, inf for maximum likelihood; default: %(default)s",
    )  # fmt: skip


def _add_fit(p: argparse.ArgumentParser) -> None:
    p.set_defaults(run=_commands.fit_file)
    _add_model(p)
    p.add_argument("--group", metavar="COLUMN", help="one leaderboard for each value")
    p.add_argument(
        "--errors", choices=("sandwich", "fisher", "cluster", "none"),
        help="default: cluster where --clusters is given, else sandwich",
    )  # fmt: skip
    p.add_argument(
        "--level", type=float, default=0.95, help="of the intervals; default: %(default)s"
    )
    p.add_argument("--elo", action="store_true", help="scores in Elo points, mean 1000")
    p.add_argument(
        "--anchor", metavar="NAME=1000", type=_anchor, help="with --elo: the score of one item"
    )
    p.add_argument(
        "--min-games", metavar="N", type=float, default=0,
        help="leave out items with fewer comparisons; the ranks stay those among all",
    )  # fmt: skip
    p.add_argument("--plot", metavar="FILE", help="also draw the scores, e.g. to scores.png")
    _add_format(p)


def _add_choices(p: argparse.ArgumentParser) -> None:
    p.set_defaults(run=_commands.choices)
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


def _label(text: str) -> tuple[str, str]:
    word, equals, meaning = text.rpartition("=")
    if not equals or meaning not in ("left", "right", "tie"):
        raise argparse.ArgumentTypeError(f"{text!r}, it must be WORD=left, WORD=right or WORD=tie")
    return word, meaning


def _choice(text: str) -> tuple[str, str]:
    name, equals, token = text.partition("=")
    if not (name and equals and token):
        raise argparse.ArgumentTypeError(f"{text!r}, it must be NAME=TOKEN")
    return name, token


def _anchor(text: str) -> tuple[str, float]:
    name, equals, number = text.rpartition("=")
    if not equals:
        return text, 1000.0
    if not is_number(number):
        raise argparse.ArgumentTypeError(f"{text!r}, it must be NAME=NUMBER")
    return name, float(number)


def _estimate(text: str) -> float | str:
    if text != "estimate" and not is_number(text):
        raise argparse.ArgumentTypeError(f"{text!r}, it must be a number or estimate")
    return text if text == "estimate" else float(text)


def _numbers(text: str) -> tuple[float, ...]:
    cells = text.split(",")
    if not all(is_number(cell) for cell in cells):
        raise argparse.ArgumentTypeError(f"{text!r}, it must be numbers with commas between")
    return tuple(float(cell) for cell in cells)
