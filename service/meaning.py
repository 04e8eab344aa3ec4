"""The meaning of a question: its embedding, asked of the endpoint that embeds labels. Where that is away, words remain.

A question is answered in a moment or not at all, so nothing is retried, and an endpoint that failed is left alone for a
while. It does not know what is compared with the embedding.
"""

import math
import threading
import time
from collections import OrderedDict
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, NamedTuple

import httpx

from schema.errors import LLMUnavailable
from schema.settings import Settings
from schema.store.indexing import as_vector

TIMEOUT_S = 2.0
REST_S = 5.0
_REMEMBERED = 1000
"""Questions whose embeddings are kept: some 3 MB for 384 dimensions."""
_MOST_BYTES = 1_000_000
_AT_ONCE = 32


class Meant(NamedTuple):
    """A unit embedding by a model, as pgvector reads it."""

    model: str
    dimensions: int
    vector: str


class Embedder:
    """Asks an endpoint for the embedding of one text at a time; safe to share between threads."""

    def __init__(self, settings: Settings) -> None:
        """Name the endpoint; nothing is connected before the first question."""
        self._settings = settings
        self._threads = ThreadPoolExecutor(_AT_ONCE, "embedder")
        self._http = httpx.Client(timeout=httpx.Timeout(TIMEOUT_S, connect=1.0), follow_redirects=False)
        self._known: OrderedDict[str, Meant] = OrderedDict()
        self._lock = threading.Lock()
        self._rests_until = 0.0

    def close(self) -> None:
        """Close the connections; what is asked now may fail."""
        self._threads.shutdown(wait=False, cancel_futures=True)
        self._http.close()

    def begin(self, text: str) -> Future[Meant]:
        """Have a text embedded in another thread; the result is that of `embed`."""
        return self._threads.submit(self.embed, text)

    def embed(self, text: str) -> Meant:
        """Return the embedding of a text.

        Raises: LLMUnavailable if the endpoint can't answer now, or answers with something else.
        """
        with self._lock:
            if text in self._known:
                self._known.move_to_end(text)
                return self._known[text]
        if time.monotonic() < self._rests_until:
            raise LLMUnavailable("the embeddings endpoint did not answer a moment ago", retry_after_s=REST_S)
        try:
            made = _unit(self._settings.embeddings_model, self._ask(text))
        except (httpx.HTTPError, ValueError, KeyError, TypeError, IndexError) as exc:
            self._rests_until = time.monotonic() + REST_S
            reason = str(exc) or type(exc).__name__
            raise LLMUnavailable(f"the embeddings endpoint gives no embedding: {reason}", retry_after_s=REST_S) from exc
        with self._lock:
            self._known[text] = made
            while len(self._known) > _REMEMBERED:
                self._known.popitem(last=False)
        return made

    def _ask(self, text: str) -> list[float]:
        key = self._settings.embeddings_api_key.get_secret_value() or "none"
        response = self._http.post(
            f"{self._settings.embeddings_base_url.rstrip('/')}/embeddings",
            headers={"Authorization": f"Bearer {key}"},
            json={"model": self._settings.embeddings_model, "input": [text], "encoding_format": "float"},
        )
        response.raise_for_status()
        if len(response.content) > _MOST_BYTES:
            raise ValueError(f"{len(response.content)} bytes for one embedding")
        body: dict[str, Any] = response.json()
        return [float(value) for value in body["data"][0]["embedding"]]


def _unit(model: str, values: list[float]) -> Meant:
    norm = math.hypot(*values)
    if not (math.isfinite(norm) and norm > 0):
        raise ValueError(f"it is of length {norm}")
    return Meant(model, len(values), as_vector([value / norm for value in values]))
