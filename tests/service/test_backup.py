"""Backups are restored, and everything is as it was: every table, row for row, and every blob."""

import io
import os
import subprocess
import sys
import tarfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import psycopg
import pytest
from psycopg.sql import SQL, Identifier

from schema.blobs import open_blobs
from schema.errors import BadBackup, Conflict, GlossariumError, NotFound, StackError
from schema.schedules import ScheduleSpec
from schema.settings import Settings
from schema.store import database, references
from service.backup import Manifest, back_up, restore
from service.client import Client
from service.folder import DataFolder
from service.servers import postgres_binaries
from service.stack import Stack
from tests.llm_server import LLMServer
from tests.tiny import make_subject, planted_dictionary, tiny_corpus

Tables = dict[str, list[str]]

_TABLES = "SELECT tablename FROM pg_tables WHERE schemaname = 'public' AND tablename <> 'process' ORDER BY 1"


def tables(url: str) -> Tables:
    """Return every row of every table as text, in order; not what processes say of themselves while they run."""
    with database.connect(url) as connection:
        names = [name for (name,) in connection.execute(_TABLES)]
        return {
            name: sorted(row[0] for row in connection.execute(SQL("SELECT t::text FROM {} t").format(Identifier(name))))
            for name in names
        }


def blob_bytes(settings: Settings, url: str) -> dict[str, bytes]:
    """Return the bytes of every blob that a row refers to."""
    with database.connect(url) as connection:
        return {sha256: open_blobs(settings).path(sha256).read_bytes() for sha256 in references.all_blobs(connection)}


class Kept(NamedTuple):
    """What a stack held when it was backed up."""

    folder: DataFolder
    file: Path
    manifest: Manifest
    tables: Tables
    blobs: dict[str, bytes]
    environment: dict[str, str]


@pytest.fixture(scope="module")
def kept(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Kept]:
    """Yield a stack's backup, made while it was up: weights, a corpus, a run with its artifacts, a schedule."""
    path = tmp_path_factory.mktemp("backup")
    subject = make_subject(path / "subject")
    planted = planted_dictionary(path / "planted", subject)
    corpus = path / "corpus.jsonl"
    corpus.write_text("".join(f'{{"text": "{text}"}}\n' for text in tiny_corpus(20)))
    with LLMServer() as llm:
        environment = {
            **os.environ,
            "LLM_BASE_URL": llm.base_url,
            "EMBEDDINGS_BASE_URL": llm.base_url,
            "GLOSSARIUM_SUBJECTS_ALLOWED": f'["{subject}"]',
        }
        folder, file = DataFolder(path / "data"), path / "backup.tar"
        with Stack(folder.path, environment=environment) as stack:
            _fill(stack, planted.spec, planted.weights, corpus)
            manifest = back_up(folder, file, Settings())
            url = stack.state.database_url
            yield Kept(folder, file, manifest, tables(url), blob_bytes(_of(folder), url), environment)


def _of(folder: DataFolder) -> Settings:
    return Settings(data_dir=folder.path)


def _fill(stack: Stack, spec: object, weights: Path, corpus: Path) -> None:
    """Make a row in most tables, through the API, and let the workers go idle."""
    with Client(stack.api_url, key=stack.key) as client:
        dictionary = client.submit_dictionary(spec)  # type: ignore[arg-type]
        client.upload_weights(dictionary.id, weights)
        run = {
            "dictionary_id": str(dictionary.id),
            "features": "0-1",
            "methods": ["lexical"],
            "evaluations": ["output"],
            "corpus": str(client.upload_corpus(corpus).id),
            "llm": "none",
            "options": {"pool_size": 3, "n_steered_tokens": 4, "n_steered_prompts": 1, "context_length": 32},
        }
        asked = ScheduleSpec.model_validate({"name": "nightly", "run": run, "cron": "0 0 29 2 *"})
        client.create_schedule(asked, "key")
        submitted = client.submit_run(asked.run)
        while client.run(submitted.id).state in ("queued", "running"):
            pass
        assert client.run(submitted.id).state == "done"
    with database.connect(stack.state.database_url, autocommit=True) as connection:
        while connection.execute("SELECT 1 FROM search_queue").fetchone():
            time.sleep(0.2)


