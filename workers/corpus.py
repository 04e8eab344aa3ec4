"""Documents from files, and the contexts that are cut from them.

A corpus is JSONL (each line an object with a `text`), JSONL.gz, parquet (a column `text`), a .txt file, or a folder of
such files in the order of their names. The form is told by the first bytes, since uploads have no suffix. Documents
keep their running number in the whole corpus whatever shard reads them; a repeated document is a document again (the
eight-token keys of exemplars take care of boilerplate). It does not know tokenizers: it is given one's `tokenize`.
"""

import gzip
import hashlib
import json
import zlib
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import IO, NamedTuple, cast

from schema.contexts import context_number
from schema.corpora import bundled_path
from schema.errors import BadCorpus

BUNDLED = bundled_path()
MAX_DOCUMENT_BYTES = 64 * 2**20  # one document is held in memory
_SUFFIXES = (".jsonl", ".jsonl.gz", ".parquet", ".txt")
_STRETCH = 100_000  # characters that are tokenized at once
_BOM = b"\xef\xbb\xbf"


@dataclass(frozen=True, slots=True)
class Document:
    """A text with its running number in the corpus."""

    index: int
    text: str

    @property
    def split(self) -> int:
        """Return the half that it belongs to, by its text alone: 0 describe, 1 score. Repeats are in the same half."""
        return hashlib.blake2b(self.text.encode(), digest_size=1).digest()[0] & 1


@dataclass(frozen=True, slots=True)
class Shard:
    """The documents whose number leaves `index` when divided by `count`: one of them, or all but some."""

    index: int = 0
    count: int = 1
    only: int | None = None
    without: frozenset[int] = frozenset()

    def holds(self, document: int) -> bool:
        """Return whether a document belongs to this shard."""
        chosen = document not in self.without if self.only is None else document == self.only
        return chosen and document % self.count == self.index


WHOLE = Shard()


class Context(NamedTuple):
    """A stretch of a document as the subject reads it; position 0 is a sink and never counts.

    offset: of the first token of `ids` that is the document's own, in tokens
    split:  0 describe, 1 score
    """

    document: int
    offset: int
    split: int
    ids: list[int]

    @property
    def number(self) -> int:
        """Return the context's own number: unlike all others in the corpus, in the order of documents."""
        return context_number(self.document, self.offset)


class _Raw(NamedTuple):
    """A document that is not decoded yet, and where it stands."""

    where: str
    text: Callable[[], str]


def open_corpus(path: Path, shard: Shard = WHOLE) -> Iterator[Document]:
    """Yield the documents of a shard, in order. Documents of other shards are not even parsed.

    Raises: BadCorpus if there is nothing to read, or naming the file and line that can't be read
    """
    records = readable = 0
    for index, raw in enumerate(_records(path)):
        records += 1
        if shard.holds(index) and is_text(text := raw.text()):
            readable += 1
            yield Document(index, text)
    if records == 0 or (shard == WHOLE and readable == 0):
        raise BadCorpus(f"corpus {path.name!r} is empty; a corpus needs at least one document with text")


def is_text(text: str) -> bool:
    """Return whether a document can be read: it is not blank, holds no NUL and is valid Unicode."""
    if not text or text.isspace() or "\0" in text:
        return False
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def corpus_digest(path: Path) -> str:
    """Return the sha256 of a file, or of the names and digests of a folder's files. Raises BadCorpus."""
    if path.is_dir():
        listing = [f"{file.relative_to(path).as_posix()} {_file_digest(file)}\n" for file in _files(path)]
        return hashlib.sha256("".join(listing).encode()).hexdigest()
    return _file_digest(_files(path)[0])


def contexts(
    documents: Iterable[Document], tokenize: Callable[[str], list[int]], length: int, *, sink: int | None = None
) -> Iterator[Context]:
    """Yield contexts of at most `length` tokens.

    sink: a token to put in front of every context. Without one, each context begins with the last token of the one
          before it in the document, so that of all tokens only a document's first never counts.
    """
    room, overlap, front = (length, 1, []) if sink is None else (length - 1, 0, [sink])
    for document in documents:
        stretches = (tokenize(stretch) for stretch in _stretches(document.text))
        split = document.split
        for offset, ids in _cut(stretches, room, overlap):
            yield Context(document.index, offset, split, front + ids)


def _cut(parts: Iterable[list[int]], room: int, overlap: int) -> Iterator[tuple[int, list[int]]]:
    offset, ids = 0, list[int]()
    for part in parts:
        ids += part
        while len(ids) > room:
            yield offset, ids[:room]
            offset += room - overlap
            ids = ids[room - overlap :]
    if len(ids) > overlap:
        yield offset, ids


