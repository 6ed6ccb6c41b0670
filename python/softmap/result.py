"""Labelled results of a fit."""

# budget: over 400 lines, one class, half of it docstrings

from __future__ import annotations

import dataclasses
import functools
import math
from collections.abc import Hashable
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from softmap._backend import cpu
from softmap._check import plural
from softmap._columns import Floats, Ints
from softmap.comparisons import Comparisons
from softmap.diagnostics import Diagnostics, listed
from softmap.errors import optional
from softmap.outcomes import parameter

if TYPE_CHECKING:
    from softmap.bootstrap import Bootstrap

# Elo's units: 400 points are odds of 10 : 1; in his original normal model performances have a
# standard deviation of 200, so a difference of two has 200 sqrt(2) (A. E. Elo, The Rating of
# Chessplayers, 1978)
_ELO = {"logit": 400.0 / math.log(10.0), "probit": 200.0 * math.sqrt(2.0)}
_MOST_DENSE = 5000  # items of a covariance that is asked for
_MODEL = {"logit": "Bradley-Terry", "probit": "Thurstone"}
_TIES = {
    "davidson": "ties by Davidson, nu",
    "rao-kupper": "ties by Rao and Kupper, theta",
    "threshold": "ties within a threshold, eps",
}


@dataclasses.dataclass(frozen=True)
class Estimate:
    """A number and its standard error.

    Attributes
    ----------
    value : float
        The number.
    standard_error : float
        Its standard error; 0 where the number was given, not estimated.
    """

    value: float
    standard_error: float


@dataclasses.dataclass(frozen=True)
class Contrast:
    """The difference of two scores a - b, its error and interval, and the probabilities that a
    wins, ties and loses; `probability` is that of a win plus half that of a tie.
    """

    difference: float
    standard_error: float
    low: float
    high: float
    probability: float
    win: float
    tie: float
    loss: float


