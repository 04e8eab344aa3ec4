"""Calls to an OpenAI-compatible endpoint: limits on time and size, retries, and what a failure means.

Knows HTTP, not what is asked: `llm` and `embeddings` do. An endpoint that can't answer now is `LLMUnavailable` with the
time after which to try again, so that the job is given back instead of failing.
"""

import json
import random
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from email.utils import parsedate_to_datetime
from typing import Any, Literal, NamedTuple

import httpx2
import openai
import structlog
from openai import OpenAI
from pydantic import SecretStr
from tenacity import RetryCallState, Retrying, retry_if_exception_type

from schema.errors import LLMUnavailable
from workers.circuit import health_of

log = structlog.get_logger()

CONNECT_TIMEOUT_S = 5.0
BODY_TIMEOUT_S = 30.0  # from the headers to the end of the body; a server may otherwise drip for ever
ATTEMPTS = 3
LONGEST_WAIT_S = 10.0  # a longer Retry-After gives the job back
BACKOFF_S = 0.5
LEAST_WAIT_S = 2.0  # of a job that is given back; "Retry-After: 0" would make it spin
RETRY_LATER_S = 15.0
RETRY_AFTER_OPERATOR_S = 600.0  # keys, credit and model names are mended by people
MESSAGE_CHARS = 300
_ADVICE = {401: "check the API key", 403: "check the API key", 404: "check the base URL and the model's name"}
_BILLING = ("insufficient_quota", "billing", "credit", "payment")
_ANSWER_LOST = (502, 504)  # a gateway says so: behind it, the request may have been served
_NO_CONNECTION = (httpx2.ConnectError, httpx2.ConnectTimeout, httpx2.PoolTimeout)
# llama.cpp answers 500 where the chat template of a model raises; the request is at fault, not the server.
_TEMPLATE = ("system role", "roles must alternate", "raise_exception")


class Endpoint(NamedTuple):
    """Where to ask. Equal endpoints share one client."""

    base_url: str
    api_key: SecretStr
    timeout_s: float
    max_bytes: int


class BodyTooLarge(httpx2.ReadError):
    """A response went on past the limit; it was not read any further."""


class _Transient(LLMUnavailable):
    """What may be gone at the next attempt."""


class _Limited(_Transient):
    """The endpoint is well and wants to be asked less."""


class _Failing(_Transient):
    """The endpoint is not well."""


Attempt = Callable[[], AbstractContextManager[object]]
"""What is done around one HTTP request: before it, what it raises ends the call; after it, it sees how it failed."""
Fate = Literal["unsent", "refused", "lost"]
"""Of a request that failed: it never reached the endpoint; it was answered with a refusal, which nobody bills; or who
knows: it may have been served, and the answer went astray."""


def call(endpoint: Endpoint, send: Callable[[OpenAI], Any], attempt: Attempt) -> dict[str, Any]:
    """Return the JSON object that the endpoint answers with, after at most 3 attempts with full jitter.

    Retries are at most a tenth of what this process asks an endpoint, and none is asked that fails all calls.

    send:     makes one raw request with a client.
    attempt:  entered around every one.
    Raises: LLMUnavailable; openai.BadRequestError or UnprocessableEntityError where the request itself is refused.
    """
    retries = health_of(endpoint.base_url).retries
    retries.earn()
    retrying = Retrying(
        stop=lambda state: state.attempt_number >= ATTEMPTS or not retries.spend(),
        retry=retry_if_exception_type(_Transient),
        wait=_wait_s,
        before_sleep=_tell,
        reraise=True,
    )
    return retrying(_once, endpoint, send, attempt)


def _once(endpoint: Endpoint, send: Callable[[OpenAI], Any], attempt: Attempt) -> dict[str, Any]:
    with attempt(), health_of(endpoint.base_url).circuit.passing(_Failing):
        return _answer(endpoint, send)


def fate_of(exc: Exception) -> Fate:
    """Return what became of a request, by what an attempt raised."""
    cause = exc if isinstance(exc, openai.OpenAIError) else exc.__cause__
    if isinstance(cause, openai.APIStatusError):
        return "lost" if cause.status_code in _ANSWER_LOST else "refused"
    if isinstance(cause, openai.APIConnectionError):
        return "unsent" if isinstance(cause.__cause__, _NO_CONNECTION) else "lost"
    kept_back = isinstance(exc, LLMUnavailable) and not isinstance(exc, _Transient)  # by the circuit
    return "unsent" if kept_back else "lost"


def _answer(endpoint: Endpoint, send: Callable[[OpenAI], Any]) -> dict[str, Any]:
    try:
        raw = send(open_client(endpoint))
        body = json.loads(raw.http_response.content)
    except openai.APITimeoutError as exc:
        raise _Failing(f"{endpoint.base_url} did not answer in {endpoint.timeout_s:g} s") from exc
    except openai.APIConnectionError as exc:
        raise _Failing(f"{endpoint.base_url} can't be reached: {shorten(exc.__cause__ or exc)}") from exc
    except (openai.BadRequestError, openai.UnprocessableEntityError):
        raise
    except openai.APIStatusError as exc:
        if exc.status_code == 500 and any(word in exc.message.lower() for word in _TEMPLATE):
            raise openai.BadRequestError(exc.message, response=exc.response, body=exc.body) from exc
        raise _translated(endpoint, exc) from exc
    except (ValueError, RecursionError) as exc:
        raise _Failing(f"{endpoint.base_url} answered with something that is not JSON") from exc
    if not isinstance(body, dict) or body.get("error"):
        raise _Failing(f"{endpoint.base_url} answered with an error: {shorten(body)}")
    return body


