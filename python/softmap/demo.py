"""What `softmap demo` shows: two small jobs on data that come with the package."""

from __future__ import annotations

import numpy as np

import softmap
from softmap.comparisons import Comparisons
from softmap.fit import fit
from softmap.result import aligned

# American League, eastern division, 1987: home team, away team, games won by the home team, by the
# away team. A. Agresti, Categorical Data Analysis (2nd ed., Wiley 2002), section 10.6.
BASEBALL = (
    ("Milwaukee", "Detroit", 4, 3),
    ("Milwaukee", "Toronto", 4, 2),
    ("Milwaukee", "New York", 4, 3),
    ("Milwaukee", "Boston", 6, 1),
    ("Milwaukee", "Cleveland", 4, 2),
    ("Milwaukee", "Baltimore", 6, 0),
    ("Detroit", "Milwaukee", 3, 3),
    ("Detroit", "Toronto", 4, 2),
    ("Detroit", "New York", 4, 3),
    ("Detroit", "Boston", 6, 0),
    ("Detroit", "Cleveland", 6, 1),
    ("Detroit", "Baltimore", 4, 3),
    ("Toronto", "Milwaukee", 2, 5),
    ("Toronto", "Detroit", 4, 3),
    ("Toronto", "New York", 2, 4),
    ("Toronto", "Boston", 4, 3),
    ("Toronto", "Cleveland", 4, 2),
    ("Toronto", "Baltimore", 6, 0),
    ("New York", "Milwaukee", 3, 3),
    ("New York", "Detroit", 5, 1),
    ("New York", "Toronto", 2, 5),
    ("New York", "Boston", 4, 3),
    ("New York", "Cleveland", 4, 2),
    ("New York", "Baltimore", 6, 1),
    ("Boston", "Milwaukee", 5, 1),
    ("Boston", "Detroit", 2, 5),
    ("Boston", "Toronto", 3, 3),
    ("Boston", "New York", 4, 2),
    ("Boston", "Cleveland", 5, 2),
    ("Boston", "Baltimore", 6, 0),
    ("Cleveland", "Milwaukee", 2, 5),
    ("Cleveland", "Detroit", 3, 3),
    ("Cleveland", "Toronto", 3, 4),
    ("Cleveland", "New York", 4, 3),
    ("Cleveland", "Boston", 4, 2),
    ("Cleveland", "Baltimore", 2, 4),
    ("Baltimore", "Milwaukee", 2, 5),
    ("Baltimore", "Detroit", 1, 5),
    ("Baltimore", "Toronto", 1, 6),
    ("Baltimore", "New York", 2, 4),
    ("Baltimore", "Boston", 1, 6),
    ("Baltimore", "Cleveland", 3, 4),
)

# Compare2Score's published comparisons of its five anchor images: the probability that the row's
# image is better than the column's. H. Zhu et al., Adaptive Image Quality Assessment via Teaching
# Large Multimodal Model to Compare, NeurIPS 2024, official code.
ANCHORS = (
    (
        0.5,
        0.2591280937194824,
        0.00033130275551229715,
        1.6087296899058856e-06,
        1.1803027444301506e-09,
    ),
    (0.7408719062805176, 0.5, 0.2498534470796585, 0.09995415806770325, 1.8675303081749917e-08),
    (0.9996687173843384, 0.7501465678215027, 0.5, 0.4996888041496277, 0.2485283762216568),
    (0.9999983906745911, 0.9000458717346191, 0.5003111958503723, 0.5, 0.25400182604789734),
    (1.0, 1.0, 0.7514716386795044, 0.7459981441497803, 0.5),
)

# Made up for this demonstration: one row of logits per anchor, for the answers "compared with the
# anchor this image is" inferior, worse, similar, better, superior.
LEVELS = (0.0, 0.25, 0.5, 0.75, 1.0)
IMAGES = {
    "blurred street": (
        (0.1, 1.2, 1.5, 0.1, -2.9),
        (1.8, 1.9, 1.3, -1.2, -3.8),
        (2.9, 2.9, 1.1, -1.4, -5.6),
        (3.5, 2.1, 1.4, -1.6, -5.5),
        (3.0, 2.5, 1.2, -1.7, -5.1),
    ),
    "dim portrait": (
        (-3.9, -0.5, 1.1, 2.2, 1.1),
        (-2.0, 0.2, 0.8, 1.3, -0.2),
        (1.3, 1.9, 0.9, -0.7, -3.4),
        (1.5, 2.0, 1.0, -0.8, -3.8),
        (2.2, 2.2, 1.1, -0.7, -4.8),
    ),
    "flower": (
        (-5.1, -1.3, 0.9, 2.5, 2.9),
        (-4.3, -1.5, 1.4, 2.1, 2.2),
        (-2.1, 0.1, 1.3, 1.0, -0.2),
        (-1.7, 0.0, 1.5, 0.8, -0.7),
        (0.5, 1.0, 0.7, 0.3, -2.6),
    ),
    "sharp landscape": (
        (-5.1, -1.7, 1.2, 2.5, 3.0),
        (-5.7, -1.6, 1.3, 3.2, 2.8),
        (-4.3, -1.2, 1.2, 2.1, 2.2),
        (-4.6, -1.4, 1.2, 2.2, 2.7),
        (-3.4, -0.6, 1.3, 1.7, 1.0),
    ),
}


def run() -> str:
    """Return both demonstrations as text: a leaderboard of teams and scores of images."""
    return "\n\n\n".join((_leaderboard(), _image_scores()))


def baseball() -> Comparisons:
    """Return the 273 games of `BASEBALL`; the home team is on the left."""
    home, away, home_wins, away_wins = zip(*BASEBALL, strict=True)
    games = np.add(home_wins, away_wins)
    won = np.repeat(
        np.tile([True, False], len(BASEBALL)), np.ravel([home_wins, away_wins], order="F")
    )
    return Comparisons.from_pairs(np.repeat(home, games), np.repeat(away, games), won)


def _leaderboard() -> str:
    found = fit(baseball(), first_advantage="estimate")
    return (
        "1. Comparisons to a leaderboard: American League, eastern division, 1987 (Agresti)\n"
        "   The first position is the home team.\n\n" + found.summary()
    )


def _image_scores() -> str:
    logits = np.array(list(IMAGES.values()))  # (images, anchors, levels)
    better = softmap.level_scores(logits, None, LEVELS).score  # P(image is better than anchor)
    found = softmap.score_against_anchors(
        better, ANCHORS, link="logit", prior_sd=1.0, rescale=(0, 100), standard_errors=True
    )
    place = {-1: "below all anchors", 0: "", 1: "above all anchors"}
    rows = [["", "image", *(f"P > {k + 1}" for k in range(5)), "score", "error", ""]]
    for k, name in enumerate(IMAGES):
        error = found.standard_error[k]
        cells = [f"{p:.2f}" for p in better[k]]
        cells += [f"{found.score[k]:.1f}", "-" if np.isnan(error) else f"{error:.0f}"]
        rows.append(["", name, *cells, place[int(found.outside[k])]])
    table = "\n".join(line.rstrip() for line in aligned(rows))
    return (
        "2. Logits to image scores: five level logits against each of five anchor images.\n"
        "   The anchor matrix is Compare2Score's, as published; the logits are made up.\n"
        "   P > k: probability that the image is better than anchor k. Score: from 0 to 100,\n"
        "   joint MAP with prior N(0, 1). Its error is large because each of the five answers\n"
        "   counts as one comparison; outside the anchors the score saturates and has none.\n\n"
        + table
    )
