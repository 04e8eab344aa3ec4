"""Claims: how long a worker waits for its next job where a million are ready, on the stack's own Postgres."""

import statistics
import tempfile
import time
import uuid
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from signal import SIGINT

from psycopg.types.json import Jsonb
from psycopg_pool import ConnectionPool

from schema.stages import stages_of
from schema.store import database, jobs, sweeper
from schema.store.database import Connection
from service.folder import DataFolder
from tests.benchmarks.measure import Row, at_most
from tests.chaos.servers import Postgres

N_RUNS, N_JOBS = 100, 10_000  # of each run
N_CLAIMS = 1000
N_WORKERS = 8
MOST_MS = 20.0


def claims() -> Iterator[Row]:
    """Yield the 95th percentile of a claim, of a finished job and of a sweep, with a million ready jobs in 100 runs."""
    with running_postgres() as postgres:
        pool = database.open_pool(postgres.url, max_size=N_WORKERS)
        try:
            with database.lend(pool) as connection:
                _fill(connection)
            alone = _work(pool, N_CLAIMS)
            with ThreadPoolExecutor(N_WORKERS) as workers:
                parts = list(workers.map(partial(_work, pool), [N_CLAIMS // N_WORKERS] * N_WORKERS))
            together = [one for part in parts for one in part]
            yield _row("p95 of a claim by one worker", [claimed for claimed, _ in alone])
            crowd = _row(f"p95 of a claim by {N_WORKERS} who do nothing else", [claimed for claimed, _ in together])
            yield crowd._replace(target="none", met=None)
            yield _row("p95 of the end of a job", [finished for _, finished in alone])
            yield _row("p95 of a sweep", [_sweep(pool) for _ in range(20)])
        finally:
            pool.close()


@contextmanager
def running_postgres(kept: Path | None = None) -> Iterator[Postgres]:
    """Lend a Postgres on a folder that is kept, or on one that is not."""
    with tempfile.TemporaryDirectory(prefix="glossarium-bench-", ignore_cleanup_errors=True) as folder:
        Path(folder).chmod(0o711)
        postgres = Postgres(DataFolder(kept or Path(folder)))
        postgres.start()
        try:
            yield postgres
        finally:
            postgres.stop(SIGINT)


def _fill(connection: Connection) -> None:
    """Store the runs with their jobs, as `jobs.insert` does, in one statement."""
    dictionary = uuid.uuid4()
    connection.execute(
        "INSERT INTO dictionary (id, tenant_id, spec, state, digest) VALUES (%s, 1, %s, 'ready', '')",
        (dictionary, Jsonb({})),
    )
    connection.execute("SET LOCAL statement_timeout = 0")
    connection.execute(
        """INSERT INTO run (id, tenant_id, dictionary_id, spec)
           SELECT gen_random_uuid(), 1, %s, '{}' FROM generate_series(1, %s)""",
        (dictionary, N_RUNS),
    )
    connection.execute(
        """INSERT INTO job (run_id, stage, queue, block, state, vtime)
           SELECT run.id, 'steering', 'subject', block, 'ready', block
           FROM run, generate_series(1, %s) AS block""",
        (N_JOBS,),
    )
    connection.execute("ANALYZE run, job")


def _work(pool: ConnectionPool[Connection], n: int) -> list[tuple[float, float]]:
    """Claim and finish n jobs, and return the milliseconds of both."""
    return [_claim_and_finish(pool) for _ in range(n)]


def _claim_and_finish(pool: ConnectionPool[Connection]) -> tuple[float, float]:
    started = time.perf_counter()
    with database.lend_autocommit(pool) as connection:  # as workers do
        job = jobs.claim(connection, stages_of("subject"), owner="bench", lease_s=90)
    claimed = time.perf_counter()
    assert job is not None
    with database.lend(pool) as connection:
        jobs.finish(connection, job)
    return 1000 * (claimed - started), 1000 * (time.perf_counter() - claimed)


def _sweep(pool: ConnectionPool[Connection]) -> float:
    started = time.perf_counter()
    with database.lend(pool) as connection:
        sweeper.sweep(connection)
    return 1000 * (time.perf_counter() - started)


def _row(name: str, milliseconds: list[float]) -> Row:
    p95 = statistics.quantiles(milliseconds, n=20)[-1]
    return at_most(name, p95, MOST_MS, 1.0, "ms", f"20 ms, with {N_RUNS * N_JOBS:,} ready jobs in {N_RUNS} runs")
