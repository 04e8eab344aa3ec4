"""docker-compose.yml as an engine reads it: merged, variables put in, services in the order of their start."""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).parent.parent.parent
CHOSEN = {"POSTGRES_PASSWORD": "chosen", "GLOSSARIUM_SECRET": "at-random-and-long-enough"}
_VARIABLE = re.compile(r"\$\$|\$\{(?P<name>\w+)(?:(?P<how>:[-?])(?P<text>[^}]*))?\}")


class NotGiven(Exception):
    """A variable that must be given is not."""


def read(variables: Mapping[str, str] = CHOSEN) -> dict[str, Any]:
    """Return the document with its variables put in. Raises NotGiven."""
    document = yaml.safe_load((ROOT / "docker-compose.yml").read_text())
    filled: dict[str, Any] = _fill(document, variables)
    return filled


def in_order(services: Mapping[str, Any]) -> list[str]:
    """Return the services that start without a profile, each after those that it depends on."""
    ordered: list[str] = []

    def add(name: str) -> None:
        for other in services[name].get("depends_on", {}):
            add(other)
        if name not in ordered:
            ordered.append(name)

    for name, service in services.items():
        if "profiles" not in service:
            add(name)
    return ordered


def _fill(value: Any, variables: Mapping[str, str]) -> Any:
    match value:
        case str():
            return _VARIABLE.sub(lambda found: _value(found, variables), value)
        case dict():
            return {key: _fill(item, variables) for key, item in value.items()}
        case list():
            return [_fill(item, variables) for item in value]
    return value


def _value(found: re.Match[str], variables: Mapping[str, str]) -> str:
    if found[0] == "$$":
        return "$"
    given = variables.get(found["name"], "")
    if not given and found["how"] == ":?":
        raise NotGiven(f"{found['name']}: {found['text']}")
    return given or (found["text"] if found["how"] == ":-" else "")
