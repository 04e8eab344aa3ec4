"""Features over HTTP: lists to sort and filter, and one feature with everything that is known of it."""

from typing import Annotated
from uuid import UUID

from fastapi import APIRouter, Query
from pydantic import TypeAdapter

from schema.labels import Feature
from schema.store import descriptions, dictionaries, evidence, features, labels, runs, scores
from schema.store.database import Connection
from schema.store.features import Position
from schema.wire import FeatureFilter, FeaturePage, FeatureQuery
from service import examples, feature_examples
from service.cursors import Pager
from service.deps import Held, Index, Tenant, check_index

router = APIRouter(prefix="/v1/dictionaries/{dictionary_id}/features", tags=["features"], responses=examples.PROBLEMS)
_POSITION = TypeAdapter(Position)


@router.get("", responses=examples.ok(examples.page(feature_examples.FEATURE_SUMMARY)))
def list_features(
    dictionary_id: UUID, query: Annotated[FeatureQuery, Query()], held: Held, tenant_id: Tenant
) -> FeaturePage:
    """List features in an order, filtered. Those without a value of the sort column come last in either direction."""

    def work(connection: Connection) -> FeaturePage:
        dictionaries.get(connection, tenant_id, dictionary_id)
        if query.run_id is not None:
            runs.get(connection, tenant_id, query.run_id)
        return read_page(connection, dictionary_id, query)

    return held.database.look(work)


@router.get("/{index}", responses=examples.ok(feature_examples.FEATURE))
def get_feature(dictionary_id: UUID, index: Index, held: Held, tenant_id: Tenant) -> Feature:
    """Look at a feature: its label, all evidence, descriptions and scores, and what they were made from."""

    def work(connection: Connection) -> Feature:
        check_index(dictionaries.get(connection, tenant_id, dictionary_id), index)
        return read_feature(connection, dictionary_id, index)

    return held.database.look(work)


def read_feature(connection: Connection, dictionary_id: UUID, index: int) -> Feature:
    """Return a feature with everything that is known of it."""
    found = evidence.latest(connection, dictionary_id, index)
    return Feature(
        summary=features.get(connection, dictionary_id, index),
        label=labels.current(connection, dictionary_id, index),
        **{kind: record for kind, (record, _) in found.items()},
        descriptions=tuple(descriptions.of_feature(connection, dictionary_id, index)),
        scores=tuple(scores.of_feature(connection, dictionary_id, index)),
        provenance={kind: provenance for kind, (_, provenance) in found.items()},
    )


def read_page(connection: Connection, dictionary_id: UUID, query: FeatureQuery) -> FeaturePage:
    """Return a page of a dictionary's features."""
    bound = {"dictionary": dictionary_id, **query.model_dump(mode="json", exclude={"limit", "cursor"})}
    pager = Pager(bound, _POSITION, query.cursor)
    found = features.page(
        connection,
        dictionary_id,
        sort=query.sort,
        filters=FeatureFilter(**{name: getattr(query, name) for name in FeatureFilter.model_fields}),
        after=pager.after,
        limit=query.limit + 1,
    )
    return FeaturePage(**pager.cut(found, query.limit, lambda row: features.position_of(row, query.sort))._asdict())
