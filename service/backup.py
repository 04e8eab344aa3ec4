"""Backups of an embedded stack: one file with the database as of one moment, the blobs it refers to, and the secret.

The file is a tar: `manifest.json` first, then `secret`, `key` (the stack's own API key, which the database knows),
`database.dump` (of pg_dump) and `blobs/<sha256>`.
"""

import contextlib
import errno
import hashlib
import io
import os
import shutil
import signal
import subprocess
import tarfile
import tempfile
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import IO

import psycopg
from psycopg.conninfo import conninfo_to_dict
from pydantic import ValidationError

from schema.blobs import Blobs, open_blobs
from schema.errors import BadBackup, Conflict, DatabaseUnavailable, NotFound, StackError, StorageFull
from schema.records import Digest, Record
from schema.release import release
from schema.settings import Settings
from schema.store import database, references
from service.folder import DataFolder, choose_port
from service.processes import identity
from service.servers import DATABASE, postgres, postgres_binaries

FORMAT = 1
_READY_WITHIN_S = 120.0
_STOP_WITHIN_S = 60.0
_CHUNK = 1 << 20

Say = Callable[[str], None]


class Manifest(Record):
    """What a backup holds."""

    format: int
    glossarium: str
    postgres: int
    created_at: datetime
    migrations: tuple[str, ...]
    dump_sha256: Digest
    blobs: tuple[Digest, ...]
    missing: tuple[Digest, ...] = ()


# ----------------------------------------------------------------------------------------------------------- to a file


def back_up(folder: DataFolder, file: Path, settings: Settings, say: Say = lambda text: None) -> Manifest:
    """Write a backup of the stack that runs on a folder; it may go on with its work meanwhile.

    Raises: Conflict if the file exists; StackError if no stack with a database of its own runs there; StorageFull.
    """
    state = folder.read_state()
    if state is None or not (folder.postgres / "PG_VERSION").exists():
        raise StackError(
            f"no stack with a database of its own is up on {folder.path}; start it with `glossarium up`, or see "
            "docs/backup.md for a database of yours"
        )
    if file.exists():
        raise Conflict(f"{file} exists; name another file")
    blobs = open_blobs(settings.model_copy(update={"data_dir": folder.path}))
    with _disk(file.parent), tempfile.TemporaryDirectory(prefix=f".{file.name}.", dir=file.parent) as scratch:
        dump, whole = Path(scratch) / "database.dump", Path(scratch) / "whole"
        manifest = _dump(state.database_url, dump, blobs)
        _pack(manifest, dump, folder, blobs, whole)
        whole.replace(file)
    for sha256 in manifest.missing:
        say(f"blob {sha256} was missing already, and is not in the backup")
    return manifest


def _dump(url: str, dump: Path, blobs: Blobs) -> Manifest:
    """Dump the database as of one moment, and return what was there then.

    Blobs never change, and are not removed while a row refers to them: they are read after that moment.
    """
    with database.connect(url) as connection:
        connection.execute("SET idle_in_transaction_session_timeout = 0")
        connection.commit()
        connection.isolation_level = psycopg.IsolationLevel.REPEATABLE_READ
        row = connection.execute("SELECT pg_export_snapshot(), current_setting('server_version_num')::int").fetchone()
        assert row is not None
        snapshot, version = row
        referenced = references.all_blobs(connection)
        migrations = sorted(database.applied_migrations(connection))
        _run("pg_dump", url, "--format=custom", "--no-owner", f"--snapshot={snapshot}", f"--file={dump}")
    present = [sha256 for sha256 in referenced if blobs.exists(sha256)]
    with dump.open("rb") as source:
        digest = hashlib.file_digest(source, "sha256").hexdigest()
    return Manifest(
        format=FORMAT,
        glossarium=release(),
        postgres=version // 10_000,
        created_at=datetime.now(UTC),
        migrations=tuple(migrations),
        dump_sha256=digest,
        blobs=tuple(present),
        missing=tuple(sorted(set(referenced) - set(present))),
    )