def _stretches(text: str) -> Iterator[str]:
    """Yield a long text in parts that begin with white space, where there is any."""
    start = 0
    while start < len(text):
        end = start + _STRETCH
        if end < len(text):
            blank = max(text.rfind(" ", start + 1, end), text.rfind("\n", start + 1, end))
            end = blank if blank > start else end
        yield text[start:end]
        start = end


def _files(path: Path) -> list[Path]:
    if path.is_dir():
        found = sorted(file for file in path.rglob("*") if file.is_file() and file.name.endswith(_SUFFIXES))
        if not found:
            raise BadCorpus(f"folder {path.name!r} holds no file that ends in {', '.join(_SUFFIXES)}")
        return found
    if not path.is_file():
        raise BadCorpus(f"there is no corpus at {str(path)!r}")
    return [path]


def _records(path: Path) -> Iterator[_Raw]:
    for file in _files(path):
        try:
            yield from _records_of(file)
        except OSError as exc:
            raise BadCorpus(f"corpus file {file.name!r} can't be read: {exc}") from exc


def _records_of(file: Path) -> Iterator[_Raw]:
    with file.open("rb") as opened:
        head = opened.read(4)
    if head == b"PAR1":
        yield from _parquet(file)
    elif head[:2] == b"\x1f\x8b":
        yield from _gzipped_lines(file)
    elif file.suffix == ".txt":
        yield _Raw(file.name, partial(_read_text, file))
    else:
        with file.open("rb") as opened:
            yield from _lines(opened, file.name)


def _gzipped_lines(file: Path) -> Iterator[_Raw]:
    try:
        with gzip.open(file) as opened:
            yield from _lines(cast(IO[bytes], opened), file.name)
    except (EOFError, zlib.error, gzip.BadGzipFile) as exc:
        raise BadCorpus(f"corpus file {file.name!r} is damaged or truncated gzip: {exc}") from exc


def _lines(opened: IO[bytes], name: str) -> Iterator[_Raw]:
    number = 0
    while line := opened.readline(MAX_DOCUMENT_BYTES + 1):
        number += 1
        where = f"line {number} of {name!r}"
        if len(line) > MAX_DOCUMENT_BYTES:
            raise BadCorpus(f"{where} is longer than {MAX_DOCUMENT_BYTES} bytes; split the document")
        line = line.removeprefix(_BOM).strip() if number == 1 else line.strip()
        if line:
            yield _Raw(where, partial(_parse_line, line, where))


def _parse_line(line: bytes, where: str) -> str:
    try:
        parsed = json.loads(line)
    except (ValueError, RecursionError) as exc:
        raise BadCorpus(f"{where} is not JSON: {exc}") from exc
    text = parsed.get("text") if isinstance(parsed, dict) else None
    if not isinstance(text, str):
        raise BadCorpus(f"{where} has no text field; each line must be an object with a string `text`")
    return text


def _read_text(file: Path) -> str:
    """Return the text of a file."""
    try:
        if file.stat().st_size > MAX_DOCUMENT_BYTES:
            raise BadCorpus(f"{file.name!r} is larger than {MAX_DOCUMENT_BYTES} bytes; split the document")
        # What is not UTF-8 becomes lone surrogates, and is then skipped as no valid text.
        return file.read_bytes().removeprefix(_BOM).decode("utf-8", "surrogateescape")
    except OSError as exc:
        raise BadCorpus(f"corpus file {file.name!r} can't be read: {exc}") from exc


def _parquet(file: Path) -> Iterator[_Raw]:
    import pyarrow
    import pyarrow.parquet

    try:
        table = pyarrow.parquet.ParquetFile(file)
        names = table.schema_arrow.names
        if "text" not in names or not _is_string(table.schema_arrow.field("text").type):
            raise BadCorpus(f"parquet file {file.name!r} has no text column of strings; its columns are {names}")
        row = 0
        for batch in table.iter_batches(batch_size=256, columns=["text"]):
            for text in batch.column(0).to_pylist():
                yield _Raw(f"row {row} of {file.name!r}", partial(str, text or ""))
                row += 1
    except pyarrow.ArrowException as exc:
        raise BadCorpus(f"corpus file {file.name!r} is not readable parquet: {exc}") from exc


def _is_string(kind: object) -> bool:
    return str(kind) in ("string", "large_string") or "values=string" in str(kind)


def _file_digest(file: Path) -> str:
    with file.open("rb") as opened:
        return hashlib.file_digest(opened, "sha256").hexdigest()
