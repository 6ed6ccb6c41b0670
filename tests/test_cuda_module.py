"""The module `_cuda` as it is built: it needs no GPU, no driver and no CUDA libraries."""

import importlib.util
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

SPEC = importlib.util.find_spec("softmap._cuda")
built = pytest.mark.skipif(SPEC is None, reason="the module _cuda is not built")

WITHOUT_GPU = """
import numpy as np, softmap
from softmap import _cuda
assert _cuda.device_count() == 0
assert not _cuda.emulated
assert abs(softmap.softmax(np.arange(5.0)).sum() - 1) < 1e-15
fit = softmap.fit_many(np.ones((3, 3)), prior_sd=1.0)
assert fit.status == softmap.Status.OK
try:
    _cuda.preload(-1)
except RuntimeError as error:
    assert "CUDA error" in str(error)
else:
    raise AssertionError("a device was found")
"""


@built
@pytest.mark.skipif(not shutil.which("readelf"), reason="no readelf")
def test_only_libraries_of_every_linux_are_needed():
    run = ["readelf", "--dynamic", SPEC.origin]
    text = subprocess.run(run, check=True, capture_output=True, text=True).stdout
    needed = {line.split("[")[1].split("]")[0] for line in text.splitlines() if "(NEEDED)" in line}
    ours = {"libc", "libm", "libstdc++", "libgcc_s", "libdl", "librt", "libpthread"}
    assert "libc" in {name.split(".so")[0] for name in needed}
    assert {name for name in needed if name.split(".so")[0] not in ours} - {
        name for name in needed if name.startswith("ld-linux")
    } == set()


@built
def test_module_is_imported_where_no_gpu_is_seen():
    environment = {**os.environ, "CUDA_VISIBLE_DEVICES": ""}
    subprocess.run([sys.executable, "-c", WITHOUT_GPU], check=True, env=environment)


@pytest.mark.parametrize("wish", ["ON", "AUTO"])
def test_build_without_nvcc(wish, tmp_path):
    """Who insists on the module is told what is missing; for the others there is none."""
    pybind11 = pytest.importorskip("pybind11", reason="pybind11 is not installed")
    if not (shutil.which("cmake") and shutil.which("ninja")):
        pytest.skip("no cmake and ninja")
    run = ["cmake", "-G", "Ninja", "-S", str(Path(__file__).parents[1]), "-B", str(tmp_path)]
    run += [f"-DPython_EXECUTABLE={sys.executable}", f"-Dpybind11_DIR={pybind11.get_cmake_dir()}"]
    run += [f"-DSOFTMAP_CUDA={wish}", "-DSKBUILD_PROJECT_VERSION=0", "-DSOFTMAP_CPU_BACKENDS=none"]
    environment = {**os.environ, "CUDACXX": str(tmp_path / "nvcc")}
    done = subprocess.run(run, env=environment, capture_output=True, text=True, check=False)
    said = " ".join((done.stdout + done.stderr).split())
    assert (done.returncode == 0) == (wish == "AUTO"), said
    want = {"ON": "SOFTMAP_CUDA=ON, but", "AUTO": "softmap: no CUDA backend:"}[wish]
    assert f"{want} there is no nvcc that works (on PATH or as CUDACXX" in said
