"""Every operation of the OpenAPI document, asked for what it allows and for what it does not: no 500, nothing unsaid.

What is asked comes from the document alone, the same each time; where it is well formed, it is mostly about what is
really there. `GLOSSARIUM_FUZZ=N` draws N times as much.
"""

import json
import os
import zlib
from collections.abc import Iterator
from contextlib import suppress
from random import Random
from typing import Any
from uuid import UUID

import pytest
import requests
import schemathesis
from schemathesis import Case
from schemathesis.checks import not_a_server_error
from schemathesis.config import SchemathesisConfig
from schemathesis.core.parameters import ParameterLocation
from schemathesis.specs.openapi import checks

from schema.records import DictionarySpec
from schema.store import database
from service import events
from service.app import create_app
from tests.conftest import fresh_database
from tests.llm_server import LLMServer
from tests.service.conftest import (
    D_MLP,
    Api,
    bearer,
    make_settings,
    make_subject,
    safetensors,
    serving,
    specs_for,
    weights,
)
from tests.service.planting import FEATURE, find_all, index_labels, things_of

TIMES = int(os.environ.get("GLOSSARIUM_FUZZ", "1"))
API = schemathesis.openapi.from_dict(
    create_app().openapi(),
    config=SchemathesisConfig.from_dict(
        {
            "generation": {
                "max-examples": 12 * TIMES,
                "deterministic": True,
                "no-shrink": True,
                "with-security-parameters": False,
            },
            "suppress-health-check": ["all"],
        }
    ),
)
schemathesis.serializer.alias(["application/x-ndjson", "application/x-tar"], "application/octet-stream")
CHECKS = [
    not_a_server_error,
    checks.status_code_conformance,
    checks.content_type_conformance,
    checks.response_headers_conformance,
    checks.response_schema_conformance,
    checks.negative_data_rejection,
    checks.missing_required_header,
    checks.ignored_auth,
]
METHODS = [checks.unsupported_method, checks.allow_header_conformance]
"""What is checked of methods that the document does not name."""
LIKE_IDS = ("/v1/runs/estimate", "/v1/dictionaries/import")
"""Paths that are those of an id as well: other methods are refused for what is none."""
REAL = 0.8
"""How often a value that is well formed is replaced by that of something which is there."""


