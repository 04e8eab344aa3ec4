"""Which licences come with us: `python -m tests.licences` lists them, and ends with 1 if one is not allowed.

A distribution says its licence in one of four ways: an SPDX expression, classifiers, a text of any form, or in a file
that comes with it.
"""

import re
import sys
from collections.abc import Iterable, Mapping
from importlib.metadata import Distribution, distributions
from typing import NamedTuple

ALLOWED = re.compile(
    r"apache|\bmit\b|\bmit-cmu\b|bsd|\bisc\b|\bpsf\b|python software foundation|mozilla|\bmpl|unlicense|zlib|"
    r"lgpl|lesser general public|public domain|\b0bsd\b|cnri|hpnd|cc0|\bbsl-1\.0\b|historical permission|postgresql",
    re.IGNORECASE,
)
"""All of them may be used, and distributed beside us; the lesser GPL as a library that is installed by itself."""
FORBIDDEN = re.compile(
    r"\bagpl|affero|(?<!l)\bgpl|(?<!lesser )\bgeneral public|proprietary|commercial|nvidia", re.IGNORECASE
)
EXCEPTIONS: Mapping[str, str] = {
    # What the GPU builds of torch bring: NVIDIA's terms allow to install and redistribute them with an application.
    "nvidia-*": "runtime libraries of CUDA",
    "cuda-*": "runtime libraries of CUDA",
}


_EMPTY = ("License :: OSI Approved", "License :: DFSG approved")


class Licence(NamedTuple):
    """A distribution and what it says of its licence; empty where it says nothing."""

    name: str
    version: str
    said: str

    @property
    def allowed(self) -> bool:
        """Return whether it may come with us: every part of `A AND B`, any of `A OR B`."""
        if any(re.fullmatch(pattern.replace("*", ".*"), self.name) for pattern in EXCEPTIONS):
            return True
        return any(
            all(ALLOWED.search(part) and not FORBIDDEN.search(part) for part in re.split(r"\bAND\b|;", choice))
            for choice in re.split(r"\bOR\b", self.said)
        )


def licence_of(distribution: Distribution) -> Licence:
    """Return what a distribution says of its licence, by the most exact of its ways."""
    metadata = distribution.metadata
    classified = [
        entry.rsplit(" :: ", 1)[1]
        for entry in metadata.get_all("Classifier") or ()
        if entry.startswith("License :: ") and entry not in _EMPTY
    ]
    said = (
        metadata.get("License-Expression")
        or "; ".join(classified)
        or _first_lines(metadata.get("License") or "")
        or _first_lines(_licence_file(distribution))
    )
    return Licence(str(distribution.name), distribution.version, said)


def refused(found: Iterable[Licence]) -> list[Licence]:
    """Return those that are not allowed, or say nothing."""
    return [licence for licence in found if not licence.allowed]


def _licence_file(distribution: Distribution) -> str:
    name = distribution.metadata.get("License-File") or ""
    return name and (distribution.read_text(f"licenses/{name}") or distribution.read_text(name) or "")


def _first_lines(text: str) -> str:
    return " ".join(text.split())[:100]


def main() -> int:
    """List every installed distribution but ourselves."""
    found = sorted({licence_of(one) for one in distributions() if one.name.lower() != "glossarium"})
    for licence in found:
        mark = "  " if licence.allowed else "! "
        sys.stdout.write(f"{mark}{licence.name} {licence.version}: {licence.said or 'says nothing'}\n")
    bad = refused(found)
    if bad:
        sys.stderr.write(f"not allowed: {', '.join(licence.name for licence in bad)}\n")
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
