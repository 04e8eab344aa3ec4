"""Dictionaries over HTTP: submit, upload weights, list, look at, delete."""

from typing import Annotated, NamedTuple
from uuid import UUID

from fastapi import APIRouter, Body, Query, Request, Response

from schema import subjects
from schema.errors import InvalidInput, NotFound, ShapeMismatch
from schema.health import MeasuredHealth
from schema.neurons import KINDS
from schema.records import Dictionary, DictionarySpec
from schema.settings import Settings
from schema.store import dictionaries
from schema.store.database import Connection
from schema.weights import check_encoder, check_weights
from schema.wire import DictionaryPage, PageQuery
from service import examples, uploads
from service.bodies import Strict
from service.cursors import NEWEST, Pager
from service.deps import Held, Repeatable, Tenant

router = APIRouter(prefix="/v1/dictionaries", tags=["dictionaries"], responses=examples.PROBLEMS)


@router.post("", status_code=201, responses=examples.created(examples.DICTIONARY))
def submit_dictionary(
    spec: Annotated[DictionarySpec, Body(openapi_examples=examples.DICTIONARY_SPECS), Strict()],
    held: Held,
    tenant_id: Tenant,
    intent: Repeatable,
    response: Response,
) -> Dictionary:
    """Submit a feature dictionary. Neurons are ready at once; others wait for their weights."""
    check_spec(spec, held.settings)

    def work(connection: Connection) -> Dictionary:
        id_, fresh = intent.claim(connection, spec.model_dump(mode="json"))
        if fresh:
            return dictionaries.create(connection, tenant_id, id_, spec)
        return dictionaries.get(connection, tenant_id, id_)

    dictionary = held.database.run(work)
    response.headers["Location"] = f"{router.prefix}/{dictionary.id}"
    return dictionary


@router.put(
    "/{dictionary_id}/weights",
    responses=examples.ok(examples.DICTIONARY_WITH_WEIGHTS),
    openapi_extra=uploads.body("A safetensors file of the canonical form: `w_dec [F,d]`, and what the encoder needs"),
)
def upload_weights(dictionary_id: UUID, request: Request, held: Held, tenant_id: Tenant) -> Dictionary:
    """Upload the weights of a dictionary. They are streamed to disk, checked, and nothing is kept of bad ones."""
    dictionary = held.database.run(lambda connection: dictionaries.get(connection, tenant_id, dictionary_id))
    dictionaries.refuse_weights(dictionary)
    widths = check_spec(dictionary.spec, held.settings)
    with uploads.received(request, held) as staged:
        dictionaries.refuse_weights(dictionary, staged.sha256)
        uploads.check_room(held, tenant_id, staged)
        check_weights(staged.path, dictionary.spec, widths.read, widths.write)
        blob = held.blobs.keep(staged)
    return held.database.run(
        lambda connection: dictionaries.set_weights(
            connection, tenant_id, dictionary_id, blob.sha256, n_bytes=blob.n_bytes
        )
    )


@router.get("", responses=examples.ok(examples.page(examples.DICTIONARY)))
def list_dictionaries(query: Annotated[PageQuery, Query()], held: Held, tenant_id: Tenant) -> DictionaryPage:
    """List dictionaries, newest first."""
    pager = Pager("dictionaries", NEWEST, query.cursor)
    found = held.database.run(
        lambda connection: dictionaries.page(connection, tenant_id, after=pager.after, limit=query.limit + 1)
    )
    return DictionaryPage(**pager.cut(found, query.limit, lambda row: (row.created_at, row.id))._asdict())


@router.get("/{dictionary_id}", responses=examples.ok(examples.DICTIONARY))
def get_dictionary(dictionary_id: UUID, held: Held, tenant_id: Tenant) -> Dictionary:
    """Look at a dictionary."""
    return held.database.run(lambda connection: dictionaries.get(connection, tenant_id, dictionary_id))


@router.get("/{dictionary_id}/health", responses=examples.ok(examples.DICTIONARY_HEALTH))
def get_dictionary_health(dictionary_id: UUID, held: Held, tenant_id: Tenant) -> MeasuredHealth:
    """Read how well a dictionary reconstructs its site, and how sparsely, as its newest run measured it.

    404 before a run has; neurons and plain directions reconstruct nothing, and have no health.
    """

    def work(connection: Connection) -> MeasuredHealth:
        dictionaries.get(connection, tenant_id, dictionary_id)
        found = dictionaries.health(connection, dictionary_id)
        if found is None:
            raise NotFound(f"no run has measured the health of dictionary {dictionary_id}")
        return found

    return held.database.run(work)


@router.delete("/{dictionary_id}", status_code=204)
def delete_dictionary(dictionary_id: UUID, held: Held, tenant_id: Tenant) -> None:
    """Delete a dictionary with its runs, evidence and labels. Its runs must be over."""
    held.database.run(lambda connection: dictionaries.delete(connection, tenant_id, dictionary_id))


class Widths(NamedTuple):
    """How wide the sites of a dictionary are; None where only the loaded subject knows (module paths)."""

    read: int | None
    write: int | None


def check_spec(spec: DictionarySpec, settings: Settings) -> Widths:
    """Refuse a dictionary that can't be of its subject, and return how wide its sites are.

    Raises: UnknownSubject, UnknownSite, ShapeMismatch or InvalidInput, with the value and the limit.
    """
    subjects.check_allowed(spec.subject, settings)
    facts = subjects.subject_facts(spec.subject, settings)
    read = subjects.Site.parse(spec.read_site)
    write = subjects.Site.parse(spec.write_site) if spec.write_site else read
    widths = Widths(subjects.width(facts, read), subjects.width(facts, write))
    check_encoder(spec)
    if spec.encoder.kind == "neurons":
        _check_neurons(spec, read, write, widths)
    return widths


def _check_neurons(spec: DictionarySpec, read: subjects.Site, write: subjects.Site, widths: Widths) -> None:
    if read.kind not in KINDS.values() or write != read:
        sites = f"read_site={spec.read_site!r}, write_site={spec.write_site!r}"
        places = " or ".join(f"{kind}.LAYER ({word})" for word, kind in KINDS.items())
        raise InvalidInput(f"{sites}; neurons are read and written at {places}, both the same")
    if spec.n_features != widths.read:
        raise ShapeMismatch(f"n_features={spec.n_features}; {read} of {spec.subject} has {widths.read}: submit all")
