"""The study of docs/compare2score.md: Compare2Score with a simulated comparator.

    SOFTMAP_DATA=folder python docs/compare2score.py

Prints the table, and writes it into the page, with the picture beside it. The folder holds
koniq10k_mos.json and csiq_mos.json; a data set that is not there is left out. The synthetic sample
always runs. Needs scipy, torch and matplotlib.
"""

import json
import math
import os
import re
import time
from pathlib import Path

import numpy as np
from scipy import stats

import softmap
from softmap.systems import compare2score

PAGE = Path(__file__).with_suffix(".md")
DATA = {"KonIQ-10k": "koniq10k_mos.json", "CSIQ": "csiq_mos.json"}
METHODS = ("Adam, 50 steps", "Adam, 100 steps", "exact")
COLUMNS = ("data", "anchors", "link", "method", "SRCC", "PLCC", "median", "worst", "images/s")
CUTS = np.array([2.0, 1.0, -1.0, -2.0])  # of the training labels, in deviations
ERROR = 0.5  # of the simulated comparator, in deviations


def read(path):
    """Opinion scores and deviations; where the deviation is 0 it is not known."""
    rows = json.loads(Path(path).read_text())
    mos, std = (np.array([float(row[key]) for row in rows]) for key in ("gt_score", "std"))
    return mos[std > 0], std[std > 0]


def synthetic(n=500, seed=0):
    """Opinions from 1 to 5 of which people are the less sure the nearer they are to the middle."""
    rng = np.random.default_rng(seed)
    mos = 1 + 4 * rng.beta(3.5, 2.5, n)
    return mos, 0.3 + 0.3 * (1 - ((mos - 3) / 2) ** 2) + rng.gamma(4, 0.02, n)


def level_logits(mos, std, first, second, rng):
    """What a comparator says of pairs of images: log-probabilities of the five levels.

    Thurstone's model: the opinions of two images differ by N(d, s^2), s^2 the sum of the variances,
    and the training labels cut d / s at 2, 1, -1 and -2. The comparator sees d / s with an error.
    """
    seen = (mos[first] - mos[second]) / np.hypot(std[first], std[second])
    seen = seen + ERROR * rng.normal(size=seen.shape)
    above = softmap.preference(seen[..., None], CUTS, link="probit")  # P(at or above a cut)
    levels = np.maximum(np.diff(above, prepend=0, append=1, axis=-1), 0)
    with np.errstate(divide="ignore"):
        return np.log(levels)


def anchor_matrix(mos, std, anchors, rng):
    """P(row beats column), each pair of anchors compared once."""
    first, second = np.meshgrid(anchors, anchors, indexing="ij")
    p = compare2score.preference(level_logits(mos, std, first, second, rng), temperature=1)
    beaten = np.tril(p.T, -1)  # P(second beats first), first < second in the list
    return beaten + np.triu(1 - beaten.T, 1) + 0.5 * np.eye(len(anchors))


def adam(tables, steps, link):
    """The official loop: Adam, rate 0.1, float32, from uniform random scores; 0 to 100."""
    import torch

    cdf = torch.sigmoid if link == "logit" else torch.special.ndtr
    c = torch.from_numpy(tables.astype(np.float32))
    start = torch.rand(c.shape[-1], generator=torch.Generator().manual_seed(0))
    s = start.expand(c.shape[:-1]).clone().requires_grad_()
    optimizer = torch.optim.Adam([s], lr=0.1)
    for _ in range(steps):
        optimizer.zero_grad()
        p = cdf(s[..., :, None] - s[..., None, :]).clamp(min=1e-6)
        loss = (s**2).sum() / 2 - (c * torch.log(p)).sum()
        loss.backward()
        optimizer.step()
    r = s.detach().numpy().astype(np.float64)
    low, high = r.min(axis=-1), r.max(axis=-1)
    return 100 * (r[..., -1] - low) / (high - low)


def per_second(call, n, seconds):
    """Images a second: the median of runs of `call`, which scores n."""
    times = []
    while len(times) < 3 or sum(times) < seconds:
        start = time.perf_counter()
        call()
        times.append(time.perf_counter() - start)
    return n / float(np.median(times))


