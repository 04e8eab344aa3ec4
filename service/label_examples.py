"""Examples of edits, lookups, comparisons and usage for the API's documentation. Tests hold them against records."""

from service.examples import DICTIONARY, LABEL, Example
from service.feature_examples import FEATURE_SUMMARY
from service.schedule_examples import FEATURE_DIFF

LABEL_EDIT: Example = {
    "text": "Names of rivers, and of what lies on them.",
    "author": "ada",
    "note": "the bridges fire as well",
    "seen": 51,
}
EDITS: Example = {
    "edit": {"summary": "Over the label that was seen", "value": LABEL_EDIT},
    "first": {"summary": "Where there is none", "value": {"text": "Rivers.", "seen": None}},
}
EDITED: Example = {
    "id": 77,
    "feature": 412,
    "text": LABEL_EDIT["text"],
    "status": "ok",
    "method": "imported",
    "description_id": 9044,
    "author": "ada",
    "note": LABEL_EDIT["note"],
    "created_at": LABEL["created_at"],
}
LABELS_WANTED: Example = {
    "two": {
        "summary": "Two features of one dictionary",
        "value": {"features": [[DICTIONARY["id"], 412], [DICTIONARY["id"], 7]]},
    }
}
LABELS_FOUND: Example = {
    "items": [
        {
            "id": 51,
            "text": LABEL["text"],
            "status": "ok",
            "method": "combined",
            "author": "glossarium",
            "input_value": 0.92,
            "input_lift": 0.41,
            "output_value": 0.7,
            "output_lift": 0.37,
        },
        None,
    ]
}
SIMILAR_FEATURES: Example = {"items": [{"cosine": 0.41, "feature": {**FEATURE_SUMMARY, "index": 88}}], "reason": None}
RUN_DIFF: Example = {
    "items": [{name: FEATURE_DIFF[name] for name in ("feature", "change", "before", "after")}],
    "next_cursor": None,
}
_TOTALS: Example = {
    "calls": 31,
    "from_cache": 4,
    "attempts": 28,
    "prompt_tokens": 24_180,
    "cached_tokens": 9_216,
    "completion_tokens": 1_902,
    "dollars": 0.0078,
}
USAGE: Example = {
    "total": _TOTALS,
    "items": [{**_TOTALS, "day": "2026-02-03", "purpose": "describe combined", "model": "smollm2-135m-instruct"}],
    "next_cursor": None,
}
