"""Exports over HTTP: the labels of a dictionary in the forms of other tools, or everything as one archive.

All of it is read in one snapshot, some features at a time, and sent as it is read: memory does not grow with the
dictionary.
"""

from collections.abc import Callable, Generator, Iterable, Iterator
from typing import Annotated, NamedTuple
from uuid import UUID

from fastapi import APIRouter, Query
from fastapi.responses import StreamingResponse

from schema.blobs import Blobs
from schema.records import Dictionary
from schema.store import dictionaries, evidence, exports
from schema.store.database import Connection
from schema.store.exports import LabelRow, Range
from schema.subjects import Site
from schema.wire import ExportFormat, ExportQuery
from service import examples, export_examples
from service.deps import Held, Tenant
from service.interchange import archive, delphi, neuronpedia, tables, tars
from service.interchange.neuronpedia import Known, Naming
from service.streaming import Streamed, attachment

router = APIRouter(prefix="/v1/dictionaries/{dictionary_id}", tags=["exports"], responses=examples.PROBLEMS)

N_FEATURES = "X-Glossarium-Features"
"""The header that says how many features the dictionary has, for those who show progress."""


class Export(NamedTuple):
    """What an export is made from."""

    connection: Connection
    dictionary: Dictionary
    query: ExportQuery
    blobs: Blobs


class Form(NamedTuple):
    """A format: how files of it are called and sent, and how they are made."""

    suffix: str
    media_type: str
    write: Callable[[Export], Iterator[bytes]]


@router.get("/export", response_class=StreamingResponse, responses=export_examples.EXPORTED)
def export_dictionary(
    dictionary_id: UUID, query: Annotated[ExportQuery, Query()], held: Held, tenant_id: Tenant
) -> Streamed:
    """Export a dictionary: its labels in a form of others' tools, or all that is known of it as an archive."""
    dictionary = held.database.run(lambda connection: dictionaries.get(connection, tenant_id, dictionary_id))
    form = FORMS[query.format]

    def parts() -> Generator[bytes, None, None]:
        with held.database.snapshot() as connection:
            now = dictionaries.get(connection, tenant_id, dictionary_id)
            yield from form.write(Export(connection, now, query, held.blobs))

    headers = {
        "Content-Disposition": attachment(f"{tars.safe(dictionary.spec.name)}.{form.suffix}"),
        N_FEATURES: str(dictionary.spec.n_features),
    }
    return Streamed(parts(), media_type=form.media_type, headers=headers)


def _rows(export: Export) -> Iterator[list[LabelRow]]:
    for some in exports.ranges(export.dictionary.spec.n_features):
        yield exports.labelled(export.connection, export.dictionary.id, some)


def _write_delphi(export: Export) -> Iterator[bytes]:
    return delphi.write_delphi(_rows(export), export.query.source or delphi.hookpoint(export.dictionary.spec.read_site))


def _write_neuronpedia(export: Export) -> Iterator[bytes]:
    spec, parts = export.dictionary.spec, export.query.parts
    needs_evidence = set(parts) != {"explanations"}
    batches = ((some, _known(export, some, needs_evidence=needs_evidence)) for some in exports.ranges(spec.n_features))
    return neuronpedia.write_neuronpedia(batches, _naming(export), parts)


def _write_archive(export: Export) -> Iterator[bytes]:
    weights = export.query.weights
    return archive.write_archive(export.connection, export.dictionary, export.blobs, weights=weights)


def _known(export: Export, some: Range, *, needs_evidence: bool) -> Iterable[Known]:
    connection, id_ = export.connection, export.dictionary.id
    size = neuronpedia.AT_ONCE if needs_evidence else exports.BATCH
    for lo in range(some.lo, some.hi, size):
        few = Range(lo, min(lo + size, some.hi))
        found = evidence.latest_of(connection, id_, few.lo, few.hi, neuronpedia.KINDS) if needs_evidence else {}
        yield Known(exports.labelled(connection, id_, few), found)


def _naming(export: Export) -> Naming:
    """Return what Neuronpedia would call a dictionary: the subject without its organisation, and LAYER-KIND."""
    spec = export.dictionary.spec
    site = Site.parse(spec.write_site or spec.read_site)
    own = f"{site.layer}-{site.kind.replace('_', '-')}" if site.layer is not None else str(site)
    subject = spec.subject.rstrip("/").rpartition("/")[2].rpartition(":")[2]
    hook = f"blocks.{site.layer}.hook_{site.kind}" if site.kind in _HOOKED else None
    return Naming(export.query.model or subject, export.query.source or own, hook, export.dictionary.created_at)


_HOOKED = frozenset({"resid_pre", "resid_mid", "resid_post", "mlp_in", "mlp_out", "attn_out"})

FORMS: dict[ExportFormat, Form] = {
    "csv": Form("csv", "text/csv; charset=utf-8", lambda export: tables.write_csv(_rows(export))),
    "json": Form("json", "application/json", lambda export: tables.write_json(_rows(export))),
    "parquet": Form("parquet", "application/vnd.apache.parquet", lambda export: tables.write_parquet(_rows(export))),
    "delphi": Form("delphi.tar", "application/x-tar", _write_delphi),
    "neuronpedia": Form("neuronpedia.tar", "application/x-tar", _write_neuronpedia),
    "archive": Form("glossarium.tar", "application/x-tar", _write_archive),
}
