"""Examples of webhooks for the API's documentation. A test holds each against its record."""

from service.examples import DICTIONARY, RUN, Example
from service.schedule_examples import REFRESH, SCHEDULE

_AT = "2026-02-03T10:15:00Z"
_WEBHOOK_ID = "c0a86f1e-5b7d-4e39-9d12-3f4a5b6c7d8e"
WEBHOOK_SPEC: Example = {
    "url": "https://hooks.example.com/glossarium",
    "events": ["run.finished", "refresh.diff", "budget.reached"],
}
WEBHOOK_SPECS: Example = {
    "everything": {"summary": "Tell of everything", "value": WEBHOOK_SPEC},
    "budgets": {
        "summary": "Only runs that stop at their budget",
        "value": {"url": "https://hooks.example.com/money?team=4", "events": ["budget.reached"]},
    },
}
WEBHOOK_PATCHES: Example = {
    "pause": {"summary": "Let it rest", "value": {"paused": True}},
    "resume": {"summary": "Take it up again, also when it was disabled", "value": {"paused": False}},
}
WEBHOOK: Example = {
    "id": _WEBHOOK_ID,
    "spec": WEBHOOK_SPEC,
    "state": "active",
    "last_error": None,
    "n_due": 0,
    "created_at": _AT,
}
NEW_WEBHOOK: Example = {
    **WEBHOOK,
    "secret": "whsec_2f6a1d0c9b8e7f5a4c3b2d1e0f9a8b7c6d5e4f3a2b1c0d9e8f7a6b5c4d3e2f1a",
}
RUN_NOTICE: Example = {
    "id": "7d1f3c2b-6a5e-4b8d-9f01-2c3d4e5f6a7b",
    "event": "run.finished",
    "created_at": _AT,
    "data": {
        "run_id": RUN["id"],
        "dictionary_id": DICTIONARY["id"],
        "dictionary": DICTIONARY["spec"]["name"],
        "state": "done",
        "note": None,
        "n_features": 24,
        "created_at": RUN["created_at"],
        "finished_at": _AT,
    },
}
DIFF_NOTICE: Example = {
    **RUN_NOTICE,
    "event": "refresh.diff",
    "data": {
        "schedule_id": SCHEDULE["id"],
        "schedule": SCHEDULE["spec"]["name"],
        "refresh_id": REFRESH["id"],
        "dictionary_id": DICTIONARY["id"],
        **{name: REFRESH[name] for name in ("run_id", "slot", "state", "note", "n_features", "reasons", "changes")},
    },
}
DELIVERY: Example = {
    **RUN_NOTICE,
    "webhook_id": _WEBHOOK_ID,
    "state": "due",
    "attempts": 2,
    "last_error": "HTTP 500",
    "due_at": "2026-02-03T10:17:40Z",
    "delivered_at": None,
}
TEST_DELIVERY: Example = {
    **DELIVERY,
    "event": "test",
    "data": None,
    "attempts": 0,
    "last_error": None,
    "due_at": _AT,
}
