"""Structure of the comparison graph, against exhaustive search."""

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from softmap._existence import movement
from softmap._survey import survey
from softmap.comparisons import Comparisons
from softmap.diagnostics import (
    Finding,
    connected,
    diagnose,
    strong_components,
    win_edges,
)

graphs = st.integers(1, 7).flatmap(
    lambda n: st.tuples(
        st.just(n), st.lists(st.tuples(st.integers(0, n - 1), st.integers(0, n - 1)), max_size=14)
    )
)


def arrays(edges):
    pairs = np.array(edges, dtype=np.int64).reshape(-1, 2)
    return pairs[:, 0].copy(), pairs[:, 1].copy()


def reachable(n, edges):
    """Return the matrix of what can be reached from where, by Warshall's algorithm."""
    reach = np.eye(n, dtype=bool)
    for a, b in edges:
        reach[a, b] = True
    for k in range(n):
        reach |= reach[:, k : k + 1] & reach[k]
    return reach


@settings(deadline=None)
@given(graphs)
def test_strong_components_are_mutual_reachability(graph):
    n, edges = graph
    reach = reachable(n, edges)
    label = strong_components(n, *arrays(edges))
    assert np.array_equal(label[:, None] == label, reach & reach.T)
    for a, b in edges:
        assert label[a] >= label[b]


@settings(deadline=None)
@given(graphs)
def test_connected_is_reachability_both_ways(graph):
    n, edges = graph
    reach = reachable(n, edges + [(b, a) for a, b in edges])
    label = connected(n, *arrays(edges))
    assert np.array_equal(label[:, None] == label, reach)


def test_long_chain_and_many_items():
    n = 50_000
    chain = np.arange(n - 1)
    assert len(np.unique(strong_components(n, chain, chain + 1))) == n
    ring = np.append(chain, n - 1), np.append(chain + 1, 0)
    assert len(np.unique(strong_components(n, *ring))) == 1
    shuffled = np.random.default_rng(0).permutation(n)
    assert (connected(n, shuffled[ring[0]], shuffled[ring[1]]) == 0).all()


@settings(deadline=None)
@given(
    st.integers(2, 4).flatmap(
        lambda n: st.tuples(
            st.just(n),
            st.lists(
                st.tuples(st.permutations(range(n)).map(lambda p: p[:2]), st.sampled_from([1, -1])),
                max_size=8,
            ),
        )
    )
)
def test_movement_is_exact(case):
    """Difference constraints with whole bounds have a whole solution within -n..n if any."""
    n, edges = case
    winner, loser = arrays([pair for pair, _ in edges])
    place = np.array([p for _, p in edges], dtype=np.int64)

    def allowed(v):
        v = np.asarray(v)
        return bool((v[loser] <= v[winner] + place).all())

    found, cycle = movement(n, winner, loser, -place)
    if found is None:
        assert place[cycle].sum() < 0
        assert not any(allowed((0, *v)) for v in itertools.product(range(-n, n + 1), repeat=n - 1))
    else:
        assert allowed(found)


def test_a_sound_table_has_no_findings():
    d = diagnose(Comparisons.from_matrix([[0, 2, 1], [1, 0, 1], [1, 1, 0]]))
    assert d.findings == ()
    assert d.sentences() == []
    assert d.components == ((0, 1, 2),)
    assert d.strongly_connected
    assert d.undefeated == d.winless == d.never_compared == ()


def test_undefeated_winless_never_compared():
    c = Comparisons.from_pairs(list("aabd"), list("bdcb"), items=list("abcdef"))
    d = diagnose(c)
    assert (d.undefeated, d.winless, d.never_compared) == (("a",), ("c",), ("e", "f"))
    assert not d.strongly_connected
    assert d.components == (("a", "b", "c", "d"), ("e",), ("f",))
    assert d.findings == (
        Finding("never_compared", "e, f were never compared", ("e", "f")),
        Finding("undefeated", "a never lost", ("a",)),
        Finding("winless", "c never won", ("c",)),
    )
    assert (
        d.sentences()[0] == "these comparisons alone do not determine all scores, the prior helps"
    )
    one = diagnose(Comparisons.from_pairs(["a", "b"], ["b", "a"], items=["a", "b", "c"]))
    assert one.findings == (Finding("never_compared", "c was never compared", ("c",)),)


