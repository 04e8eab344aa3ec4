"""The embedded stack: real servers, the API and the workers on this machine, under one process manager.

`Stack` runs it in a process of its own for as long as a `with` block lasts; `run_stack` runs it in this one until it is
told to end. What the parts are is in `servers`, how they are looked after in `processes`.
"""

import contextlib
import multiprocessing
import os
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import Self, TextIO
from uuid import uuid4

import httpx

from schema.errors import DatabaseUnavailable, GlossariumError, StackError, Unauthorized
from schema.keys import KeySpec, make_credentials, parse_key
from schema.settings import Settings
from schema.store import database, keys, leases
from service.folder import DataFolder, StackState, choose_port
from service.processes import LogFiles, Supervisor
from service.servers import DATABASE, QUIET, Ports, compose

READY_WITHIN_S = 120.0
_STOP_WITHIN_S = 35.0


def run_stack(data: Path, ports: Ports = Ports(), *, screen: TextIO | None = None, tether: int | None = None) -> None:
    """Start the stack and return when it was ended by SIGINT or SIGTERM. To be called in the main thread.

    tether: the descriptor of a pipe whose end means that whoever wanted the stack is gone.

    Raises: StackError if it can't start or a server that it can't do without ends; StorageFull.
    """
    multiprocessing.set_start_method("fork", force=True)  # no threads yet, and what is loaded is shared
    folder = DataFolder(data)
    folder.prepare()
    with folder.held(), _cleared(folder):
        settings = Settings()
        state = _place(folder, ports, settings)
        supervisor = Supervisor(LogFiles(folder.logs, screen, quiet=QUIET))
        for command in compose(state, folder, settings):
            supervisor.add(command)
        if tether is not None:
            supervisor.tether(tether)
        supervisor.run(lambda: _bring_up(supervisor, state, folder, settings))
    if supervisor.failure is not None:
        raise StackError(f"{supervisor.failure} (its log is in {folder.logs})")


