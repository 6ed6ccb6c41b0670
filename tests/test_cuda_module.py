"""The module `_cuda` as it is built: it needs no GPU, no driver and no CUDA libraries."""

import importlib.util
import os
import shutil
import subprocess
import sys

import pytest

SPEC = importlib.util.find_spec("softmap._cuda")
pytestmark = pytest.mark.skipif(SPEC is None, reason="the module _cuda is not built")

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


def test_module_is_imported_where_no_gpu_is_seen():
    environment = {**os.environ, "CUDA_VISIBLE_DEVICES": ""}
    subprocess.run([sys.executable, "-c", WITHOUT_GPU], check=True, env=environment)
