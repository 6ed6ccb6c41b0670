"""The constants of csrc/core are what csrc/core/fit_coefficients.py computes."""

import importlib.util
import re
from pathlib import Path

import pytest

CORE = Path(__file__).parents[1] / "csrc" / "core"
ARRAY = re.compile(r"inline constexpr (\w+) (k\w+)(?:<\w+>)?\[\d+\] =\s*\{([^}]*)\}")


def load_script():
    spec = importlib.util.spec_from_file_location("fit_coefficients", CORE / "fit_coefficients.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def read_headers():
    """Tables of the headers, by the names of the script; the primary template is the double."""
    tables = {}
    for header in sorted(CORE.glob("*.h")):
        for scalar, name, numbers in ARRAY.findall(header.read_text()):
            key = f"{name}<{'float' if scalar == 'float' else 'double'}>"
            tables[key] = [float.fromhex(c.rstrip("f")) for c in re.findall(r"[^\s,]+", numbers)]
    return tables


SCRIPT, HEADERS = load_script(), read_headers()


NAMES = [*SCRIPT.TABLES, *(name for both in SCRIPT.QUOTIENTS for name in both)]


def test_every_table_of_the_headers_has_a_fit():
    assert HEADERS.keys() == set(NAMES)


@pytest.mark.parametrize("name", NAMES)
def test_table_is_reproduced(name):
    literals = [SCRIPT.literal(c, name) for c in SCRIPT.coefficients(name)]
    assert [float.fromhex(c.rstrip("f")) for c in literals] == HEADERS[name]
