"""The `glossarium` command: the API's client for people, and what starts a stack. The only room that prints."""

import json
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any
from uuid import UUID

import typer
from pydantic import ValidationError
from rich.console import Console
from typer.core import TyperGroup

from schema.errors import BadSelection, GlossariumError, InvalidInput, NotFound, Unavailable
from schema.presets import preset
from schema.records import Corpus, Dictionary, Record, Run, RunOptions, RunSpec
from schema.settings import load_settings
from schema.store import database
from schema.subjects import BUNDLED
from service import cli_inspect, findings, progress, render
from service.client import Client
from service.conversion import PATH_HELP, convert
from service.folder import DataFolder
from service.servers import Ports

out = Console()
err = Console(stderr=True)


class Commands(TyperGroup):
    """Commands whose failures are one clear line: exit code 2 for input that can't be used, 1 otherwise."""

    def invoke(self, ctx: Any) -> Any:
        """Run a command; translate our errors."""
        try:
            return super().invoke(ctx)
        except ValidationError as exc:
            problem = exc.errors()[0]
            field = ".".join(str(part) for part in problem["loc"])
            raise _failed(f"{field}: {problem['msg']}", 2) from exc
        except GlossariumError as exc:
            raise _failed(str(exc), 2 if isinstance(exc, InvalidInput) else 1) from exc


app = typer.Typer(
    cls=Commands,
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    help="Labels for the features of a language model, tested on the model itself.",
)

Data = Annotated[Path | None, typer.Option(help="The stack's data folder.", envvar="GLOSSARIUM_DATA_DIR")]
Api = Annotated[
    str | None, typer.Option(help="The API's URL; that of the stack on --data by default.", envvar="GLOSSARIUM_API_URL")
]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]
DictionaryName = Annotated[str, typer.Argument(help="A dictionary's id, the beginning of it, or its name.")]
RunName = Annotated[str, typer.Argument(help="A run's id, or the beginning of it.")]


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
    from service.stack import run_stack

    ports = Ports(api_port, postgres_port, valkey_port, llm_port, embeddings_port)
    run_stack(_folder(data).path, ports, screen=sys.stdout)


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
    data: Data = None,
    api: Api = None,
    as_json: AsJson = False,
) -> None:
    """Submit a dictionary: whatever format its files have, converted here; or the neurons or heads of a layer."""
    told = {"layer": layer, "site": site, "name": name, "revision": revision, "norm_coefficient": norm_coefficient}
    with tempfile.TemporaryDirectory(prefix="glossarium-") as folder:
        converted = convert(path, Path(folder), {"subject": subject, **told})
        if converted.found:
            err.print(converted.found, markup=False, highlight=False, soft_wrap=True)
        with _client(data, api) as client:
            dictionary = client.submit_dictionary(converted.spec)
            if converted.weights is not None:
                with progress.transfer(err, converted.weights) as report:
                    dictionary = client.upload_weights(dictionary.id, converted.weights, report)
            _show_dictionary(dictionary, as_json)


app.command()(cli_inspect.inspect)


