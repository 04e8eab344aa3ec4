"""Every failure is a problem with a status, and the client raises it again."""

import httpx
import psycopg
import pytest
from fastapi import FastAPI

from schema import errors
from schema.errors import GlossariumError
from service.client import Client
from service.errors import problem_of, status_of, translate
from tests.service.conftest import Api


def every_error() -> list[type[GlossariumError]]:
    return [kind for kind in vars(errors).values() if isinstance(kind, type) and issubclass(kind, GlossariumError)]


@pytest.mark.parametrize(
    ("kind", "status"),
    [
        (errors.UnknownSite, 422),
        (errors.BadWeights, 422),
        (errors.NotFound, 404),
        (errors.Conflict, 409),
        (errors.TooLarge, 413),
        (errors.DatabaseUnavailable, 503),
        (errors.LLMUnavailable, 503),
        (errors.StorageFull, 507),
        (errors.LeaseLost, 500),
    ],
)
def test_every_branch_of_the_tree_has_its_status(kind: type[GlossariumError], status: int) -> None:
    assert status_of(kind("x")) == status


@pytest.mark.parametrize("kind", every_error())
def test_the_client_raises_what_the_service_raised(kind: type[GlossariumError]) -> None:
    body = problem_of(kind("k=0; must be 1..5"))

    def answer(request: httpx.Request) -> httpx.Response:
        return httpx.Response(body.status, content=body.model_dump_json())

    client = Client("http://api", transport=httpx.MockTransport(answer))
    with client, pytest.raises(kind, match=r"k=0; must be 1\.\.5") as caught:
        next(client.runs())
    assert type(caught.value) is kind


@pytest.mark.parametrize(
    ("cause", "kind"),
    [
        (psycopg.errors.AdminShutdown("x"), errors.DatabaseUnavailable),
        (psycopg.OperationalError("x"), errors.DatabaseUnavailable),
        (psycopg.InterfaceError("x"), errors.DatabaseUnavailable),
        (psycopg.errors.QueryCanceled("x"), errors.Unavailable),
        (psycopg.errors.UntranslatableCharacter("x"), errors.InvalidInput),
        (psycopg.errors.ForeignKeyViolation("x"), errors.Conflict),
        (psycopg.errors.UndefinedTable("x"), GlossariumError),
    ],
)
def test_database_errors_become_ours(cause: psycopg.Error, kind: type[GlossariumError]) -> None:
    assert type(translate(cause)) is kind


def test_an_unknown_path_or_method_is_a_problem(api: Api) -> None:
    assert api.problem(api.http.get("/v1/nothing"), 404, "NotFound") == "Not Found"
    response = api.http.put("/v1/runs")
    assert api.problem(response, 405, "InvalidInput") == "Method Not Allowed"
    assert response.headers["allow"] == "GET, POST"  # of all routes of the path
    assert "query.limit" in api.problem(api.http.get("/v1/runs?limit=x"), 422, "InvalidInput")
    assert "path.run_id" in api.problem(api.http.get("/v1/runs/7"), 422, "InvalidInput")


def test_a_bug_of_ours_is_a_500_without_details(api: Api) -> None:
    app: FastAPI = api.app
    app.add_api_route("/broken", lambda: 1 // 0)
    detail = api.problem(api.http.get("/broken"), 500, "GlossariumError")
    assert "division" not in detail


def test_a_service_that_does_not_answer_is_unavailable() -> None:
    with (
        Client("http://127.0.0.1:1") as client,
        pytest.raises(errors.Unavailable, match=r"127\.0\.0\.1:1 does not answer"),
    ):
        client.ready()


def test_answers_of_something_else_are_told_apart() -> None:
    def answer(request: httpx.Request) -> httpx.Response:
        return httpx.Response(502 if "runs" in request.url.path else 200, content=b"<html>")

    with Client("http://api", transport=httpx.MockTransport(answer)) as client:
        with pytest.raises(GlossariumError, match="GET http://api/v1/runs answered 502 without a reason"):
            list(client.runs())
        with pytest.raises(GlossariumError, match="answered with no Readiness"):
            client.ready()
