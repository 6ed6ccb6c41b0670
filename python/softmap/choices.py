"""Probabilities of a few choices from the log-probabilities that a language model lists."""

from __future__ import annotations

import dataclasses
import math
import numbers
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

_WHERE = "choice_probabilities"
_ROUNDING = 1e-6  # what is left of 1 is not known better: services round their numbers
Entry = tuple[set[Any], float, int | None]  # token text and id, log-probability, rank


@dataclasses.dataclass(frozen=True)
class ChoiceProbabilities:
    """Result of `choice_probabilities`, which defines the terms.

    Attributes
    ----------
    names : tuple of K str
    probabilities : float64 array (rows, K)
        Of each choice, given that the answer is one of the choices; a row adds up to 1, or is NaN
        where no token of any choice is listed.
    mass : float64 array (rows,)
        Probability, among all tokens, of the listed tokens of all choices. Where it is small the
        model wanted to say something else.
    lower, upper : float64 arrays (rows, K)
        Bounds of `probabilities`, over all that the tokens that are not listed may have.
    """

    names: tuple[str, ...]
    probabilities: NDArray[np.float64]
    mass: NDArray[np.float64]
    lower: NDArray[np.float64]
    upper: NDArray[np.float64]


def choice_probabilities(
    top_logprobs: Iterable[Any], choices: Mapping[str, Any]
) -> ChoiceProbabilities:
    """Probabilities of a closed set of answers from lists of the most probable tokens.

    A token that is not listed does not have probability 0. It is at most as probable as the last
    token of the list, and all such tokens together have what the list leaves of 1: both bound it,
    and the bounds of its choice with it. `probabilities` takes the tokens of the choices that are
    not listed at half of what they may have together, in equal parts.

    Parameters
    ----------
    top_logprobs : sequence (rows,)
        One answer each, in any of these shapes:

        - {token: log-probability}, the token as text or id;
        - OpenAI: a list of `{token, logprob}`, dicts or objects, or what holds it under
          `top_logprobs`: `response.choices[0].logprobs.content` is a sequence of such rows, one
          for each position of the answer;
        - vLLM: {token id: Logprob(logprob, rank, decoded_token)}; choices may name the text or
          the id. A token that is listed because it was sampled, though its rank is beyond the
          list, bounds nothing. Without ranks the list is taken to be the most probable tokens.
    choices : mapping of name to tokens
        For each choice the tokens that mean it: one str or int, or several, whose probabilities
        add up ("A" and " A" are different tokens).

    Returns
    -------
    ChoiceProbabilities
        `Comparisons.from_pairs` takes it as its outcome where the names are outcome words, such as
        left, right and perhaps tie.

    Raises
    ------
    ValueError
        No choices or rows, a choice without a token, a token in two choices, an empty row, a
        log-probability that is NaN or above 0.
    TypeError
        A row of another shape, tokens that are neither str nor int.

    Examples
    --------
    "B" is not listed. It has at most the probability of "I", 0.02, so A has at least 0.9 / 0.92:

    >>> from math import log
    >>> rows = [{"A": log(0.9), "The": log(0.05), "I": log(0.02)}]
    >>> found = choice_probabilities(rows, {"left": ["A", " A"], "right": "B"})
    >>> found.probabilities.round(3), found.mass.round(3)
    (array([[0.992, 0.008]]), array([0.9]))
    >>> found.lower.round(3), found.upper.round(3)
    (array([[0.978, 0.   ]]), array([[1.   , 0.022]]))
    """
    owner = _owners(choices)
    names = tuple(choices)
    rows = list(_rows(top_logprobs))
    listed, absent = np.zeros((len(rows), len(names))), np.zeros((len(rows), len(names)))
    last, rest = np.empty((len(rows), 1)), np.empty((len(rows), 1))
    for row, entries in enumerate(rows):
        missing = dict(owner)
        for tokens, logprob, _ in entries:
            hits = {owner[token] for token in tokens if token in owner}
            if len(hits) > 1:
                raise ValueError(
                    f"{_WHERE}: top_logprobs[{row}]: {_shown(tokens)} means both "
                    f"{' and '.join(sorted(names[k] for k in hits))}, a token has one choice"
                )
            for k in hits:
                listed[row, k] += math.exp(logprob)
            for token in tokens:
                missing.pop(token, None)
        for k in missing.values():
            absent[row, k] += 1.0
        top = [logprob for _, logprob, rank in entries if rank is None or rank <= len(entries)]
        last[row] = math.exp(min(top, default=0.0))
        rest[row] = max(_ROUNDING, 1.0 - math.fsum(math.exp(logprob) for _, logprob, _ in entries))
    return _bounded(names, listed, absent, last, rest)


