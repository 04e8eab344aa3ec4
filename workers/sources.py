"""Where a run's corpus and a dictionary's weights lie."""

from pathlib import Path

from schema.blobs import open_blobs
from schema.errors import NotFound
from schema.records import Dictionary
from schema.settings import Settings
from schema.store import corpora
from schema.store.run_features import Brief
from workers.engine import Context


def corpus_path(context: Context, brief: Brief) -> Path:
    """Return the file or folder of a run's corpus. Raises BadCorpus, NotFound."""
    folder = context.settings.corpora_dir
    with context.transaction() as connection:
        found = corpora.resolve(connection, brief.tenant_id, brief.spec.corpus, corpora_dir=folder)
    return found if isinstance(found, Path) else open_blobs(context.settings).path(found.sha256)


def weights_path(settings: Settings, dictionary: Dictionary) -> Path | None:
    """Return the local file of a dictionary's weights; None for neurons, which need none. Raises NotFound."""
    if dictionary.spec.encoder.kind == "neurons":
        return None
    if dictionary.weights_sha256 is None:
        raise NotFound(f"dictionary {dictionary.id} has no weights yet")
    return open_blobs(settings).path(dictionary.weights_sha256)
