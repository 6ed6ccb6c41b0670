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


def test_every_function_of_core_is_compiled_for_a_device():
    # What is called by another function of core only needs no call of its own.
    source = (CORE.parents[1] / "tests" / "emulator" / "all_of_core.cu").read_text()
    text = "".join(header.read_text() for header in CORE.glob("*.h"))
    names = re.findall(r"SOFTMAP_HD (?:static |constexpr )*[^(;=]*?\b(\w+)\(", text)
    assert len(set(names)) > 40
    calls = {name: len(re.findall(rf"\b{name}(?:<[^;()]*?>)?\(", text)) for name in names}
    left_out = [
        n for n in set(names) if calls[n] == names.count(n) and not re.search(rf"\b{n}\b", source)
    ]
    assert left_out == []
