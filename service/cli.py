"""The `glossarium` command: the API's client for people, and what starts a stack. Only it and its rooms print."""

import sys
import tempfile
from itertools import islice
from pathlib import Path
from typing import Annotated, Any

import typer
from pydantic import ValidationError
from typer.core import TyperGroup

from schema.errors import GlossariumError, InvalidInput
from schema.records import Dictionary
from schema.settings import load_settings
from schema.store import database
from schema.subjects import BUNDLED
from service import (
    cli_backup,
    cli_collections,
    cli_doctor,
    cli_exports,
    cli_inspect,
    cli_keys,
    cli_labels,
    cli_runs,
    cli_schedules,
    cli_search,
    cli_stored,
    cli_trials,
    cli_webhooks,
    render,
    submitting,
)
from service.conversion import PATH_HELP, convert_or_list
from service.terminal import (
    Api,
    AsJson,
    Data,
    DictionaryName,
    data_folder,
    err,
    failed,
    find_dictionary,
    find_dictionary_with,
    find_run,
    open_client,
    out,
    print_json,
    say,
    sign_in_address,
    use_key,
)


class Commands(TyperGroup):
    """Commands whose failures are one clear line: exit code 2 for input that can't be used, 1 otherwise."""

    def invoke(self, ctx: Any) -> Any:
        """Run a command; translate our errors."""
        try:
            return super().invoke(ctx)
        except ValidationError as exc:
            problem = exc.errors()[0]
            field = ".".join(str(part) for part in problem["loc"])
            raise failed(f"{field}: {problem['msg']}", 2) from exc
        except GlossariumError as exc:
            raise failed(str(exc), 2 if isinstance(exc, InvalidInput) else 1) from exc


app = typer.Typer(
    cls=Commands,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
)
_ROOMS = (
    cli_stored,
    cli_runs,
    cli_labels,
    cli_collections,
    cli_inspect,
    cli_trials,
    cli_search,
    cli_exports,
    cli_backup,
    cli_doctor,
)
for _room in _ROOMS:
    app.add_typer(_room.commands)
app.add_typer(cli_schedules.commands, name="schedule")
app.add_typer(cli_webhooks.commands, name="webhooks")
app.add_typer(cli_keys.commands, name="keys")


@app.callback()
def glossarium(
    key: Annotated[
        str | None,
        typer.Option(help="The API key; that of the stack on --data by default.", envvar="GLOSSARIUM_API_KEY"),
    ] = None,
) -> None:
    """Labels for the features of a language model, tested on the model itself."""
    use_key(key)


@app.command()
def up(
    data: Data = None,
    api_port: int | None = None,
    postgres_port: int | None = None,
    valkey_port: int | None = None,
    llm_port: int | None = None,
    embeddings_port: int | None = None,
) -> None:
    """Start the whole stack on this machine: servers, API, workers, a local LLM. Ctrl-C ends it."""
    from service.servers import Ports
    from service.stack import run_stack

    ports = Ports(api_port, postgres_port, valkey_port, llm_port, embeddings_port)
    run_stack(data_folder(data).path, ports, screen=sys.stdout)


@app.command(name="open")
def open_pages(
    show: Annotated[bool, typer.Option("--print", help="Only print the address; it holds the key.")] = False,
    data: Data = None,
    api: Api = None,
) -> None:
    """Open the pages in a browser, signed in with the key that commands use."""
    address = sign_in_address(data, api)
    if show:
        typer.echo(address)
    elif typer.launch(address) == 0:
        say(f"opened {address.partition('/sign-in')[0]}")
    else:
        raise GlossariumError("no browser opens here; open the address of `glossarium open --print` in one")


@app.command()
def demo(
    data: Annotated[Path | None, typer.Option(help="The demo's data folder [default: ~/.glossarium/demo]")] = None,
    features: Annotated[int, typer.Option(min=1, max=1536, help="How many features to label.")] = 24,
    exit_: Annotated[bool, typer.Option("--exit", help="End when the table is there.")] = False,
    as_json: AsJson = False,
) -> None:
    """Label features of a small real language model, end to end, on this machine."""
    from service.demo import run_demo

    run_demo(data or load_settings().data_dir / "demo", features, stay=not exit_, as_json=as_json, out=out, err=err)


@app.command()
def migrate() -> None:
    """Bring the database at DATABASE_URL up to date. `up` does so by itself."""
    applied = database.migrate(load_settings().database_url)
    out.print(f"{len(applied)} migrations applied: {', '.join(applied) or 'it was up to date'}", highlight=False)


