"""Scoring systems of published papers, as recipes over the families of softmap.

One module a paper, for instance ``softmap.systems.qbench``. A recipe is a few lines over the
primitives: it takes arrays of any library that can be read in place, gives results of the same
library, and never raises for a wrong value inside a batch, which makes its own result NaN.
"""

from importlib import import_module
from pkgutil import iter_modules

_NAMES = sorted(m.name for m in iter_modules(__path__) if not m.name.startswith("_"))


def __getattr__(name: str) -> object:
    if name in _NAMES:  # imported when it is first asked for
        return import_module(f"{__name__}.{name}")
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return _NAMES
