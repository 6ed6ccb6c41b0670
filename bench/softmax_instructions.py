"""Instructions an element of the softmax family, a witness without noise.

    python bench/softmax_instructions.py [build folder]

Base and AVX2 by valgrind's callgrind, as the difference of a call on many and on few rows;
AVX-512, which valgrind cannot run, by the longest loops that objdump finds in the objects of a
build folder.
"""

import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

CASES = {
    "softmax, rows of 1024": ("softmax", 1024, 64),
    "softmax, rows of 128": ("softmax", 128, 512),
    "softmax, rows of 20": ("softmax", 20, 3200),
    "softmax, rows of 5": ("softmax", 5, 12_800),
    "softmax, rows of 2": ("softmax", 2, 32_000),
    "log_softmax, rows of 1024": ("log_softmax", 1024, 64),
    "log_softmax, rows of 5": ("log_softmax", 5, 12_800),
    "logsumexp, rows of 1024": ("logsumexp", 1024, 64),
    "logsumexp, rows of 5": ("logsumexp", 5, 12_800),
}
CODE = """
import numpy as np, softmap
from softmap import _backend
import softmap._cpu_{isa} as module
_backend.cpu = lambda isa=None: module
x = np.random.default_rng(0).normal(0, 3, ({rows}, {n})).astype(np.float32)
softmap.{function}(x, axis=-1, n_threads=1)
"""


def instructions(isa, function, n, rows):
    """Of the whole process, inside the module of that instruction set."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder, "out")
        code = CODE.format(isa=isa, function=function, rows=rows, n=n)
        subprocess.run(
            [
                "valgrind",
                "--tool=callgrind",
                f"--callgrind-out-file={file}",
                sys.executable,
                "-c",
                code,
            ],
            check=True,
            capture_output=True,
        )
        text = subprocess.run(
            ["callgrind_annotate", "--threshold=100", "--show-percs=no", str(file)],
            check=True,
            capture_output=True,
            text=True,
        ).stdout
    pattern = re.compile(rf"^\s*([\d,]+)\s.*_cpu_{isa}", re.MULTILINE)
    return sum(int(m.replace(",", "")) for m in pattern.findall(text))


def target(code, at):
    """Where a jump within the function goes, as the number of an instruction."""
    jump = re.match(r"j\w+\s+([0-9a-f]+)", code)
    return at.get(int(jump[1], 16)) if jump else None


def longest_loops(objects, count=12):
    """Inner loops: symbol, instructions, of them on vectors, permutes, stores past caches."""
    text = subprocess.run(
        ["objdump", "-d", "-C", "--no-show-raw-insn", *objects],
        check=True,
        capture_output=True,
        text=True,
    ).stdout
    loops = []
    for body in text.split("\n\n"):
        head = re.match(r"^[0-9a-f]+ <(.*)>:", body.lstrip())
        if not head or not re.search(r"softmax|log_sum|logsumexp|Columns", head[1]):
            continue
        lines = re.findall(r"^\s*([0-9a-f]+):\t(.*)$", body, re.MULTILINE)
        at = {int(a, 16): k for k, (a, _) in enumerate(lines)}
        for k, (_, code) in enumerate(lines):
            start = target(code, at)
            if start is None or start >= k:
                continue
            inner = [c for _, c in lines[start : k + 1]]
            exponentials = sum(
                c.startswith(("vpermd", "vpermps", "vpermt2", "vpermi2")) for c in inner
            )
            back = [target(c, at) for c in inner[:-1]]
            if exponentials == 0 or any(
                t is not None and t < start + n for n, t in enumerate(back)
            ):
                continue
            vectors = sum("mm" in c for c in inner)
            past = sum(c.startswith("vmovnt") for c in inner)
            loops.append((head[1], len(inner), vectors, exponentials, past))
    return sorted(set(loops), key=lambda loop: -loop[1])[:count]


def main():
    if not shutil.which("valgrind"):
        print("valgrind is not installed: no counts for base and AVX2")
    else:
        print(f"{'instructions an element':32}{'base':>8}{'avx2':>8}")
        for label, (function, n, rows) in CASES.items():
            counts = []
            for isa in ("base", "avx2"):
                few, many = (instructions(isa, function, n, r) for r in (rows, 3 * rows))
                counts.append((many - few) / (2 * rows * n))
            print(f"{label:32}{counts[0]:8.2f}{counts[1]:8.2f}", flush=True)
    folder = Path(sys.argv[1]) if sys.argv[1:] else None
    objects = sorted(folder.rglob("softmap_kernels_avx512.dir/**/softmax*.o")) if folder else []
    if objects and shutil.which("objdump"):
        print("\nAVX-512, inner loops: instructions (on vectors, permutes, stores past caches)")
        for symbol, total, vectors, permutes, past in longest_loops(objects):
            print(f"{total:5} ({vectors}, {permutes}, {past})  {symbol[:110]}")


if __name__ == "__main__":
    main()
