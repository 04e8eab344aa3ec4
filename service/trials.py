"""Trials over HTTP: what fires on a text of yours, and what a feature makes of a prompt, while you wait.

Nothing is held while a request waits but its thread: it looks at the trial now and then, and only so many requests do.
"""

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Annotated
from uuid import UUID

from fastapi import APIRouter, Body, Query, Response

from schema import errors
from schema.errors import Conflict, GlossariumError, InvalidInput, TooLarge
from schema.records import Dictionary
from schema.store import dictionaries, trials
from schema.store.database import Connection
from schema.trials import ActivationsSpec, SteeringSpec, Trial, TrialLook, TrialWait
from service import examples, trial_examples
from service.bodies import Strict
from service.deps import Held, Index, Intent, Repeatable, Services, Tenant, check_index

router = APIRouter(prefix="/v1", tags=["trials"], responses=examples.PROBLEMS)

MOST_WAITING = 8
"""Requests of a process that wait at once, each in a thread of some forty; more are answered without waiting."""
_FIRST_LOOK_S, _LONGEST_LOOK_S = 0.05, 0.5
_waiting = threading.BoundedSemaphore(MOST_WAITING)

Wait = Annotated[TrialWait, Query()]


@router.post("/dictionaries/{dictionary_id}/activations", responses=trial_examples.TRIED_TEXT)
def try_text(
    dictionary_id: UUID,
    spec: Annotated[ActivationsSpec, Body(openapi_examples=trial_examples.ACTIVATIONS_SPECS), Strict()],
    query: Wait,
    held: Held,
    tenant_id: Tenant,
    intent: Repeatable,
    response: Response,
) -> Trial:
    """Run a text through the subject: the features that are most active on each token, with their labels.

    Answered with 200 when it is over, with 202 if that takes longer than `wait`: then `GET /v1/trials/{id}`.
    """
    id_ = _create(held, tenant_id, intent, dictionary_id, spec)
    return _answer(held, tenant_id, id_, query.wait, response)


@router.post("/dictionaries/{dictionary_id}/features/{index}/steer", responses=trial_examples.STEERED)
def try_steering(
    dictionary_id: UUID,
    index: Index,
    spec: Annotated[SteeringSpec, Body(openapi_examples=trial_examples.STEERING_SPECS), Strict()],
    query: Wait,
    held: Held,
    tenant_id: Tenant,
    intent: Repeatable,
    response: Response,
) -> Trial:
    """Continue a prompt with a feature amplified or suppressed, at some strengths, and without it.

    Answered as `POST …/activations`.
    """
    id_ = _create(held, tenant_id, intent, dictionary_id, spec, index)
    return _answer(held, tenant_id, id_, query.wait, response)


@router.get("/trials/{trial_id}", responses=examples.ok(trial_examples.TEXT_TRIAL))
def get_trial(trial_id: UUID, query: Annotated[TrialLook, Query()], held: Held, tenant_id: Tenant) -> Trial:
    """Look at a trial, once it is over or `wait` seconds have passed. Trials are kept for a day."""
    return _wait(held, tenant_id, trial_id, query.wait)


@router.post("/trials/{trial_id}/cancel", responses=examples.ok(trial_examples.CANCELLED_TRIAL))
def cancel_trial(trial_id: UUID, held: Held, tenant_id: Tenant, intent: Repeatable) -> Trial:
    """End a trial; one that is over stays as it is."""

    def work(connection: Connection) -> Trial:
        _, fresh = intent.claim(connection, None)
        return (trials.cancel if fresh else trials.get)(connection, tenant_id, trial_id)

    return held.database.run(work)


def _create(
    held: Services,
    tenant_id: int,
    intent: Intent,
    dictionary_id: UUID,
    spec: ActivationsSpec | SteeringSpec,
    feature: int | None = None,
) -> UUID:
    """Store a trial, ring for it at once and return its id; that of the first one if the request is repeated.

    Raises: NotFound, Conflict if the dictionary can't be tried, Unavailable if too many trials are under way.
    """

    def work(connection: Connection) -> tuple[UUID, bool]:
        id_, fresh = intent.claim(connection, spec.model_dump(mode="json"))
        if fresh:
            dictionary = dictionaries.get(connection, tenant_id, dictionary_id)
            _check(dictionary, feature)
            timeout_s = held.settings.trial_s
            trials.create(connection, tenant_id, id_, dictionary_id, spec, feature=feature, timeout_s=timeout_s)
        return id_, fresh

    id_, fresh = held.database.run(work)
    if fresh:
        held.doorbell.ring(["subject"])
    return id_


def _check(dictionary: Dictionary, feature: int | None) -> None:
    if feature is not None:
        check_index(dictionary, feature)
    if dictionary.state != "ready":
        what = dictionary.error or "PUT its weights first"
        raise Conflict(f"dictionary {dictionary.id} is {dictionary.state} and not ready; {what}")


def _answer(held: Services, tenant_id: int, id_: UUID, wait_s: float, response: Response) -> Trial:
    """Return the trial when it is over, or as it stands after a while, with the status that says which.

    Raises: what only the worker could find wrong with the request.
    """
    trial = _wait(held, tenant_id, id_, wait_s)
    kind = getattr(errors, trial.error or "", GlossariumError)
    if issubclass(kind, InvalidInput | TooLarge):
        raise kind(trial.reason)
    response.status_code = 200 if trial.over else 202
    response.headers["Location"] = f"{router.prefix}/trials/{id_}"
    return trial


def _wait(held: Services, tenant_id: int, id_: UUID, wait_s: float) -> Trial:
    """Return a trial once it is over, or after a while. No connection is held between two looks."""

    def look() -> Trial:
        return held.database.run(lambda connection: trials.get(connection, tenant_id, id_))

    with _turn(wait_s) as allowed_s:
        until, pause_s = time.monotonic() + allowed_s, _FIRST_LOOK_S
        while not (trial := look()).over and (left_s := until - time.monotonic()) > 0:
            time.sleep(min(pause_s, left_s))
            pause_s = min(1.5 * pause_s, _LONGEST_LOOK_S)
    return trial


@contextmanager
def _turn(wait_s: float) -> Iterator[float]:
    """Yield how long a request may wait: not at all while as many others do as may at once."""
    mine = wait_s > 0 and _waiting.acquire(blocking=False)
    try:
        yield wait_s if mine else 0.0
    finally:
        if mine:
            _waiting.release()
