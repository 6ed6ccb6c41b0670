"""Print the results of bench/gpu as one compact table: python bench/gpu_table.py FILE."""

import json
import sys


def rows(benchmarks):
    for b in benchmarks:
        info = b["extra_info"]
        medians = dict(info["medians"])
        ours = medians.pop("softmap")
        copy = medians.pop("copy", None)
        rate = info["bytes"] / ours
        ceiling = info["ceilings"][info.get("limit", "copy")]
        reached = copy / ours if copy else rate / ceiling
        goals = [] if info.get("target") is None else [reached >= info["target"]]
        last = ""
        if "per_second" in info:
            amount, what, target = info["per_second"]
            goals += [] if target is None else [amount / ours >= target]
            last = f"{amount / ours:.3g} {what}/s"
        for name, times in info.get("at_least", {}).items():
            goals.append(medians.get(name, float("inf")) / ours >= times)
        missed = "" if not goals else "  ok" if all(goals) else "MISS"
        rivals = "  ".join(f"{name} {t / ours:.2f}x" for name, t in medians.items())
        yield (
            f"{b['group']:44.44} {ours * 1e6:9.1f} {rate / 1e12:6.2f} {rate / ceiling:6.2f} "
            f"{reached:6.2f} {missed:4} {rivals} {last}".rstrip()
        )


def main():
    with open(sys.argv[1]) as file:
        benchmarks = json.load(file)["benchmarks"]
    if not benchmarks:
        return print("no results")
    info = benchmarks[0]["extra_info"]
    print(info["gpu"], *(f"{k} {v / 1e12:.2f} TB/s" for k, v in info["ceilings"].items()), sep=", ")
    print(f"{'case':44} {'us':>9} {'TB/s':>6} {'/ceil':>6} {'/copy':>6} goal rivals, times ours")
    for row in rows(benchmarks):
        print(row)
    return None


if __name__ == "__main__":
    main()
