"""Search over HTTP: labels by word and meaning, fused; features by tokens that they promote, suppress or fire on."""

from collections.abc import Sequence
from concurrent.futures import Future
from typing import Annotated, NamedTuple

from fastapi import APIRouter, Query
from pydantic import Field, TypeAdapter

from schema.errors import LLMUnavailable
from schema.search import LabelFilter, SearchHit, SearchMode, SearchPage, SearchQuery, TokenHit, TokenPage, TokenQuery
from schema.store import indexing, search, tokens
from schema.store.database import Connection
from schema.store.indexing import Model
from schema.store.search import Scope
from service import examples, search_examples
from service.cursors import Pager
from service.deps import Held, Services, Tenant
from service.fusion import Fused, Ranking, fuse
from service.meaning import Meant

LEAST_DEPTH, MOST_DEPTH = 30, 100
"""Candidates of each way, and so many hits in all at least, where there are as many: two pages, within these bounds.
Under a filter each of them costs a walk past all those that don't pass."""
FEW = 10
"""Hits below which words that are spelt nearly so count too."""

router = APIRouter(prefix="/v1/search", tags=["search"], responses=examples.PROBLEMS)
_Seen = Annotated[int, Field(ge=0, le=2**31 - 1)]


class _Place(NamedTuple):
    """Where a page of labels ended: hits so far, and the depth of the first page, which decides the order of all."""

    n_seen: _Seen
    depth: Annotated[int, Field(ge=1, le=MOST_DEPTH)]


_LABEL_PLACE = TypeAdapter(_Place)
_TOKEN_PLACE: TypeAdapter[int] = TypeAdapter(_Seen)


class _Near(NamedTuple):
    """What is found by meaning, the model of the embeddings that were compared, and what can't be searched."""

    model: Model | None
    ranking: Ranking
    note: str | None


@router.get("", responses=examples.ok(search_examples.SEARCH_PAGE))
def search_labels(query: Annotated[SearchQuery, Query()], held: Held, tenant_id: Tenant) -> SearchPage:
    """Search labels by word and by meaning, in one dictionary or in all of yours, the best first.

    By word: all words of the question, in any form (*boats* finds *boat*), or, where few labels have them, words that
    are spelt nearly so. By meaning: labels whose embeddings are nearest. Both are joined by reciprocal rank. Where the
    embeddings endpoint is away, words still answer, and `note` says so; a search by meaning alone answers 503.
    """
    return find_labels(held, tenant_id, query)


@router.get("/tokens", responses=examples.ok(search_examples.TOKEN_PAGE))
def search_tokens(query: Annotated[TokenQuery, Query()], held: Held, tenant_id: Tenant) -> TokenPage:
    """List features that promote, suppress or fire on a token: it is among the ten strongest of one of their lists.

    `promoted` and `suppressed` are the vocabulary projection of the write direction, and token change when the feature
    is amplified; `fires` is the tokens on which the strongest exemplars peak. Tokens begin with their space.
    """

    def work(connection: Connection) -> TokenPage:
        return read_tokens(connection, tenant_id, query)

    return held.database.look(work)


def find_labels(held: Services, tenant_id: int, query: SearchQuery) -> SearchPage:
    """Return a page of the labels that answer a question. Its words are looked for while it is embedded.

    Raises: NotFound; LLMUnavailable if only the meaning is asked for, and the endpoint is away; DatabaseUnavailable.
    """
    pager = Pager(["search", query.model_dump(mode="json", exclude={"limit", "cursor"})], _LABEL_PLACE, query.cursor)
    place = pager.after or _Place(0, min(max(2 * query.limit, LEAST_DEPTH), MOST_DEPTH))
    filters = LabelFilter(**{name: getattr(query, name) for name in LabelFilter.model_fields})
    embedding = None if query.mode == "words" else held.embedder.begin(query.q)

    def find_words(connection: Connection) -> tuple[Scope, list[Ranking]]:
        scope = search.open_scope(connection, tenant_id, filters)
        return scope, [] if query.mode == "meaning" else [_by_words(connection, scope, query.q, place.depth)]

    scope, rankings = held.database.look(find_words)
    meant, note = (None, None) if embedding is None else _meant(embedding, query.mode)

    def join(connection: Connection) -> SearchPage:
        found = _by_meaning(connection, scope, meant, place.depth) if meant else _Near(None, [], note)
        fused = fuse([*rankings, found.ranking])
        rows = list(enumerate(fused[place.n_seen : place.n_seen + query.limit + 1], place.n_seen + 1))
        page = pager.cut(rows, query.limit, lambda row: place._replace(n_seen=row[0]))
        hits = _hits(connection, [one for _, one in page.items], found.model, meant)
        return SearchPage(items=hits, next_cursor=page.next_cursor, note=found.note)

    return held.database.run(join) if meant else held.database.look(join)


def _meant(embedding: Future[Meant], mode: SearchMode) -> tuple[Meant | None, str | None]:
    """Return the meaning of a question, or why only its words are searched."""
    try:
        return embedding.result(), None
    except LLMUnavailable as exc:
        if mode == "meaning":
            raise
        return None, f"searched by words only: {exc}"


def _by_meaning(connection: Connection, scope: Scope, meant: Meant, depth: int) -> _Near:
    model = indexing.find_model(connection, meant.model, meant.dimensions)
    if model is None:
        return _Near(None, [], f"no label is embedded by {meant.model} with {meant.dimensions} dimensions yet")
    near = search.by_meaning(connection, scope, model, meant.vector, depth)
    waiting = search.n_waiting(connection, scope)
    note = f"{waiting} labels are not embedded yet" if waiting else None
    return _Near(model, [("meaning", one.key) for one in near], note)


def _by_words(connection: Connection, scope: Scope, q: str, depth: int) -> Ranking:
    exact = search.by_words(connection, scope, q, depth)
    similar = search.by_similar_words(connection, scope, q, depth) if len(exact) < FEW else []
    known = set(exact)
    return [*(("word", key) for key in exact), *(("similar_word", key) for key in similar if key not in known)]


def _hits(
    connection: Connection, fused: Sequence[Fused], model: Model | None, meant: Meant | None
) -> tuple[SearchHit, ...]:
    keys = [one.key for one in fused]
    known = search.show(connection, keys, model, meant and meant.vector)
    return tuple(
        SearchHit(
            dictionary_id=one.key.dictionary_id,
            feature=known[one.key].summary,
            score=one.score,
            why=one.why,
            similarity=known[one.key].similarity,
        )
        for one in fused
        if one.key in known
    )


def read_tokens(connection: Connection, tenant_id: int, query: TokenQuery) -> TokenPage:
    """Return a page of the features that have a token among the strongest of their lists."""
    bound = ["tokens", query.model_dump(mode="json", exclude={"limit", "cursor"})]
    pager = Pager(bound, _TOKEN_PLACE, query.cursor)
    scope = search.open_scope(connection, tenant_id, LabelFilter(dictionary_id=query.dictionary_id))
    skip = pager.after or 0
    found = tokens.find(connection, scope.dictionaries, query.side, query.token, skip=skip, most=query.limit + 1)
    page = pager.cut(list(enumerate(found, skip + 1)), query.limit, lambda row: row[0])
    known = search.show(connection, [one.key for _, one in page.items])
    hits = tuple(
        TokenHit(dictionary_id=one.key.dictionary_id, feature=known[one.key].summary, ranks=one.ranks)
        for _, one in page.items
        if one.key in known
    )
    return TokenPage(items=hits, next_cursor=page.next_cursor, near=tuple(tokens.near(connection, query.token)))
