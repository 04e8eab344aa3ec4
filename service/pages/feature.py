"""A feature: whether its label holds, what makes it fire, what it does, and how all of that is known."""

from typing import Literal, NamedTuple
from uuid import UUID

from fastapi import APIRouter, Request
from fastapi.responses import HTMLResponse

from prompts.describing import asking_methods
from schema.errors import NotFound
from schema.labels import Description, Label, Status
from schema.records import Dictionary, RunOptions
from schema.store import descriptions, dictionaries, features, labels, runs
from schema.store.database import Connection
from schema.store.features import Position
from schema.wire import FeatureFilter, FeaturePrompt
from service.deps import Held, Tenant, check_index
from service.features import read_feature
from service.pages.feature_view import Known, view
from service.pages.rendering import page
from service.prompts import render_prompt

router = APIRouter(prefix="/dictionaries/{dictionary_id}/features/{index}")
_LABELLED = FeatureFilter(status=(Status.OK,))


class Beside(NamedTuple):
    """The features before and after one, by index, and the nearest ones on either side that have a label."""

    previous: int | None
    next: int | None
    previous_labelled: int | None
    next_labelled: int | None


class Asked(NamedTuple):
    """A description and what would be asked for it today; None: by its kind it asks no LLM."""

    description: Description
    prompt: FeaturePrompt | None

    @property
    def is_same_file(self) -> bool:
        """Return whether the prompt file is still the one that was asked with."""
        return self.prompt is not None and self.prompt.prompt_sha256 == self.description.prompt_sha256


@router.get("")
def show_feature(
    request: Request,
    dictionary_id: UUID,
    index: int,
    held: Held,
    tenant_id: Tenant,
    exemplars: Literal["few", "all"] = "few",
) -> HTMLResponse:
    """Show everything that is known of a feature."""

    def work(connection: Connection) -> tuple[Dictionary, Known, Beside]:
        dictionary = _dictionary(connection, tenant_id, dictionary_id, index)
        return dictionary, _read(connection, dictionary_id, index), _beside(connection, dictionary, index)

    dictionary, known, beside = held.database.run(work)
    return page(
        request,
        "feature.html",
        dictionary=dictionary,
        feature=known.feature,
        view=view(known, everything=exemplars == "all"),
        everything=exemplars == "all",
        beside=beside,
    )


@router.get("/prompts")
def show_prompts(request: Request, dictionary_id: UUID, index: int, held: Held, tenant_id: Tenant) -> HTMLResponse:
    """Show what was asked for each description, and what was answered, word for word."""
    secret = held.settings.secret.get_secret_value().encode()

    def work(connection: Connection) -> tuple[Dictionary, Label | None, list[Asked]]:
        dictionary = _dictionary(connection, tenant_id, dictionary_id, index)
        feature = read_feature(connection, dictionary_id, index)
        options = _options(connection, tenant_id, feature.label)
        asking = asking_methods()
        asked = [
            Asked(one, render_prompt(one.method, feature, options, secret) if one.method in asking else None)
            for one in feature.descriptions
        ]
        return dictionary, feature.label, asked

    dictionary, label, asked = held.database.run(work)
    return page(request, "feature_prompts.html", dictionary=dictionary, index=index, label=label, asked=asked)


def _dictionary(connection: Connection, tenant_id: int, dictionary_id: UUID, index: int) -> Dictionary:
    """Return a dictionary that has such a feature. Raises NotFound with the range."""
    dictionary = dictionaries.get(connection, tenant_id, dictionary_id)
    if index < 0:
        raise NotFound(f"feature {index} of dictionary {dictionary_id}; must be 0..{dictionary.spec.n_features - 1}")
    check_index(dictionary, index)
    return dictionary


def _read(connection: Connection, dictionary_id: UUID, index: int) -> Known:
    feature = read_feature(connection, dictionary_id, index)
    near = feature.vocabulary.neighbours if feature.vocabulary else ()
    return Known(
        feature,
        labels.history(connection, dictionary_id, index),
        features.load(connection, dictionary_id, near) if near else {},
        descriptions.latest_sentences(connection, [one.id for one in feature.descriptions if one.id is not None]),
    )


def _beside(connection: Connection, dictionary: Dictionary, index: int) -> Beside:
    def labelled(sort: Literal["index", "-index"]) -> int | None:
        found = features.page(
            connection, dictionary.id, sort=sort, filters=_LABELLED, after=Position(index, index), limit=1
        )
        return found[0].index if found else None

    last = dictionary.spec.n_features - 1
    return Beside(
        index - 1 if index > 0 else None, index + 1 if index < last else None, labelled("-index"), labelled("index")
    )


def _options(connection: Connection, tenant_id: int, label: Label | None) -> RunOptions:
    """Return the options of the run that gave a feature its label; the usual ones where no run is known."""
    if label is None or label.run_id is None:
        return RunOptions()
    try:
        return runs.get(connection, tenant_id, label.run_id).spec.options
    except NotFound:
        return RunOptions()
