"""What the client does beyond one request: it repeats what is safe, waits for runs, and makes tables of lists."""

import io
import math
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import httpx
import pytest
from rich.console import Console

from schema.errors import GlossariumError, InvalidInput, Unavailable
from schema.labels import FeatureSummary, Label
from schema.records import Dictionary, Run, RunSpec
from service import examples, feature_examples, listings, progress
from service.client import Client
from service.listings import Listing, columns_of
from tests.service.conftest import Api

RUN = Run.model_validate(examples.RUN)
SPEC = RunSpec.model_validate(examples.RUN_SPEC)


class Flaky:
    """An API whose first answers are given, and that then answers well."""

    def __init__(self, *first: httpx.Response | Exception, well: httpx.Response | None = None) -> None:
        self.asked: list[httpx.Request] = []
        self._first = list(first)
        self._well = well or httpx.Response(200, json=examples.RUN)

    def __call__(self, request: httpx.Request) -> httpx.Response:
        self.asked.append(request)
        answer = self._first.pop(0) if self._first else self._well
        if isinstance(answer, Exception):
            raise answer
        return answer

    def client(self, **options: Any) -> Client:
        return Client("http://api", transport=httpx.MockTransport(self), **options)


def refused(status: int, **headers: str) -> httpx.Response:
    problem = {**examples.PROBLEM, "status": status, "error": "Unavailable", "detail": "not now"}
    return httpx.Response(
        status, json=problem, headers={name.replace("_", "-"): text for name, text in headers.items()}
    )