def test_disconnected():
    d = diagnose(Comparisons.from_pairs(list("abcde"), list("baded")))
    assert d.components == (("c", "d", "e"), ("a", "b"))
    finding = d.findings[0]
    assert finding.code == "disconnected"
    assert finding.text == "the comparisons fall into 2 groups that never met: {c, d, e}; {a, b}"
    assert finding.items == tuple("cdeab")


def test_many_groups_are_shortened():
    names = [f"{k:02}" for k in range(16)]
    c = Comparisons.from_pairs(names[::2] + names[1::2], names[1::2] + names[::2])
    (finding,) = diagnose(c).findings
    assert finding.text.endswith("{08, 09}; and 3 more")
    assert len(finding.items) == 16


def test_split_names_the_smaller_side():
    # {a, b} beat each other and all of {c, d, e}, which beat each other only
    c = Comparisons.from_pairs(list("abacde"), list("bacdec"))
    (finding,) = diagnose(c).findings
    assert finding == Finding("split", "{a, b} never lost to any other item", ("a", "b"))
    turned = Comparisons.from_pairs(list("abacde"), list("bacdec"), "right")
    (finding,) = diagnose(turned).findings
    assert finding == Finding("split", "{a, b} never beat any other item", ("a", "b"))


def test_ties_join_unless_dropped():
    c = Comparisons.from_pairs(["a", "b"], ["b", "c"], "tie")
    assert diagnose(c).strongly_connected
    dropped = diagnose(c, ties="drop")
    assert dropped.never_compared == ("a", "b", "c")
    with pytest.raises(ValueError, match="diagnose: ties = 'x', it must be one of half"):
        diagnose(c, ties="x")


def test_zero_weights_connect_nothing():
    c = Comparisons.from_pairs(["a", "b", "a"], ["b", "a", "c"], weights=[1, 1, 0])
    assert diagnose(c).never_compared == ("c",)


@pytest.mark.parametrize("n", [2, 300, 30_000])
def test_movement_on_chains_and_rings(n):
    """A chain of both ways has its levels; a ring that adds up to something has none, whose cycle
    is all of it. Both in time that grows as the chain.
    """
    up, down = np.arange(n - 1), np.arange(1, n)
    ends, least = (np.r_[up, down], np.r_[down, up]), np.repeat([1, -1], n - 1)
    found, cycle = movement(n, *ends, least)
    assert not cycle.size
    assert np.array_equal(found[ends[0]] - found[ends[1]] >= least, np.ones(2 * n - 2, bool))
    node = np.random.default_rng(2).permutation(n)
    for total in (0, 1):
        least = np.r_[np.tile([1, -1], n)[: n - 1], 0]
        least[-1] = total - least.sum()
        found, cycle = movement(n, node, np.roll(node, -1), least)
        assert (found is None) == (total == 1)
        assert sorted(cycle) == list(range(n)) * total


@pytest.mark.parametrize("seed", range(20))
@pytest.mark.parametrize("ties", ["half", "drop"])
def test_one_walk_tells_what_plain_walks_do(seed, ties):
    rng = np.random.default_rng(seed)
    n = int(rng.integers(2, 40))
    left = rng.integers(0, n, int(rng.integers(1, 60)))
    right = (left + rng.integers(1, n, left.size)) % n
    weights = rng.choice([0.0, 1.0, 2.5], left.size) if seed % 2 else None
    outcome = rng.choice([0.0, 0.5, 1.0], left.size)
    c = Comparisons.from_pairs(left, right, outcome, items=n, weights=weights)
    seen = survey(c, ties)
    winner, loser, _ = win_edges(c, ties)
    strong, group = strong_components(n, winner, loser), connected(n, winner, loser)
    assert np.array_equal(seen.connected, group)
    assert np.array_equal(seen.strong[:, None] == seen.strong, strong[:, None] == strong)
    between = strong[winner] != strong[loser]
    ends = {(strong[a], strong[b]) for a, b in zip(winner[between], loser[between], strict=True)}
    assert {(strong[a], strong[b]) for a, b in zip(seen.winner, seen.loser, strict=True)} == ends
    assert (seen.strong[seen.winner] > seen.strong[seen.loser]).all()
    assert np.array_equal(seen.won, np.bincount(winner, minlength=n) > 0)
    assert np.array_equal(seen.lost, np.bincount(loser, minlength=n) > 0)
    weight = np.ones(left.size) if weights is None else weights
    wins = np.bincount(left, weight * (outcome == 1), n) + np.bincount(
        right, weight * (outcome == 0), n
    )
    assert np.array_equal(seen.wins, wins)
    assert seen.games.sum() == 2.0 * weight.sum()
