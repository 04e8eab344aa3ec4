"""Bodies of requests, taken by the word: a field that is a number is not given as a text, nor a flag as a number."""

import json
from collections.abc import Callable
from typing import Any

from pydantic import GetCoreSchemaHandler, TypeAdapter
from pydantic_core import CoreSchema, core_schema


class Strict:
    """Marks a body that has to be what the API's document says, where pydantic would take `"5"` or `true` for 5."""

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        """Return what validates a body that was parsed already; its documentation is that of its record."""
        whole: TypeAdapter[Any] = TypeAdapter(source)

        def read(value: Any, refuse: Callable[[Any], Any]) -> Any:
            if isinstance(value, bytes):  # what came was not said to be JSON
                return refuse(value)
            return whole.validate_json(json.dumps(value), strict=True)  # from JSON, so that lists are tuples

        return core_schema.no_info_wrap_validator_function(read, handler(source))
