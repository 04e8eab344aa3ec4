"""What Celery beat rings for, by name: each entry is a message to a worker, which does the work.

Beat knows nothing of what is due. An entry asks a worker to look, and the worker asks Postgres: so two beats, a beat
that was away, or a message that came twice change nothing.
"""

from typing import Any

from schema.settings import Settings


def entries(settings: Settings) -> dict[str, dict[str, Any]]:
    """Return Celery's `beat_schedule`. A message that nobody took until the next one is due is dropped."""
    return {"sweep": _every(settings.sweep_s, "workers.sweep")}


def _every(seconds: float, task: str) -> dict[str, Any]:
    """Return an entry that asks a control worker for a task every so often."""
    return {"task": task, "schedule": seconds, "options": {"queue": "control", "expires": seconds}}
