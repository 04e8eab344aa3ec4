"""Runs processes next to each other under honcho: in order, restarted, logged, ended. Knows not what they are."""

import contextlib
import logging
import multiprocessing
import os
import pwd
import queue
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping
from logging.handlers import RotatingFileHandler
from multiprocessing.synchronize import Event
from pathlib import Path
from types import FrameType
from typing import Any, NamedTuple, TextIO

from honcho.manager import SYSTEM_PRINTER_NAME, Manager
from honcho.printer import Message, Printer
from honcho.process import Popen, Process

STOP_WITHIN_S = 10.0
"""How long a process may take over its own end, work in hand included, before it is killed."""
QUICK_S = 20.0
"""A process that ends by itself this soon did not get going."""
MAX_QUICK_ENDS = 5
MAX_PAUSE_S = 5.0
_LOG_BYTES = 10 * 2**20
_WORTH_SEEING = re.compile(r"\b(ERROR|CRITICAL)\b", re.IGNORECASE)
_UNCOLOURED = re.compile(r"\x1b\[[0-9;]*m")


class Command(NamedTuple):
    """One process of a stack."""

    name: str
    argv: list[str]
    environment: Mapping[str, str]
    user: str | None = None
    gated: bool = False  # starts when the gate opens; ends before those that are not gated
    essential: bool = False  # the stack ends with it; others are started again
    stop_signal: int = signal.SIGTERM


class Supervised(Process):  # type: ignore[misc]  # honcho has no type information
    """A honcho process that waits for its gate, is started again, and does not outlive the supervisor.

    honcho runs this object in a process of its own, which has nothing else to do than to look after one child.
    """

    def __init__(self, command: Command, gate: Event, stop: Event, kill: Event) -> None:
        super().__init__(command.argv, name=command.name, env=dict(command.environment))
        self.command = command
        self._gate, self._stop, self._kill = gate, stop, kill
        self._last_line = ""

    def run(self, events: Any = None, ignore_signals: bool = False) -> None:
        """Look after the child until it ends for good. Sends line, start and stop messages to `events`."""
        self._events = events
        # No-op handlers rather than SIG_IGN, which the child would inherit.
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, lambda *_: None)
        code = self._live()
        self._send_message({"returncode": code, "last_line": self._last_line}, type="stop")

    def _live(self) -> int:
        code, quick_ends = 0, 0
        while self._wait_for_gate():
            began = time.monotonic()
            code = self._run_once()
            if self._stop.is_set() or self.command.essential or _orphaned():
                return code
            quick_ends = quick_ends + 1 if time.monotonic() - began < QUICK_S else 1
            # One that was killed from outside (a negative code) is not at fault, however often.
            if quick_ends >= MAX_QUICK_ENDS and code >= 0:
                return code or 1
            pause_s = min(0.25 * 2**quick_ends, MAX_PAUSE_S)
            self._tell(f"{self.name} ended with {code} ({self._last_line}); it starts again in {pause_s:.1f} s")
            if self._stop.wait(pause_s):
                return code
        return code

    def _wait_for_gate(self) -> bool:
        """Return True when the child may start, False when the stack ends before."""
        while not self._gate.wait(0.2):
            if self._stop.is_set() or _orphaned():
                return False
        return not self._stop.is_set()

    def _run_once(self) -> int:
        child = Popen(self.cmd, env=self.env, shell=False, stdin=subprocess.DEVNULL, **identity(self.command.user))
        self._send_message({"pid": child.pid}, type="start")
        reader = threading.Thread(target=self._relay, args=(child,), daemon=True)
        reader.start()
        self._wait(child)
        _signal_group(child.pid, signal.SIGKILL)  # what it may have left behind
        reader.join(timeout=1.0)
        return int(child.returncode)

    def _wait(self, child: subprocess.Popen[bytes]) -> None:
        """Wait for the end of the child; ask for it when told to, and see that it comes."""
        deadline: float | None = None
        while True:
            with contextlib.suppress(subprocess.TimeoutExpired):
                child.wait(0.2)
                return
            if deadline is None and (self._stop.is_set() or _orphaned()):
                # To the child alone: Celery's pool processes would drop their work on a signal of their own.
                child.send_signal(self.command.stop_signal)
                deadline = time.monotonic() + STOP_WITHIN_S
            if self._kill.is_set() or (deadline is not None and time.monotonic() > deadline):
                _signal_group(child.pid, signal.SIGKILL)

    def _tell(self, text: str) -> None:
        """Say something in the supervisor's name."""
        self._events.put(Message("line", text, self._clock.now(), SYSTEM_PRINTER_NAME, None))

    def _relay(self, child: subprocess.Popen[bytes]) -> None:
        if child.stdout is not None:
            for line in iter(child.stdout.readline, b""):
                self._send_message(line)
                self._last_line = line.decode("utf-8", "replace").strip()[:300] or self._last_line