_lock = threading.Lock()
_clients: dict[Endpoint, OpenAI] = {}


def open_client(endpoint: Endpoint) -> OpenAI:
    """Return the one client of an endpoint. It is safe to share between threads."""
    with _lock:
        if endpoint not in _clients:
            _clients[endpoint] = _make_client(endpoint)
        return _clients[endpoint]


def close_clients() -> None:
    """Close the connections of this process, when it ends or its endpoints are gone; the next call opens new ones.

    What is known of the endpoints' health is forgotten.
    """
    health_of.cache_clear()
    with _lock:
        for client in _clients.values():
            client.close()
        _clients.clear()


def _make_client(endpoint: Endpoint) -> OpenAI:
    def cap(response: httpx2.Response) -> None:
        response.stream = _CappedStream(response.stream, endpoint.max_bytes)

    timeout = httpx2.Timeout(endpoint.timeout_s, connect=CONNECT_TIMEOUT_S)
    http = openai.DefaultHttpxClient(timeout=timeout, follow_redirects=False, event_hooks={"response": [cap]})
    # Compressed bodies could unfold past the limit.
    headers = {"Accept-Encoding": "identity"}
    key = endpoint.api_key.get_secret_value() or "none"
    return OpenAI(
        base_url=endpoint.base_url,
        api_key=key,
        max_retries=0,
        timeout=timeout,
        http_client=http,
        default_headers=headers,
    )


class _CappedStream(httpx2.SyncByteStream):
    """A response body that ends in an error past a size or a time."""

    def __init__(self, stream: Any, max_bytes: int) -> None:
        self._stream = stream
        self._max_bytes = max_bytes

    def __iter__(self) -> Iterator[bytes]:
        n_bytes, deadline = 0, time.monotonic() + BODY_TIMEOUT_S
        for chunk in self._stream:
            n_bytes += len(chunk)
            if n_bytes > self._max_bytes:
                raise BodyTooLarge(f"the body is larger than {self._max_bytes} bytes")
            if time.monotonic() > deadline:
                raise httpx2.ReadTimeout(f"the body took longer than {BODY_TIMEOUT_S:g} s")
            yield chunk

    def close(self) -> None:
        self._stream.close()


def _translated(endpoint: Endpoint, exc: openai.APIStatusError) -> LLMUnavailable:
    """Return what a status means for the work."""
    said = shorten(exc.message, endpoint.api_key)
    billing = exc.status_code == 402 or any(word in str(exc.code or exc.type or "").lower() for word in _BILLING)
    if billing:
        message = f"{endpoint.base_url} wants payment (HTTP {exc.status_code}): add credit. It said: {said}"
        return LLMUnavailable(message, retry_after_s=RETRY_AFTER_OPERATOR_S)
    if exc.status_code in (408, 409, 425, 429) or exc.status_code >= 500:
        wait_s = _retry_after_s(exc.response.headers)
        message = f"{endpoint.base_url} answered HTTP {exc.status_code}: {said}"
        now = wait_s is None or wait_s <= LONGEST_WAIT_S
        kind = (_Limited if exc.status_code == 429 else _Failing) if now else LLMUnavailable
        return kind(message, retry_after_s=RETRY_LATER_S if wait_s is None else max(wait_s, LEAST_WAIT_S))
    advice = _ADVICE.get(exc.status_code, "check the base URL")
    message = f"{endpoint.base_url} answered HTTP {exc.status_code}: {advice}. It said: {said}"
    return LLMUnavailable(message, retry_after_s=RETRY_AFTER_OPERATOR_S)


def _retry_after_s(headers: httpx2.Headers) -> float | None:
    """Return the seconds that a server asks to wait, 0 to 3,600; None where it does not say."""
    value = headers.get("retry-after", "").strip()
    try:
        wait_s = float(value)
    except ValueError:
        try:
            wait_s = parsedate_to_datetime(value).timestamp() - time.time()
        except (ValueError, TypeError):
            return None
    return min(max(wait_s, 0.0), 3600.0) if wait_s == wait_s else None


def _wait_s(state: RetryCallState) -> float:
    """Return how long to wait: full jitter, on top of what the server asked for."""
    error = state.outcome.exception() if state.outcome else None
    cause = error.__cause__ if error else None
    asked = _retry_after_s(cause.response.headers) if isinstance(cause, openai.APIStatusError) else None
    return (asked or 0.0) + random.uniform(0.0, BACKOFF_S * 2**state.attempt_number)


def _tell(state: RetryCallState) -> None:
    error = state.outcome.exception() if state.outcome else None
    log.warning("endpoint_retry", attempt=state.attempt_number, error=str(error))


def shorten(said: object, secret: SecretStr | None = None) -> str:
    """Return what a server said in one line of bounded length, without the key."""
    text = " ".join(str(said).split())
    key = secret.get_secret_value() if secret else ""
    return (text.replace(key, "[key]") if len(key) >= 8 else text)[:MESSAGE_CHARS]
