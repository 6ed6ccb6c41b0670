"""What a set of comparisons can and cannot say, decided before anything is fitted."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Hashable, Iterable

import numpy as np
from numpy.typing import NDArray

from softmap import _backend
from softmap._check import check_choice
from softmap._columns import Floats, Ints
from softmap._survey import Survey, survey
from softmap.comparisons import Comparisons, check_comparisons
from softmap.outcomes import TIES

_STRUCTURAL = (
    *("never_compared", "disconnected", "undefeated", "winless", "split"),
    *("first_advantage", "tie_strength"),
)


@dataclasses.dataclass(frozen=True)
class Finding:
    """One thing to know about the data.

    Attributes
    ----------
    code : str
        For programs, such as ``undefeated`` or ``disconnected``.
    text : str
        A sentence for people.
    items : tuple
        The items it is about.
    """

    code: str
    text: str
    items: tuple[Hashable, ...] = ()

    @property
    def structural(self) -> bool:
        """Whether the comparisons alone do not determine all scores."""
        return self.code in _STRUCTURAL


@dataclasses.dataclass(frozen=True)
class Diagnostics:
    """Structure of the comparison graph.

    Attributes
    ----------
    findings : tuple of Finding
        Codes: never_compared, disconnected, undefeated, winless, split (a group that never lost
        to, or never beat, the rest): without these the data determine all scores by themselves.
        rarely_compared (fewer than 10 comparisons, and fewer than a tenth of the median item).
        `fit` adds first_advantage and tie_strength (they cannot be told from the scores),
        prior_decides (scores that the prior moves by more than half a standard error),
        position_bias (the first position wins more, or less, than the model allows for), no_ties
        (for a tie model to go by), tie_model (there are more, or fewer, ties among close items than
        the tie model allows for), rough_errors (standard errors that are poor estimates, beyond
        2,000 items) and not_converged. `intransitivity`, and with it the command ``check``, adds
        intransitive (beats go in circles more than chance would make them).
    components : tuple of tuples of items
        Groups connected by comparisons, largest first.
    strongly_connected : bool
        Every item has beaten every other one, directly or through others: exactly then maximum
        likelihood scores exist (Ford 1957), unless a first advantage or a strength of ties is
        estimated too.
    undefeated, winless, never_compared : tuples of items
        Without a loss; without a win; without a comparison. A tie is half a win and half a loss.
    """

    findings: tuple[Finding, ...]
    components: tuple[tuple[Hashable, ...], ...]
    strongly_connected: bool
    undefeated: tuple[Hashable, ...]
    winless: tuple[Hashable, ...]
    never_compared: tuple[Hashable, ...]

    def sentences(self) -> list[str]:
        """Return the findings as sentences, after one that says what they mean for the scores."""
        texts = [finding.text for finding in self.findings]
        if any(finding.structural for finding in self.findings):
            texts.insert(0, "these comparisons alone do not determine all scores, the prior helps")
        return texts


def diagnose(comparisons: Comparisons, *, ties: str = "half") -> Diagnostics:
    """Say what the comparisons can support: one walk over the pairs, no fit.

    Parameters
    ----------
    comparisons : Comparisons
    ties : "half", "drop", "davidson", "rao-kupper" or "threshold", default "half"
        What a tie is, as in `fit`: a tie of any kind but "drop" connects two items both ways.

    Returns
    -------
    Diagnostics
        Findings, components, strong connectivity, undefeated and winless items.

    Raises
    ------
    ValueError
        Unknown `ties`.

    References
    ----------
    L. R. Ford, Solution of a ranking problem from binary comparisons, Am. Math. Monthly 64 (1957).

    Examples
    --------
    >>> found = diagnose(Comparisons.from_pairs(["a", "c", "d"], ["b", "d", "c"]))
    >>> found.components
    (('a', 'b'), ('c', 'd'))
    >>> found.undefeated, found.winless
    (('a',), ('b',))
    """
    check_comparisons("diagnose", comparisons)
    check_choice("diagnose", "ties", ties, TIES)
    return described(comparisons, survey(comparisons, ties))


def described(comparisons: Comparisons, seen: Survey) -> Diagnostics:
    """Return what `diagnose` says of comparisons that were surveyed."""
    items = comparisons.items
    won, lost = seen.won, seen.lost

    def named(chosen: NDArray[np.bool_]) -> tuple[Hashable, ...]:
        return tuple(items[k] for k in np.flatnonzero(chosen))

    undefeated, winless, never = named(won & ~lost), named(lost & ~won), named(~won & ~lost)
    components = _components(items, seen.connected)
    findings = []
    if never:
        findings.append(Finding("never_compared", f"{_were(never)} never compared", never))
    played = [part for part in components if len(part) > 1]
    if len(played) > 1:
        groups = "; ".join(f"{{{listed(part)}}}" for part in played[:5])
        more = f"; and {len(played) - 5} more" if len(played) > 5 else ""
        text = f"the comparisons fall into {len(played)} groups that never met: {groups}{more}"
        findings.append(Finding("disconnected", text, tuple(x for part in played for x in part)))
    if undefeated:
        findings.append(Finding("undefeated", f"{listed(undefeated)} never lost", undefeated))
    if winless:
        findings.append(Finding("winless", f"{listed(winless)} never won", winless))
    findings += _splits(items, seen)
    findings += _rarely_compared(items, seen.games.astype(np.float64))
    return Diagnostics(tuple(findings), components, seen.is_strong, undefeated, winless, never)


def _components(items: tuple[Hashable, ...], group: Ints) -> tuple[tuple[Hashable, ...], ...]:
    """Return the items of each group, the largest group first."""
    if not group.any():
        return (items,)
    order = np.argsort(group, kind="stable")
    names = [items[k] for k in order.tolist()]
    ends = [*(np.flatnonzero(np.diff(group[order])) + 1).tolist(), len(names)]
    parts = [tuple(names[a:b]) for a, b in itertools.pairwise([0, *ends])]
    parts.sort(key=len, reverse=True)
    return tuple(parts)


def _splits(items: tuple[Hashable, ...], seen: Survey) -> list[Finding]:
    """Return a finding for each strong component of several items that no win enters (or leaves),
    within a larger connected group: the smaller side of the split.
    """
    group, strong = seen.connected, seen.strong
    size, group_size = np.bincount(strong), np.bincount(group)
    several = size[strong] > 1
    several &= size[strong] <= group_size[group] / 2
    several &= np.isin(group, group[seen.winner])
    order = np.argsort(np.where(several, strong, size.size), kind="stable")
    order = order[: np.count_nonzero(several)]
    members = np.split(order, np.flatnonzero(np.diff(strong[order])) + 1) if order.size else []
    findings = []
    for inner, text in ((seen.loser, "never lost to"), (seen.winner, "never beat")):
        beaten = np.zeros(size.size, dtype=bool)
        beaten[strong[inner]] = True
        for part in members:
            if not beaten[strong[part[0]]]:
                names = tuple(items[k] for k in part)
                sentence = f"{{{listed(names)}}} {text} any other item"
                findings.append(Finding("split", sentence, names))
    return findings


def _rarely_compared(items: tuple[Hashable, ...], games: Floats) -> list[Finding]:
    median = float(np.median(games[games > 0.0])) if games.any() else 0.0
    rare = np.flatnonzero((games > 0.0) & (games < min(10.0, median / 10.0)))
    if not rare.size:
        return []
    names = tuple(items[k] for k in rare)
    text = f"{_were(names)} compared {games[rare].max():.10g} times at most, the median item "
    return [Finding("rarely_compared", f"{text}{median:.10g} times", names)]


def win_edges(comparisons: Comparisons, ties: str = "half") -> tuple[Ints, Ints, Ints]:
    """Return (winner, loser, place), one entry per kind of win that occurs; place = +1 where the
    winner was shown first, -1 where it was second. A tie is a win of each side, unless dropped.
    """
    c = comparisons
    drawn = c.ties > 0 if ties != "drop" else np.zeros(c.ties.shape, dtype=bool)
    first, second = (c.wins > 0) | drawn, (c.losses > 0) | drawn
    winner = np.concatenate([c.left[first], c.right[second]])
    loser = np.concatenate([c.right[first], c.left[second]])
    place = np.repeat(np.array([1, -1]), [np.count_nonzero(first), np.count_nonzero(second)])
    return winner, loser, place


def strong_components(n: int, source: Ints, target: Ints) -> Ints:
    """Label the strongly connected components of a directed graph of n nodes.

    Labels are numbered so that every edge between components goes from a higher label to a lower
    one.
    """
    label: Ints = _backend.cpu().strong_components(n, source, target)
    return label


def with_findings(found: Diagnostics, findings: list[Finding]) -> Diagnostics:
    """Return the same with more findings."""
    return dataclasses.replace(found, findings=(*found.findings, *findings))


def listed(items: Iterable[Hashable], most: int = 5) -> str:
    """Return 'a, b, c and 4 more'."""
    names = [str(item) for item in items]
    rest = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + rest


def _were(items: tuple[Hashable, ...]) -> str:
    return f"{listed(items)} {'was' if len(items) == 1 else 'were'}"


def connected(n: int, a: Ints, b: Ints) -> Ints:
    """Label the components of an undirected graph by their smallest node."""
    label: Ints = _backend.cpu().connected(n, a, b)
    return label
