"""Examples of events for the API's documentation."""

import json

from service.examples import RUN, Example

RUN_EVENT: Example = {name: value for name, value in RUN.items() if name not in ("usage", "dead")}
_EVENT: Example = {
    "type": "object",
    "description": "One event of the stream",
    "required": ["event", "data"],
    "properties": {
        "id": {"type": "string", "description": "for `Last-Event-ID`; of `run` only"},
        "event": {"type": "string", "enum": ["run", "gone"]},
        "data": {"type": "string", "contentMediaType": "application/json"},
    },
}
EVENTS: dict[int | str, Example] = {
    200: {
        "description": "Events `run` with a Run, without its usage, for as long as it goes on; `gone` if it is deleted",
        "content": {
            "text/event-stream": {
                "schema": _EVENT,
                "example": f"id: 5f0c1b7e92d4a836\nevent: run\ndata: {json.dumps(RUN_EVENT)}\n\n",
            }
        },
    },
    204: {"description": "The run is over, and its last event was seen"},
}
