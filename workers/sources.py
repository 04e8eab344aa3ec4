"""Where a run's corpus and weights lie."""

from pathlib import Path
from uuid import UUID

from schema.blobs import open_blobs
from schema.corpora import OPERATOR, operator_path
from schema.errors import BadCorpus, NotFound
from schema.store import corpora
from schema.store.run_features import Brief
from workers.corpus import BUNDLED
from workers.engine import Context


def corpus_path(context: Context, brief: Brief) -> Path:
    """Return the file or folder of a run's corpus. Raises BadCorpus, NotFound."""
    name = brief.spec.corpus
    if name == "bundled":
        return Path(str(BUNDLED))
    if name.startswith(OPERATOR):
        return operator_path(name.removeprefix(OPERATOR), context.settings.corpora_dir)
    try:
        id_ = UUID(name)
    except ValueError as exc:
        raise BadCorpus(f"corpus={name!r}; must be bundled, the id of a corpus, or {OPERATOR}NAME") from exc
    with context.transaction() as connection:
        corpus = corpora.get(connection, brief.tenant_id, id_)
    return open_blobs(context.settings).path(corpus.sha256)


def weights_path(context: Context, brief: Brief) -> Path | None:
    """Return the local file of a dictionary's weights; None for neurons, which need none. Raises NotFound."""
    dictionary = brief.dictionary
    if dictionary.spec.encoder.kind == "neurons":
        return None
    if dictionary.weights_sha256 is None:
        raise NotFound(f"dictionary {dictionary.id} has no weights yet")
    return open_blobs(context.settings).path(dictionary.weights_sha256)
