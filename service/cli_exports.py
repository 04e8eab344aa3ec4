"""`glossarium export`, and what brings exports and others' labels in."""

from itertools import chain
from pathlib import Path
from typing import Annotated, get_args

import typer

from schema.errors import BadLabels, InvalidInput
from schema.wire import ExportFormat
from service import progress, render
from service.interchange import tars
from service.interchange.label_files import one_source, open_labels
from service.terminal import Api, AsJson, Data, DictionaryName, err, find_dictionary, open_client, print_json, say

SUFFIXES: dict[ExportFormat, str] = {
    "csv": ".csv",
    "json": ".json",
    "parquet": ".parquet",
    "delphi": "-delphi",
    "neuronpedia": "-neuronpedia",
    "archive": ".glossarium.tar",
}


commands = typer.Typer()


@commands.command()
def export(
    dictionary: DictionaryName,
    format_: Annotated[str, typer.Option("--format", "-f", help=f"One of {', '.join(SUFFIXES)}.")] = "csv",
    out: Annotated[Path | None, typer.Option(help="The file or folder to write [default: after the name]")] = None,
    model: Annotated[str | None, typer.Option(help="What Neuronpedia calls the subject.")] = None,
    source: Annotated[str | None, typer.Option(help="What Neuronpedia or delphi calls the dictionary.")] = None,
    part: Annotated[
        list[str] | None, typer.Option(help="Of neuronpedia: features, activations, explanations; may be given again.")
    ] = None,
    weights: Annotated[bool, typer.Option(help="Of an archive: with the weights.")] = True,
    data: Data = None,
    api: Api = None,
) -> None:
    """Write a dictionary's labels for other tools, or all that is known of it as one archive."""
    chosen = _format(format_)
    with open_client(data, api) as client:
        found = find_dictionary(client, dictionary)
        place = out or Path(f"{tars.safe(found.spec.name)}{SUFFIXES[chosen]}")
        options = {"model": model, "source": source, "parts": part or None, "weights": weights}
        with progress.download(err, place.name) as report:
            client.export(found.id, chosen, place, report, **options)
    say(f"{place}: {_size(place) / 2**20:.1f} MiB")


@commands.command("import")
def import_(
    file: Annotated[Path, typer.Argument(help="What `export --format archive` wrote.")],
    data: Data = None,
    api: Api = None,
    as_json: AsJson = False,
) -> None:
    """Import a dictionary from an archive, with everything that is known of it, as a new one."""
    if not file.is_file():
        raise InvalidInput(f"no file {file}")
    with open_client(data, api) as client, progress.transfer(err, file) as report:
        made = client.import_dictionary(file, report)
    print_json(made) if as_json else say(render.dictionary_line(made))


@commands.command("import-labels")
def import_labels(
    dictionary: DictionaryName,
    path: Annotated[Path, typer.Argument(help="Neuronpedia's explanations, delphi's folder, CSV or JSON.")],
    origin: Annotated[
        str | None, typer.Option(help="Where they are from [default: what the file says, or its name]")
    ] = None,
    data: Data = None,
    api: Api = None,
    as_json: AsJson = False,
) -> None:
    """Import others' labels, so that a run with `--methods imported,…` tests them beside ours."""
    with open_client(data, api) as client:
        found = find_dictionary(client, dictionary)
        opened = open_labels(path)
        labels = one_source(opened.labels)
        first = next(labels, None)
        if first is None:
            raise BadLabels(f"{path} holds no labels")
        name = origin or first.source or path.name
        err.print(f"{path} is {opened.form}; importing as {name!r}", markup=False, highlight=False, soft_wrap=True)
        with progress.transfer(err, path) as report:
            made = client.import_labels(found.id, (one.label for one in chain([first], labels)), name[:200], report)
    if as_json:
        print_json(made)
    else:
        say(f"{made.n_labels} labels of {made.n_features} features, {made.n_new} of them new; test them with")
        say(f"glossarium run {str(found.id)[:8]} --methods lexical,imported")


def _format(name: str) -> ExportFormat:
    for known in get_args(ExportFormat):
        if name == known:
            return known  # type: ignore[no-any-return]
    raise InvalidInput(f"format={name!r}; must be one of {', '.join(get_args(ExportFormat))}")


def _size(place: Path) -> int:
    files = place.rglob("*") if place.is_dir() else [place]
    return sum(file.stat().st_size for file in files if file.is_file())
