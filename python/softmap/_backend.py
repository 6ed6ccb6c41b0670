"""Choose the compiled module.

A backend is an extension module; all of them export the same functions, so choosing one is the
whole dispatch: by device first, then by instruction set. The environment variable
``SOFTMAP_BACKEND`` (base, avx2 or avx512) overrides the choice.
"""

import functools
import importlib
import importlib.util
import os
from types import ModuleType

from softmap import _runtime

CPU_BACKENDS = ("avx512", "avx2", "base")  # best first


def built() -> list[str]:
    """Names of the CPU backends in this installation, best first."""
    return [isa for isa in CPU_BACKENDS if importlib.util.find_spec(f"softmap._cpu_{isa}")]


def choose(isa: str | None = None) -> str:
    """Name of the backend for this CPU, or `isa` where it is given and can run."""
    wanted = isa or os.environ.get("SOFTMAP_BACKEND")
    available = [name for name in built() if _runtime.supports(name)]
    if not wanted:
        return available[0]
    if wanted not in available:
        known = wanted in built()
        what = "cannot run on this processor" if known else "is not part of this installation"
        raise ImportError(
            f"softmap: SOFTMAP_BACKEND = {wanted!r} {what} (available here: {', '.join(available)})"
        )
    return wanted


@functools.cache
def cpu(isa: str | None = None) -> ModuleType:
    """Return the module for this CPU, or for `isa` where it is given."""
    return importlib.import_module(f"softmap._cpu_{choose(isa)}")


# Wrong values of environment variables show at import, before any backend is loaded.
choose()
_runtime.read_environment()


@functools.cache
def cuda() -> ModuleType | None:
    """Return the CUDA module, None where this installation has none."""
    if importlib.util.find_spec("softmap._cuda") is None:
        return None
    return importlib.import_module("softmap._cuda")
