"""Imports over HTTP: a dictionary as it was exported, and others' labels as descriptions that compete with ours."""

from collections.abc import Iterator
from typing import IO, Annotated
from uuid import UUID

from fastapi import APIRouter, Query, Request, Response
from pydantic import ValidationError

from schema.archives import Manifest
from schema.blobs import Staged
from schema.errors import BadLabels
from schema.records import Dictionary
from schema.store import descriptions, dictionaries, quotas, unpacking
from schema.store.database import Connection
from schema.store.unpacking import Target
from schema.weights import check_weights
from schema.wire import ImportedLabel, LabelsImported, OriginQuery
from service import examples, export_examples, uploads
from service.deps import Held, Repeatable, Services, Tenant
from service.dictionaries import check_spec
from service.interchange.archive import Import, read_archive

_AT_ONCE = 1000
_MOST_LINE = 2**16

router = APIRouter(prefix="/v1/dictionaries", tags=["exports"], responses=examples.PROBLEMS)


@router.post(
    "/import",
    status_code=201,
    responses=examples.created(examples.DICTIONARY_WITH_WEIGHTS),
    openapi_extra=uploads.body("What `export?format=archive` sent, as it came", "application/x-tar"),
)
def import_dictionary(
    request: Request, held: Held, tenant_id: Tenant, intent: Repeatable, response: Response
) -> Dictionary:
    """Import a dictionary from an archive: whole, as a new one with new ids, or not at all."""
    with uploads.received(request, held) as staged, held.database.long_transaction() as connection:
        quotas.check_bytes(connection, tenant_id, staged.n_bytes, held.settings.max_stored_bytes)
        id_, fresh = intent.claim(connection, {"archive": staged.sha256})
        if fresh:
            with staged.path.open("rb") as file:
                read_archive(file, _import(connection, held, tenant_id, id_))
        dictionary = dictionaries.get(connection, tenant_id, id_)
    response.headers["Location"] = f"{router.prefix}/{dictionary.id}"
    return dictionary


@router.put(
    "/{dictionary_id}/descriptions",
    responses=examples.ok(export_examples.LABELS_IMPORTED),
    openapi_extra=uploads.body(
        "Lines of JSON, a label each: `feature`, `text`, and maybe `author`, `model`, `method`", "application/x-ndjson"
    ),
)
def import_labels(
    dictionary_id: UUID, query: Annotated[OriginQuery, Query()], request: Request, held: Held, tenant_id: Tenant
) -> LabelsImported:
    """Import others' labels as descriptions of method `imported`: all of them, or none. What is there stays."""
    dictionary = held.database.run(lambda connection: dictionaries.get(connection, tenant_id, dictionary_id))
    with uploads.received(request, held) as staged, held.database.long_transaction() as connection:
        dictionaries.get(connection, tenant_id, dictionary_id)
        n_labels = n_new = 0
        features: set[int] = set()
        with staged.path.open("rb") as lines:
            for some in _labels(lines, dictionary):
                n_labels, n_new = (
                    n_labels + len(some),
                    n_new + descriptions.put_imported(connection, dictionary_id, some, query.origin),
                )
                features |= {label.feature for label in some}
    if not n_labels:
        raise BadLabels("the file holds no labels")
    return LabelsImported(origin=query.origin, n_labels=n_labels, n_features=len(features), n_new=n_new)


def _labels(lines: IO[bytes], dictionary: Dictionary) -> Iterator[list[ImportedLabel]]:
    """Yield the labels of a file, some at a time. Raises BadLabels, naming the line."""
    some: list[ImportedLabel] = []
    n_features, number = dictionary.spec.n_features, 0
    while line := lines.readline(_MOST_LINE + 1):
        number += 1
        if not line.strip():
            continue
        try:
            label = ImportedLabel.model_validate_json(line)
        except ValidationError as exc:
            problem = exc.errors()[0]
            field = ".".join(map(str, problem["loc"])) or "line"
            raise BadLabels(f"line {number}: {field}: {problem['msg']}") from exc
        if label.feature >= n_features:
            raise BadLabels(f"line {number}: feature={label.feature}; {dictionary.spec.name} has 0..{n_features - 1}")
        some.append(label)
        if len(some) == _AT_ONCE:
            yield some
            some = []
    yield some


def _import(connection: Connection, held: Services, tenant_id: int, id_: UUID) -> Import:
    def open_target(manifest: Manifest) -> Target:
        check_spec(manifest.spec, held.settings)
        return unpacking.open_target(connection, tenant_id, id_, manifest)

    def weights(staged: Staged, manifest: Manifest) -> None:
        widths = check_spec(manifest.spec, held.settings)
        check_weights(staged.path, manifest.spec, widths.read, widths.write)
        dictionaries.set_size(connection, id_, staged.n_bytes)

    return Import(open_target, weights, held.blobs)
