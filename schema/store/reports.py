"""Reports of runs, and the counts in them that the database makes."""

from collections.abc import Iterable
from typing import NamedTuple
from uuid import UUID

from schema.errors import NotFound
from schema.labels import Status
from schema.records import Method
from schema.reports import RunReport
from schema.stages import Stage
from schema.store.database import Connection
from schema.store.queries import as_json, load_queries

_queries = load_queries("reports")


class Described(NamedTuple):
    """A description, as far as a report counts it."""

    id: int
    method: Method
    status: Status


def put(connection: Connection, report: RunReport) -> None:
    """Write (or write again) the report of a run."""
    body = report.model_dump(mode="json", exclude={"created_at"})
    _queries.put(connection, run_id=report.run_id, body=as_json(body))


def get(connection: Connection, tenant_id: int, run_id: UUID) -> RunReport:
    """Return the report of a run.

    Raises: NotFound if this tenant has no such run, or the run no report; the message says why.
    """
    row = _queries.get(connection, tenant_id=tenant_id, run_id=run_id)
    if row is None:
        raise NotFound(_why_absent(connection, tenant_id, run_id))
    body, created_at = row
    return RunReport.model_validate({**body, "created_at": created_at})


def described(connection: Connection, ids: Iterable[int]) -> list[Described]:
    """Return by which methods some descriptions were made, and with what status."""
    rows = _queries.described(connection, ids=list(ids))
    return [Described(id_, method, Status(status)) for id_, method, status in rows]


def n_dead(connection: Connection, run_id: UUID) -> int:
    """Return how many of a run's features never fired in the corpus."""
    return int(_queries.n_dead(connection, run_id=run_id))


def _why_absent(connection: Connection, tenant_id: int, run_id: UUID) -> str:
    row = _queries.why_absent(connection, tenant_id=tenant_id, run_id=run_id, stage=Stage.REPORT)
    if row is None:
        return f"no run {run_id}"
    run, job, error = row
    if job == "dead":
        return f"run {run_id} has no report: the job that makes it failed ({error})"
    if run in ("queued", "running", "paused"):
        return f"run {run_id} is {run} and has no report yet; it is made when the last label is published"
    return f"run {run_id} is {run} and has no report"
