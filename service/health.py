"""Whether this process answers, and whether what it needs is there."""

import redis
from fastapi import APIRouter, Response

from schema.errors import DatabaseUnavailable, NewerSchema
from schema.settings import Settings
from schema.store.database import Connection, pending, refuse_newer
from schema.wire import Check, Health, Readiness
from service import examples
from service.deps import Held, Services

router = APIRouter(tags=["health"])
_SOCKET_S = 1.0


@router.get("/health", responses=examples.ok(examples.HEALTH))
async def health() -> Health:
    """The process answers. It says nothing of the servers that it needs: see `/ready`."""
    return Health()


@router.get(
    "/ready",
    response_model=Readiness,
    responses={
        **examples.ok(examples.READY),
        503: {
            "model": Readiness,
            "description": "Not ready; the reasons are in the body",
            "content": {"application/json": {"example": examples.NOT_READY}},
        },
    },
)
def ready(held: Held, response: Response) -> Readiness:
    """Whether requests can be served: the database, its migrations and Redis, each by itself.

    Redis is only the doorbell, so its absence delays work and does not make the service unready.
    """
    readiness = examine(held)
    if not readiness.ready:
        response.status_code = 503
        response.headers["Retry-After"] = "5"
    return readiness


def examine(held: Services) -> Readiness:
    """Return what is there and what is not."""
    try:
        migrations = held.database.run(_migrations)
        database = Check(ok=True)
    except DatabaseUnavailable as exc:
        database = Check(ok=False, reason=str(exc))
        migrations = Check(ok=False, reason="not known while the database is away")
    ready = database.ok and migrations.ok
    return Readiness(ready=ready, database=database, migrations=migrations, redis=_redis(held.settings))


def _migrations(connection: Connection) -> Check:
    try:
        refuse_newer(connection)
    except NewerSchema as exc:
        return Check(ok=False, reason=str(exc))
    missing = pending(connection)
    reason = f"missing: {', '.join(missing)}; start the stack again or apply them" if missing else None
    return Check(ok=not missing, reason=reason)


def _redis(settings: Settings) -> Check:
    client = redis.Redis.from_url(
        settings.redis_url, socket_timeout=_SOCKET_S, socket_connect_timeout=_SOCKET_S, retry=None
    )
    try:
        client.ping()
    except redis.RedisError as exc:
        return Check(ok=False, reason=f"Redis does not answer; workers find work by themselves, later: {exc}")
    finally:
        client.close()
    return Check(ok=True)
