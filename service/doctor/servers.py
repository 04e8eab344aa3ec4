"""Postgres, Redis and the API, each asked."""

from collections.abc import Iterator

import httpx
import psycopg
import redis

from schema.errors import DatabaseUnavailable, NewerSchema
from schema.settings import Settings
from schema.store import database
from schema.store.database import Connection
from service.doctor.finding import Finding, failed, ok, warning

LEAST_VERSION = 160_000
EXTENSIONS = ("vector", "pg_trgm")
DURABLE = {"fsync": "on", "full_page_writes": "on", "synchronous_commit": "on"}
_FULL = 0.8  # of max_connections
_WAIT_S = 5.0


def check_database(settings: Settings) -> Iterator[Finding]:
    """Yield whether Postgres answers, and is one that can be worked with."""
    try:
        with database.connect(settings.database_url, statement_timeout_ms=10_000) as connection:
            yield from _look_into(connection)
    except (DatabaseUnavailable, psycopg.Error) as exc:
        advice = "start Postgres, or mend DATABASE_URL; nothing works without it"
        yield failed("database", str(exc).strip(), advice)


def _look_into(connection: Connection) -> Iterator[Finding]:
    yield _version(connection)
    yield _extensions(connection)
    yield _migrations(connection)
    yield from _durability(connection)
    yield _changes(connection)
    yield _connections(connection)


def _version(connection: Connection) -> Finding:
    version = connection.info.server_version
    said = f"PostgreSQL {version // 10_000}.{version % 10_000} answers"
    if version < LEAST_VERSION:
        return failed("database", said, f"update it to {LEAST_VERSION // 10_000} or later")
    return ok("database", said)


def _extensions(connection: Connection) -> Finding:
    found = {name for (name,) in connection.execute("SELECT extname FROM pg_extension").fetchall()}
    missing = [name for name in EXTENSIONS if name not in found]
    if missing:
        advice = (
            "install pgvector and contrib on the server, then `glossarium migrate` as a role that may create extensions"
        )
        return failed("extensions", f"missing: {', '.join(missing)}", advice)
    return ok("extensions", ", ".join(EXTENSIONS))


def _migrations(connection: Connection) -> Finding:
    try:
        database.refuse_newer(connection)
    except NewerSchema as exc:
        return failed("migrations", str(exc), "install that version here, or restore a backup of this one's")
    missing = database.pending(connection)
    if missing:
        return failed("migrations", f"missing: {', '.join(missing)}", "run `glossarium migrate`")
    return ok("migrations", f"all {len(database.known_migrations())} are applied")


def _durability(connection: Connection) -> Iterator[Finding]:
    """Yield what of the settings would lose work: a finished job is a commit and nothing else."""
    lossy = [f"{name} is {is_}" for name, meant in DURABLE.items() if (is_ := _setting(connection, name)) != meant]
    if lossy:
        yield failed("durability", "; ".join(lossy), "turn it on, or a crash of Postgres loses work that was paid for")
    else:
        yield ok("durability", ", ".join(DURABLE))


def _changes(connection: Connection) -> Finding:
    if _setting(connection, "transaction_read_only") == "on":
        advice = "name the primary in DATABASE_URL, or let it be written; until then nothing is submitted or labelled"
        return failed("changes", "Postgres is read-only", advice)
    return ok("changes", "Postgres takes them")


def _connections(connection: Connection) -> Finding:
    most = int(_setting(connection, "max_connections"))
    row = connection.execute("SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'client backend'").fetchone()
    used = int(row[0]) if row else 0
    said = f"{used} of {most} connections are in use"
    if used > _FULL * most:
        return failed("connections", said, "raise max_connections: a worker takes up to 13, an API 10")
    return ok("connections", said)


def _setting(connection: Connection, name: str) -> str:
    row = connection.execute("SELECT current_setting(%s)", (name,)).fetchone()
    return str(row[0]) if row else ""


def check_redis(settings: Settings) -> Iterator[Finding]:
    """Yield whether Redis answers, and whether it would drop messages."""
    client = redis.Redis.from_url(
        settings.redis_url, socket_timeout=_WAIT_S, socket_connect_timeout=_WAIT_S, retry=None
    )
    try:
        client.ping()
        yield ok("redis", "answers")
        yield _eviction(client)
    except redis.RedisError as exc:
        yield failed("redis", f"does not answer: {exc}", "start Redis, or mend REDIS_URL; until then work starts late")
    finally:
        client.close()


def _eviction(client: redis.Redis) -> Finding:
    try:
        told = client.config_get("maxmemory-policy")
    except redis.ResponseError as exc:  # managed servers keep CONFIG to themselves
        advice = "see in your provider's console that maxmemory-policy is noeviction"
        return warning("redis memory", f"it does not tell its policy: {exc}", advice)
    policy = str(dict(told).get("maxmemory-policy", "unknown"))
    if policy != "noeviction":
        return failed(
            "redis memory", f"maxmemory-policy is {policy}", "set maxmemory-policy noeviction: it drops queues"
        )
    return ok("redis memory", "maxmemory-policy is noeviction")


def check_api(url: str) -> Finding:
    """Return whether the API is ready."""
    try:
        response = httpx.get(f"{url.rstrip('/')}/ready", timeout=_WAIT_S)
        body = response.json()
    except (httpx.HTTPError, ValueError) as exc:
        return failed("api", f"{url} does not answer: {exc}", "start the API, or name it with --api")
    if response.status_code == 200:
        return ok("api", f"{url} is ready")
    reasons = [part["reason"] for part in body.values() if isinstance(part, dict) and part.get("reason")]
    return failed(
        "api", f"{url} is not ready: {'; '.join(reasons)}", "mend what it names; the API goes on by itself then"
    )
