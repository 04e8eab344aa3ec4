"""`glossarium keys …`: who may use an installation, and what they did with it."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from itertools import islice
from typing import Annotated
from uuid import UUID, uuid4

import typer
from rich.table import Table
from rich.text import Text

from schema.errors import NotFound
from schema.keys import AuditEntry, Key, KeySpec, NewKey, Scope, make_credentials
from schema.settings import load_settings
from schema.store import database, keys
from service import render
from service.terminal import Api, AsJson, Data, err, find, open_client, out, print_json, say

commands = typer.Typer(no_args_is_help=True, help="API keys: make, list and revoke them; see what was done with them.")

Name = Annotated[str, typer.Argument(help="Whose it is, or what it is for.")]
ScopeOption = Annotated[Scope, typer.Option(help="read, submit or admin")]
Days = Annotated[float | None, typer.Option(min=0.001, help="After which it is refused; never without it.")]


@commands.command()
def add(
    name: Name,
    scope: ScopeOption = "read",
    days: Days = None,
    data: Data = None,
    api: Api = None,
    as_json: AsJson = False,
) -> None:
    """Make a key, and print it: this once."""
    with open_client(data, api) as client:
        _show_new(client.create_key(_spec(name, scope, days)), as_json)


@commands.command("list")
def list_(data: Data = None, api: Api = None, as_json: AsJson = False) -> None:
    """List keys, newest first."""
    with open_client(data, api) as client:
        found = list(client.api_keys())
    print_json(found) if as_json else out.print(_keys_table(found))


@commands.command()
def revoke(
    key: Annotated[str, typer.Argument(help="A key's id, the beginning of it, or its name.")],
    data: Data = None,
    api: Api = None,
) -> None:
    """Revoke a key: it is refused from now on."""
    with open_client(data, api) as client:
        valid = [one for one in client.api_keys() if one.revoked_at is None]
        found = find(key, _among(valid), valid, f"no valid key {key!r}; `glossarium keys list` lists them", _name_of)
        client.revoke_key(found.id)
    say(f"key {found.id} ({found.name}) is revoked")


@commands.command()
def audit(
    key: Annotated[str | None, typer.Option("--by", help="Only what was done with this key.")] = None,
    limit: Annotated[int, typer.Option(min=1, help="Rows to show.")] = 50,
    data: Data = None,
    api: Api = None,
    as_json: AsJson = False,
) -> None:
    """Show who changed what, the latest first."""
    with open_client(data, api) as client:
        key_id = None
        if key is not None:
            known = list(client.api_keys())
            missing = f"no key {key!r}; `glossarium keys list` lists them"
            key_id = find(key, _among(known), known, missing, _name_of).id
        found = list(islice(client.audit(key_id), limit))
    print_json(found) if as_json else out.print(_audit_table(found))


@commands.command()
def bootstrap(
    name: Annotated[str, typer.Option(help="Whose it is, or what it is for.")] = "first key",
    tenant: Annotated[str, typer.Option(help="Whom it belongs to; made if there is none of this name.")] = "default",
    scope: ScopeOption = "admin",
    days: Days = None,
    as_json: AsJson = False,
) -> None:
    """Make a key straight in the database at DATABASE_URL, and its tenant: for operators, where there is no key yet."""
    spec, credentials = _spec(name, scope, days), make_credentials(uuid4())
    url = load_settings().database_url
    database.prepare(url)
    with database.connect(url) as connection:
        made = keys.create(connection, keys.tenant(connection, tenant), spec, credentials)
    _show_new(NewKey(**dict(made), text=credentials.text), as_json)


def _spec(name: str, scope: Scope, days: float | None) -> KeySpec:
    expires_at = None if days is None else datetime.now(UTC) + timedelta(days=days)
    return KeySpec(name=name, scope=scope, expires_at=expires_at)


def _show_new(key: NewKey, as_json: bool) -> None:
    if as_json:
        print_json(key)
        return
    until = "" if key.expires_at is None else f" until {_time(key.expires_at)}"
    err.print(f"a key with the scope {key.scope}{until}; keep it, it is not shown again:", highlight=False)
    typer.echo(key.text)


def _among(known: list[Key]) -> Callable[[UUID], Key]:
    by_id = {key.id: key for key in known}

    def get(id_: UUID) -> Key:
        if id_ not in by_id:
            raise NotFound(f"no valid key {id_}")
        return by_id[id_]

    return get


def _name_of(key: Key) -> str:
    return key.name


def _keys_table(found: list[Key]) -> Table:
    table = Table("id", "name", "scope", "made", "used", "state")
    for key in found:
        used = "never" if key.used_at is None else _time(key.used_at)
        name = Text(render.printable(key.name))
        table.add_row(str(key.id)[:8], name, key.scope, _time(key.created_at), used, _state(key))
    return table


def _state(key: Key) -> str:
    if key.revoked_at is not None:
        return f"revoked {_time(key.revoked_at)}"
    if key.expires_at is None:
        return "valid"
    return f"{'expired' if key.expires_at <= datetime.now(UTC) else 'valid until'} {_time(key.expires_at)}"


def _audit_table(found: list[AuditEntry]) -> Table:
    table = Table("at", "key", "request", "answer")
    for entry in found:
        request = f"{entry.method} {entry.path}"
        name = Text(render.printable(entry.key_name))
        table.add_row(_time(entry.at), name, Text(render.printable(request)), str(entry.status))
    return table


def _time(at: datetime) -> str:
    return f"{at.astimezone(UTC):%Y-%m-%d %H:%M}"
