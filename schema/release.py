"""Which Glossarium this is."""

from importlib.metadata import PackageNotFoundError, version


def release() -> str:
    """Return the version of the installed package; 0 of a source tree that is not installed."""
    try:
        return version("glossarium")
    except PackageNotFoundError:
        return "0"
