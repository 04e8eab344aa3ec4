"""Examples of collections for the API's documentation. A test holds each against its record."""

from service.examples import DICTIONARY, RUN, RUN_SPEC, Example

_AT = "2026-02-03T10:15:00Z"
_COLLECTION_ID = "9d3a1f6e-70c4-4f0e-8a52-31c7b5e4d2f8"
COLLECTION_SPEC: Example = {"name": "a release of autoencoders", "dictionary_ids": [DICTIONARY["id"]]}
COLLECTION_SPECS: Example = {"layers": {"summary": "Dictionaries that were submitted before", "value": COLLECTION_SPEC}}
COLLECTION: Example = {
    "id": _COLLECTION_ID,
    "name": COLLECTION_SPEC["name"],
    "dictionaries": [DICTIONARY],
    "created_at": _AT,
}
RUN_TERMS: Example = {name: value for name, value in RUN_SPEC.items() if name != "dictionary_id"}
ALL_RUN_TERMS: Example = {
    "sample": {"summary": "24 features of each dictionary", "value": RUN_TERMS},
    "budget": {
        "summary": "At most fifty dollars for all of them together",
        "value": {"features": "alive", "llm": "large", "budget": {"dollars": 50}},
    },
}
COLLECTION_RUN: Example = {
    "id": "2c8e5b91-4a7d-4d36-b0f9-6e1d8c3a7f52",
    "collection_id": _COLLECTION_ID,
    "spec": RUN_TERMS,
    "created_at": _AT,
    "runs": [{**RUN, "stages": [], "counts": [], "usage": None}],
}
