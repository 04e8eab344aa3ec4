"""A real API on a real port, over the real database, for each test."""

import json
import socket
import struct
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple
from uuid import uuid4

import httpx
import numpy as np
import psycopg
import pytest
import uvicorn
from fastapi import FastAPI
from pydantic import SecretStr

from schema.errors import DatabaseUnavailable
from schema.keys import KeySpec, Scope, make_credentials
from schema.records import Dictionary, DictionarySpec, Encoder
from schema.settings import Settings
from schema.store import database, keys
from schema.subjects import BUNDLED
from service.app import create_app
from service.client import Client
from service.patience import Patient

D_MODEL, D_MLP, N_LAYERS = 8, 16, 4
MAX_UPLOAD = 100_000
Array = np.ndarray[tuple[int, ...], np.dtype[np.float32]]


class Api(NamedTuple):
    """A running API."""

    url: str
    app: FastAPI
    settings: Settings
    client: Client
    http: httpx.Client
    key: str

    def with_key(self, text: str | None) -> httpx.Client:
        """Return a plain client that comes with another key, or with none."""
        headers = {} if text is None else bearer(text)
        return httpx.Client(base_url=self.url, timeout=30, headers=headers)

    def files(self) -> list[Path]:
        """Return every file that the service keeps, whole or not."""
        return sorted(path for path in self.settings.data_dir.rglob("*") if path.is_file())

    def problem(self, response: httpx.Response, status: int, error: str) -> str:
        """Return what a problem says, after a look at its form."""
        assert response.status_code == status, response.text
        assert response.headers["content-type"] == "application/problem+json"
        body = response.json()
        assert (body["status"], body["error"]) == (status, error)
        return str(body["detail"])


def make_key(url: str, scope: Scope = "admin", tenant: str = "default", **changes: object) -> str:
    """Return the text of a new key in a database."""
    spec = KeySpec.model_validate({"name": f"{scope} of {tenant}", "scope": scope, **changes})
    credentials = make_credentials(uuid4())
    with database.connect(url) as connection:
        keys.create(connection, keys.tenant(connection, tenant), spec, credentials)
    return credentials.text


def bearer(key: str) -> dict[str, str]:
    """Return the header that a key is sent in."""
    return {"Authorization": f"Bearer {key}"}


@contextmanager
def serving(settings: Settings, listener: socket.socket | None = None) -> Iterator[Api]:
    """Serve an application for a while, to clients whose key may do everything; the command line finds it, too."""
    app = create_app(settings)
    config = uvicorn.Config(app, port=0, http=Patient, log_level="error", timeout_graceful_shutdown=2)
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run, args=([listener] if listener else None,), daemon=True)
    thread.start()
    deadline = time.monotonic() + 30
    while not server.started:
        assert thread.is_alive()
        assert time.monotonic() < deadline
        time.sleep(0.01)
    port = server.servers[0].sockets[0].getsockname()[1]
    url = f"http://127.0.0.1:{port}"
    try:
        key = make_key(settings.database_url)
    except (DatabaseUnavailable, psycopg.Error):  # a test about a database that is away, old or read-only
        key = make_credentials(uuid4()).text
    try:
        with (
            pytest.MonkeyPatch.context() as patch,
            Client(url, key=key) as client,
            httpx.Client(base_url=url, timeout=30, headers=bearer(key)) as http,
        ):
            patch.setenv("GLOSSARIUM_API_KEY", key)
            yield Api(url, app, settings, client, http, key)
    finally:
        server.should_exit = True
        thread.join(30)


def make_subject(folder: Path) -> str:
    """Make a local folder that is a subject, as far as the API looks, and return its name."""
    folder.mkdir()
    sizes = {
        "model_type": "llama",
        "num_hidden_layers": N_LAYERS,
        "hidden_size": D_MODEL,
        "num_attention_heads": 2,
        "vocab_size": 32,
        "intermediate_size": D_MLP,
    }
    (folder / "config.json").write_text(json.dumps(sizes))
    return str(folder)


def make_settings(folder: Path, subject: str, database_url: str, redis_url: str, **changes: object) -> Settings:
    """Return settings of an installation with small limits and a corpora folder."""
    (folder / "corpora").mkdir()
    chosen = Settings(
        database_url=database_url,
        redis_url=redis_url,
        secret=SecretStr("of the tests"),
        data_dir=folder / "data",
        corpora_dir=folder / "corpora",
        max_upload_bytes=MAX_UPLOAD,
        subjects_allowed=(BUNDLED, subject),
    )
    return chosen.model_copy(update=changes)


@pytest.fixture
def tiny_subject(tmp_path: Path) -> str:
    """Return a local folder that is a subject, as far as the API looks."""
    return make_subject(tmp_path / "tiny")


@pytest.fixture
def settings(tmp_path: Path, tiny_subject: str, database_url: str, redis_url: str) -> Settings:
    """Return settings of an installation with small limits and a corpora folder."""
    return make_settings(tmp_path, tiny_subject, database_url, redis_url)


@pytest.fixture
def api(settings: Settings) -> Iterator[Api]:
    """Yield a running API."""
    with serving(settings) as running:
        yield running


SpecMaker = Callable[..., DictionarySpec]


def specs_for(subject: str) -> SpecMaker:
    """Return a maker of dictionaries for a subject: six relu features unless told otherwise."""

    def make(**changes: object) -> DictionarySpec:
        fields = {
            "name": "tiny",
            "subject": subject,
            "read_site": "resid_post.1",
            "encoder": Encoder(kind="relu"),
            "n_features": 6,
        }
        return DictionarySpec.model_validate({**fields, **changes})

    return make


@pytest.fixture
def spec_of(tiny_subject: str) -> SpecMaker:
    """Return a maker of dictionaries for the tiny subject: six relu features unless told otherwise."""
    return specs_for(tiny_subject)


@pytest.fixture
def neurons(api: Api, spec_of: SpecMaker) -> Dictionary:
    """Return a stored dictionary that is ready: the neurons of a layer."""
    return api.client.submit_dictionary(
        spec_of(read_site="mlp_hidden.1", encoder=Encoder(kind="neurons"), n_features=D_MLP)
    )


def weights(n_features: int = 6, width: int = D_MODEL) -> dict[str, Array]:
    """Return the tensors of a relu dictionary."""
    draw = np.random.default_rng(0)
    return {
        "w_dec": draw.normal(size=(n_features, width)).astype(np.float32),
        "w_enc": draw.normal(size=(n_features, width)).astype(np.float32),
        "b_enc": np.zeros(n_features, np.float32),
        "b_dec": np.zeros(width, np.float32),
    }


def safetensors(tensors: dict[str, Array]) -> bytes:
    """Return tensors as a safetensors file, written by hand: a length, a JSON header, the bytes."""
    header, body = {}, b""
    for name, tensor in tensors.items():
        start = len(body)
        body += tensor.tobytes()
        header[name] = {"dtype": "F32", "shape": list(tensor.shape), "data_offsets": [start, len(body)]}
    text = json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + body
