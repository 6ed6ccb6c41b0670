"""Print a pytest-benchmark file as a table: python bench/compare.py FILE [how cases begin]."""

import json
import sys

UNITS = ((1, "s"), (1e-3, "ms"), (1e-6, "us"))


def read(path, prefix=""):
    """Medians in seconds and further facts, as {group: {who: (median, extra)}}."""
    with open(path) as file:
        benchmarks = json.load(file)["benchmarks"]
    groups = {}
    for b in benchmarks:
        if (b["group"] or "").startswith(prefix):
            extra = b["extra_info"]
            groups.setdefault(b["group"], {})[extra["who"]] = (b["stats"]["median"], extra)
    return groups


def show_time(seconds):
    """With three digits, in s, ms or us."""
    size, unit = next((u for u in UNITS if seconds >= u[0]), UNITS[-1])
    return f"{seconds / size:.3g} {unit}"


def rows(groups):
    """One row a group: ours, then the rivals as multiples of ours."""
    for group, times in groups.items():
        ours = {who: t for who, (t, _) in times.items() if who.startswith("softmap")}
        if not ours:
            listed = ", ".join(f"{w} {show_time(t)}" for w, (t, _) in times.items())
            yield group, listed, "", "", "", ""
            continue
        best = min(ours.values())
        copy = f"{best / times['copy'][0]:.2f}" if "copy" in times else ""
        others = {w: t for w, (t, _) in times.items() if w not in ours and w != "copy"}
        shares = [(e, e["share_of_link"]) for _, e in times.values() if "share_of_link" in e]
        fits = next((e["fits"] for _, e in times.values() if "fits" in e), None)
        yield (
            group,
            ", ".join(f"{who} {show_time(t)}" for who, t in ours.items()),
            copy,
            ", ".join(
                f"{who} {t / best:.3g}x" for who, t in sorted(others.items(), key=lambda i: i[1])
            ),
            f"{fits / best:.3g}" if fits else "",
            ", ".join(f"{e['who']} {share:.2f}" for e, share in shares),
        )


def main():
    head = (
        "case",
        "softmap",
        "time / copy",
        "rivals, times softmap's best",
        "fits / s",
        "of it the link",
    )
    print("| " + " | ".join(head) + " |")
    print("|" + "---|" * len(head))
    for row in rows(read(*sys.argv[1:])):
        print("| " + " | ".join(row) + " |")


if __name__ == "__main__":
    main()
