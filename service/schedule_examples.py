"""Examples of schedules for the API's documentation. A test holds each against its record."""

from service.examples import RUN, RUN_SPEC, Example

_AT = "2026-02-03T10:15:00Z"
_SCHEDULE_ID = "4f0a7c52-9d1e-4b7a-8f63-2b1c5d7e9a04"
SCHEDULE_SPEC: Example = {
    "name": "nightly",
    "run": {**RUN_SPEC, "features": "alive"},
    "cron": "0 3 * * *",
    "time_zone": "Europe/Paris",
    "policy": {"unlabelled": True, "failed": True, "changed": True, "tries": 3},
    "max_features": 5000,
}
SCHEDULE_SPECS: Example = {
    "nightly": {"summary": "What changed, every night at three in Paris", "value": SCHEDULE_SPEC},
    "weak": {
        "summary": "On Sundays, only weak labels that would be made otherwise now",
        "value": {
            "name": "weak labels",
            "run": RUN_SPEC,
            "cron": "30 1 * * SUN",
            "policy": {"changed": False, "input_lift_below": 0.1},
        },
    },
}
SCHEDULE_PATCHES: Example = {
    "pause": {"summary": "Pause", "value": {"paused": True}},
    "hour": {"summary": "At another hour", "value": {"cron": "0 5 * * *"}},
}
SCHEDULE: Example = {
    "id": _SCHEDULE_ID,
    "spec": SCHEDULE_SPEC,
    "paused": False,
    "created_at": _AT,
    "next_slot": "2026-02-04T02:00:00Z",
}
REFRESH: Example = {
    "id": "a3d9c6f1-0b52-4e8d-9c74-6f1e2a3b4c5d",
    "schedule_id": _SCHEDULE_ID,
    "slot": "2026-02-03T02:00:00Z",
    "state": "done",
    "run_id": RUN["id"],
    "note": None,
    "n_missed": 0,
    "n_stale": 24,
    "n_features": 24,
    "reasons": {"unlabelled": 3, "prompt": 21},
    "changes": {"new": 3, "changed": 14, "rescored": 5, "same": 2},
    "fired_at": "2026-02-03T02:00:04Z",
    "finished_at": "2026-02-03T02:31:40Z",
}
ASKED_REFRESH: Example = {
    **REFRESH,
    "slot": "2026-02-03T14:31:07Z",
    "state": "due",
    "run_id": None,
    "n_stale": None,
    "n_features": None,
    "reasons": {},
    "changes": {},
    "fired_at": "2026-02-03T14:31:07Z",
    "finished_at": None,
}
FEATURE_DIFF: Example = {
    "feature": 82,
    "reason": "prompt",
    "change": "changed",
    "before": {
        "label": "promotes verbs of motion",
        "status": "ok",
        "method": "vocabulary",
        "input_lift": 0.12,
        "output_lift": 0.31,
    },
    "after": {
        "label": "verbs of leaving a place",
        "status": "ok",
        "method": "combined",
        "input_lift": 0.38,
        "output_lift": 0.34,
    },
}
DIFF: Example = {"refresh": REFRESH, "items": [FEATURE_DIFF], "next_cursor": None}
