"""Looks at a deployment from where it is called, with the settings that are set there, and says what is wrong.

It changes nothing but a blob of a few bytes, and asks each LLM for one token. It can't look into other machines: what
workers see of blobs, secret and clock they say themselves (`workers.presence`).
"""

from collections.abc import Iterator

from schema.redaction import Redaction, known_secrets
from schema.settings import Settings
from service.doctor import models, processes, servers, storage
from service.doctor.finding import Finding

__all__ = ["Finding", "examine"]


def examine(settings: Settings, api_url: str | None = None) -> Iterator[Finding]:
    """Yield what every check finds, in the order in which things depend on each other; no secret is in it."""
    redaction = Redaction(known_secrets(settings))
    for finding in _every(settings, api_url):
        yield finding.model_copy(update={"said": redaction.text(finding.said)})


def _every(settings: Settings, api_url: str | None) -> Iterator[Finding]:
    yield from servers.check_database(settings)
    yield from servers.check_redis(settings)
    if api_url is not None:
        yield servers.check_api(api_url)
    yield storage.check_blobs(settings)
    yield storage.check_disk(settings)
    yield storage.check_secret(settings)
    yield from storage.check_subjects(settings)
    yield from models.check_llms(settings)
    yield models.check_embeddings(settings)
    yield from processes.check_processes(settings)
