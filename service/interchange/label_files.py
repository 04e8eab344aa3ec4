"""Files of others' labels: Neuronpedia's explanations, delphi's folders, CSV, and JSON of index → label.

What a file is, is told by what is in it, never by its name. They are read on the user's machine, line by line; the API
takes one form only (`schema.wire.ImportedLabel`, a line each). Labels of two sources in one file are refused: one of
them would be of another dictionary.
"""

import csv
import gzip
import io
import json
import unicodedata
import zlib
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Annotated, Any, NamedTuple, cast

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from schema.errors import BadLabels
from schema.wire import ImportedLabel
from service.interchange import delphi

MOST_LINE = 16 * 2**20
MOST_JSON = 512 * 2**20
_FORMS = (
    "Neuronpedia's explanations (.jsonl or .jsonl.gz, or an export's folder), delphi's explanations folder, CSV with "
    "the columns feature and label, or JSON of index → label"
)
_INDEX = ("feature", "index", "latent", "feature_index")
_TEXT = ("label", "text", "description", "explanation")
_KNOWN = {
    b"PAR1": "parquet",
    b"PK\x03\x04": "a zip, such as a .npz or .pt file",
    b"\x80": "a pickle",
    b"\x28\xb5\x2f\xfd": "zstandard",
    b"BZh": "bzip2",
    b"\xfd7zXZ": "xz",
    b"%PDF": "a PDF",
    b"<": "HTML or XML, such as the error page of a download",
    b"version https://git-lfs": "a pointer of git LFS, and not the file that it stands for",
}


class LabelFile(NamedTuple):
    """A file of labels, recognised.

    form:    what it is, in words.
    labels:  read while they are taken; a file that turns out to be damaged raises then.
    """

    form: str
    labels: Iterator["Sourced"]


class Sourced(NamedTuple):
    """A label and where the file says that it is from; None where it does not."""

    label: ImportedLabel
    source: str | None


class _Explanation(BaseModel):
    """The fields of a line of Neuronpedia's that are read; it has others, of which some come and go."""

    model_config = ConfigDict(extra="ignore", coerce_numbers_to_str=True)

    modelId: str = Field(min_length=1)
    layer: str = Field(min_length=1)
    index: Annotated[int, Field(ge=0)]
    description: str
    authorId: str | None = None
    typeName: str | None = None
    explanationModelName: str | None = None


def open_labels(path: Path) -> LabelFile:
    """Return what a file or folder has to say of features.

    Raises: BadLabels, naming the file and what is wrong with it, here or while labels are taken.
    """
    if path.is_dir():
        return _folder(path)
    if not path.is_file():
        raise BadLabels(f"no file {path}")
    if delphi.NAME.fullmatch(path.name):
        return LabelFile("an explanation of delphi's", _delphi([path]))
    with _text(path) as lines:
        start = _start(lines, path)
    if start == "[" or (start == "{" and _is_one_object(path)):
        return LabelFile("JSON", _json(path))
    if start == "{":
        return LabelFile("Neuronpedia's explanations", _neuronpedia([path]))
    return LabelFile("CSV", _csv(path))


def one_source(labels: Iterable[Sourced]) -> Iterator[Sourced]:
    """Yield labels, as long as they are of one source. Raises BadLabels at the first of another one."""
    first: str | None = None
    for label in labels:
        first = first or label.source
        if label.source != first:
            raise BadLabels(f"labels of {first} and of {label.source} in one file; import them one after the other")
        yield label


def _folder(path: Path) -> LabelFile:
    batches = sorted(file for place in (path / "explanations", path) for file in place.glob("batch-*.jsonl*"))
    if batches:
        return LabelFile("Neuronpedia's explanations", _neuronpedia(batches))
    texts = [file for place in (path / "explanations", path) if place.is_dir() for file in sorted(place.iterdir())]
    named = [file for file in texts if delphi.NAME.fullmatch(file.name)]
    if not named:
        raise BadLabels(f"{path} holds no labels that are known; give {_FORMS}")
    return LabelFile("delphi's explanations", _delphi(named))


# ---------------------------------------------------------------------------------------------------------- the formats


def _neuronpedia(paths: Iterable[Path]) -> Iterator[Sourced]:
    for path in paths:
        with _text(path) as lines:
            for number, line in _lines(lines, path):
                yield from _explanation(_parsed(line, f"{path}, line {number}"), f"{path}, line {number}")


def _explanation(fields: Any, where: str) -> Iterator[Sourced]:
    """Yield an explanation of Neuronpedia's; empty ones are none."""
    try:
        found = _Explanation.model_validate(fields)
    except ValidationError as exc:
        raise BadLabels(f"{where}: no explanation of Neuronpedia's: {_first(exc)}") from exc
    if found.description.strip():
        said = {"author": found.authorId, "model": found.explanationModelName, "method": found.typeName}
        label = _label(where, feature=found.index, text=found.description, **said)
        yield Sourced(label, f"{found.modelId}/{found.layer}")


def _delphi(paths: Iterable[Path]) -> Iterator[Sourced]:
    for path in paths:
        named = delphi.NAME.fullmatch(path.name)
        if named is None:
            continue
        if path.stat().st_size > MOST_LINE:
            raise BadLabels(f"{path} has {path.stat().st_size:,} bytes; an explanation has at most {MOST_LINE:,}")
        text = _parsed(path.read_bytes(), str(path))
        if not isinstance(text, str):
            raise BadLabels(f"{path}: an explanation of delphi's is a JSON string, and not {type(text).__name__}")
        if text.strip():
            yield Sourced(_label(str(path), feature=int(named["index"]), text=text), named["source"])


