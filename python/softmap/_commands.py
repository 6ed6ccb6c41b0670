"""What the commands do: each takes the options and returns its output and its exit code."""

# budget: a little over 400 lines, one function a command and one a form of output

from __future__ import annotations

import argparse
import contextlib
import csv
import io
import json
import math
import re
import sys
from collections.abc import Hashable, Iterator
from typing import Any, TextIO

import numpy as np

from softmap._check import plural
from softmap._columns import Floats
from softmap._cycles import intransitivity
from softmap.choices import choice_probabilities
from softmap.comparisons import Comparisons
from softmap.diagnostics import Diagnostics, diagnose, with_findings
from softmap.errors import NoMaximumError
from softmap.fit import MAX_ITEMS, fit
from softmap.groups import fit_groups
from softmap.io import read_comparisons
from softmap.result import Fit, aligned, decimals
from softmap.softmax import level_scores

_NAME_COLUMNS = ("name", "image", "item", "id", "file")


def fit_file(options: argparse.Namespace) -> tuple[str, int]:
    """`softmap fit`."""
    if options.anchor is not None and not options.elo:
        raise ValueError("fit: --anchor needs --elo")
    if options.plot is not None and options.group is not None:
        raise ValueError("fit: --plot draws one leaderboard, leave out --group")
    comparisons = _comparisons(options)
    fits, failed = _fits(comparisons, options)
    for name, reason in failed.items():
        _note(f"{name}: {by_options(reason)}")
    for name, result in fits.items():
        if not (result.games >= options.min_games).any():
            of = "" if name is None else f"{name}: "
            _note(f"{of}no item has {options.min_games:g} comparisons (lower --min-games)")
    if not fits:
        raise NoMaximumError("fit: no group could be fitted")
    if options.plot is not None:
        fits[None].plot().figure.savefig(options.plot, dpi=150)
    if options.format != "table":
        for name, result in fits.items():
            start = "" if name is None else f"{name}: "
            for sentence in result.diagnostics.sentences():
                _note(start + by_options(sentence))
    return _shown(fits, failed, options), 0


def check(options: argparse.Namespace) -> tuple[str, int]:
    """`softmap check`."""
    c = _comparisons(options)
    if len(c.items) <= MAX_ITEMS:
        found = _fitted(c, options).diagnostics
    else:
        found = diagnose(c, ties=options.ties)
    found = with_findings(found, [*intransitivity(c, link=options.link).findings])
    lines = [
        f"{plural(c.n_rows, 'row')}, {plural(c.n_comparisons, 'comparison')} of "
        f"{plural(len(c.items), 'item')}, "
        f"{c.ties.sum():.10g} of them ties",
        _structure(found),
    ]
    lines += [f"! {by_options(sentence)}" for sentence in found.sentences()]
    lines += ["no trouble found"] * (not found.findings)
    return "\n".join(lines), int(bool(found.findings))


def _structure(found: Diagnostics) -> str:
    groups = len(found.components)
    if found.strongly_connected:
        return "every item has beaten every other one, directly or through others"
    if groups == 1:
        return "connected, but some items have not beaten others, even through others"
    return f"{groups} groups that never met, the largest has {len(found.components[0])} items"


def _comparisons(options: argparse.Namespace) -> Comparisons:
    """Read the file, and say what was skipped."""
    source: Any = options.file
    form = None
    if source == "-":
        source = io.StringIO(sys.stdin.read())
        form = "jsonl" if source.getvalue().lstrip("\ufeff \r\n").startswith("{") else "csv"
    comparisons = read_comparisons(
        source,
        left=options.left,
        right=options.right,
        outcome=options.outcome,
        soft=options.soft,
        weights=options.weights,
        clusters=options.clusters,
        groups=getattr(options, "group", None),
        labels=dict(options.label),
        format=form,
        on_bad_row="skip" if options.skip_bad_rows else "raise",
    )
    if comparisons.skipped:
        n, (line, reason) = len(comparisons.skipped), comparisons.skipped[0]
        _note(f"{n} of {n + comparisons.n_rows} rows skipped, the first: line {line}: {reason}")
    return comparisons


def _fitted(comparisons: Comparisons, options: argparse.Namespace) -> Fit:
    return fit(
        comparisons,
        link=options.link,
        ties=options.ties,
        tie_strength=options.tie_strength,
        first_advantage=options.first_advantage,
        prior_sd=options.prior_sd,
        level=getattr(options, "level", 0.95),
        errors=getattr(options, "errors", None),
        on_trouble="ignore",
    )


