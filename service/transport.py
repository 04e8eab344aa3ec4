"""How the client talks to the API: requests, pages, uploads and streams, and problems as exceptions."""

import hashlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Any, Self, TypeVar

import httpx
from pydantic import ValidationError

from schema import errors
from schema.errors import GlossariumError, RateLimited, Unavailable
from schema.records import Record
from schema.wire import Problem
from service.credentials import find_key

R = TypeVar("R", bound=Record)
Progress = Callable[[int, int], None]
"""Called with the bytes sent so far and the bytes in all."""

_CHUNK = 1 << 20
CHECK_S = 600.0  # the service checks an upload before it answers: gigabytes take minutes
_BY_STATUS: dict[int, type[GlossariumError]] = {
    401: errors.Unauthorized,
    403: errors.Forbidden,
    404: errors.NotFound,
    409: errors.Conflict,
    413: errors.TooLarge,
    422: errors.InvalidInput,
    429: errors.RateLimited,
    503: errors.Unavailable,
    507: errors.StorageFull,
}


class Transport:
    """A connection to an API. Knows none of its endpoints."""

    def __init__(
        self,
        base_url: str,
        timeout: float = 30.0,
        *,
        key: str | None = None,
        transport: httpx.BaseTransport | None = None,
    ) -> None:
        """Name the API by its URL, without `/v1`; `timeout` is in seconds and for each read or write.

        key:  an API key; without one, that of `GLOSSARIUM_API_KEY`, or of the embedded stack that listens there.

        Raises: Unauthorized if the key can't be sent.
        """
        self.base_url = base_url.rstrip("/")
        self._timeout_s = timeout
        known = find_key(self.base_url, key)
        headers = {} if known is None else {"Authorization": f"Bearer {known}"}
        self._http = httpx.Client(base_url=self.base_url, headers=headers, timeout=timeout, transport=transport)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the connections."""
        self._http.close()

    def _get(self, path: str, record: type[R], parameters: dict[str, Any] | None = None) -> R:
        return self._parse(self._send("GET", path, params=parameters), record)

    def _post(self, path: str, record: type[R], body: Record | None = None, idempotency_key: str | None = None) -> R:
        headers = {} if idempotency_key is None else {"Idempotency-Key": idempotency_key}
        if body is None:
            return self._parse(self._send("POST", path, headers=headers), record)
        headers["Content-Type"] = "application/json"
        return self._parse(self._send("POST", path, headers=headers, content=body.model_dump_json()), record)

    def _pages(self, path: str, record: type[R], filters: dict[str, Any]) -> Iterator[R]:
        parameters = {name: as_text(value) for name, value in filters.items() if value is not None}
        while True:
            page = self._get(path, record, parameters)
            yield page
            cursor = getattr(page, "next_cursor", None)
            if cursor is None:
                return
            parameters = {**parameters, "cursor": cursor}

    def _upload(
        self, method: str, path: str, file: Path, progress: Progress | None, parameters: dict[str, Any] | None = None
    ) -> bytes:
        with file.open("rb") as source:
            digest = hashlib.file_digest(source, "sha256").hexdigest()
        headers = {
            "Content-Type": "application/octet-stream",
            "Content-Length": str(file.stat().st_size),
            "X-Content-SHA256": digest,
        }
        patient = httpx.Timeout(self._timeout_s, read=CHECK_S)
        return self._send(
            method, path, headers=headers, params=parameters, content=_chunks(file, progress), timeout=patient
        )

    def _send(self, method: str, path: str, **options: Any) -> bytes:
        response = self._request(method, path, **options)
        if not response.is_success:
            raise error_of(response)
        return response.content

    @contextmanager
    def _streamed(self, path: str, **options: Any) -> Iterator[httpx.Response]:
        """Lend a response whose body is read while it comes; a body that is cut off is Unavailable."""
        with self._translated(), self._http.stream("GET", path, **options) as response:
            if not response.is_success:
                response.read()
                raise error_of(response)
            yield response

    def _request(self, method: str, path: str, **options: Any) -> httpx.Response:
        with self._translated():
            return self._http.request(method, path, **options)

    @contextmanager
    def _translated(self) -> Iterator[None]:
        try:
            yield
        except httpx.RemoteProtocolError as exc:
            raise Unavailable(f"the API at {self.base_url} broke off ({exc}); try again") from exc
        except httpx.TimeoutException as exc:
            raise Unavailable(f"the API at {self.base_url} did not answer in time; is it overloaded?") from exc
        except httpx.TransportError as exc:
            raise Unavailable(f"the API at {self.base_url} does not answer ({exc}); is it up?") from exc

    def _parse(self, content: bytes, record: type[R]) -> R:
        try:
            return record.model_validate_json(content)
        except ValidationError as exc:
            raise GlossariumError(
                f"the API at {self.base_url} answered with no {record.__name__}; is its version another one?"
            ) from exc


def error_of(response: httpx.Response) -> GlossariumError:
    """Return the exception that a response stands for."""
    try:
        problem = Problem.model_validate_json(response.content)
    except ValidationError:
        kind = _BY_STATUS.get(response.status_code, GlossariumError)
        request = response.request
        return kind(f"{request.method} {request.url} answered {response.status_code} without a reason")
    kind = getattr(errors, problem.error, GlossariumError)
    if not (isinstance(kind, type) and issubclass(kind, GlossariumError)):
        kind = GlossariumError
    if issubclass(kind, RateLimited):
        return kind(problem.detail, retry_after_s=float(response.headers.get("Retry-After", 1)))
    return kind(problem.detail)


def as_text(value: Any) -> Any:
    """Return a filter's value as httpx sends it: lists repeat the parameter."""
    if isinstance(value, list | tuple):
        return [str(part) for part in value]
    return value if isinstance(value, bool) else str(value)


def _chunks(file: Path, progress: Progress | None) -> Iterator[bytes]:
    total, sent = file.stat().st_size, 0
    with file.open("rb") as source:
        while chunk := source.read(_CHUNK):
            yield chunk
            sent += len(chunk)
            if progress is not None:
                progress(sent, total)
