"""What the profiler says of our kernels, at the sizes of the benchmarks, as one table.

cd bench/gpu
ncu $(python profile_kernels.py --options) --log-file ncu.csv python profile_kernels.py
python profile_kernels.py ncu.csv
"""

import csv
import sys

# What a kernel took, and shares of peaks: of memory, of issue slots, of resident warps.
METRICS = {
    "gpu__time_duration.sum": ("us", 1e-3),
    "dram__bytes_read.sum": ("GB read", 1e-9),
    "dram__bytes_write.sum": ("written", 1e-9),
    "gpu__dram_throughput.avg.pct_of_peak_sustained_elapsed": ("dram %", 1),
    "smsp__inst_executed.sum": ("M inst", 1e-6),
    "smsp__issue_active.avg.pct_of_peak_sustained_active": ("issue %", 1),
    "sm__warps_active.avg.pct_of_peak_sustained_active": ("warps %", 1),
    "sm__inst_executed_pipe_fp64.avg.pct_of_peak_sustained_active": ("fp64 %", 1),
    "launch__registers_per_thread": ("regs", 1),
    "smsp__average_warps_issue_stalled_long_scoreboard_per_issue_active.ratio": ("wait mem", 1),
    "smsp__average_warps_issue_stalled_barrier_per_issue_active.ratio": ("barrier", 1),
    "smsp__average_warps_issue_stalled_wait_per_issue_active.ratio": ("fixed", 1),
    "smsp__average_warps_issue_stalled_math_pipe_throttle_per_issue_active.ratio": ("pipe", 1),
}
OPTIONS = [
    *("--clock-control", "none", "--csv", "--page", "raw", "--print-units", "base"),
    *("--kernel-name-base", "demangled", "-k", "regex:softmap", "--metrics", ",".join(METRICS)),
]


def calls():
    """Calls of one kernel each, or of a few."""
    import torch

    import softmap

    def normal(*shape, dtype=torch.float32):
        return torch.randn(shape, device="cuda").mul_(4).to(dtype)

    kinds = (torch.float32, torch.bfloat16)
    shapes = [(1 << 23, 2), (1 << 22, 5), (1 << 20, 32), (1 << 18, 128), (65_536, 1024)]
    shapes += [(16_384, 4096), (8192, 16_384), (4096, 32_768), (2048, 128_256), (1, 1 << 26)]
    for shape in shapes:
        for kind in kinds:
            x = normal(*shape, dtype=kind)
            yield lambda x=x: softmap.softmax(x, -1)
    for shape in ((1 << 20, 32), (16_384, 4096), (2048, 128_256)):
        for kind in kinds:
            x = normal(*shape, dtype=kind)
            yield lambda x=x: softmap.logsumexp(x, -1)
    x = normal(8192, 128_256, dtype=torch.bfloat16)
    for mass in (False, True):
        yield lambda x=x, m=mass: softmap.level_scores(x, [7, 999, 50_000], [1.0, 2.0, 3.0], mass=m)
    for shape in ((1 << 18, 32), (512, 128_256)):
        x = normal(*shape)
        yield lambda x=x: softmap.row_filter(x, "top_p", 0.9)
        yield lambda x=x: softmap.row_root(x, "sigmoid_sum", 1.5)
    for link in ("logit", "probit"):
        s = normal(1, 16_384)
        yield lambda s=s, link=link: softmap.preference_matrix(s, link=link)
    for kind in (torch.float32, torch.float64):
        for n, count in ((6, 1 << 20), (12, 1 << 17), (16, 1 << 16), (64, 1 << 11)):
            wins = torch.randint(0, 9, (count, n, n), device="cuda").to(kind)
            tol = 1e-5 if kind == torch.float32 else 1e-10
            yield lambda w=wins, t=tol: softmap.fit_many(w, prior_sd=1.0, tol=t)
        x = torch.rand((1 << 20, 5), device="cuda", dtype=kind)
        anchors = torch.full((5, 5), 0.5, device="cuda", dtype=torch.float64)
        yield lambda x=x, a=anchors: softmap.score_against_anchors(x, a)


def table(path):
    with open(path) as file:
        lines = [line for line in file if line.startswith('"')]
    print(f"{'kernel':58}", *(f"{title:>8}" for title, _ in METRICS.values()))
    for row in csv.DictReader(lines):
        if not row["ID"]:
            continue  # the line of units
        name = (
            row["Kernel Name"].replace("softmap::cuda::", "").replace("(anonymous namespace)::", "")
        )
        name = name.replace("<unnamed>::", "").replace("softmap::core::", "").replace("void ", "")
        values = []
        for metric, (_, factor) in METRICS.items():
            text = row.get(metric, "").replace(",", "")
            values.append(f"{float(text) * factor:8.2f}" if text else f"{'-':>8}")
        print(f"{name.split('(softmap')[0][:58]:58}", *values)


def main():
    if sys.argv[1:] == ["--options"]:
        print(*OPTIONS)
    elif sys.argv[1:]:
        table(sys.argv[1])
    else:
        for call in calls():
            call()


if __name__ == "__main__":
    main()
