"""`glossarium activations` and `glossarium steer`: try a text, and a feature, on the subject while you wait."""

from typing import Annotated

import typer
from rich.table import Table
from rich.text import Text

from schema.labels import FeatureSummary
from schema.trials import Continuations, SteeredContinuation, SteeringSpec, StrengthUnit, TextActivations
from service.render import printable
from service.terminal import (
    Api,
    AsJson,
    Data,
    DictionaryName,
    err,
    find_dictionary,
    find_dictionary_with,
    open_client,
    out,
    print_json,
    say,
)

commands = typer.Typer()


@commands.command()
def activations(
    dictionary: DictionaryName,
    text: Annotated[str, typer.Argument(help="The text; in quotes.")],
    k: Annotated[int, typer.Option("--top", "-k", help="Features of each token, the most active ones.")] = 3,
    data: Data = None,
    api: Api = None,
    as_json: AsJson = False,
) -> None:
    """Show what fires on a text: the most active features of each token, with their labels."""
    with open_client(data, api) as client:
        about = find_dictionary(client, dictionary)
        with err.status("the subject reads …"):
            found = client.activations(about.id, text, k)
    print_json(found) if as_json else out.print(activations_table(found))


@commands.command()
def steer(
    dictionary: DictionaryName,
    index: Annotated[int, typer.Argument(help="The feature's index.")],
    strength: Annotated[
        list[float], typer.Option(help="Above 0 amplifies, below 0 suppresses; may be given again, up to 8 times.")
    ],
    prompt: Annotated[str, typer.Option(help="What is continued.")],
    unit: Annotated[StrengthUnit, typer.Option(help="Of the strengths; see docs/using.md.")] = "r",
    n_tokens: Annotated[int, typer.Option("--tokens", help="Of each text.")] = 25,
    seed: int = 0,
    temperature: float = 0.75,
    data: Data = None,
    api: Api = None,
    as_json: AsJson = False,
) -> None:
    """Show how a prompt goes on while a feature is amplified or suppressed, and without that."""
    asked = {"prompt": prompt, "strengths": strength, "unit": unit, "n_tokens": n_tokens}
    spec = SteeringSpec.model_validate({**asked, "seed": seed, "temperature": temperature})
    with open_client(data, api) as client:
        about = find_dictionary_with(client, dictionary, index)
        with err.status("the subject writes …"):
            found = client.steer(about.id, index, spec)
    if as_json:
        print_json(found)
        return
    if found.feature is not None:
        say(f"feature {index}: {_called(found.feature)}")
    out.print(continuations_table(found, unit))


def activations_table(found: TextActivations) -> Table:
    """Return a text token by token, each with the features that are most active on it."""
    labels = {summary.index: summary for summary in found.features}
    table = Table("token", "feature", "activation", "of its max", "label")
    for token in found.tokens:
        shown = Text(printable(token.token))
        for one in token.features:
            summary = labels.get(one.index)
            share = "" if not (summary and summary.max_activation) else f"{one.activation / summary.max_activation:.0%}"
            label = Text(_called(summary)) if summary else Text("–", "dim")
            table.add_row(shown, str(one.index), f"{one.activation:.3g}", share, label)
            shown = Text("")
        if not token.features:
            table.add_row(shown, Text("–", "dim"), "", "", "")
    return table


def continuations_table(found: Continuations, unit: StrengthUnit) -> Table:
    """Return the texts by strength, the unsteered one first."""
    table = Table(f"strength [{unit}]".replace("[", r"\["), "alpha", "r", "text", show_lines=True)
    table.add_row(Text("none", "dim"), "", "", Text(printable(found.unsteered)))
    for one in found.steered:
        table.add_row(f"{one.strength:+g}", f"{one.alpha:+.3g}", f"{one.r:.3g}", _text(one))
    return table


def _text(one: SteeredContinuation) -> Text:
    if one.text is None:
        return Text(f"not reached: {one.achieved_kl_nats or 0.0:.2g} nats at most", "dim")
    return Text(printable(one.text))


def _called(summary: FeatureSummary) -> str:
    return printable(summary.label) if summary.label else summary.status
