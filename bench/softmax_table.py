"""The softmax family beside copies and other libraries: bench/softmax_table.py [words] [--out FILE]

Each line of the table is one shape; words keep the lines that contain one of them. Times are
medians on one thread, as multiples of numpy.copyto (`x copy`) and of a copy that stores past the
caches (`xNT`) of the same bytes, all measured in turns. `avx2`: that instruction set; `2`: two
threads; `fresh`: without out=. A library that is not installed is left out; onnxruntime wants the
package onnx too. With --out the medians go to a file that later runs add to.
"""

import argparse
import contextlib
import datetime
import functools
import importlib
import importlib.metadata
import json
import os
import platform
import time

import ml_dtypes
import numpy as np
import scipy.special

import softmap
from rivals import installed
from softmap import _backend

SOFTMAX, LOG, LSE = softmap.softmax, softmap.log_softmax, softmap.logsumexp
TWO_AXES = [
    (SOFTMAX, (1, 1 << 26), -1, "float32"),
    (SOFTMAX, (1, 1 << 24), -1, "float32"),
    (SOFTMAX, (1, 1 << 20), -1, "float32"),
    (SOFTMAX, (64, 128_256), -1, "float32"),
    (SOFTMAX, (1024, 32_000), -1, "float32"),
    (SOFTMAX, (4096, 1024), -1, "float32"),
    (SOFTMAX, (100_000, 128), -1, "float32"),
    (SOFTMAX, (1_000_000, 5), -1, "float32"),
    (SOFTMAX, (1_000_000, 2), -1, "float32"),
    (SOFTMAX, (500_000, 20), -1, "float32"),
    (SOFTMAX, (1024, 4096), 0, "float32"),
    (LOG, (1024, 4096), 0, "float32"),
    (LSE, (1024, 4096), 0, "float32"),
    (SOFTMAX, (1024, 1024), -1, "float32"),
    (SOFTMAX, (64, 1024), -1, "float32"),
    (LSE, (64, 128_256), -1, "float32"),
    (LSE, (1, 1 << 24), -1, "float32"),
    (LSE, (1_000_000, 5), -1, "float32"),
    (LOG, (64, 128_256), -1, "float32"),
    (LOG, (1_000_000, 5), -1, "float32"),
    (SOFTMAX, (64, 128_256), -1, "float64"),
    (SOFTMAX, (1_000_000, 5), -1, "float64"),
    (SOFTMAX, (64, 128_256), -1, "bfloat16"),
    (SOFTMAX, (4096, 1024), -1, "bfloat16"),
    (SOFTMAX, (1_000_000, 5), -1, "bfloat16"),
    (SOFTMAX, (64, 128_256), -1, "float16"),
]
# Rows that might take a slower way, beside the ordinary one.
WORST = ["ordinary", "ascending", "all equal", "half -inf", "denormal results"]


def dtype_of(name):
    return np.dtype(ml_dtypes.bfloat16 if name == "bfloat16" else name)


def make(kind, shape, axis, dtype):
    rng = np.random.default_rng(0)
    x = rng.normal(0, 3, shape)
    if kind == "ascending":
        x = np.sort(x * 20, axis=axis)
    elif kind == "all equal":
        x[...] = 1.5
    elif kind == "half -inf":
        x[rng.random(shape) < 0.5] = -np.inf
    elif kind == "denormal results":
        x = np.where(rng.random(shape) < 0.01, 0, -rng.uniform(88, 103, shape))
    return x.astype(dtype)


def on_isa(isa, function, *args, **options):
    """The function on the module of another instruction set."""
    chosen = _backend.cpu
    module = importlib.import_module(f"softmap._cpu_{isa}")
    _backend.cpu = lambda isa=None: module
    try:
        return function(*args, **options)
    finally:
        _backend.cpu = chosen


def ours(function, x, axis, out):
    options = {} if function is LSE else {"out": out}
    calls = {
        "copy": lambda: np.copyto(out, x),
        "nt": lambda: _backend.cpu().special("copy_past_caches", as_float(x), as_float(out)),
        "softmap": lambda: function(x, axis=axis, **options),
        "2": lambda: function(x, axis=axis, n_threads=2, **options),
    }
    if "avx2" in _backend.built():
        calls["avx2"] = lambda: on_isa("avx2", function, x, axis=axis, **options)
    if function is not LSE:
        calls["fresh"] = lambda: function(x, axis=axis)
    return calls


def as_float(x):
    return x.reshape(-1).view(np.float32)


def peers(function, x, axis):
    """By library; where it has an out=, with that."""
    name, calls = function.__name__, {}
    if x.dtype != dtype_of("bfloat16"):
        plain = getattr(scipy.special, name)
        calls["scipy"] = lambda: plain(x, axis=axis)
    if name == "softmax" and x.dtype.kind == "f" and x.itemsize > 2:

        def numpy_softmax():
            e = np.exp(x - x.max(axis=axis, keepdims=True))
            e /= e.sum(axis=axis, keepdims=True)
            return e

        calls["numpy"] = numpy_softmax
    if torch := installed("torch"):
        torch.set_num_threads(1)
        half = x.dtype == dtype_of("bfloat16")
        t = torch.from_numpy(x.view(np.int16)).view(torch.bfloat16) if half else torch.from_numpy(x)
        given = getattr(torch, name)
        if function is LSE:
            calls["torch"] = lambda: given(t, axis)
        else:
            result = torch.empty_like(t)
            calls["torch"] = lambda: given(t, axis, out=result)
    if (call := onnx_call(name, x, axis)) is not None:
        calls["onnxruntime"] = call
    if jax := installed("jax"):
        jax.config.update("jax_enable_x64", True)
        compiled = jax.jit(
            functools.partial(
                {"softmax": jax.nn.softmax, "log_softmax": jax.nn.log_softmax}.get(
                    name, jax.nn.logsumexp
                ),
                axis=axis,
            )
        )
        j = jax.numpy.asarray(x)
        calls["jax"] = lambda: compiled(j).block_until_ready()
    return calls


