"""Exceptions and warnings of softmap."""

import importlib
from typing import Any


class NoMaximumError(ValueError):
    """The likelihood has no finite maximum, or more than one; the message names the items."""


class BackendMissingError(RuntimeError):
    """A compiled part that the call needs is not in this installation."""


class DataWarning(UserWarning):
    """The data cannot support by themselves what was asked of them."""


def optional(where: str, module: str, install: str) -> Any:
    """Import a library that softmap does not require; BackendMissingError with the cure."""
    try:
        return importlib.import_module(module)
    except ImportError:
        raise BackendMissingError(
            f"{where}: needs {module.partition('.')[0]}; pip install {install}"
        ) from None
