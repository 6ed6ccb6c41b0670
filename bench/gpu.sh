#!/usr/bin/env bash
# Build, test, sanitise and bench on this machine's GPU, in less than 9 minutes and in one command:
#
#   bench/gpu.sh              logs, bench.json and summary.txt in $OUT (default: gpu-results)
#   bench/gpu.sh --dry-run    no GPU, no build: the tests with the emulator in the place of a GPU (beside the package, or in the
#                             folder SOFTMAP_EMULATOR), the benchmarks on the host, on tiny sizes, and the table of them
#   SITE=DIR bench/gpu.sh     takes the package in DIR, built elsewhere for this Python, and builds nothing
#
# Needs nvcc and Python with what CONTRIBUTING.md lists, CuPy, torch, Triton and pytest-benchmark; asks no network. Each step
# has a limit of its own and a failed one does not stop the rest, but the build. Leaves the settings of the GPU alone.
set -uo pipefail
cd "$(dirname "$0")/.."
dry_run=0
[ "${1:-}" = --dry-run ] && dry_run=1
OUT=${OUT:-gpu-results}
python=${PYTHON:-python3}
mkdir -p "$OUT"
OUT=$(cd "$OUT" && pwd)
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
site=${SITE:-$work/site}
export PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1
: > "$OUT/summary.txt"
failed=0

# step NAME LIMIT COMMAND...: runs it, its output in $OUT/NAME.log, one line in the summary
step() {
  local name=$1 limit=$2 start=$SECONDS code=0
  shift 2
  timeout -k 5 "$limit" "$@" > "$OUT/$name.log" 2>&1 || code=$?
  [ "$code" = 0 ] || failed=1
  printf '%-10s code %-3s %4d s  %s\n' "$name" "$code" $((SECONDS - start)) \
    "$(grep -E '^[0-9]+ (passed|failed|calls)| (passed|failed|error)|ERROR SUMMARY|RACECHECK SUMMARY|error:' "$OUT/$name.log" |
      tail -1 | cut -c1-110)" | tee -a "$OUT/summary.txt"
  return "$code"
}

xdist=$("$python" -c 'import importlib.util as u; print("yes" if u.find_spec("xdist") else "")')

if [ "$dry_run" = 1 ]; then
  export SOFTMAP_GPU_DRY_RUN=1
  step tests 300 "$python" -m pytest -q ${xdist:+-n 2} -p no:cacheprovider tests/gpu
else
  {
    nvidia-smi --query-gpu=name,driver_version,clocks.sm,clocks.mem,memory.used,temperature.gpu --format=csv
    nvcc --version | tail -2
    "$python" -VV
    nproc
  } > "$OUT/machine.txt" 2>&1
  [ -n "${SITE:-}" ] ||
    step build 170 "$python" -m pip install . --no-build-isolation --no-deps --no-index --no-cache-dir --upgrade --target "$site" \
    -C cmake.define.SOFTMAP_CUDA=ON -C cmake.define.SOFTMAP_CUDA_ARCHITECTURES=90-real -C build-dir="$work/build" ||
    { tail -30 "$OUT/build.log"; exit 1; }
  export PYTHONPATH=$site
fi

step bench 170 "$python" -m pytest -q -p no:cacheprovider --benchmark-json "$OUT/bench.json" bench/gpu
"$python" bench/gpu_table.py "$OUT/bench.json" | tee "$OUT/table.txt"
grep -h "left out" "$OUT/bench.log" | sort -u | head -5

if [ "$dry_run" = 0 ]; then
  step tests 130 "$python" -m pytest -q ${xdist:+-n 12} -p no:cacheprovider --benchmark-disable tests \
    -k "cuda or test_gpu" --maxfail 60 --tb=short
  tools=()
  for tool in memcheck racecheck synccheck initcheck; do # side by side: each is one process, and times nothing
    # What was written by kernels of CuPy is initialised, too.
    only=(--kernel-name kns=softmap)
    [ $tool != initcheck ] || only=()
    step $tool 60 compute-sanitizer --tool $tool "${only[@]}" --error-exitcode 9 --print-limit 5 \
      "$python" tests/gpu/sanitize.py &
    tools+=($!)
  done
  for tool in "${tools[@]}"; do wait "$tool" || failed=1; done
  step profile 60 ncu $("$python" bench/gpu/profile_kernels.py --options) --log-file "$OUT/ncu.csv" \
    "$python" bench/gpu/profile_kernels.py
  "$python" bench/gpu/profile_kernels.py "$OUT/ncu.csv" > "$OUT/profile.txt"
  head -2 "$OUT/machine.txt" | tail -1
fi
cat "$OUT/summary.txt"
echo "total $SECONDS s"
exit "$failed"
