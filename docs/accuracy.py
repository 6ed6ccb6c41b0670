"""Write docs/accuracy.md: runs the accuracy tests and tabulates the worst error of each.

    python docs/accuracy.py

Takes some two minutes; needs an installed softmap and the dependency group `test`.
"""

import sys
import textwrap
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]

HEAD = """\
# Accuracy

Written by `python docs/accuracy.py` from a run of the accuracy tests; the bounds are those of
`tests/ops/`, which the tests enforce on every module of an installation.

The unit is the ULP: the spacing of the dtype at the exact result, which is computed with 50 digits
or more (the softmax family in float64 with 700, twice the exponent range). 0.5 is the best that a
result of the dtype can do. logsumexp, which crosses zero where the sum is 1, is measured in ULP of
at least 1 (`tests/ulp.py`: `floor`); "maximum 0" is logsumexp without that, where the largest
element is exactly 0. With a temperature T the reference is the exact function of x / T, rounded
once. float16 and bfloat16 are computed in float32 and rounded once; subnormal results are kept.

Rows: {domains}.
Widths 1 to 130, sums of up to 2^26 equal numbers (1,000 random rows a width up to 4,096), a million
elements of 61 kinds, [0, x] for each x of the half types, and the worst of 400,000 random rows a
function, dtype and module.

"""


def table(worst: dict[tuple[str, str, str], tuple[float, float]]) -> list[str]:
    """Lines of a Markdown table: a row a function and dtype, a column a module."""
    modules = [m for m in ("base", "avx2", "avx512") if any(key[2] == m for key in worst)]
    lines = [
        f"| function | dtype | bound | {' | '.join(modules)} |",
        f"|---|---|---|{'---|' * len(modules)}",
    ]
    for what, dtype in sorted({key[:2] for key in worst}):
        found = {m: worst[what, dtype, m] for m in modules if (what, dtype, m) in worst}
        if found:
            bound = max(b for _, b in found.values())
            errors = [f"{found[m][0]:.3f}" if m in found else "" for m in modules]
            lines.append(f"| {what} | {dtype} | {bound:g} | {' | '.join(errors)} |")
    return lines


def main() -> int:
    tests = ROOT / "tests"
    options = ["-q", "-p", "no:cacheprovider", "-k", "accuracy", "-m", "nightly or not nightly"]
    status = pytest.main([str(tests), "--ignore", str(tests / "test_docs.py"), *options])
    if status:
        return int(status)
    # The modules that the run itself has imported.
    from ops.softmax import DOMAINS  # type: ignore[import-not-found]
    from ulp import WORST  # type: ignore[import-not-found]

    head = HEAD.format(domains=", ".join(DOMAINS))
    lines = [part for line in head.splitlines() for part in textwrap.wrap(line, 100) or [""]]
    text = "\n".join([*lines, *table(WORST)]) + "\n"
    (ROOT / "docs" / "accuracy.md").write_text(text)
    return 0


if __name__ == "__main__":
    sys.exit(main())
