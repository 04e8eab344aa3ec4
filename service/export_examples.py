"""Examples of exports and imports for the API's documentation."""

from typing import Any

Example = dict[str, Any]

_CSV = "index,status,label,method,author\n412,ok,Fires on the names of rivers,combined,glossarium\n"

LABELS_IMPORTED: Example = {
    "origin": "neuronpedia gpt2-small/6-res-jb",
    "n_labels": 24_570,
    "n_features": 24_570,
    "n_new": 24_570,
}

EXPORTED: dict[int | str, Example] = {
    200: {
        "description": "The file, sent as it is read. Of delphi, neuronpedia and archive it is a tar.",
        "content": {
            "text/csv": {"example": _CSV},
            "application/json": {"example": {"412": "Fires on the names of rivers"}},
            "application/vnd.apache.parquet": {"schema": {"type": "string", "format": "binary"}},
            "application/x-tar": {"schema": {"type": "string", "format": "binary"}},
        },
    }
}
