"""Cyclic triples, against loops over all of them; what chance makes is not accused."""

import dataclasses
import itertools

import numpy as np
import pytest

import softmap
from softmap import Comparisons, _cycles, intransitivity


def by_loops(c):
    """Share of the cyclic triples and mean clearness, by the definition."""
    n = len(c.items)
    lead, squares = np.zeros((n, n)), np.zeros((n, n))
    square = c.squares if c.squares is not None else c.counts
    square = square[0] + square[1] + (2 * square[3] if len(square) > 3 else 0)
    for i, j, won, lost, q in zip(c.left, c.right, c.wins, c.losses, square, strict=True):
        lead[i, j] += won - lost
        lead[j, i] += lost - won
        squares[i, j] += q
        squares[j, i] += q
    n_met = n_decided = n_cyclic = 0
    clearness = 0.0
    clearest = (0.0, ())
    for triple in itertools.combinations(range(n), 3):
        pairs = list(itertools.combinations(triple, 2))
        if not all(squares[p] > 0 for p in pairs):
            continue
        n_met += 1
        if any(lead[p] == 0 for p in pairs):
            continue
        n_decided += 1
        for a, b, c_ in (triple, triple[::-1]):
            around = [(a, b), (b, c_), (c_, a)]
            if all(lead[p] > 0 for p in around):
                n_cyclic += 1
                least = min(lead[p] / np.sqrt(squares[p]) for p in around)
                clearness += least
                clearest = max(clearest, (least, tuple(c.items[k] for k in (a, b, c_))))
    return n_cyclic / n_decided, clearness / n_met, n_decided, clearest[1]


def transitive(n, games, sd, rng, met=1.0):
    """Votes of a model with one score an item."""
    s = rng.normal(0, sd, n)
    i, j = np.triu_indices(n, 1)
    some = rng.random(i.size) < met
    i, j = i[some], j[some]
    k = rng.poisson(games, i.size)
    won = rng.binomial(k, 1 / (1 + np.exp(s[j] - s[i])))
    table = np.zeros((n, n))
    table[i, j], table[j, i] = won, k - won
    return Comparisons.from_matrix(table)


def rows(rng, n=9, n_rows=150):
    left = rng.integers(0, n, n_rows)
    return left, (left + rng.integers(1, n, n_rows)) % n


@pytest.mark.parametrize("kind", ["matrix", "ordered", "weighted", "soft", "three"])
def test_share_and_strength_follow_the_definition(kind):
    rng = np.random.default_rng(3)
    left, right = rows(rng)
    outcome = rng.choice([0, 0.5, 1], left.size)
    if kind == "matrix":
        c = transitive(10, 4, 0.5, rng, met=0.7)
    elif kind == "ordered":
        c = Comparisons.from_pairs(left, right, outcome)
    elif kind == "weighted":
        c = Comparisons.from_pairs(left, right, outcome, weights=rng.integers(1, 5, left.size) / 2)
    elif kind == "soft":
        c = Comparisons.from_pairs(left, right, rng.random(left.size), soft=True)
    else:
        p = rng.dirichlet([1, 1, 1], left.size)
        c = Comparisons.from_pairs(left, right, p)
    share, strength, n_decided, worst = by_loops(c)
    found = intransitivity(c)
    assert (found.share, found.n_triples) == (share, n_decided)
    assert found.strength == pytest.approx(strength, rel=1e-12)
    a, b, third = found.worst
    assert worst in ((a, b, third), (b, third, a), (third, a, b))
    assert found.sampling_error == 0


HANDS = ["rock", "paper", "scissors"]


@pytest.mark.parametrize("turned", [False, True])
def test_rock_paper_scissors_is_named(turned):
    wins = np.array([[0, 30, 70], [70, 0, 30], [30, 70, 0]])
    found = intransitivity(Comparisons.from_matrix(wins.T if turned else wins, items=HANDS))
    assert found.significant
    assert found.share == 1
    assert found.expected == pytest.approx(0.25, abs=0.06)
    assert found.excess > 10
    want = ("rock", "paper", "scissors") if turned else ("rock", "scissors", "paper")
    assert found.worst == want
    (finding,) = found.findings
    assert (finding.code, finding.items, finding.structural) == ("intransitive", want, False)
    a, b, c = want
    assert f"{a} beats {b}, {b} beats {c} and {c} beats {a}; 100% of the triples" in finding.text