def _bounded(
    names: tuple[str, ...],
    listed: NDArray[np.float64],
    absent: NDArray[np.float64],
    last: NDArray[np.float64],
    rest: NDArray[np.float64],
) -> ChoiceProbabilities:
    """Return the result from (rows, K) listed probabilities and numbers of tokens not listed, and
    from (rows, 1) bounds of one such token and of all together.
    """
    mass = listed.sum(axis=1, keepdims=True)
    others, n_absent = mass - listed, absent.sum(axis=1, keepdims=True)
    own = listed + np.minimum(absent * last, rest)
    against = others + np.minimum((n_absent - absent) * last, rest)
    half = 0.5 * np.minimum(n_absent * last, rest) * absent / np.maximum(n_absent, 1.0)
    with np.errstate(invalid="ignore", divide="ignore"):
        share = (listed + half) / (mass + half.sum(axis=1, keepdims=True))
        lower, upper = listed / (listed + against), own / (own + others)
    nothing = mass == 0.0
    return ChoiceProbabilities(
        names,
        np.where(nothing, np.nan, share),
        mass[:, 0],
        np.where(nothing, 0.0, lower),
        np.where(nothing, 1.0, upper),
    )


def _owners(choices: Mapping[str, Any]) -> dict[str | int, int]:
    """Return the number of the choice of each token."""
    if not isinstance(choices, Mapping):
        raise TypeError(f"{_WHERE}: choices is a {type(choices).__name__}, it must be a mapping")
    if not choices:
        raise ValueError(f"{_WHERE}: choices is empty, one choice at least is needed")
    owner: dict[str | int, int] = {}
    names = list(choices)
    for k, (name, given) in enumerate(choices.items()):
        tokens = list(given) if isinstance(given, Iterable) and type(given) is not str else [given]
        if not tokens:
            raise ValueError(f"{_WHERE}: choices[{name!r}] has no token")
        for token in tokens:
            if not isinstance(token, str | numbers.Integral) or isinstance(token, bool):
                kind = type(token).__name__
                raise TypeError(f"{_WHERE}: choices[{name!r}] has a {kind}, it must be str or int")
            token = token if isinstance(token, str) else int(token)
            if owner.setdefault(token, k) != k:
                raise ValueError(
                    f"{_WHERE}: {token!r} is in both {names[owner[token]]} and {name}, "
                    "a token has one choice"
                )
    return owner


def _rows(top_logprobs: Any) -> Iterator[list[Entry]]:
    if isinstance(top_logprobs, str | bytes | Mapping) or not isinstance(top_logprobs, Iterable):
        kind = type(top_logprobs).__name__
        raise TypeError(f"{_WHERE}: top_logprobs is a {kind}, it must be a sequence of rows")
    row = -1
    for row, given in enumerate(top_logprobs):
        entries = list(_entries(f"{_WHERE}: top_logprobs[{row}]", given))
        if not entries:
            raise ValueError(f"{_WHERE}: top_logprobs[{row}] lists no token")
        yield entries
    if row < 0:
        raise ValueError(f"{_WHERE}: top_logprobs is empty, one row at least is needed")


def _entries(where: str, row: Any) -> Iterator[Entry]:
    inner = _get(row, "top_logprobs")
    if inner is not None and not isinstance(inner, numbers.Real):
        row = inner
    if isinstance(row, Mapping):
        for token, value in row.items():
            inner = _get(value, "logprob")
            logprob = value if inner is None else inner
            tokens = {token, _get(value, "decoded_token")} - {None}
            yield tokens, _logprob(where, token, logprob), _get(value, "rank")
    elif isinstance(row, Sequence) and not isinstance(row, str | bytes):
        for k, entry in enumerate(row):
            token = _get(entry, "token")
            if token is None:
                raise TypeError(f"{where}[{k}] is a {type(entry).__name__} without a token")
            yield {token}, _logprob(where, token, _get(entry, "logprob")), None
    else:
        kind = type(row).__name__
        raise TypeError(f"{where} is a {kind}, it must be a mapping of tokens or a list of them")


def _logprob(where: str, token: Any, value: Any) -> float:
    if not isinstance(value, numbers.Real):
        kind = type(value).__name__
        cure = "each row is a mapping or a list of tokens"
        raise TypeError(f"{where}[{token!r}] is a {kind}, it must be a log-probability ({cure})")
    if not value <= 1e-6:  # rounding of a probability of one
        raise ValueError(f"{where}[{token!r}] = {float(value)}, a log-probability is at most 0")
    return min(0.0, float(value))


def _get(entry: Any, name: str) -> Any:
    return entry.get(name) if isinstance(entry, Mapping) else getattr(entry, name, None)


def _shown(tokens: set[Any]) -> str:
    return " = ".join(sorted(map(repr, tokens)))
