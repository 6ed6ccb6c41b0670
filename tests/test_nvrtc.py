"""The headers of the kernels compile at run time, too, by NVRTC, which needs no GPU."""

import ctypes
import glob
import os
import sysconfig
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
# Those that launch kernels are for the host.
HEADERS = [
    f.name
    for f in sorted((ROOT / "csrc" / "cuda").glob("*.cuh"))
    if "launch.cuh" not in f.name + f.read_text()
]

# What the headers take from the C++ library, of which NVRTC has nothing.
STANDARD = {
    "cmath": """
#define __builtin_huge_val() __builtin_bit_cast(double, 0x7ff0000000000000ull)
#define __builtin_nan(payload) __builtin_bit_cast(double, 0x7ff8000000000000ull)""",
    "cstring": "",
    "cstddef": "namespace std { using size_t = decltype(sizeof 0); using ptrdiff_t = long; }",
    "cstdint": """namespace std {
using int8_t = signed char; using int16_t = short; using int32_t = int; using int64_t = long;
using uint8_t = unsigned char; using uint16_t = unsigned short; using uint32_t = unsigned;
using uint64_t = unsigned long; using uintptr_t = unsigned long; }""",
    "type_traits": """#pragma once
namespace std {
template <class T> struct bare { using type = T; };
template <class T> struct bare<T&> : bare<T> {};
template <class T> struct bare<T&&> : bare<T> {};
template <class T> struct bare<const T> : bare<T> {};
template <class T> using remove_cvref_t = typename bare<T>::type;
template <class T> using remove_const_t = typename bare<T>::type;
template <class A, class B> inline constexpr bool is_same_v = false;
template <class A> inline constexpr bool is_same_v<A, A> = true;
template <bool c, class A, class B> struct choose { using type = A; };
template <class A, class B> struct choose<false, A, B> { using type = B; };
template <bool c, class A, class B> using conditional_t = typename choose<c, A, B>::type; }""",
    "utility": """#include <type_traits>
namespace std {
template <class T> T&& declval();
template <class T, T... k> struct integer_sequence {};
template <class T, int n, T... k> struct count : count<T, n - 1, n - 1, k...> {};
template <class T, T... k> struct count<T, 0, k...> { using type = integer_sequence<T, k...>; };
template <class T, T n> using make_integer_sequence = typename count<T, n>::type; }
""",
}

# A use of the solvers, which templates alone would leave unread.
KERNEL = """
namespace softmap::cuda {
template <class T, class Link>
__device__ void fit_with(Weights<T> weights, Priors priors, FitOptions options) {
  SOFTMAP_DYNAMIC_SHARED(unsigned char, memory);
  GroupSolver<T, Link> group(memory, weights.n);
  group.load(weights, priors, blockIdx.x);
  solve_ordinary<Link>(group, options, false, false);
  using Threads = ThreadSolver<T, Link, 32>;
  SOFTMAP_SHARED(typename Threads::Shared, shared, 1);
  Threads thread(shared[0], threadIdx.x, weights.n);
  thread.load(weights, priors, blockIdx.x);
  solve_ordinary<Link>(thread, options, true, true);
}
__global__ void fit(Weights<float> weights, Priors priors, FitOptions options) {
  options.probit ? fit_with<float, core::Probit>(weights, priors, options)
                 : fit_with<float, core::Logit>(weights, priors, options);
}
}
"""


def find_nvrtc():
    """Return libnvrtc, of a toolkit or of the package nvidia-cuda-nvrtc; None without one."""
    site = sysconfig.get_path("purelib")
    folders = [f"{site}/nvidia/cu*/lib", f"{site}/nvidia/cuda_nvrtc/lib", "/usr/local/cuda/lib*"]
    found = [f for folder in folders for f in glob.glob(f"{folder}/libnvrtc.so*")]
    for name in [*sorted(found), "libnvrtc.so"]:
        try:
            # It opens a library beside it by name, and finds that only where it is known already.
            for beside in glob.glob(f"{os.path.dirname(name)}/libnvrtc-builtins.so*"):
                ctypes.CDLL(beside)
            return ctypes.CDLL(name)
        except OSError:
            continue
    return None


NVRTC = find_nvrtc()


def compile_at_run_time(source, *options):
    """Return what NVRTC says, and the PTX it makes; b"" where it makes none."""
    program, size = ctypes.c_void_p(), ctypes.c_size_t()
    strings = ctypes.c_char_p * len(STANDARD)
    texts = strings(*(text.encode() for text in STANDARD.values()))
    names = strings(*(name.encode() for name in STANDARD))
    made = NVRTC.nvrtcCreateProgram(
        ctypes.byref(program), source.encode(), b"kernels.cu", len(STANDARD), texts, names
    )
    assert made == 0
    options = [option.encode() for option in options]
    failed = NVRTC.nvrtcCompileProgram(
        program, len(options), (ctypes.c_char_p * len(options))(*options)
    )
    answers = []
    for what in ("ProgramLog", "PTX"):
        getattr(NVRTC, f"nvrtcGet{what}Size")(program, ctypes.byref(size))
        text = ctypes.create_string_buffer(max(size.value, 1))
        if not (failed and what == "PTX"):
            getattr(NVRTC, f"nvrtcGet{what}")(program, text)
        answers.append(text.value)
    NVRTC.nvrtcDestroyProgram(ctypes.byref(program))
    return answers


pytestmark = pytest.mark.skipif(not NVRTC, reason="no libnvrtc (package nvidia-cuda-nvrtc)")
OPTIONS = ["-std=c++20", "-arch=compute_90", f"-I{ROOT / 'csrc'}", "-fmad=false", "-default-device"]


def assert_compiles(source):
    said, ptx = compile_at_run_time(source, *OPTIONS)
    assert not said.strip(), said.decode()  # no warning either
    assert b".version" in ptx


@pytest.mark.parametrize("header", HEADERS)
def test_header_of_kernels_compiles_at_run_time(header):
    use = KERNEL if header == "fit_groups.cuh" else ""
    assert_compiles(f'#include "cuda/{header}"\n{use}')


def test_all_of_core_compiles_at_run_time():
    assert_compiles((ROOT / "tests" / "emulator" / "all_of_core.cu").read_text())


def test_mistakes_are_found_at_run_time():
    source = '#include "cuda/fit_groups.cuh"\n' + KERNEL.replace("weights.n)", "weights.size())")
    said, ptx = compile_at_run_time(source, *OPTIONS)
    assert b'has no member "size"' in said
    assert not ptx
