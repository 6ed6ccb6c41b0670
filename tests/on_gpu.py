"""The CUDA module as one more backend of the suite: NumPy's arrays go to a GPU and come back.

With SOFTMAP_GPU_DRY_RUN=1 the emulator plays it, and tests/fake_cupy.py is CuPy: all that is only
for a GPU then runs without one, but what asks for other streams or torch.

Which arrays a kernel reads on the device is said in csrc/bindings: all but single numbers of the
softmax family, and the constants of HOST.
"""

import importlib.util
import os
import sys

import numpy as np
import pytest

import fake_cupy
from softmap import _backend

DRY_RUN = os.environ.get("SOFTMAP_GPU_DRY_RUN") == "1"

# Places of arguments that the bindings read on the host.
HOST = {"level_scores": (1, 2, 3)}
WITHOUT_NUMBERS = ("preference", "preference_matrix", "outcome_matrices", "outcome_likelihood")
WITHOUT_THREADS = ("pair_terms", "outcome_terms")


def play(emulated):
    """Makes this process believe in a GPU."""
    played = fake_cupy.Kernels(emulated, True, devices=1)
    sys.modules["cupy"] = fake_cupy.make_module()
    fake_cupy.MEMORY.reset(keeps=False)
    _backend.cuda = lambda: played


def why_not():
    """Why there is no GPU to test on, or None."""
    module = _backend.cuda()
    if module is None:
        return "this installation has no CUDA backend"
    if not module.device_count():
        return "there is no GPU that the CUDA backend can use"
    return None if importlib.util.find_spec("cupy") else "CuPy is not installed"


class OnGpu:
    """The functions of a CPU module, computed by `_cuda`; what has no kernel is skipped."""

    __name__ = "softmap._cuda"

    def __getattr__(self, operation):
        module = _backend.cuda()
        if not hasattr(module, operation):
            pytest.skip(f"{operation} has no CUDA kernel (CPU_ONLY in test_surface.py)")
        if operation == "check_threads":
            return module.check_threads
        return lambda *arguments: Call(module, operation).run(*arguments)


class Call:
    """One call: its arrays on the device, by the array on the host."""

    def __init__(self, module, operation):
        import cupy

        from softmap._device import CuPy

        self.cupy, self.adapter = cupy, CuPy(cupy.cuda.Device().id)
        self.module, self.operation, self.pairs = module, operation, []

    def wrap(self, bits, dtype):
        return self.adapter.wrap(bits, dtype)

    def allocate(self, shape, dtype):
        """bfloat16, whoever names it, is held as its bits."""
        dtype = np.dtype(dtype)
        return self.wrap(self.cupy.empty(shape, "u2" if dtype.kind == "V" else dtype), dtype)

    def put(self, place, a):
        if isinstance(a, tuple):
            return tuple(self.put(place, item) for item in a)
        number = np.ndim(a) == 0 and place > 0 and self.operation not in WITHOUT_NUMBERS
        if type(a) is not np.ndarray or number or place in HOST.get(self.operation, ()):
            return a
        plain = np.array(a, order="C")
        bits = plain.view("u2") if a.dtype.kind == "V" else plain
        device = self.wrap(self.cupy.asarray(bits), a.dtype)
        view = device.view(np.ndarray)
        view.flags.writeable = a.flags.writeable
        self.pairs.append((a, device, view))
        return view

    def get(self, device):
        return self.cupy.asnumpy(device.owner).view(device.dtype)

    def back(self, result):
        if isinstance(result, (tuple, list)):
            return tuple(self.back(item) for item in result)
        for host, _, view in self.pairs:
            if result is view:
                return host
        if not isinstance(result, np.ndarray):
            return result
        a = self.get(result)
        return a if a.ndim else a[()]

    def run(self, *arguments):
        given = arguments
        if self.operation not in WITHOUT_THREADS:
            *given, n_threads = arguments
            self.module.check_threads(self.operation, n_threads)
        for a in given:
            if isinstance(a, np.ndarray) and not (
                a.dtype.kind in "biufV" and a.dtype.isnative and a.dtype.itemsize <= 8
            ):
                return NotImplemented
        run = (self.adapter.device, self.adapter.stream(), self.allocate)
        kernel = getattr(self.module, self.operation)
        result = self.back(kernel(*(self.put(k, a) for k, a in enumerate(given)), run))
        for host, device, _ in self.pairs:  # some of them are outputs
            if host.flags.writeable:
                host[...] = self.get(device)
        return result


def environment(**more):
    """That of this process, for another one that finds the same modules."""
    return {**os.environ, "PYTHONPATH": os.pathsep.join(p for p in sys.path if p), **more}
