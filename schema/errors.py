"""The one exception tree.

    GlossariumError
    ├── InvalidInput            what a user sent can't be used (HTTP 422, exit code 2)
    │   ├── UnknownSubject      no such subject model, or not allowed here
    │   ├── UnknownSite         the subject has no such site or layer
    │   ├── ShapeMismatch       tensors do not fit each other or the subject
    │   ├── NotFinite           a weight is NaN or infinite
    │   ├── DoesNotFit          a dictionary does not reconstruct its site of its subject
    │   ├── BadWeights          not a readable safetensors file (truncated, a pickle, …)
    │   ├── BadCorpus           empty, unreadable or outside the operator's folder
    │   ├── BadSelection        a feature index or selection that the dictionary does not have
    │   ├── BadSchedule         a cron line or a time zone that can't be used
    │   ├── BadBudget           not a budget, or one in dollars where a price is not known
    │   ├── BadArchive          no whole archive of a dictionary, or one that holds what none of ours does
    │   └── BadLabels           a file of others' labels that can't be read as what it seems to be
    ├── Unauthorized            no API key, or one that is not known, expired or revoked (HTTP 401)
    ├── Forbidden               the key's scope does not suffice (HTTP 403)
    ├── NotFound                no such row, or not this tenant's (HTTP 404)
    ├── Conflict                the same key with another body, or a state that forbids it (HTTP 409)
    │   └── QuotaExceeded       the tenant has as much as it may have
    ├── TooLarge                over a size limit (HTTP 413)
    ├── RateLimited             more requests of one key than may come (HTTP 429)
    ├── Unavailable             a server we need does not answer (HTTP 503); the work waits
    │   ├── DatabaseUnavailable
    │   ├── BadProfiles         the operator's file of LLM profiles can't be used
    │   └── LLMUnavailable      the endpoint is down, rate-limited or out of credit
    │       └── ProfileChanged  the run's LLM profile stands for another model by now
    ├── StorageFull             the disk is full
    ├── OutOfMemory             not even one row of a batch fits on the device
    ├── StackError              the embedded stack can't start: busy port, folder in use
    ├── NewerSchema             the database is of a later Glossarium: this process must stop (exit code 78)
    ├── BadBackup               a file is no whole backup, or of a later Glossarium
    ├── LeaseLost               another worker owns the job now; nothing may be written
    ├── JobStopped              the run was paused or cancelled while its job ran
    └── BadReply                an LLM's reply does not have the asked form; becomes a status, never a label
        └── Refused             the model declined to answer

A message names the value and the limit, and what to do.
"""


class GlossariumError(Exception):
    """Any failure that Glossarium names itself."""


class InvalidInput(GlossariumError):
    """What a user sent can't be used as it is."""


class UnknownSubject(InvalidInput):
    """No such subject model, or it is not allowed on this installation."""


class UnknownSite(InvalidInput):
    """The subject has no such site or layer."""


class ShapeMismatch(InvalidInput):
    """Tensors do not fit each other or the subject."""


class NotFinite(InvalidInput):
    """A weight is NaN or infinite."""


class DoesNotFit(InvalidInput):
    """A dictionary does not reconstruct its site of its subject."""


class BadWeights(InvalidInput):
    """The file is not a readable safetensors file of the canonical form."""


class BadCorpus(InvalidInput):
    """The corpus is empty, unreadable or outside the operator's folder."""


class BadSelection(InvalidInput):
    """The dictionary does not have the selected features."""


class BadSchedule(InvalidInput):
    """The cron line is not understood or never fires, or the time zone is not known."""


class BadBudget(InvalidInput):
    """Not a budget, or one in dollars where a price is not known."""


class BadArchive(InvalidInput):
    """The file is no whole archive of a dictionary, or holds what no archive of ours does."""


class BadLabels(InvalidInput):
    """The file of labels can't be read as what it seems to be."""


class Unauthorized(GlossariumError):
    """No API key came, or one that is not known, expired or revoked."""


class Forbidden(GlossariumError):
    """The scope of the key does not suffice."""


class NotFound(GlossariumError):
    """No such row for this tenant."""


class Conflict(GlossariumError):
    """The state of the thing forbids what was asked."""


class QuotaExceeded(Conflict):
    """The tenant has as much as it may have."""


class TooLarge(GlossariumError):
    """Over a size limit."""


class RateLimited(GlossariumError):
    """More requests of one key than may come."""

    def __init__(self, message: str, *, retry_after_s: float = 1.0) -> None:
        super().__init__(message)
        self.retry_after_s = retry_after_s


class Unavailable(GlossariumError):
    """A server that the work needs does not answer; the work waits."""


class DatabaseUnavailable(Unavailable):
    """Postgres does not answer."""


class BadProfiles(Unavailable):
    """The operator's file of LLM profiles can't be used as it is; the work waits until it is mended."""


class LLMUnavailable(Unavailable):
    """The LLM endpoint is down, rate-limited or out of credit."""

    def __init__(self, message: str, *, retry_after_s: float = 10.0) -> None:
        super().__init__(message)
        self.retry_after_s = retry_after_s


class ProfileChanged(LLMUnavailable):
    """The LLM profile of a run stands for another model than when the run was submitted; the work waits."""


class StorageFull(GlossariumError):
    """The disk that holds the data folder is full."""


class OutOfMemory(GlossariumError):
    """Not even one row of a batch fits in the memory of the device."""


class StackError(GlossariumError):
    """The embedded stack can't start."""


class NewerSchema(GlossariumError):
    """A later Glossarium has changed the database; this one would read and write it wrongly."""


class BadBackup(GlossariumError):
    """The file is no whole backup that this Glossarium can restore."""


class LeaseLost(GlossariumError):
    """Another worker owns the job by now; nothing of this attempt may be written."""


class JobStopped(GlossariumError):
    """The run was paused or cancelled while its job ran."""


class BadReply(GlossariumError):
    """An LLM's reply does not have the asked form."""


class Refused(BadReply):
    """The model declined to answer."""
