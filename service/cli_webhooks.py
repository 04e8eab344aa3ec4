"""`glossarium webhooks …`: have URLs told when something happens, and see what became of each delivery."""

import time
from collections.abc import Iterable, Iterator
from itertools import islice
from typing import Annotated

import typer
from pydantic import TypeAdapter
from rich.table import Table
from rich.text import Text

from schema.errors import Unavailable
from schema.webhooks import EVENTS, Delivery, Event, Webhook, WebhookPatch, WebhookSpec
from service.client import Client
from service.render import printable
from service.terminal import Api, AsJson, Data, find, open_client, out, print_json, say

commands = typer.Typer(no_args_is_help=True, help="Have URLs told when runs end, refreshes end or budgets are used up.")
_EVENTS = TypeAdapter[tuple[Event, ...]](tuple[Event, ...])
_TEST_WITHIN_S = 60.0

Name = Annotated[str, typer.Argument(help="A webhook's id, the beginning of it, or its URL.")]


@commands.command()
def add(
    url: Annotated[str, typer.Argument(help="Where to, over HTTPS.")],
    event: Annotated[
        list[str] | None, typer.Option(help=f"{', '.join(EVENTS)}; may be given again; all of them without it")
    ] = None,
    data: Data = None,
    api: Api = None,
    as_json: AsJson = False,
) -> None:
    """Have a URL told; shows the secret of the signatures, which can't be shown again."""
    with open_client(data, api) as client:
        made = client.create_webhook(WebhookSpec(url=url, events=_EVENTS.validate_python(event or EVENTS)))
    if as_json:
        print_json(made)
        return
    out.print(webhooks_table([made]))
    say(f"secret (keep it, it is not shown again): {made.secret}")


@commands.command("list")
def list_(data: Data = None, api: Api = None, as_json: AsJson = False) -> None:
    """List webhooks, newest first."""
    with open_client(data, api) as client:
        found = list(client.webhooks())
    print_json(found) if as_json else out.print(webhooks_table(found))


@commands.command()
def show(
    webhook: Name,
    limit: Annotated[int, typer.Option(min=1, help="Deliveries to show.")] = 20,
    data: Data = None,
    api: Api = None,
    as_json: AsJson = False,
) -> None:
    """Show a webhook and what became of its last deliveries; with --json the deliveries."""
    with open_client(data, api) as client:
        found = _find(client, webhook)
        sent = list(islice(client.deliveries(found.id), limit))
    if as_json:
        print_json(sent)
        return
    out.print(webhooks_table([found]))
    out.print(deliveries_table(sent))


@commands.command()
def pause(webhook: Name, data: Data = None, api: Api = None, as_json: AsJson = False) -> None:
    """Let a webhook rest; what it is owed waits, 30 days at most."""
    with open_client(data, api) as client:
        _show(client.change_webhook(_find(client, webhook).id, WebhookPatch(paused=True)), as_json)


@commands.command()
def resume(webhook: Name, data: Data = None, api: Api = None, as_json: AsJson = False) -> None:
    """Take a paused or disabled webhook up again, with what it is owed."""
    with open_client(data, api) as client:
        _show(client.change_webhook(_find(client, webhook).id, WebhookPatch(paused=False)), as_json)


@commands.command()
def remove(webhook: Name, data: Data = None, api: Api = None) -> None:
    """Delete a webhook with all that it is owed."""
    with open_client(data, api) as client:
        found = _find(client, webhook)
        client.delete_webhook(found.id)
    say(f"webhook {found.id} removed")


@commands.command("test")
def try_out(webhook: Name, data: Data = None, api: Api = None, as_json: AsJson = False) -> None:
    """Send a notice that nothing happened, and say whether it arrived; exit code 1 if not."""
    with open_client(data, api) as client:
        found = _find(client, webhook)
        asked = client.test_webhook(found.id)
        came = next((delivery for delivery in _states(client, asked) if delivery.state != "due"), None)
    if came is None:
        raise Unavailable(f"nobody sent it within {_TEST_WITHIN_S:.0f} s; is a worker of the queue `control` up?")
    print_json(came) if as_json else out.print(deliveries_table([came]))
    if came.state != "delivered":
        raise typer.Exit(1)


def webhooks_table(webhooks: Iterable[Webhook]) -> Table:
    """Return webhooks as a table."""
    table = Table("webhook", "URL", "events", "state", "waiting", "last error")
    for webhook in webhooks:
        table.add_row(
            str(webhook.id)[:8],
            Text(printable(webhook.spec.url)),
            ", ".join(webhook.spec.events),
            Text(webhook.state, style="" if webhook.state == "active" else "red"),
            str(webhook.n_due),
            Text(printable(webhook.last_error or "")),
        )
    return table


def deliveries_table(deliveries: Iterable[Delivery]) -> Table:
    """Return deliveries as a table; times are UTC."""
    table = Table("delivery", "event", "recorded", "state", "attempts", "next", "last error")
    for delivery in deliveries:
        table.add_row(
            str(delivery.id)[:8],
            delivery.event,
            f"{delivery.created_at:%Y-%m-%d %H:%M:%S}",
            delivery.state,
            str(delivery.attempts),
            "" if delivery.due_at is None else f"{delivery.due_at:%Y-%m-%d %H:%M:%S}",
            Text(printable(delivery.last_error or "")),
        )
    return table


def _states(client: Client, delivery: Delivery) -> Iterator[Delivery]:
    """Yield a delivery as it is about once a second, for a minute."""
    deadline = time.monotonic() + _TEST_WITHIN_S
    while time.monotonic() < deadline:
        time.sleep(0.5)
        yield next(found for found in client.deliveries(delivery.webhook_id) if found.id == delivery.id)


def _find(client: Client, name: str) -> Webhook:
    missing = f"no webhook {name!r}; `glossarium webhooks list` lists them"
    return find(name, client.webhook, client.webhooks(), missing, lambda found: found.spec.url)


def _show(webhook: Webhook, as_json: bool) -> None:
    print_json(webhook) if as_json else out.print(webhooks_table([webhook]))
