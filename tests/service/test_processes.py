"""The supervisor, with small processes that misbehave. It takes over signals, so it runs in a process of its own."""

import json
import os
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

PREAMBLE = """
import json, multiprocessing, os, sys, threading, time
from pathlib import Path
from service import processes
from service.processes import Command, LogFiles, Supervisor

multiprocessing.set_start_method("fork")
folder = Path(sys.argv[1])
supervisor = Supervisor(LogFiles(folder, sys.stdout))


def add(name, code, **options):
    supervisor.add(Command(name, [sys.executable, "-u", "-c", code], dict(os.environ), **options))


def note(text):
    return f"open({str(folder / 'notes')!r}, 'a').write({text + chr(10)!r})"


def end(then=lambda: None):
    supervisor.run(then)
    print("failure:", supervisor.failure)
"""
WAIT = "import time; time.sleep(60)"

Scene = Callable[[str], subprocess.Popen[str]]


@pytest.fixture
def scene(tmp_path: Path) -> Iterator[Scene]:
    """Return a starter of a supervisor with given processes, in a session of its own."""
    started: list[subprocess.Popen[str]] = []

    def start(code: str) -> subprocess.Popen[str]:
        argv = [sys.executable, "-c", PREAMBLE + textwrap.dedent(code), str(tmp_path)]
        process = subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        started.append(process)
        return process

    yield start
    for process in started:
        if process.poll() is None:
            process.kill()
        process.communicate()


def output(process: subprocess.Popen[str], timeout_s: float = 60) -> str:
    return process.communicate(timeout=timeout_s)[0]


def wait_for(condition: Callable[[], object], timeout_s: float = 60) -> None:
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline, "it did not come about"
        time.sleep(0.05)


def notes(tmp_path: Path) -> list[str]:
    path = tmp_path / "notes"
    return path.read_text().split() if path.exists() else []


def test_gated_processes_start_last_and_end_first(scene: Scene, tmp_path: Path) -> None:
    said = output(
        scene(
            """
            CODE = '''
            import signal, sys, time
            def end(*_):
                {end}
                sys.exit()
            signal.signal(signal.SIGTERM, end)
            {start}
            time.sleep(60)
            '''
            for name, gated in (("server", False), ("client", True)):
                code = CODE.format(start=note(name + "-up"), end=note(name + "-down"))
                add(name, "\\n".join(line[12:] if line.startswith(" " * 12) else line for line in code.splitlines()),
                    gated=gated)

            def then():
                def lines():
                    return (folder / "notes").read_text().split() if (folder / "notes").exists() else []
                while "server-up" not in lines():
                    time.sleep(0.05)
                supervisor.open_gate()
                while "client-up" not in lines():
                    time.sleep(0.05)
                supervisor.stop()

            end(then)
            """
        )
    )
    assert "failure: None" in said
    assert notes(tmp_path) == ["server-up", "client-up", "client-down", "server-down"]


def test_a_process_that_was_killed_starts_again(scene: Scene, tmp_path: Path) -> None:
    process = scene(f'add("worker", note("up") + "; {WAIT}"); end()')
    wait_for(lambda: len(notes(tmp_path)) == 1)
    _, worker = psutil.Process(process.pid).children(recursive=True)  # who looks after it, and it
    worker.kill()
    wait_for(lambda: len(notes(tmp_path)) == 2)
    process.terminate()
    said = output(process)
    assert "worker ended with -9" in said
    assert "failure: None" in said


def test_a_process_that_never_gets_going_ends_the_stack_with_its_last_words(scene: Scene, tmp_path: Path) -> None:
    said = output(scene("processes.MAX_PAUSE_S = 0.1; add('api', 'raise SystemExit(\"no such module\")'); end()"))
    assert "failure: api ended with 1 and can't be kept up: no such module" in said
    assert (tmp_path / "api.log").read_text().splitlines() == ["no such module"] * 5


def test_the_end_of_an_essential_process_ends_all(scene: Scene) -> None:
    database = "print('disk full'); raise SystemExit(3)"
    said = output(scene(f"add('database', {database!r}, essential=True); add('other', {WAIT!r}); end()"))
    assert "failure: database ended with 3 and can't be kept up: disk full" in said


def test_a_process_that_will_not_end_is_killed_with_what_it_started(scene: Scene, tmp_path: Path) -> None:
    stubborn = (
        "import signal, subprocess, sys; signal.signal(signal.SIGTERM, signal.SIG_IGN);"
        f"p = subprocess.Popen([sys.executable, '-c', {WAIT!r}]); open(sys.argv[1] + '/pid', 'w').write(str(p.pid));"
        "p.wait()"
    ).replace("sys.argv[1]", repr(str(tmp_path)))
    process = scene(f"processes.STOP_WITHIN_S = 0.5; add('stubborn', {stubborn!r}); end()")
    wait_for(lambda: (tmp_path / "pid").exists() and (tmp_path / "pid").read_text())
    process.terminate()
    assert "failure: None" in output(process)
    wait_for(lambda: not psutil.pid_exists(int((tmp_path / "pid").read_text())))


def test_a_second_interrupt_kills(scene: Scene, tmp_path: Path) -> None:
    ignoring = "import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN);"
    process = scene(f"add('slow', {ignoring!r} + note('up') + {'; ' + WAIT!r}); end()")
    wait_for(lambda: notes(tmp_path) == ["up"])
    began = time.monotonic()
    process.send_signal(signal.SIGINT)
    time.sleep(0.5)
    process.send_signal(signal.SIGINT)
    assert "failure: None" in output(process)
    assert time.monotonic() - began < 8  # not the ten seconds that it is given


def test_nothing_outlives_a_supervisor_that_was_killed(scene: Scene, tmp_path: Path) -> None:
    process = scene(f"add('worker', note('up') + {'; ' + WAIT!r}); end()")
    wait_for(lambda: notes(tmp_path) == ["up"])
    children = psutil.Process(process.pid).children(recursive=True)
    assert len(children) == 2  # who looks after it, and it
    os.kill(process.pid, signal.SIGKILL)
    _, alive = psutil.wait_procs(children, timeout=15)
    assert not alive


def test_the_stack_ends_with_the_pipe_that_it_is_tethered_to(scene: Scene, tmp_path: Path) -> None:
    process = scene(f"supervisor.tether(0); add('worker', note('up') + {'; ' + WAIT!r}); end()")
    wait_for(lambda: notes(tmp_path) == ["up"])
    assert "failure: None" in output(process)  # communicate() closes the pipe


def test_logs_are_one_file_a_process_and_the_screen_shows_what_matters(scene: Scene, tmp_path: Path) -> None:
    code = "print('all is well'); print('ERROR this is not'); import time; time.sleep(60)"
    process = scene(
        f"""
        add("worker", {code!r})

        def then():
            while not (folder / "worker.log").exists() or "not" not in (folder / "worker.log").read_text():
                time.sleep(0.05)
            supervisor.stop()

        end(then)
        """
    )
    said = output(process)
    assert (tmp_path / "worker.log").read_text().splitlines() == ["all is well", "ERROR this is not"]
    assert "ERROR this is not" in said
    assert "all is well" not in said
    assert json.dumps(said).isascii()