def _pack(manifest: Manifest, dump: Path, folder: DataFolder, blobs: Blobs, whole: Path) -> None:
    """Write the file itself, which only its owner may read: it holds everything."""
    descriptor = os.open(whole, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "wb") as target:
        with tarfile.open(fileobj=target, mode="w", format=tarfile.PAX_FORMAT) as tar:
            _add(tar, "manifest.json", manifest.model_dump_json(indent=2).encode())
            _add(tar, "secret", folder.secret().encode())
            _add(tar, "key", (folder.key() or "").encode())
            tar.add(dump, "database.dump")
            for sha256 in manifest.blobs:
                tar.add(blobs.path(sha256), f"blobs/{sha256}")
        target.flush()
        os.fsync(target.fileno())


def _add(tar: tarfile.TarFile, name: str, content: bytes) -> None:
    entry = tarfile.TarInfo(name)
    entry.size, entry.mode = len(content), 0o600
    tar.addfile(entry, io.BytesIO(content))


# --------------------------------------------------------------------------------------------------------- from a file


def restore(file: Path, folder: DataFolder) -> Manifest:
    """Make a data folder of a backup, and bring its database up to date. Nothing is left of what fails.

    Raises: BadBackup if the file is damaged or of a later Glossarium; Conflict if the folder holds anything;
    StorageFull.
    """
    if folder.path.exists() and (not folder.path.is_dir() or any(folder.path.iterdir())):
        raise Conflict(f"{folder.path} is not empty; name another folder with --data")
    unfinished = DataFolder(folder.path.with_name(f"{folder.path.name}.unfinished"))
    shutil.rmtree(unfinished.path, ignore_errors=True)
    try:
        with _disk(folder.path.parent), _opened(file) as tar:
            manifest = _read_manifest(tar, file)
            unfinished.prepare()
            dump = _unpack(tar, manifest, unfinished)
            _load(dump, unfinished)
            dump.unlink()
        with contextlib.suppress(FileNotFoundError):
            folder.path.rmdir()
        unfinished.path.rename(folder.path)
    except BaseException:
        shutil.rmtree(unfinished.path, ignore_errors=True)
        raise
    return manifest


@contextlib.contextmanager
def _opened(file: Path) -> Iterator[tarfile.TarFile]:
    try:
        with tarfile.open(file, mode="r:") as tar:
            yield tar
    except FileNotFoundError as exc:
        raise NotFound(f"no file {file}") from exc
    except (tarfile.TarError, EOFError) as exc:
        raise BadBackup(f"{file} is no whole backup: {exc}") from exc


def _read_manifest(tar: tarfile.TarFile, file: Path) -> Manifest:
    entry = tar.next()
    if entry is None or entry.name != "manifest.json":
        raise BadBackup(f"{file} is no backup of Glossarium: it does not begin with manifest.json")
    try:
        manifest = Manifest.model_validate_json(_content(tar, entry).read())
    except ValidationError as exc:
        raise BadBackup(f"{file} has a manifest that this Glossarium ({release()}) can't read: {exc}") from exc
    unknown = sorted(set(manifest.migrations) - set(database.known_migrations()))
    if manifest.format != FORMAT or unknown:
        what = ", ".join(unknown) or f"format {manifest.format}"
        raise BadBackup(
            f"{file} was made by Glossarium {manifest.glossarium} and has {what}, which this one ({release()}) does "
            "not know; install that version"
        )
    return manifest


