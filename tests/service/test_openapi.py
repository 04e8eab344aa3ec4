"""The API's documentation: every operation has examples, and the examples are true."""

import os
import re
import shutil
import subprocess
from typing import Any

import pytest
from pydantic import BaseModel

from schema import comparisons, edits, lookups, usage, wire
from schema.collections import Collection, CollectionRun, CollectionSpec
from schema.health import MeasuredHealth
from schema.keys import AuditEntry, Key, KeySpec, NewKey
from schema.labels import Feature, FeatureSummary, Label
from schema.records import Corpus, Dictionary, DictionarySpec, Run, RunSpec, RunTerms
from schema.reports import RunReport
from schema.schedules import DiffPage, Refresh, Schedule, SchedulePatch, ScheduleSpec
from schema.search import SearchPage, TokenPage
from schema.trials import ActivationsSpec, SteeringSpec, Trial
from schema.webhooks import Delivery, NewWebhook, Notice, Webhook, WebhookPatch, WebhookSpec
from service import (
    collection_examples,
    docs,
    event_examples,
    examples,
    export_examples,
    feature_examples,
    key_examples,
    label_examples,
    schedule_examples,
    search_examples,
    trial_examples,
    webhook_examples,
)
from service.app import create_app
from tests.service.conftest import Api

DOCUMENT: dict[str, Any] = create_app().openapi()
STORES_NOTHING = {"post /v1/runs/estimate", "post /v1/labels/bulk"}
OPERATIONS = [
    (f"{method} {path}", operation)
    for path, methods in DOCUMENT["paths"].items()
    for method, operation in methods.items()
]


@pytest.mark.parametrize(
    ("record", "example"),
    [
        (DictionarySpec, examples.NEURONS_SPEC),
        (DictionarySpec, examples.SAE_SPEC),
        (Dictionary, examples.DICTIONARY),
        (Dictionary, examples.DICTIONARY_WITH_WEIGHTS),
        (MeasuredHealth, examples.DICTIONARY_HEALTH),
        (Corpus, examples.CORPUS),
        *((RunSpec, example["value"]) for example in examples.RUN_SPECS.values()),
        (Run, examples.RUN),
        (Run, examples.PAUSED_RUN),
        (Run, examples.CANCELLED_RUN),
        (Run, event_examples.RUN_EVENT),
        (RunReport, examples.RUN_REPORT),
        *((CollectionSpec, example["value"]) for example in collection_examples.COLLECTION_SPECS.values()),
        *((RunTerms, example["value"]) for example in collection_examples.ALL_RUN_TERMS.values()),
        (Collection, collection_examples.COLLECTION),
        (CollectionRun, collection_examples.COLLECTION_RUN),
        *((ScheduleSpec, example["value"]) for example in schedule_examples.SCHEDULE_SPECS.values()),
        *((SchedulePatch, example["value"]) for example in schedule_examples.SCHEDULE_PATCHES.values()),
        (Schedule, schedule_examples.SCHEDULE),
        (Refresh, schedule_examples.REFRESH),
        (Refresh, schedule_examples.ASKED_REFRESH),
        (DiffPage, schedule_examples.DIFF),
        *((ActivationsSpec, example["value"]) for example in trial_examples.ACTIVATIONS_SPECS.values()),
        *((SteeringSpec, example["value"]) for example in trial_examples.STEERING_SPECS.values()),
        (Trial, trial_examples.TEXT_TRIAL),
        (Trial, trial_examples.STEERING_TRIAL),
        (Trial, trial_examples.WAITING_TRIAL),
        (Trial, trial_examples.CANCELLED_TRIAL),
        *((WebhookSpec, example["value"]) for example in webhook_examples.WEBHOOK_SPECS.values()),
        *((WebhookPatch, example["value"]) for example in webhook_examples.WEBHOOK_PATCHES.values()),
        (Webhook, webhook_examples.WEBHOOK),
        (NewWebhook, webhook_examples.NEW_WEBHOOK),
        (Notice, webhook_examples.RUN_NOTICE),
        (Notice, webhook_examples.DIFF_NOTICE),
        (Delivery, webhook_examples.DELIVERY),
        (Delivery, webhook_examples.TEST_DELIVERY),
        *((KeySpec, example["value"]) for example in key_examples.KEY_SPECS.values()),
        (Key, key_examples.KEY),
        (NewKey, key_examples.NEW_KEY),
        (AuditEntry, key_examples.AUDIT_ENTRY),
        (Label, examples.LABEL),
        (FeatureSummary, feature_examples.FEATURE_SUMMARY),
        (Feature, feature_examples.FEATURE),
        (SearchPage, search_examples.SEARCH_PAGE),
        (TokenPage, search_examples.TOKEN_PAGE),
        *((edits.LabelEdit, example["value"]) for example in label_examples.EDITS.values()),
        (Label, label_examples.EDITED),
        *((lookups.LabelsWanted, example["value"]) for example in label_examples.LABELS_WANTED.values()),
        (lookups.LabelsFound, label_examples.LABELS_FOUND),
        (lookups.SimilarFeatures, label_examples.SIMILAR_FEATURES),
        (comparisons.RunDiffPage, label_examples.RUN_DIFF),
        (usage.UsagePage, label_examples.USAGE),
        (wire.LabelsImported, export_examples.LABELS_IMPORTED),
        (wire.PromptFile, examples.PROMPT_FILE),
        (wire.RunEstimate, examples.ESTIMATE),
        (wire.FeaturePrompt, examples.FEATURE_PROMPT),
        (wire.Health, examples.HEALTH),
        (wire.Readiness, examples.READY),
        (wire.Readiness, examples.NOT_READY),
        *((wire.Problem, example) for example in (examples.NO_KEY, examples.FORBIDDEN, examples.TOO_MANY)),
        (wire.Problem, examples.PROBLEM),
    ],
)
def test_examples_are_records(record: type[BaseModel], example: dict[str, Any]) -> None:
    assert record.model_validate(example)