def run(name, mos, std, n_anchors, link, methods=METHODS, seconds=0.3):
    """Rows of the table, as dicts."""
    rng = np.random.default_rng(0)
    anchors = compare2score.select_anchors(mos, std, n_intervals=n_anchors)
    matrix = anchor_matrix(mos, std, anchors, rng)
    first, second = np.meshgrid(anchors, np.arange(len(mos)))
    logits = level_logits(mos, std, first, second, rng)

    def exact(images=logits):
        return compare2score.score(images, matrix, temperature=1, link=link, n_threads=1)

    result = exact()
    tables = compare2score.comparison_matrix(
        compare2score.preference(logits, temperature=1), matrix
    )
    rows = []
    for method in methods:
        if method == "exact":
            score = result.score
            speed = per_second(exact, len(mos), seconds)
        else:
            steps = int(method.split()[1])
            score = adam(tables, steps, link)  # all images at once, the same steps for each
            speed = per_second(lambda steps=steps: adam(tables[0], steps, link), 1, seconds)
        away = abs(score - result.score)
        rows.append(
            {
                "data": name,
                "anchors": len(anchors),
                "link": link,
                "method": method,
                "SRCC": stats.spearmanr(score, mos).statistic,
                "PLCC": stats.pearsonr(score, mos).statistic,
                "median": np.median(away),
                "worst": away.max(),
                "images/s": speed,
                "outside": float(np.mean(result.outside != 0)),
                "scores": score,
                "n": len(mos),
            }
        )
    return rows


def table(rows):
    """The table of the page."""
    lines = [f"| {' | '.join(COLUMNS)} |", "|---|--:|---|---|--:|--:|--:|--:|--:|"]
    formats = {"SRCC": ".4f", "PLCC": ".4f", "median": ".2f", "worst": ".2f"}
    for row in rows:
        cells = [format(row[c], formats.get(c, "")) for c in COLUMNS[:-1]]
        digits = 1 - math.floor(math.log10(row["images/s"]))  # two of them mean something
        cells.append(f"{round(row['images/s'], digits):,.0f}")
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def picture(rows, path):
    """Agreement, distance from the maximum and speed against the number of anchors."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9.6, 3.2), layout="constrained")
    panels = figure.subplots(1, 3)
    titles = {
        "SRCC": "Agreement with people (SRCC)",
        "worst": "Worst distance from the maximum\n(points of 100)",
        "images/s": "Images scored a second, one core",
    }
    colors = dict(zip(METHODS, ("#c65b3c", "#e0a458", "#1f4e79"), strict=True))
    for ax, (column, title) in zip(panels, titles.items(), strict=True):
        for method in METHODS:
            if method == "exact" and column == "worst":
                continue
            for link, style in (("logit", "-"), ("probit", "--")):
                kept = [r for r in rows if r["method"] == method and r["link"] == link]
                x, y = [r["anchors"] for r in kept], [r[column] for r in kept]
                label = f"{method}, {link}"
                ax.plot(x, y, style, marker="o", ms=4, color=colors[method], label=label)
        ax.set_title(title, fontsize=9)
        ax.set_xlabel("anchors", fontsize=8)
        ax.set_xticks(x)
        ax.tick_params(labelsize=8)
        ax.spines[["top", "right"]].set_visible(False)
        ax.set_yscale("log" if column == "images/s" else "linear")
        if column == "worst":
            ax.set_ylim(bottom=0)
    handles, labels = panels[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=3, fontsize=8, frameon=False)
    figure.savefig(path, dpi=110)


def main():
    softmap.set_num_threads(1)
    samples = {"synthetic": synthetic()}
    folder = Path(os.environ.get("SOFTMAP_DATA", "."))
    samples |= {k: read(folder / f) for k, f in DATA.items() if (folder / f).exists()}
    rows = [
        row
        for name, (mos, std) in samples.items()
        for n_anchors in (5, 10, 20)
        for link in ("logit", "probit")
        for row in run(name, mos, std, n_anchors, link)
    ]
    text = table(rows)
    print(text)
    for row in rows:
        if row["method"] == "exact":
            print(
                row["data"], row["n"], row["anchors"], row["link"], f"outside {row['outside']:.3f}"
            )
    marked = re.compile(r"(?<=<!-- table -->\n).*?(?=<!-- end of table -->)", re.S)
    PAGE.write_text(marked.sub(lambda _: text + "\n", PAGE.read_text()))
    largest = max(samples, key=lambda name: len(samples[name][0]))
    picture([r for r in rows if r["data"] == largest], PAGE.with_suffix(".png"))


if __name__ == "__main__":
    main()
