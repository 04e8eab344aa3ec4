"""Addresses of pages: what one asks for, and the same one with something else asked for."""

from collections.abc import Collection
from typing import Any, TypeVar, get_origin
from urllib.parse import urlencode

from fastapi import Request
from pydantic import BaseModel, ValidationError

from schema.errors import InvalidInput

M = TypeVar("M", bound=BaseModel)


def asked(request: Request, model: type[M], *, exact: Collection[str] = ()) -> M:
    """Return what an address asks for. What a form leaves blank asks for nothing, nor does what is not known.

    exact:   fields in which blanks mean something.
    Raises:  InvalidInput, with every value that is not one.
    """
    given: dict[str, Any] = {}
    for name, field in model.model_fields.items():
        values = [value for value in request.query_params.getlist(name) if value.strip() or (value and name in exact)]
        if values:
            given[name] = values if get_origin(field.annotation) is tuple else values[-1]
    try:
        return model.model_validate(given)
    except ValidationError as exc:
        wrong = (f"{'.'.join(map(str, one['loc']))}={str(one['input'])[:80]!r}: {one['msg']}" for one in exc.errors())
        raise InvalidInput("; ".join(wrong)) from exc


def address(request: Request, **changes: str | None) -> str:
    """Return the address of a page with other values; None asks for nothing, and so does the page's cursor."""
    changed = {"cursor": None, **changes}
    kept = [(name, value) for name, value in request.query_params.multi_items() if value and name not in changed]
    new = [(name, value) for name, value in changed.items() if value is not None]
    query = urlencode([*kept, *new])
    return f"{request.url.path}?{query}" if query else request.url.path