def _unpack(tar: tarfile.TarFile, manifest: Manifest, folder: DataFolder) -> Path:
    """Put secret, key and blobs in their places, and return the dump. Every byte is checked against its digest."""
    dump = folder.path / "database.dump"
    blobs = Blobs((folder.path / "blobs").as_uri(), folder.path / "blobs")
    found: set[str] = set()
    while (entry := tar.next()) is not None:
        content = _content(tar, entry)
        if entry.name == "secret":
            folder.keep_secret(content.read(1000).decode("ascii"))
        elif entry.name == "key":
            folder.keep_key(content.read(1000).decode("ascii"))
        elif entry.name == "database.dump":
            with dump.open("xb") as target:
                shutil.copyfileobj(content, target, _CHUNK)
            with dump.open("rb") as source:
                found.add(hashlib.file_digest(source, "sha256").hexdigest())
        elif entry.name.startswith("blobs/"):
            found.add(blobs.put_stream(iter(partial(content.read, _CHUNK), b""), entry.size).sha256)
    absent = sorted({manifest.dump_sha256, *manifest.blobs} - found)
    if absent:
        raise BadBackup(f"the backup is damaged or cut: {len(absent)} of its parts are not there, {absent[0]} first")
    return dump


def _content(tar: tarfile.TarFile, entry: tarfile.TarInfo) -> IO[bytes]:
    content = tar.extractfile(entry)
    if content is None:
        raise BadBackup(f"the backup holds {entry.name!r}, which is no file")
    return content


def _load(dump: Path, folder: DataFolder) -> None:
    """Make a cluster in a folder, load a dump into it and apply the migrations that came since."""
    with _running_postgres(folder) as url:
        maintenance = url.rsplit("/", 1)[0] + "/postgres"
        with database.connect(maintenance, autocommit=True) as connection:
            connection.execute(f"CREATE DATABASE {DATABASE}")
        _run("pg_restore", url, "--exit-on-error", "--no-owner", "--single-transaction", f"--dbname={DATABASE}", dump)
        database.migrate(url)
        with database.connect(url, autocommit=True) as connection:
            connection.execute("ANALYZE")


@contextlib.contextmanager
def _running_postgres(folder: DataFolder) -> Iterator[str]:
    """Run a folder's Postgres for as long as the `with` block lasts; yields the URL of our database in it."""
    port = choose_port("postgres")
    command = postgres(folder, port, dict(os.environ))
    url = f"postgresql://postgres:{folder.secret()}@127.0.0.1:{port}/{DATABASE}"
    with (folder.logs / "restore.log").open("wb") as log:
        process = subprocess.Popen(
            command.argv, stdin=subprocess.DEVNULL, stdout=log, stderr=log, cwd="/", **identity(command.user)
        )
    try:
        _wait_for(url.rsplit("/", 1)[0] + "/postgres", process)
        yield url
    finally:
        process.send_signal(signal.SIGINT)
        try:
            process.wait(_STOP_WITHIN_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _wait_for(url: str, process: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + _READY_WITHIN_S
    while True:
        try:
            database.connect(url).close()
        except DatabaseUnavailable:
            if process.poll() is not None or time.monotonic() > deadline:
                raise
            time.sleep(0.1)
        else:
            return


def _run(program: str, url: str, *arguments: object) -> None:
    """Run one of Postgres' programs on a database; its password goes through the environment, where nobody sees it."""
    parts = conninfo_to_dict(url)
    names = {"host": "PGHOST", "port": "PGPORT", "user": "PGUSER", "password": "PGPASSWORD", "dbname": "PGDATABASE"}
    where = {variable: str(parts[name]) for name, variable in names.items() if parts.get(name)}
    argv = [str(postgres_binaries() / program), "--no-password", *map(str, arguments)]
    done = subprocess.run(argv, env={**os.environ, **where}, capture_output=True, text=True, check=False)
    if done.returncode:
        if "No space left" in done.stderr:
            raise StorageFull(f"the disk is full: {done.stderr.strip()[-300:]}")
        raise StackError(f"{program} failed: {done.stderr.strip()[-500:]}")


@contextlib.contextmanager
def _disk(folder: Path) -> Iterator[None]:
    try:
        yield
    except OSError as exc:
        if exc.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise StackError(f"{exc.filename or folder}: {exc.strerror or exc}") from exc
        raise StorageFull(f"the disk that holds {folder} is full; free some space and try again") from exc
