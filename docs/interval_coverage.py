"""How often 95 % intervals contain the truth: prior_sd against the pairing of the comparisons.

`python docs/interval_coverage.py` repeats the study and writes the page and its picture, which
needs matplotlib. Everything is seeded.
"""

import sys
import warnings
from pathlib import Path

import numpy as np

import softmap

PRIORS = (1.0, 3.0, 10.0, float("inf"))
N_ITEMS, SPREAD = 20, 2.0
HERE = Path(__file__).parent

HEAD = """\
# Do the intervals cover?

{items} items with strengths from N(0, {spread:g}^2) in logits; hard outcomes by the Bradley-Terry
model; `fit(prior_sd=..., errors="fisher")`, 95 % intervals of centred scores; the share that
contains the truth, over all items of {repeats} data sets each (its own standard error is about
{error:.1f} points). In brackets the median standard error. `python docs/interval_coverage.py`
repeats the study.
"""
TAIL = """
![coverage](interval_coverage.svg)

A prior narrower than the spread of the strengths pulls the scores together, and the intervals miss.
Worst where opponents are matched by strength, as arenas do: there the distance of far items is a
sum of small steps, each of which the prior shrinks, and more data hardly help. `prior_sd=10`, the
default of `fit`, covers as maximum likelihood does and still gives an answer where no maximum
exists; the finding `prior_decides` names the scores that the prior moves by more than half a
standard error.
"""


def random_pairs(rng, strengths, games):
    """Opponents drawn at random."""
    first = rng.integers(0, N_ITEMS, games)
    return first, (first + rng.integers(1, N_ITEMS, games)) % N_ITEMS


def matched_pairs(rng, strengths, games):
    """Opponents of like strength: no more than three places apart."""
    order = np.argsort(strengths)
    first = rng.integers(0, N_ITEMS, games)
    second = first + rng.choice([-3, -2, -1, 1, 2, 3], games)
    inside = (second >= 0) & (second < N_ITEMS)
    return order[first[inside]], order[second[inside]]


def ladder(rng, strengths, games):
    """Each meets only the next one up and the next one down."""
    order = np.argsort(strengths)
    first = rng.integers(0, N_ITEMS - 1, games)
    return order[first], order[first + 1]


PAIRINGS = {
    "random": random_pairs,
    "matched by strength": matched_pairs,
    "ladder": ladder,
}


def coverage(pairing, prior_sd, *, games=1000, repeats=200, seed=0):
    """Return the share of intervals that contain the truth, of all items in all repetitions; the
    median standard error; and in how many repetitions there was a maximum.
    """
    inside, errors, fits = [], [], 0
    for repeat in range(repeats):
        rng = np.random.default_rng([seed, repeat])
        strengths = rng.normal(0, SPREAD, N_ITEMS)
        left, right = PAIRINGS[pairing](rng, strengths, games)
        won = rng.random(left.size) < 1 / (1 + np.exp(strengths[right] - strengths[left]))
        votes = softmap.Comparisons.from_pairs(left, right, won, items=N_ITEMS)
        try:
            fit = softmap.fit(votes, prior_sd=prior_sd, errors="fisher", on_trouble="ignore")
        except softmap.NoMaximumError:
            continue
        truth = strengths - strengths.mean()
        inside.append((fit.low <= truth) & (truth <= fit.high))
        errors.append(fit.standard_errors)
        fits += 1
    return float(np.mean(inside)), float(np.median(errors)), fits


def study(games=(300, 1000, 3000), repeats=200):
    """Return {(pairing, games, prior_sd): coverage}."""
    return {
        (pairing, number, prior): coverage(pairing, prior, games=number, repeats=repeats)
        for pairing in PAIRINGS
        for number in games
        for prior in PRIORS
    }


def page(results, repeats):
    """Return the text of docs/interval_coverage.md."""
    games = sorted({number for _, number, _ in results})
    error = 100 * (0.05 * 0.95 / repeats / 4) ** 0.5  # as if four items of a data set were apart
    head = HEAD.format(items=N_ITEMS, spread=SPREAD, repeats=repeats, error=error)
    lines = [
        head,
        "| pairing | comparisons | " + " | ".join(f"prior_sd {p:g}" for p in PRIORS) + " |",
    ]
    lines.append("|---" * (2 + len(PRIORS)) + "|")
    for pairing in PAIRINGS:
        for number in games:
            cells = []
            for prior in PRIORS:
                share, width, fits = results[pairing, number, prior]
                some = "" if fits == repeats else f", {fits} of {repeats} have a maximum"
                cells.append(f"{100 * share:.0f} % ({width:.2f}{some})")
            lines.append(f"| {pairing} | {number:,} | " + " | ".join(cells) + " |")
    return "\n".join([*lines, TAIL])


def picture(results, path):
    """Draw the coverage against the number of comparisons."""
    import matplotlib

    matplotlib.use("svg")
    matplotlib.rcParams["svg.hashsalt"] = "softmap"
    import matplotlib.pyplot as plt

    games = sorted({number for _, number, _ in results})
    figure, axes = plt.subplots(1, len(PAIRINGS), figsize=(10, 3.2), sharey=True)
    colours = ("#b2182b", "#ef8a62", "#2166ac", "#1a1a1a")
    for ax, pairing in zip(axes, PAIRINGS, strict=True):
        ax.axhline(95, color="#999999", linewidth=1, linestyle="--")
        for prior, colour in zip(PRIORS, colours, strict=True):
            shares = [100 * results[pairing, number, prior][0] for number in games]
            style = "o:" if prior == float("inf") else "o-"
            ax.plot(games, shares, style, color=colour, markersize=4, label=f"prior_sd {prior:g}")
        ax.set_xscale("log")
        ax.set_xticks(games, [f"{number:,}" for number in games])
        ax.minorticks_off()
        ax.set_title(pairing, loc="left", fontsize="medium")
        ax.set_xlabel("comparisons")
        ax.set_ylim(0, 103)
        ax.grid(axis="y", color="#e3e3e3", linewidth=0.8)
        ax.spines[:].set_visible(False)
        ax.tick_params(length=0)
    axes[0].set_ylabel("intervals that contain the truth, %")
    axes[0].legend(frameon=False, fontsize="small", loc="lower left")
    figure.tight_layout()
    figure.savefig(path, metadata={"Date": None})


if __name__ == "__main__":
    number = int(sys.argv[1]) if len(sys.argv) > 1 else 500
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        found = study(repeats=number)
    (HERE / "interval_coverage.md").write_text(page(found, number))
    picture(found, HERE / "interval_coverage.svg")