class LogFiles(Printer):  # type: ignore[misc]  # honcho has no type information
    """Writes each process' lines to its own rotated file, and on screen only what a person should see."""

    def __init__(self, folder: Path, screen: TextIO | None, *, quiet: frozenset[str] = frozenset()) -> None:
        super().__init__(screen if screen is not None else sys.stderr)
        self._folder = folder
        self._screen = screen
        self._quiet = quiet
        self._files: dict[str, logging.Handler] = {}

    def write(self, message: Message) -> None:
        """File a line; show it when it is a warning, an error or the supervisor's own."""
        text = message.data.decode("utf-8", "replace") if isinstance(message.data, bytes) else message.data
        for line in text.splitlines():
            self._file(message.name).emit(_log_record(_UNCOLOURED.sub("", line)))
            if self._screen is not None and self._is_worth_seeing(message.name, line):
                super().write(message._replace(data=line))

    def _is_worth_seeing(self, name: str, line: str) -> bool:
        if name == SYSTEM_PRINTER_NAME:
            return True
        return name not in self._quiet and _WORTH_SEEING.search(line) is not None

    def _file(self, name: str) -> logging.Handler:
        if name not in self._files:
            path = self._folder / f"{'stack' if name == SYSTEM_PRINTER_NAME else name}.log"
            self._files[name] = RotatingFileHandler(path, maxBytes=_LOG_BYTES, backupCount=2, encoding="utf-8")
        return self._files[name]


class Supervisor(Manager):  # type: ignore[misc]  # honcho has no type information
    """honcho's manager with an order: servers, a gate, the rest; and at the end the other way round.

    `run` must be called in the main thread, for it takes over SIGINT and SIGTERM.
    """

    def __init__(self, printer: Printer) -> None:
        super().__init__(printer=printer)
        self._gate, self._open, self._kill = (multiprocessing.Event() for _ in range(3))
        self._open.set()
        self._commands: dict[str, Command] = {}
        self._stops: dict[str, Event] = {}
        self._stopping = threading.Event()
        self._tether: threading.Thread | None = None
        self.failure: str | None = None

    def add(self, command: Command) -> None:
        """Add a process; it starts with `run`."""
        self._commands[command.name] = command
        stop = self._stops[command.name] = multiprocessing.Event()
        gate = self._gate if command.gated else self._open
        self._process_ctor = lambda *_, **__: Supervised(command, gate, stop, self._kill)
        self.add_process(command.name, command.argv)
        self._processes[command.name]["obj"].colour = next(self._colours)

    @property
    def stopping(self) -> bool:
        """Return whether the end has begun."""
        return self._stopping.is_set()

    def run(self, then: Callable[[], None]) -> None:
        """Start everything, call `then` in a thread, and return when every process has ended."""
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, self._interrupt)
        self._start()
        # Threads only from here on: honcho has forked by now.
        threading.Thread(target=then, name="starter", daemon=True).start()
        if self._tether is not None:
            self._tether.start()
        while not self._all_stopped():
            with contextlib.suppress(queue.Empty):
                self._take(self.events.get(timeout=0.1))
            if self.stopping:
                self._wind_down()
        self._drain()

    def open_gate(self) -> None:
        """Let the gated processes start."""
        self._gate.set()

    def fail(self, reason: str) -> None:
        """End everything, and say why."""
        if not self.stopping:
            self.failure = reason
            self.say(reason)
        self.stop()

    def stop(self) -> None:
        """End everything: first the gated processes, then the servers that they lean on."""
        self._stopping.set()

    def tether(self, descriptor: int) -> None:
        """End everything when the pipe `descriptor` comes to its end: its writer is gone."""

        def watch() -> None:
            while os.read(descriptor, 1):
                pass
            self.stop()

        self._tether = threading.Thread(target=watch, name="tether", daemon=True)

    def say(self, text: str) -> None:
        """Print a line of the supervisor's own."""
        self._system_print(text + "\n")

    def _interrupt(self, number: int, _frame: FrameType | None) -> None:
        if self.stopping:
            self._kill.set()
        else:
            self.stop()

    def _take(self, message: Message) -> None:
        if message.type == "line":
            self._printer.write(message)
        elif message.type == "start":
            self._processes[message.name]["pid"] = message.data["pid"]
        elif message.type == "stop":
            code = self._processes[message.name]["returncode"] = message.data["returncode"]
            if not self.stopping:
                self.fail(f"{message.name} ended with {code} and can't be kept up: {message.data['last_line']}")

    def _wind_down(self) -> None:
        gated = [name for name, command in self._commands.items() if command.gated]
        over = all(self._processes[name].get("returncode") is not None for name in gated)
        for name in self._commands if over or self._kill.is_set() else gated:
            self._stops[name].set()

    def _drain(self) -> None:
        with contextlib.suppress(queue.Empty):
            while True:
                self._take(self.events.get(timeout=0.05))


def identity(user: str | None) -> dict[str, Any]:
    """Return what makes `subprocess` run something as a user and with that user's groups only; None changes nothing."""
    return {} if user is None else {"user": user, "group": pwd.getpwnam(user).pw_gid, "extra_groups": []}


def _orphaned() -> bool:
    """Return whether the supervisor that started this process is gone."""
    parent = multiprocessing.parent_process()
    return parent is not None and os.getppid() != parent.pid


def _signal_group(pid: int, number: int) -> None:
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(pid, number)


def _log_record(line: str) -> logging.LogRecord:
    return logging.LogRecord("", logging.INFO, "", 0, line, None, None)