def _fits(
    comparisons: Comparisons, options: argparse.Namespace
) -> tuple[dict[Hashable | None, Fit], dict[Hashable, str]]:
    """Return the fits by group, or one under None, in the units asked for, and the failures."""
    failed: dict[Hashable, str] = {}
    fits: dict[Hashable | None, Fit] = {}
    if options.group is None:
        fits[None] = _fitted(comparisons, options)
    else:
        found = fit_groups(
            comparisons,
            link=options.link,
            ties=options.ties,
            tie_strength=options.tie_strength,
            first_advantage=options.first_advantage,
            prior_sd=options.prior_sd,
            level=options.level,
            errors=options.errors,
            on_trouble="ignore",
        )
        fits, failed = dict(found), dict(found.failed)
    if options.elo:
        anchor, center = options.anchor or (None, 1000.0)
        for name, result in list(fits.items()):
            try:
                fits[name] = result.rescale("elo", anchor=anchor, center=center)
            except ValueError as error:  # the anchor is not in this group
                if name is None:
                    raise
                failed[name] = str(error)
                del fits[name]
    return fits, failed


def _shown(
    fits: dict[Hashable | None, Fit], failed: dict[Hashable, str], options: argparse.Namespace
) -> str:
    least = options.min_games
    if options.format == "table":
        parts = [(name, result.summary(min_games=least)) for name, result in fits.items()]
        texts = [text if name is None else f"== {name} ==\n{text}" for name, text in parts]
        lines = "\n\n".join(texts).split("\n")
        return "\n".join(f"! {by_options(x[2:])}" if x.startswith("! ") else x for x in lines)
    if options.format == "md":
        parts = [(name, _markdown(result.table(min_games=least))) for name, result in fits.items()]
        texts = [text if name is None else f"## {name}\n\n{text}" for name, text in parts]
        return "\n\n".join(texts)
    if options.format == "csv":
        records = [
            ({} if name is None else {"group": name}) | record
            for name, result in fits.items()
            for record in _records(result, least)
        ]
        return _csv(records)
    documents = {name: _document(result, least) for name, result in fits.items()}
    if None in documents:
        return json.dumps(_plain(documents[None]), indent=1)
    groups = {str(name): document for name, document in documents.items()}
    both = {"groups": groups, "failed": {str(name): text for name, text in failed.items()}}
    return json.dumps(_plain(both), indent=1)


def _document(result: Fit, min_games: float) -> dict[str, Any]:
    advantage, strength = result.first_advantage, result.tie_strength
    return {
        "link": result.link,
        "unit": result.unit,
        "ties": result.ties,
        "errors": result.errors,
        "prior_sd": result.prior_sd if math.isfinite(result.prior_sd) else None,
        "level": result.level,
        "log_likelihood": result.log_likelihood,
        "first_advantage": advantage and [advantage.value, advantage.standard_error],
        "tie_strength": strength and [strength.value, strength.standard_error],
        "converged": result.converged,
        "n_iter": result.n_iter,
        "n_comparisons": result.n_comparisons,
        "findings": [{"code": f.code, "text": f.text} for f in result.diagnostics.findings],
        "items": _records(result, min_games),
    }


def _records(result: Fit, min_games: float) -> list[dict[str, Any]]:
    """Return one row per item in full precision, best item first."""
    columns = result.columns(min_games)
    columns["item"] = [str(item) for item in columns["item"]]
    return [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]


def levels(options: argparse.Namespace) -> tuple[str, int]:
    """`softmap levels`."""
    with _opened(options.file) as file:
        names, logits = _read_levels(file, options.file, len(options.levels))
    found = level_scores(logits, None, options.levels, temperature=options.temperature)
    score, sd = np.asarray(found.score), np.sqrt(np.asarray(found.variance))
    missing = np.flatnonzero(np.isnan(score))
    if missing.size:
        _note(f"{missing.size} of {score.size} rows have no score, the first: row {missing[0] + 1}")
    code = int(missing.size > 0)
    if options.format in ("csv", "json"):
        columns = zip(names, score.tolist(), sd.tolist(), strict=True)
        records = [{"name": n, "score": s, "standard_deviation": d} for n, s, d in columns]
        return _rows(records, options.format), code
    digits = 2 + decimals(sd)
    rows = [["row", "name", "score", "standard deviation"]]
    for k, name in enumerate(names):
        rows.append([str(k + 1), name, f"{score[k]:.{digits}f}", f"{sd[k]:.{digits}f}"])
    return (_markdown(rows) if options.format == "md" else "\n".join(aligned(rows))), code


def _rows(records: list[dict[str, Any]], form: str) -> str:
    return _csv(records) if form == "csv" else json.dumps(_plain(records), indent=1)