class Stack:
    """A stack in a process of its own, ended at the end of the `with` block or when this process dies.

    Raises: StackError if it can't start.
    """

    def __init__(self, data: Path, ports: Ports = Ports(), *, environment: Mapping[str, str] | None = None) -> None:
        self._folder = DataFolder(data)
        self._ports = ports
        self._environment = environment
        self._process: subprocess.Popen[bytes] | None = None
        self._state: StackState | None = None

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.stop()

    @property
    def state(self) -> StackState:
        """Return where the parts are."""
        if self._state is None:
            raise StackError("the stack is not up")
        return self._state

    @property
    def api_url(self) -> str:
        """Return the URL of the API."""
        return self.state.api_url

    @property
    def key(self) -> str:
        """Return an API key that may do everything."""
        return self._folder.key() or ""

    @property
    def pid(self) -> int:
        """Return the process id of the supervisor."""
        return self.state.pid

    def start(self) -> None:
        """Start the stack and wait until its API answers."""
        self._folder.prepare()
        output = self._folder.logs / f"stack.{os.getpid()}.err"
        argv = [sys.executable, "-m", "service.stack", str(self._folder.path)]
        argv += ["" if port is None else str(port) for port in self._ports]
        with output.open("wb") as errors:
            self._process = subprocess.Popen(
                argv,
                stdin=subprocess.PIPE,
                stdout=errors,
                stderr=errors,
                env=self._environment,
                start_new_session=True,
            )
        try:
            self._state = self._wait_until_ready(self._process, output)
        except BaseException:
            self.stop()
            raise
        finally:
            output.unlink(missing_ok=True)

    def stop(self) -> None:
        """End the stack: politely, then not."""
        process, self._process, self._state = self._process, None, None
        if process is None:
            return
        process.terminate()
        try:
            process.wait(_STOP_WITHIN_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        if process.stdin is not None:
            process.stdin.close()

    def _wait_until_ready(self, process: subprocess.Popen[bytes], output: Path) -> StackState:
        while process.poll() is None:
            state = self._folder.read_state()
            if state is not None and state.pid == process.pid:
                return state
            time.sleep(0.1)
        lines = output.read_text(encoding="utf-8", errors="replace").strip().splitlines()
        raise StackError(lines[-1].removeprefix("error: ") if lines else f"the stack ended with {process.returncode}")


@contextlib.contextmanager
def _cleared(folder: DataFolder) -> Iterator[None]:
    """See that nobody is sent to a stack that is not up."""
    folder.clear_state()
    try:
        yield
    finally:
        folder.clear_state()


def _place(folder: DataFolder, ports: Ports, settings: Settings) -> StackState:
    """Return where each part will listen: as the environment says, as asked for, or at a free port."""
    given = settings.model_fields_set
    secret = folder.secret()

    def url(field: str, name: str, wanted: int | None, form: str) -> str:
        return str(getattr(settings, field)) if field in given else form.format(port=choose_port(name, wanted))

    return StackState(
        pid=os.getpid(),
        api_url=f"http://127.0.0.1:{choose_port('api', ports.api)}",
        database_url=url(
            "database_url", "postgres", ports.postgres, f"postgresql://postgres:{secret}@127.0.0.1:{{port}}/{DATABASE}"
        ),
        redis_url=url("redis_url", "valkey", ports.valkey, f"redis://:{secret}@127.0.0.1:{{port}}/0"),
        llm_base_url=url("llm_base_url", "llm", ports.llm, "http://127.0.0.1:{port}/v1"),
        embeddings_base_url=url("embeddings_base_url", "embeddings", ports.embeddings, "http://127.0.0.1:{port}/v1"),
        started_at=datetime.now(UTC),
    )


def _bring_up(supervisor: Supervisor, state: StackState, folder: DataFolder, settings: Settings) -> None:
    """Make the database ready, let the rest start, and tell where it is. Runs beside the supervisor."""
    try:
        if "database_url" not in settings.model_fields_set:
            _make_database(supervisor, state.database_url)
        applied = database.migrate(state.database_url)
        supervisor.say(f"database ready, {len(applied)} migrations applied")
        if "database_url" not in settings.model_fields_set:
            _resume(supervisor, state.database_url)
        _make_key(state.database_url, folder)
        supervisor.open_gate()
        _wait_for_api(supervisor, state.api_url)
    except GlossariumError as exc:
        supervisor.fail(str(exc))
    except Exception as exc:  # a thread has no caller: unsaid, the stack would wait for ever
        supervisor.fail(f"{type(exc).__name__}: {exc}")
    else:
        folder.write_state(state)
        supervisor.say(f"ready: {state.api_url} (`glossarium open` signs you in); data and logs in {folder.path}")


def _make_database(supervisor: Supervisor, url: str) -> None:
    """Wait for the embedded Postgres and make our database in it if it is not there."""
    maintenance = url.rsplit("/", 1)[0] + "/postgres"
    with _connect_patiently(supervisor, maintenance) as connection:
        if connection.execute("SELECT 1 FROM pg_database WHERE datname = %s", (DATABASE,)).fetchone() is None:
            connection.execute(f"CREATE DATABASE {DATABASE}")


def _resume(supervisor: Supervisor, url: str) -> None:
    """Let work that the last stack left in hand begin again now, not when its leases run out."""
    with database.connect(url) as connection:
        released = leases.release_all(connection)
    if released:
        supervisor.say(f"{released} jobs that were in hand begin again")


def _make_key(url: str, folder: DataFolder) -> None:
    """See that the folder holds an API key that the database knows: a new one the first time, or where that is over."""
    with database.connect(url) as connection:
        if not _is_valid(connection, folder.key()):
            credentials = make_credentials(uuid4())
            spec = KeySpec(name=f"stack on {folder.path}"[-200:], scope="admin")
            keys.create(connection, keys.tenant(connection, "default"), spec, credentials)
            folder.keep_key(credentials.text)


def _is_valid(connection: database.Connection, text: str | None) -> bool:
    try:
        credentials = parse_key(text or "")
    except Unauthorized:
        return False
    stored = keys.find(connection, credentials.id)
    return stored is not None and credentials.fits(stored.secret_sha256) and stored.key.revoked_at is None


def _connect_patiently(supervisor: Supervisor, url: str) -> database.Connection:
    deadline = time.monotonic() + READY_WITHIN_S  # recovery after a crash may take a while
    while True:
        try:
            return database.connect(url, autocommit=True)
        except DatabaseUnavailable:
            if supervisor.stopping or time.monotonic() > deadline:
                raise
            time.sleep(0.1)


def _wait_for_api(supervisor: Supervisor, url: str) -> None:
    deadline = time.monotonic() + READY_WITHIN_S
    while not supervisor.stopping:
        with contextlib.suppress(httpx.TransportError):
            if httpx.get(f"{url}/ready", timeout=5.0).is_success:
                return
        if time.monotonic() > deadline:
            raise StackError(f"the API did not answer within {READY_WITHIN_S:.0f} s")
        time.sleep(0.1)
    raise StackError("ended before it was up")


def _main(arguments: list[str]) -> int:
    data, *ports = arguments
    try:
        run_stack(Path(data), Ports(*(int(port) if port else None for port in ports)), tether=sys.stdin.fileno())
    except GlossariumError as exc:
        sys.stderr.write(f"error: {exc}\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(_main(sys.argv[1:]))
