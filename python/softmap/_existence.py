"""Whether a labelled fit has a maximum, decided before it is looked for."""

from __future__ import annotations

import math
from collections.abc import Hashable, Mapping

import numpy as np

from softmap._backend import cpu
from softmap._columns import Ints
from softmap._survey import Survey
from softmap.comparisons import Comparisons
from softmap.diagnostics import (
    Diagnostics,
    Finding,
    described,
    listed,
    strong_components,
    win_edges,
    with_findings,
)
from softmap.errors import NoMaximumError


def require_maximum(
    c: Comparisons,
    ties: str,
    seen: Survey,
    *,
    advantage: bool,
    strength: bool,
    prior_sd: float,
    anchors: Mapping[Hashable, float],
) -> Diagnostics:
    """Raise NoMaximumError where there is none; return the diagnostics, with a finding where only
    the prior tells the advantage, or the strength of ties, from the scores.

    advantage, strength: whether they are estimated. Neither has a prior.
    """
    found = described(c, seen)
    proper = math.isfinite(prior_sd)
    if anchors or advantage:
        winner, loser, place = win_edges(c, ties)
    strong = found.strongly_connected
    loose: tuple[Hashable, ...] = ()
    node = np.arange(len(c.items))
    if anchors:  # all are one fixed point
        held = np.array([item in anchors for item in c.items])
        node[held] = np.argmax(held)
        label = strong_components(node.size, node[winner], node[loser])[node]
        loose = tuple(c.items[k] for k in np.flatnonzero(label != label[np.argmax(held)]))
        strong = not loose
    if not proper and not strong:
        reasons = "; ".join(finding.text for finding in found.findings if finding.structural)
        if anchors:
            reasons = f"wins and losses do not tie {listed(loose)} to the anchors"
        raise NoMaximumError(
            f"fit: prior_sd = inf, no unique maximum exists: {reasons} (give a finite prior_sd)"
        )
    if strength and not (c.wins.any() or c.losses.any()):
        raise NoMaximumError(
            "fit: tie_strength = 'estimate', no maximum exists: nothing but ties, in comparisons "
            f"of {listed(c.items)} (give a number)"
        )
    if advantage:
        for side, word in ((1, "first"), (-1, "second")):
            if side not in place:  # no prior holds the advantage back
                raise NoMaximumError(
                    f"fit: first_advantage = 'estimate', no maximum exists: the {word} item never "
                    f"won, in comparisons of {listed(c.items)} (give a number)"
                )
    if not strong:
        return found
    finding = None
    if advantage:
        finding = _with_advantage(c, node[winner], node[loser], place)
    if strength and finding is None:
        finding = _with_strength(c, node, advantage)
    if finding is None:
        return found
    if proper:
        return with_findings(found, [finding])
    option = f"{finding.code} as a number"
    raise NoMaximumError(
        f"fit: prior_sd = inf, no unique maximum exists: {finding.text} "
        f"(give a finite prior_sd, or {option})"
    )


def _with_advantage(c: Comparisons, winner: Ints, loser: Ints, place: Ints) -> Finding | None:
    """Return a finding where scores can move with the advantage a and the likelihood never fall:
    s_first - s_second + a rises, or stays, on each win of the first, and falls on each of the
    second.
    """
    up, _ = movement(len(c.items), winner, loser, -place)
    down, _ = movement(len(c.items), winner, loser, place)
    move = up if up is not None else down
    if move is None:
        return None
    text = f"first_advantage can {'rise' if up is not None else 'fall'} without bound"
    if up is not None and down is not None:
        text = "first_advantage cannot be told from the scores"
    return _moving("first_advantage", text, c, move)


def _with_strength(c: Comparisons, node: Ints, advantage: bool) -> Finding | None:
    """Return a finding where scores, and the advantage a if `advantage`, can move with a tie
    parameter t that rises, and the likelihood never fall: with x = s_first - s_second + a on each
    win of the first x >= t, on each win of the second -x >= t, on each tie |x| <= t.

    For t = 1 and a given a these are differences of scores that are at least something. A cycle of
    them that adds up to more than 0 bounds a; what is left of its range shrinks until a solution
    or nothing is found.
    """
    first, second, drawn = c.wins > 0, c.losses > 0, c.ties > 0
    left, right = node[c.left], node[c.right]
    upper = np.concatenate([left[first], right[second], left[drawn], right[drawn]])
    lower = np.concatenate([right[first], left[second], right[drawn], left[drawn]])
    parts = [np.count_nonzero(x) for x in (first, second, drawn, drawn)]
    by_t, by_a = np.repeat([1, 1, -1, -1], parts), np.repeat([-1, 1, -1, 1], parts)
    low, high, at = (-1, 0), (1, 0), (0, 1)  # of a, as fractions; (1, 0) is infinity
    while True:
        move, cycle = movement(len(c.items), upper, lower, at[1] * by_t + at[0] * by_a)
        if move is not None:
            text = "the strength of ties can rise without bound"
            return _moving("tie_strength", text, c, move)
        t, a = int(by_t[cycle].sum()), int(by_a[cycle].sum())
        if not advantage or a == 0:
            return None
        if a > 0:
            at = high = (-t, a)
        else:
            at = low = (t, -a)
        if low[1] and high[1] and low[0] * high[1] > high[0] * low[1]:
            return None


def _moving(code: str, text: str, c: Comparisons, move: Ints) -> Finding:
    moved = tuple(c.items[k] for k in np.flatnonzero(move < move.max()))
    text += f", together with a shift of {listed(moved)} against the rest"
    return Finding(code, text, moved)


def movement(n: int, upper: Ints, lower: Ints, least: Ints) -> tuple[Ints | None, Ints]:
    """Return whole numbers v (n,) with v[upper] - v[lower] >= least on every edge, and no edges; or
    None, and the edges of a cycle whose `least` add up to more than 0: then there are no such v.
    """
    found, answer = cpu().movement(n, upper, lower, least)
    none = np.zeros(0, dtype=np.int64)
    return (answer, none) if found else (None, answer)
