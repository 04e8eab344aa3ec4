"""The playground: what fires on a text of yours, and how a prompt goes on with a feature and without it.

The page asks the API for trials and names them in its address; here they are read and shown, however they stand. So a
link shows the same to everybody of the tenant for as long as trials are kept, and says what to ask anew after that.
"""

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Annotated, Any, NamedTuple
from uuid import UUID

from fastapi import APIRouter, Query, Request
from fastapi.responses import HTMLResponse
from pydantic import Field

from schema.errors import NotFound
from schema.evidence import Calibration
from schema.keys import allows
from schema.labels import FeatureSummary
from schema.records import Dictionary, Record
from schema.store import dictionaries, evidence, features, processes, trials
from schema.store.database import Connection
from schema.trials import (
    MOST_CHARACTERS,
    MOST_STRENGTH,
    MOST_TOKENS,
    StrengthUnit,
    Trial,
)
from service.deps import Held, Tenant
from service.pages.playground_view import Passages, Reading, passages_of, reading_of, standing_of
from service.pages.rendering import page

router = APIRouter()

MOST_PICKED = 4
"""Features that are steered at once, each by a trial of its own."""
MOST_K = 10
_MOST_CHOICES = 100
_STRENGTHS: dict[StrengthUnit, str] = {"kl_nats": "0.5, -0.5", "r": "0.5, -0.5", "alpha": "10, -10"}
_MISSED = 4
"""Times that a worker may miss to say that it is there: a machine may be busy."""


class PlaygroundQuery(Record):
    """What the address says: what is asked, in the words of the API, and the trials that answered it."""

    dictionary: UUID | None = None
    text: str | None = Field(None, max_length=MOST_CHARACTERS)
    k: int = Field(5, ge=1, le=MOST_K)
    feature: tuple[Annotated[int, Field(ge=0, le=2**31 - 1)], ...] = Field((), max_length=MOST_PICKED)
    prompt: str | None = Field(None, max_length=MOST_CHARACTERS)
    strengths: tuple[Annotated[str, Field(max_length=200)], ...] = Field((), max_length=8)
    unit: StrengthUnit = "kl_nats"
    n_tokens: int = Field(25, ge=1, le=100)
    seed: int = Field(0, ge=0, le=2**31 - 1)
    temperature: float = Field(0.75, ge=0.05, le=2.0, allow_inf_nan=False)
    trial: tuple[UUID, ...] = Field((), max_length=MOST_PICKED + 1)


class Picked(NamedTuple):
    """A feature that is to be steered. `summary` is None where the dictionary has no such feature."""

    feature: int
    summary: FeatureSummary | None
    calibration: Calibration | None


class Shown(NamedTuple):
    """A trial, and what came of it if it is done."""

    trial: Trial
    reading: Reading | None
    passages: Passages | None
    standing: str


class Bench(NamedTuple):
    """All that the page shows. `is_gone`: some result that the address names is not kept any more."""

    choices: list[Dictionary]
    dictionary: Dictionary | None
    text: Shown | None
    steered: list[Shown]
    picked: list[Picked]
    is_gone: bool


@router.get("/playground")
def playground(
    request: Request, query: Annotated[PlaygroundQuery, Query()], held: Held, tenant_id: Tenant
) -> HTMLResponse:
    """Show what may be asked of a dictionary's subject, and what came of what was asked."""
    heard_s = _MISSED * held.settings.sweep_s
    bench = held.database.run(lambda connection: _read(connection, tenant_id, query, heard_s))
    asked = _asked(query, bench)
    may_try = allows(request.state.caller.scope, "submit")
    can_run = may_try and bench.dictionary is not None and bench.dictionary.state == "ready"
    return page(
        request,
        "playground.html",
        bench=bench,
        asked=asked,
        query=query,
        may_try=may_try,
        can_run=can_run,
        read_now=can_run and bool(query.text) and bench.text is None,
        steer_now=can_run and bool(query.prompt and query.feature) and not bench.steered,
        limits={"characters": MOST_CHARACTERS, "tokens": MOST_TOKENS, "k": MOST_K, "picked": MOST_PICKED},
        most_strength=MOST_STRENGTH,
        default_strengths=_STRENGTHS,
    )


