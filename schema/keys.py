"""API keys and the audit log: what travels of them, and the text of a key. Knows no database and no HTTP.

A key's text is `glk_ID_SECRET`: the id as 32 hexadecimal digits, and 256 bits at random. Only their sha256 is stored.
"""

import hashlib
import hmac
import re
import secrets
from datetime import datetime
from typing import Literal, NamedTuple
from uuid import UUID

from pydantic import Field

from schema.errors import Unauthorized
from schema.records import Record
from schema.times import Moment
from schema.wire import PageQuery

Scope = Literal["read", "submit", "admin"]
SCOPES: tuple[Scope, ...] = ("read", "submit", "admin")
"""Each may do what those before it may."""

_FORM = re.compile(r"glk_([0-9a-f]{32})_([A-Za-z0-9_-]{43})")


class KeySpec(Record):
    """A key to be made."""

    name: str = Field(min_length=1, max_length=200, description="whose it is or what it is for; shown in the audit log")
    scope: Scope = Field("read", description="`submit` may also make and change things; `admin` also sees to keys")
    expires_at: Moment | None = Field(None, description="after which it is refused; null: never")


class Key(Record):
    """A key, without its secret."""

    id: UUID
    name: str
    scope: Scope
    created_at: datetime
    expires_at: datetime | None
    revoked_at: datetime | None
    used_at: datetime | None = Field(description="when it was last seen, within a minute")


class NewKey(Key):
    """A key that was just made."""

    text: str | None = Field(description="the key itself, shown this once; null when the request came before")


class KeyPage(Record):
    """Keys, newest first."""

    items: tuple[Key, ...]
    next_cursor: str | None = None


class AuditEntry(Record):
    """A request that changed something, or was to."""

    id: int
    at: datetime
    key_id: UUID
    key_name: str
    method: str
    path: str
    status: int = Field(description="of the answer: below 400 it was done")


class AuditQuery(PageQuery):
    """A page of the audit log."""

    key_id: UUID | None = Field(None, description="only what was done with this key")


class AuditPage(Record):
    """What was done, the latest first."""

    items: tuple[AuditEntry, ...]
    next_cursor: str | None = None


class Credentials(NamedTuple):
    """What the text of a key says."""

    id: UUID
    secret: str

    @property
    def text(self) -> str:
        """Return the key as its owner keeps it."""
        return f"glk_{self.id.hex}_{self.secret}"

    @property
    def digest(self) -> bytes:
        """Return the sha256 that is stored of the secret."""
        return hashlib.sha256(self.secret.encode()).digest()

    def fits(self, digest: bytes) -> bool:
        """Return whether a stored sha256 is that of this secret; it takes the same time whatever differs."""
        return hmac.compare_digest(self.digest, digest)


def make_credentials(id_: UUID) -> Credentials:
    """Return a new secret for a key."""
    return Credentials(id_, secrets.token_urlsafe(32))


def parse_key(text: str) -> Credentials:
    """Return what a key says of itself.

    Raises: Unauthorized if it is none; the message repeats nothing of it.
    """
    found = _FORM.fullmatch(text)
    if found is None:
        raise Unauthorized("the API key has not the form glk_…: send it whole, as `Authorization: Bearer glk_…`")
    return Credentials(UUID(found[1]), found[2])


def allows(scope: Scope, needed: Scope) -> bool:
    """Return whether a key of one scope may do what needs another."""
    return SCOPES.index(scope) >= SCOPES.index(needed)
