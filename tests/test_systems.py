"""The recipes of softmap.systems: each as a function of arrays, and the page that lists them."""

import dataclasses
import functools
import importlib.util
import inspect
import io
import re
import tokenize
from pathlib import Path

import numpy as np
import pytest

import softmap
from softmap import _backend
from softmap.systems import _recipe
from systems_cases import CASES

DOCS = Path(__file__).parents[1] / "docs"


def load(path):
    spec = importlib.util.spec_from_file_location(f"docs_{path.stem}", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


GENERATOR = load(DOCS / "systems.py")
FUNCTIONS = dict(GENERATOR.functions())
RECIPES = {name: f for name, f in FUNCTIONS.items() if inspect.isfunction(f)}


def test_page_of_systems_is_up_to_date():
    assert (DOCS / "systems.md").read_text() == GENERATOR.page()  # else: python docs/systems.py


def test_every_recipe_has_a_case():
    assert set(CASES) == set(RECIPES)


@pytest.mark.parametrize("name", RECIPES)
def test_recipe_says_what_it_does(name):
    text = inspect.getdoc(RECIPES[name])
    for part in ("Parameters", "Returns", "Notes", "References", "Examples"):
        assert re.search(rf"^{part}\n-+$", text, re.M), part
    assert "\nChecked against: " in text
    assert ">>>" in text
    documented = set(re.findall(r"\w+", " ".join(re.findall(r"^(\w[\w, ]*) : ", text, re.M))))
    for p in inspect.signature(RECIPES[name]).parameters.values():
        assert p.name in documented
        optional = p.default is not p.empty
        assert not optional or p.kind == p.KEYWORD_ONLY or p.name in ("tokens", "pretrain_logits")


@pytest.mark.parametrize("module", sorted({f.__module__ for f in RECIPES.values()}))
def test_recipe_is_short(module):
    source = Path(inspect.getfile(importlib.import_module(module))).read_text()
    lines = set()
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        docstring = token.type == tokenize.STRING and token.string.startswith(('"""', 'r"""'))
        if token.type in (tokenize.NAME, tokenize.OP, tokenize.NUMBER, tokenize.STRING):
            lines |= set() if docstring else set(range(token.start[0], token.end[0] + 1))
    assert len(lines) <= 80


def parts(result):
    """The arrays of a result."""
    if dataclasses.is_dataclass(result):
        result = tuple(getattr(result, f.name) for f in dataclasses.fields(result))
    if isinstance(result, tuple):
        return [p for part in result if part is not None for p in parts(part)]
    return [result]


def in_library(value, make):
    return make(value) if isinstance(value, np.ndarray) else value


def check_library(name, make, kind):
    """Arrays of a library in, arrays of that library out, of the same values."""
    arguments, options = CASES[name]
    want = parts(RECIPES[name](*arguments, **options))
    moved = [in_library(a, make) for a in arguments]
    options = {k: in_library(v, make) for k, v in options.items()}
    for got, expected in zip(parts(RECIPES[name](*moved, **options)), want, strict=True):
        assert isinstance(got, kind)
        assert got.shape == np.shape(expected)
        np.testing.assert_array_equal(np.from_dlpack(got), expected)


each_recipe_of_arrays = pytest.mark.parametrize(
    "name", [name for name in RECIPES if any(isinstance(a, np.ndarray) for a in CASES[name][0])]
)


@each_recipe_of_arrays
def test_recipe_gives_the_same_on_every_backend(backend, name):
    """Against the definitions: the tests of single recipes, likewise on every backend."""
    arguments, options = CASES[name]
    got = parts(RECIPES[name](*arguments, **options))
    for result, (shape, dtype, values) in zip(got, expected_of(name), strict=True):
        assert (np.shape(result), np.asarray(result).dtype) == (shape, dtype)
        np.testing.assert_allclose(result, values, rtol=1e-9, atol=1e-9)


@functools.cache
def expected_of(name):
    """Results of the plainest backend, in a module of its own: no fixture reaches it."""
    arguments, options = CASES[name]
    with pytest.MonkeyPatch.context() as patch:
        plain = importlib.import_module("softmap._cpu_base")
        patch.setattr(_backend, "cpu", lambda isa=None: plain)
        found = parts(RECIPES[name](*arguments, **options))
    return [(np.shape(x), np.asarray(x).dtype, x) for x in found]


@each_recipe_of_arrays
def test_many_problems_are_taken_in_blocks(monkeypatch, name):
    """The bits are the same on any number of threads; BLAS alone looks at the number of rows."""
    arguments, options = CASES[name]
    want = parts(RECIPES[name](*arguments, **options))
    monkeypatch.setattr(_recipe, "_BLOCK", 1)
    for n_threads in (1, 3):
        with softmap.threads(n_threads):
            got = parts(RECIPES[name](*arguments, **options))
        for result, expected in zip(got, want, strict=True):
            rtol = 1e-14 if name.startswith("ebv.") else 0
            np.testing.assert_allclose(result, expected, rtol, strict=True)


def test_an_error_of_a_block_speaks_of_the_whole(monkeypatch):
    monkeypatch.setattr(_recipe, "_BLOCK", 1)
    with pytest.raises(ValueError, match=r"logits has shape \(3, 2, 10\)"):
        FUNCTIONS["realqa.score"](np.zeros((3, 2, 10)))


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (
            lambda f: f["realqa.score"](np.ones((3, 12)), [1, 2]),
            "realqa.score: level_scores: levels has",
        ),
        (
            lambda f: f["energy.energy"](np.ones((2, 3)), temperature=-1),
            "energy.energy: temperature",
        ),
        (lambda f: f["ptrue.p_true"](np.ones((2, 3)), 0, 9), "ptrue.p_true: level_scores: tokens"),
    ],
)
def test_an_error_of_a_primitive_is_one_of_the_recipe(call, message):
    with pytest.raises(ValueError, match=f"^{message}"):
        call(FUNCTIONS)


