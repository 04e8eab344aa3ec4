"""Times that people give: ISO 8601 with an offset, and nothing that merely could be one, such as a number."""

from datetime import datetime
from typing import Annotated, Any

from pydantic import AwareDatetime, BeforeValidator


def _read(value: Any) -> Any:
    """Return a text as the time that it is; numbers, which pydantic takes for seconds since 1970, are none."""
    if isinstance(value, int | float | str):
        try:
            return datetime.fromisoformat(str(value))
        except ValueError as exc:
            raise ValueError("must be a date and a time with an offset, such as 2026-02-03T10:15:00Z") from exc
    return value


Moment = Annotated[AwareDatetime, BeforeValidator(_read)]