def test_the_document_has_every_operation_of_the_api() -> None:
    assert {name for name, _ in OPERATIONS} == {
        "post /v1/dictionaries",
        "get /v1/dictionaries",
        "get /v1/dictionaries/{dictionary_id}",
        "get /v1/dictionaries/{dictionary_id}/health",
        "delete /v1/dictionaries/{dictionary_id}",
        "put /v1/dictionaries/{dictionary_id}/weights",
        "get /v1/dictionaries/{dictionary_id}/features",
        "get /v1/dictionaries/{dictionary_id}/features/{index}",
        "get /v1/dictionaries/{dictionary_id}/features/{index}/labels",
        "put /v1/dictionaries/{dictionary_id}/features/{index}/label",
        "delete /v1/dictionaries/{dictionary_id}/features/{index}/label",
        "get /v1/dictionaries/{dictionary_id}/features/{index}/similar",
        "get /v1/dictionaries/{dictionary_id}/labels",
        "post /v1/labels/bulk",
        "get /v1/dictionaries/{dictionary_id}/export",
        "put /v1/dictionaries/{dictionary_id}/descriptions",
        "post /v1/dictionaries/import",
        "get /v1/search",
        "get /v1/search/tokens",
        "get /v1/prompts",
        "post /v1/runs/estimate",
        "get /v1/dictionaries/{dictionary_id}/features/{index}/prompts",
        "post /v1/corpora",
        "put /v1/corpora",
        "get /v1/corpora",
        "get /v1/corpora/{corpus_id}",
        "post /v1/runs",
        "get /v1/runs",
        "get /v1/runs/{run_id}",
        "get /v1/runs/{run_id}/labels",
        "get /v1/runs/{run_id}/report",
        "get /v1/runs/{run_id}/events",
        "get /v1/runs/{run_id}/diff",
        "get /v1/usage",
        "post /v1/runs/{run_id}/cancel",
        "post /v1/runs/{run_id}/pause",
        "post /v1/runs/{run_id}/resume",
        "post /v1/dictionaries/{dictionary_id}/activations",
        "post /v1/dictionaries/{dictionary_id}/features/{index}/steer",
        "get /v1/trials/{trial_id}",
        "post /v1/trials/{trial_id}/cancel",
        "post /v1/collections",
        "get /v1/collections",
        "get /v1/collections/{collection_id}",
        "delete /v1/collections/{collection_id}",
        "post /v1/collections/{collection_id}/runs",
        "get /v1/collections/{collection_id}/runs",
        "get /v1/collections/{collection_id}/runs/{run_id}",
        "post /v1/schedules",
        "get /v1/schedules",
        "get /v1/schedules/{schedule_id}",
        "patch /v1/schedules/{schedule_id}",
        "delete /v1/schedules/{schedule_id}",
        "get /v1/schedules/{schedule_id}/refreshes",
        "post /v1/schedules/{schedule_id}/refreshes",
        "get /v1/schedules/{schedule_id}/refreshes/{refresh_id}",
        "get /v1/schedules/{schedule_id}/refreshes/{refresh_id}/diff",
        "post /v1/webhooks",
        "get /v1/webhooks",
        "get /v1/webhooks/{webhook_id}",
        "patch /v1/webhooks/{webhook_id}",
        "delete /v1/webhooks/{webhook_id}",
        "get /v1/webhooks/{webhook_id}/deliveries",
        "post /v1/webhooks/{webhook_id}/test",
        "post /v1/keys",
        "get /v1/keys",
        "delete /v1/keys/{key_id}",
        "get /v1/audit",
        "get /health",
        "get /ready",
    }


