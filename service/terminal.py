"""What the rooms of the command line share: the screen, options, the client, and how things are named and printed."""

import json
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from contextvars import ContextVar
from pathlib import Path
from typing import Annotated, Protocol, TypeVar
from uuid import UUID

import typer
from rich.console import Console

from schema.collections import Collection
from schema.errors import BadSelection, NotFound, Unauthorized, Unavailable
from schema.records import Dictionary, Record, Run
from schema.settings import load_settings
from service import render
from service.client import Client
from service.credentials import find_key
from service.folder import DataFolder

out = Console()
err = Console(stderr=True)
_given_key: ContextVar[str | None] = ContextVar("given_key", default=None)

Data = Annotated[Path | None, typer.Option(help="The stack's data folder.", envvar="GLOSSARIUM_DATA_DIR")]
Api = Annotated[
    str | None, typer.Option(help="The API's URL; that of the stack on --data by default.", envvar="GLOSSARIUM_API_URL")
]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]
DictionaryName = Annotated[str, typer.Argument(help="A dictionary's id, the beginning of it, or its name.")]
RunName = Annotated[str, typer.Argument(help="A run's id, or the beginning of it.")]


class Identified(Protocol):
    """What has an id."""

    @property
    def id(self) -> UUID:
        """Tells it from all others."""


T = TypeVar("T", bound=Identified)


def find_api(data: Path | None, api: str | None) -> str:
    """Return the API's URL: the given one, or that of the stack that runs on the data folder.

    Raises: Unavailable if no stack runs there.
    """
    if api:
        return api
    folder = data_folder(data)
    state = folder.read_state()
    if state is None:
        raise Unavailable(
            f"no stack is up on {folder.path}; start one with `glossarium up`, or name the API with --api "
            "or GLOSSARIUM_API_URL"
        )
    return state.api_url


def open_client(data: Path | None, api: str | None) -> Client:
    """Return a client of the API, with the key that was given or is found. Raises as `find_api`."""
    url = find_api(data, api)
    return Client(url, key=find_key(url, _given_key.get(), data))


def sign_in_address(data: Path | None, api: str | None) -> str:
    """Return where a browser is signed in to the pages: the key is behind the `#`, which browsers keep to themselves.

    Raises: as `find_api`; Unauthorized where no key is known.
    """
    url = find_api(data, api)
    key = find_key(url, _given_key.get(), data)
    if key is None:
        raise Unauthorized(f"no API key for {url} is known here; give one with --key or GLOSSARIUM_API_KEY")
    return f"{url.rstrip('/')}/sign-in#{key}"


def use_key(key: str | None) -> None:
    """Let the client come with this key, None for one that is found."""
    _given_key.set(key)


def data_folder(data: Path | None) -> DataFolder:
    """Return the folder that was named, or the usual one."""
    return DataFolder(data or load_settings().data_dir)


def find(
    name: str,
    by_id: Callable[[UUID], T],
    known: Iterable[T],
    missing: str,
    called: Callable[[T], str | None] = lambda _: None,
) -> T:
    """Return the thing of an id, or the first known one that is called so or whose id begins so.

    Raises: NotFound saying what is missing.
    """
    exact = _uuid(name)
    if exact is not None:
        return by_id(exact)
    for thing in known:
        if called(thing) == name or (len(name) >= 4 and str(thing.id).startswith(name.lower())):
            return thing
    raise NotFound(missing)


def find_dictionary(client: Client, name: str) -> Dictionary:
    """Return the dictionary of an id, the beginning of an id or a name; of two of one name, the newer."""
    missing = f"no dictionary {name!r}; `glossarium dictionaries` lists them"
    return find(name, client.dictionary, client.dictionaries(), missing, lambda found: found.spec.name)


def find_dictionary_with(client: Client, name: str, index: int) -> Dictionary:
    """Return the dictionary of a name. Raises BadSelection if it has no such feature."""
    found = find_dictionary(client, name)
    if not 0 <= index < found.spec.n_features:
        raise BadSelection(f"feature={index}; {found.spec.name} has 0..{found.spec.n_features - 1}")
    return found


def find_run(client: Client, name: str) -> Run:
    """Return the run of an id or the beginning of one."""
    return find(name, client.run, client.runs(), f"no run {name!r}; `glossarium runs` lists them")


def find_collection(client: Client, name: str) -> Collection:
    """Return the collection of an id, the beginning of an id or a name; of two of one name, the newer."""
    missing = f"no collection {name!r}; `glossarium collections` lists them"
    return find(name, client.collection, client.collections(), missing, lambda found: found.name)


def find_submitted(client: Client, name: str) -> Dictionary | Collection:
    """Return the dictionary that is called so or, if there is none, the collection. Raises NotFound."""
    try:
        return find_dictionary(client, name)
    except NotFound:
        with suppress(NotFound):
            return find_collection(client, name)
        raise


def print_json(value: Record | Sequence[Record | None]) -> None:
    """Print a record, or several."""
    plain = (
        value.model_dump(mode="json")
        if isinstance(value, Record)
        else [None if item is None else item.model_dump(mode="json") for item in value]
    )
    typer.echo(json.dumps(plain, indent=2, ensure_ascii=False))


def say(line: str) -> None:
    """Print a line as it is, but for what would move the cursor."""
    out.print(render.printable(line), markup=False, highlight=False, soft_wrap=True)


def failed(message: str, code: int) -> typer.Exit:
    """Print what is wrong, and return what ends the command with a code."""
    err.print(f"[red]error:[/red] {render.printable(message)}", highlight=False, soft_wrap=True)
    return typer.Exit(code)


def _uuid(text: str) -> UUID | None:
    try:
        return UUID(text)
    except ValueError:
        return None
