"""Examples of keys and of the audit log for the API's documentation."""

from service.examples import Example

_KEY_ID = "5f0c4a3e-7b61-4f0d-9c55-2f6f1a7f0b42"

KEY_SPECS: Example = {
    "person": {
        "summary": "To read, and to ask for runs, for a year",
        "value": {
            "name": "ada's notebook",
            "scope": "submit",
            "expires_at": "2036-02-03T00:00:00Z",
        },
    },
    "script": {"summary": "To read only", "value": {"name": "dashboard"}},
}
KEY: Example = {
    "id": _KEY_ID,
    "name": "ada's notebook",
    "scope": "submit",
    "created_at": "2026-02-03T10:15:00Z",
    "expires_at": "2036-02-03T00:00:00Z",
    "revoked_at": None,
    "used_at": "2026-02-03T10:17:00Z",
}
NEW_KEY: Example = {**KEY, "used_at": None, "text": "glk_5f0c4a3e7b614f0d9c552f6f1a7f0b42_THE-SECRET-OF-43-CHARACTERS"}
AUDIT_ENTRY: Example = {
    "id": 1204,
    "at": "2026-02-03T10:17:42Z",
    "key_id": _KEY_ID,
    "key_name": "ada's notebook",
    "method": "POST",
    "path": "/v1/runs",
    "status": 201,
}