@dataclasses.dataclass(frozen=True, eq=False, repr=False)
class Fit:
    """Scores of n items with their errors, as `softmap.fit` returns them.

    Arrays have one entry per item in the order of `items`. Scores are on the scale of the link
    (natural-log odds for logit, standard deviations of a difference for probit) until `rescale`.

    Attributes
    ----------
    items : tuple of n labels
    scores : (n,)
        MAP or maximum likelihood scores; their mean is `prior_mean` (0 for maximum likelihood).
    standard_errors, low, high : (n,)
        Of centred scores (of differences to the anchor after `rescale(anchor=...)`), and the
        interval at `level`.
    rank : (n,)
        1 + the number of items with a higher score.
    rank_low, rank_high : (n,)
        Best and worst rank that the data leave open: 1 + the number of items, and n - the number
        of items, whose difference to this item has an interval at `level` wholly above, and wholly
        below, zero. Each pair is judged by itself (no correction for the number of pairs), with
        the variance of the difference from `covariance`.
    games, wins, n_ties, win_rate : (n,)
        Comparisons of the item (sums of weights), those won, those tied, and (wins + n_ties / 2) /
        games. With ties="drop" win_rate leaves ties out. NaN without games.
    link, ties, prior_sd, prior_mean, level, errors
        As given to `fit`; the prior stays in units of the link.
    log_likelihood : float
        Without the prior and without binomial constants.
    first_advantage : Estimate or None
        None where it was fixed at 0.
    tie_strength : Estimate or None
        nu, theta or eps of the tie model, None without one; not rescaled. Its error is 0 where it
        was given, and NaN where nothing tied.
    converged : bool
    n_iter : int
        Newton steps.
    gradient_max : float
        Largest derivative of the objective, each divided by max(1, weight that touches it).
    diagnostics : Diagnostics
    covariance : (n, n) or None
        Of the scores, centred or anchored like `standard_errors`. None beyond 2,000 items, see
        `full_covariance`.
    error_uncertainty : float
        Typical relative error of `standard_errors`, where they are estimates (beyond 2,000 items).
    n_comparisons : int or float
        Number, or sum of weights, of all comparisons.
    scale : float
        Units of `scores` per unit of the link: 1 until `rescale`.
    unit : str
        Name of that unit: "logits", "probits" or "Elo".
    anchors : tuple of (item, score)
        Those that were given to `fit`, in units of the link.
    center, anchor
        As given to `rescale`; None before.
    comparisons : Comparisons or None
        The data, which `bootstrap` needs; None after `from_json`.
    """

    items: tuple[Hashable, ...]
    scores: Floats
    standard_errors: Floats
    low: Floats
    high: Floats
    rank: Ints
    rank_low: Ints
    rank_high: Ints
    games: NDArray[Any]
    wins: NDArray[Any]
    n_ties: NDArray[Any]
    win_rate: Floats
    link: str
    ties: str
    prior_sd: float
    prior_mean: float
    level: float
    log_likelihood: float
    first_advantage: Estimate | None
    tie_strength: Estimate | None
    converged: bool
    n_iter: int
    gradient_max: float
    diagnostics: Diagnostics
    errors: str
    covariance: Floats | None
    n_comparisons: int | float
    scale: float = 1.0
    unit: str = "logits"
    anchors: tuple[tuple[Hashable, float], ...] = ()
    center: float | None = None
    anchor: Hashable | None = None
    comparisons: Comparisons | None = None
    error_uncertainty: float = 0.0

    def __post_init__(self) -> None:
        for field in dataclasses.fields(self):
            if isinstance(array := getattr(self, field.name), np.ndarray):
                array.flags.writeable = False

    def __reduce__(self) -> tuple[type[Fit], tuple[Any, ...]]:
        return type(self), tuple(getattr(self, field.name) for field in dataclasses.fields(self))

    def __repr__(self) -> str:
        n, games = plural(len(self.items), "item"), plural(self.n_comparisons, "comparison")
        return f"Fit({n}, {self.link}, {games})"

    def __str__(self) -> str:
        return self.summary()

    def summary(self, min_games: float = 0) -> str:
        """Return the leaderboard as text: what was fitted, one line per item, what to beware of.

        Items with fewer comparisons than `min_games` are left out; the ranks stay those among all.
        Scores have as many digits as leave two to the typical standard error.
        """
        prior = "maximum likelihood"
        if math.isfinite(self.prior_sd):
            prior = f"MAP, prior N({self.prior_mean:g}, {self.prior_sd:g}^2)"
        n, games = plural(len(self.items), "item"), plural(self.n_comparisons, "comparison")
        lines = [
            f"{_MODEL[self.link]}, {prior}, {self.unit}   {n}, {games}",
            f"{'converged' if self.converged else 'NOT converged'} in "
            f"{plural(self.n_iter, 'Newton step')} "
            f"(gradient {self.gradient_max:.1e}), log-likelihood {self.log_likelihood:.3f}, "
            f"{'no' if self.errors == 'none' else self.errors} errors",
        ]
        if self.first_advantage is not None:
            value, error = dataclasses.astuple(self.first_advantage)
            digits = decimals(np.array([error]))
            given = "given" if error == 0.0 else f"standard error {error:.{digits}f}"
            lines.append(f"advantage of the first position {value:.{digits}f} ({given})")
        if self.tie_strength is not None:
            value, error = dataclasses.astuple(self.tie_strength)
            digits = decimals(np.array([error]))
            given = "given" if error == 0.0 else f"standard error {error:.{digits}f}"
            given = "no ties" if math.isnan(error) else given
            lines.append(f"{_TIES[self.ties]} {value:.{digits}f} ({given})")
        lines += ["", *aligned(self.table(min_games))]
        if self.diagnostics.findings:
            lines += ["", *(f"! {sentence}" for sentence in self.diagnostics.sentences())]
        return "\n".join(lines)

    def table(self, min_games: float = 0) -> list[list[str]]:
        """Return the cells of `summary` as text, first row the header, best item first."""
        digits = decimals(self.standard_errors)
        interval = f"{100 * self.level:g}% interval"
        rows = [["rank", "item", "score", interval, "ranks", "games", "win%"]]
        columns = (self.scores, self.low, self.high)
        shown = [[f"{x:.{digits}f}" for x in column] for column in columns]
        width = max(len(text) for column in shown[1:] for text in column)
        order = np.argsort(-self.scores, kind="stable")
        for k in order[self.games[order] >= min_games]:
            interval = f"[{shown[1][k]:>{width}}, {shown[2][k]:>{width}}]"
            ranks = f"{self.rank_low[k]}-{self.rank_high[k]}"
            if self.errors == "none":
                interval = ranks = "-"
            rate = "-" if math.isnan(self.win_rate[k]) else f"{100 * self.win_rate[k]:.1f}"
            cells = [shown[0][k], interval, ranks, f"{self.games[k]:.10g}", rate]
            rows.append([str(self.rank[k]), str(self.items[k]), *cells])
        return rows

    def probability(self, a: Hashable, b: Hashable) -> float:
        """Return the probability that `a` beats `b` (a tie counted as half), no one being first.

        Raises ValueError where `a` or `b` is not an item.
        """
        difference = self.scores[self._index("probability", "a", a)]
        difference = difference - self.scores[self._index("probability", "b", b)]
        return float(self.expected_rates(np.array([difference / self.scale]))[0])

    def probability_matrix(self) -> Floats:
        """Return (n, n): the probability that the row's item beats the column's, none first."""
        difference = (self.scores[:, None] - self.scores) / self.scale
        return self.expected_rates(difference.ravel()).reshape(difference.shape)

    def expected_rates(self, difference: Floats) -> Floats:
        """Return P(win) + P(tie) / 2 at differences of scores in units of the link."""
        p = self._shares(difference)
        return p.win + 0.5 * p.tie

    def _shares(self, difference: Floats) -> Shares:
        """Return win, loss and tie at differences in units of the link."""
        if self.tie_strength is None:
            return expected_shares(difference, self.link)
        t = parameter("Fit", self.ties, self.tie_strength.value)
        return expected_shares(difference, self.link, self.ties, t)

    def compare(self, a: Hashable, b: Hashable) -> Contrast:
        """Return score of `a` - score of `b`, its error, and the probability that `a` beats `b`.

        Raises ValueError where `a` or `b` is not an item.
        """
        i, j = self._index("compare", "a", a), self._index("compare", "b", b)
        v = self._known_covariance("compare")
        difference = float(self.scores[i] - self.scores[j])
        error = math.sqrt(max(0.0, float(v[i, i] + v[j, j] - 2.0 * v[i, j])))
        margin = normal_quantile(self.level) * error
        p = self._shares(np.array([difference / self.scale]))
        win, loss, tie = (float(x[0]) for x in p)
        return Contrast(
            difference,
            error,
            difference - margin,
            difference + margin,
            win + 0.5 * tie,
            win,
            tie,
            loss,
        )

    def rescale(
        self, to: str = "elo", *, anchor: Hashable | None = None, center: float = 1000.0
    ) -> Fit:
        """Return the same fit in other units.

        Parameters
        ----------
        to : "elo"
            400 points are odds of 10 to 1 with the logit link; with probit a difference has a
            standard deviation of 200 sqrt(2) points.
        anchor : item, optional
            The item whose score becomes `center`; standard errors are then those of differences to
            it. Without it the mean score becomes `center`.
        center : float, default 1000

        Raises
        ------
        ValueError
            An unknown `to`, an anchor that is not an item, a center that is not finite.
        """
        if to != "elo":
            raise ValueError(f"Fit.rescale: to = {to!r}, it must be elo")
        if not math.isfinite(center):
            raise ValueError(f"Fit.rescale: center = {center}, it must be finite")
        factor = _ELO[self.link] / self.scale
        weight = self._reference(anchor)
        scores = center + factor * (self.scores - weight @ self.scores)
        v, error = self.covariance, factor * self.standard_errors
        if v is not None or anchor is not None:
            v = self._known_covariance("rescale")
            v = v - v @ weight - (v @ weight)[:, None] + weight @ v @ weight
            v = factor * factor * (v + v.T) / 2.0
            error = np.sqrt(np.maximum(np.diag(v), 0.0))
        margin = normal_quantile(self.level) * error
        advantage = self.first_advantage
        if advantage is not None:
            advantage = Estimate(factor * advantage.value, factor * advantage.standard_error)
        return dataclasses.replace(
            self,
            scores=scores,
            standard_errors=error,
            low=scores - margin,
            high=scores + margin,
            first_advantage=advantage,
            covariance=v,
            scale=_ELO[self.link],
            unit="Elo",
            center=float(center),
            anchor=anchor,
        )

    def plot(self, kind: str = "forest", *, ax: Any = None, most: int = 60) -> Any:
        """Draw the fit and return the Matplotlib axes, `plot().figure.savefig("scores.png")`.

        Parameters
        ----------
        kind : "forest", "matrix" or "calibration", default "forest"
            Scores with intervals, and the ranks that the data leave open; the probability that each
            item beats each other one; predicted against observed win rates, in ten bins.
        ax : matplotlib axes, optional
            Where to draw; a new figure by default.
        most : int, default 60
            How many items are drawn, the best ones.
        """
        from softmap import plot

        return plot.draw(self, kind, ax, most)

    def _reference(self, anchor: Hashable | None) -> Floats:
        """Return the weights of the items in the score that becomes the center."""
        if anchor is None:
            return np.full(len(self.items), 1.0 / len(self.items))
        weight = np.zeros(len(self.items))
        weight[self._index("rescale", "anchor", anchor)] = 1.0
        return weight

    def bootstrap(self, n: int = 1000, *, by: str = "row", rng: Any = None) -> Bootstrap:
        """Fit resampled data sets: how much scores and ranks vary without any formula.

        Each data set is as large as the given one, drawn from it with replacement. Where all
        weights are one its counts are drawn, exactly as if rows were: the time does not depend on
        their number. Scores are within 1e-8 of the maximum. One seed gives one result, for any
        number of threads.

        Parameters
        ----------
        n : int, default 1000
        by : "row" or "cluster", default "row"
            What is drawn. Weighted rows and probabilities need rows that were kept.
        rng : int or numpy.random.Generator, optional
            Seed or generator; fresh entropy by default.

        Raises
        ------
        ValueError
            No data (after `from_json`), an option out of its range, clusters or rows that are not
            there, or not two data sets with a maximum.

        Examples
        --------
        >>> import softmap
        >>> fit = softmap.fit(softmap.Comparisons.from_matrix([[0, 70], [30, 0]]))
        >>> resampled = fit.bootstrap(500, rng=1)
        >>> print(fit.standard_errors.round(1), resampled.standard_errors.round(1))
        [0.1 0.1] [0.1 0.1]
        """
        from softmap import bootstrap

        if self.comparisons is None:
            raise ValueError("Fit.bootstrap: this fit has no comparisons, it came from JSON")
        fixed, strength = self.fixed_parameters()
        scores = bootstrap.bootstrap(
            self.comparisons,
            self.prior_mean + (self.scores - self.scores.mean()) / self.scale,
            link=self.link,
            ties=self.ties,
            advantage=fixed,
            tie_strength=strength,
            prior_sd=self.prior_sd,
            prior_mean=self.prior_mean,
            anchors=dict(self.anchors),
            n=n,
            by=by,
            rng=rng,
        )
        if self.center is not None:
            reference = scores @ self._reference(self.anchor)
            scores = self.center + self.scale * (scores - reference[:, None])
        return bootstrap.summarise(self.items, scores, self.level)

    def columns(self, min_games: float = 0) -> dict[str, list[Any]]:
        """Return the leaderboard in full precision, best item first, as `to_frame` has it."""
        arrays = {
            "rank": self.rank,
            "score": self.scores,
            "standard_error": self.standard_errors,
            "low": self.low,
            "high": self.high,
            "rank_low": self.rank_low,
            "rank_high": self.rank_high,
            "games": self.games,
            "wins": self.wins,
            "ties": self.n_ties,
            "win_rate": self.win_rate,
        }
        order = np.argsort(-self.scores, kind="stable")
        order = order[self.games[order] >= min_games]
        table = {name: array[order].tolist() for name, array in arrays.items()}
        return {"rank": table.pop("rank"), "item": [self.items[k] for k in order], **table}

    def to_frame(self, min_games: float = 0, *, library: str = "pandas") -> Any:
        """Return the leaderboard as a data frame, best item first.

        Parameters
        ----------
        min_games : number, default 0
            Items with fewer comparisons are left out; the ranks stay those among all.
        library : "pandas" or "polars", default "pandas"
        """
        if library not in ("pandas", "polars"):
            raise ValueError(f"Fit.to_frame: library = {library!r}, it must be pandas or polars")
        module = optional("Fit.to_frame", library, library)
        return module.DataFrame(self.columns(min_games))

    def to_json(self) -> str:
        """Return everything but the comparisons as JSON, which `from_json` reads.

        Items must be str, int, float, bool or tuples of these. NaN is null, infinity "inf".
        """
        from softmap import exchange

        return exchange.fit_to_json(self)

    @classmethod
    def from_json(cls, text: str) -> Fit:
        """Return the fit that `to_json` wrote; ValueError for other text."""
        from softmap import exchange

        return exchange.fit_from_json(text)

    def full_covariance(self) -> Floats:
        """Return the covariance (n, n) of the scores: `covariance`, or beyond 2,000 items, where
        that is None, from a dense matrix, to 5,000 items and in seconds.

        Raises ValueError where there are more items, no errors, no data (after `from_json`), or
        where the fit was rescaled without it.
        """
        return self._known_covariance("full_covariance")

    def _known_covariance(self, method: str) -> Floats:
        if self.covariance is not None:
            return self.covariance
        if (n := len(self.items)) > _MOST_DENSE:
            raise ValueError(f"Fit.{method}: no covariance of {n} items, at most {_MOST_DENSE}")
        if self.comparisons is None or self.errors == "none" or self.center is not None:
            why = "errors='none'" if self.errors == "none" else "it was not made by fit"
            raise ValueError(f"Fit.{method}: this fit has no covariance ({why})")
        return self._covariance

    @functools.cached_property
    def _covariance(self) -> Floats:
        from softmap.fit import full_covariance

        assert self.comparisons is not None
        return full_covariance(self, self.comparisons)

    def fixed_parameters(self) -> tuple[float | None, float | None]:
        """Return the first advantage, in units of the link, and the strength of ties, each None
        where it was estimated.
        """
        advantage, tie = self.first_advantage, self.tie_strength
        fixed: float | None = 0.0
        if advantage is not None:
            fixed = advantage.value / self.scale if advantage.standard_error == 0.0 else None
        # Without a tie in the data the strength is that of no ties, and its error NaN.
        known = tie is not None and (tie.standard_error == 0.0 or not self.n_ties.any())
        return fixed, tie.value if tie is not None and known else None

    def _index(self, method: str, name: str, item: Hashable) -> int:
        try:
            return self.items.index(item)
        except ValueError:
            raise ValueError(
                f"Fit.{method}: {name} = {item!r} is not among the items {listed(self.items)}"
            ) from None


