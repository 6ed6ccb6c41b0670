"""The version, from the metadata of the installed package."""

from importlib.metadata import PackageNotFoundError, version

try:
    __version__ = version("softmap")
except PackageNotFoundError:  # imported from a build tree
    __version__ = "0+unknown"
