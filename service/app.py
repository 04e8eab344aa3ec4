"""The HTTP API: `uvicorn service.app:start --factory`. Routers, one a noun, over the same store functions."""

import gc
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from functools import partial
from uuid import UUID

from fastapi import Depends, FastAPI
from fastapi.concurrency import run_in_threadpool

from schema.blobs import open_blobs
from schema.errors import DatabaseUnavailable
from schema.logs import configure_logging
from schema.records import Run
from schema.release import release
from schema.settings import Settings, load_settings
from schema.store import database, keys
from schema.store import runs as store_runs
from schema.store.database import open_pool
from service import (
    collections,
    comparisons,
    conditional,
    corpora,
    dictionaries,
    docs,
    edits,
    errors,
    estimates,
    events,
    exports,
    features,
    guards,
    health,
    imports,
    labels,
    lookups,
    metrics,
    prompts,
    runs,
    schedules,
    search,
    trials,
    usage,
    webhooks,
)
from service import keys as key_room
from service.auth import Gate
from service.deps import Database, Services, authenticated
from service.following import Following
from service.meaning import Embedder
from service.pages import site
from service.queue import open_doorbell
from service.rates import open_rates
from service.requests import Requests

_ROOMS = (
    dictionaries,
    collections,
    corpora,
    estimates,
    runs,
    events,
    comparisons,
    schedules,
    webhooks,
    features,
    labels,
    trials,
    search,
    edits,
    lookups,
    exports,
    imports,
    prompts,
    usage,
    key_room,
    health,
)
_OPEN = (health,)
"""Rooms that anybody may enter; all others want a key."""
_TURN_S = 0.001
"""Of the interpreter: at 5 ms, its own default, short requests wait for long ones at each of their steps."""
_DESCRIPTION = """
Glossarium labels the features of a language model: submit a dictionary for a subject, ask for a run, follow
its stages, and query features with their label, evidence, descriptions, scores and provenance.

Every request needs an API key, as `Authorization: Bearer glk_…`; only `/health`, `/ready` and this page do not. (The
pages keep theirs in a cookie, with which a browser may call the API from them, and from nowhere else.)
Every error is `application/problem+json` with the value, the limit and what to do. Lists are pages: give `next_cursor`
of a page as `cursor` for the next one. Every POST that stores something takes an `Idempotency-Key`, so that for 30 days
it can be repeated safely. What a GET answers has an `ETag`: with that as `If-None-Match`, the same is answered by a 304
without a body.
"""


def _prepare(settings: Settings) -> None:
    """Apply missing migrations where the database is there. Raises NewerSchema: this process must not start."""
    with suppress(DatabaseUnavailable):
        database.prepare(settings.database_url)


def _read_run(held: Database, tenant_id: int, run_id: UUID) -> Run:
    return held.run(lambda connection: store_runs.standing(connection, tenant_id, run_id))


def start() -> FastAPI:
    """Return the application of a process that is nothing else: its log is ours."""
    settings = load_settings()
    configure_logging(settings)
    sys.setswitchinterval(_TURN_S)
    app = create_app(settings)
    gc.freeze()  # what is there now stays: to look through all of it again takes 90 ms, in which nobody is answered
    return app


def create_app(settings: Settings | None = None) -> FastAPI:
    """Return the application. It starts, and answers 503, while the database is away."""
    settings = settings or load_settings()

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        await run_in_threadpool(_prepare, settings)
        pool = open_pool(settings.database_url, statement_timeout_ms=settings.statement_timeout_ms)
        embedder = Embedder(settings)
        try:
            lent = Database(pool)
            gate = Gate(lambda id_: lent.run(partial(keys.find, id_=id_)), open_rates(settings))
            app.state.services = Services(settings, lent, open_blobs(settings), open_doorbell(settings), gate, embedder)
            app.state.following = Following(settings.database_url, partial(_read_run, lent))
            kept.watch(lent)
            yield
            await app.state.following.close()
        finally:
            embedder.close()
            await run_in_threadpool(pool.close)

    # The framework's own pages load scripts from elsewhere; ours needs nothing but this service.
    app = FastAPI(
        title="Glossarium",
        version=release(),
        description=_DESCRIPTION,
        lifespan=lifespan,
        docs_url=None,
        redoc_url=None,
    )
    errors.install(app)
    docs.install(app)
    kept = metrics.install(app)
    for room in _ROOMS:
        app.include_router(room.router, dependencies=[] if room in _OPEN else [Depends(authenticated)])
    site.install(app)
    conditional.install(app)
    app.add_middleware(guards.BodyLimit, most_bytes=settings.max_body_bytes)
    app.add_middleware(guards.Audit)
    app.add_middleware(guards.Headers)
    app.add_middleware(Requests, timings=kept.requests)  # in front of all others
    return app
