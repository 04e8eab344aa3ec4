"""Structured logs: one JSON object a line on standard error, from our events and from those of the libraries alike.

Ids (`request`, `run`, `job`, `stage`, `feature`) are bound once as context variables and are in every line meanwhile.
Secrets are taken out last: see `redaction`.
"""

import logging
import sys
from typing import Any

import structlog

from schema.redaction import Redaction, known_secrets
from schema.settings import Settings

_ADOPTED = ("uvicorn", "uvicorn.error", "uvicorn.access", "celery", "celery.task", "celery.redirected")
"""Loggers that libraries give handlers of their own, which would write past ours."""


def configure_logging(settings: Settings, level: int = logging.INFO) -> None:
    """Send structlog's and the standard library's log to standard error, in the form that the settings name."""
    ours = _processors(settings)
    render = _renderer(settings)
    structlog.configure(
        processors=[*ours, render],
        wrapper_class=structlog.make_filtering_bound_logger(level),
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
        cache_logger_on_first_use=True,
    )
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=[structlog.stdlib.add_logger_name, *ours],
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, render],
        )
    )
    logging.basicConfig(handlers=[handler], level=logging.WARNING, force=True)
    for name in _ADOPTED:
        adopted = logging.getLogger(name)
        adopted.handlers, adopted.propagate = [], True


def _processors(settings: Settings) -> list[Any]:
    return [
        structlog.contextvars.merge_contextvars,
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        structlog.processors.format_exc_info,
        Redaction(known_secrets(settings)),
    ]


def _renderer(settings: Settings) -> Any:
    if settings.log_format == "text":
        return structlog.processors.KeyValueRenderer(key_order=["timestamp", "level", "event"])
    return structlog.processors.JSONRenderer(default=str, ensure_ascii=False)
