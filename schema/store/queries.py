"""Loads a noun's named queries, and writes values as Postgres takes them: as JSON, and many numbers as an array."""

import json
from collections.abc import Iterable
from importlib.resources import files
from typing import Any

import aiosql
from psycopg.types.json import Jsonb

_NUL, _REPLACEMENT = "\0", "\ufffd"


def load_queries(noun: str) -> Any:
    """Return the queries of `<noun>.sql` as functions of a connection."""
    return aiosql.from_str((files("schema.store") / f"{noun}.sql").read_text(), "psycopg", mandatory_parameters=False)


def as_json(value: Any) -> Jsonb:
    """Return a value to be stored as jsonb. NUL, which tokens can hold and jsonb can't, becomes U+FFFD."""
    return Jsonb(value, dumps=_dumps)


def as_array(numbers: Iterable[int]) -> str:
    """Return numbers as the text of an array, which takes a tenth of the time that adapting each of them does."""
    return "{" + ",".join(map(str, numbers)) + "}"


def _dumps(value: Any) -> str:
    text = json.dumps(value)
    return text if "\\u0000" not in text else json.dumps(_without_nul(value))


def _without_nul(value: Any) -> Any:
    if isinstance(value, str):
        return value.replace(_NUL, _REPLACEMENT)
    if isinstance(value, dict):
        return {_without_nul(key): _without_nul(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_without_nul(item) for item in value]
    return value
