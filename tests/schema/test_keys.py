"""The text of API keys, and what their scopes allow."""

import uuid

import pytest

from schema.errors import NotFound, Unauthorized
from schema.keys import SCOPES, KeySpec, allows, make_credentials, parse_key
from schema.store import audit, keys
from schema.store.database import Connection


def test_a_key_is_read_as_it_was_made() -> None:
    made = make_credentials(uuid.uuid4())
    assert parse_key(made.text) == made
    assert made.fits(made.digest)
    assert not made.fits(make_credentials(made.id).digest)
    assert len(made.text) == 80


@pytest.mark.parametrize(
    "text", ["", "glk_", "secret", "glk_" + "0" * 32 + "_short", "GLK_" + "0" * 32 + "_" + "a" * 43]
)
def test_what_is_no_key_is_refused_and_not_repeated(text: str) -> None:
    with pytest.raises(Unauthorized) as refused:
        parse_key(text)
    assert text == "" or text not in str(refused.value).replace("glk_…", "")


def test_each_scope_may_do_what_those_before_it_may() -> None:
    allowed = [[allows(scope, needed) for needed in SCOPES] for scope in SCOPES]
    assert allowed == [[True, False, False], [True, True, False], [True, True, True]]


def test_the_store_keeps_no_secret_and_revokes_once(connection: Connection) -> None:
    credentials = make_credentials(uuid.uuid4())
    made = keys.create(connection, 1, KeySpec(name="n"), credentials)
    row = connection.execute("SELECT api_key::text FROM api_key").fetchone()
    assert credentials.secret not in str(row)
    stored = keys.find(connection, made.id)
    assert stored is not None
    assert (stored.key, stored.tenant_id) == (made, 1)
    assert credentials.fits(stored.secret_sha256)
    seen = keys.get(connection, 1, made.id).used_at
    assert seen is not None
    keys.find(connection, made.id)
    assert keys.get(connection, 1, made.id).used_at == seen  # within a minute nothing is written
    keys.revoke(connection, 1, made.id)
    revoked = keys.get(connection, 1, made.id).revoked_at
    keys.revoke(connection, 1, made.id)
    assert revoked is not None
    assert keys.get(connection, 1, made.id).revoked_at == revoked
    assert keys.find(connection, uuid.uuid4()) is None


def test_tenants_are_made_by_name_and_see_nothing_of_each_other(connection: Connection) -> None:
    other = keys.tenant(connection, "other")
    assert [keys.tenant(connection, name) for name in ("other", "default", "third")] == [other, 1, other + 1]
    made = keys.create(connection, other, KeySpec(name="n"), make_credentials(uuid.uuid4()))
    audit.put(connection, other, made.id, "POST", "/v1/runs", 201)
    assert [entry.path for entry in audit.page(connection, other)] == ["/v1/runs"]
    assert (audit.page(connection, 1), keys.page(connection, 1)) == ([], [])
    for act in (keys.get, keys.revoke):
        with pytest.raises(NotFound):
            act(connection, 1, made.id)
