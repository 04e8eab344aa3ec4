"""An environment that has only what the base dependencies in pyproject.toml ask for, as the API's image has.

It is linked from this one's packages, so that it needs no network and a moment only.
"""

import re
import subprocess
import sys
import tomllib
from importlib.metadata import distribution
from pathlib import Path

from packaging.requirements import Requirement

ROOT = Path(__file__).parent.parent


def make_small_venv(folder: Path) -> Path:
    """Make the environment in a folder and return its Python."""
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", folder], check=True)
    packages = next((folder / "lib").glob("python*")) / "site-packages"
    for name in base_distributions():
        for file in distribution(name).files or ():
            top = file.parts[0]
            if top not in ("..", "__pycache__", "") and not (packages / top).exists():
                (packages / top).symlink_to(str(distribution(name).locate_file(top)))
    (packages / "glossarium.pth").write_text(f"{ROOT}\n")
    return folder / "bin" / "python"


def base_distributions() -> set[str]:
    """Return the names of everything that the base dependencies bring, themselves included."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    found: set[str] = set()
    waiting = [Requirement(line) for line in project["dependencies"]]
    while waiting:
        wanted = waiting.pop()
        extras = wanted.extras or {""}
        key = re.sub(r"[-_.]+", "-", wanted.name).lower()
        if key in found and not wanted.extras:
            continue
        found.add(key)
        for line in distribution(wanted.name).requires or ():
            below = Requirement(line)
            if below.marker is None or any(below.marker.evaluate({"extra": extra}) for extra in extras):
                waiting.append(below)
    return found
