"""What the kernels of the built module `_cuda` take, read from its machine code; no GPU is needed.

The budget is `kernel_resources.json`, written by `python tests/test_kernel_resources.py --update`
for the module that is built, with the compiler of CUDA 13.0. With `--architectures 80,100,120` the
sources are compiled for those instead, which takes minutes: warnings, local memory and too much of
shared memory are errors there as well.
"""

import importlib.util
import json
import os
import re
import shutil
import subprocess
import sys
import sysconfig
import tempfile
from pathlib import Path

import pytest

BUDGET = Path(__file__).with_name("kernel_resources.json")
SOURCES = Path(__file__).parents[1] / "csrc"
# Numbers that may not rise; local memory is what registers are spilled to, and indexed arrays.
COSTS = {
    "registers": "registers",
    "shared": "bytes of shared memory",
    "local": "bytes of local memory",
    "float64": "float64 instructions",
}
GAINS = {"wide": "loads and stores of 128 bits"}  # may not fall
ARCHITECTURE = "sm_90"  # which the budget is for; local memory is none's to use
COMPILER = "13.0"  # of CUDA, likewise

# cuobjdump and the nvdisasm that it runs: on PATH, or from NVIDIA's packages on PyPI.
PATH = os.pathsep.join(
    [os.environ.get("PATH", "")]
    + [str(folder) for folder in Path(sysconfig.get_path("purelib"), "nvidia").glob("cu*/bin")]
)
NO_TOOLS = "no cuobjdump and nvdisasm (packages nvidia-cuda-cuobjdump and nvidia-cuda-nvdisasm)"
TOOLS = shutil.which("cuobjdump", path=PATH) and shutil.which("nvdisasm", path=PATH)


def find_module():
    """Path of the built module; None without one."""
    spec = importlib.util.find_spec("softmap._cuda")
    return spec and spec.origin


def why_not():
    """Say why the budget cannot be checked; None where it can."""
    if not find_module():
        return "the module _cuda is not built"
    if not TOOLS:
        return NO_TOOLS
    nvcc = shutil.which("nvcc")
    said = nvcc and subprocess.run([nvcc, "--version"], capture_output=True, text=True).stdout
    if not said or f"release {COMPILER}," not in said:
        return f"the budget is for the nvcc of CUDA {COMPILER}"
    if not any(f"arch = {ARCHITECTURE}" in line for line in dump(find_module(), "-res-usage")):
        return f"the module is not built for {ARCHITECTURE}"
    return None


def dump(code, *options):
    """Return the lines that cuobjdump prints about a module or a cubin."""
    run = ["cuobjdump", *options, str(code)]
    environment = {**os.environ, "PATH": PATH}
    done = subprocess.run(run, check=True, capture_output=True, text=True, env=environment)
    return done.stdout.splitlines()


def readable(symbols):
    """Names of kernels, without namespaces and parameters."""
    run = subprocess.run(
        ["c++filt"], input="\n".join(symbols), check=True, capture_output=True, text=True
    )
    noise = re.compile(
        r"\((?:\w+::)*Op\)|softmap::|core::|cuda::|dense::|\(anonymous namespace\)::|^void "
    )
    names = [noise.sub("", name).split("(")[0] for name in run.stdout.splitlines()]
    return dict(zip(symbols, names, strict=True))


def usage(code):
    """Yield architecture, symbol, registers, shared and local memory of the kernels."""
    architecture, symbol = "", ""
    for line in dump(code, "-res-usage"):
        if match := re.search(r"arch = (sm_\d+)", line):
            architecture = match[1]
        elif match := re.search(r"Function (\S+):", line):
            symbol = match[1]
        elif match := re.search(r"REG:(\d+) STACK:(\d+) SHARED:(\d+) LOCAL:(\d+)", line):
            registers, stack, shared, local = map(int, match.groups())
            yield architecture, symbol, registers, shared, stack + local


def measure(code):
    """Return what each kernel takes, its local memory on any architecture."""
    kernels = {}
    for architecture, symbol, registers, shared, local in usage(code):
        of = kernels.setdefault(symbol, dict.fromkeys([*COSTS, *GAINS], 0))
        if architecture in (ARCHITECTURE, ""):  # a cubin says nothing
            of["registers"] = (registers + 7) // 8 * 8  # as they are dealt out
            of["shared"] = max(shared - 1024, 0)  # which the system takes
        of["local"] = max(of["local"], local)
    of = None
    for line in dump(code, "-sass", "-arch", ARCHITECTURE):
        if match := re.search(r"Function : (\S+)", line):
            of = kernels[match[1]]
        elif of and (match := re.match(r"\s+/\*[0-9a-f]{4,}\*/\s+(?:@!?U?P\w+ )?\s*(\S+)", line)):
            name = match[1]
            of["wide"] += name.startswith(("LDG", "STG")) and ".128" in name
            of["float64"] += bool(re.match(r"D(ADD|MUL|FMA|SETP|MNMX)|.*F64", name))
    names = readable(list(kernels))
    return {names[symbol]: kernels[symbol] for symbol in sorted(kernels, key=names.get)}


