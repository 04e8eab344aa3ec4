"""The commands about labels: look them up, correct them, compare those of two runs, and see what they cost."""

from datetime import UTC, datetime
from itertools import islice
from typing import Annotated

import typer
from pydantic import TypeAdapter

from schema.comparisons import RunChange
from schema.edits import LabelEdit
from schema.errors import BadSelection, NotFound
from schema.labels import MACHINE
from schema.selection import parse_selection
from schema.usage import UsageFilter
from service import diffs, label_tables
from service.terminal import (
    Api,
    AsJson,
    Data,
    DictionaryName,
    RunName,
    find_dictionary,
    find_dictionary_with,
    find_run,
    open_client,
    out,
    print_json,
    say,
)

commands = typer.Typer()
_CHANGES = TypeAdapter[tuple[RunChange, ...]](tuple[RunChange, ...])

Index = Annotated[int, typer.Argument(help="The feature's index.")]
Day = Annotated[datetime | None, typer.Option(help="In UTC, such as 2026-02-03.")]


@commands.command()
def labels(
    dictionary: DictionaryName,
    features: Annotated[str, typer.Argument(help="Such as 0-9,12.")],
    data: Data = None,
    api: Api = None,
    as_json: AsJson = False,
) -> None:
    """Look up the labels of some features."""
    with open_client(data, api) as client:
        found = find_dictionary(client, dictionary)
        indices = parse_selection(features, found.spec.n_features).indices
        if indices is None:
            raise BadSelection(f"features={features}; name them, such as 0-9,12 (`glossarium features` lists all)")
        known = list(client.find_labels((found.id, index) for index in indices))
    print_json(known) if as_json else out.print(label_tables.labels_table(indices, known))


@commands.command()
def label(
    dictionary: DictionaryName,
    index: Index,
    text: Annotated[str, typer.Argument(help="What the feature's label is to be.")],
    author: Annotated[
        str | None,
        typer.Option(help="Who says so; else the name of the API key.", envvar=["GLOSSARIUM_AUTHOR", "USER"]),
    ] = None,
    note: Annotated[str | None, typer.Option(help="Why.")] = None,
    seen: Annotated[
        int | None, typer.Option(help="The id of the label that you saw; the one that stands there by default.")
    ] = None,
    data: Data = None,
    api: Api = None,
    as_json: AsJson = False,
) -> None:
    """Write a label of your own. It stands until `withdraw`, whatever runs find."""
    with open_client(data, api) as client:
        found = find_dictionary_with(client, dictionary, index)
        (standing,) = client.find_labels([(found.id, index)])
        before = seen if seen is not None else standing.id if standing else None
        made = client.edit_label(found.id, index, LabelEdit(text=text, author=author, note=note, seen=before))
    print_json(made) if as_json else say(f"feature {index} has label {made.id} by {made.author} now")


@commands.command()
def withdraw(dictionary: DictionaryName, index: Index, data: Data = None, api: Api = None) -> None:
    """Withdraw a label by a person: the newest one by a run stands again."""
    with open_client(data, api) as client:
        found = find_dictionary_with(client, dictionary, index)
        (standing,) = client.find_labels([(found.id, index)])
        if standing is None or standing.author == MACHINE:
            raise NotFound(f"feature {index} has no label by a person; `glossarium history` shows what it had")
        client.withdraw_label(found.id, index, standing.id)
    say(f"label {standing.id} by {standing.author} withdrawn")


@commands.command()
def history(
    dictionary: DictionaryName, index: Index, data: Data = None, api: Api = None, as_json: AsJson = False
) -> None:
    """Show every label that a feature ever had, the newest first."""
    with open_client(data, api) as client:
        found = client.label_history(find_dictionary_with(client, dictionary, index).id, index)
    print_json(found) if as_json else out.print(label_tables.history_table(found))


@commands.command()
def similar(
    dictionary: DictionaryName,
    index: Index,
    limit: Annotated[int, typer.Option(min=1, max=100, help="Features to show.")] = 10,
    data: Data = None,
    api: Api = None,
    as_json: AsJson = False,
) -> None:
    """Show the features whose write directions are most like a feature's."""
    with open_client(data, api) as client:
        found = client.similar(find_dictionary_with(client, dictionary, index).id, index, limit)
    if as_json:
        print_json(found)
    elif found.reason:
        say(f"none: {found.reason}")
    else:
        out.print(label_tables.similar_table(found.items))


@commands.command()
def diff(
    run: RunName,
    other: Annotated[str, typer.Argument(help="The run before: its id, or the beginning of it.")],
    change: Annotated[
        list[str] | None, typer.Option(help="changed, new, lost, rescored, same; may be given again")
    ] = None,
    limit: Annotated[int, typer.Option(min=1, help="Features to show.")] = 50,
    data: Data = None,
    api: Api = None,
    as_json: AsJson = False,
) -> None:
    """Compare the labels of two runs of a dictionary, of the features that both were about."""
    wanted = _CHANGES.validate_python(change or ())
    with open_client(data, api) as client:
        compared = client.run_diff(find_run(client, run).id, find_run(client, other).id, wanted)
        items = list(islice(compared, limit))
    if as_json:
        print_json(items)
    elif items:
        out.print(diffs.run_diff(items))
    else:
        say("nothing to show: of the features that both runs were about, both said the same")


@commands.command()
def usage(
    run: Annotated[str | None, typer.Option(help="Only calls of this run.")] = None,
    dictionary: Annotated[str | None, typer.Option(help="Only calls of the runs of this dictionary.")] = None,
    since: Day = None,
    until: Day = None,
    limit: Annotated[int, typer.Option(min=1, help="Rows to show.")] = 100,
    data: Data = None,
    api: Api = None,
    as_json: AsJson = False,
) -> None:
    """Show what LLM calls used and cost, by day, purpose and model; the last line is all of it."""
    with open_client(data, api) as client:
        filters = UsageFilter(
            run_id=find_run(client, run).id if run else None,
            dictionary_id=find_dictionary(client, dictionary).id if dictionary else None,
            since=since and since.replace(tzinfo=UTC),
            until=until and until.replace(tzinfo=UTC),
        )
        asked = dict(filters)
        rows = list(islice(client.usage(**asked), limit))
        total = client.usage_total(**asked)
    print_json(rows) if as_json else out.print(label_tables.usage_table(rows, total))
