"""The commands about what is stored: list dictionaries and corpora, and delete what is not wanted any more."""

from typing import Annotated

import typer

from schema.collections import Collection
from schema.records import Corpus, Dictionary
from service import render
from service.terminal import Api, AsJson, Data, find_submitted, open_client, print_json, say

commands = typer.Typer()


@commands.command()
def dictionaries(data: Data = None, api: Api = None, as_json: AsJson = False) -> None:
    """List dictionaries, newest first."""
    with open_client(data, api) as client:
        found = list(client.dictionaries())
    if as_json:
        print_json(found)
    for dictionary in () if as_json else found:
        say(render.dictionary_line(dictionary))


@commands.command()
def corpora(data: Data = None, api: Api = None, as_json: AsJson = False) -> None:
    """List uploaded corpora, newest first; `run --corpus` takes their ids."""
    with open_client(data, api) as client:
        found = list(client.corpora())
    if as_json:
        print_json(found)
    for corpus in () if as_json else found:
        say(_line(corpus))


@commands.command()
def delete(
    name: Annotated[
        str, typer.Argument(help="A dictionary or a collection: its id, the beginning, or its name.", metavar="NAME")
    ],
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
    data: Data = None,
    api: Api = None,
) -> None:
    """Delete a dictionary with its runs, evidence and labels; or a collection, whose dictionaries stay."""
    with open_client(data, api) as client:
        found = find_submitted(client, name)
        what = _what(found)
        if not yes:
            typer.confirm(render.printable(f"delete {what}?"), abort=True, err=True)
        if isinstance(found, Collection):
            client.delete_collection(found.id)
        else:
            client.delete_dictionary(found.id)
    say(f"deleted: {what}")


def _line(corpus: Corpus) -> str:
    """Return a line about a corpus."""
    return f"{corpus.id}  {corpus.name}  {corpus.n_bytes:,} bytes, {corpus.created_at.astimezone():%Y-%m-%d %H:%M}"


def _what(found: Dictionary | Collection) -> str:
    """Return what goes with a dictionary or a collection."""
    if isinstance(found, Collection):
        return f"collection {found.id}, {found.name}; its dictionaries stay"
    return f"dictionary {found.id}, {found.spec.name}, with its runs, evidence and labels"
