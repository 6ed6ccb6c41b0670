"""pytest plugin that puts softmap's functions in the place of SciPy's, for SciPy's own tests.

    pytest -p scipy_swap --pyargs scipy.special.tests.test_logsumexp

With SCIPY_SWAP=0 the functions stay SciPy's, and calls are counted all the same.
"""

import functools
import os

import scipy.special
from scipy._lib._array_api import xp_capabilities_table

import softmap

NAMES = ("softmax", "log_softmax", "logsumexp")
CALLS = dict.fromkeys(NAMES, 0)
ENGINE = scipy.special if os.environ.get("SCIPY_SWAP") == "0" else softmap


def _counted(name, function):
    @functools.wraps(function)
    def call(*args, **kwargs):
        CALLS[name] += 1
        return function(*args, **kwargs)

    return call


for _name in NAMES:
    _swapped = _counted(_name, getattr(ENGINE, _name))
    # The decorators of those tests look the function up here.
    xp_capabilities_table[_swapped] = xp_capabilities_table[getattr(scipy.special, _name)]
    setattr(scipy.special, _name, _swapped)


def pytest_terminal_summary(terminalreporter):
    counts = " ".join(f"{name}={n}" for name, n in CALLS.items())
    terminalreporter.write_line(f"calls of {ENGINE.__name__}: {counts}")
