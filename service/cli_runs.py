"""The commands about runs: ask for labels, follow, pause, resume, cancel, and read what came of it."""

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Annotated
from uuid import UUID

import typer

from schema.budgets import parse_budget
from schema.collections import Collection, CollectionRun, spec_for
from schema.errors import InvalidInput, NotFound
from schema.presets import PRESETS, preset
from schema.records import Corpus, Run, RunOptions, RunSpec, RunState, RunTerms
from service import cli_collections, findings, progress, render
from service.client import Client
from service.terminal import (
    Api,
    AsJson,
    Data,
    err,
    find_collection,
    find_run,
    find_submitted,
    open_client,
    out,
    print_json,
    say,
)

commands = typer.Typer()

AnyRun = Annotated[
    str, typer.Argument(help="A run's id, or the beginning of it; or a collection, for the newest run over it.")
]
BudgetText = Annotated[
    str | None, typer.Option("--budget", help="The most to spend on LLMs: '$5', '200k tokens', '$5, 200k tokens'.")
]


@commands.command()
def run(
    dictionary: Annotated[
        str, typer.Argument(help="A dictionary or a collection: its id, the beginning, or its name.")
    ],
    features: Annotated[str, typer.Option(help="all, alive, 0-9,12 or random:N:SEED")] = "all",
    methods: Annotated[str | None, typer.Option(help="Comma between; the preset's by default.")] = None,
    evaluations: Annotated[str | None, typer.Option(help="Comma between; the preset's by default.")] = None,
    corpus: Annotated[str, typer.Option(help="bundled, an id, operator:NAME, or a file to upload")] = "bundled",
    llm: Annotated[str, typer.Option(help="An LLM profile of the operator's; none for no LLM.")] = "default",
    writer: Annotated[str | None, typer.Option(help="The profile that writes sentences; as --llm by default.")] = None,
    judge: Annotated[str | None, typer.Option(help="The LLM judge's profile; as --llm by default.")] = None,
    budget: BudgetText = None,
    seed: int = 0,
    priority: Annotated[int, typer.Option(help="Higher ones go first, whatever else waits; -10 to 10.")] = 0,
    weight: Annotated[float, typer.Option(help="Its share of the workers, among runs of one priority.")] = 1.0,
    preset_name: Annotated[str, typer.Option("--preset", help=f"One of {', '.join(PRESETS)}.")] = "default",
    option: Annotated[
        list[str] | None, typer.Option("--option", "-o", help="NAME=VALUE, such as judge_trials=1; may be given again.")
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what it would cost, and ask for nothing.")] = False,
    wait: Annotated[bool, typer.Option(help="Stay and show how it goes on.")] = True,
    data: Data = None,
    api: Api = None,
    as_json: AsJson = False,
) -> None:
    """Ask for labels of a dictionary's features, or of those of all dictionaries of a collection."""
    chosen = preset(preset_name)
    chosen |= {"methods": _split(methods)} if methods is not None else {}
    chosen |= {"evaluations": _split(evaluations)} if evaluations is not None else {}
    chosen["options"] = chosen.get("options", {}) | _options(option or [])
    allowed = parse_budget(budget) if budget is not None else None
    with open_client(data, api) as client:
        about = find_submitted(client, dictionary)
        terms = RunTerms.model_validate(
            {
                "features": features,
                "corpus": _corpus(client, corpus, dry_run=dry_run),
                "llm": llm,
                "writer": writer,
                "judge": judge,
                "budget": allowed,
                "seed": seed,
                "priority": priority,
                "weight": weight,
                **chosen,
            }
        )
        if isinstance(about, Collection):
            cli_collections.run_all(client, about, terms, dry_run=dry_run, wait=wait, as_json=as_json)
            return
        spec = spec_for(terms, about.id, allowed)
        if dry_run:
            expected = client.estimate_run(spec)
            print_json(expected) if as_json else out.print(render.estimate_table(expected))
            return
        _warn(client, spec)
        made = client.submit_run(spec)
        err.print(f"run {made.id}", markup=False, highlight=False)
        _finish(_watch(client, made) if wait else made, as_json)


@commands.command()
def runs(data: Data = None, api: Api = None, as_json: AsJson = False) -> None:
    """List runs, newest first."""
    with open_client(data, api) as client:
        found = list(client.runs())
    if as_json:
        print_json(found)
    else:
        out.print(render.runs_table(found))


@commands.command()
def status(run: AnyRun, data: Data = None, api: Api = None, as_json: AsJson = False) -> None:
    """Show how a run goes on, until it ends or is paused; with --json, and of a collection, how it stands."""
    with open_client(data, api) as client:
        found = _find_runs(client, run)
        if not isinstance(found, Run):
            cli_collections.status_of(client, *found, as_json)
            return
        _finish(client.run(found.id) if as_json else _watch(client, found), as_json)


@commands.command()
def report(run: AnyRun, data: Data = None, api: Api = None, as_json: AsJson = False) -> None:
    """Show what a run found: how often its labels succeed, on which controls, and what could not be scored."""
    with open_client(data, api) as client:
        named = _find_runs(client, run)
        if not isinstance(named, Run):
            cli_collections.report_of(client, *named, as_json)
            return
        found = client.report(named.id)
    if as_json:
        print_json(found)
    else:
        out.print(findings.report(found))


@commands.command()
def cancel(run: AnyRun, data: Data = None, api: Api = None, as_json: AsJson = False) -> None:
    """End a run; what is finished stays."""
    with open_client(data, api) as client:
        _tell(map(client.cancel, _each(client, run, ("queued", "running", "paused"))), as_json)


@commands.command()
def pause(run: AnyRun, data: Data = None, api: Api = None, as_json: AsJson = False) -> None:
    """Let a run rest: no LLM is asked for it any more, and no job of it started, until it is resumed."""
    with open_client(data, api) as client:
        _tell(map(client.pause, _each(client, run, ("queued", "running"))), as_json)


@commands.command()
def resume(run: AnyRun, budget: BudgetText = None, data: Data = None, api: Api = None, as_json: AsJson = False) -> None:
    """Let a paused run go on; with --budget, under that one instead of the one it had."""
    allowed = parse_budget(budget) if budget is not None else None
    with open_client(data, api) as client:
        chosen = _each(client, run, ("paused",))
        if allowed is not None and len(chosen) > 1:
            names = ", ".join(str(id_)[:8] for id_ in chosen)
            raise InvalidInput(f"--budget is of one run, and {run} has {len(chosen)} that are paused: {names}")
        _tell((client.resume(id_, allowed) for id_ in chosen), as_json)


def _tell(changed: Iterable[Run], as_json: bool) -> None:
    """Say what became of each run; as JSON, in a list."""
    if as_json:
        print_json(list(changed))
        return
    for one in changed:
        say(f"run {one.id}: {one.state}")


def _find_runs(client: Client, name: str) -> Run | tuple[Collection, CollectionRun]:
    """Return the run of a name or, if there is none, the newest run over the collection of that name."""
    try:
        return find_run(client, name)
    except NotFound as exc:
        try:
            whole = find_collection(client, name)
        except NotFound:
            raise exc from None
        return whole, cli_collections.latest(client, whole)


def _each(client: Client, name: str, states: Sequence[RunState]) -> Sequence[UUID]:
    """Return the run of a name, or those of the newest run over a collection that are in one of some states."""
    found = _find_runs(client, name)
    return [found.id] if isinstance(found, Run) else [one.id for one in found[1].runs if one.state in states]


def _warn(client: Client, spec: RunSpec) -> None:
    """Say so before a run is submitted whose estimate is above its budget."""
    warning = client.estimate_run(spec).warning if spec.budget else None
    if warning:
        err.print(f"warning: {warning}", markup=False, highlight=False, soft_wrap=True)


def _corpus(client: Client, corpus: str, *, dry_run: bool) -> str:
    """Return what a run calls the corpus; a file is uploaded first, but for a dry run: no price depends on it."""
    path = Path(corpus).expanduser()
    if corpus == "bundled" or not path.exists():
        return corpus
    if path.is_dir():
        raise InvalidInput(f"corpus={corpus}: a folder can't be uploaded; give a JSONL, JSONL.gz or parquet file")
    if dry_run:
        return "bundled"
    with progress.transfer(err, path) as report:
        uploaded: Corpus = client.upload_corpus(path, progress=report)
    return str(uploaded.id)


def _watch(client: Client, run: Run) -> Run:
    try:
        return progress.watch(client, run.id, err)
    except KeyboardInterrupt:
        err.print(f"\nthe run goes on; `glossarium status {str(run.id)[:8]}` shows it", markup=False)
        raise typer.Exit(130) from None


def _finish(run: Run, as_json: bool) -> None:
    """Print where a run stands; a run that failed, was cancelled or is paused is a failure of the command."""
    if as_json:
        print_json(run)
    else:
        note = f" ({render.printable(run.note)})" if run.note else ""
        if run.usage is not None and (run.usage.calls or run.spec.budget):
            out.print(render.usage_table(run.usage))
        for job in run.dead:
            err.print(render.dead_line(job), markup=False, highlight=False, soft_wrap=True)
        say(f"run {run.id}: {run.state}{note}{_hint(run)}")
    if run.state in ("failed", "cancelled", "paused"):
        raise typer.Exit(1)


def _hint(run: Run) -> str:
    name = str(run.id)[:8]
    if run.state == "paused":
        return f"; see `glossarium resume {name} --help`"
    if run.state == "done":
        return f"; see `glossarium report {name}` and `glossarium features {str(run.dictionary_id)[:8]}`"
    return ""


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
