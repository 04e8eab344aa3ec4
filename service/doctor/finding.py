"""What a check found, in words."""

from typing import Literal

from schema.records import Record


class Finding(Record):
    """One thing that was looked at.

    state:   `warning` is for what works and may not be meant; only `failed` makes the doctor end with exit code 1.
    advice:  what to do, unless it is ok.
    """

    check: str
    state: Literal["ok", "warning", "failed"]
    said: str
    advice: str | None = None


def ok(check: str, said: str) -> Finding:
    """Return that something is as it should be."""
    return Finding(check=check, state="ok", said=said)


def warning(check: str, said: str, advice: str) -> Finding:
    """Return that something works and may not be meant."""
    return Finding(check=check, state="warning", said=said, advice=advice)


def failed(check: str, said: str, advice: str) -> Finding:
    """Return that something is wrong."""
    return Finding(check=check, state="failed", said=said, advice=advice)
