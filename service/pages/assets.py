"""Style sheets, scripts and pictures of the pages: served under a path that changes when one of them does.

So browsers keep them for ever, and modules that import each other by relative paths are always of one age.
"""

import hashlib
from pathlib import Path

from fastapi import FastAPI
from starlette.responses import Response
from starlette.staticfiles import StaticFiles
from starlette.types import Scope

FOLDER = Path(__file__).parent.parent / "static"


def _digest(folder: Path) -> str:
    """Return what the files of a folder and their names are known by."""
    found = hashlib.sha256()
    for path in sorted(path for path in folder.rglob("*") if path.is_file()):
        found.update(f"{path.relative_to(folder)}\0".encode() + hashlib.sha256(path.read_bytes()).digest())
    return found.hexdigest()[:12]


ROOT = f"/static/{_digest(FOLDER)}"
"""Where they are."""


class _Kept(StaticFiles):
    """Files that browsers need not ask for again."""

    async def get_response(self, path: str, scope: Scope) -> Response:
        """Return a file."""
        response = await super().get_response(path, scope)
        response.headers["Cache-Control"] = "public, max-age=31536000, immutable"
        return response


def install(app: FastAPI) -> None:
    """Serve the files to anybody: there is nothing secret in them."""
    app.mount(ROOT, _Kept(directory=FOLDER), name="static")
