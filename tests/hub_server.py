"""A stand-in for a Hugging Face hub on loopback: repositories of a folder, at one commit each.

No hub can be reached where the tests run. What is tested against this is our own part (references, the choice of files,
errors) and that huggingface_hub resolves and caches as it says; not that the real hub still answers like this.
"""

import hashlib
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

COMMIT = "0123456789abcdef0123456789abcdef01234567"
GATED, MOVED = "org/gated", "org/moved"


class Hub:
    """Where it listens, and the paths that were asked for."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.asked: list[str] = []
        self.url = ""

    def files(self, repository: str) -> list[str] | None:
        """Return the files of a repository, None where there is none."""
        place = self.folder / repository
        if not place.is_dir():
            return None
        return sorted(str(file.relative_to(place)) for file in place.rglob("*") if file.is_file())


@contextmanager
def serving(folder: Path) -> Iterator[Hub]:
    """Serve the repositories `ORG/NAME` of a folder."""
    hub = Hub(folder)
    server = ThreadingHTTPServer(("127.0.0.1", 0), _handler(hub))
    hub.url = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield hub
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def _handler(hub: Hub) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            self._answer(with_body=True)

        def do_HEAD(self) -> None:
            self._answer(with_body=False)

        def log_message(self, format: str, *args: Any) -> None:
            """Say nothing."""

        def _answer(self, with_body: bool) -> None:
            path = self.path.partition("?")[0]
            hub.asked.append(f"{self.command} {path}")
            if path.startswith("/api/models/"):
                self._describe(path.removeprefix("/api/models/"), with_body)
            else:
                self._file(path.removeprefix("/"), with_body)

        def _describe(self, path: str, with_body: bool) -> None:
            repository = "/".join(path.split("/")[:2])
            what, _, revision = path.removeprefix(repository).strip("/").partition("/")
            files = hub.files(repository)
            if repository == GATED:
                self._send(403, b"{}", {"X-Error-Code": "GatedRepo"}, with_body)
            elif files is None:
                self._send(401, b"{}", {"X-Error-Code": "RepoNotFound"}, with_body)
            elif revision not in ("", "main", COMMIT):
                self._send(404, b"{}", {"X-Error-Code": "RevisionNotFound"}, with_body)
            elif what == "tree":
                listed = [self._entry(repository, file) for file in files]
                self._send(200, json.dumps(listed).encode(), {}, with_body)
            else:
                said = {"id": repository, "sha": COMMIT, "siblings": [{"rfilename": file} for file in files]}
                self._send(200, json.dumps(said).encode(), {}, with_body)

        def _entry(self, repository: str, file: str) -> dict[str, Any]:
            content = (hub.folder / repository / file).read_bytes()
            return {"type": "file", "path": file, "size": len(content), "oid": hashlib.sha1(content).hexdigest()}

        def _file(self, path: str, with_body: bool) -> None:
            repository, _, rest = path.partition("/resolve/")
            file = hub.folder / repository / rest.partition("/")[2]
            if not file.is_file():
                self._send(404, b"", {"X-Error-Code": "EntryNotFound"}, with_body)
                return
            content = file.read_bytes()
            etag = hashlib.sha1(content).hexdigest()
            self._send(200, content, {"X-Repo-Commit": COMMIT, "ETag": f'"{etag}"'}, with_body)

        def _send(self, status: int, body: bytes, headers: dict[str, str], with_body: bool) -> None:
            self.send_response(status)
            for name, value in headers.items():
                self.send_header(name, value)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            if with_body:
                self.wfile.write(body)

    return Handler