def onnx_call(name, x, axis):
    """A session over memory that exists, or None where onnxruntime has no such kernel."""
    onnx, ort = installed("onnx"), installed("onnxruntime")
    if not onnx or not ort or name == "logsumexp" or x.dtype == dtype_of("bfloat16"):
        return None
    element = onnx.helper.np_dtype_to_tensor_dtype(x.dtype)
    operation = {"softmax": "Softmax", "log_softmax": "LogSoftmax"}[name]
    ends = [onnx.helper.make_tensor_value_info(k, element, x.shape) for k in ("x", "y")]
    node = onnx.helper.make_node(operation, ["x"], ["y"], axis=axis)
    model = onnx.helper.make_model(
        onnx.helper.make_graph([node], "g", ends[:1], ends[1:]),
        opset_imports=[onnx.helper.make_opsetid("", 13)],
        ir_version=8,
    )
    options = ort.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    try:
        session = ort.InferenceSession(
            model.SerializeToString(), options, providers=["CPUExecutionProvider"]
        )
    except Exception:  # whatever onnxruntime raises for a dtype that has no kernel
        return None
    binding, y = session.io_binding(), np.empty_like(x)
    binding.bind_cpu_input("x", x)
    binding.bind_output("y", "cpu", 0, x.dtype, x.shape, y.ctypes.data)

    def call():
        session.run_with_iobinding(binding)
        return x, y  # which the binding does not keep alive

    return call


def medians(calls, rounds, repeats):
    """Seconds a call, everybody in turns; slow ones less often."""
    times = {who: [] for who in calls}
    slow = set()
    for r in range(rounds + 1):
        for who, call in calls.items():
            if who in slow and len(times[who]) >= 3:
                continue
            n = 1 if who in slow else repeats
            if repeats > 1:
                call()  # in cache
            start = time.perf_counter()
            for _ in range(n):
                call()
            spent = (time.perf_counter() - start) / n
            if spent > 0.05 and who not in ("copy", "nt"):
                slow.add(who)
            if r > 0:  # the first round warms up
                times[who].append(spent)
    return {who: float(np.median(t)) for who, t in times.items()}


def line(label, seconds, lines_of_memory):
    copy, nt = seconds["copy"], seconds["nt"]
    row = f"{label:42} {seconds['softmap'] / copy:6.2f} {seconds['softmap'] / nt:6.2f}"
    row += f" {seconds['softmap'] / lines_of_memory * 1e9:6.2f}"
    for who in ("avx2", "2", "fresh"):
        row += f" {seconds[who] / copy:6.2f}" if who in seconds else f" {'-':>6}"
    mine = {"copy", "nt", "softmap", "avx2", "2", "fresh"}
    rest = sorted((t, who) for who, t in seconds.items() if who not in mine)
    return row + "  " + ", ".join(f"{who} {t / copy:.2f}" for t, who in rest)


def save(path, rows):
    found = {"benchmarks": []}
    with contextlib.suppress(FileNotFoundError), open(path) as file:
        found = json.load(file)
    names = ["numpy", "scipy", "torch", "onnxruntime", "jax"]
    versions = {}
    for name in names:
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            versions[name] = importlib.metadata.version(name)
    kept = [b for b in found["benchmarks"] if b["group"] not in {g for g, _, _ in rows}]
    for group, seconds, memory in rows:
        for who, median in seconds.items():
            info = {"who": who, "bytes": memory}
            stats = {"median": median}
            kept.append(
                {
                    "group": group,
                    "name": f"softmax_table[{group}-{who}]",
                    "extra_info": info,
                    "stats": stats,
                }
            )
    machine = {"cpu": os.environ.get("BENCH_CPU", platform.processor() or platform.machine())}
    found = {
        "date": datetime.date.today().isoformat(),
        "machine_info": machine,
        "versions": versions,
        "benchmarks": kept,
    }
    with open(path, "w") as file:
        json.dump(found, file, indent=1)
        file.write("\n")


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("words", nargs="*")
    parser.add_argument("--out")
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--no-peers", action="store_true")
    given = parser.parse_args()
    softmap.set_num_threads(1)
    cases = [(f, s, a, d, "ordinary") for f, s, a, d in TWO_AXES]
    cases += [(SOFTMAX, (64, 128_256), -1, "float32", kind) for kind in WORST[1:]]
    cases += [(SOFTMAX, (1_000_000, 5), -1, "float32", kind) for kind in WORST[1:]]
    rows = []
    print(f"{'':42} x copy    xNT ns/line  avx2      2  fresh  others, x copy")
    for function, shape, axis, dtype, kind in cases:
        label = f"{function.__name__} {shape[0]} x {shape[1]} {dtype}"
        label += (" axis 0" if axis == 0 else "") + ("" if kind == "ordinary" else f", {kind}")
        if given.words and not any(word in label for word in given.words):
            continue
        x = make(kind, shape, axis, dtype_of(dtype))
        calls = ours(function, x, axis, np.zeros_like(x))
        if kind == "ordinary" and not given.no_peers:
            calls |= peers(function, x, axis)
        hot = x.nbytes <= 1 << 22 and x.shape[0] > 1
        seconds = medians(calls, given.rounds, max(1, (1 << 24) // x.nbytes) if hot else 1)
        rows.append((label, seconds, 2 * x.nbytes))
        print(line(label, seconds, x.nbytes / 64), flush=True)
    if given.out:
        save(given.out, rows)


if __name__ == "__main__":
    main()
