"""Corpora over HTTP: upload, list, look at."""

import codecs
import gzip
import json
import os
import zlib
from importlib.util import find_spec
from pathlib import Path
from typing import IO, Annotated, cast
from uuid import UUID

from fastapi import APIRouter, Query, Request, Response

from schema.errors import BadCorpus
from schema.records import Corpus
from schema.store import corpora
from schema.store.database import Connection
from schema.wire import CorpusPage, PageQuery
from service import examples, uploads
from service.cursors import NEWEST, Pager
from service.deps import Held, Repeatable, Tenant

router = APIRouter(prefix="/v1/corpora", tags=["corpora"], responses=examples.PROBLEMS)

_GZIP, _PARQUET = b"\x1f\x8b", b"PAR1"
_FORMS = 'send JSONL or JSONL.gz with {"text": "…"} on each line, or parquet with a column `text`'
_N_CHECKED = 200
_MAX_LINE = 64 * 2**20  # as workers read them
_MAX_CHECKED = 128 * 2**20

Name = Annotated[str, Query(min_length=1, max_length=200, description="what to call it", examples=["support mails"])]
_BODY = uploads.body(_FORMS)


@router.post(
    "", status_code=201, responses=examples.created(examples.CORPUS), openapi_extra=_BODY, operation_id="upload_corpus"
)
@router.put(
    "", status_code=201, responses=examples.created(examples.CORPUS), openapi_extra=_BODY, operation_id="put_corpus"
)
def upload_corpus(
    name: Name, request: Request, held: Held, tenant_id: Tenant, intent: Repeatable, response: Response
) -> Corpus:
    """Upload a corpus. The same bytes under the same name are the same corpus."""
    with uploads.received(request, held) as staged:
        uploads.check_room(held, tenant_id, staged)
        check_corpus(staged.path)
        blob = held.blobs.keep(staged)

    def work(connection: Connection) -> Corpus:
        same = corpora.find(connection, tenant_id, name, blob.sha256)
        id_, fresh = intent.claim(connection, {"name": name, "sha256": blob.sha256}, same.id if same else None)
        if fresh and same is None:
            return corpora.create(connection, tenant_id, id_, name, blob)
        return corpora.get(connection, tenant_id, id_)

    corpus = held.database.run(work)
    response.headers["Location"] = f"{router.prefix}/{corpus.id}"
    return corpus


@router.get("", responses=examples.ok(examples.page(examples.CORPUS)))
def list_corpora(query: Annotated[PageQuery, Query()], held: Held, tenant_id: Tenant) -> CorpusPage:
    """List uploaded corpora, newest first."""
    pager = Pager("corpora", NEWEST, query.cursor)
    found = held.database.run(
        lambda connection: corpora.page(connection, tenant_id, after=pager.after, limit=query.limit + 1)
    )
    return CorpusPage(**pager.cut(found, query.limit, lambda row: (row.created_at, row.id))._asdict())


@router.get("/{corpus_id}", responses=examples.ok(examples.CORPUS))
def get_corpus(corpus_id: UUID, held: Held, tenant_id: Tenant) -> Corpus:
    """Look at a corpus."""
    return held.database.run(lambda connection: corpora.get(connection, tenant_id, corpus_id))


def check_corpus(path: Path) -> None:
    """Look whether a file begins like a corpus that holds text.

    Raises: BadCorpus if it is empty, not JSONL, JSONL.gz or parquet, or has no text.
    """
    with path.open("rb") as file:
        head = file.read(4)
    if not head:
        raise BadCorpus(f"the corpus is empty (0 bytes); {_FORMS}")
    if head == _PARQUET:
        _check_parquet(path)
    elif head[:2] == _GZIP:
        try:
            with gzip.open(path) as lines:
                _check_lines(cast(IO[bytes], lines))
        except (EOFError, zlib.error, gzip.BadGzipFile) as exc:
            raise BadCorpus(f"the corpus is damaged or truncated gzip ({exc}); send it again") from exc
    else:
        with path.open("rb") as lines:
            _check_lines(lines)


def _check_lines(lines: IO[bytes]) -> None:
    number = n_read = n_texts = 0
    while number < _N_CHECKED or (n_texts == 0 and n_read < _MAX_CHECKED):
        line = lines.readline(_MAX_LINE + 1)
        if not line:
            break
        number += 1
        n_read += len(line)
        if len(line) > _MAX_LINE:
            raise BadCorpus(f"line {number} is longer than {_MAX_LINE:,} bytes; split the document")
        line = line.removeprefix(codecs.BOM_UTF8).strip()
        n_texts += bool(line) and _has_text(line, number)
    if n_texts == 0:
        raise BadCorpus(f"the corpus has no text in its first {number:,} lines; {_FORMS}")


def _has_text(line: bytes, number: int) -> bool:
    try:
        document = json.loads(line)
    except (ValueError, RecursionError) as exc:
        raise BadCorpus(f"line {number} is not JSON ({exc}): {line[:60]!r}; {_FORMS}") from exc
    text = document.get("text") if isinstance(document, dict) else None
    if not isinstance(text, str):
        raise BadCorpus(f"line {number} has no string `text`: {line[:60]!r}; {_FORMS}")
    return not (text.isspace() or "\0" in text) and text != ""


def _check_parquet(path: Path) -> None:
    with path.open("rb") as file:
        file.seek(-len(_PARQUET), os.SEEK_END)
        if file.read() != _PARQUET:
            raise BadCorpus("the corpus is truncated parquet: its end is missing; send it again")
    if find_spec("pyarrow") is not None:  # comes with the workers; an API without them leaves the rest to ingest
        _check_columns(path)


def _check_columns(path: Path) -> None:
    import pyarrow.parquet  # 60 MB that only this needs

    try:
        with pyarrow.parquet.ParquetFile(path) as file:
            n_rows, columns = file.metadata.num_rows, {field.name: str(field.type) for field in file.schema_arrow}
    except (OSError, ValueError, pyarrow.ArrowException) as exc:
        raise BadCorpus(f"the corpus is damaged parquet ({exc}); send it again") from exc
    kind = columns.get("text", "")
    if kind not in ("string", "large_string") and "values=string" not in kind:
        raise BadCorpus(f"the corpus has the columns {', '.join(columns)[:200]}; {_FORMS} of strings")
    if n_rows == 0:
        raise BadCorpus("the corpus is empty (0 rows); a corpus needs at least one document with text")
