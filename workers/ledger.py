"""The ledger of LLM calls: one row each, whatever became of it, in Postgres.

A row is a transaction of its own: what was spent stays spent, whoever holds the lease of the job by then.
"""

from schema.store import calls
from schema.store.calls import Call
from workers.engine import Context


class StoredLedger:
    """What `workers.llm.complete` enters a run's calls in."""

    def __init__(self, context: Context, tenant_id: int) -> None:
        """Enter the calls of a job's run, which is one of a tenant's."""
        self._context = context
        self._tenant_id = tenant_id

    def record(self, call: Call) -> None:
        """Enter a call that is over."""
        with self._context.transaction() as connection:
            calls.put(connection, self._tenant_id, self._context.job.run_id, call)