def _read_levels(file: TextIO, path: str, n_levels: int) -> tuple[list[str], Floats]:
    """Return the names (row numbers where there are none) and the logits (rows, K)."""
    reader = csv.reader(file)
    try:
        lines = [(reader.line_num, row) for row in reader if any(cell.strip() for cell in row)]
    except (csv.Error, UnicodeDecodeError) as error:
        line = reader.line_num + 1
        raise ValueError(f"levels: {path} cannot be read near line {line} ({error})") from None
    if not lines:
        raise ValueError(f"levels: {path} is empty, one row of logits at least is needed")
    header = [cell.lstrip("\ufeff").strip().lower() for cell in lines[0][1]]
    named = len(header) == n_levels + 1
    name = next((k for k, word in enumerate(header) if named and word in _NAME_COLUMNS), 0)
    if not any(is_number(word) for k, word in enumerate(header) if not (named and k == name)):
        del lines[0]
    if not lines:
        raise ValueError(f"levels: {path} has no row below its header")
    names, logits = [], []
    for count, (line, row) in enumerate(lines, start=1):
        if len(row) != n_levels + named:
            raise ValueError(
                f"levels: {path} line {line}: {len(row)} fields, it must be {n_levels} logits "
                "(and a name in all rows or none); --levels says how many there are"
            )
        names.append(row.pop(name).strip() if named else str(count))
        try:
            logits.append([float(cell) for cell in row])
        except ValueError as error:
            raise ValueError(f"levels: {path} line {line}: {error}") from None
    if named and all(is_number(name) for name in names) and not all(map(_is_whole, names)):
        raise ValueError(
            f"levels: {path} has {n_levels + 1} columns of numbers, it must be {n_levels} logits "
            f"and perhaps a name, but {names[0]} is none; --levels says how many logits there are"
        )
    return names, np.array(logits)


def _is_whole(text: str) -> bool:
    return float(text).is_integer()


def choices(options: argparse.Namespace) -> tuple[str, int]:
    """`softmap choices`."""
    tokens: dict[str, list[str]] = {}
    for name, token in options.choice:
        tokens.setdefault(name, []).append(token)
    with _opened(options.file) as file:
        names, lines, rows = _read_choices(file, options.file, options.position)
    try:
        found = choice_probabilities(rows, tokens)
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
        return _rows(records, options.format), 0
    table = [["row", "name", "mass", *(text for name in found.names for text in (name, "bounds"))]]
    for k, record in enumerate(records):
        cells = [str(k + 1), record["name"], f"{record['mass']:.4f}"]
        for choice in found.names:
            p, low, high = (record[choice + end] for end in ("", "_low", "_high"))
            cells += ["-" if math.isnan(p) else f"{p:.4f}", f"[{low:.4f}, {high:.4f}]"]
        table.append(cells)
    return (_markdown(table) if options.format == "md" else "\n".join(aligned(table))), 0


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


def is_number(text: str) -> bool:
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


# Where the functions name an argument, in their own words; names from the data are left alone.
_IN_OPTIONS = [
    (r"^(\w+): (level|errors|ties|link) = ", r"\1: --\2 = "),
    (r"^(\w+): prior_sd = ", r"\1: --prior-sd = "),
    (r"^(\w+): tie_strength = ", r"\1: --tie-strength = "),
    (r"^(\w+): first_advantage = ", r"\1: --first-advantage = "),
    (r"\(a larger prior_sd leaves", "(a larger --prior-sd leaves"),
    (r"\(give a finite prior_sd\)", "(give a finite --prior-sd)"),
    (r"\(first_advantage='estimate' accounts", "(--first-advantage estimate accounts"),
    (r"^nothing ended in a tie: ties='(.*?)' has", r"nothing ended in a tie: --ties \1 has"),
    (r" ties, and (\S+) by ties='(.*?)' \(another", r" ties, and \1 by --ties \2 (another"),
    (r"\(use ties='half'\)", "(use --ties half)"),
    (r"\(use Comparisons.from_pairs with clusters=\)", "(use --clusters)"),
    (
        r"say what another word means with labels=\{(['\"]?)(.*?)\1: 1\}, 1 = left won; for names "
        "of winners pass winner == left",
        r"say what another word means with --label \2=left, but where it is the winner's name let "
        "the column say left or right",
    ),
    (r"leave such rows out with on_bad_row='skip'\)", "leave such rows out with --skip-bad-rows)"),
]


def by_options(text: str) -> str:
    """A sentence of the functions with the command's options in it."""
    for pattern, option in _IN_OPTIONS:
        text = re.sub(pattern, option, text)
    return text


def _note(text: str) -> None:
    print(f"softmap: note: {text}", file=sys.stderr)


def _markdown(rows: list[list[str]]) -> str:
    """Return a table that is aligned as text, too."""
    escaped = [[cell.replace("|", "\\|") for cell in row] for row in rows]
    widths = [max(3, *map(len, column)) for column in zip(*escaped, strict=True)]
    rule = ["-" * (width - 1) + ":" for width in widths]
    rule[1] = ":" + rule[1][:-1]
    lines = []
    for row in (escaped[0], rule, *escaped[1:]):
        cells = zip(row, widths, strict=True)
        lines.append([x.ljust(w) if k == 1 else x.rjust(w) for k, (x, w) in enumerate(cells)])
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def _csv(records: list[dict[str, Any]]) -> str:
    text = io.StringIO()
    writer = csv.DictWriter(text, list(records[0]) if records else [], lineterminator="\n")
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
