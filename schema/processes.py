"""Which processes there are, and what each sees of what all of them must share."""

import hashlib
import hmac

from schema.records import Record
from schema.settings import Settings

BEAT = "beat"


class Presence(Record):
    """What a process says of itself.

    kind:       the queue that it serves, or `beat`.
    blobs:      the id of the store of blobs that it sees; None where it can't be read or written.
    secret:     a digest of its GLOSSARIUM_SECRET; None without one.
    skew_s:     the database's clock less its own.
    free_bytes: on the disk of its data folder.
    """

    name: str
    kind: str
    release: str
    blobs: str | None = None
    secret: str | None = None
    skew_s: float | None = None
    free_bytes: int | None = None


class Seen(Presence):
    """A presence as it was last told.

    up_s:  since the process started, by the database's clock.
    age_s: since it last said that it is there.
    """

    up_s: float
    age_s: float


def secret_digest(settings: Settings) -> str | None:
    """Return what tells two secrets apart and helps nobody to either; None without a secret."""
    secret = settings.secret.get_secret_value()
    if not secret:
        return None
    return hmac.new(secret.encode(), b"glossarium: the same secret everywhere", hashlib.sha256).hexdigest()[:8]
