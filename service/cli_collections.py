"""The commands about collections: submit many dictionaries at once, list them, and ask for labels of all."""

import tempfile
from collections.abc import Mapping, Sequence
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Annotated, NamedTuple

import typer
from rich.table import Table
from rich.text import Text

from schema.collections import MOST_DICTIONARIES, Collection, CollectionRun, CollectionSpec, spec_for
from schema.errors import InvalidInput, NotFound, TooLarge
from schema.records import Dictionary, Run, RunTerms
from service import findings, progress, render
from service.client import Client
from service.conversion import Listed, convert
from service.submitting import submit, undone
from service.terminal import (
    Api,
    AsJson,
    Data,
    err,
    find_collection,
    find_dictionary,
    open_client,
    out,
    print_json,
    say,
)

commands = typer.Typer()

Match = Annotated[
    str | None, typer.Option(help="Of a folder or a release, only dictionaries at such paths: 'layer_*/width_16k/*'.")
]
SkipBroken = Annotated[bool, typer.Option("--skip-broken", help="Leave out dictionaries that can't be used.")]
CollectionName = Annotated[str, typer.Argument(help="A collection's id, the beginning of it, or its name.")]
_MOST_NAMED = 8
_LONGEST_NAME = 200


def choose(listed: Sequence[Listed], match: str | None, path: str) -> list[Listed]:
    """Return the listed dictionaries whose path from there matches. Raises InvalidInput if none does, or too many."""
    chosen = [one for one in listed if match is None or fnmatchcase(one.name, match)]
    if not chosen:
        names = ", ".join(one.name for one in listed[:_MOST_NAMED]) or "no dictionary below it"
        raise InvalidInput(f"--match {match!r} matches nothing in {path}; it has {names}, {len(listed)} in all")
    if len(chosen) > MOST_DICTIONARIES:
        raise InvalidInput(f"{len(chosen)} dictionaries; a collection has at most {MOST_DICTIONARIES}: use --match")
    return chosen


def name_of(path: str) -> str:
    """Return what to call the collection of a folder or a reference."""
    if path.startswith("hf:"):
        return path.removeprefix("hf:").partition("@")[0].strip("/")[-_LONGEST_NAME:]
    return Path(path).expanduser().resolve().name[-_LONGEST_NAME:] or "collection"


class Gathering(NamedTuple):
    """Submits dictionaries one after another: all of them, or none and the names of those that can't be used.

    options:     of the conversion of each.
    skip_broken: the good ones are submitted all the same.
    """

    client: Client
    options: Mapping[str, object]
    skip_broken: bool

    def submit(self, name: str, listed: Sequence[Listed]) -> Collection:
        """Return the collection of some dictionaries, named after it and their paths.

        Raises: InvalidInput naming what can't be used, and what the client raises; nothing is left behind then.
        """
        broken: dict[str, str] = {}
        with undone(self.client) as made:
            for number, one in enumerate(listed, 1):
                err.print(f"{number}/{len(listed)} {one.name}", markup=False, highlight=False, soft_wrap=True)
                try:
                    self._submit_one(one, f"{name}/{one.name}"[-_LONGEST_NAME:], made, bool(broken))
                except (InvalidInput, TooLarge) as exc:
                    broken[one.name] = str(exc)
                    err.print(f"  {render.printable(str(exc))}", markup=False, highlight=False, soft_wrap=True)
            if broken and not (self.skip_broken and made):
                raise InvalidInput(_refusal(broken, len(listed)))
            ids = tuple(dictionary.id for dictionary in made)
            return self.client.create_collection(CollectionSpec(name=name, dictionary_ids=ids))

    def _submit_one(self, one: Listed, name: str, made: list[Dictionary], is_refused: bool) -> None:
        """Convert a dictionary and submit it; where all are refused already, only see whether it could be."""
        with tempfile.TemporaryDirectory(prefix="glossarium-") as folder:
            converted = convert(one.path, Path(folder), {**self.options, "name": name})
            if is_refused and not self.skip_broken:
                return
            made.append(submit(self.client, converted))


def _refusal(broken: Mapping[str, str], n: int) -> str:
    reasons = [f"{name}: {why}" for name, why in broken.items()]
    more = f"; and {len(reasons) - _MOST_NAMED} more" if len(reasons) > _MOST_NAMED else ""
    said = "; ".join(reasons[:_MOST_NAMED]) + more
    return f"{len(broken)} of {n} dictionaries can't be used, and nothing was submitted ({said}); see --skip-broken"


@commands.command("collections")
def list_collections(data: Data = None, api: Api = None, as_json: AsJson = False) -> None:
    """List collections of dictionaries, newest first."""
    with open_client(data, api) as client:
        found = list(client.collections())
    if as_json:
        print_json(found)
    for one in () if as_json else found:
        say(_line(one))