def complaints(measured, budget):
    """Return a sentence for each number that is not within the budget."""
    found = [f"{name} has no budget" for name in measured.keys() - budget.keys()]
    found += [f"{name} has a budget, but is not there" for name in budget.keys() - measured.keys()]
    for name in measured.keys() & budget.keys():
        for key, what in {**COSTS, **GAINS}.items():
            now, allowed = measured[name][key], budget[name][key]
            if now > allowed if key in COSTS else now < allowed:
                found.append(f"{name} has {now} {what}, its budget is {allowed}")
    return sorted(found)


def read_budget():
    """Return the budget of each kernel."""
    table = json.loads(BUDGET.read_text())
    return {
        name: dict(zip(table["columns"], row, strict=True))
        for name, row in table["kernels"].items()
    }


def write_budget(measured):
    """Write the budget, a line a kernel, with room for more float64 where there is some."""
    columns = [*COSTS, *GAINS]
    allowed = {k: {**v, "float64": -(-v["float64"] * 5 // 4)} for k, v in measured.items()}
    rows = [f"  {json.dumps(k)}: {[v[c] for c in columns]}" for k, v in allowed.items()]
    BUDGET.write_text(
        f'{{"columns": {json.dumps(columns)},\n "kernels": {{\n' + ",\n".join(rows) + "\n}}\n"
    )


def test_kernels_of_the_module_keep_within_their_budgets():
    if reason := why_not():
        pytest.skip(reason)
    measured = measure(find_module())
    found = complaints(measured, read_budget())
    assert not found, "\n".join(
        [*found, "Where that is meant: python tests/test_kernel_resources.py --update"]
    )
    assert [name for name, of in measured.items() if of["local"]] == [], "registers are spilled"


def compile_for(architecture, source, code):
    """Compile a file as the build does, for one architecture; return what is wrong with it."""
    run = ["nvcc", "-std=c++20", "-O3", "-DNDEBUG", "-fmad=false", "-DSOFTMAP_BACKEND=cuda"]
    run += [f"-I{SOURCES}", "-Werror", "all-warnings", "-cubin", f"-arch={architecture}"]
    done = subprocess.run([*run, "-o", code, source], capture_output=True, text=True, check=False)
    if done.returncode:
        return [done.stderr]
    kernels = list(usage(code))
    names = readable([symbol for _, symbol, *_ in kernels])
    most = {"shared memory": 48 * 1024 + 1024, "local memory": 0}
    return [
        f"{names[symbol]} has {bytes_} bytes of {kind}"
        for _, symbol, _, *memory in kernels
        for (kind, limit), bytes_ in zip(most.items(), memory, strict=True)
        if bytes_ > limit
    ]


PLANTED = """
__global__ void scale(float4* x, int k) {
  float4 v = x[threadIdx.x];
  v.x *= %s;
  x[threadIdx.x] = v;
}
"""
INDEXED = "([&] { float y[64]; for (float& z : y) z = v.x = sqrtf(v.x); return y[k]; })()"


@pytest.mark.skipif(not TOOLS, reason=NO_TOOLS)
@pytest.mark.skipif(not shutil.which("nvcc"), reason="no nvcc")
def test_what_costs_more_than_its_budget_is_found(tmp_path):
    def compiled(factor, vector="float4"):
        source, code = tmp_path / "planted.cu", tmp_path / "planted.cubin"
        text = (PLANTED % factor).replace("float4", vector)
        source.write_text(text)
        found = compile_for(ARCHITECTURE, source, code)
        assert ["local memory" in s for s in found] == [True] * (factor == INDEXED)
        return measure(code)

    budget = compiled("2.f")
    assert {**budget["scale"], "registers": 0} == {**dict.fromkeys(COSTS, 0), "wide": 2}
    assert not complaints(compiled("3.f"), budget)
    found = {
        "float64": complaints(compiled("sqrt(double(v.x))"), budget),
        "local": complaints(compiled(INDEXED), budget),
        "wide": complaints(compiled("2.f", "float3"), budget),
    }
    for key, sentences in found.items():
        assert any({**COSTS, **GAINS}[key] in s for s in sentences), (key, sentences)
    assert complaints({}, budget) == ["scale has a budget, but is not there"]
    assert complaints(budget, {}) == ["scale has no budget"]


def main_for(architectures):
    """Compile all sources for each; say what is wrong, and return whether anything is."""
    wrong = False
    with tempfile.TemporaryDirectory() as folder:
        for architecture in (f"sm_{number}" for number in architectures):
            for source in sorted((SOURCES / "cuda").glob("*.cu")):
                found = compile_for(architecture, source, Path(folder, "kernels.cubin"))
                print(f"{architecture} {source.name}:", "; ".join(found) or "fine", flush=True)
                wrong |= bool(found)
    return wrong


if __name__ == "__main__":
    if "--architectures" in sys.argv:
        sys.exit(main_for(sys.argv[sys.argv.index("--architectures") + 1].split(",")))
    if reason := why_not():
        sys.exit(reason)
    now = measure(find_module())
    if "--update" in sys.argv:
        write_budget(now)
    width = max(map(len, now))
    print(f"{'':{width}} " + " ".join(f"{c:>9}" for c in [*COSTS, *GAINS]))
    for kernel, numbers in now.items():
        print(f"{kernel:{width}} " + " ".join(f"{n:9}" for n in numbers.values()))
    print(f"{len(now)} kernels")
