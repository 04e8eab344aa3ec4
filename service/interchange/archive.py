"""Archives of dictionaries: a tar of JSON lines in zstandard frames, written and read a block of features at a time.

`manifest.json`, `runs.jsonl.zst`, `features/<first>.jsonl.zst` (256 features each), `readings/<n>/<part>.jsonl.zst`
(what exemplars refer to), `weights.safetensors`, and last `end.json` with the sha256 of all of them: an archive without
its end is not whole.
"""

import hashlib
import io
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack
from functools import partial
from typing import IO, Any, NamedTuple, TypeVar

import psycopg
import zstandard
from pydantic import ValidationError

from schema.archives import (
    BLOCK,
    FORMAT,
    ArchivedContext,
    ArchivedFeature,
    ArchivedRun,
    Block,
    End,
    Manifest,
    ReadingHead,
)
from schema.blobs import Blobs, Staged
from schema.errors import BadArchive, Conflict, NotFound
from schema.packing import VERSION as PACKING
from schema.records import Dictionary, Record
from schema.release import release
from schema.store import archives, exports, unpacking
from schema.store.database import Connection
from schema.store.unpacking import Target
from service.interchange import tars

MANIFEST, RUNS, WEIGHTS, END = "manifest.json", "runs.jsonl.zst", "weights.safetensors", "end.json"
_MOST_JSON = 2**24
_MOST_MEMBER = 2**30  # compressed bytes of a block; real ones have a few millions
_MOST_LINE = 2**26
_AT_ONCE = 64  # features whose lines are in memory as records
_N_CONTEXTS = 1000
_LEVEL = 3
_CHUNK = 1 << 20

R = TypeVar("R", bound=Record)


# ------------------------------------------------------------------------------------------------------------- writing


def write_archive(connection: Connection, dictionary: Dictionary, blobs: Blobs, *, weights: bool) -> Iterator[bytes]:
    """Yield an archive of all that is known of a dictionary.

    weights:  with them; without, whoever imports it has to upload the same ones.

    Raises: Conflict unless the dictionary is ready; NotFound where its weights are gone.
    """
    if dictionary.state != "ready":
        raise Conflict(f"dictionary {dictionary.id} is {dictionary.state}; only one that is ready can be archived")
    sha256 = dictionary.weights_sha256 if weights else None
    if sha256 is not None and not blobs.exists(sha256):
        raise NotFound(f"the weights of dictionary {dictionary.id} are gone: no blob {sha256}")
    ended: dict[str, str] = {}

    def member(name: str, content: bytes) -> bytes:
        ended[name] = hashlib.sha256(content).hexdigest()
        return tars.member(name, content)

    yield member(MANIFEST, _manifest(dictionary, has_weights=sha256 is not None))
    runs = archives.runs(connection, dictionary.id)
    yield member(RUNS, _frame(run.line for run in runs))
    numbers = {run.id: number for number, run in enumerate(runs)}
    readings: dict[int, str] = {}
    for some in exports.ranges(dictionary.spec.n_features, BLOCK):
        block = archives.block(connection, dictionary.id, some, numbers)
        readings |= block.readings
        yield member(f"features/{some.lo}.jsonl.zst", _frame(block.lines))
    for place, (id_, recipe) in enumerate(sorted(readings.items(), key=lambda item: item[1])):
        head = ReadingHead(recipe=recipe).model_dump_json()
        for part, lines in enumerate(archives.contexts(connection, id_)):
            yield member(f"readings/{place}/{part}.jsonl.zst", _frame([head, *lines]))
    connection.rollback()  # the snapshot: gigabytes of weights may take longer than a transaction may be idle
    if sha256 is not None:
        with blobs.open(sha256) as file:
            yield from _stream(file)
        ended[WEIGHTS] = sha256
    yield member(END, End(members=dict(ended)).model_dump_json().encode())
    yield tars.END


def _manifest(dictionary: Dictionary, *, has_weights: bool) -> bytes:
    manifest = Manifest(
        glossarium=release(),
        spec=dictionary.spec,
        weights_sha256=dictionary.weights_sha256,
        has_weights=has_weights,
        created_at=dictionary.created_at,
    )
    return manifest.model_dump_json(indent=2).encode()


