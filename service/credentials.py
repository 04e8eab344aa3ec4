"""Which API key a client comes with: the one it was given, that of the environment, or the embedded stack's own."""

from pathlib import Path
from urllib.parse import urlsplit

from schema.errors import Unauthorized
from schema.settings import Settings
from service.folder import DataFolder

_LOOPBACK = frozenset({"127.0.0.1", "::1", "localhost"})


def find_key(base_url: str, given: str | None = None, data: Path | None = None) -> str | None:
    """Return the key for an API, None if none is known; the embedded stack's goes to that stack alone.

    data:  the stack's data folder, `GLOSSARIUM_DATA_DIR` by default.

    Raises: Unauthorized if the key can't be sent.
    """
    settings = Settings()
    named = settings.api_key.get_secret_value() if settings.api_key else ""
    key = (given or named).strip() or _embedded(base_url, DataFolder(data or settings.data_dir))
    if key is not None and not (key.isascii() and key.isprintable()):
        raise Unauthorized("the API key has characters that no key has; give it as it was shown")
    return key


def _embedded(base_url: str, folder: DataFolder) -> str | None:
    state, asked = folder.read_state(), urlsplit(base_url)
    if state is None or asked.hostname not in _LOOPBACK or asked.port != urlsplit(state.api_url).port:
        return None
    return folder.key()