class Asked(NamedTuple):
    """What the forms hold."""

    text: str
    k: int
    prompt: str
    strengths: str
    unit: StrengthUnit
    n_tokens: int
    seed: int
    temperature: float


def _asked(query: PlaygroundQuery, bench: Bench) -> Asked:
    """Return what the address says, and what it does not say as the trials that it names had it."""
    said = query.model_dump(include=query.model_fields_set)
    values = {**query.model_dump(), **_spec(bench.text), **_spec(next(iter(bench.steered), None)), **said}
    unit = values["unit"]
    values["strengths"] = ", ".join(map(str, values["strengths"])) or _STRENGTHS[unit]
    filled: dict[str, Any] = {name: "" if values[name] is None else values[name] for name in Asked._fields}
    return Asked(**filled)


def _spec(shown: Shown | None) -> dict[str, Any]:
    return {} if shown is None else shown.trial.spec.model_dump()


def _read(connection: Connection, tenant_id: int, query: PlaygroundQuery, heard_s: float) -> Bench:
    choices = dictionaries.page(connection, tenant_id, limit=_MOST_CHOICES)
    found = [trial for id_ in dict.fromkeys(query.trial) if (trial := _trial(connection, tenant_id, id_)) is not None]
    dictionary = _chosen(connection, tenant_id, query, found, choices)
    if dictionary is None:
        return Bench(choices, None, None, [], [], False)
    found = [trial for trial in found if trial.dictionary_id == dictionary.id]
    is_heard = all(trial.over for trial in found) or _is_heard(connection, heard_s)
    now = datetime.now(UTC)
    shown = [_shown(trial, now, is_heard) for trial in found]
    picked = list(
        dict.fromkeys((*query.feature, *(one.trial.feature for one in shown if one.trial.feature is not None)))
    )
    return Bench(
        choices if dictionary in choices else [dictionary, *choices],
        dictionary,
        next((one for one in shown if one.trial.kind == "activations"), None),
        [one for one in shown if one.trial.kind == "steering"],
        _picked(connection, dictionary, picked[:MOST_PICKED]),
        len(found) < len(set(query.trial)),
    )


def _chosen(
    connection: Connection, tenant_id: int, query: PlaygroundQuery, found: Sequence[Trial], choices: list[Dictionary]
) -> Dictionary | None:
    """Return the dictionary that is named, that of the results, or the newest one that is ready. Raises NotFound."""
    named = query.dictionary or (found[0].dictionary_id if found else None)
    if named is not None:
        return dictionaries.get(connection, tenant_id, named)
    return next((one for one in choices if one.state == "ready"), None)


def _trial(connection: Connection, tenant_id: int, id_: UUID) -> Trial | None:
    try:
        return trials.get(connection, tenant_id, id_)
    except NotFound:  # it was more than a day ago, or is another tenant's
        return None


def _is_heard(connection: Connection, heard_s: float) -> bool:
    """Return whether a worker that holds subjects has said of late that it is there."""
    return any(one.kind == "subject" and one.age_s <= heard_s for one in processes.seen(connection))


def _shown(trial: Trial, now: datetime, is_heard: bool) -> Shown:
    return Shown(
        trial,
        None if trial.activations is None else reading_of(trial.activations),
        None if trial.steering is None else passages_of(trial.steering),
        standing_of(trial, now, is_heard=is_heard),
    )


def _picked(connection: Connection, dictionary: Dictionary, indices: Sequence[int]) -> list[Picked]:
    known = features.load(connection, dictionary.id, indices) if indices else {}
    return [Picked(index, known.get(index), _calibration(connection, dictionary.id, index)) for index in indices]


def _calibration(connection: Connection, dictionary_id: UUID, index: int) -> Calibration | None:
    """Return how strength and effect of a feature hang together, where a run has measured it."""
    found = evidence.latest_of(connection, dictionary_id, index, index + 1, ["calibration"])
    calibration = found.get(index, {}).get("calibration")
    return calibration if isinstance(calibration, Calibration) else None
