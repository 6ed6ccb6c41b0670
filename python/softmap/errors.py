"""Exceptions and warnings of softmap."""

__all__ = ["BackendMissingError", "DataWarning", "NoMaximumError"]


class NoMaximumError(ValueError):
    """The likelihood has no finite maximum: the data leave some scores undetermined."""


class BackendMissingError(RuntimeError):
    """The operation needs a part that this installation lacks; the message names the remedy."""


class DataWarning(UserWarning):
    """The data alone cannot support part of the result; the message names the items."""
