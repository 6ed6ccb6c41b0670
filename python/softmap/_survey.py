"""What one walk over the pairs tells: sums of each item, and who is connected with whom."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
from numpy.typing import NDArray

from softmap._backend import cpu
from softmap._columns import Floats, Ints
from softmap.comparisons import Comparisons

_FOUND = ("wins", "losses", "ties", "connected", "strong", "winner", "loser")


@dataclasses.dataclass(frozen=True, eq=False)
class Survey:
    """Of each item its wins, losses and ties; the smallest item it is connected with; the number of
    its strongly connected component. Of these components, winner and loser of wins between two: any
    item stands for its component. A tie is a win of both, unless ties are dropped.
    """

    wins: NDArray[Any]
    losses: NDArray[Any]
    ties: NDArray[Any]
    connected: Ints
    strong: Ints
    winner: Ints
    loser: Ints
    dropped: bool

    @property
    def games(self) -> NDArray[Any]:
        games: NDArray[Any] = self.wins + self.losses + self.ties
        return games

    @property
    def used(self) -> Floats:
        """What an item's comparisons add up to in the objective."""
        used = self.wins + self.losses if self.dropped else self.games
        return used.astype(np.float64)

    @property
    def won(self) -> NDArray[np.bool_]:
        """Which items won, or tied where that counts."""
        return (self.wins > 0) | (self._drawn > 0)

    @property
    def lost(self) -> NDArray[np.bool_]:
        return (self.losses > 0) | (self._drawn > 0)

    @property
    def _drawn(self) -> NDArray[Any]:
        return np.zeros_like(self.ties) if self.dropped else self.ties

    @property
    def is_strong(self) -> bool:
        """Whether all items are of one strongly connected component."""
        return bool((self.strong == self.strong[0]).all())

    def groups(self) -> tuple[Ints, Ints]:
        """Return the number of the connected group of each item, and the sizes of the groups."""
        sizes = np.bincount(self.connected, minlength=self.connected.size)
        number = np.cumsum(sizes > 0) - 1
        return number[self.connected], sizes[sizes > 0]


def survey(c: Comparisons, ties: str) -> Survey:
    """Walk over the pairs, with `ties` as in `fit`."""
    dropped = ties == "drop"
    amounts = (c.wins, c.losses, c.ties)
    found = cpu().survey(len(c.items), c.left, c.right, amounts, not dropped)
    return Survey(**dict(zip(_FOUND, found, strict=True)), dropped=dropped)
