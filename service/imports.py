"""Imports over HTTP: a dictionary as it was exported, with everything that is known of it."""

from uuid import UUID

from fastapi import APIRouter, Request, Response

from schema.archives import Manifest
from schema.blobs import Staged
from schema.records import Dictionary
from schema.store import dictionaries, unpacking
from schema.store.database import Connection
from schema.store.unpacking import Target
from schema.weights import check_weights
from service import examples, uploads
from service.deps import Held, Repeatable, Services, Tenant
from service.dictionaries import check_spec
from service.interchange.archive import Import, read_archive

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
        id_, fresh = intent.claim(connection, {"archive": staged.sha256})
        if fresh:
            with staged.path.open("rb") as file:
                read_archive(file, _import(connection, held, tenant_id, id_))
        dictionary = dictionaries.get(connection, tenant_id, id_)
    response.headers["Location"] = f"{router.prefix}/{dictionary.id}"
    return dictionary


def _import(connection: Connection, held: Services, tenant_id: int, id_: UUID) -> Import:
    def open_target(manifest: Manifest) -> Target:
        check_spec(manifest.spec, held.settings)
        return unpacking.open_target(connection, tenant_id, id_, manifest)

    def weights(staged: Staged, manifest: Manifest) -> None:
        widths = check_spec(manifest.spec, held.settings)
        check_weights(staged.path, manifest.spec, widths.read, widths.write)

    return Import(open_target, weights, held.blobs)
