"""Uploaded corpora: rows that name blobs."""

from datetime import datetime
from pathlib import Path
from typing import Any
from uuid import UUID

from schema import corpora as places
from schema.blobs import BlobRef
from schema.errors import BadCorpus, NotFound
from schema.records import Corpus
from schema.store.database import Connection
from schema.store.queries import load_queries

_queries = load_queries("corpora")


def create(connection: Connection, tenant_id: int, id_: UUID, name: str, blob: BlobRef) -> Corpus:
    """Store a corpus."""
    (row,) = _queries.insert(
        connection, id=id_, tenant_id=tenant_id, name=name, sha256=blob.sha256, n_bytes=blob.n_bytes
    )
    return _corpus(row)


def get(connection: Connection, tenant_id: int, id_: UUID) -> Corpus:
    """Return a corpus.

    Raises: NotFound if this tenant has no such corpus.
    """
    row = _queries.get(connection, tenant_id=tenant_id, id=id_)
    if row is None:
        raise NotFound(f"no corpus {id_}")
    return _corpus(row)


def find(connection: Connection, tenant_id: int, name: str, sha256: str) -> Corpus | None:
    """Return the tenant's corpus of this name with these very bytes, if there is one."""
    row = _queries.same(connection, tenant_id=tenant_id, name=name, sha256=sha256)
    return None if row is None else _corpus(row)


def page(
    connection: Connection, tenant_id: int, *, after: tuple[datetime, UUID] | None = None, limit: int = 50
) -> list[Corpus]:
    """Return corpora, newest first; `after` is the creation time and id of the last one seen."""
    before, after_id = after or (None, None)
    rows = _queries.page(connection, tenant_id=tenant_id, before=before, after_id=after_id, most=limit)
    return [_corpus(row) for row in rows]


def n_bytes_of(connection: Connection, tenant_id: int, name: str, *, corpora_dir: Path | None) -> int:
    """Return the size of the corpus that a run names: bundled, an uploaded one's id, or operator:NAME.

    Raises: BadCorpus if the name is none of these; NotFound if this tenant has no such corpus.
    """
    found = resolve(connection, tenant_id, name, corpora_dir=corpora_dir)
    return places.size_of(found) if isinstance(found, Path) else found.n_bytes


def resolve(connection: Connection, tenant_id: int, name: str, *, corpora_dir: Path | None) -> Corpus | Path:
    """Return the corpus that a run names: where it lies, or the row of one that was uploaded.

    Raises: BadCorpus if the name is none of bundled, an uploaded one's id, operator:NAME; NotFound if this tenant has
    no such corpus.
    """
    if name == places.BUNDLED:
        return places.bundled_path()
    if name.startswith(places.OPERATOR):
        return places.operator_path(name.removeprefix(places.OPERATOR), corpora_dir)
    try:
        id_ = UUID(name)
    except ValueError as exc:
        forms = "bundled, the id of an uploaded corpus, or operator:NAME"
        raise BadCorpus(f"corpus={name[:80]!r}; must be {forms}") from exc
    return get(connection, tenant_id, id_)


def _corpus(row: tuple[Any, ...]) -> Corpus:
    id_, name, sha256, n_bytes, created_at = row
    return Corpus(id=id_, name=name, sha256=sha256, n_bytes=n_bytes, created_at=created_at)
