"""Write docs/systems.md, the table of the scoring systems, from the docstrings of the recipes.

python docs/systems.py
"""

import dataclasses
import importlib
import inspect
import pkgutil
import re
from pathlib import Path

import softmap.systems

PAGE = Path(__file__).with_suffix(".md")
COLUMNS = ("function", "what", "inputs", "outputs", "paper", "checked against")
HEAD = """# Scoring systems

One recipe a system, in `softmap.systems`. This page is written by `docs/systems.py` from the
docstrings, which say more: the formulas, and where official code and paper differ.

"""


def functions():
    """(name, function) of every recipe, as in qbench.score."""
    for module in sorted(m.name for m in pkgutil.iter_modules(softmap.systems.__path__)):
        if not module.startswith("_"):
            recipes = importlib.import_module(f"softmap.systems.{module}")
            yield from ((f"{module}.{name}", getattr(recipes, name)) for name in recipes.__all__)


def section(text, name):
    """Body of a numpydoc section."""
    found = re.search(rf"^{name}\n-+\n(.*?)(?=^\w[\w ]*\n-+\n|\Z)", text, re.M | re.S)
    return found[1] if found else ""


def row(name, function):
    """The cells of one function."""
    text = inspect.getdoc(function)
    entries = {
        s: re.findall(r"^(\S.*) : (.*)$", section(text, s), re.M) for s in ("Parameters", "Returns")
    }
    optional = {
        p.name
        for p in inspect.signature(function).parameters.values()
        if p.kind == p.KEYWORD_ONLY and p.default is not p.empty
    }
    inputs = [
        f"{names} {shape(what)}"
        for names, what in entries["Parameters"]
        if not optional.issuperset(names.split(", "))
    ]
    result = inspect.signature(function).return_annotation
    if dataclasses.is_dataclass(result):  # its arrays
        fields = section(inspect.getdoc(result), "Attributes")
        entries["Returns"] = re.findall(r"^(\S.*) : (.*)$", fields, re.M)
    outputs = [f"{n} {shape(what)}" for n, what in entries["Returns"]]
    checked = re.search(r"^Checked against: (.*?)(?=\n\n|\Z)", text, re.M | re.S)[1]
    paper = " ".join(section(text, "References").split()).removeprefix(".. [1] ")
    cells = (
        f"`{name}`",
        " ".join(text.partition("\n\n")[0].split()).rstrip("."),
        ", ".join(" ".join(i.split()) for i in inputs),
        ", ".join(" ".join(o.split()) for o in outputs),
        paper.rstrip("."),
        " ".join(checked.split()).rstrip("."),
    )
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"


def shape(what):
    """The shapes in the type of a parameter: "(..., V)" of "array_like (..., V)"."""
    return " or ".join(re.findall(r"\([^()]*\)", what))


def page():
    """The whole page."""
    rows = [row(name, function) for name, function in functions() if inspect.isfunction(function)]
    rule = "|".join(["---"] * len(COLUMNS))
    return HEAD + "\n".join([f"| {' | '.join(COLUMNS)} |", f"|{rule}|", *rows]) + "\n"


if __name__ == "__main__":
    PAGE.write_text(page())