@pytest.mark.parametrize("name", sorted(k for k, f in RECIPES.items() if hasattr(f, "__wrapped__")))
def test_wrong_arguments_are_said_of_the_recipe(name):
    """What is missing, unknown, or no number where a number is wanted."""
    with pytest.raises(TypeError, match=rf"^{re.escape(name)}: missing a required argument"):
        FUNCTIONS[name]()
    parameters = inspect.signature(FUNCTIONS[name]).parameters.values()
    needed = {
        p.name: 1.0 if p.annotation is float else np.ones((2, 3))
        for p in parameters
        if p.default is p.empty
    }
    with pytest.raises(TypeError, match=rf"^{re.escape(name)}: got an unexpected keyword argument"):
        FUNCTIONS[name](**needed, no_such_option=1)
    for number in (p.name for p in parameters if p.annotation is float):
        for value in ("1", None, [1.0], np.nan, -np.inf):
            with pytest.raises((TypeError, ValueError), match=rf"^{re.escape(name)}: {number} = "):
                FUNCTIONS[name](**needed | {number: value})


Z = np.zeros((3, 5))


@pytest.mark.parametrize(
    ("name", "arguments", "options", "error", "message"),
    [
        ("text_tests.cross_entropy_rate", [Z, Z], {"mask": [1, 0]}, ValueError,
         "mask has shape (2,), it must broadcast to (3,)"),
        ("text_tests.cross_entropy_rate", [Z, Z], {"mask": np.ones((2, 2, 3), int)}, ValueError,
         "mask has shape (2, 2, 3), it must broadcast to (3,)"),
        ("text_tests.cross_entropy_rate", [Z[0], Z[0]], {}, ValueError,
         "logits_a has shape (5,), it must be (..., L, V)"),
        ("text_tests.statistics", [Z[0], 0], {}, ValueError,
         "logits has shape (5,), it must be (..., L, V)"),
        ("text_tests.statistics", [Z, [0, 1]], {}, ValueError,
         "tokens has shape (2,), it must broadcast to (3,)"),
        ("text_tests.answer", [np.zeros((2, 3, 5)), [[0, 1]] * 2], {}, ValueError,
         "tokens has shape (2, 2), it must broadcast to (2, 3)"),
        ("data_diet.dynamics", [Z[0], 0], {}, ValueError,
         "logits has shape (5,), it must be (checkpoints, ..., classes), with a checkpoint"),
        ("data_diet.dynamics", [np.zeros((0, 3, 5)), [0, 0, 0]], {}, ValueError,
         "logits has shape (0, 3, 5), it must be (checkpoints, ..., classes), with a checkpoint"),
        ("realqa.score", [np.zeros((3, 10))], {"place_values": "abc"}, TypeError,
         "place_values has dtype"),
        ("realqa.score", [np.zeros((3, 10))], {"place_values": None}, TypeError,
         "place_values has dtype"),
        ("realqa.score", [np.zeros((3, 10))], {"place_values": [[1, 2, 3]]}, ValueError,
         "place_values has shape (1, 3), it must be one-dimensional"),
        ("zpe.select", [np.zeros((2, 0))], {"threshold": 1.0}, ValueError,
         "weights has shape (2, 0), it needs a prompt"),
        ("adaptive_compute.score", [Z, 1.5], {}, TypeError, "token has dtype float64"),
        ("adaptive_compute.temperature", [1.5], {}, TypeError, "n = 1.5, it must be an integer"),
        ("deqa_losses.kl_loss", [Z, range(5), np.ones((2, 5))], {}, ValueError,
         "labels has shape (2, 5), it must broadcast with the rows of logits"),
        ("deqa_losses.kl_loss", [Z, [0, 7], np.ones((3, 2))], {}, ValueError, "tokens[1] = 7"),
    ],
)  # fmt: skip
def test_what_does_not_fit_is_one_error_of_the_recipe(name, arguments, options, error, message):
    with pytest.raises(error, match=rf"^{re.escape(name)}: {re.escape(message)}"):
        RECIPES[name](*arguments, **options)


