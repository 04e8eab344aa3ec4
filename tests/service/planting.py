"""One of everything that a tenant can have, made over the API; and, of its dictionary, everything that workers find."""

from typing import NamedTuple
from uuid import UUID

import httpx
from psycopg.types.json import Jsonb

from schema.collections import CollectionSpec
from schema.keys import KeySpec
from schema.labels import Feature, Label, Provenance
from schema.records import DictionarySpec, RunSpec, RunTerms
from schema.reports import RunReport
from schema.schedules import FeatureDiff, ScheduleSpec
from schema.store import (
    calls,
    database,
    descriptions,
    evidence,
    features,
    indexing,
    labels,
    reports,
    run_features,
    tokens,
)
from schema.store import scores as store_scores
from schema.store.calls import Call
from schema.store.run_features import RunFeature
from schema.store.tokens import TokenLists
from schema.webhooks import WebhookSpec
from service import examples, feature_examples, schedule_examples
from service.client import Client
from tests.llm_server import DIMENSIONS, embedding

FEATURE = 1
"""Of which everything is known."""
TERMS = {"llm": "none", "methods": ("lexical",), "evaluations": ("free",), "features": "0-1"}
"""Of a run that needs no LLM."""


class Things(NamedTuple):
    """What a tenant has, by the name of the path parameter that takes its id."""

    http: httpx.Client
    ids: dict[str, UUID]
    collection_run: UUID

    def id_of(self, path: str, name: str) -> UUID:
        """Return the id that stands for a parameter of a path."""
        in_collection = path.startswith("/v1/collections") and name == "run_id"
        return self.collection_run if in_collection else self.ids[name]

    def url(self, path: str, others: "Things | None" = None) -> str:
        """Return a path to these things; the last id in it is that of others' if they are given."""
        parts = path.split("/")
        places = [n for n, part in enumerate(parts) if part.endswith("_id}")]
        for n in places:
            whose = others if others is not None and n == places[-1] else self
            name = parts[n].strip("{}")
            assert name in whose.ids, f"say in `things_of` what a tenant has for {name} of {path}"
            parts[n] = str(whose.id_of(path, name))
        return "/".join("0" if part.startswith("{") else part for part in parts)


def things_of(client: Client, http: httpx.Client, url: str, spec: DictionarySpec) -> Things:
    """Make one of everything for the tenant of a client's key."""
    dictionary = client.submit_dictionary(spec)
    run = RunSpec.model_validate({"dictionary_id": dictionary.id, **TERMS})
    collection = client.create_collection(CollectionSpec(name="c", dictionary_ids=(dictionary.id,)))
    schedule = client.create_schedule(ScheduleSpec(name="nightly", run=run, cron="0 0 29 2 *"))
    corpus = http.put("/v1/corpora", params={"name": f"of {spec.name}"}, content=b'{"text": "a b"}').json()["id"]
    with database.connect(url) as connection:
        row = connection.execute(
            "INSERT INTO refresh (schedule_id, slot, state) VALUES (%s, now(), 'nothing') RETURNING id", (schedule.id,)
        ).fetchone()
    assert row is not None
    trial = http.post(f"/v1/dictionaries/{dictionary.id}/activations", params={"wait": 0}, json={"text": "a"}).json()
    ids = {
        "dictionary_id": dictionary.id,
        "run_id": client.submit_run(run).id,
        "collection_id": collection.id,
        "schedule_id": schedule.id,
        "refresh_id": row[0],
        "corpus_id": UUID(corpus),
        "trial_id": UUID(trial["id"]),
        "key_id": client.create_key(KeySpec(name=f"of {spec.name}")).id,
        "webhook_id": client.create_webhook(WebhookSpec(url="https://93.184.216.34/")).id,
    }
    return Things(http, ids, client.submit_collection_run(collection.id, RunTerms.model_validate(TERMS)).id)


def find_all(url: str, things: Things) -> None:
    """Store what workers would have found of a feature, of the run that selected it, and in search."""
    whole = Feature.model_validate(feature_examples.FEATURE)
    dictionary_id, run_id = things.ids["dictionary_id"], things.ids["run_id"]
    diff = FeatureDiff.model_validate(schedule_examples.FEATURE_DIFF)
    with database.connect(url) as connection:
        features.set_density(connection, dictionary_id, [0, FEATURE], [0.0, 0.25], [0.0, 3.5])
        for record in (whole.vocabulary, whole.token_change, whole.calibration, whole.steered_texts):
            assert record is not None
            kind = evidence.kind_of(type(record))
            evidence.put(connection, dictionary_id, kind, Provenance(recipe=kind, document={}), {FEATURE: record})
        said = descriptions.put(
            connection, dictionary_id, whole.descriptions[0].model_copy(update={"feature": FEATURE, "recipe": "d"})
        )
        changes = {"feature": FEATURE, "description_id": said.id}
        store_scores.put(connection, dictionary_id, [one.model_copy(update=changes) for one in whole.scores])
        label = Label.model_validate({**examples.LABEL, "id": None, **changes})
        labels.publish(connection, dictionary_id, run_id, label, "l")
        run_features.put(connection, run_id, [RunFeature(0, 0, True, True), RunFeature(1, FEATURE, True, True)])
        reports.put(connection, RunReport.model_validate({**examples.RUN_REPORT, "run_id": run_id}))
        calls.put(connection, 1, run_id, Call(FEATURE, "judge", "p", "m", "ok", 1, 100, 40, 20, 0.25, 1.0, False))
        tokens.put(connection, dictionary_id, {FEATURE: TokenLists(promoted=[" river"], fires=[" boat"])})
        connection.execute(
            "INSERT INTO refresh_feature (refresh_id, feature, reason, change, before) VALUES (%s, %s, %s, %s, %s)",
            (things.ids["refresh_id"], FEATURE, diff.reason, diff.change, Jsonb(diff.before.model_dump())),
        )


def measure(url: str, run_id: UUID, **health: object) -> None:
    """Store what the first job of a run finds of its dictionary's health."""
    known = ("n_tokens", "fvu", "l0", "dead", "sink", "suspicions", "verdict", "fits")
    found = {**{name: examples.DICTIONARY_HEALTH[name] for name in known}, **health}
    with database.connect(url) as connection:
        connection.execute(
            "UPDATE job SET state = 'done', finished_at = now(), result = %s WHERE run_id = %s AND stage = 'ingest'",
            (Jsonb({"corpus": "c", "health": found}), run_id),
        )


def index_labels(connection: database.Connection, model_name: str) -> None:
    """Do what the indexer does, with embeddings that are not asked for over HTTP."""
    model = indexing.register(connection, model_name, DIMENSIONS)
    rows = indexing.take(connection, "labels", 1000)
    indexing.add_words(connection, rows)
    texts = indexing.texts(connection, rows)
    indexing.put(connection, model, texts, [_unit(embedding(text.text)) for text in texts])
    indexing.done(connection, rows)


def _unit(vector: list[float]) -> list[float]:
    norm = sum(value * value for value in vector) ** 0.5 or 1.0
    return [value / norm for value in vector]