@commands.command()
def collection(name: CollectionName, data: Data = None, api: Api = None, as_json: AsJson = False) -> None:
    """Show the dictionaries of a collection."""
    with open_client(data, api) as client:
        found = find_collection(client, name)
    print_json(found) if as_json else show(found)


@commands.command()
def collect(
    name: Annotated[str, typer.Argument(help="What to call the collection.")],
    dictionaries: Annotated[list[str], typer.Argument(help="Their ids, the beginnings of them, or their names.")],
    data: Data = None,
    api: Api = None,
    as_json: AsJson = False,
) -> None:
    """Make a collection of dictionaries that were submitted before."""
    with open_client(data, api) as client:
        ids = tuple(find_dictionary(client, one).id for one in dictionaries)
        made = client.create_collection(CollectionSpec(name=name, dictionary_ids=ids))
    print_json(made) if as_json else show(made)


def show(shown: Collection) -> None:
    """Print a collection and its dictionaries."""
    for dictionary in shown.dictionaries:
        say(render.dictionary_line(dictionary))
    say(_line(shown))


def _line(one: Collection) -> str:
    subjects = sorted({dictionary.spec.subject for dictionary in one.dictionaries})
    n_features = sum(dictionary.spec.n_features for dictionary in one.dictionaries)
    of = f" of {', '.join(subjects)}" if subjects else ""
    return f"{one.id}  {one.name}  {len(one.dictionaries)} dictionaries, {n_features} features{of}"


def run_all(client: Client, whole: Collection, terms: RunTerms, *, dry_run: bool, wait: bool, as_json: bool) -> None:
    """Ask for labels of a collection, and stay until the run of each dictionary is over if asked to."""
    if dry_run:
        expected = [client.estimate_run(spec_for(terms, one.id, None)) for one in whole.dictionaries]
        if as_json:
            print_json(expected)
        for one, estimate in () if as_json else zip(whole.dictionaries, expected, strict=True):
            say(one.spec.name)
            out.print(render.estimate_table(estimate))
        return
    made = client.submit_collection_run(whole.id, terms)
    if wait:
        _watch(client, whole, made)
    status_of(client, whole, client.collection_run(whole.id, made.id), as_json)


def _watch(client: Client, whole: Collection, made: CollectionRun) -> None:
    """Show one run after the other until it is over; they go on beside each other."""
    try:
        for run in made.runs:
            err.print(f"run {run.id} of {_name(whole, run)}", markup=False, highlight=False, soft_wrap=True)
            progress.watch(client, run.id, err)
    except KeyboardInterrupt:
        err.print(f"\nthe runs go on; `glossarium status {str(whole.id)[:8]}` shows them", markup=False)
        raise typer.Exit(130) from None


def latest(client: Client, whole: Collection) -> CollectionRun:
    """Return the newest run over a collection. Raises NotFound."""
    for run in client.collection_runs(whole.id):
        return run
    raise NotFound(f"collection {whole.name} has no run; `glossarium run {str(whole.id)[:8]}` asks for one")


def status_of(client: Client, whole: Collection, run: CollectionRun, as_json: bool) -> None:
    """Print where the runs over a collection stand; one that failed, was cancelled or is paused is a failure."""
    if as_json:
        print_json(run)
    else:
        table = Table("run", "dictionary", "state", "labelled", "note")
        for one in run.runs:
            counted = sum(count.n for count in client.run(one.id).counts if count.status != "unlabelled")
            of = "?" if one.n_features is None else str(one.n_features)
            name, note = Text(_name(whole, one)), Text(render.printable(one.note or ""))
            table.add_row(str(one.id)[:8], name, one.state, f"{counted}/{of}", note)
        out.print(table)
    if any(one.state in ("failed", "cancelled", "paused") for one in run.runs):
        raise typer.Exit(1)


def report_of(client: Client, whole: Collection, run: CollectionRun, as_json: bool) -> None:
    """Print the report of each dictionary's run over a collection, as far as they are made."""
    found = []
    for one in run.runs:
        try:
            found.append(client.report(one.id))
        except NotFound as exc:
            err.print(f"{_name(whole, one)}: {exc}", markup=False, highlight=False, soft_wrap=True)
    names = {one.id: _name(whole, one) for one in run.runs}
    if as_json:
        print_json(found)
    for report in () if as_json else found:
        out.print()
        say(names[report.run_id])
        out.print(findings.report(report))


def _name(whole: Collection, run: Run) -> str:
    """Return the name of a run's dictionary, or the beginning of its id if it left the collection."""
    names = {one.id: one.spec.name for one in whole.dictionaries}
    return names.get(run.dictionary_id, str(run.dictionary_id)[:8])