def normal_quantile(level: float) -> float:
    """Return the half-width of the central interval of N(0, 1) that holds the level."""
    from statistics import NormalDist  # here, because importing it takes longer than softmap

    return NormalDist().inv_cdf(0.5 + level / 2.0)


def decimals(errors: Floats) -> int:
    """Return how many decimals show two digits of the typical positive error, at most 6."""
    known = errors[np.isfinite(errors) & (errors > 0.0)]
    if known.size == 0:
        return 3
    return min(6, max(0, 1 - math.floor(math.log10(float(np.median(known))))))


class Shares(NamedTuple):
    """Probabilities of the three outcomes."""

    win: Floats
    loss: Floats
    tie: Floats


def expected_shares(
    difference: ArrayLike, link: str, model: str | None = None, tie: float | None = None
) -> Shares:
    """Return the probabilities at these differences, as exponentials of their logarithms: right in
    both tails. `model` and its parameter `tie` are those of the ties.
    """
    d = np.array(difference, dtype=np.float64, ndmin=1)
    found = np.zeros((3, d.size))
    for outcome in range(2 if model is None else 3):
        counts = np.zeros((3, d.size))
        counts[outcome] = 1.0
        out = np.empty((6, d.size))
        if model is None:
            cpu().pair_terms(d, counts[0], counts[1], link, *out[:3])
        else:
            cpu().outcome_terms(d, counts, model, tie, out)
        found[outcome] = np.exp(out[0])
    return Shares(*found)


def aligned(rows: list[list[str]]) -> list[str]:
    """Right-align the columns, the item's name (second column) to the left."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return [
        "  ".join(
            cell.ljust(width) if k == 1 else cell.rjust(width)
            for k, (cell, width) in enumerate(zip(row, widths, strict=True))
        )
        for row in rows
    ]
