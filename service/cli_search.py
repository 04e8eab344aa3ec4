"""`glossarium search`: labels by word and by meaning, features by token."""

from collections.abc import Sequence
from itertools import islice
from typing import Annotated

import typer
from rich.table import Table
from rich.text import Text

from schema.errors import InvalidInput
from schema.labels import FeatureSummary
from schema.search import SearchHit, SearchMode, TokenHit, TokenSide
from service import render
from service.client import Client
from service.terminal import Api, AsJson, Data, err, find_dictionary, open_client, out, print_json

commands = typer.Typer()

_WAYS = {"word": "word", "similar_word": "nearly a word", "meaning": "meaning"}


@commands.command()
def search(
    question: Annotated[
        str | None, typer.Argument(help='What the label says or means; also "a phrase", -without.')
    ] = None,
    mode: Annotated[SearchMode, typer.Option(help="By words, by meaning, or by both.")] = "both",
    token: Annotated[str | None, typer.Option(help='Features by token instead, with its space: " river".')] = None,
    promotes: Annotated[bool, typer.Option("--promotes", help="Those that raise the token (the default).")] = False,
    suppresses: Annotated[bool, typer.Option("--suppresses", help="Those that lower it.")] = False,
    fires: Annotated[bool, typer.Option("--fires", help="Those that fire on it.")] = False,
    dictionary: Annotated[
        str | None, typer.Option(help="Only this one: its id, the beginning of it, or its name.")
    ] = None,
    status: Annotated[list[str] | None, typer.Option(help="ok, unparsed …; may be given again")] = None,
    method: Annotated[list[str] | None, typer.Option(help="Of the label; may be given again.")] = None,
    min_input_lift: float | None = None,
    min_output_lift: float | None = None,
    limit: Annotated[int, typer.Option(min=1, max=100, help="Hits to show.")] = 20,
    data: Data = None,
    api: Api = None,
    as_json: AsJson = False,
) -> None:
    """Search labels by word and by meaning; with --token, features that promote, suppress or fire on it."""
    if (question is None) == (token is None):
        raise InvalidInput("give a question, or --token and a token")
    filters = {
        "status": status or None,
        "method": method or None,
        "min_input_lift": min_input_lift,
        "min_output_lift": min_output_lift,
    }
    with open_client(data, api) as client:
        where = {"dictionary_id": find_dictionary(client, dictionary).id if dictionary else None}
        if question is not None:
            _side(promotes, suppresses, fires, allowed=False)
            _show_labels(client, question, {**where, **filters, "mode": mode, "limit": limit}, as_json)
            return
        if any(value is not None for value in filters.values()):
            raise InvalidInput("--status, --method and lifts are of a question, not of --token")
        listed = client.search_tokens(token or "", _side(promotes, suppresses, fires), **where, limit=limit)
        hits = list(islice(listed, limit))
        print_json(hits) if as_json else out.print(_tokens_table(hits, _names(client, hits)))


def _show_labels(client: Client, question: str, filters: dict[str, object], as_json: bool) -> None:
    page = client.search(question, **filters)
    if as_json:
        print_json(page)
        return
    if page.note:
        err.print(f"note: {render.printable(page.note)}", style="yellow", markup=False, highlight=False, soft_wrap=True)
    out.print(_labels_table(page.items, _names(client, page.items)))


def _side(promotes: bool, suppresses: bool, fires: bool, *, allowed: bool = True) -> TokenSide:
    """Return the side that is asked for. Raises InvalidInput for several, and for any where there is no token."""
    sides: dict[TokenSide, bool] = {"promoted": promotes, "suppressed": suppresses, "fires": fires}
    chosen = [side for side, is_asked in sides.items() if is_asked]
    if len(chosen) > 1 or (chosen and not allowed):
        raise InvalidInput("give one of --promotes, --suppresses and --fires, with --token")
    return chosen[0] if chosen else "promoted"


def _names(client: Client, hits: Sequence[SearchHit | TokenHit]) -> dict[str, str]:
    """Return what the dictionaries of hits are called, by id."""
    ids = {hit.dictionary_id for hit in hits}
    return {str(id_): client.dictionary(id_).spec.name for id_ in ids}


def _labels_table(hits: Sequence[SearchHit], names: dict[str, str]) -> Table:
    table = _table("found by", "similarity")
    for hit in hits:
        similarity = "–" if hit.similarity is None else f"{hit.similarity:.2f}"
        ways = "\n".join(_WAYS[way] for way in hit.why)
        table.add_row(*_feature(names[str(hit.dictionary_id)], hit.feature), ways, similarity)
    return table


def _tokens_table(hits: Sequence[TokenHit], names: dict[str, str]) -> Table:
    table = _table("place in")
    for hit in hits:
        places = "\n".join(f"{rank.source} {rank.rank}" for rank in hit.ranks)
        table.add_row(*_feature(names[str(hit.dictionary_id)], hit.feature), places)
    return table


def _table(*why: str) -> Table:
    table = Table("dictionary", "feature", "label", "status", "input\nlift", *why, show_lines=True)
    for column in (table.columns[1], *table.columns[3:]):
        column.no_wrap = True
    return table


def _feature(name: str, feature: FeatureSummary) -> tuple[Text | str, ...]:
    lift = "–" if feature.input_lift is None else f"{feature.input_lift:+.2f}"
    return (
        Text(render.printable(name)),
        str(feature.index),
        Text(render.printable(feature.label or "")),
        feature.status,
        lift,
    )
