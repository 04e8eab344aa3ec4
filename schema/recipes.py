"""Recipes: the sha256 of what a result is made from, never of floats that were computed."""

import hashlib
import json
from typing import Any


def digest(ingredients: Any) -> str:
    """Return the sha256 (hex) of a JSON-serialisable value, independent of the order of keys."""
    text = json.dumps(ingredients, sort_keys=True, separators=(",", ":"), ensure_ascii=False, default=str)
    return hashlib.sha256(text.encode()).hexdigest()
