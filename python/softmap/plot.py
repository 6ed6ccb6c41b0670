"""Pictures of a fit. Matplotlib is imported when the first one is drawn; pyplot is not used."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from softmap._columns import Floats
from softmap.errors import optional

if TYPE_CHECKING:
    from softmap.result import Fit

_DARK, _LIGHT, _LINE = "#1f4e79", "#9dbbd8", "#8a8a8a"
KINDS = ("forest", "matrix", "calibration")


def draw(fit: Fit, kind: str, ax: Any, most: int) -> Any:
    """`Fit.plot`."""
    if kind not in KINDS:
        raise ValueError(f"Fit.plot: kind = {kind!r}, it must be {' or '.join(KINDS)}")
    if not (isinstance(most, int) and most >= 1):
        raise ValueError(f"Fit.plot: most = {most!r}, it must be an integer from 1")
    order = np.argsort(-fit.scores, kind="stable")[:most]
    if kind == "forest":
        return _forest(fit, ax, order)
    return _matrix(fit, ax, order) if kind == "matrix" else _calibration(fit, ax)


def _axes(ax: Any, width: float, height: float) -> Any:
    """Return the given axes, or those of a new figure."""
    figure = optional("Fit.plot", "matplotlib.figure", "'softmap[plot]'")
    if ax is not None:
        return ax
    return figure.Figure(figsize=(width, height), layout="constrained").add_subplot()


def _forest(fit: Fit, ax: Any, order: Any) -> Any:
    n = order.size
    names = [_short(fit.items[k]) for k in order]
    ax = _axes(ax, 6.0 + 0.07 * max(map(len, names)), 1.4 + 0.26 * n)
    y = np.arange(n)
    for row in y[::2]:
        ax.axhspan(row - 0.5, row + 0.5, color="#f4f6f8", linewidth=0, zorder=0)
    scores = fit.scores[order]
    known = np.isfinite(fit.low[order]) & np.isfinite(fit.high[order])
    at = order[known]
    ax.hlines(y[known], fit.low[at], fit.high[at], color=_LIGHT, linewidth=4, zorder=2)
    ax.plot(scores, y, "o", color=_DARK, markersize=5, zorder=3)
    ax.set_yticks(y, names)
    ax.set_ylim(n - 0.5, -0.5)
    ax.set_xlabel(f"score ({fit.unit}), {100 * fit.level:g} % interval")
    right = ax.secondary_yaxis("right")
    ranks = zip(fit.rank_low[order], fit.rank_high[order], strict=True)
    right.set_yticks(y, [str(a) if a == b else f"{a}\N{EN DASH}{b}" for a, b in ranks])
    ax.set_title("possible ranks", loc="right", fontsize="medium", color=_LINE, pad=8)
    _clean(ax, right)
    left_out = len(fit.items) - n
    title = f"{len(fit.items)} items, {fit.n_comparisons:,.10g} comparisons"
    ax.set_title(title + f" (the best {n})" * bool(left_out), loc="left", fontsize="medium", pad=8)
    ax.grid(axis="x", color="#e3e3e3", linewidth=0.8, zorder=1)
    return ax


def _matrix(fit: Fit, ax: Any, order: Any) -> Any:
    n = order.size
    names = [_short(fit.items[k]) for k in order]
    size = 2.2 + (0.38 if n <= 25 else 0.2) * n
    ax = _axes(ax, size + 1.2, size)
    p = fit.probability_matrix()[np.ix_(order, order)]
    np.fill_diagonal(p, np.nan)
    image = ax.imshow(p, cmap="RdBu", vmin=0.0, vmax=1.0)
    if n <= 25:
        for i, j in np.argwhere(~np.isnan(p)):
            color = "white" if abs(p[i, j] - 0.5) > 0.32 else "black"
            ax.text(j, i, _percent(p[i, j]), ha="center", va="center", fontsize=7, color=color)
    ax.set_xticks(range(n), names, rotation=60, ha="right", rotation_mode="anchor")
    ax.set_yticks(range(n), names)
    ax.tick_params(length=0)
    ax.spines[:].set_visible(False)
    if n > 25:
        ax.tick_params(labelsize=7)
    bar = ax.figure.colorbar(image, ax=ax, shrink=0.7, ticks=[0, 0.25, 0.5, 0.75, 1])
    bar.ax.set_yticklabels(["0 %", "25 %", "50 %", "75 %", "100 %"])
    bar.outline.set_visible(False)
    what = "row beats column" + ", a tie being half" * bool(fit.n_ties.any())
    ax.set_title(f"probability that {what}, in %", loc="left", fontsize="medium", pad=8)
    return ax


def _calibration(fit: Fit, ax: Any) -> Any:
    predicted, observed, low, high, weight = calibration(fit)
    ax = _axes(ax, 5.2, 4.8)
    ax.plot([0.5, 1.0], [0.5, 1.0], color=_LINE, linewidth=1, linestyle="--", zorder=1)
    ax.vlines(predicted, low, high, color=_LIGHT, linewidth=4, zorder=2)
    ax.plot(predicted, observed, "o", color=_DARK, markersize=6, zorder=3)
    bottom = min(0.5, float(low.min())) - 0.02
    ax.set_xlim(0.48, 1.02)
    ax.set_ylim(max(-0.02, bottom), 1.02)
    ax.set_xlabel("predicted win rate of the favourite")
    ax.set_ylabel(f"observed win rate, {100 * fit.level:g} % interval")
    each = f"{weight.min():.0f} to {weight.max():.0f}" if weight.size > 1 else f"{weight[0]:.0f}"
    ax.set_title(
        f"{len(fit.items)} items, {each} comparisons a point", loc="left", fontsize="medium", pad=8
    )
    ax.grid(color="#e3e3e3", linewidth=0.8, zorder=0)
    _clean(ax)
    return ax


def calibration(fit: Fit, bins: int = 10) -> tuple[Floats, Floats, Floats, Floats, Floats]:
    """Return predicted and observed win rate of the favourite, the bounds of Wilson's interval, and
    the number of comparisons, in bins of about as many comparisons each.
    """
    from softmap.result import normal_quantile

    c = fit.comparisons
    if c is None:
        raise ValueError("Fit.plot: this fit has no comparisons, it came from JSON")
    drawn = 0.0 if fit.ties == "drop" else 0.5 * c.ties
    wins, losses = c.wins + drawn, c.losses + drawn
    advantage = fit.first_advantage.value if fit.first_advantage is not None else 0.0
    d = (fit.scores[c.left] - fit.scores[c.right] + advantage) / fit.scale
    p = fit.expected_rates(d)
    won, total = np.where(p >= 0.5, wins, losses), wins + losses
    p = np.maximum(p, 1.0 - p)
    used = np.flatnonzero(total > 0.0)
    used = used[np.argsort(p[used], kind="stable")]
    p, won, total = p[used], won[used], total[used]
    # the middle of a pair's comparisons says which bin it is in
    middle = (np.cumsum(total) - 0.5 * total) / total.sum()
    _, number = np.unique(np.minimum((middle * bins).astype(int), bins - 1), return_inverse=True)
    weight = np.bincount(number, total).astype(np.float64)
    predicted, observed = (np.bincount(number, x) / weight for x in (p * total, won))
    z2 = normal_quantile(fit.level) ** 2 / weight
    centre = (observed + 0.5 * z2) / (1.0 + z2)
    half = np.sqrt(z2 * observed * (1.0 - observed) + 0.25 * z2 * z2) / (1.0 + z2)
    return predicted, observed, centre - half, centre + half, weight


def _percent(p: float) -> str:
    text = f"{100 * p:.0f}"
    return {"0": "<1", "100": ">99"}.get(text, text)


def _short(item: Any) -> str:
    text = str(item)
    return text if len(text) <= 32 else text[:31] + "\N{HORIZONTAL ELLIPSIS}"


def _clean(*axes: Any) -> None:
    for ax in axes:
        ax.spines[:].set_visible(False)
        ax.tick_params(length=0)