@app.command()
def submit(
    path: Annotated[str, typer.Argument(help=PATH_HELP)],
    subject: Annotated[str, typer.Option(help="The model that the dictionary is of.")] = BUNDLED,
    layer: int | None = None,
    site: Annotated[str | None, typer.Option(help="Where it reads, such as resid_post.14.")] = None,
    name: str | None = None,
    revision: Annotated[str | None, typer.Option(help="Of the subject.")] = None,
    norm_coefficient: Annotated[float | None, typer.Option(help="What inputs are scaled by, if they are.")] = None,
    match: cli_collections.Match = None,
    skip_broken: cli_collections.SkipBroken = False,
    data: Data = None,
    api: Api = None,
    as_json: AsJson = False,
) -> None:
    """Submit a dictionary: whatever format its files have, converted here; or the neurons or heads of a layer.

    Of a folder or a release of several, each is submitted, and all of them are a collection.
    """
    told = {"layer": layer, "site": site, "name": name, "revision": revision, "norm_coefficient": norm_coefficient}
    with tempfile.TemporaryDirectory(prefix="glossarium-") as folder:
        with err.status(f"converting {render.printable(path)} …"):
            converted = convert_or_list(path, Path(folder), {"subject": subject, **told})
        if isinstance(converted, list) or match is not None:
            chosen = cli_collections.choose(converted if isinstance(converted, list) else [], match, path)
            with open_client(data, api) as client:
                gathering = cli_collections.Gathering(client, {"subject": subject, **told}, skip_broken)
                made = gathering.submit(name or cli_collections.name_of(path), chosen)
            print_json(made) if as_json else cli_collections.show(made)
            return
        if converted.found:
            err.print(converted.found, markup=False, highlight=False, soft_wrap=True)
        with open_client(data, api) as client:
            _show_dictionary(submitting.submit(client, converted), as_json)


@app.command()
def features(
    dictionary: DictionaryName,
    status: Annotated[list[str] | None, typer.Option(help="ok, dead, unlabelled …; may be given again")] = None,
    method: Annotated[list[str] | None, typer.Option(help="Of the label; may be given again.")] = None,
    search: Annotated[str | None, typer.Option("--search", "-q", help="A part of the label.")] = None,
    sort: Annotated[
        str,
        typer.Option(
            help="index, density, input_lift, output_lift, input_value, output_value; - in front for largest first"
        ),
    ] = "index",
    min_input_lift: float | None = None,
    min_output_lift: float | None = None,
    limit: Annotated[int, typer.Option(min=1, help="Rows to show.")] = 50,
    data: Data = None,
    api: Api = None,
    as_json: AsJson = False,
) -> None:
    """List a dictionary's features."""
    filters = {
        "status": status or None,
        "method": method or None,
        "q": search,
        "sort": sort,
        "min_input_lift": min_input_lift,
        "min_output_lift": min_output_lift,
        "limit": min(limit, 1000),
    }
    with open_client(data, api) as client:
        listed = client.features(find_dictionary(client, dictionary).id, **filters)
        found = list(islice(listed, limit))
    if as_json:
        print_json(found)
    else:
        out.print(render.features_table(found))


@app.command()
def show(dictionary: DictionaryName, index: int, data: Data = None, api: Api = None, as_json: AsJson = False) -> None:
    """Show everything that is known of a feature."""
    with open_client(data, api) as client:
        found = find_dictionary_with(client, dictionary, index)
        feature = client.feature(found.id, index)
    if as_json:
        print_json(feature)
    else:
        out.print(render.feature(feature))


@app.command()
def prompts(
    dictionary: Annotated[str | None, typer.Argument(help="Of the feature; without it, the files are listed.")] = None,
    index: Annotated[int | None, typer.Argument(help="The feature's index.")] = None,
    method: Annotated[list[str] | None, typer.Option(help="Only this one; may be given again.")] = None,
    run: Annotated[str | None, typer.Option(help="A run whose options decide how much is shown.")] = None,
    data: Data = None,
    api: Api = None,
    as_json: AsJson = False,
) -> None:
    """List prompt files, or show word for word what describers would be asked about a feature."""
    if (dictionary is None) != (index is None):
        raise InvalidInput("name a dictionary and a feature's index, or neither to list the files")
    with open_client(data, api) as client:
        if dictionary is None or index is None:
            files = client.prompt_files()
            print_json(files) if as_json else out.print(render.prompt_files_table(files))
            return
        found = find_dictionary(client, dictionary)
        run_id = find_run(client, run).id if run else None
        asked = client.prompts(found.id, index, methods=method or (), run_id=run_id)
    if as_json:
        print_json(asked)
    for one in () if as_json else asked:
        out.print(render.feature_prompt(one))


def _show_dictionary(dictionary: Dictionary, as_json: bool) -> None:
    if as_json:
        print_json(dictionary)
    else:
        say(render.dictionary_line(dictionary))


if __name__ == "__main__":
    app()
