"""How the client talks to the API: requests, repeats, pages, uploads and streams, and problems as exceptions."""

import hashlib
import random
import time
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
PATIENCE_S = 10.0
_FIRST_PAUSE_S = 0.25
_REPEATED = frozenset({429, 503})
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
        patience_s: float = PATIENCE_S,
        transport: httpx.BaseTransport | None = None,
    ) -> None:
        """Name the API by its URL, without `/v1`.

        timeout:     in seconds, for each read or write.
        key:         an API key; without one, that of `GLOSSARIUM_API_KEY`, or of the embedded stack that listens there.
        patience_s:  for how long to repeat what can safely be: a GET, or a POST with an idempotency key, that had no
                     answer, or 429 or 503. 0: every request is sent once.

        Raises: Unauthorized if the key can't be sent.
        """
        self.base_url = base_url.rstrip("/")
        self._timeout_s = timeout
        self._patience_s = patience_s
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

    def _patch(self, path: str, record: type[R], body: Record) -> R:
        """Send what was set of a record, and return what comes back."""
        headers, content = {"Content-Type": "application/json"}, body.model_dump_json(exclude_unset=True)
        return self._parse(self._send("PATCH", path, headers=headers, content=content), record)

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
        """Return the body of an answer. What is safe to repeat is repeated while patience lasts."""
        may_repeat = method == "GET" or "Idempotency-Key" in (options.get("headers") or {})
        until = time.monotonic() + (self._patience_s if may_repeat else 0.0)
        pause_s = _FIRST_PAUSE_S
        while True:
            try:
                response = self._request(method, path, **options)
            except Unavailable:
                wait_s = pause_s
                if time.monotonic() + wait_s > until:
                    raise
            else:
                wait_s = max(pause_s, _asked_to_wait_s(response))
                if response.status_code not in _REPEATED or time.monotonic() + wait_s > until:
                    return _content(response)
            time.sleep(wait_s * random.uniform(1, 1.25))  # apart from others that were refused at the same time
            pause_s *= 2

    @contextmanager
    def _streamed(self, path: str, **options: Any) -> Iterator[httpx.Response]:
        """Lend a response whose body is read while it comes; a body that is cut off is Unavailable."""
        with self._translated(), self._http.stream("GET", path, **options) as response:
            if not response.is_success:
                response.read()
                raise error_of(response)
            yield response

    @contextmanager
    def streamed_lines(self, path: str, headers: dict[str, str], silence_s: float) -> Iterator[Iterator[str]]:
        """Lend the lines of a response that is sent as things happen; silent for longer, it is Unavailable."""
        patient = httpx.Timeout(self._timeout_s, read=silence_s)
        with self._streamed(path, headers=headers, timeout=patient) as response:
            yield response.iter_lines()

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
    exc = exception_of(problem.error, problem.detail)
    if isinstance(exc, RateLimited):
        exc.retry_after_s = float(response.headers.get("Retry-After", 1))
    return exc


def exception_of(name: str, message: str) -> GlossariumError:
    """Return the exception of schema.errors that is called so, or the general one."""
    kind = getattr(errors, name, GlossariumError)
    if not (isinstance(kind, type) and issubclass(kind, GlossariumError)):
        kind = GlossariumError
    return kind(message)


def _content(response: httpx.Response) -> bytes:
    """Return the body of a success. Raises what anything else stands for."""
    if not response.is_success:
        raise error_of(response)
    return response.content


def _asked_to_wait_s(response: httpx.Response) -> float:
    """Return the seconds of a Retry-After, 0 where there is none."""
    asked = response.headers.get("Retry-After", "")
    return float(asked) if asked.isascii() and asked.isdecimal() else 0.0


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