@pytest.fixture
def pauses(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Let no time pass in pauses but on the clock, and return how long they were."""
    passed: list[float] = []
    monkeypatch.setattr("service.transport.time.sleep", passed.append)
    monkeypatch.setattr("service.transport.time.monotonic", lambda: sum(passed))
    return passed


@pytest.mark.parametrize(
    "failure",
    [
        httpx.ConnectError("refused"),
        httpx.RemoteProtocolError("gone"),
        httpx.ReadTimeout("slow"),
        refused(503),
        refused(429),
    ],
)
def test_what_is_safe_to_repeat_is_repeated(failure: httpx.Response | Exception, pauses: list[float]) -> None:
    api = Flaky(failure, failure)
    with api.client() as client:
        assert client.run(RUN.id) == RUN
        assert len(api.asked) == 3
        assert 0.25 <= pauses[0] < pauses[1] < 1
    api = Flaky(failure)
    with api.client() as client:
        assert client.submit_run(SPEC, "key") == RUN
    first, second = api.asked
    assert first.headers["Idempotency-Key"] == second.headers["Idempotency-Key"] == "key"
    assert first.content == second.content


@pytest.mark.parametrize(
    "act", [lambda client: client.submit_run(SPEC), lambda client: client.delete_dictionary(RUN.id)]
)
def test_what_is_not_safe_is_sent_once(act: Callable[[Client], object], pauses: list[float]) -> None:
    for failure in (httpx.ConnectError("refused"), refused(503)):
        api = Flaky(failure)
        with api.client() as client, pytest.raises(Unavailable):
            act(client)
        assert (len(api.asked), pauses) == (1, [])


def test_other_failures_are_final(pauses: list[float]) -> None:
    for status in (400, 404, 409, 422, 500, 502, 507):
        api = Flaky(httpx.Response(status))
        with api.client() as client, pytest.raises(GlossariumError):
            client.run(RUN.id)
        assert (len(api.asked), pauses) == (1, [])


def test_the_service_is_given_the_time_that_it_asks_for(pauses: list[float]) -> None:
    api = Flaky(refused(429, Retry_After="3"))
    with api.client() as client:
        client.run(RUN.id)
    assert 3 <= pauses[0] < 4


def test_patience_is_bounded(pauses: list[float]) -> None:
    api = Flaky(*[refused(503)] * 100)
    with api.client() as client, pytest.raises(Unavailable, match="not now"):
        client.run(RUN.id)
    assert sum(pauses) < 12.5
    assert 4 <= len(api.asked) <= 8
    for headers, patience_s in (({"Retry_After": "3600"}, 10.0), ({}, 0.0)):
        api = Flaky(refused(503, **headers))
        with api.client(patience_s=patience_s) as client, pytest.raises(Unavailable):
            client.run(RUN.id)
        assert len(api.asked) == 1


@pytest.mark.parametrize("text", ["Wed, 21 Oct 2026 07:28:00 GMT", "-1", "1e9", "", "\N{SUPERSCRIPT TWO}"])
def test_a_retry_after_that_is_no_number_of_seconds_is_left_aside(text: str, pauses: list[float]) -> None:
    api = Flaky(httpx.Response(503, headers=[(b"Retry-After", text.encode("latin-1"))]))
    with api.client() as client:
        client.run(RUN.id)
    assert pauses[0] < 1


def test_a_run_is_waited_for_with_its_progress(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(progress, "POLL_S", 0.01)
    done = httpx.Response(200, json={**examples.RUN, "state": "done", "finished_at": "2026-02-03T10:17:42Z"})
    for console in (Console(file=io.StringIO()), Console(file=io.StringIO(), force_terminal=True)):
        api = Flaky(httpx.Response(200, json=examples.RUN), well=done)
        with api.client() as client:
            assert client.wait(RUN.id, console=console).state == "done"
        assert len(api.asked) == 2
        assert isinstance(console.file, io.StringIO)
        assert "exemplars" in console.file.getvalue()


def test_waiting_ends_at_its_time_out_and_the_run_goes_on(api: Api, neurons: Dictionary) -> None:
    run = api.client.submit_run(RunSpec(dictionary_id=neurons.id, features="0-3"))
    with pytest.raises(Unavailable, match=r"is queued after 0\.1 s; it goes on"):
        api.client.wait(run.id, timeout_s=0.1, console=Console(quiet=True))
    api.client.pause(run.id)
    assert api.client.wait(run.id, timeout_s=math.inf, console=Console(quiet=True)).state == "paused"


def some_labels() -> Listing[Label]:
    full = Label.model_validate({**examples.LABEL, "choice": {"combined": {"lift": 0.4}, "lexical": None}})
    bare = Label(feature=7, text=None, status=full.status, method=None, description_id=None)
    return Listing(Label, iter([full, bare]))


def some_features() -> Listing[FeatureSummary]:
    full = FeatureSummary.model_validate(feature_examples.FEATURE_SUMMARY)
    return Listing(FeatureSummary, iter([full, full.model_copy(update={"index": 7, "label": None, "density": None})]))


def test_columns_of_a_record_within_a_record_have_its_name_before() -> None:
    columns = columns_of(Label)
    assert len(columns) == len(set(columns))
    assert {"feature", "text", "input_lift", "input_estimate_value", "output_control_low", "choice"} <= set(columns)
    assert "input" not in columns
    assert columns_of(FeatureSummary) == list(FeatureSummary.model_fields)


def test_lists_of_the_api_are_listings(api: Api, neurons: Dictionary) -> None:
    assert [feature.index for feature in api.client.features(neurons.id, limit=5)] == list(range(16))
    assert list(api.client.labels(neurons.id)) == []


def test_pandas_takes_features_and_labels() -> None:
    pytest.importorskip("pandas")
    features = some_features().to_pandas()
    assert list(features["index"]) == [412, 7]
    assert features.loc[0, "input_lift"] == pytest.approx(0.41)
    assert features["label"].isna().tolist() == [False, True]
    labels = some_labels().to_pandas()
    assert (labels.loc[0, "input_estimate_value"], labels.loc[0, "status"]) == (0.92, "ok")
    assert labels.loc[0, "created_at"] == datetime(2026, 2, 3, 10, 17, 42, tzinfo=UTC)
    assert labels["input_lift"].isna().tolist() == [False, True]
    assert list(Listing(Label, iter(())).to_pandas().columns) == columns_of(Label)


def test_what_was_read_is_not_in_the_table() -> None:
    pytest.importorskip("pandas")
    found = some_features()
    assert next(found).index == 412
    assert list(found.to_pandas()["index"]) == [7]
    assert list(found) == []


def test_polars_takes_features_and_labels() -> None:
    pytest.importorskip("polars")
    features = some_features().to_polars()
    assert features["index"].to_list() == [412, 7]
    assert features["density"].to_list() == [pytest.approx(0.0098), None]
    labels = some_labels().to_polars()
    assert labels["input_lift"].to_list() == [0.41, None]
    assert labels["created_at"].to_list()[0] == datetime(2026, 2, 3, 10, 17, 42, tzinfo=UTC)
    assert Listing(Label, iter(())).to_polars().columns == columns_of(Label)


def test_without_the_library_it_is_said_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    def absent(name: str) -> None:
        raise ImportError(name)

    monkeypatch.setattr(listings, "import_module", absent)
    with pytest.raises(InvalidInput, match="pandas is not installed here; `pip install pandas`"):
        some_features().to_pandas()
    with pytest.raises(InvalidInput, match="polars is not installed here"):
        some_features().to_polars()