def _stream(file: IO[bytes]) -> Iterator[bytes]:
    """Yield a file as a member, without ever holding it."""
    size = file.seek(0, io.SEEK_END)
    file.seek(0)
    yield tars.header(WEIGHTS, size)
    yield from iter(partial(file.read, _CHUNK), b"")
    yield tars.padding(size)


def _frame(lines: Iterable[str]) -> bytes:
    text = "".join(f"{line}\n" for line in lines).encode("utf-8", "surrogatepass")
    return zstandard.ZstdCompressor(level=_LEVEL, write_checksum=True).compress(text)


# ------------------------------------------------------------------------------------------------------------- reading


class Import(NamedTuple):
    """What an archive is read for.

    open:     stores the dictionary that the manifest is of, and returns where the rest goes.
    weights:  looks at a staged file of weights, and raises if it does not fit the manifest's spec.
    """

    open: Callable[[Manifest], Target]
    weights: Callable[[Staged, Manifest], None]
    blobs: Blobs


def read_archive(file: IO[bytes], into: Import) -> Target:
    """Store what an archive holds, and return where. The caller's transaction is to be undone where this raises.

    Nothing of the archive becomes a path, and no more of it than a block is in memory. The weights are kept last.

    Raises: BadArchive where it is cut, damaged, of a later Glossarium or holds what none of ours does.
    """
    with ExitStack() as stack:
        reading = _Reading(into, stack)
        for member in tars.members(file, what="the archive"):
            reading.take(member)
        return reading.finish()


