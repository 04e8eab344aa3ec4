"""`glossarium demo`: the whole way, from a stack that is started to labels in a table, on a model that is at hand."""

import json
import signal
import sys
import textwrap
import threading
import time
from collections import Counter
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from schema.errors import GlossariumError
from schema.labels import Description, FeatureSummary, Label, Score
from schema.presets import preset
from schema.records import Dictionary, DictionarySpec, Encoder, Run, RunSpec
from schema.subjects import BUNDLED, BUNDLED_FACTS
from service import progress, render
from service.client import Client
from service.stack import Stack

LAYER = 15
_LABEL_WIDTH = 160
SPEC = DictionarySpec(
    name=f"neurons of layer {LAYER}",
    subject=BUNDLED,
    read_site=f"mlp_hidden.{LAYER}",
    encoder=Encoder(kind="neurons"),
    n_features=BUNDLED_FACTS.blocks.d_mlp,
    source="neurons",
)


def run_demo(data: Path, n_features: int, *, stay: bool, as_json: bool, out: Console, err: Console) -> None:
    """Label `n_features` features and print the table; then serve until Ctrl-C if `stay`.

    Raises: GlossariumError if the run did not end well, and what starting a stack raises.
    """
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell lets its background jobs ignore it
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that the stack is ended, as on Ctrl-C
    say = err if as_json else out
    began = time.monotonic()
    say.print(f"starting a stack on {data} …", markup=False, highlight=False)
    try:
        with Stack(data) as stack, Client(stack.api_url, key=stack.key) as client:
            say.print(f"up after {time.monotonic() - began:.0f} s: {stack.api_url}", highlight=False)
            dictionary, run = _label(client, n_features, say)
            rows = _rows(client, dictionary, run)
            if as_json:
                out.file.write(json.dumps([plain(*row) for row in rows], indent=2, ensure_ascii=False) + "\n")
                out.file.flush()
            _report(client, dictionary, run, rows, say)
            say.print(f"{time.monotonic() - began:.0f} s in all", highlight=False)
            if stay:
                _point_further(stack, data, dictionary, rows, say)
                threading.Event().wait()
    except KeyboardInterrupt:
        say.print("\nended; the same command finds its work again", markup=False)


def _label(client: Client, n_features: int, console: Console) -> tuple[Dictionary, Run]:
    """Submit the dictionary (once a data folder) and a run, and wait for its end."""
    known = (found for found in client.dictionaries() if found.spec == SPEC)
    dictionary = next(known, None) or client.submit_dictionary(SPEC)
    spec = RunSpec(dictionary_id=dictionary.id, features=f"random:{n_features}:0", **preset("small"))
    run = progress.watch(client, client.submit_run(spec).id, console)
    if run.state != "done":
        raise GlossariumError(f"the run ended {run.state}: {run.note or 'no reason given'}")
    return dictionary, run


Row = tuple[FeatureSummary, Label | None]


def _rows(client: Client, dictionary: Dictionary, run: Run) -> list[Row]:
    labels = {label.feature: label for label in client.labels(dictionary.id, run_id=run.id)}
    return [(item, labels.get(item.index)) for item in client.features(dictionary.id, run_id=run.id)]


def plain(summary: FeatureSummary, label: Label | None) -> dict[str, Any]:
    """Return a row as JSON; a score that is not there is null, its status says why."""
    scores = {} if label is None else {"input": label.input, "output": label.output, "judge": label.output_llm}
    return {
        "index": summary.index,
        "label": None if label is None else label.text,
        "method": None if label is None else label.method,
        "status": summary.status if label is None else label.status.value,
        **{
            f"{name}_{key}": value
            for name in ("input", "output", "judge")
            for key, value in _plain_score(scores.get(name)).items()
        },
    }


def _plain_score(score: Score | None) -> dict[str, Any]:
    estimate = None if score is None else score.estimate
    return {
        "success": None if score is None else score.success,
        "status": None if score is None else score.status.value,
        "value": None if estimate is None else [estimate.value, estimate.low, estimate.high],
        "lift": None if score is None or score.lift is None else [score.lift, score.lift_low, score.lift_high],
    }


def _report(client: Client, dictionary: Dictionary, run: Run, rows: list[Row], console: Console) -> None:
    console.print(table(rows))
    descriptions = [
        description for summary, _ in rows for description in client.feature(dictionary.id, summary.index).descriptions
    ]
    console.print(_counts(descriptions))
    console.print(render.stages_table(run.stages))


def table(rows: list[Row]) -> Table:
    """Return the final table, a row a feature."""
    shown = Table("feature", "label", title="labels", title_justify="left", show_lines=True)
    for heading in ("method\nstatus", "input\n[95 %]", "output\n[95 %]", "judge"):
        shown.add_column(heading, no_wrap=True)
    for summary, label in rows:
        if label is None:
            shown.add_row(str(summary.index), "", summary.status)
            continue
        shown.add_row(
            str(summary.index),
            Text(textwrap.shorten(render.printable(label.text or ""), _LABEL_WIDTH, placeholder=" …")),
            f"{label.method or ''}\n{label.status.value}",
            _tested(label.input),
            _tested(label.output),
            Text() if label.output_llm is None else render.success(label.output_llm.success),
        )
    return shown


def _tested(score: Score | None) -> Text:
    """Return success, value and lift, with the lift's interval below: `yes 0.96 +0.31`."""
    if score is None or score.estimate is None:
        return Text(render.estimate(score), "dim")
    text = Text().append_text(render.success(score.success)).append(f" {score.estimate.value:.2f}")
    if score.lift is not None:
        text.append(f" {score.lift:+.2f}")
    if score.lift_low is not None and score.lift_high is not None:
        text.append(f"\n[{score.lift_low:+.2f}, {score.lift_high:+.2f}]", "dim")
    return text


def _counts(descriptions: list[Description]) -> Table:
    counted = Counter((description.method, description.status.value) for description in descriptions)
    table = Table("method", "status", "descriptions", title="descriptions by method and status", title_justify="left")
    for (method, status), n in sorted(counted.items()):
        table.add_row(method, status, str(n))
    return table


def _point_further(stack: Stack, data: Path, dictionary: Dictionary, rows: list[Row], console: Console) -> None:
    name = str(dictionary.id)[:8]
    best = next((summary.index for summary, label in rows if label is not None and label.text), rows[0][0].index)
    lines = (
        f"glossarium open --data {data}        # the pages, in a browser: {stack.api_url}",
        f"glossarium show {name} {best} --data {data}",
        f"glossarium features {name} --sort=-output_lift --data {data}",
        f"glossarium run {name} --features random:100:1 --preset small --data {data}",
        "serving until Ctrl-C",
    )
    console.print("\n".join(lines), markup=False, highlight=False, soft_wrap=True)
