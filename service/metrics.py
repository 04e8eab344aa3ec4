"""Metrics for Prometheus at `/metrics`: this process' requests, and what Postgres knows of all that goes on.

Whatever process does the work, one scrape of one API tells of it; several APIs tell the same. What Postgres says is
kept for some seconds, so that scrapes cost no more than that, and is told again, with its age, while Postgres is away.

They are the operator's and no tenant's. With GLOSSARIUM_METRICS_TOKEN a scrape must show that token; without one, only
this machine is answered.
"""

import hmac
import threading
import time
from collections.abc import Iterator
from ipaddress import ip_address

import psycopg
import structlog
from fastapi import APIRouter, FastAPI, Request, Response
from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, Histogram, ProcessCollector, generate_latest
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector
from starlette.exceptions import HTTPException

from schema.errors import GlossariumError
from schema.settings import Settings
from schema.store import tallies
from schema.store.tallies import Tallies
from service.deps import Database, Held
from service.metric_families import families

router = APIRouter(include_in_schema=False)
KEPT_S = 5.0
_BUCKETS_S = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)
_PROXIED = ("forwarded", "x-forwarded-for", "x-real-ip", "via")
_log = structlog.get_logger(__name__)


class Metrics:
    """What one application tells."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        ProcessCollector(registry=self.registry)
        self.requests = Histogram(
            "glossarium_http_request_seconds",
            "Of requests, to the end of the answer",
            ["method", "route", "status"],
            buckets=_BUCKETS_S,
            registry=self.registry,
        )

    def watch(self, database: Database) -> None:
        """Tell of a database as well."""
        self.registry.register(Watch(database))


class Watch(Collector):
    """Tells what Postgres tallies; asks it once every few seconds at most."""

    def __init__(self, database: Database, *, kept_s: float = KEPT_S) -> None:
        """Ask again what is older than `kept_s`."""
        self._database = database
        self._kept_s = kept_s
        self._lock = threading.Lock()
        self._taken: Tallies | None = None
        self._taken_at = self._asked_at = float("-inf")

    def collect(self) -> Iterator[Metric]:
        """Yield every family."""
        with self._lock:
            if time.monotonic() - self._asked_at >= self._kept_s:
                self._ask()
            taken, age_s, up = self._taken, time.monotonic() - self._taken_at, self._asked_at == self._taken_at
        reached = GaugeMetricFamily("glossarium_database_up", "Whether Postgres answered when it was last asked")
        reached.add_metric([], float(up))
        yield reached
        if taken is not None:
            age = GaugeMetricFamily("glossarium_tallies_age_seconds", "How old what Postgres said is by now")
            age.add_metric([], age_s)
            yield age
            yield from families(taken)

    def _ask(self) -> None:
        self._asked_at = time.monotonic()
        try:
            self._taken = self._database.run(tallies.take)
            self._taken_at = self._asked_at
        except (GlossariumError, psycopg.Error) as exc:
            _log.warning("metrics not taken", error=str(exc))


def install(app: FastAPI) -> Metrics:
    """Serve metrics, and return where they are kept."""
    app.include_router(router)
    app.state.metrics = Metrics()
    kept: Metrics = app.state.metrics
    return kept


@router.get("/metrics")
def metrics(request: Request, held: Held) -> Response:
    """Tell Prometheus what it asks for."""
    _admit(request, held.settings)
    return Response(generate_latest(request.app.state.metrics.registry), media_type=CONTENT_TYPE_LATEST)


def _admit(request: Request, settings: Settings) -> None:
    """Refuse whoever shows no token, or is not on this machine where there is none."""
    token = settings.metrics_token.get_secret_value()
    if token:
        given = request.headers.get("authorization", "")
        if not hmac.compare_digest(given.encode(), f"Bearer {token}".encode()):
            raise HTTPException(401, "the metrics are for bearers of their token", {"WWW-Authenticate": "Bearer"})
    elif not _is_here(request):
        raise HTTPException(403, "the metrics are for this machine alone; set GLOSSARIUM_METRICS_TOKEN for others")


def _is_here(request: Request) -> bool:
    """Return whether a request comes from this machine, and not by way of a proxy on it."""
    if request.client is None or any(name in request.headers for name in _PROXIED):
        return False
    try:
        return ip_address(request.client.host).is_loopback
    except ValueError:
        return False
