"""Request ids: given, kept, made, and in every answer and line."""

import logging
import re

import pytest
import structlog

from tests.service.conftest import Api


def test_an_answer_has_the_id_that_the_request_came_with(api: Api) -> None:
    response = api.http.get("/v1/runs", headers={"X-Request-ID": "proxy-7.a_b"})
    assert response.headers["x-request-id"] == "proxy-7.a_b"


@pytest.mark.parametrize("given", [{}, {"X-Request-ID": "a b"}, {"X-Request-ID": "x" * 65}, {"X-Request-ID": ""}])
def test_an_id_is_made_where_none_that_is_plain_came(api: Api, given: dict[str, str]) -> None:
    made = [api.http.get("/health", headers=given).headers["x-request-id"] for _ in range(2)]
    assert all(re.fullmatch("[0-9a-f]{32}", id_) for id_ in made)
    assert made[0] != made[1]


def test_problems_have_an_id_even_those_that_should_not_happen(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    given = {"X-Request-ID": "mine"}
    assert api.http.get("/nothing", headers=given).headers["x-request-id"] == "mine"

    def fail(*_: object) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr("service.health.examine", fail)
    response = api.http.get("/ready", headers=given)
    assert (response.status_code, response.headers.get_list("x-request-id")) == (500, ["mine"])


def test_the_log_says_how_a_request_went_and_under_which_id(api: Api) -> None:
    captured = structlog.testing.LogCapture()
    before = structlog.get_config()
    structlog.configure(
        processors=[structlog.contextvars.merge_contextvars, captured],
        wrapper_class=structlog.make_filtering_bound_logger(logging.INFO),
    )
    try:
        api.http.get("/v1/runs/00000000-0000-0000-0000-000000000000", headers={"X-Request-ID": "mine"})
        api.http.get("/health")
    finally:
        structlog.configure(**before)
    (line,) = [entry for entry in captured.entries if entry["event"] == "answered"]
    assert (line["request"], line["method"], line["status"]) == ("mine", "GET", 404)
    assert line["path"] == "/v1/runs/00000000-0000-0000-0000-000000000000"
    assert line["seconds"] >= 0
