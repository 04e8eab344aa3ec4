"""Errors over HTTP: every failure as `application/problem+json` (RFC 9457) or, on a page, as a page; no stack traces.

The `error` member is the exception's name, so that the client can raise it again.
"""

import json
import re
from collections.abc import Callable
from http import HTTPStatus
from typing import Any

import psycopg
import structlog
from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.routing import Match

from schema.errors import (
    Conflict,
    DatabaseUnavailable,
    Forbidden,
    GlossariumError,
    InvalidInput,
    NotFound,
    RateLimited,
    StorageFull,
    TooLarge,
    Unauthorized,
    Unavailable,
)
from schema.wire import FieldProblem, Problem
from service import requests
from service.guards import SECURITY_HEADERS
from service.pages.problems import page_of, wants_page

_log = structlog.get_logger(__name__)

MEDIA_TYPE = "application/problem+json"
_RETRY_AFTER_S = 5
_SHOWN = 200  # characters of a refused value that a message repeats
_METHODS = ("DELETE", "GET", "PATCH", "POST", "PUT")

STATUSES: dict[type[GlossariumError], int] = {
    InvalidInput: 422,
    Unauthorized: 401,
    Forbidden: 403,
    NotFound: 404,
    Conflict: 409,
    TooLarge: 413,
    RateLimited: 429,
    Unavailable: 503,
    StorageFull: 507,
}


def status_of(exc: GlossariumError) -> int:
    """Return the HTTP status of an error; those that no request should cause are 500."""
    return next((status for kind, status in STATUSES.items() if isinstance(exc, kind)), 500)


def translate(exc: psycopg.Error) -> GlossariumError:
    """Return what a database error means to a caller."""
    match exc:
        case psycopg.errors.QueryCanceled():
            return Unavailable("the database took too long over this request; ask for less, or try again")
        case psycopg.DataError():
            return InvalidInput(f"the database can't hold this value: {_first_line(exc)}")
        case psycopg.IntegrityError():
            return Conflict(f"another request changed this at the same time: {_first_line(exc)}; look again and retry")
        case psycopg.OperationalError() | psycopg.InterfaceError():
            return DatabaseUnavailable(f"Postgres does not answer; try again in a few seconds: {_first_line(exc)}")
    return GlossariumError("the database refused a query of ours; the log has the details")


def problem_response(request: Request, problem: Problem, *, retry_after_s: float = _RETRY_AFTER_S) -> Response:
    """Return a problem as a response: a page to who looks at pages."""
    is_page = wants_page(request)
    response = (
        page_of(request, problem) if is_page else Response(problem.model_dump_json(), problem.status, None, MEDIA_TYPE)
    )
    if problem.status in (429, 503):
        response.headers["Retry-After"] = f"{retry_after_s:.0f}"
    if problem.status == 401 and not is_page:
        response.headers["WWW-Authenticate"] = "Bearer"
    return response


def problem_of(exc: GlossariumError) -> Problem:
    """Return an error as a problem."""
    name = type(exc).__name__
    return Problem(type=_type(name), title=_title(name), status=status_of(exc), detail=str(exc), error=name)


def install(app: FastAPI) -> None:
    """Make an application answer every failure with a problem, and its document say so."""
    app.openapi = _documenting(app.openapi)  # type: ignore[method-assign]  # as FastAPI wants it to be extended
    app.add_exception_handler(GlossariumError, _on_own)
    app.add_exception_handler(psycopg.Error, _on_database)
    app.add_exception_handler(RequestValidationError, _on_validation)
    app.add_exception_handler(HTTPException, _on_http)
    app.add_exception_handler(Exception, _on_unexpected)


def _documenting(make: Callable[[], dict[str, Any]]) -> Callable[[], dict[str, Any]]:
    """Return what makes the API's document with problems as the type that they are sent as, not as any JSON."""

    def documented() -> dict[str, Any]:
        document = make()
        for operation in (one for methods in document["paths"].values() for one in methods.values()):
            for answer in operation["responses"].values():
                content = answer.get("content", {})
                if MEDIA_TYPE in content and "application/json" in content:
                    content[MEDIA_TYPE] = {**content.pop("application/json"), **content[MEDIA_TYPE]}
        return document

    return documented


