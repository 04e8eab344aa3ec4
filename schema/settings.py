"""The only reader of the environment.

Variables are prefixed `GLOSSARIUM_`, except those that the ecosystem already knows: `DATABASE_URL`, `REDIS_URL`,
`LLM_BASE_URL`, `LLM_API_KEY`, `LLM_MODEL`, `EMBEDDINGS_BASE_URL`, `EMBEDDINGS_API_KEY`, `EMBEDDINGS_MODEL`.
"""

import os
from functools import cache
from pathlib import Path
from typing import Literal

from pydantic import AliasChoices, Field, SecretStr
from pydantic_settings import BaseSettings, SettingsConfigDict


def _alias(name: str) -> AliasChoices:
    return AliasChoices(name, f"GLOSSARIUM_{name}")


class Settings(BaseSettings):
    """What an operator decides; every field has a default that suits the embedded stack."""

    model_config = SettingsConfigDict(env_prefix="GLOSSARIUM_", frozen=True, extra="ignore", populate_by_name=True)

    database_url: str = Field("postgresql://postgres@127.0.0.1:5432/postgres", validation_alias=_alias("DATABASE_URL"))
    redis_url: str = Field("redis://127.0.0.1:6379/0", validation_alias=_alias("REDIS_URL"))
    llm_base_url: str = Field("http://127.0.0.1:8080/v1", validation_alias=_alias("LLM_BASE_URL"))
    llm_api_key: SecretStr = Field(SecretStr("none"), validation_alias=_alias("LLM_API_KEY"))
    llm_model: str = Field("smollm2-135m-instruct", validation_alias=_alias("LLM_MODEL"))
    embeddings_base_url: str = Field("http://127.0.0.1:8081/v1", validation_alias=_alias("EMBEDDINGS_BASE_URL"))
    embeddings_api_key: SecretStr = Field(SecretStr("none"), validation_alias=_alias("EMBEDDINGS_API_KEY"))
    embeddings_model: str = Field("all-MiniLM-L6-v2", validation_alias=_alias("EMBEDDINGS_MODEL"))

    secret: SecretStr = SecretStr("")  # authenticates quoted corpus text in prompts, and webhooks; the stack makes one
    webhook_hosts: tuple[str, ...] = ()  # "name" or "name:port": webhooks may go there without HTTPS, to any address

    data_dir: Path = Path("~/.glossarium").expanduser()
    cache_dir: Path = Path("~/.cache/glossarium").expanduser()  # installed models in other forms; may be deleted
    blobs_url: str = ""  # any fsspec URL; empty means <data_dir>/blobs
    corpora_dir: Path | None = None  # files under this folder may be named as corpora over HTTP
    subjects_allowed: tuple[str, ...] = ("bundled:smollm2-135m-instruct",)
    device: str = "auto"  # auto | cpu | cuda | cuda:N
    dtype: str = "auto"  # auto | bfloat16 | float32

    api_key: SecretStr | None = None  # what our client and command line come with
    reads_per_minute: int | None = Field(12_000, ge=1)  # of one key
    changes_per_minute: int | None = Field(1_200, ge=1)
    max_stored_bytes: int | None = Field(None, ge=0)  # of one tenant's uploads
    max_unfinished_runs: int | None = Field(1_000, ge=0)  # of one tenant
    max_body_bytes: int = Field(4 * 2**20, ge=1)  # of a request that is no upload
    max_upload_bytes: int = 8 * 2**30
    llm_timeout_s: float = 120.0
    llm_concurrency: int | None = Field(None, ge=1, le=1000)  # in flight to LLM_BASE_URL; 64, embedded 4
    llm_embedded: bool = False  # the LLM is the stack's own, which is free and small
    llm_profiles: Path | None = None  # a TOML file of more LLMs than LLM_BASE_URL; see schema/profiles.py
    lease_s: float = 90.0
    heartbeat_s: float = 20.0
    lease_margin_s: float = 30.0  # of an LLM job's lease, beyond the longest time-out of a call
    watch_s: float = 2.0  # how often a worker looks whether the runs of its jobs were paused or cancelled
    sweep_s: float = 10.0
    trial_s: float = Field(120.0, gt=0, le=3600)  # what people try on a subject while they wait is over by then
    max_memory_mb: int | None = Field(None, ge=256)  # of a subject worker, which then makes way for a fresh one
    statement_timeout_ms: int = 30_000
    log_format: Literal["json", "text"] = "json"
    # What a scrape of /metrics shows; without one, only this machine is answered.
    metrics_token: SecretStr = SecretStr("")
    alive_file: Path | None = None  # touched as long as a worker is well: what a container's health check looks at

    @property
    def blobs(self) -> str:
        """Return the fsspec URL of the blob store."""
        return self.blobs_url or (self.data_dir / "blobs").as_uri()


def read_secret(variable: str) -> SecretStr | None:
    """Return the secret in an environment variable that the operator named, None if it is not set or empty."""
    value = os.environ.get(variable, "")
    return SecretStr(value) if value else None


@cache
def load_settings() -> Settings:
    """Return this process's settings, read once."""
    return Settings()