@app.command()
def run(
    dictionary: DictionaryName,
    features: Annotated[str, typer.Option(help="all, alive, 0-9,12 or random:N:SEED")] = "all",
    methods: Annotated[str | None, typer.Option(help="Comma between; the preset's by default.")] = None,
    evaluations: Annotated[str | None, typer.Option(help="Comma between; the preset's by default.")] = None,
    corpus: Annotated[str, typer.Option(help="bundled, an id, operator:NAME, or a file to upload")] = "bundled",
    llm: Annotated[str, typer.Option(help="An LLM profile of the operator's; none for no LLM.")] = "default",
    writer: Annotated[str | None, typer.Option(help="The profile that writes sentences; as --llm by default.")] = None,
    judge: Annotated[str | None, typer.Option(help="The LLM judge's profile; as --llm by default.")] = None,
    seed: int = 0,
    preset_name: Annotated[str, typer.Option("--preset", help="default, small or paper")] = "default",
    option: Annotated[
        list[str] | None, typer.Option("--option", "-o", help="NAME=VALUE, such as judge_trials=1; may be given again.")
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what it would cost, and ask for nothing.")] = False,
    wait: Annotated[bool, typer.Option(help="Stay and show how it goes on.")] = True,
    data: Data = None,
    api: Api = None,
    as_json: AsJson = False,
) -> None:
    """Ask for labels of a dictionary's features."""
    chosen = preset(preset_name)
    chosen |= {"methods": _split(methods)} if methods is not None else {}
    chosen |= {"evaluations": _split(evaluations)} if evaluations is not None else {}
    chosen["options"] = chosen.get("options", {}) | _options(option or [])
    with _client(data, api) as client:
        spec = RunSpec.model_validate(
            {
                "dictionary_id": _find_dictionary(client, dictionary).id,
                "features": features,
                "corpus": _corpus(client, corpus),
                "llm": llm,
                "writer": writer,
                "judge": judge,
                "seed": seed,
                **chosen,
            }
        )
        if dry_run:
            expected = client.estimate_run(spec)
            _print_json(expected) if as_json else out.print(render.estimate_table(expected))
            return
        made = client.submit_run(spec)
        err.print(f"run {made.id}", markup=False, highlight=False)
        _finish(_watch(client, made) if wait else made, as_json)


@app.command()
def runs(data: Data = None, api: Api = None, as_json: AsJson = False) -> None:
    """List runs, newest first."""
    with _client(data, api) as client:
        found = list(client.runs())
    if as_json:
        _print_json(found)
    else:
        out.print(render.runs_table(found))


@app.command()
def dictionaries(data: Data = None, api: Api = None, as_json: AsJson = False) -> None:
    """List dictionaries, newest first."""
    with _client(data, api) as client:
        found = list(client.dictionaries())
    if as_json:
        _print_json(found)
    for dictionary in () if as_json else found:
        out.print(render.dictionary_line(dictionary), markup=False, highlight=False, soft_wrap=True)


@app.command()
def status(run: RunName, data: Data = None, api: Api = None, as_json: AsJson = False) -> None:
    """Show how a run goes on, until it ends; with --json how it stands."""
    with _client(data, api) as client:
        found = _find_run(client, run)
        _finish(client.run(found.id) if as_json else _watch(client, found), as_json)


@app.command()
def report(run: RunName, data: Data = None, api: Api = None, as_json: AsJson = False) -> None:
    """Show what a run found: how often its labels succeed, on which controls, and what could not be scored."""
    with _client(data, api) as client:
        found = client.report(_find_run(client, run).id)
    if as_json:
        _print_json(found)
    else:
        out.print(findings.report(found))


@app.command()
def cancel(run: RunName, data: Data = None, api: Api = None) -> None:
    """End a run; what is finished stays."""
    with _client(data, api) as client:
        cancelled = client.cancel(_find_run(client, run).id)
    out.print(f"run {cancelled.id}: {cancelled.state}", markup=False, highlight=False)


@app.command()
def features(
    dictionary: DictionaryName,
    status: Annotated[list[str] | None, typer.Option(help="ok, dead, unlabelled …; may be given again")] = None,
    method: Annotated[list[str] | None, typer.Option(help="Of the label; may be given again.")] = None,
    search: Annotated[str | None, typer.Option("--search", "-q", help="A part of the label.")] = None,
    sort: Annotated[str, typer.Option(help="index, density, input_lift, output_lift; - in front for largest first")] = (
        "index"
    ),
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
    with _client(data, api) as client:
        listed = client.features(_find_dictionary(client, dictionary).id, **filters)
        found = [item for _, item in zip(range(limit), listed, strict=False)]
    if as_json:
        _print_json(found)
    else:
        out.print(render.features_table(found))


@app.command()
def show(dictionary: DictionaryName, index: int, data: Data = None, api: Api = None, as_json: AsJson = False) -> None:
    """Show everything that is known of a feature."""
    with _client(data, api) as client:
        found = _find_dictionary(client, dictionary)
        if not 0 <= index < found.spec.n_features:
            raise BadSelection(f"feature={index}; {found.spec.name} has 0..{found.spec.n_features - 1}")
        feature = client.feature(found.id, index)
    if as_json:
        _print_json(feature)
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
    with _client(data, api) as client:
        if dictionary is None or index is None:
            files = client.prompt_files()
            _print_json(files) if as_json else out.print(render.prompt_files_table(files))
            return
        found = _find_dictionary(client, dictionary)
        run_id = _find_run(client, run).id if run else None
        asked = client.prompts(found.id, index, methods=method or (), run_id=run_id)
    if as_json:
        _print_json(asked)
    for one in () if as_json else asked:
        out.print(render.feature_prompt(one))


def find_api(data: Path | None, api: str | None) -> str:
    """Return the API's URL: the given one, or that of the stack that runs on the data folder.

    Raises: Unavailable if no stack runs there.
    """
    if api:
        return api
    folder = _folder(data)
    state = folder.read_state()
    if state is None:
        raise Unavailable(
            f"no stack is up on {folder.path}; start one with `glossarium up`, or name the API with --api "
            "or GLOSSARIUM_API_URL"
        )
    return state.api_url


def _client(data: Path | None, api: str | None) -> Client:
    return Client(find_api(data, api))


def _folder(data: Path | None) -> DataFolder:
    return DataFolder(data or load_settings().data_dir)


def _corpus(client: Client, corpus: str) -> str:
    """Return what a run calls the corpus; a file is uploaded first."""
    path = Path(corpus).expanduser()
    if corpus == "bundled" or not path.exists():
        return corpus
    if path.is_dir():
        raise InvalidInput(f"corpus={corpus}: a folder can't be uploaded; give a JSONL, JSONL.gz or parquet file")
    with progress.transfer(err, path) as report:
        uploaded: Corpus = client.upload_corpus(path, progress=report)
    return str(uploaded.id)


def _find_dictionary(client: Client, name: str) -> Dictionary:
    """Return the dictionary of an id, the beginning of an id or a name; of two of one name, the newer."""
    exact = _uuid(name)
    if exact is not None:
        return client.dictionary(exact)
    for dictionary in client.dictionaries():
        if dictionary.spec.name == name or (len(name) >= 4 and str(dictionary.id).startswith(name.lower())):
            return dictionary
    raise NotFound(f"no dictionary {name!r}; `glossarium dictionaries` lists them")


def _find_run(client: Client, name: str) -> Run:
    exact = _uuid(name)
    if exact is not None:
        return client.run(exact)
    for found in client.runs():
        if len(name) >= 4 and str(found.id).startswith(name.lower()):
            return found
    raise NotFound(f"no run {name!r}; `glossarium runs` lists them")


def _watch(client: Client, run: Run) -> Run:
    try:
        return progress.watch(client, run.id, err)
    except KeyboardInterrupt:
        err.print(f"\nthe run goes on; `glossarium status {str(run.id)[:8]}` shows it", markup=False)
        raise typer.Exit(130) from None


def _finish(run: Run, as_json: bool) -> None:
    """Print where a run stands; a run that failed or was cancelled is a failure of the command."""
    if as_json:
        _print_json(run)
    else:
        seen = f"; see `glossarium report {str(run.id)[:8]}` and `glossarium features {str(run.dictionary_id)[:8]}`"
        hint = seen if run.state == "done" else ""
        note = f" ({render.printable(run.note)})" if run.note else ""
        if run.usage is not None and run.usage.calls:
            out.print(render.usage_table(run.usage))
        out.print(f"run {run.id}: {run.state}{note}{hint}", markup=False, highlight=False, soft_wrap=True)
    if run.state in ("failed", "cancelled"):
        raise typer.Exit(1)


def _show_dictionary(dictionary: Dictionary, as_json: bool) -> None:
    if as_json:
        _print_json(dictionary)
    else:
        out.print(render.dictionary_line(dictionary), markup=False, highlight=False, soft_wrap=True)


def _print_json(value: Record | Sequence[Record]) -> None:
    plain = (
        value.model_dump(mode="json") if isinstance(value, Record) else [item.model_dump(mode="json") for item in value]
    )
    typer.echo(json.dumps(plain, indent=2, ensure_ascii=False))


def _options(given: list[str]) -> dict[str, object]:
    """Return the sizes of a run that were given as NAME=VALUE."""
    options: dict[str, object] = {}
    for text in given:
        name, equals, value = text.partition("=")
        if not equals:
            names = ", ".join(RunOptions.model_fields)
            raise InvalidInput(f"option {text!r}; must be NAME=VALUE with NAME one of {names}")
        options[name.strip()] = value.strip("[]").split(",") if value.startswith("[") else value
    return options


def _split(text: str) -> tuple[str, ...]:
    return tuple(part.strip() for part in text.split(",") if part.strip())


def _uuid(text: str) -> UUID | None:
    try:
        return UUID(text)
    except ValueError:
        return None


def _failed(message: str, code: int) -> typer.Exit:
    err.print(f"[red]error:[/red] {render.printable(message)}", highlight=False, soft_wrap=True)
    return typer.Exit(code)


if __name__ == "__main__":
    app()