class _Reading:
    """How far an archive has been read."""

    def __init__(self, into: Import, stack: ExitStack) -> None:
        self._into, self._stack = into, stack
        self._found: dict[str, str] = {}
        self._manifest: Manifest | None = None
        self._target: Target | None = None
        self._staged: Staged | None = None
        self._n_features = 0
        self._has_runs = self._ended = False

    def take(self, member: tars.Member) -> None:
        """Store what a member holds."""
        name = member.name
        if self._ended or name in self._found:
            raise BadArchive(f"member={name!r} comes twice, or after the end")
        if self._manifest is None or self._target is None:
            self._begin(member)
        elif name == WEIGHTS:
            self._take_weights(member, self._manifest)
        elif name == END:
            self._end(member)
        else:
            try:
                self._found[name] = self._take_lines(member, self._manifest, self._target)
            except (psycopg.DataError, psycopg.IntegrityError) as exc:
                raise BadArchive(f"{name} can't be stored: {str(exc).partition(chr(10))[0]}") from exc

    def finish(self) -> Target:
        """Return where everything went, once all of it is known to be there."""
        manifest, target = self._manifest, self._target
        if manifest is None or target is None or not self._ended:
            raise BadArchive("the archive is not whole: it has no end")
        if self._n_features != manifest.spec.n_features or not self._has_runs:
            raise BadArchive(f"the archive has {self._n_features} of {manifest.spec.n_features} features")
        if manifest.has_weights != (self._staged is not None):
            raise BadArchive(f"the archive says has_weights={manifest.has_weights}, and that is not so")
        if self._staged is not None:
            self._into.blobs.keep(self._staged)
        return target

    def _begin(self, member: tars.Member) -> None:
        if member.name != MANIFEST:
            raise BadArchive(f"this is no archive of a dictionary: it begins with {member.name!r}, not {MANIFEST}")
        content = member.whole(_MOST_JSON)
        manifest = _parsed(Manifest, content, MANIFEST)
        if manifest.format != FORMAT or manifest.packing != PACKING:
            raise BadArchive(
                f"the archive is of Glossarium {manifest.glossarium}, format {manifest.format}, packing "
                f"{manifest.packing}; this one ({release()}) reads format {FORMAT}, packing {PACKING}"
            )
        self._found[MANIFEST] = hashlib.sha256(content).hexdigest()
        self._manifest, self._target = manifest, self._into.open(manifest)

    def _take_weights(self, member: tars.Member, manifest: Manifest) -> None:
        staged = self._stack.enter_context(self._into.blobs.staged(member.chunks(), member.size))
        if staged.sha256 != manifest.weights_sha256 or not manifest.has_weights:
            raise BadArchive(f"{WEIGHTS} has sha256 {staged.sha256} and not {manifest.weights_sha256}")
        self._into.weights(staged, manifest)
        self._staged, self._found[WEIGHTS] = staged, staged.sha256

    def _take_lines(self, member: tars.Member, manifest: Manifest, target: Target) -> str:
        """Store the lines of a member and return its sha256."""
        frame = member.whole(_MOST_MEMBER)
        lines = _lines(frame, member.name)
        folder = member.name.partition("/")[0]
        if member.name == RUNS:
            self._has_runs = True
            for line in lines:
                run = _parsed(ArchivedRun, line, RUNS)
                _checked(RUNS, run.check)
                unpacking.put_run(target, run)
        elif folder == "features" and self._has_runs:
            self._take_features(lines, member.name, manifest, target)
        elif folder == "readings":
            head = _parsed(ReadingHead, next(lines, b""), member.name)
            for some in _batches(lines, _N_CONTEXTS):
                contexts = [_parsed(ArchivedContext, line, member.name) for line in some]
                unpacking.put_contexts(target, head.recipe, contexts)
        else:
            raise BadArchive(f"member={member.name!r} is not one that an archive has in this place")
        return hashlib.sha256(frame).hexdigest()

    def _take_features(self, lines: Iterator[bytes], name: str, manifest: Manifest, target: Target) -> None:
        documents = _parsed(Block, next(lines, b""), name).provenance
        for some in _batches(lines, _AT_ONCE):
            features = [_parsed(ArchivedFeature, line, name) for line in some]
            for feature in features:
                if feature.feature != self._n_features or feature.feature >= manifest.spec.n_features:
                    raise BadArchive(f"{name}: feature {feature.feature} comes where {self._n_features} should")
                _checked(f"{name}, feature {feature.feature}", partial(feature.check, len(documents), len(target.runs)))
                self._n_features += 1
            unpacking.put_block(target, documents, features)

    def _end(self, member: tars.Member) -> None:
        said = _parsed(End, member.whole(_MOST_JSON), END).members
        if said != self._found:
            wrong = sorted(name for name in {*said, *self._found} if said.get(name) != self._found.get(name))
            raise BadArchive(f"the archive is damaged: {wrong[0]!r} is not what its end says")
        self._ended = True


def _lines(frame: bytes, name: str) -> Iterator[bytes]:
    """Yield the lines of a frame, unpacked as they are asked for."""
    try:
        with zstandard.ZstdDecompressor(max_window_size=2**27).stream_reader(frame) as reader:
            buffered = io.BufferedReader(reader)
            while line := buffered.readline(_MOST_LINE + 1):
                if len(line) > _MOST_LINE:
                    raise BadArchive(f"{name} has a line of more than {_MOST_LINE:,} bytes")
                yield line
    except zstandard.ZstdError as exc:
        raise BadArchive(f"{name} is damaged: {exc}") from exc


def _batches(lines: Iterator[bytes], size: int) -> Iterator[list[bytes]]:
    batch: list[bytes] = []
    for line in lines:
        batch.append(line)
        if len(batch) == size:
            yield batch
            batch = []
    if batch:
        yield batch


def _parsed(record: type[R], text: bytes, name: str) -> R:
    try:
        return record.model_validate_json(text)
    except ValidationError as exc:
        raise BadArchive(f"{name}: {_first(exc)}") from exc


def _checked(name: str, check: Callable[[], None]) -> None:
    try:
        check()
    except ValidationError as exc:
        raise BadArchive(f"{name}: {_first(exc)}") from exc
    except ValueError as exc:
        raise BadArchive(f"{name}: {exc}") from exc


def _first(exc: ValidationError) -> str:
    problem: Any = exc.errors()[0]
    return f"{'.'.join(map(str, problem['loc'])) or 'line'}: {problem['msg']}"
