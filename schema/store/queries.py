"""Loads a noun's named queries."""

from importlib.resources import files
from typing import Any

import aiosql


def load_queries(noun: str) -> Any:
    """Return the queries of `<noun>.sql` as functions of a connection."""
    return aiosql.from_str((files("schema.store") / f"{noun}.sql").read_text(), "psycopg", mandatory_parameters=False)
