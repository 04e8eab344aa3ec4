"""The data folder of an embedded stack: who holds it, and where its servers listen. Knows nothing of processes."""

import contextlib
import fcntl
import os
import secrets
import shutil
import socket
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path

from pydantic import ValidationError

from schema.errors import StackError, StorageFull
from schema.records import Record

MIN_FREE_BYTES = 2**30
"""A new stack writes about 0.7 GB: the converted subject model and an empty database."""


class StackState(Record):
    """Where the parts of a running stack are; `data/stack.json`."""

    pid: int
    api_url: str
    database_url: str
    redis_url: str
    llm_base_url: str
    embeddings_base_url: str
    started_at: datetime


class DataFolder:
    """One folder that holds everything a stack keeps."""

    def __init__(self, path: Path) -> None:
        self.path = path.expanduser().absolute()
        self.logs = self.path / "logs"
        self.postgres = self.path / "postgres"
        self.valkey = self.path / "valkey"
        self._lock_file = self.path / "stack.lock"
        self._state_file = self.path / "stack.json"
        self._secret_file = self.path / "secret"
        self._key_file = self.path / "key"

    def prepare(self) -> None:
        """Make the folder and see that it can be written.

        Raises: StackError if it can't, StorageFull if less than 1 GiB is free.
        """
        try:
            self.logs.mkdir(parents=True, exist_ok=True)
            probe = self.path / f".writable.{os.getpid()}"
            probe.write_bytes(b"x")
            probe.unlink()
        except OSError as exc:
            raise StackError(
                f"the data folder {self.path} can't be written ({exc.strerror}); name another with --data"
            ) from exc
        free = shutil.disk_usage(self.path).free
        if free < MIN_FREE_BYTES:
            raise StorageFull(
                f"{free / 2**20:.0f} MiB are free for {self.path}; a stack needs at least "
                f"{MIN_FREE_BYTES / 2**20:.0f} MiB; make room or name another folder with --data"
            )

    @contextlib.contextmanager
    def held(self) -> Iterator[None]:
        """Hold the folder for this process; the system lets go of it when the process dies.

        Raises: StackError naming the holder if another process has it.
        """
        with self._lock_file.open("a+", encoding="ascii") as lock:
            try:
                # A record lock, unlike flock, is not inherited by the processes that we fork.
                fcntl.lockf(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError as exc:
                lock.seek(0)
                raise StackError(
                    f"a stack with process id {lock.read().strip() or 'unknown'} is running on {self.path}; "
                    "use that one, end it, or name another folder with --data"
                ) from exc
            lock.truncate(0)
            lock.write(f"{os.getpid()}\n")
            lock.flush()
            yield

    def secret(self) -> str:
        """Return the password of the embedded servers, made the first time."""
        if not self._secret_file.exists():
            _write_private(self._secret_file, secrets.token_urlsafe(32))
        return self._secret_file.read_text(encoding="ascii").strip()

    def keep_secret(self, secret: str) -> None:
        """Take over a password, before there are any servers."""
        _write_private(self._secret_file, secret)

    def key(self) -> str | None:
        """Return the stack's own API key, None before it has one or where we may not read it."""
        try:
            return self._key_file.read_text(encoding="ascii").strip()
        except (FileNotFoundError, NotADirectoryError, PermissionError):
            return None

    def keep_key(self, key: str) -> None:
        """Remember the stack's own API key, which only the owner of the folder may read."""
        _write_private(self._key_file, key + "\n")

    def write_state(self, state: StackState) -> None:
        """Tell other commands where this stack is; the file holds a password, so only its owner may read it."""
        _write_private(self._state_file, state.model_dump_json(indent=2) + "\n")

    def clear_state(self) -> None:
        """Forget where a stack was."""
        self._state_file.unlink(missing_ok=True)

    def read_state(self) -> StackState | None:
        """Return where the running stack is, or None when none is up."""
        try:
            return StackState.model_validate_json(self._state_file.read_bytes())
        except (FileNotFoundError, NotADirectoryError, PermissionError, ValidationError):
            return None


def choose_port(name: str, wanted: int | None = None) -> int:
    """Return a loopback port that is free now: the wanted one, or any.

    Raises: StackError naming the port if the wanted one is busy or not a port.
    """
    if wanted is not None and not 1 <= wanted <= 65535:
        raise StackError(f"--{name}-port {wanted}; must be 1..65535")
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", wanted or 0))
        except OSError as exc:
            raise StackError(
                f"port {wanted} for {name} is not to be had ({exc.strerror}); "
                f"end what uses it, give another --{name}-port, or none for a free one"
            ) from exc
        return int(probe.getsockname()[1])


def _write_private(path: Path, text: str) -> None:
    """Replace a file as a whole, readable by its owner only."""
    partial = path.with_name(path.name + ".partial")
    descriptor = os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "w", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    partial.replace(path)
