"""Bodies of requests, taken by the word: a field that is a number is not given as a text, nor a flag as a number."""

import json
from collections.abc import Callable
from typing import Any

from pydantic import GetCoreSchemaHandler, TypeAdapter, ValidationError
from pydantic_core import CoreSchema, InitErrorDetails, PydanticCustomError, core_schema

_NO_TEXT = "holds the control character U+0000, which can't be stored"


class Strict:
    """Marks a body that has to be what the API's document says, where pydantic would take `"5"` or `true` for 5."""

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        """Return what validates a body that was parsed already; its documentation is that of its record."""
        whole: TypeAdapter[Any] = TypeAdapter(source)

        def read(value: Any, refuse: Callable[[Any], Any]) -> Any:
            if isinstance(value, bytes):  # what came was not said to be JSON
                return refuse(value)
            text = json.dumps(value)
            try:
                made = whole.validate_json(text, strict=True)  # from JSON, so that lists are tuples
            except ValidationError as exc:
                if exc.errors()[0]["type"] == "json_invalid":  # half a character: named where it is, not in the JSON
                    refuse(value)
                raise
            if "\\u0000" in text:
                _refuse_nul(value, ())
            return made

        return core_schema.no_info_wrap_validator_function(read, handler(source))


def _refuse_nul(value: Any, place: tuple[int | str, ...]) -> None:
    """Refuse texts that Postgres can't hold, wherever they are in a body. Raises ValidationError, naming the field."""
    match value:
        case str() if "\0" in value:
            error = InitErrorDetails(type=PydanticCustomError("nul", _NO_TEXT), loc=place, input=value)
            raise ValidationError.from_exception_data("body", [error])
        case dict():
            for name, item in value.items():
                _refuse_nul(item, (*place, name))
        case list():
            for number, item in enumerate(value):
                _refuse_nul(item, (*place, number))