@pytest.mark.timeout(400)
def test_a_restored_stack_is_what_it_was_table_by_table_and_blob_by_blob(kept: Kept, tmp_path: Path) -> None:
    assert {name for name, rows in kept.tables.items() if rows} >= {
        *("dictionary", "corpus", "feature", "run", "job", "artifact", "evidence", "description", "label", "schedule"),
        *("run_report", "idempotency", "provenance", "_yoyo_migration"),
    }
    assert set(kept.manifest.blobs) == set(kept.blobs)
    assert len(kept.blobs) >= 3
    assert kept.file.stat().st_mode & 0o777 == 0o600
    folder = DataFolder(tmp_path / "elsewhere" / "data")
    assert restore(kept.file, folder) == kept.manifest
    assert folder.secret() == kept.folder.secret()
    assert [path.name for path in folder.path.parent.iterdir()] == ["data"]
    with Stack(folder.path, environment=kept.environment) as stack:
        assert tables(stack.state.database_url) == kept.tables
        assert blob_bytes(_of(folder), stack.state.database_url) == kept.blobs
        with Client(stack.api_url, key=stack.key) as client:
            assert [schedule.spec.name for schedule in client.schedules()] == ["nightly"]


@pytest.mark.timeout(400)
def test_the_commands_make_and_restore_a_backup(kept: Kept, tmp_path: Path) -> None:
    def glossarium(*arguments: object) -> subprocess.CompletedProcess[str]:
        argv = [sys.executable, "-m", "service.cli", *map(str, arguments)]
        return subprocess.run(argv, env=kept.environment, capture_output=True, text=True, timeout=300, check=False)

    file, data = tmp_path / "again.tar", tmp_path / "data"
    made = glossarium("backup", file, "--data", kept.folder.path)
    assert made.returncode == 0, made.stderr
    assert f"{len(kept.blobs)} blobs" in made.stdout
    again = glossarium("backup", file, "--data", kept.folder.path)
    assert (again.returncode, "exists; name another file" in again.stderr) == (1, True)
    back = glossarium("restore", file, "--data", data)
    assert back.returncode == 0, back.stderr
    assert "glossarium up --data" in back.stdout
    full = glossarium("restore", file, "--data", data)
    assert (full.returncode, "is not empty" in full.stderr) == (1, True)


@pytest.mark.timeout(300)
def test_a_deployed_one_is_kept_by_pg_dump_and_a_copy_of_the_blobs(
    kept: Kept, postgres_url: str, database_url: str, tmp_path: Path
) -> None:
    """The commands of docs/backup.md, from the stack's database to that of another server."""
    state = kept.folder.read_state()
    assert state is not None
    dump, blobs, programs = tmp_path / "glossarium.dump", tmp_path / "data" / "blobs", postgres_binaries()
    with psycopg.connect(database_url, autocommit=True) as connection:
        connection.execute("DROP SCHEMA public CASCADE; CREATE SCHEMA public")
    for argv in (
        [programs / "pg_dump", "--format=custom", "--no-owner", f"--file={dump}", state.database_url],
        ["cp", "-r", kept.folder.path / "blobs", _made(blobs.parent)],
        [programs / "pg_restore", "--exit-on-error", "--no-owner", "--clean", "--if-exists", dump, "-d", database_url],
    ):
        subprocess.run([str(part) for part in argv], check=True, capture_output=True)
    assert tables(database_url) == kept.tables
    assert blob_bytes(Settings(data_dir=tmp_path / "data"), database_url) == kept.blobs


