"""Dictionaries in a real Postgres."""

import uuid

import pytest

from schema.errors import Conflict, NotFound
from schema.records import DictionarySpec, Encoder, EncoderKind, RunSpec
from schema.store import dictionaries, features, runs
from schema.store.database import Connection

SHA, OTHER_SHA = "a" * 64, "b" * 64


def spec_of(kind: EncoderKind = "relu", n_features: int = 4, **changes: object) -> DictionarySpec:
    fields = {"name": "d", "subject": "s", "read_site": "resid_post.1", "n_features": n_features}
    return DictionarySpec.model_validate({**fields, "encoder": Encoder(kind=kind), **changes})


def make(connection: Connection, kind: EncoderKind = "relu", tenant: int = 1, n_features: int = 4) -> uuid.UUID:
    return dictionaries.create(connection, tenant, uuid.uuid4(), spec_of(kind, n_features)).id


def n_rows(connection: Connection, table: str) -> int:
    row = connection.execute(f"SELECT count(*) FROM {table}").fetchone()
    assert row is not None
    return int(row[0])


def test_neurons_are_ready_with_their_features_at_once(connection: Connection) -> None:
    id_ = make(connection, "neurons", n_features=5)
    stored = dictionaries.get(connection, 1, id_)
    assert (stored.state, stored.weights_sha256, stored.error) == ("ready", None, None)
    assert stored.spec == spec_of("neurons", 5)
    assert [feature.index for feature in features.page(connection, id_)] == [0, 1, 2, 3, 4]


def test_others_wait_for_weights_and_get_their_features_with_them(connection: Connection) -> None:
    id_ = make(connection)
    waiting = dictionaries.get(connection, 1, id_)
    assert waiting.state == "awaiting_weights"
    assert features.page(connection, id_) == []
    ready = dictionaries.set_weights(connection, 1, id_, SHA)
    assert (ready.state, ready.weights_sha256) == ("ready", SHA)
    assert ready.digest != waiting.digest
    assert len(features.page(connection, id_)) == 4


def test_the_same_weights_twice_change_nothing_and_others_are_refused(connection: Connection) -> None:
    id_ = make(connection)
    first = dictionaries.set_weights(connection, 1, id_, SHA)
    assert dictionaries.set_weights(connection, 1, id_, SHA) == first
    with pytest.raises(Conflict, match=f"has weights {SHA} and not {OTHER_SHA}; submit a new dictionary"):
        dictionaries.set_weights(connection, 1, id_, OTHER_SHA)


def test_neurons_and_failed_dictionaries_take_no_weights(connection: Connection) -> None:
    with pytest.raises(Conflict, match="is of neurons"):
        dictionaries.set_weights(connection, 1, make(connection, "neurons"), SHA)
    broken = make(connection)
    assert dictionaries.fail(connection, broken, "FVU 1.9").state == "failed"
    with pytest.raises(Conflict, match=r"failed \(FVU 1\.9\)"):
        dictionaries.set_weights(connection, 1, broken, SHA)


def test_the_digest_is_of_what_computes() -> None:
    plain = dictionaries.digest_of(spec_of(), SHA)
    assert plain == dictionaries.digest_of(spec_of(name="other", source="saelens"), SHA)
    assert plain == dictionaries.digest_of(spec_of(write_site="resid_post.1"), SHA)
    others = [
        dictionaries.digest_of(spec_of(), OTHER_SHA),
        dictionaries.digest_of(spec_of(), None),
        dictionaries.digest_of(spec_of(write_site="resid_post.2"), SHA),
        dictionaries.digest_of(spec_of("jumprelu"), SHA),
        dictionaries.digest_of(spec_of(revision="main"), SHA),
    ]
    assert len({plain, *others}) == 6


def test_a_foreign_dictionary_is_not_found(connection: Connection) -> None:
    connection.execute("INSERT INTO tenant (id, name) VALUES (2, 'other')")
    id_ = make(connection, tenant=2)
    assert dictionaries.get(connection, 2, id_).id == id_
    for look in (dictionaries.get, dictionaries.delete):
        with pytest.raises(NotFound, match=f"no dictionary {id_}"):
            look(connection, 1, id_)
    with pytest.raises(NotFound):
        dictionaries.set_weights(connection, 1, id_, SHA)
    assert dictionaries.page(connection, 1) == []


def test_pages_go_through_all_dictionaries_once_newest_first(connection: Connection) -> None:
    made = []
    for _ in range(3):
        made += [make(connection), make(connection)]  # two of one transaction share their time
        connection.commit()
    seen, after = [], None
    while page := dictionaries.page(connection, 1, after=after, limit=2):
        seen += page
        after = (page[-1].created_at, page[-1].id)
    assert {row.id for row in seen} == set(made)
    assert len(seen) == 6
    assert seen == sorted(seen, key=lambda row: (-row.created_at.timestamp(), row.id))


def test_a_deleted_dictionary_leaves_nothing_behind(connection: Connection, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(features, "BATCH", 3)
    id_, kept = make(connection, "neurons"), make(connection, "neurons")
    run = runs.submit(connection, 1, uuid.uuid4(), RunSpec(dictionary_id=id_), n_features=4, n_shards=2).run
    with pytest.raises(Conflict, match=f"run {run.id} of dictionary {id_} is not finished; cancel it first"):
        dictionaries.delete(connection, 1, id_)
    runs.set_state(connection, 1, run.id, "cancelled")
    dictionaries.delete(connection, 1, id_)
    assert [n_rows(connection, table) for table in ("run", "job", "job_dependency")] == [0, 0, 0]
    assert [row.id for row in dictionaries.page(connection, 1)] == [kept]
    assert n_rows(connection, "feature") == 4