async def _on_own(request: Request, exc: Exception) -> Response:
    assert isinstance(exc, GlossariumError)
    problem = problem_of(exc)
    if problem.status >= 500:
        _log.warning("request failed", path=request.url.path, error=problem.error, detail=problem.detail)
    if isinstance(exc, RateLimited):
        return problem_response(request, problem, retry_after_s=exc.retry_after_s)
    return problem_response(request, problem)


async def _on_database(request: Request, exc: Exception) -> Response:
    assert isinstance(exc, psycopg.Error)
    own = translate(exc)
    if status_of(own) == 500:
        _log.error("database error", path=request.url.path, exc_info=exc)
    return await _on_own(request, own)


async def _on_validation(request: Request, exc: Exception) -> Response:
    assert isinstance(exc, RequestValidationError)
    fields = tuple(FieldProblem(field=_field(error["loc"]), message=_message(error)) for error in exc.errors())
    detail = "; ".join(f"{field.field}: {field.message}" for field in fields)
    name = InvalidInput.__name__
    return problem_response(
        request, Problem(type=_type(name), title=_title(name), status=422, detail=detail, error=name, errors=fields)
    )


async def _on_http(request: Request, exc: Exception) -> Response:
    """Return a problem for what the framework refuses: no such path, no such method."""
    assert isinstance(exc, HTTPException)
    name = {404: "NotFound", 413: "TooLarge"}.get(exc.status_code, "InvalidInput")
    title = HTTPStatus(exc.status_code).phrase
    problem = Problem(type="about:blank", title=title, status=exc.status_code, detail=str(exc.detail), error=name)
    response = problem_response(request, problem)
    response.headers.update(exc.headers or {})
    if exc.status_code == 405:
        response.headers["Allow"] = ", ".join(_allowed(request))
    return response


def _allowed(request: Request) -> list[str]:
    """Return the methods that a path takes: the framework names those of the first route that has it."""
    return [
        method
        for method in _METHODS
        if any(route.matches({**request.scope, "method": method})[0] is Match.FULL for route in request.app.routes)
    ]


async def _on_unexpected(request: Request, exc: Exception) -> Response:
    _log.error("unexpected error", request=requests.request_id(request.state), path=request.url.path, exc_info=exc)
    detail = "an error that should not happen; the service's log has the details"
    title = HTTPStatus.INTERNAL_SERVER_ERROR.phrase
    problem = Problem(type="about:blank", title=title, status=500, detail=detail, error="GlossariumError")
    response = problem_response(request, problem)
    for name, value in SECURITY_HEADERS.items():  # this answer is made outside of what adds them
        response.headers.setdefault(name, value)
    response.headers[requests.HEADER] = requests.request_id(request.state)
    return response


def _type(name: str) -> str:
    return "urn:glossarium:problem:" + re.sub(r"(?<=[a-z])(?=[A-Z])", "-", name).lower()


def _title(name: str) -> str:
    return re.sub(r"(?<=[a-z])(?=[A-Z])", " ", name).capitalize()


def _field(loc: tuple[int | str, ...]) -> str:
    return ".".join(str(part) for part in loc)


def _message(error: dict[str, Any]) -> str:
    """Return pydantic's message with the value that it is about, cut short."""
    value = error.get("input")
    if tuple(error["loc"]) == ("body",) and isinstance(value, bytes):
        return "must be a JSON object, sent with Content-Type: application/json"
    if error["type"] in ("missing", "json_invalid") or value is None or isinstance(value, dict | list | bytes):
        return str(error["msg"])
    return f"{error['msg']}, and not {json.dumps(value, default=str)[:_SHOWN]}"


def _first_line(exc: psycopg.Error) -> str:
    return str(exc).partition("\n")[0]