def _made(folder: Path) -> Path:
    folder.mkdir(parents=True)
    return folder


def rewritten(kept: Kept, file: Path, **changed: bytes | None) -> Path:
    """Write a copy of the backup in which some parts are others, or missing."""
    names = {name.replace("__", "/").replace("_dot_", "."): content for name, content in changed.items()}
    with tarfile.open(kept.file) as source, tarfile.open(file, "w") as target:
        for entry in source:
            content = source.extractfile(entry)
            assert content is not None
            data = names.get(entry.name, content.read())
            if data is not None:
                entry.size = len(data)
                target.addfile(entry, io.BytesIO(data))
    return file


def refused(file: Path, folder: Path) -> GlossariumError:
    """Return why a file is not restored, after a look at what is left: nothing."""
    with pytest.raises(GlossariumError) as caught:
        restore(file, DataFolder(folder))
    assert not folder.exists()
    assert not folder.with_name(f"{folder.name}.unfinished").exists()
    return caught.value


def test_what_is_no_whole_backup_is_refused_and_leaves_nothing(kept: Kept, tmp_path: Path) -> None:
    data, cut, other = tmp_path / "data", tmp_path / "cut.tar", tmp_path / "other.tar"
    whole = kept.file.read_bytes()
    for n_bytes in (0, 100, 3000, len(whole) // 2):
        cut.write_bytes(whole[:n_bytes])
        assert isinstance(refused(cut, data), BadBackup)
    other.write_bytes(b"PK" + whole[2:])
    assert isinstance(refused(other, data), BadBackup)
    assert isinstance(refused(tmp_path / "none.tar", data), NotFound)
    damaged = bytes(1000) + next(iter(kept.blobs.values()))
    spoilt = rewritten(kept, tmp_path / "spoilt.tar", **{f"blobs__{kept.manifest.blobs[0]}": damaged})
    assert "1 of its parts are not there" in str(refused(spoilt, data))
    bare = rewritten(kept, tmp_path / "bare.tar", database_dot_dump=None)
    assert isinstance(refused(bare, data), BadBackup)


def test_a_backup_of_a_later_glossarium_is_refused_by_name(kept: Kept, tmp_path: Path) -> None:
    later = kept.manifest.model_copy(
        update={"migrations": (*kept.manifest.migrations, "9999.later"), "glossarium": "9"}
    )
    file = rewritten(kept, tmp_path / "later.tar", manifest_dot_json=later.model_dump_json().encode())
    said = refused(file, tmp_path / "data")
    assert isinstance(said, BadBackup)
    assert "made by Glossarium 9 and has 9999.later" in str(said)


def test_a_folder_with_anything_in_it_is_left_alone(kept: Kept, tmp_path: Path) -> None:
    (tmp_path / "mine").write_text("mine")
    with pytest.raises(Conflict, match="is not empty"):
        restore(kept.file, DataFolder(tmp_path))
    assert [path.name for path in tmp_path.iterdir()] == ["mine"]


def test_without_a_stack_there_is_nothing_to_back_up(tmp_path: Path) -> None:
    with pytest.raises(StackError, match="no stack with a database of its own is up"):
        back_up(DataFolder(tmp_path / "data"), tmp_path / "file", Settings())
    assert list(tmp_path.iterdir()) == []


def test_a_blob_that_is_missing_already_is_named_and_the_rest_is_kept(kept: Kept, tmp_path: Path) -> None:
    sha256 = kept.manifest.blobs[0]
    path = open_blobs(_of(kept.folder)).path(sha256)
    hidden, said = tmp_path / "hidden", list[str]()
    path.rename(hidden)
    try:
        made = back_up(kept.folder, tmp_path / "file", Settings(), said.append)
    finally:
        hidden.rename(path)
    assert made.missing == (sha256,)
    assert set(made.blobs) == set(kept.blobs) - {sha256}
    assert sha256 in said[0]
