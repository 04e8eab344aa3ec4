"""What is asked of features as SQL: a condition for each filter that is given, and what is bound to it."""

from typing import Any, LiteralString, NamedTuple

from schema.wire import TraitFilter

_CONDITIONS: dict[str, LiteralString] = {
    "status": "feature.status = ANY(%(status)s)",
    "method": "feature.method = ANY(%(method)s)",
    "input_success": "feature.input_success = %(input_success)s",
    "output_success": "feature.output_success = %(output_success)s",
    "min_density": "feature.density >= CAST(%(min_density)s AS real)",
    "max_density": "feature.density <= CAST(%(max_density)s AS real)",
    "min_input_value": "feature.input_value >= CAST(%(min_input_value)s AS real)",
    "max_input_value": "feature.input_value <= CAST(%(max_input_value)s AS real)",
    "min_input_lift": "feature.input_lift >= CAST(%(min_input_lift)s AS real)",
    "max_input_lift": "feature.input_lift <= CAST(%(max_input_lift)s AS real)",
    "min_output_value": "feature.output_value >= CAST(%(min_output_value)s AS real)",
    "max_output_value": "feature.output_value <= CAST(%(max_output_value)s AS real)",
    "min_output_lift": "feature.output_lift >= CAST(%(min_output_lift)s AS real)",
    "max_output_lift": "feature.output_lift <= CAST(%(max_output_lift)s AS real)",
    "q": "feature.label ILIKE %(q)s",
    "run_id": """EXISTS (
        SELECT 1 FROM run_feature
        WHERE run_feature.run_id = %(run_id)s AND run_feature.feature = feature.index AND run_feature.selected)""",
}
_ONE_STATUS: LiteralString = "feature.status = %(status)s"
"""In an order by index, one status is a range of an index; any of several are not."""


class Conditions(NamedTuple):
    """What rows of `feature` must fulfil, each by itself, and what is bound to it."""

    parts: list[LiteralString]
    parameters: dict[str, Any]


def conditions_of(filters: TraitFilter) -> Conditions:
    """Return the conditions of the filters that are given; a field that has none, as which dictionary, is left out."""
    given = {name: value for name, value in filters if name in _CONDITIONS and value not in (None, ())}
    parts = [_ONE_STATUS if name == "status" and len(given[name]) == 1 else _CONDITIONS[name] for name in given]
    return Conditions(parts, {name: _bound(name, value) for name, value in given.items()})


def _bound(name: str, value: Any) -> Any:
    if name == "q":
        return f"%{_literally(value)}%"
    if name == "status" and len(value) == 1:
        return str(value[0])
    return list(map(str, value)) if isinstance(value, tuple) else value


def _literally(text: str) -> str:
    """Return text with the wildcards of LIKE escaped."""
    return text.replace("\\", "\\\\").replace("%", "\\%").replace("_", "\\_")
