"""Keeps secrets out of logs: a processor that every line goes through last, whoever wrote it.

Two things are taken out: what is known to be secret here (keys and passwords of the settings and the LLM profiles),
and what looks like a secret (bearer tokens, keys and passwords behind their name, passwords in URLs), as servers repeat
it in their messages.
"""

import re
from collections.abc import Iterable, Mapping, MutableMapping
from contextlib import suppress
from typing import Any
from urllib.parse import unquote, urlsplit

from pydantic import SecretStr

from schema.errors import Unavailable
from schema.profiles import profiles
from schema.settings import Settings

REDACTED = "[redacted]"
_KNOWN_FROM = 12
"""Characters of a secret that is looked for as such; a shorter one may be a word."""

_NAME = (
    r"api[_-]?key|secret|passw(?:or)?d|passphrase|authorization|cookie|"
    r"(?:access|auth|refresh|api|bearer|metrics)[_-]?token"
)
_SECRET_FIELD = re.compile(rf"(?:^|[_-])(?:{_NAME}|token|key)$", re.IGNORECASE)
_PATTERNS = (
    (re.compile(r"(?P<kept>\b[a-z][a-z0-9+.-]*://[^\s:/@\"']*:)[^\s/\"']+@", re.IGNORECASE), rf"\g<kept>{REDACTED}@"),
    (re.compile(r"(?P<kept>\bbearer\s+)[\w.~+/=-]{6,}", re.IGNORECASE), rf"\g<kept>{REDACTED}"),
    (
        re.compile(
            rf"(?P<kept>(?:{_NAME})[\"']?\s*[=:]\s*(?:b?[\"'])?(?:basic\s+)?)(?!bearer\b)[^\s\"',;&}}\])]+",
            re.IGNORECASE,
        ),
        rf"\g<kept>{REDACTED}",
    ),
    (re.compile(r"(?P<kept>[?&](?:token|key|sig|signature)=)[^\s&\"']+", re.IGNORECASE), rf"\g<kept>{REDACTED}"),
    (re.compile(r"\bsk-[\w-]{16,}"), REDACTED),
    (re.compile(r"\bglk_[0-9a-f]{32}_[\w-]{43}"), REDACTED),
)


class Redaction:
    """A structlog processor that takes secrets out of an event, however deep they are in it."""

    def __init__(self, known: Iterable[str] = ()) -> None:
        """Name secrets that are taken out wherever they stand; those of less than 12 characters may be words."""
        longest_first = sorted({text for text in known if len(text) >= _KNOWN_FROM}, key=len, reverse=True)
        self._known = re.compile("|".join(map(re.escape, longest_first))) if longest_first else None

    def __call__(self, _logger: Any, _method: str, event: MutableMapping[str, Any]) -> Mapping[str, Any]:
        """Return an event without its secrets."""
        return {name: self._clean(name, value) for name, value in event.items()}

    def text(self, text: str) -> str:
        """Return a text without its secrets."""
        if self._known is not None:
            text = self._known.sub(REDACTED, text)
        for pattern, instead in _PATTERNS:
            text = pattern.sub(instead, text)
        return text

    def _clean(self, name: object, value: Any) -> Any:
        """Return a value without its secrets; records of the standard library's log pass as they are."""
        if isinstance(value, SecretStr) or (isinstance(name, str) and value and _SECRET_FIELD.search(name)):
            return REDACTED
        match value:
            case str():
                return self.text(value)
            case bytes():
                return self.text(value.decode("utf-8", "replace"))
            case Mapping():
                return {key: self._clean(key, item) for key, item in value.items()}
            case list() | tuple() | set() | frozenset():
                return [self._clean("", item) for item in value]
            case BaseException():
                return self.text(repr(value))
        return value


def known_secrets(settings: Settings) -> set[str]:
    """Return every key and password that this process knows of."""
    held = [settings.secret, settings.llm_api_key, settings.embeddings_api_key, settings.metrics_token]
    held += [settings.api_key] if settings.api_key else []
    found = {one.get_secret_value() for one in held}
    for url in (settings.database_url, settings.redis_url):
        password = urlsplit(url).password or ""
        found |= {password, unquote(password)}
    with suppress(Unavailable):  # a file that is broken holds no key that is used
        for profile in profiles(settings).values():
            with suppress(Unavailable):  # its variable is not set
                found.add(profile.secret.get_secret_value())
    return found
