"""`glossarium schedule …`: have labels kept fresh, and see what each night changed."""

from itertools import islice
from pathlib import Path
from typing import Annotated

import typer
from pydantic import TypeAdapter

from schema.budgets import parse_budget
from schema.errors import InvalidInput, NotFound
from schema.schedules import Change, Policy, Refresh, Schedule, SchedulePatch, ScheduleSpec
from service import diffs
from service.client import Client
from service.terminal import Api, AsJson, Data, RunName, find, find_run, open_client, out, print_json, say

commands = typer.Typer(no_args_is_help=True, help="Keep labels fresh: every night a run about what is stale.")
_CHANGES = TypeAdapter[tuple[Change, ...]](tuple[Change, ...])

Name = Annotated[str, typer.Argument(help="A schedule's id, the beginning of it, or its name.")]
Cron = Annotated[str, typer.Option(help="minute hour day month weekday")]
Zone = Annotated[str, typer.Option("--time-zone", help="Such as Europe/Paris.")]


@commands.command()
def add(
    run: RunName,
    name: str = "nightly",
    cron: Cron = "0 3 * * *",
    time_zone: Zone = "UTC",
    features: Annotated[str | None, typer.Option(help="Others than the run's: all, alive, 0-9,12 …")] = None,
    unlabelled: Annotated[bool, typer.Option(help="Features without a label.")] = True,
    failed: Annotated[bool, typer.Option(help="Labels that are unparsed, refused or failed.")] = True,
    changed: Annotated[
        bool, typer.Option(help="Labels that would be made from other evidence, prompts, models or options now.")
    ] = True,
    input_lift_below: Annotated[float | None, typer.Option(help="With --no-changed: of those, the low ones.")] = None,
    output_lift_below: Annotated[float | None, typer.Option(help="With --no-changed: of those, the low ones.")] = None,
    older_than: Annotated[float | None, typer.Option(help="With --no-changed: of those, the old ones; days.")] = None,
    tries: Annotated[int, typer.Option(help="For a feature that stays stale although nothing changes.")] = 3,
    max_features: Annotated[int | None, typer.Option(min=1, help="Of one refresh.")] = None,
    budget: Annotated[
        str | None, typer.Option(help="Of one refresh, another than the run's: '$5', '200k tokens'.")
    ] = None,
    data: Data = None,
    api: Api = None,
    as_json: AsJson = False,
) -> None:
    """Keep the labels of a run fresh, made as that run made them."""
    policy = Policy(
        unlabelled=unlabelled,
        failed=failed,
        changed=changed,
        input_lift_below=input_lift_below,
        output_lift_below=output_lift_below,
        older_than_days=older_than,
        tries=tries,
    )
    with open_client(data, api) as client:
        like = find_run(client, run).spec
        other: dict[str, object] = {} if features is None else {"features": features}
        other |= {} if budget is None else {"budget": parse_budget(budget)}
        spec = ScheduleSpec(
            name=name,
            run=like.model_copy(update=other),
            cron=cron,
            time_zone=time_zone,
            policy=policy,
            max_features=max_features,
        )
        _show(client.create_schedule(spec), as_json)


@commands.command("list")
def list_(data: Data = None, api: Api = None, as_json: AsJson = False) -> None:
    """List schedules, newest first."""
    with open_client(data, api) as client:
        found = list(client.schedules())
    print_json(found) if as_json else out.print(diffs.schedules_table(found))


@commands.command()
def show(
    schedule: Name,
    limit: Annotated[int, typer.Option(min=1, help="Slots to show.")] = 14,
    data: Data = None,
    api: Api = None,
    as_json: AsJson = False,
) -> None:
    """Show a schedule and what its last slots led to; with --json the slots."""
    with open_client(data, api) as client:
        found = _find(client, schedule)
        slots = list(islice(client.refreshes(found.id), limit))
    if as_json:
        print_json(slots)
        return
    _show(found, as_json)
    out.print(diffs.refreshes_table(slots, found.spec.time_zone))


@commands.command()
def diff(
    schedule: Name,
    refresh: Annotated[str | None, typer.Argument(help="Of which slot; the last that had a run by default.")] = None,
    change: Annotated[
        list[str] | None, typer.Option(help="changed, new, lost, rescored, edited, same; may be given again")
    ] = None,
    limit: Annotated[int, typer.Option(min=1, help="Features to show.")] = 50,
    data: Data = None,
    api: Api = None,
    as_json: AsJson = False,
) -> None:
    """Show what a refresh changed: labels old and new, with their scores."""
    wanted = _CHANGES.validate_python(change or ())
    with open_client(data, api) as client:
        found = _find(client, schedule)
        slot = _find_refresh(client, found, refresh)
        items = list(islice(client.diff(found.id, slot.id, wanted), limit))
    print_json(items) if as_json else out.print(diffs.diff(slot, items, found.spec.time_zone))


@commands.command()
def refresh(schedule: Name, data: Data = None, api: Api = None, as_json: AsJson = False) -> None:
    """Refresh now and not at the next slot; `show` says what comes of it."""
    with open_client(data, api) as client:
        found = _find(client, schedule)
        made = client.refresh_now(found.id)
    print_json(made) if as_json else out.print(diffs.refreshes_table([made], found.spec.time_zone))


@commands.command()
def pause(schedule: Name, data: Data = None, api: Api = None, as_json: AsJson = False) -> None:
    """Let a schedule rest; a run that it has begun goes on."""
    _patch(schedule, SchedulePatch(paused=True), data, api, as_json)


@commands.command()
def resume(schedule: Name, data: Data = None, api: Api = None, as_json: AsJson = False) -> None:
    """Let a schedule go on, from its next slot."""
    _patch(schedule, SchedulePatch(paused=False), data, api, as_json)


@commands.command()
def remove(schedule: Name, data: Data = None, api: Api = None) -> None:
    """Delete a schedule with its diffs; runs and labels stay."""
    with open_client(data, api) as client:
        found = _find(client, schedule)
        client.delete_schedule(found.id)
    say(f"schedule {found.id} removed")


def _patch(schedule: str, patch: SchedulePatch, data: Path | None, api: str | None, as_json: bool) -> None:
    with open_client(data, api) as client:
        _show(client.change_schedule(_find(client, schedule).id, patch), as_json)


def _find(client: Client, name: str) -> Schedule:
    known = list(client.schedules())
    called = [schedule for schedule in known if schedule.spec.name == name]
    if len(called) > 1:
        ids = ", ".join(str(schedule.id)[:8] for schedule in called)
        raise InvalidInput(f"schedule {name!r} could be {ids}; name one of these")
    if called:
        return called[0]
    return find(name, client.schedule, known, f"no schedule {name!r}; `glossarium schedule list` lists them")


def _find_refresh(client: Client, schedule: Schedule, name: str | None) -> Refresh:
    known = client.refreshes(schedule.id)
    if name is None:
        for refresh in known:
            if refresh.run_id is not None:
                return refresh
        raise NotFound(f"schedule {schedule.spec.name!r} has had no run yet; `glossarium schedule show` says why")
    return find(name, lambda id_: client.refresh(schedule.id, id_), known, f"no refresh {name!r}")


def _show(schedule: Schedule, as_json: bool) -> None:
    print_json(schedule) if as_json else out.print(diffs.schedules_table([schedule]))
