"""Real servers that can be hurt: Postgres that crashes, Valkey that goes away, and a wire that falls silent.

They are the embedded stack's own, with its own options, but run apart from it: a stack ends with its Postgres.
"""

import contextlib
import os
import select
import signal
import socket
import subprocess
import threading
import time

import psycopg
import redis

from schema.store import database
from service import servers
from service.folder import DataFolder, choose_port
from service.processes import Command, identity

DATABASE = "glossarium"
UP_WITHIN_S = 60.0


class Server:
    """A server process on a fixed port, which may be killed and started again."""

    def __init__(self, command: Command, port: int) -> None:
        self.port = port
        self._command = command
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start it, without waiting until it answers."""
        command = self._command
        self._process = subprocess.Popen(
            command.argv,
            env={**os.environ, **command.environment},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
            **identity(command.user),
        )

    def stop(self, number: int) -> None:
        """End it by a signal, and wait for its end."""
        process, self._process = self._process, None
        if process is not None:
            process.send_signal(number)
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(30)
            process.kill()
            process.wait()


class Postgres(Server):
    """The embedded Postgres, durable as ever, on a folder of its own."""

    def __init__(self, folder: DataFolder) -> None:
        folder.prepare()
        port = choose_port("postgres")
        super().__init__(servers.postgres(folder, port, {}), port)
        self._server_url = f"postgresql://postgres:{folder.secret()}@127.0.0.1:{port}"

    @property
    def url(self) -> str:
        """Return the URL of the database that the stack uses."""
        return f"{self._server_url}/{DATABASE}"

    def start(self) -> None:
        """Start it and wait until it answers; make the database the first time."""
        super().start()
        deadline = time.monotonic() + UP_WITHIN_S
        while True:
            try:
                with psycopg.connect(f"{self._server_url}/postgres", autocommit=True) as connection:
                    found = connection.execute("SELECT 1 FROM pg_database WHERE datname = %s", (DATABASE,)).fetchone()
                    if found is None:
                        connection.execute(f"CREATE DATABASE {DATABASE}")
                        database.migrate(self.url)
                    return
            except psycopg.OperationalError:
                assert time.monotonic() < deadline, "Postgres does not come up"
                time.sleep(0.05)

    def crash(self, down_s: float = 0.0) -> float:
        """Restart in immediate mode: SIGQUIT, no checkpoint, every connection cut, recovery at the start.

        Returns: the seconds until it answered again.
        """
        began = time.monotonic()
        self.stop(signal.SIGQUIT)
        time.sleep(down_s)
        self.start()
        return time.monotonic() - began


class Valkey(Server):
    """The embedded Valkey."""

    def __init__(self, folder: DataFolder) -> None:
        folder.prepare()
        port = choose_port("valkey")
        super().__init__(servers.valkey(folder, port, {}), port)
        self.url = f"redis://:{folder.secret()}@127.0.0.1:{port}/0"

    def start(self) -> None:
        """Start it and wait until it answers."""
        super().start()
        deadline = time.monotonic() + UP_WITHIN_S
        while True:
            try:
                self.client.ping()
                return
            except redis.ConnectionError:
                assert time.monotonic() < deadline, "Valkey does not come up"
                time.sleep(0.05)

    @property
    def client(self) -> "redis.Redis[bytes]":
        """Return a client."""
        return redis.Redis.from_url(self.url, socket_timeout=5)


class Wire:
    """A TCP proxy that can fall silent: connections stay open, new ones are accepted, and nothing comes through."""

    def __init__(self, port: int) -> None:
        self._target = port
        self._silent = threading.Event()
        self._closing = threading.Event()
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=128)
        self.port = int(self._listener.getsockname()[1])
        threading.Thread(target=self._accept, daemon=True).start()

    def silence(self) -> None:
        """Let nothing through any more."""
        self._silent.set()

    def restore(self) -> None:
        """Let everything through again; connections that were silent are cut."""
        self._silent.clear()

    def close(self) -> None:
        """Take no more connections, and end those that there are."""
        self._closing.set()
        self._listener.close()

    def _accept(self) -> None:
        while not self._closing.is_set():
            try:
                inside, _ = self._listener.accept()
            except OSError:
                return
            threading.Thread(target=self._relay, args=(inside,), daemon=True).start()

    def _relay(self, inside: socket.socket) -> None:
        was_silent = self._silent.is_set()
        with contextlib.suppress(OSError), inside, socket.create_connection(("127.0.0.1", self._target)) as outside:
            ends = {inside: outside, outside: inside}
            while not self._closing.is_set():
                if self._silent.is_set():
                    was_silent = True
                    time.sleep(0.05)
                    continue
                if was_silent:
                    return
                for ready in select.select(list(ends), [], [], 0.1)[0]:
                    chunk = ready.recv(65536)
                    if not chunk:
                        return
                    if not self._silent.is_set():
                        ends[ready].sendall(chunk)
