"""The indexer's room: what was published or found becomes searchable, a batch at a time, beside all other work.

It takes what the store has queued, and removes it in the transaction that writes what came of it: a crash costs a
batch. Any number of processes may index; one of them works at a time.
"""

import re
import threading
import traceback
from collections import defaultdict, deque
from collections.abc import Iterator, Mapping, Sequence

import openai
import psycopg
import structlog
from psycopg_pool import ConnectionPool

from schema.errors import GlossariumError, LLMUnavailable
from schema.evidence import AnyEvidence, EvidenceKind, Exemplars, TokenChange, VocabularyProjection
from schema.settings import Settings
from schema.store import database, evidence, indexing, tokens
from schema.store.database import Connection
from schema.store.indexing import LabelText, Model, Place, Queued
from schema.store.tokens import TokenLists
from workers.embeddings import BATCH, embed
from workers.rounds import start_rounds

MOST = 256
"""Features a transaction: a few seconds of the embedded sentence model."""
_LOOKED_AT = 1000
"""Embeddings that are looked at, at every idle sweep, whether a label still has their text."""
_WITHIN_S = 45.0
"""Of a request for embeddings; a transaction that says nothing for a minute is ended by Postgres."""
_REASONS = 8
"""Why a step can't be taken that are remembered: an endpoint that is away is so in several words."""
_NUMBERS = re.compile(r"\d+")
_REFUSALS = (openai.BadRequestError, openai.UnprocessableEntityError)

_log = structlog.get_logger()


def start_indexer(pool: ConnectionPool[Connection], settings: Settings) -> threading.Thread:
    """Start the thread that indexes whatever is queued; it ends with the process."""
    return start_rounds("indexer", Indexer(pool, settings).go_round, settings.sweep_s)


class Indexer:
    """Indexes what is queued with the embeddings of one model, which is asked for its dimensions first."""

    def __init__(self, pool: ConnectionPool[Connection], settings: Settings) -> None:
        timeout_s = min(settings.llm_timeout_s, _WITHIN_S)
        self._settings = settings.model_copy(update={"llm_timeout_s": timeout_s})
        self._pool = pool
        self._dimensions: int | None = None
        self._place = Place()
        self._told: defaultdict[str, deque[str]] = defaultdict(lambda: deque(maxlen=_REASONS))

    def go_round(self) -> None:
        """Index all that is queued."""
        while self.work():
            pass

    def work(self) -> bool:
        """Index one batch of tokens and one of labels; return whether there was any. What fails is tried again."""
        worked = False
        for step in (self._index_tokens, self._index_labels):
            try:
                worked = step() or worked
                self._told.pop(step.__name__, None)
            except (GlossariumError, psycopg.Error) as exc:
                self._dimensions = None  # whoever answers next may be another model
                self._tell(step.__name__, str(exc))
            except Exception as exc:  # a fault of ours: it must not keep the other step from being tried
                self._dimensions = None
                _log.error("not indexed", step=step.__name__, error=repr(exc), trace=traceback.format_exc())
        return worked

    def _tell(self, step: str, reason: str) -> None:
        """Log why a step can't be taken now, unless that is known since it last could; numbers make no new reason."""
        told, known = self._told[step], _NUMBERS.sub("…", reason)
        if known not in told:
            told.append(known)
            _log.warning("not indexed", step=step, error=reason)

    def _index_tokens(self) -> bool:
        with database.lend(self._pool) as connection:
            rows = indexing.take(connection, "tokens", MOST) if indexing.try_lock(connection) else []
            for row in rows:
                _store_tokens(connection, row)
            indexing.done(connection, rows)
        return bool(rows)

    def _index_labels(self) -> bool:
        dimensions = self._dimensions or embed(["a label"], self._settings).shape[1]
        if dimensions > indexing.MOST_DIMENSIONS:
            raise LLMUnavailable(
                f"{self._settings.embeddings_model} has {dimensions} dimensions, and can't be searched by; "
                f"at most {indexing.MOST_DIMENSIONS}"
            )
        with database.lend(self._pool) as connection:
            if not indexing.try_lock(connection):
                return False
            model = indexing.register(connection, self._settings.embeddings_model, dimensions)
            rows = indexing.take(connection, "labels", MOST)
            if rows:
                indexing.add_words(connection, rows)
                self._store_embeddings(connection, model, indexing.texts(connection, rows))
                indexing.done(connection, rows)
            else:
                self._place = indexing.forget_some(connection, model, self._place, _LOOKED_AT)
        self._dimensions = dimensions
        return bool(rows)

    def _store_embeddings(self, connection: Connection, model: Model, texts: Sequence[LabelText]) -> None:
        new = indexing.unknown(connection, model, texts)
        for start in range(0, len(new), BATCH):
            made = list(_embedded(new[start : start + BATCH], self._settings))
            if any(len(vector) != model.dimensions for _, vector in made):
                raise LLMUnavailable(f"{self._settings.embeddings_model} has other dimensions than a moment ago")
            indexing.put(connection, model, [text for text, _ in made], [vector for _, vector in made])


def _embedded(texts: Sequence[LabelText], settings: Settings) -> Iterator[tuple[LabelText, list[float]]]:
    """Yield texts with their embeddings; those that the endpoint refuses by themselves are left out.

    Raises: LLMUnavailable if it can't answer now.
    """
    try:
        vectors = embed([text.text for text in texts], settings)
    except LLMUnavailable as exc:
        if not isinstance(exc.__cause__, _REFUSALS):
            raise
        if len(texts) == 1:
            _log.warning("label not embedded", sha256=texts[0].sha256.hex(), error=str(exc))
            return
        for part in (texts[: len(texts) // 2], texts[len(texts) // 2 :]):
            yield from _embedded(part, settings)
        return
    yield from zip(texts, vectors.tolist(), strict=True)


def _store_tokens(connection: Connection, row: Queued) -> None:
    """Store the token lists of some features as their newest evidence has them."""
    try:
        found = evidence.latest_with_tokens(connection, row.dictionary_id, row.features)
    except (GlossariumError, ValueError) as exc:  # damaged evidence must not keep all others from being found
        _log.warning("tokens not indexed", dictionary=str(row.dictionary_id), features=row.features, error=str(exc))
        return
    tokens.put(connection, row.dictionary_id, {feature: token_lists(known) for feature, known in found.items()})


def token_lists(known: Mapping[EvidenceKind, AnyEvidence]) -> TokenLists:
    """Return the tokens that evidence of a feature names, strongest first.

    Lists of token change that no describer may rely on are left out.
    """
    exemplars, vocabulary, change = (known.get(kind) for kind in ("exemplars", "vocabulary", "token_change"))
    lists = TokenLists()
    if isinstance(exemplars, Exemplars):
        lists = lists._replace(fires=_peaks(exemplars))
    if isinstance(vocabulary, VocabularyProjection):
        lists = lists._replace(promoted=vocabulary.promoted.tokens, suppressed=vocabulary.suppressed.tokens)
    if isinstance(change, TokenChange) and change.telling:
        lists = lists._replace(raised=change.amplified_raised.tokens, lowered=change.amplified_lowered.tokens)
    return lists


def _peaks(exemplars: Exemplars) -> list[str]:
    """Return the tokens at which the strongest windows peak, by the sum of the activations there."""
    sums: defaultdict[str, float] = defaultdict(float)
    for window in exemplars.describe.top + exemplars.score.top:
        sums[window.tokens[window.peak]] += window.maximum
    return [token for token, total in sorted(sums.items(), key=lambda item: (-item[1], item[0])) if total > 0]