class Ground:
    """A running API where everything is there."""

    def __init__(self, api: Api, spec: DictionarySpec, weighty: DictionarySpec) -> None:
        """Plant everything: `weighty` is what weights can be uploaded for."""
        self.api = api
        self.session = requests.Session()
        self._specs = spec, weighty
        self.plant()

    def plant(self) -> None:
        """Make everything once more."""
        spec, weighty = self._specs
        url = self.api.settings.database_url
        self._things = things_of(self.api.client, self.api.http, url, spec)
        self._end(self._things.ids["trial_id"])
        find_all(url, self._things)
        with database.connect(url) as connection:
            index_labels(connection, self.api.settings.embeddings_model)
        self._waiting = self.api.client.submit_dictionary(weighty).id
        there = f"/v1/dictionaries/{self._things.ids['dictionary_id']}"
        self._files = {
            "/v1/corpora": b'{"text": "a b"}\n' * 9,
            "/v1/dictionaries/import": self.api.http.get(f"{there}/export", params={"format": "archive"}).content,
            "/v1/dictionaries/{dictionary_id}/weights": safetensors(weights(weighty.n_features)),
            "/v1/dictionaries/{dictionary_id}/descriptions": b'{"feature": 1, "text": "boats"}\n',
        }
        ids = {name: str(id_) for name, id_ in self._things.ids.items()}
        label = self.api.http.get(f"{there}/features/{FEATURE}").json()["label"]["id"]
        self._values: dict[str, object] = {
            **ids,
            "against": ids["run_id"],
            "corpus": ids["corpus_id"],
            "subject": spec.subject,
            "read_site": spec.read_site,
            "index": FEATURE,
            "features": "0-1",
            "seen": label,
            "llm": "none",
            "url": "https://93.184.216.34/",
            "cron": "0 3 * * *",
            "time_zone": "Europe/Paris",
            "token": " river",
            "q": "boats",
        }

    def settle(self, case: Case) -> None:
        """Replace some of what a case asks for by what is there; a trial is not waited for."""
        draw = Random(zlib.crc32(repr((case.path_parameters, case.query, case.body)).encode()))
        path = case.operation.path
        self._values["run_id"] = str(self._things.id_of(path, "run_id"))
        self._values["dictionary_id"] = str(self._waiting if "weights" in path else self._things.ids["dictionary_id"])
        for place in (ParameterLocation.PATH, ParameterLocation.QUERY, ParameterLocation.BODY):
            if case.meta is not None and not case.meta.is_negative_at(place):
                self._settle_at(case, place, draw)
        if "wait" in case.query:
            with suppress(ValueError, TypeError):
                case.query["wait"] = min(float(case.query["wait"]), 0.01)

    def _settle_at(self, case: Case, place: ParameterLocation, draw: Random) -> None:
        match place:
            case ParameterLocation.PATH:
                case.path_parameters = self._real(case.path_parameters, None, draw)
            case ParameterLocation.QUERY:
                case.query = self._real(case.query, None, draw)
            case _ if isinstance(case.body, bytes):
                case.body = self._files[case.operation.path] if draw.random() < REAL else case.body
            case _:
                case.body = self._real(case.body, None, draw)

    def _real(self, value: Any, name: str | None, draw: Random) -> Any:
        if isinstance(value, dict):
            return {key: self._real(item, key, draw) for key, item in value.items()}
        if isinstance(value, list):
            inner = {"dictionary_ids": "dictionary_id"}.get(name or "")
            return [self._real(item, inner, draw) for item in value]
        known = self._values.get(name or "")
        if known is None or draw.random() > REAL or (_is_id(str(known)) != _is_id(str(value)) and name != "corpus"):
            return value
        return known if isinstance(value, type(known)) else str(known) if isinstance(value, str) else value

    def tidy(self, case: Case, response: Any) -> None:
        """Put back what is gone, and end what would be in the way of others."""
        if case.method == "DELETE" and response.status_code == 204:
            self.plant()
        if response.status_code == 202:
            self._end(json.loads(response.content)["id"])

    def _end(self, trial_id: UUID | str) -> None:
        """End a trial: only so many go at once."""
        assert self.api.http.post(f"/v1/trials/{trial_id}/cancel").status_code == 200


@pytest.fixture(scope="module")
def ground(postgres_url: str, redis_url: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Ground]:
    """Yield an API where everything is there, also embeddings; streams of events end at once."""
    folder = tmp_path_factory.mktemp("fuzz")
    subject = make_subject(folder / "tiny")
    spec_of = specs_for(subject)
    with LLMServer() as llm, fresh_database(postgres_url) as url, pytest.MonkeyPatch.context() as patch:
        patch.setattr(events, "LONGEST_S", 0.1)
        changes = {"embeddings_base_url": llm.base_url, "reads_per_minute": None, "changes_per_minute": None}
        neurons = spec_of(read_site="mlp_hidden.1", encoder={"kind": "neurons"}, n_features=D_MLP)
        with serving(make_settings(folder, subject, url, redis_url, **changes)) as api:
            yield Ground(api, neurons, spec_of())


@API.parametrize()
def test_every_answer_is_as_documented(case: Case, ground: Ground) -> None:
    ground.settle(case)
    wanted = CHECKS if case.operation.path in LIKE_IDS else CHECKS + METHODS
    response = case.call_and_validate(
        ground.api.url,
        session=ground.session,
        headers=bearer(ground.api.key),
        checks=wanted
        if case.body is not None
        else [one for one in wanted if one is not checks.negative_data_rejection],
        timeout=30,
    )
    ground.tidy(case, response)


def _checks_of(case: Case) -> list[Any]:
    """Return what is checked of a case: not that null is refused for a body that may be missing."""
    wanted = CHECKS if case.operation.path in LIKE_IDS else CHECKS + METHODS
    missing = case.body is None and case.operation.path == "/v1/runs/{run_id}/resume"
    return [check for check in wanted if not (missing and check is checks.negative_data_rejection)]


def _is_id(text: str) -> bool:
    try:
        return bool(UUID(text))
    except ValueError:
        return False