def test_a_circle_among_many_items_is_found():
    """Three of twelve go round; the rest is in order."""
    rng = np.random.default_rng(0)
    c = transitive(12, 40, 1.0, rng)
    wins = np.zeros((12, 12))
    wins[c.left, c.right], wins[c.right, c.left] = c.wins, c.losses
    for a, b in ((2, 5), (5, 9), (9, 2)):
        wins[a, b], wins[b, a] = 36, 4
    found = intransitivity(Comparisons.from_matrix(wins))
    assert found.significant
    assert sorted(found.worst) == [2, 5, 9]
    assert found.share < 0.2


@pytest.mark.parametrize(
    ("n", "games", "sd", "met"),
    [(3, 10, 1.0, 1.0), (6, 3, 0.0, 1.0), (20, 2, 1.0, 1.0), (40, 1, 2.0, 0.3)],
)
def test_transitive_data_are_not_accused(n, games, sd, met):
    """One score an item, chance alone: the share is as expected, and alarms are rare."""
    found = [
        intransitivity(transitive(n, games, sd, np.random.default_rng(seed), met))
        for seed in range(25)
    ]
    found = [x for x in found if x.n_triples]
    assert sum(x.significant for x in found) == 0
    excess = np.array([x.excess for x in found])
    assert abs(excess.mean()) < 0.8
    if n > 10:
        assert np.mean([x.share for x in found]) == pytest.approx(
            np.mean([x.expected for x in found]), rel=0.35
        )


def test_an_advantage_of_the_first_is_no_circle():
    """Each is at home against the next one: the first position alone goes round."""
    left, right = np.repeat([0, 1, 2], 60), np.repeat([1, 2, 0], 60)
    outcome = np.tile(np.arange(60) < 48, 3)
    more = [np.tile([3, 4, 5], 40), np.tile([4, 5, 3], 40)]
    left, right = np.append(left, [*more[0], *more[1]]), np.append(right, [*more[1], *more[0]])
    outcome = np.append(outcome, np.tile(np.arange(40) < 32, 6))
    assert not intransitivity(Comparisons.from_pairs(left, right, outcome)).significant
    unknown = Comparisons.from_pairs(left, right, outcome).without_order()
    assert intransitivity(unknown).significant


def test_ties_and_weights_do_not_matter_to_who_is_ahead():
    wins = np.array([[0, 30, 70], [70, 0, 30], [30, 70, 0]])
    ties = 500 * (1 - np.eye(3))
    plain, tied = Comparisons.from_matrix(wins), Comparisons.from_matrix(wins, tie_counts=ties)
    found, other = intransitivity(plain), intransitivity(tied)
    assert (found.share, found.strength, found.worst) == (other.share, other.strength, other.worst)
    left, right = np.repeat([0, 1, 2], 100), np.repeat([1, 2, 0], 100)
    outcome = np.tile(np.arange(100) < 30, 3)
    one, half = (Comparisons.from_pairs(left, right, outcome, weights=w) for w in (1.0, 0.5))
    assert intransitivity(one).strength == pytest.approx(intransitivity(half).strength, rel=1e-12)


def test_without_a_triple_nothing_is_said():
    ladder = Comparisons.from_pairs(range(5), range(1, 6))
    found = intransitivity(ladder)
    assert np.isnan(found.share)
    assert (found.n_triples, found.worst, found.findings) == (0, (), ())
    even = Comparisons.from_matrix(1 - np.eye(3))
    assert np.isnan(intransitivity(even).share)


def test_beyond_a_size_triples_are_sampled(monkeypatch):
    c = transitive(40, 3, 0.5, np.random.default_rng(1), met=0.8)
    whole = intransitivity(c)
    monkeypatch.setattr(_cycles, "_MOST_WEDGES", 4000)
    shares = []
    for seed in range(20):
        part = intransitivity(c, rng=seed)
        assert 1500 < part.n_triples < 4000
        assert part.sampling_error == pytest.approx(
            np.sqrt(part.share * (1 - part.share) / part.n_triples)
        )
        shares.append(part.share)
    assert abs(np.mean(shares) - whole.share) < 3 * part.sampling_error / np.sqrt(20)
    assert np.std(shares) < 1.6 * part.sampling_error
    monkeypatch.setattr(_cycles, "_MOST_SIMULATED", 500)
    assert intransitivity(c).expected == pytest.approx(whole.expected, abs=0.06)


def test_the_same_data_give_the_same_answer():
    c = transitive(15, 4, 0.5, np.random.default_rng(2))
    assert intransitivity(c) == intransitivity(c)
    assert intransitivity(c, link="probit").share == intransitivity(c).share
    with pytest.raises(ValueError, match="intransitivity: link = 'x', it must be one of logit"):
        intransitivity(c, link="x")
    assert dataclasses.replace(intransitivity(c), share=0.5) != intransitivity(c)
    assert softmap.Intransitivity is _cycles.Intransitivity