def _json(path: Path) -> Iterator[Sourced]:
    """Yield the labels of one JSON value: index → label, or a list of explanations of Neuronpedia's."""
    with _text(path) as file:
        content = file.read(MOST_JSON + 1)
    if len(content) > MOST_JSON:
        raise BadLabels(f"{path} is one JSON value of more than {MOST_JSON:,} bytes; give JSON lines or CSV")
    value = _parsed(content, str(path))
    if isinstance(value, list):
        for number, fields in enumerate(value, 1):
            yield from _explanation(fields, f"{path}, entry {number}")
    for index, text in value.items() if isinstance(value, dict) else ():
        if not (index.isascii() and index.isdecimal()) or not isinstance(text, str):
            raise BadLabels(f"{path}: {index[:40]!r} is no index of a feature, or has no text")
        yield Sourced(_label(f"{path}, {index}", feature=int(index), text=text), None)


def _csv(path: Path) -> Iterator[Sourced]:
    with _text(path) as file:
        rows = csv.DictReader(
            io.TextIOWrapper(io.BufferedReader(_Limited(file, path)), "utf-8-sig", newline=""), strict=True
        )
        try:
            index, text = _column(rows, _INDEX, path), _column(rows, _TEXT, path)
            for row in rows:
                where = f"{path}, line {rows.line_num}"
                if None in row or row[text] is None:
                    raise BadLabels(f"{where} has another number of columns than the header")
                if row[text].strip():
                    said = {name: row.get(name) or None for name in ("author", "model", "method")}
                    yield Sourced(_label(where, feature=_number(row[index], where), text=row[text], **said), None)
        except (csv.Error, UnicodeDecodeError) as exc:
            raise BadLabels(f"{path}, line {rows.line_num}: no CSV in UTF-8 ({exc})") from exc


def _column(rows: "csv.DictReader[str]", names: tuple[str, ...], path: Path) -> str:
    for name in rows.fieldnames or ():
        if name.strip().lower() in names:
            return name
    shown = ", ".join(rows.fieldnames or ())[:100]
    raise BadLabels(f"{path} has no column {' or '.join(names)}, but {shown!r}; give {_FORMS}")


def _number(text: str, where: str) -> int:
    if not (text.isascii() and text.strip().isdecimal()) or len(text) > 12:
        raise BadLabels(f"{where}: {text[:40]!r} is no index of a feature")
    return int(text)


# ------------------------------------------------------------------------------------------------------------- reading


@contextmanager
def _text(path: Path) -> Iterator[IO[bytes]]:
    """Lend a file's bytes, unpacked if they are gzip. Raises BadLabels where it is cut, damaged or no text."""
    with path.open("rb") as file:
        head = file.read(32)
        file.seek(0)
        if not head:
            raise BadLabels(f"{path} is empty (0 bytes)")
        for magic, kind in _KNOWN.items():
            if head.startswith(magic):
                raise BadLabels(f"{path} is {kind}; give {_FORMS}")
        try:
            yield cast(IO[bytes], gzip.GzipFile(fileobj=file)) if head.startswith(b"\x1f\x8b") else file
        except (EOFError, zlib.error, gzip.BadGzipFile) as exc:
            raise BadLabels(f"{path} is cut or damaged gzip ({exc}); fetch it again") from exc


def _start(lines: IO[bytes], path: Path) -> str:
    """Return the first character that is no blank. Raises BadLabels if there is none, or it is none of a text."""
    head = lines.read(4096).removeprefix(b"\xef\xbb\xbf").lstrip()
    if not head:
        raise BadLabels(f"{path} holds nothing but blanks")
    if b"\0" in head:
        raise BadLabels(f"{path} is no text; give {_FORMS}")
    return chr(head[0])


def _is_one_object(path: Path) -> bool:
    """Return whether a file that begins with a brace is one object of index → label, and not JSON lines."""
    with _text(path) as file:
        try:
            first = json.loads(file.readline(MOST_LINE))
        except ValueError:
            return True  # it goes on in the next line
    return isinstance(first, dict) and all(key.isdecimal() for key in first)


def _lines(file: IO[bytes], path: Path) -> Iterator[tuple[int, bytes]]:
    number = 0
    while line := file.readline(MOST_LINE + 1):
        number += 1
        if len(line) > MOST_LINE:
            raise BadLabels(f"{path}, line {number} has more than {MOST_LINE:,} bytes")
        if line.strip():
            yield number, line


class _Limited(io.RawIOBase):
    """A file as text readers want it; a line that does not end is refused before it fills the memory."""

    def __init__(self, file: IO[bytes], path: Path) -> None:
        self._file, self._path, self._since = file, path, 0

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        data = self._file.read(len(buffer))
        end = data.rfind(b"\n")
        self._since = self._since + len(data) if end < 0 else len(data) - end
        if self._since > MOST_LINE:
            raise BadLabels(f"{self._path} has a line of more than {MOST_LINE:,} bytes")
        buffer[: len(data)] = data
        return len(data)


def _parsed(text: bytes, where: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as exc:
        raise BadLabels(f"{where} is not JSON ({exc}): {text[:60]!r}") from exc


def _label(where: str, **fields: Any) -> ImportedLabel:
    try:
        return ImportedLabel.model_validate({**fields, "text": _one_line(fields["text"])})
    except ValidationError as exc:
        raise BadLabels(f"{where}: {_first(exc)}") from exc


def _one_line(text: str) -> str:
    """Return a text without line breaks and other control characters."""
    return " ".join("".join(" " if unicodedata.category(c) == "Cc" else c for c in text).split())


def _first(exc: ValidationError) -> str:
    problem: Mapping[str, Any] = exc.errors()[0]
    return f"{'.'.join(map(str, problem['loc']))}: {problem['msg']}"
