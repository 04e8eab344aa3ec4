"""Examples of events for the API's documentation."""

import json

from service.examples import RUN, Example

RUN_EVENT: Example = {name: value for name, value in RUN.items() if name not in ("usage", "dead")}
EVENTS: dict[int | str, Example] = {
    200: {
        "description": "Events `run` with a Run, without its usage, for as long as it goes on; `gone` if it is deleted",
        "content": {
            "text/event-stream": {
                "schema": {"type": "string"},
                "example": f"id: 5f0c1b7e92d4a836\nevent: run\ndata: {json.dumps(RUN_EVENT)}\n\n",
            }
        },
    },
    204: {"description": "The run is over, and its last event was seen"},
}