@pytest.mark.parametrize(("name", "operation"), OPERATIONS, ids=[name for name, _ in OPERATIONS])
def test_every_operation_has_an_answer_by_example(name: str, operation: dict[str, Any]) -> None:
    answers = {status: answer for status, answer in operation["responses"].items() if status.startswith("2")}
    for status, answer in answers.items():
        media = "text/event-stream" if name.endswith("/events") else "application/json"
        assert status == "204" or "example" in answer["content"][media]
    if name.startswith("get /v1") and not name.endswith(("/export", "/events")):  # streams
        assert "304" in operation["responses"]
    if name.split()[1].startswith("/v1"):
        problem = operation["responses"]["default"]["content"]
        assert list(problem) == ["application/problem+json"]  # as which they are sent, and with the form that they have
        assert set(problem["application/problem+json"]) == {"schema", "example"}
    if name in ("post /v1/runs", "post /v1/dictionaries"):
        assert operation["requestBody"]["content"]["application/json"]["examples"]
    if name.startswith("post") and name not in STORES_NOTHING:
        assert "idempotency-key" in {parameter["name"].lower() for parameter in operation["parameters"]}


def test_operations_have_names_of_their_own() -> None:
    names = [operation["operationId"] for _, operation in OPERATIONS]
    assert len(names) == len(set(names))


def test_the_page_shows_every_operation_and_example_and_loads_nothing() -> None:
    page = docs.render(DOCUMENT)
    for name, _ in OPERATIONS:
        method, path = name.split()
        assert f"<code>{method.upper()} {path}</code>" in page
    for shown in (
        "random:24:0",
        "0-9,12,400-420",
        "layer=99; bundled:smollm2-135m-instruct has 0..29",
        "min_input_lift",
    ):
        assert shown in page
    for foreign in ("http://", '="https:', "url(", "<script", "src=", "<link"):  # as text, a URL loads nothing
        assert foreign not in page


def test_the_page_is_served_under_a_strict_policy(api: Api) -> None:
    response = api.http.get("/docs")
    assert response.status_code == 200
    assert response.headers["content-type"].startswith("text/html")
    assert response.headers["content-security-policy"].startswith("default-src 'none'; style-src 'sha256-")
    assert api.http.get("/openapi.json").json()["info"]["title"] == "Glossarium"


@pytest.mark.skipif(shutil.which("curl") is None, reason="needs curl")
def test_requests_of_the_page_run_in_a_shell(api: Api) -> None:
    variables = {"GLOSSARIUM_API_URL": api.url, "GLOSSARIUM_API_KEY": api.key}
    asked = [
        (name, command)
        for name, operation in OPERATIONS
        for _, command in docs.commands(name.split()[0].upper(), name.split()[1], operation)
        if set(re.findall(r"\$(\w+)", command)) <= set(variables)
    ]
    script = "\n".join(f"{command} -s -o /dev/null -w '%{{http_code}}\\n'" for _, command in asked)
    answers = subprocess.check_output(["bash", "-eu"], input=script, env=os.environ | variables, text=True).split()
    found = list(zip([name for name, _ in asked], answers, strict=True))
    assert {status for name, status in found if name.startswith("get")} == {"200"}
    assert {status for name, status in found if name in ("post /v1/dictionaries", "post /v1/keys")} == {"201"}
    assert {status for _, status in found} <= {"200", "201", "404", "422"}  # of examples that name what is not here


def test_what_stands_between_backticks_is_shown_as_code() -> None:
    page = docs.render({"info": {"title": "T", "version": "1", "description": "a `b<c>` d ` e"}, "paths": {}})
    assert "<p>a <code>b&lt;c&gt;</code> d ` e</p>" in page


def test_the_page_escapes_what_it_shows() -> None:
    evil = "<script>alert(1)</script>"
    operation = {"tags": [evil], "summary": evil, "description": evil, "responses": {}}
    page = docs.render({"info": {"title": evil, "version": evil}, "paths": {f"/{evil}": {"get": operation}}})
    assert "<script" not in page