@pytest.mark.parametrize("name", sorted(k for k, f in RECIPES.items() if hasattr(f, "__wrapped__")))
def test_an_array_that_is_none_is_one_error_of_the_recipe(name):
    """Beside those for which it is the default."""
    parameters = inspect.signature(RECIPES[name]).parameters
    arguments, options = CASES[name]
    given = dict(zip(parameters, arguments, strict=False)) | options
    for key in (k for k, v in given.items() if isinstance(v, np.ndarray)):
        if parameters[key].default is not None:
            with pytest.raises(TypeError, match=rf"^{re.escape(name)}: {key} = None, it must be"):
                RECIPES[name](**given | {key: None})


@pytest.mark.parametrize("dtype", ["u1", "u8"])
def test_targets_of_any_integers(dtype):
    """uint64 beside int64 is float64 to NumPy."""
    for name in ("data_diet.el2n", "z_loss.loss", "nkd.loss", "tempnet.robust_loss"):
        arguments, options = CASES[name]
        k = list(inspect.signature(RECIPES[name]).parameters).index("target")
        columns = np.array([1, 0])
        want, got = (
            RECIPES[name](*arguments[:k], y, *arguments[k + 1 :], **options)
            for y in (columns, columns.astype(dtype))
        )
        np.testing.assert_array_equal(got, want)


@each_recipe_of_arrays
def test_recipe_takes_array_api_arrays(name):
    strict = pytest.importorskip("array_api_strict")
    check_library(name, strict.asarray, type(strict.asarray(0)))


@pytest.mark.nightly
@each_recipe_of_arrays
def test_recipe_takes_torch_tensors(name):
    torch = pytest.importorskip("torch")
    check_library(name, lambda a: torch.from_numpy(a.copy()), torch.Tensor)


@pytest.mark.nightly
@each_recipe_of_arrays
def test_recipe_takes_jax_arrays(name):
    jax = pytest.importorskip("jax")
    jax.config.update("jax_enable_x64", True)
    check_library(name, jax.numpy.asarray, jax.Array)


# Recipes that need all data at once; what else has no row to split by.
AT_ONCE = {
    "calibration.temperature",
    "compare2score.select_anchors",
    "data_diet.dynamics",
    "zpe.aggregate",
    "zpe.weights",
}
TABLES = ("compare2score.comparison_matrix", "compare2score.score", "ebv.", "text_tests.answer")


@each_recipe_of_arrays
def test_recipe_of_dask_arrays_is_lazy(name):
    da = pytest.importorskip("dask.array", reason="Dask is an optional library")

    def lazy(value):
        if not isinstance(value, np.ndarray):
            return value
        by_row = value.ndim > 1 and not name.startswith(TABLES)
        return da.from_array(value, chunks=(1 if by_row else -1, *[-1] * (value.ndim - 1)))

    arguments, options = CASES[name]
    moved = [lazy(a) for a in arguments], {k: lazy(v) for k, v in options.items()}
    if name in AT_ONCE:
        with pytest.raises(TypeError, match=r"call \.compute\(\) on it"):
            RECIPES[name](*moved[0], **moved[1])
        return
    want = parts(RECIPES[name](*arguments, **options))
    for got, expected in zip(parts(RECIPES[name](*moved[0], **moved[1])), want, strict=True):
        assert isinstance(got, da.Array)
        assert (got.shape, got.dtype) == (np.shape(expected), np.asarray(expected).dtype)
        # How many rows there are may decide the last bit.
        computed = got.compute(scheduler="synchronous")
        np.testing.assert_allclose(computed, expected, rtol=1e-14, atol=0)


@each_recipe_of_arrays
def test_recipe_keeps_float32_and_leaves_its_arguments(name):
    def single(value):
        is_double = isinstance(value, np.ndarray) and value.dtype == np.float64
        return value.astype(np.float32) if is_double else value

    arguments, options = CASES[name]
    arguments = [single(a) for a in arguments]
    options = {k: single(v) for k, v in options.items()}
    for value in (*arguments, *options.values()):
        if isinstance(value, np.ndarray):
            value.flags.writeable = False
    want = parts(RECIPES[name](*CASES[name][0], **CASES[name][1]))
    for got, expected in zip(parts(RECIPES[name](*arguments, **options)), want, strict=True):
        assert got.dtype == (np.float32 if expected.dtype == np.float64 else expected.dtype)
        np.testing.assert_allclose(got, expected, rtol=2e-4, atol=2e-5)
