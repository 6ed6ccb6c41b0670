"""What users see: names, signatures, docstrings, types, examples."""

import dataclasses
import doctest
import importlib
import importlib.metadata
import importlib.resources
import inspect
import pkgutil
import re
import subprocess
import sys

import pytest

import softmap
from conftest import EMULATED
from softmap import _backend

PUBLIC = {name: getattr(softmap, name) for name in softmap.__all__ if name != "__version__"}
FUNCTIONS = {name: f for name, f in PUBLIC.items() if inspect.isfunction(f)}
CLASSES = {name: c for name, c in PUBLIC.items() if inspect.isclass(c)}
METHODS = {
    f"{name}.{member}": inspect.unwrap(getattr(c, member))
    for name, c in CLASSES.items()
    for member, value in vars(c).items()
    if not member.startswith("_") and (inspect.isroutine(value) or isinstance(value, classmethod))
}
# Optional arguments that may be given by position, as in SciPy, or because the order is obvious.
POSITIONAL = {"axis", "b", "keepdims", "return_sign", "outcome", "to"}
POSITIONAL |= {"operation", "n", "kind", "min_games"}

# What a CPU backend has and the CUDA one has not: the large fit, labels, draws, what is to come.
CPU_ONLY = {"count_pairs", "encode_arrow", "encode_fixed", "encode_objects"}
CPU_ONLY |= {
    "connected",
    "strong_components",
    "survey",
    "make_system",
    "solve_system",
    "times_system",
    "expand_system",
    "newton_pairs",
    "movement",
}
CPU_ONLY |= {"draw_counts", "weigh_draws", "refit"}
CPU_ONLY |= {"special", "softmax_by"}  # for tests and benchmarks


@pytest.mark.skipif(EMULATED is None, reason="the CUDA kernels are not built here")
def test_kernels_for_a_gpu_are_all_there_but_those_named():
    def operations(module):
        return {name for name in dir(module) if not name.startswith("_")}

    assert operations(_backend.cpu()) - operations(EMULATED) == CPU_ONLY


def test_all_names_exist_and_are_sorted():
    assert len(PUBLIC) >= 10
    assert list(softmap.__all__) == sorted(softmap.__all__)


def test_version_is_that_of_the_installation():
    try:
        version = importlib.metadata.version("softmap")
    except importlib.metadata.PackageNotFoundError:
        version = "0+unknown"
    assert softmap.__version__ == version


def test_nothing_public_is_missing_from_all():
    here = {
        n for n, v in vars(softmap).items() if not n.startswith("_") and not inspect.ismodule(v)
    }
    assert here == set(PUBLIC)


@pytest.mark.parametrize("name", FUNCTIONS)
def test_function_docstring_sections(name):
    function = FUNCTIONS[name]
    text = inspect.getdoc(function)
    signature = inspect.signature(function)
    sections = re.findall(r"^([A-Z][A-Za-z ]+)\n-+$", text, re.MULTILINE)
    wanted = ["Parameters", "Raises"] if signature.parameters else []
    if inspect.unwrap(function) is function and signature.return_annotation not in (None, "None"):
        wanted.insert(len(wanted) // 2, "Returns")
    assert [s for s in sections if s in wanted] == wanted
    assert sections[-1] == "Examples"
    assert ">>>" in text
    head, *_ = text.split("\nReturns\n" if "Returns" in sections else "\nRaises\n")
    documented = set(re.findall(r"\w+", " ".join(re.findall(r"^(\w[\w, ]*)(?: :|$)", head, re.M))))
    assert set(signature.parameters) <= documented


@pytest.mark.parametrize("name", CLASSES)
def test_class_docstring(name):
    text = inspect.getdoc(CLASSES[name])
    assert len(text) > 40
    if dataclasses.is_dataclass(CLASSES[name]):
        for field in dataclasses.fields(CLASSES[name]):
            assert field.name.startswith("_") or re.search(rf"\b{field.name}\b", text), field.name


@pytest.mark.parametrize("name", METHODS)
def test_method_docstring(name):
    assert len(inspect.getdoc(METHODS[name]) or "") > 20


@pytest.mark.parametrize("name", [*FUNCTIONS, *METHODS])
def test_options_are_keyword_only(name):
    for p in inspect.signature({**FUNCTIONS, **METHODS}[name]).parameters.values():
        assert p.kind not in (p.VAR_KEYWORD, p.VAR_POSITIONAL), f"{p} takes anything"
        if p.default is not p.empty:
            assert p.kind == p.KEYWORD_ONLY or p.name in POSITIONAL, f"{p.name} may be positional"


@pytest.mark.parametrize("name", CLASSES)
def test_results_are_frozen(name):
    if dataclasses.is_dataclass(CLASSES[name]):
        assert CLASSES[name].__dataclass_params__.frozen
    else:
        assert issubclass(CLASSES[name], Exception) or name in (
            "Comparisons",
            "Status",
            "FitGroups",
        )


def test_package_ships_its_types():
    files = {f.name for f in importlib.resources.files("softmap").iterdir()}
    assert {"py.typed", "_runtime.pyi"} <= files


def test_examples_of_all_modules_run():
    attempted = {}
    for module in pkgutil.walk_packages(softmap.__path__, "softmap."):
        if not module.name.rpartition(".")[2].startswith("_"):
            result = doctest.testmod(importlib.import_module(module.name))
            assert result.failed == 0, module.name
            attempted[module.name] = result.attempted
    assert attempted["softmap.softmax"] >= 8
    assert sum(attempted.values()) >= 2 * len(FUNCTIONS)


def test_recipes_are_found_without_an_import_of_each():
    code = (
        "import softmap; print(softmap.systems.qbench.__name__, 'qbench' in dir(softmap.systems))"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout.split() == ["softmap.systems.qbench", "True"]
    with pytest.raises(AttributeError, match=r"'softmap\.systems' has no attribute 'qbend'"):
        _ = softmap.systems.qbend
