"""The data folder and its ports."""

import shutil
import socket
import stat
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import NamedTuple

import pytest

from schema.errors import StackError, StorageFull
from service.folder import DataFolder, StackState, choose_port


def test_a_file_in_the_way_is_named(tmp_path: Path) -> None:
    (tmp_path / "taken").write_text("x")
    with pytest.raises(StackError, match=r"taken can't be written \(.+\); name another with --data"):
        DataFolder(tmp_path / "taken").prepare()


def test_a_folder_that_can_not_be_made_is_named() -> None:
    with pytest.raises(StackError, match="data folder /proc/glossarium can't be written"):
        DataFolder(Path("/proc/glossarium")).prepare()


def test_a_full_disk_names_what_is_free_and_what_is_needed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Usage(NamedTuple):
        free: int

    monkeypatch.setattr(shutil, "disk_usage", lambda _: Usage(100 * 2**20))
    with pytest.raises(StorageFull, match=r"100 MiB are free for .*; a stack needs at least 1024 MiB"):
        DataFolder(tmp_path).prepare()


def test_a_second_holder_learns_who_the_first_is(tmp_path: Path) -> None:
    code = (
        "import sys; from pathlib import Path; from service.folder import DataFolder\n"
        "with DataFolder(Path(sys.argv[1])).held(): print('held', flush=True); sys.stdin.read()"
    )
    with subprocess.Popen(
        [sys.executable, "-c", code, str(tmp_path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "held\n"
        message = f"a stack with process id {holder.pid} is running on {tmp_path}; "
        with pytest.raises(StackError, match=message), DataFolder(tmp_path).held():
            pass
        holder.kill()
    with DataFolder(tmp_path).held():  # the system let go of it
        pass


def test_what_tells_where_a_stack_is_can_only_be_read_by_its_owner(tmp_path: Path) -> None:
    folder = DataFolder(tmp_path)
    state = StackState(
        pid=1, api_url="http://a", database_url="postgresql://:secret@b/c", redis_url="redis://d",
        llm_base_url="http://e", embeddings_base_url="http://f", started_at=datetime.now(UTC),
    )  # fmt: skip
    folder.write_state(state)
    assert folder.read_state() == state
    for file in (tmp_path / "stack.json", tmp_path / "secret"):
        folder.secret()
        assert stat.S_IMODE(file.stat().st_mode) == 0o600
    folder.clear_state()
    assert folder.read_state() is None


def test_the_secret_stays_the_same(tmp_path: Path) -> None:
    assert DataFolder(tmp_path).secret() == DataFolder(tmp_path).secret()
    assert len(DataFolder(tmp_path).secret()) >= 40


def test_a_busy_port_is_named() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(StackError, match=f"port {port} for api is not to be had .*--api-port"):
            choose_port("api", port)


@pytest.mark.parametrize("port", [0, -1, 65536])
def test_a_number_that_is_no_port_is_named(port: int) -> None:
    with pytest.raises(StackError, match=f"--llm-port {port}; must be 1..65535"):
        choose_port("llm", port)


def test_a_free_port_is_taken_unless_one_is_given() -> None:
    port = choose_port("api")
    assert choose_port("api", port) == port
