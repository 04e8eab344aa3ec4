"""What must not be in a log, and what must stay."""

import json
import logging
from collections.abc import Iterator
from pathlib import Path

import pytest
import structlog
from pydantic import SecretStr

from schema.logs import configure_logging
from schema.redaction import REDACTED, Redaction, known_secrets
from schema.settings import Settings

SECRET = "hunter2-correct-horse"


@pytest.mark.parametrize(
    "text",
    [
        f"Authorization: Bearer {SECRET}",
        f"headers {{'authorization': 'Bearer {SECRET}'}}",
        f"Authorization: Basic {SECRET}",
        f"postgresql://glossarium:{SECRET}@db.example.com:5432/glossarium does not answer",
        f"redis://:{SECRET}@127.0.0.1:6379/0",
        f"postgresql://u:p@{SECRET}@host/db",
        f"incorrect api_key={SECRET}; see our site",
        f'{{"api-key": "{SECRET}", "model": "m"}}',
        f"password = '{SECRET}'",
        f"PGPASSWORD={SECRET} psql",
        f"GET /v1?token={SECRET}&x=1",
        "Incorrect API key provided: sk-abcdefghijklmnopqrstuvwxyz",
        f"no such key: glk_{'0f' * 16}_{'abc-_' * 8}xyz",
    ],
)
def test_what_looks_like_a_secret_is_taken_out(text: str) -> None:
    cleaned = Redaction().text(text)
    assert SECRET not in cleaned
    assert "sk-abc" not in cleaned
    assert "abc-_" not in cleaned
    assert REDACTED in cleaned


@pytest.mark.parametrize(
    "text",
    [
        "job 17 of run 5c1d done: 32 features, prompt_tokens=120, max_tokens=64",
        "http://127.0.0.1:8080/v1 did not answer in 120 s",
        "a bearer of bad news; the secret of the token change",
        "postgresql://postgres@127.0.0.1:5432/postgres",
    ],
)
def test_what_is_none_stays(text: str) -> None:
    assert Redaction().text(text) == text


def test_secrets_deep_in_an_event_are_taken_out_and_numbers_stay() -> None:
    event = {
        "event": "asked",
        "prompt_tokens": 12,
        "api_key": SECRET,
        "sent": {"headers": [("Authorization", f"Bearer {SECRET}")], "password": SECRET, "n": 3},
        "raw": f"token? {SECRET}".encode(),
        "error": ValueError(f"no: secret={SECRET}"),
        "held": SecretStr(SECRET),
    }
    cleaned = Redaction([SECRET])(None, "info", dict(event))
    assert SECRET not in repr(cleaned)
    assert (cleaned["event"], cleaned["prompt_tokens"], cleaned["sent"]["n"]) == ("asked", 12, 3)


def test_what_the_settings_hold_is_known(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LARGE_KEY", "the-key-in-a-variable")
    profiles = tmp_path / "profiles.toml"
    profiles.write_text(
        '[profiles.large]\nbase_url = "https://x.example/v1"\nmodel = "m"\napi_key_variable = "LARGE_KEY"\n'
    )
    settings = Settings(
        database_url="postgresql://u:pass%2Fword-of-db@h/d",
        secret=SecretStr("the-secret-of-all"),
        metrics_token=SecretStr("the-metrics-token"),
        llm_profiles=profiles,
    )
    known = known_secrets(settings)
    assert {"the-key-in-a-variable", "pass/word-of-db", "the-secret-of-all", "the-metrics-token"} <= known
    assert Redaction(known).text("x the-key-in-a-variable y") == f"x {REDACTED} y"


@pytest.fixture
def screen(capsys: pytest.CaptureFixture[str]) -> Iterator[pytest.CaptureFixture[str]]:
    """Catch what is logged, and put the loggers back as they were."""
    root, before = logging.getLogger(), structlog.get_config()
    handlers, level = root.handlers[:], root.level
    uvicorn = logging.getLogger("uvicorn.error")
    of_uvicorn = uvicorn.level
    uvicorn.setLevel(logging.NOTSET)  # servers in this process may have silenced it
    yield capsys
    uvicorn.level = of_uvicorn
    root.handlers, root.level = handlers, level
    structlog.reset_defaults()
    structlog.configure(**before)


def test_every_line_is_json_with_its_ids_and_without_secrets(screen: pytest.CaptureFixture[str]) -> None:
    configure_logging(Settings(secret=SecretStr(SECRET)))
    log = structlog.get_logger()
    with structlog.contextvars.bound_contextvars(run="r", job=7, feature=3):
        log.info("llm_call", status="ok", said=f"Bearer {SECRET}")
        logging.getLogger("psycopg.pool").warning("error connecting to postgresql://u:%s@h", SECRET)
        try:
            raise ValueError(f"the key is {SECRET}")
        except ValueError:
            log.exception("job failed")
    logging.getLogger("uvicorn.error").warning("through us as well")
    written = screen.readouterr().err
    lines = [json.loads(line) for line in written.splitlines()]
    assert SECRET not in written
    assert [(line["level"], line["event"].split(" to ")[0]) for line in lines] == [
        ("info", "llm_call"),
        ("warning", "error connecting"),
        ("error", "job failed"),
        ("warning", "through us as well"),
    ]
    assert all((line["run"], line["job"], line["feature"]) == ("r", 7, 3) for line in lines[:3])
    assert lines[1]["logger"] == "psycopg.pool"
    assert "ValueError: the key is [redacted]" in lines[2]["exception"]
    assert all(line["timestamp"].endswith("Z") for line in lines)


def test_lines_for_people_are_redacted_too(screen: pytest.CaptureFixture[str]) -> None:
    configure_logging(Settings(log_format="text"))
    structlog.get_logger().warning("refused", error=f"api_key={SECRET}")
    written = screen.readouterr().err
    assert "event='refused'" in written
    assert SECRET not in written
