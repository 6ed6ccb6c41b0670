"""Exceptions and warnings of softmap."""


class NoMaximumError(ValueError):
    """The likelihood has no finite maximum, or more than one; the message names the items."""


class BackendMissingError(RuntimeError):
    """A compiled part that the call needs is not in this installation."""


class DataWarning(UserWarning):
    """The data cannot support by themselves what was asked of them."""
